// SPDX-License-Identifier: Apache-2.0
//! ElectLeaders (key 43): preferred leaders lead again, or any live replica does (KIP-183, KIP-460).
//! It must not know how a broker answers, only what stands on the wire.

use odradek_wire_derive::Wire;

use crate::text::Text;

/// Asks for elections.
#[derive(Clone, Debug, PartialEq, Wire)]
#[wire(versions = "0-2", flexible = "2+")]
pub struct ElectLeadersRequest {
    /// 0: the preferred replica; 1: any live one if none is in sync.
    #[wire(versions = "1+")]
    pub election_type: i8,
    /// By topic; null is all partitions.
    #[wire(nullable = "0+")]
    pub topic_partitions: Option<Vec<TopicPartitions>>,
    /// Milliseconds that the broker may take.
    #[wire(default = 60_000)]
    pub timeout_ms: i32,
}

/// One topic.
#[derive(Clone, Debug, PartialEq, Wire)]
pub struct TopicPartitions {
    /// Name of the topic.
    pub topic: Text,
    /// Numbers of the partitions.
    pub partitions: Vec<i32>,
}

/// What became of each partition.
#[derive(Clone, Debug, PartialEq, Wire)]
#[wire(versions = "0-2", flexible = "2+")]
pub struct ElectLeadersResponse {
    /// Milliseconds for which the client is throttled over a quota.
    pub throttle_time_ms: i32,
    /// 0, or why it failed ([`crate::ErrorCode`]).
    #[wire(versions = "1+")]
    pub error_code: i16,
    /// By topic.
    pub replica_election_results: Vec<ReplicaElectionResult>,
}

/// One topic.
#[derive(Clone, Debug, PartialEq, Wire)]
pub struct ReplicaElectionResult {
    /// Name of the topic.
    pub topic: Text,
    /// By partition.
    pub partition_result: Vec<PartitionResult>,
}

/// What became of one partition.
#[derive(Clone, Debug, PartialEq, Wire)]
pub struct PartitionResult {
    /// Number of the partition.
    pub partition_id: i32,
    /// 0, or why it failed ([`crate::ErrorCode`]).
    pub error_code: i16,
    /// The reason in words, or null.
    #[wire(nullable = "0+")]
    pub error_message: Option<Text>,
}
