// SPDX-License-Identifier: Apache-2.0
//! ListPartitionReassignments (key 46): partitions whose replicas move at present (KIP-455).
//! It must not know how a broker answers, only what stands on the wire.

use odradek_wire_derive::Wire;

use crate::text::Text;

/// Asks for the reassignments that are going on.
#[derive(Clone, Debug, PartialEq, Wire)]
#[wire(versions = "0", flexible = "0+")]
pub struct ListPartitionReassignmentsRequest {
    /// Milliseconds that the broker may take.
    #[wire(default = 60_000)]
    pub timeout_ms: i32,
    /// The topics; null is all.
    #[wire(nullable = "0+", default = None)]
    pub topics: Option<Vec<ListPartitionReassignmentsTopics>>,
}

/// One topic.
#[derive(Clone, Debug, PartialEq, Wire)]
pub struct ListPartitionReassignmentsTopics {
    /// Name of the topic.
    pub name: Text,
    /// Numbers of the partitions.
    pub partition_indexes: Vec<i32>,
}

/// The reassignments that are going on.
#[derive(Clone, Debug, PartialEq, Wire)]
#[wire(versions = "0", flexible = "0+")]
pub struct ListPartitionReassignmentsResponse {
    /// Milliseconds for which the client is throttled over a quota.
    pub throttle_time_ms: i32,
    /// 0, or why it failed ([`crate::ErrorCode`]).
    pub error_code: i16,
    /// The reason in words, or null.
    #[wire(nullable = "0+")]
    pub error_message: Option<Text>,
    /// By topic.
    pub topics: Vec<OngoingTopicReassignment>,
}

/// One topic.
#[derive(Clone, Debug, PartialEq, Wire)]
pub struct OngoingTopicReassignment {
    /// Name of the topic.
    pub name: Text,
    /// By partition; those at rest are not there.
    pub partitions: Vec<OngoingPartitionReassignment>,
}

/// One partition.
#[derive(Clone, Debug, PartialEq, Wire)]
pub struct OngoingPartitionReassignment {
    /// Number of the partition.
    pub partition_index: i32,
    /// Brokers with a replica at present, those that are added included.
    pub replicas: Vec<i32>,
    /// Brokers that get a replica.
    pub adding_replicas: Vec<i32>,
    /// Brokers that lose theirs in the end.
    pub removing_replicas: Vec<i32>,
}
