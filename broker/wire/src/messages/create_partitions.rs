// SPDX-License-Identifier: Apache-2.0
//! CreatePartitions (key 37): topics get more partitions (KIP-195).
//! It must not know how a broker answers, only what stands on the wire.

use odradek_wire_derive::Wire;

use crate::text::Text;

/// Topics and how many partitions each shall have.
#[derive(Clone, Debug, PartialEq, Wire)]
#[wire(versions = "0-3", flexible = "2+")]
pub struct CreatePartitionsRequest {
    /// The topics.
    pub topics: Vec<CreatePartitionsTopic>,
    /// Milliseconds that the broker may take.
    pub timeout_ms: i32,
    /// Whether to check only.
    pub validate_only: bool,
}

/// One topic.
#[derive(Clone, Debug, PartialEq, Wire)]
pub struct CreatePartitionsTopic {
    /// Name of the topic.
    pub name: Text,
    /// Number of partitions that it shall have, those that are there included.
    pub count: i32,
    /// Replicas of the new partitions in their order; null to leave that to the controller.
    #[wire(nullable = "0+")]
    pub assignments: Option<Vec<CreatePartitionsAssignment>>,
}

/// Replicas of one new partition.
#[derive(Clone, Debug, PartialEq, Wire)]
pub struct CreatePartitionsAssignment {
    /// Broker ids, the preferred leader first.
    pub broker_ids: Vec<i32>,
}

/// What became of each topic.
#[derive(Clone, Debug, PartialEq, Wire)]
#[wire(versions = "0-3", flexible = "2+")]
pub struct CreatePartitionsResponse {
    /// Milliseconds for which the client is throttled over a quota.
    pub throttle_time_ms: i32,
    /// By topic.
    pub results: Vec<CreatePartitionsTopicResult>,
}

/// What became of one topic.
#[derive(Clone, Debug, PartialEq, Wire)]
pub struct CreatePartitionsTopicResult {
    /// Name of the topic.
    pub name: Text,
    /// 0, or why it failed ([`crate::ErrorCode`]).
    pub error_code: i16,
    /// The reason in words, or null.
    #[wire(nullable = "0+", default = None)]
    pub error_message: Option<Text>,
}
