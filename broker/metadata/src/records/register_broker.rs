// SPDX-License-Identifier: Apache-2.0
//! A broker's registration.

/// An address at which clients or brokers reach a broker.
#[derive(Clone, PartialEq, prost::Message)]
pub struct EndpointRecord {
    /// The listener's name, e.g. `PLAIN`.
    #[prost(string, tag = "1")]
    pub listener: String,
    /// As advertised.
    #[prost(string, tag = "2")]
    pub host: String,
    /// As advertised.
    #[prost(uint32, tag = "3")]
    pub port: u32,
    /// Kafka's number of the security protocol: 0 PLAINTEXT, 1 SSL, 2 SASL_PLAINTEXT, 3 SASL_SSL.
    #[prost(int32, tag = "4")]
    pub security_protocol: i32,
}

/// Kind 4. Replaces an earlier registration of the same id.
#[derive(Clone, PartialEq, prost::Message)]
pub struct RegisterBrokerRecord {
    /// The broker.
    #[prost(int32, tag = "1")]
    pub broker_id: i32,
    /// Given by this registration; above every earlier one.
    #[prost(int64, tag = "2")]
    pub broker_epoch: i64,
    /// 16 bytes: the process.
    #[prost(bytes = "bytes", tag = "3")]
    pub incarnation: bytes::Bytes,
    /// 16 bytes: the data folder.
    #[prost(bytes = "bytes", tag = "4")]
    pub directory_id: bytes::Bytes,
    /// Where it is reached.
    #[prost(message, repeated, tag = "5")]
    pub endpoints: Vec<EndpointRecord>,
    /// Its rack, if it has one.
    #[prost(string, optional, tag = "6")]
    pub rack: Option<String>,
    /// The kernel's boot id, half of the stop proof of the next registration; empty if unknown.
    #[prost(string, tag = "7")]
    pub boot_id: String,
    /// Not to lead or be in sync before its first heartbeats. Not used by a cluster of one (level 1).
    #[prost(bool, tag = "8")]
    pub fenced: bool,
    /// The offset at which the registration first stood in the log; none is this record's own. For snapshots.
    #[prost(int64, optional, tag = "9")]
    pub registered_at: Option<i64>,
    /// The offset at which its controlled shutdown began. For snapshots. Level 2.
    #[prost(int64, optional, tag = "10")]
    pub shutting_down_at: Option<i64>,
    /// No new replicas are placed on it. Level 2.
    #[prost(bool, tag = "11")]
    pub cordoned: bool,
    /// The highest feature level that its version understands; 0 is 1.
    #[prost(uint32, tag = "12")]
    pub supported_feature_level: u32,
}
