// SPDX-License-Identifier: Apache-2.0
//! AlterPartitionReassignments (key 45): replicas of partitions move to other brokers (KIP-455).
//! It must not know how a broker answers, only what stands on the wire.

use odradek_wire_derive::Wire;

use crate::text::Text;

/// Partitions and where their replicas shall be.
#[derive(Clone, Debug, PartialEq, Wire)]
#[wire(versions = "0-1", flexible = "0+")]
pub struct AlterPartitionReassignmentsRequest {
    /// Milliseconds that the broker may take.
    #[wire(default = 60_000)]
    pub timeout_ms: i32,
    /// Whether the number of replicas of a partition may change (KIP-860).
    #[wire(versions = "1+", default = true)]
    pub allow_replication_factor_change: bool,
    /// By topic.
    pub topics: Vec<ReassignableTopic>,
}

/// One topic.
#[derive(Clone, Debug, PartialEq, Wire)]
pub struct ReassignableTopic {
    /// Name of the topic.
    pub name: Text,
    /// By partition.
    pub partitions: Vec<ReassignablePartition>,
}

/// One partition.
#[derive(Clone, Debug, PartialEq, Wire)]
pub struct ReassignablePartition {
    /// Number of the partition.
    pub partition_index: i32,
    /// Broker ids, the preferred leader first; null cancels what is going on.
    #[wire(nullable = "0+", default = None)]
    pub replicas: Option<Vec<i32>>,
}

/// What became of each partition.
#[derive(Clone, Debug, PartialEq, Wire)]
#[wire(versions = "0-1", flexible = "0+")]
pub struct AlterPartitionReassignmentsResponse {
    /// Milliseconds for which the client is throttled over a quota.
    pub throttle_time_ms: i32,
    /// Whether the number of replicas was allowed to change.
    #[wire(versions = "1+", default = true, ignorable)]
    pub allow_replication_factor_change: bool,
    /// 0, or why it failed ([`crate::ErrorCode`]).
    pub error_code: i16,
    /// The reason in words, or null.
    #[wire(nullable = "0+")]
    pub error_message: Option<Text>,
    /// By topic.
    pub responses: Vec<ReassignableTopicResponse>,
}

/// One topic.
#[derive(Clone, Debug, PartialEq, Wire)]
pub struct ReassignableTopicResponse {
    /// Name of the topic.
    pub name: Text,
    /// By partition.
    pub partitions: Vec<ReassignablePartitionResponse>,
}

/// What became of one partition.
#[derive(Clone, Debug, PartialEq, Wire)]
pub struct ReassignablePartitionResponse {
    /// Number of the partition.
    pub partition_index: i32,
    /// 0, or why it failed ([`crate::ErrorCode`]).
    pub error_code: i16,
    /// The reason in words, or null.
    #[wire(nullable = "0+")]
    pub error_message: Option<Text>,
}
