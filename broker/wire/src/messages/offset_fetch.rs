// SPDX-License-Identifier: Apache-2.0
//! OffsetFetch (key 9): reads stored positions (v8: several groups, KIP-709; v10: topic ids).
//! It must not know how a broker answers, only what stands on the wire.

use odradek_wire_derive::Wire;
use uuid::Uuid;

use crate::text::Text;

/// Asks for stored positions: of one group up to v7, of several from v8.
#[derive(Clone, Debug, PartialEq, Wire)]
#[wire(versions = "1-10", flexible = "6+")]
pub struct OffsetFetchRequest {
    /// Id of the group.
    #[wire(versions = "0-7")]
    pub group_id: Text,
    /// What to read, up to v7; null is all.
    #[wire(versions = "0-7", nullable = "2+")]
    pub topics: Option<Vec<OffsetFetchRequestTopic>>,
    /// By group, from v8.
    #[wire(versions = "8+")]
    pub groups: Vec<OffsetFetchRequestGroup>,
    /// Whether positions under an open transaction are an error to be retried (KIP-447).
    #[wire(versions = "7+")]
    pub require_stable: bool,
}

/// Partitions of one topic, up to v7.
#[derive(Clone, Debug, PartialEq, Wire)]
pub struct OffsetFetchRequestTopic {
    /// Name of the topic.
    #[wire(versions = "0-7")]
    pub name: Text,
    /// Numbers of the partitions.
    #[wire(versions = "0-7")]
    pub partition_indexes: Vec<i32>,
}

/// One group, from v8.
#[derive(Clone, Debug, PartialEq, Wire)]
pub struct OffsetFetchRequestGroup {
    /// Id of the group.
    #[wire(versions = "8+")]
    pub group_id: Text,
    /// Id of the member (KIP-848), or null.
    #[wire(versions = "9+", nullable = "0+", default = None, ignorable)]
    pub member_id: Option<Text>,
    /// Epoch of the member (KIP-848), or -1.
    #[wire(versions = "9+", default = -1, ignorable)]
    pub member_epoch: i32,
    /// What to read; null is all.
    #[wire(versions = "8+", nullable = "0+")]
    pub topics: Option<Vec<OffsetFetchRequestTopics>>,
}

/// Partitions of one topic, from v8.
#[derive(Clone, Debug, PartialEq, Wire)]
pub struct OffsetFetchRequestTopics {
    /// Name of the topic.
    #[wire(versions = "8-9", ignorable)]
    pub name: Text,
    /// Id of the topic; nil if the version or the sender has none.
    #[wire(versions = "10+", ignorable)]
    pub topic_id: Uuid,
    /// Numbers of the partitions.
    #[wire(versions = "8+")]
    pub partition_indexes: Vec<i32>,
}

/// Stored positions: of one group up to v7, of several from v8.
#[derive(Clone, Debug, PartialEq, Wire)]
#[wire(versions = "1-10", flexible = "6+")]
pub struct OffsetFetchResponse {
    /// Milliseconds for which the client is throttled over a quota.
    #[wire(versions = "3+", ignorable)]
    pub throttle_time_ms: i32,
    /// The positions, up to v7.
    #[wire(versions = "0-7")]
    pub topics: Vec<OffsetFetchResponseTopic>,
    /// 0, or why it failed ([`crate::ErrorCode`]).
    #[wire(versions = "2-7", ignorable)]
    pub error_code: i16,
    /// By group, from v8.
    #[wire(versions = "8+")]
    pub groups: Vec<OffsetFetchResponseGroup>,
}

/// Positions in one topic, up to v7.
#[derive(Clone, Debug, PartialEq, Wire)]
pub struct OffsetFetchResponseTopic {
    /// Name of the topic.
    #[wire(versions = "0-7")]
    pub name: Text,
    /// By partition.
    #[wire(versions = "0-7")]
    pub partitions: Vec<OffsetFetchResponsePartition>,
}

/// The position in one partition, up to v7.
#[derive(Clone, Debug, PartialEq, Wire)]
pub struct OffsetFetchResponsePartition {
    /// Number of the partition.
    #[wire(versions = "0-7")]
    pub partition_index: i32,
    /// The position, or -1 if there is none.
    #[wire(versions = "0-7")]
    pub committed_offset: i64,
    /// Leader epoch of the last record before it, or -1.
    #[wire(versions = "5-7", default = -1, ignorable)]
    pub committed_leader_epoch: i32,
    /// Text that the client stored along with it, or null.
    #[wire(versions = "0-7", nullable = "0+")]
    pub metadata: Option<Text>,
    /// 0, or why it failed ([`crate::ErrorCode`]).
    #[wire(versions = "0-7")]
    pub error_code: i16,
}

/// Positions of one group, from v8.
#[derive(Clone, Debug, PartialEq, Wire)]
pub struct OffsetFetchResponseGroup {
    /// Id of the group.
    #[wire(versions = "8+")]
    pub group_id: Text,
    /// By topic.
    #[wire(versions = "8+")]
    pub topics: Vec<OffsetFetchResponseTopics>,
    /// 0, or why it failed ([`crate::ErrorCode`]).
    #[wire(versions = "8+")]
    pub error_code: i16,
}

/// Positions in one topic, from v8.
#[derive(Clone, Debug, PartialEq, Wire)]
pub struct OffsetFetchResponseTopics {
    /// Name of the topic.
    #[wire(versions = "8-9", ignorable)]
    pub name: Text,
    /// Id of the topic; nil if the version or the sender has none.
    #[wire(versions = "10+", ignorable)]
    pub topic_id: Uuid,
    /// By partition.
    #[wire(versions = "8+")]
    pub partitions: Vec<OffsetFetchResponsePartitions>,
}

/// The position in one partition, from v8.
#[derive(Clone, Debug, PartialEq, Wire)]
pub struct OffsetFetchResponsePartitions {
    /// Number of the partition.
    #[wire(versions = "8+")]
    pub partition_index: i32,
    /// The position, or -1 if there is none.
    #[wire(versions = "8+")]
    pub committed_offset: i64,
    /// Leader epoch of the last record before it, or -1.
    #[wire(versions = "8+", default = -1, ignorable)]
    pub committed_leader_epoch: i32,
    /// Text that the client stored along with it, or null.
    #[wire(versions = "8+", nullable = "0+")]
    pub metadata: Option<Text>,
    /// 0, or why it failed ([`crate::ErrorCode`]).
    #[wire(versions = "8+")]
    pub error_code: i16,
}
