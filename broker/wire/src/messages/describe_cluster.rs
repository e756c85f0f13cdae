// SPDX-License-Identifier: Apache-2.0
//! DescribeCluster (key 60): cluster id, controller and brokers (KIP-700).
//! It must not know how a broker answers, only what stands on the wire.

use odradek_wire_derive::Wire;

use crate::text::Text;

/// Asks for the brokers of the cluster.
#[derive(Clone, Debug, PartialEq, Wire)]
#[wire(versions = "0-2", flexible = "0+")]
pub struct DescribeClusterRequest {
    /// Whether to answer what the client may do with the cluster.
    pub include_cluster_authorized_operations: bool,
    /// 1: brokers; 2: controllers (KIP-919).
    #[wire(versions = "1+", default = 1)]
    pub endpoint_type: i8,
    /// Whether to list brokers that are fenced.
    #[wire(versions = "2+")]
    pub include_fenced_brokers: bool,
}

/// The cluster and its brokers.
#[derive(Clone, Debug, PartialEq, Wire)]
#[wire(versions = "0-2", flexible = "0+")]
pub struct DescribeClusterResponse {
    /// Milliseconds for which the client is throttled over a quota.
    pub throttle_time_ms: i32,
    /// 0, or why it failed ([`crate::ErrorCode`]).
    pub error_code: i16,
    /// The reason in words, or null.
    #[wire(nullable = "0+", default = None)]
    pub error_message: Option<Text>,
    /// 1: brokers; 2: controllers (KIP-919).
    #[wire(versions = "1+", default = 1)]
    pub endpoint_type: i8,
    /// Id of the cluster.
    pub cluster_id: Text,
    /// Broker that takes administrative requests, or -1; any does.
    #[wire(default = -1)]
    pub controller_id: i32,
    /// The live brokers.
    pub brokers: Vec<DescribeClusterBroker>,
    /// Bits of what the client may do with the cluster; `i32::MIN` if not asked for.
    #[wire(default = i32::MIN)]
    pub cluster_authorized_operations: i32,
}

/// One broker.
#[derive(Clone, Debug, PartialEq, Wire)]
pub struct DescribeClusterBroker {
    /// Id of the broker.
    pub broker_id: i32,
    /// Host name or address for clients.
    pub host: Text,
    /// Port for clients.
    pub port: i32,
    /// Rack of the broker, or null.
    #[wire(nullable = "0+", default = None)]
    pub rack: Option<Text>,
    /// Whether the broker is fenced.
    #[wire(versions = "2+")]
    pub is_fenced: bool,
}
