// SPDX-License-Identifier: Apache-2.0
//! Produce (key 0): appends record batches (KIP-98, KIP-951 leader hints, KIP-516 topic ids in v13).
//! It must not know how a broker answers, only what stands on the wire.

use bytes::Bytes;
use odradek_wire_derive::Wire;
use uuid::Uuid;

use super::endpoints::{LeaderIdAndEpoch, NodeEndpoint};
use crate::text::Text;

/// Appends batches to partitions. With `acks` 0 there is no response.
#[derive(Clone, Debug, PartialEq, Wire)]
#[wire(versions = "3-13", flexible = "9+")]
pub struct ProduceRequest {
    /// Id of the transactional producer; null for any other.
    #[wire(nullable = "0+", default = None)]
    pub transactional_id: Option<Text>,
    /// -1: all in-sync replicas; 1: the leader; 0: none, and no response.
    pub acks: i16,
    /// Milliseconds to wait for the acknowledgements.
    pub timeout_ms: i32,
    /// The batches by topic.
    pub topic_data: Vec<TopicProduceData>,
}

/// The batches for one topic.
#[derive(Clone, Debug, PartialEq, Wire)]
pub struct TopicProduceData {
    /// Name of the topic.
    #[wire(versions = "0-12", ignorable)]
    pub name: Text,
    /// Id of the topic; nil if the version or the sender has none.
    #[wire(versions = "13+", ignorable)]
    pub topic_id: Uuid,
    /// The batches by partition.
    pub partition_data: Vec<PartitionProduceData>,
}

/// The batches for one partition.
#[derive(Clone, Debug, PartialEq, Wire)]
pub struct PartitionProduceData {
    /// Number of the partition.
    pub index: i32,
    /// The batches, byte for byte; exactly one batch is allowed.
    #[wire(nullable = "0+", records)]
    pub records: Option<Bytes>,
}

/// What became of each batch.
#[derive(Clone, Debug, PartialEq, Wire)]
#[wire(versions = "3-13", flexible = "9+")]
pub struct ProduceResponse {
    /// The answers by topic.
    pub responses: Vec<TopicProduceResponse>,
    /// Milliseconds for which the client is throttled over a quota.
    pub throttle_time_ms: i32,
    /// Addresses of the leaders named in `current_leader` (KIP-951).
    #[wire(versions = "10+", tag = 0, tagged = "10+")]
    pub node_endpoints: Vec<NodeEndpoint>,
}

/// The partitions of one topic.
#[derive(Clone, Debug, PartialEq, Wire)]
pub struct TopicProduceResponse {
    /// Name of the topic.
    #[wire(versions = "0-12", ignorable)]
    pub name: Text,
    /// Id of the topic; nil if the version or the sender has none.
    #[wire(versions = "13+", ignorable)]
    pub topic_id: Uuid,
    /// The answers by partition.
    pub partition_responses: Vec<PartitionProduceResponse>,
}

/// What became of the batch for one partition.
#[derive(Clone, Debug, PartialEq, Wire)]
pub struct PartitionProduceResponse {
    /// Number of the partition.
    pub index: i32,
    /// 0, or why it failed ([`crate::ErrorCode`]).
    pub error_code: i16,
    /// Offset of the first record appended, or -1.
    pub base_offset: i64,
    /// Broker's timestamp of the batch if the topic is on LogAppendTime, else -1.
    #[wire(default = -1)]
    pub log_append_time_ms: i64,
    /// First offset of the log, or -1 if unknown.
    #[wire(versions = "5+", default = -1, ignorable)]
    pub log_start_offset: i64,
    /// The records that made the broker refuse the batch.
    #[wire(versions = "8+", ignorable)]
    pub record_errors: Vec<BatchIndexAndErrorMessage>,
    /// The reason in words, or null.
    #[wire(versions = "8+", nullable = "0+", default = None, ignorable)]
    pub error_message: Option<Text>,
    /// Who leads now, if the answer is that this broker does not (KIP-951).
    #[wire(versions = "10+", tag = 0, tagged = "10+")]
    pub current_leader: LeaderIdAndEpoch,
}

/// One record that was the reason to refuse its batch.
#[derive(Clone, Debug, PartialEq, Wire)]
pub struct BatchIndexAndErrorMessage {
    /// Position of the record in the batch.
    #[wire(versions = "8+")]
    pub batch_index: i32,
    /// What is wrong with the record, or null.
    #[wire(versions = "8+", nullable = "0+", default = None)]
    pub batch_index_error_message: Option<Text>,
}
