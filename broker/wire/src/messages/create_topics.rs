// SPDX-License-Identifier: Apache-2.0
//! CreateTopics (key 19).
//! It must not know how a broker answers, only what stands on the wire.

use odradek_wire_derive::Wire;
use uuid::Uuid;

use crate::text::Text;

/// Topics to create.
#[derive(Clone, Debug, PartialEq, Wire)]
#[wire(versions = "2-7", flexible = "5+")]
pub struct CreateTopicsRequest {
    /// The topics.
    pub topics: Vec<CreatableTopic>,
    /// Milliseconds that the broker may take.
    #[wire(default = 60000)]
    pub timeout_ms: i32,
    /// Whether only to check, and change nothing.
    pub validate_only: bool,
}

/// One topic to create.
#[derive(Clone, Debug, PartialEq, Wire)]
pub struct CreatableTopic {
    /// Name of the topic.
    pub name: Text,
    /// Number of partitions; -1 for the default.
    pub num_partitions: i32,
    /// Replicas of each partition; -1 for the default.
    pub replication_factor: i16,
    /// Chosen brokers by partition; empty to let the cluster choose.
    pub assignments: Vec<CreatableReplicaAssignment>,
    /// The settings.
    pub configs: Vec<CreatableTopicConfig>,
}

/// Chosen brokers of one partition; the first is the preferred leader.
#[derive(Clone, Debug, PartialEq, Wire)]
pub struct CreatableReplicaAssignment {
    /// Number of the partition.
    pub partition_index: i32,
    /// The brokers.
    pub broker_ids: Vec<i32>,
}

/// A setting that differs from the default.
#[derive(Clone, Debug, PartialEq, Wire)]
pub struct CreatableTopicConfig {
    /// Name of the setting.
    pub name: Text,
    /// The value, or null.
    #[wire(nullable = "0+")]
    pub value: Option<Text>,
}

/// What became of each topic.
#[derive(Clone, Debug, PartialEq, Wire)]
#[wire(versions = "2-7", flexible = "5+")]
pub struct CreateTopicsResponse {
    /// Milliseconds for which the client is throttled over a quota.
    pub throttle_time_ms: i32,
    /// The topics.
    pub topics: Vec<CreatableTopicResult>,
}

/// What became of one topic.
#[derive(Clone, Debug, PartialEq, Wire)]
pub struct CreatableTopicResult {
    /// Name of the topic.
    pub name: Text,
    /// Id of the topic; nil if the version or the sender has none.
    #[wire(versions = "7+", ignorable)]
    pub topic_id: Uuid,
    /// 0, or why it failed ([`crate::ErrorCode`]).
    pub error_code: i16,
    /// The reason in words, or null.
    #[wire(nullable = "0+")]
    pub error_message: Option<Text>,
    /// Why `configs` is null, or 0.
    #[wire(versions = "5+", tag = 0, tagged = "5+", ignorable)]
    pub topic_config_error_code: i16,
    /// Number of partitions, or -1.
    #[wire(versions = "5+", default = -1, ignorable)]
    pub num_partitions: i32,
    /// Replicas of each partition, or -1.
    #[wire(versions = "5+", default = -1, ignorable)]
    pub replication_factor: i16,
    /// The settings, or null if the client may not see them.
    #[wire(versions = "5+", nullable = "0+", ignorable)]
    pub configs: Option<Vec<CreatableTopicConfigs>>,
}

/// A setting of the topic as created.
#[derive(Clone, Debug, PartialEq, Wire)]
pub struct CreatableTopicConfigs {
    /// Name of the setting.
    #[wire(versions = "5+")]
    pub name: Text,
    /// The value, or null.
    #[wire(versions = "5+", nullable = "0+")]
    pub value: Option<Text>,
    /// Whether it cannot be changed while the broker runs.
    #[wire(versions = "5+")]
    pub read_only: bool,
    /// Where the value came from: 1 topic, 2 broker, 3 cluster default, 4 static, 5 default, 8 group; -1 unknown.
    #[wire(versions = "5+", default = -1, ignorable)]
    pub config_source: i8,
    /// Whether the value is kept back.
    #[wire(versions = "5+")]
    pub is_sensitive: bool,
}
