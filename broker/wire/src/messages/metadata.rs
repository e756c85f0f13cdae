// SPDX-License-Identifier: Apache-2.0
//! Metadata (key 3): brokers, topics, leaders; may create topics.
//! It must not know how a broker answers, only what stands on the wire.

use odradek_wire_derive::Wire;
use uuid::Uuid;

use crate::text::Text;

/// Asks for brokers and topics. `topics`: null is all, empty is none; in v0, which has no null, empty is all.
#[derive(Clone, Debug, PartialEq, Wire)]
#[wire(versions = "0-13", flexible = "9+")]
pub struct MetadataRequest {
    /// The topics asked for.
    #[wire(nullable = "1+")]
    pub topics: Option<Vec<MetadataRequestTopic>>,
    /// Whether a topic that is missing may be created if the broker is set so.
    #[wire(versions = "4+", default = true)]
    pub allow_auto_topic_creation: bool,
    /// Whether to answer what the client may do with the cluster.
    #[wire(versions = "8-10")]
    pub include_cluster_authorized_operations: bool,
    /// Whether to answer what the client may do with each topic.
    #[wire(versions = "8+")]
    pub include_topic_authorized_operations: bool,
}

/// A topic by name or, from v10, by id.
#[derive(Clone, Debug, PartialEq, Wire)]
pub struct MetadataRequestTopic {
    /// Id of the topic; nil if the version or the sender has none.
    #[wire(versions = "10+", ignorable)]
    pub topic_id: Uuid,
    /// Name of the topic; null if asked for by id.
    #[wire(nullable = "10+")]
    pub name: Option<Text>,
}

/// Brokers and topics as this broker knows them.
#[derive(Clone, Debug, PartialEq, Wire)]
#[wire(versions = "0-13", flexible = "9+")]
pub struct MetadataResponse {
    /// Milliseconds for which the client is throttled over a quota.
    #[wire(versions = "3+", ignorable)]
    pub throttle_time_ms: i32,
    /// The live brokers.
    pub brokers: Vec<MetadataResponseBroker>,
    /// Id of the cluster.
    #[wire(versions = "2+", nullable = "0+", default = None, ignorable)]
    pub cluster_id: Option<Text>,
    /// Broker that takes administrative requests, or -1; any does.
    #[wire(versions = "1+", default = -1, ignorable)]
    pub controller_id: i32,
    /// By topic.
    pub topics: Vec<MetadataResponseTopic>,
    /// Bits of what the client may do with the cluster; `i32::MIN` if not asked for.
    #[wire(versions = "8-10", default = i32::MIN)]
    pub cluster_authorized_operations: i32,
    /// 0, or why it failed ([`crate::ErrorCode`]).
    #[wire(versions = "13+", ignorable)]
    pub error_code: i16,
}

/// A live broker and its address for this client.
#[derive(Clone, Debug, PartialEq, Wire)]
pub struct MetadataResponseBroker {
    /// Id of the broker.
    pub node_id: i32,
    /// Host name or address for clients.
    pub host: Text,
    /// Port for clients.
    pub port: i32,
    /// Rack of the broker, or null.
    #[wire(versions = "1+", nullable = "0+", default = None, ignorable)]
    pub rack: Option<Text>,
}

/// One topic.
#[derive(Clone, Debug, PartialEq, Wire)]
pub struct MetadataResponseTopic {
    /// 0, or why it failed ([`crate::ErrorCode`]).
    pub error_code: i16,
    /// Name of the topic; null if an id was asked for that nobody knows.
    #[wire(nullable = "12+")]
    pub name: Option<Text>,
    /// Id of the topic; nil if the version or the sender has none.
    #[wire(versions = "10+", ignorable)]
    pub topic_id: Uuid,
    /// Whether it is one of the brokers' own topics.
    #[wire(versions = "1+", ignorable)]
    pub is_internal: bool,
    /// Its partitions, in any order.
    pub partitions: Vec<MetadataResponsePartition>,
    /// Bits of what the client may do with the topic; `i32::MIN` if not asked for.
    #[wire(versions = "8+", default = i32::MIN)]
    pub topic_authorized_operations: i32,
}

/// One partition: leader, replicas, in-sync replicas.
#[derive(Clone, Debug, PartialEq, Wire)]
pub struct MetadataResponsePartition {
    /// 0, or why it failed ([`crate::ErrorCode`]).
    pub error_code: i16,
    /// Number of the partition.
    pub partition_index: i32,
    /// Broker id of the leader, or -1.
    pub leader_id: i32,
    /// Leader epoch, or -1 if unknown.
    #[wire(versions = "7+", default = -1, ignorable)]
    pub leader_epoch: i32,
    /// Brokers with a replica, preferred leader first.
    pub replica_nodes: Vec<i32>,
    /// Brokers in sync with the leader.
    pub isr_nodes: Vec<i32>,
    /// Brokers whose replica is not available.
    #[wire(versions = "5+", ignorable)]
    pub offline_replicas: Vec<i32>,
}
