// SPDX-License-Identifier: Apache-2.0
//! Fetch (key 1): reads record batches, for consumers and for followers (KIP-227 sessions, KIP-392,
//! KIP-516 topic ids in v13, KIP-951 leader hints).
//! It must not know how a broker answers, only what stands on the wire.

use odradek_wire_derive::Wire;
use uuid::Uuid;

use super::endpoints::{LeaderIdAndEpoch, NodeEndpoint};
use crate::records::Records;
use crate::text::Text;

/// Asks for batches from given offsets on. A follower names itself as a replica.
#[derive(Clone, Debug, PartialEq, Wire)]
#[wire(versions = "4-18", flexible = "12+")]
pub struct FetchRequest {
    /// Cluster that a follower believes to be in, or null.
    #[wire(versions = "12+", nullable = "0+", tag = 0, tagged = "12+", default = None, ignorable)]
    pub cluster_id: Option<Text>,
    /// Broker id of a follower; -1 from a consumer.
    #[wire(versions = "0-14", default = -1)]
    pub replica_id: i32,
    /// The follower, from v15.
    #[wire(versions = "15+", tag = 1, tagged = "15+")]
    pub replica_state: ReplicaState,
    /// Milliseconds to wait for `min_bytes`.
    pub max_wait_ms: i32,
    /// Answer at once when this many bytes can be read.
    pub min_bytes: i32,
    /// Bytes of batches wanted at most; the first batch may exceed it.
    #[wire(default = i32::MAX)]
    pub max_bytes: i32,
    /// 0: read_uncommitted; 1: read_committed.
    pub isolation_level: i8,
    /// Fetch session, or 0 (KIP-227).
    #[wire(versions = "7+", ignorable)]
    pub session_id: i32,
    /// Next epoch of the session; 0 opens one, -1 is without.
    #[wire(versions = "7+", default = -1, ignorable)]
    pub session_epoch: i32,
    /// By topic.
    pub topics: Vec<FetchTopic>,
    /// What to drop from the session.
    #[wire(versions = "7+")]
    pub forgotten_topics_data: Vec<ForgottenTopic>,
    /// Rack of the consumer, to read from a near replica (KIP-392).
    #[wire(versions = "11+", ignorable)]
    pub rack_id: Text,
}

/// Who the fetching follower is; a consumer leaves the defaults.
#[derive(Clone, Debug, PartialEq, Wire)]
pub struct ReplicaState {
    /// Broker id of a follower; -1 from a consumer.
    #[wire(versions = "15+", default = -1)]
    pub replica_id: i32,
    /// Broker epoch of the follower, or -1 (KIP-903).
    #[wire(versions = "15+", default = -1)]
    pub replica_epoch: i64,
}

/// What to read of one topic.
#[derive(Clone, Debug, PartialEq, Wire)]
pub struct FetchTopic {
    /// Name of the topic.
    #[wire(versions = "0-12", ignorable)]
    pub topic: Text,
    /// Id of the topic; nil if the version or the sender has none.
    #[wire(versions = "13+", ignorable)]
    pub topic_id: Uuid,
    /// By partition.
    pub partitions: Vec<FetchPartition>,
}

/// Where to read in one partition.
#[derive(Clone, Debug, PartialEq, Wire)]
pub struct FetchPartition {
    /// Number of the partition.
    pub partition: i32,
    /// Leader epoch that the sender knows, or -1 not to check it.
    #[wire(versions = "9+", default = -1, ignorable)]
    pub current_leader_epoch: i32,
    /// Offset to read from.
    pub fetch_offset: i64,
    /// Leader epoch of the last batch that the reader has, or -1 (KIP-595).
    #[wire(versions = "12+", default = -1)]
    pub last_fetched_epoch: i32,
    /// First offset of the follower's log; -1 from a consumer.
    #[wire(versions = "5+", default = -1, ignorable)]
    pub log_start_offset: i64,
    /// Bytes wanted of this partition at most.
    pub partition_max_bytes: i32,
    /// Directory of the follower's log (KIP-853).
    #[wire(versions = "17+", tag = 0, tagged = "17+", ignorable)]
    pub replica_directory_id: Uuid,
    /// High watermark that the follower knows, so that the leader answers when it moves (KIP-1166).
    #[wire(versions = "18+", tag = 1, tagged = "18+", default = i64::MAX, ignorable)]
    pub high_watermark: i64,
}

/// Partitions to drop from an incremental fetch session.
#[derive(Clone, Debug, PartialEq, Wire)]
pub struct ForgottenTopic {
    /// Name of the topic.
    #[wire(versions = "7-12", ignorable)]
    pub topic: Text,
    /// Id of the topic; nil if the version or the sender has none.
    #[wire(versions = "13+", ignorable)]
    pub topic_id: Uuid,
    /// Numbers of the partitions.
    #[wire(versions = "7+")]
    pub partitions: Vec<i32>,
}

/// Batches of the partitions asked for.
#[derive(Clone, Debug, PartialEq, Wire)]
#[wire(versions = "4-18", flexible = "12+")]
pub struct FetchResponse {
    /// Milliseconds for which the client is throttled over a quota.
    pub throttle_time_ms: i32,
    /// 0, or why it failed ([`crate::ErrorCode`]).
    #[wire(versions = "7+", ignorable)]
    pub error_code: i16,
    /// Fetch session, or 0 if there is none.
    #[wire(versions = "7+")]
    pub session_id: i32,
    /// The answers by topic.
    pub responses: Vec<FetchableTopicResponse>,
    /// Addresses of the leaders named in `current_leader` (KIP-951).
    #[wire(versions = "16+", tag = 0, tagged = "16+")]
    pub node_endpoints: Vec<NodeEndpoint>,
}

/// The partitions of one topic.
#[derive(Clone, Debug, PartialEq, Wire)]
pub struct FetchableTopicResponse {
    /// Name of the topic.
    #[wire(versions = "0-12", ignorable)]
    pub topic: Text,
    /// Id of the topic; nil if the version or the sender has none.
    #[wire(versions = "13+", ignorable)]
    pub topic_id: Uuid,
    /// By partition.
    pub partitions: Vec<PartitionData>,
}

/// State and batches of one partition.
#[derive(Clone, Debug, PartialEq, Wire)]
pub struct PartitionData {
    /// Number of the partition.
    pub partition_index: i32,
    /// 0, or why it failed ([`crate::ErrorCode`]).
    pub error_code: i16,
    /// The high watermark.
    pub high_watermark: i64,
    /// End of what read_committed may read, or -1.
    #[wire(default = -1)]
    pub last_stable_offset: i64,
    /// First offset of the log, or -1 if unknown.
    #[wire(versions = "5+", default = -1, ignorable)]
    pub log_start_offset: i64,
    /// Where to truncate, if the follower's log is not a prefix of ours.
    #[wire(versions = "12+", tag = 0, tagged = "12+")]
    pub diverging_epoch: FetchEpochEndOffset,
    /// Who leads now, if the answer is that this broker does not (KIP-951).
    #[wire(versions = "12+", tag = 1, tagged = "12+")]
    pub current_leader: LeaderIdAndEpoch,
    /// Snapshot to fetch instead; not used between Odradek brokers.
    #[wire(versions = "12+", tag = 2, tagged = "12+")]
    pub snapshot_id: SnapshotId,
    /// Aborted transactions in the answer; null for read_uncommitted.
    #[wire(nullable = "0+")]
    pub aborted_transactions: Option<Vec<AbortedTransaction>>,
    /// Broker that the consumer should read from instead, or -1.
    #[wire(versions = "11+", default = -1)]
    pub preferred_read_replica: i32,
    /// The batches, byte for byte. The first may begin before the offset asked for.
    #[wire(nullable = "0+", records)]
    pub records: Option<Records>,
}

/// Where the log of a follower leaves the leader's: the largest epoch they share as the leader sees it, and its
/// end. `EpochEndOffset` in Kafka's Fetch.
#[derive(Clone, Debug, PartialEq, Wire)]
#[wire(kafka_name = "EpochEndOffset")]
pub struct FetchEpochEndOffset {
    /// Leader epoch.
    #[wire(versions = "12+", default = -1)]
    pub epoch: i32,
    /// Offset behind its last record, or -1.
    #[wire(versions = "12+", default = -1)]
    pub end_offset: i64,
}

/// A snapshot to fetch instead of the log; only for Kafka's own metadata quorum.
#[derive(Clone, Debug, PartialEq, Wire)]
pub struct SnapshotId {
    /// Offset behind its last record, or -1.
    #[wire(default = -1)]
    pub end_offset: i64,
    /// Leader epoch.
    #[wire(default = -1)]
    pub epoch: i32,
}

/// A transaction whose records in the answer are to be skipped by read_committed consumers.
#[derive(Clone, Debug, PartialEq, Wire)]
pub struct AbortedTransaction {
    /// Id of the producer.
    pub producer_id: i64,
    /// First offset of the transaction.
    pub first_offset: i64,
}
