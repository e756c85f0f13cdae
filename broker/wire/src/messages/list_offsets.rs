// SPDX-License-Identifier: Apache-2.0
//! ListOffsets (key 2): offsets by timestamp or by a special negative timestamp.
//! It must not know how a broker answers, only what stands on the wire.

use odradek_wire_derive::Wire;

use crate::text::Text;

/// Asks for one offset of each partition.
#[derive(Clone, Debug, PartialEq, Wire)]
#[wire(versions = "1-11", flexible = "6+")]
pub struct ListOffsetsRequest {
    /// Broker id of a follower; -1 from a consumer.
    pub replica_id: i32,
    /// 0: read_uncommitted; 1: read_committed.
    #[wire(versions = "2+")]
    pub isolation_level: i8,
    /// By topic.
    pub topics: Vec<ListOffsetsTopic>,
    /// Milliseconds to wait for offsets that lie in remote storage.
    #[wire(versions = "10+", ignorable)]
    pub timeout_ms: i32,
}

/// Partitions of one topic.
#[derive(Clone, Debug, PartialEq, Wire)]
pub struct ListOffsetsTopic {
    /// Name of the topic.
    pub name: Text,
    /// By partition.
    pub partitions: Vec<ListOffsetsPartition>,
}

/// One partition and the timestamp to look for.
#[derive(Clone, Debug, PartialEq, Wire)]
pub struct ListOffsetsPartition {
    /// Number of the partition.
    pub partition_index: i32,
    /// Leader epoch that the sender knows, or -1 not to check it.
    #[wire(versions = "4+", default = -1, ignorable)]
    pub current_leader_epoch: i32,
    /// Milliseconds since 1970, or special: -1 end, -2 start, -3 of the largest timestamp, -4 local start, -5
    /// last tiered, -6 earliest not yet tiered.
    pub timestamp: i64,
}

/// The offsets found.
#[derive(Clone, Debug, PartialEq, Wire)]
#[wire(versions = "1-11", flexible = "6+")]
pub struct ListOffsetsResponse {
    /// Milliseconds for which the client is throttled over a quota.
    #[wire(versions = "2+", ignorable)]
    pub throttle_time_ms: i32,
    /// By topic.
    pub topics: Vec<ListOffsetsTopicResponse>,
}

/// Partitions of one topic.
#[derive(Clone, Debug, PartialEq, Wire)]
pub struct ListOffsetsTopicResponse {
    /// Name of the topic.
    pub name: Text,
    /// By partition.
    pub partitions: Vec<ListOffsetsPartitionResponse>,
}

/// The offset found in one partition.
#[derive(Clone, Debug, PartialEq, Wire)]
pub struct ListOffsetsPartitionResponse {
    /// Number of the partition.
    pub partition_index: i32,
    /// 0, or why it failed ([`crate::ErrorCode`]).
    pub error_code: i16,
    /// Timestamp of the record found, or -1.
    #[wire(default = -1)]
    pub timestamp: i64,
    /// The offset found, or -1.
    #[wire(default = -1)]
    pub offset: i64,
    /// Leader epoch, or -1 if unknown.
    #[wire(versions = "4+", default = -1)]
    pub leader_epoch: i32,
}
