// SPDX-License-Identifier: Apache-2.0
//! ApiVersions (key 18): which APIs and features a broker has (KIP-35, KIP-511, KIP-584, KIP-1242).
//! It must not know how a broker answers, only what stands on the wire.

use odradek_wire_derive::Wire;

use crate::text::Text;

/// Asks what the broker speaks; the first request on a connection.
#[derive(Clone, Debug, PartialEq, Wire)]
#[wire(versions = "0-5", flexible = "3+")]
pub struct ApiVersionsRequest {
    /// Name of the client library.
    #[wire(versions = "3+", ignorable)]
    pub client_software_name: Text,
    /// Version of the client library.
    #[wire(versions = "3+", ignorable)]
    pub client_software_version: Text,
    /// Cluster that the client expects, or null (KIP-1242).
    #[wire(versions = "5+", nullable = "0+", default = None, ignorable)]
    pub cluster_id: Option<Text>,
    /// Broker that the client expects, or -1 (KIP-1242).
    #[wire(versions = "5+", default = -1, ignorable)]
    pub node_id: i32,
}

/// What the broker speaks. Its header has no tagged fields in any version.
#[derive(Clone, Debug, PartialEq, Wire)]
#[wire(versions = "0-5", flexible = "3+")]
pub struct ApiVersionsResponse {
    /// 0, or why it failed ([`crate::ErrorCode`]).
    pub error_code: i16,
    /// The APIs.
    pub api_keys: Vec<ApiVersion>,
    /// Milliseconds for which the client is throttled over a quota.
    #[wire(versions = "1+", ignorable)]
    pub throttle_time_ms: i32,
    /// Features that this broker can run.
    #[wire(versions = "3+", tag = 0, tagged = "3+", ignorable)]
    pub supported_features: Vec<SupportedFeatureKey>,
    /// Version of the finalized features, or -1 if unknown.
    #[wire(versions = "3+", tag = 1, tagged = "3+", default = -1, ignorable)]
    pub finalized_features_epoch: i64,
    /// Features that the cluster has finalized.
    #[wire(versions = "3+", tag = 2, tagged = "3+", ignorable)]
    pub finalized_features: Vec<FinalizedFeatureKey>,
    /// Left from the migration away from ZooKeeper; false.
    #[wire(versions = "3+", tag = 3, tagged = "3+", ignorable)]
    pub zk_migration_ready: bool,
}

/// The versions of one API.
#[derive(Clone, Debug, PartialEq, Wire)]
pub struct ApiVersion {
    /// Number of the API.
    pub api_key: i16,
    /// Lowest version.
    pub min_version: i16,
    /// Highest version.
    pub max_version: i16,
}

/// Levels of a feature that this broker can run.
#[derive(Clone, Debug, PartialEq, Wire)]
pub struct SupportedFeatureKey {
    /// Name of the feature.
    #[wire(versions = "3+")]
    pub name: Text,
    /// Lowest level.
    #[wire(versions = "3+")]
    pub min_version: i16,
    /// Highest level.
    #[wire(versions = "3+")]
    pub max_version: i16,
}

/// Levels of a feature that the cluster has finalized.
#[derive(Clone, Debug, PartialEq, Wire)]
pub struct FinalizedFeatureKey {
    /// Name of the feature.
    #[wire(versions = "3+")]
    pub name: Text,
    /// Highest finalized level.
    #[wire(versions = "3+")]
    pub max_version_level: i16,
    /// Lowest finalized level.
    #[wire(versions = "3+")]
    pub min_version_level: i16,
}
