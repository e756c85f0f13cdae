// SPDX-License-Identifier: Apache-2.0
//! DescribeConfigs (key 32): settings of topics, brokers and other resources, with their sources.
//! It must not know how a broker answers, only what stands on the wire.

use odradek_wire_derive::Wire;

use crate::text::Text;

/// Asks for settings of resources.
#[derive(Clone, Debug, PartialEq, Wire)]
#[wire(versions = "1-4", flexible = "4+")]
pub struct DescribeConfigsRequest {
    /// The resources.
    pub resources: Vec<DescribeConfigsResource>,
    /// Whether to list the places that a value could come from.
    pub include_synonyms: bool,
    /// Whether to explain each setting.
    #[wire(versions = "3+")]
    pub include_documentation: bool,
}

/// One resource.
#[derive(Clone, Debug, PartialEq, Wire)]
pub struct DescribeConfigsResource {
    /// 2 topic, 4 broker, 8 broker logger, 16 client metrics, 32 group.
    pub resource_type: i8,
    /// Name of the resource; a broker's id.
    pub resource_name: Text,
    /// Names of the settings wanted; null is all.
    #[wire(nullable = "0+")]
    pub configuration_keys: Option<Vec<Text>>,
}

/// The settings of each resource.
#[derive(Clone, Debug, PartialEq, Wire)]
#[wire(versions = "1-4", flexible = "4+")]
pub struct DescribeConfigsResponse {
    /// Milliseconds for which the client is throttled over a quota.
    pub throttle_time_ms: i32,
    /// By resource.
    pub results: Vec<DescribeConfigsResult>,
}

/// The settings of one resource.
#[derive(Clone, Debug, PartialEq, Wire)]
pub struct DescribeConfigsResult {
    /// 0, or why it failed ([`crate::ErrorCode`]).
    pub error_code: i16,
    /// The reason in words, or null.
    #[wire(nullable = "0+")]
    pub error_message: Option<Text>,
    /// 2 topic, 4 broker, 8 broker logger, 16 client metrics, 32 group.
    pub resource_type: i8,
    /// Name of the resource; a broker's id.
    pub resource_name: Text,
    /// The settings.
    pub configs: Vec<DescribeConfigsResourceResult>,
}

/// One setting.
#[derive(Clone, Debug, PartialEq, Wire)]
pub struct DescribeConfigsResourceResult {
    /// Name of the setting.
    pub name: Text,
    /// The value; null if sensitive or unset.
    #[wire(nullable = "0+")]
    pub value: Option<Text>,
    /// Whether it cannot be changed while the broker runs.
    pub read_only: bool,
    /// Where the value came from: 1 topic, 2 broker, 3 cluster default, 4 static, 5 default, 8 group; -1 unknown.
    #[wire(default = -1)]
    pub config_source: i8,
    /// Whether the value is kept back.
    pub is_sensitive: bool,
    /// The places that the value could come from.
    pub synonyms: Vec<DescribeConfigsSynonym>,
    /// 1 boolean, 2 string, 3 int, 4 short, 5 long, 6 double, 7 list, 8 class, 9 password; 0 unknown.
    #[wire(versions = "3+", ignorable)]
    pub config_type: i8,
    /// What the setting means, or null.
    #[wire(versions = "3+", nullable = "0+", ignorable)]
    pub documentation: Option<Text>,
}

/// A place where a setting could have come from, in order of precedence.
#[derive(Clone, Debug, PartialEq, Wire)]
pub struct DescribeConfigsSynonym {
    /// Name of the setting there.
    pub name: Text,
    /// The value, or null.
    #[wire(nullable = "0+")]
    pub value: Option<Text>,
    /// As `config_source` of the setting.
    pub source: i8,
}
