// SPDX-License-Identifier: Apache-2.0
//! OffsetForLeaderEpoch (key 23): where a leader epoch ends, to find truncation (KIP-101, KIP-320).
//! It must not know how a broker answers, only what stands on the wire.

use odradek_wire_derive::Wire;

use crate::text::Text;

/// Asks where leader epochs end.
#[derive(Clone, Debug, PartialEq, Wire)]
#[wire(versions = "2-4", flexible = "4+")]
pub struct OffsetForLeaderEpochRequest {
    /// Broker id of a follower; -1 from a consumer, -2 unknown.
    #[wire(versions = "3+", default = -2, ignorable)]
    pub replica_id: i32,
    /// By topic.
    pub topics: Vec<OffsetForLeaderTopic>,
}

/// Partitions of one topic.
#[derive(Clone, Debug, PartialEq, Wire)]
pub struct OffsetForLeaderTopic {
    /// Name of the topic.
    pub topic: Text,
    /// By partition.
    pub partitions: Vec<OffsetForLeaderPartition>,
}

/// One partition and the epoch asked for.
#[derive(Clone, Debug, PartialEq, Wire)]
pub struct OffsetForLeaderPartition {
    /// Number of the partition.
    pub partition: i32,
    /// Leader epoch that the sender knows, or -1 not to check it.
    #[wire(default = -1)]
    pub current_leader_epoch: i32,
    /// The epoch asked for.
    pub leader_epoch: i32,
}

/// The ends of the epochs.
#[derive(Clone, Debug, PartialEq, Wire)]
#[wire(versions = "2-4", flexible = "4+")]
pub struct OffsetForLeaderEpochResponse {
    /// Milliseconds for which the client is throttled over a quota.
    pub throttle_time_ms: i32,
    /// By topic.
    pub topics: Vec<OffsetForLeaderTopicResult>,
}

/// Partitions of one topic.
#[derive(Clone, Debug, PartialEq, Wire)]
pub struct OffsetForLeaderTopicResult {
    /// Name of the topic.
    pub topic: Text,
    /// By partition.
    pub partitions: Vec<EpochEndOffset>,
}

/// The end of a leader epoch in one partition.
#[derive(Clone, Debug, PartialEq, Wire)]
pub struct EpochEndOffset {
    /// 0, or why it failed ([`crate::ErrorCode`]).
    pub error_code: i16,
    /// Number of the partition.
    pub partition: i32,
    /// Largest epoch not above the one asked for, or -1.
    #[wire(default = -1)]
    pub leader_epoch: i32,
    /// Offset behind its last record, or -1.
    #[wire(default = -1)]
    pub end_offset: i64,
}
