// SPDX-License-Identifier: Apache-2.0
//! DescribeTopicPartitions (key 75): topics with their partitions, in pages, and with the replicas that may be elected
//! though not in sync (KIP-966).
//! It must not know how a broker answers, only what stands on the wire.

use odradek_wire_derive::Wire;
use uuid::Uuid;

use crate::text::Text;

/// Asks for one page.
#[derive(Clone, Debug, PartialEq, Wire)]
#[wire(versions = "0", flexible = "0+")]
pub struct DescribeTopicPartitionsRequest {
    /// The topics; none is all.
    pub topics: Vec<TopicRequest>,
    /// Partitions wanted at most.
    #[wire(default = 2000)]
    pub response_partition_limit: i32,
    /// Where the page begins, or null for the first.
    #[wire(nullable = "0+", default = None)]
    pub cursor: Option<Cursor>,
}

/// One topic.
#[derive(Clone, Debug, PartialEq, Wire)]
pub struct TopicRequest {
    /// Name of the topic.
    pub name: Text,
}

/// Where a page begins.
#[derive(Clone, Debug, PartialEq, Wire)]
pub struct Cursor {
    /// Name of its first topic.
    pub topic_name: Text,
    /// Number of its first partition.
    pub partition_index: i32,
}

/// One page.
#[derive(Clone, Debug, PartialEq, Wire)]
#[wire(versions = "0", flexible = "0+")]
pub struct DescribeTopicPartitionsResponse {
    /// Milliseconds for which the client is throttled over a quota.
    #[wire(ignorable)]
    pub throttle_time_ms: i32,
    /// By topic, in the order of their names.
    pub topics: Vec<DescribeTopicPartitionsResponseTopic>,
    /// Where the next page begins, or null after the last.
    #[wire(nullable = "0+", default = None)]
    pub next_cursor: Option<Cursor>,
}

/// One topic.
#[derive(Clone, Debug, PartialEq, Wire)]
pub struct DescribeTopicPartitionsResponseTopic {
    /// 0, or why it failed ([`crate::ErrorCode`]).
    pub error_code: i16,
    /// Name of the topic.
    #[wire(nullable = "0+")]
    pub name: Option<Text>,
    /// Id of the topic.
    #[wire(ignorable)]
    pub topic_id: Uuid,
    /// Whether the cluster keeps its own state in it.
    #[wire(ignorable)]
    pub is_internal: bool,
    /// Those of its partitions that are on the page.
    pub partitions: Vec<DescribeTopicPartitionsResponsePartition>,
    /// Bits of what the client may do with the topic; `i32::MIN` if not told.
    #[wire(default = i32::MIN)]
    pub topic_authorized_operations: i32,
}

/// One partition.
#[derive(Clone, Debug, PartialEq, Wire)]
pub struct DescribeTopicPartitionsResponsePartition {
    /// 0, or why it failed ([`crate::ErrorCode`]).
    pub error_code: i16,
    /// Number of the partition.
    pub partition_index: i32,
    /// Broker id of the leader, or -1.
    pub leader_id: i32,
    /// Leader epoch, or -1 if unknown.
    #[wire(default = -1, ignorable)]
    pub leader_epoch: i32,
    /// Brokers with a replica, preferred leader first.
    pub replica_nodes: Vec<i32>,
    /// Brokers in sync with the leader.
    pub isr_nodes: Vec<i32>,
    /// Brokers that hold everything committed without being in sync, or null.
    #[wire(nullable = "0+", default = None)]
    pub eligible_leader_replicas: Option<Vec<i32>>,
    /// Last brokers that were known to hold everything committed, or null.
    #[wire(nullable = "0+", default = None)]
    pub last_known_elr: Option<Vec<i32>>,
    /// Brokers whose replica is not available.
    #[wire(ignorable)]
    pub offline_replicas: Vec<i32>,
}
