// SPDX-License-Identifier: Apache-2.0
//! OffsetCommit (key 8): stores positions of a group (v10: topic ids).
//! It must not know how a broker answers, only what stands on the wire.

use odradek_wire_derive::Wire;
use uuid::Uuid;

use crate::text::Text;

/// Positions to store for a group, or for a consumer without one.
#[derive(Clone, Debug, PartialEq, Wire)]
#[wire(versions = "2-10", flexible = "8+")]
pub struct OffsetCommitRequest {
    /// Id of the group.
    pub group_id: Text,
    /// Generation (classic) or member epoch (KIP-848); -1 without a group.
    #[wire(default = -1)]
    pub generation_id_or_member_epoch: i32,
    /// Id of the member.
    pub member_id: Text,
    /// Id of a static member, or null (KIP-345).
    #[wire(versions = "7+", nullable = "0+", default = None)]
    pub group_instance_id: Option<Text>,
    /// Milliseconds to keep the positions; not heeded since v5 (KIP-211).
    #[wire(versions = "0-4", default = -1, ignorable)]
    pub retention_time_ms: i64,
    /// By topic.
    pub topics: Vec<OffsetCommitRequestTopic>,
}

/// Positions in one topic.
#[derive(Clone, Debug, PartialEq, Wire)]
pub struct OffsetCommitRequestTopic {
    /// Name of the topic.
    #[wire(versions = "0-9", ignorable)]
    pub name: Text,
    /// Id of the topic; nil if the version or the sender has none.
    #[wire(versions = "10+", ignorable)]
    pub topic_id: Uuid,
    /// By partition.
    pub partitions: Vec<OffsetCommitRequestPartition>,
}

/// The position in one partition.
#[derive(Clone, Debug, PartialEq, Wire)]
pub struct OffsetCommitRequestPartition {
    /// Number of the partition.
    pub partition_index: i32,
    /// The position, or -1 if there is none.
    pub committed_offset: i64,
    /// Leader epoch of the last record before it, or -1.
    #[wire(versions = "6+", default = -1, ignorable)]
    pub committed_leader_epoch: i32,
    /// Text that the client stores along with it, or null.
    #[wire(nullable = "0+")]
    pub committed_metadata: Option<Text>,
}

/// What became of each position.
#[derive(Clone, Debug, PartialEq, Wire)]
#[wire(versions = "2-10", flexible = "8+")]
pub struct OffsetCommitResponse {
    /// Milliseconds for which the client is throttled over a quota.
    #[wire(versions = "3+", ignorable)]
    pub throttle_time_ms: i32,
    /// By topic.
    pub topics: Vec<OffsetCommitResponseTopic>,
}

/// Partitions of one topic.
#[derive(Clone, Debug, PartialEq, Wire)]
pub struct OffsetCommitResponseTopic {
    /// Name of the topic.
    #[wire(versions = "0-9", ignorable)]
    pub name: Text,
    /// Id of the topic; nil if the version or the sender has none.
    #[wire(versions = "10+", ignorable)]
    pub topic_id: Uuid,
    /// By partition.
    pub partitions: Vec<OffsetCommitResponsePartition>,
}

/// What became of one position.
#[derive(Clone, Debug, PartialEq, Wire)]
pub struct OffsetCommitResponsePartition {
    /// Number of the partition.
    pub partition_index: i32,
    /// 0, or why it failed ([`crate::ErrorCode`]).
    pub error_code: i16,
}
