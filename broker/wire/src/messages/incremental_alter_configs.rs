// SPDX-License-Identifier: Apache-2.0
//! IncrementalAlterConfigs (key 44): single settings of topics, brokers and other resources change (KIP-339).
//! It must not know how a broker answers, only what stands on the wire.

use odradek_wire_derive::Wire;

use crate::text::Text;

/// Changes of resources.
#[derive(Clone, Debug, PartialEq, Wire)]
#[wire(versions = "0-1", flexible = "1+")]
pub struct IncrementalAlterConfigsRequest {
    /// The resources.
    pub resources: Vec<AlterConfigsResource>,
    /// Whether to check only.
    pub validate_only: bool,
}

/// One resource.
#[derive(Clone, Debug, PartialEq, Wire)]
pub struct AlterConfigsResource {
    /// 2 topic, 4 broker, 8 broker logger, 16 client metrics, 32 group.
    pub resource_type: i8,
    /// Name of the resource; a broker's id, or empty for all brokers.
    pub resource_name: Text,
    /// The changes.
    pub configs: Vec<AlterableConfig>,
}

/// One change.
#[derive(Clone, Debug, PartialEq, Wire)]
pub struct AlterableConfig {
    /// Name of the setting.
    pub name: Text,
    /// 0 set, 1 delete, 2 append to a list, 3 subtract from a list.
    pub config_operation: i8,
    /// The value; null with delete.
    #[wire(nullable = "0+")]
    pub value: Option<Text>,
}

/// What became of each resource.
#[derive(Clone, Debug, PartialEq, Wire)]
#[wire(versions = "0-1", flexible = "1+")]
pub struct IncrementalAlterConfigsResponse {
    /// Milliseconds for which the client is throttled over a quota.
    pub throttle_time_ms: i32,
    /// By resource.
    pub responses: Vec<AlterConfigsResourceResponse>,
}

/// What became of one resource.
#[derive(Clone, Debug, PartialEq, Wire)]
pub struct AlterConfigsResourceResponse {
    /// 0, or why it failed ([`crate::ErrorCode`]).
    pub error_code: i16,
    /// The reason in words, or null.
    #[wire(nullable = "0+")]
    pub error_message: Option<Text>,
    /// 2 topic, 4 broker, 8 broker logger, 16 client metrics, 32 group.
    pub resource_type: i8,
    /// Name of the resource; a broker's id, or empty for all brokers.
    pub resource_name: Text,
}
