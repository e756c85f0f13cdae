// SPDX-License-Identifier: Apache-2.0
//! FindCoordinator (key 10): who coordinates a group, a transaction or a share group (v4: several keys).
//! It must not know how a broker answers, only what stands on the wire.

use odradek_wire_derive::Wire;

use crate::text::Text;

/// Asks for coordinators: one key up to v3, several from v4.
#[derive(Clone, Debug, PartialEq, Wire)]
#[wire(versions = "0-6", flexible = "3+")]
pub struct FindCoordinatorRequest {
    /// The group id or transactional id.
    #[wire(versions = "0-3")]
    pub key: Text,
    /// 0: group; 1: transaction; 2: share group partition.
    #[wire(versions = "1+")]
    pub key_type: i8,
    /// The keys, from v4.
    #[wire(versions = "4+")]
    pub coordinator_keys: Vec<Text>,
}

/// The coordinators: one in the struct itself up to v3, a list from v4.
#[derive(Clone, Debug, PartialEq, Wire)]
#[wire(versions = "0-6", flexible = "3+")]
pub struct FindCoordinatorResponse {
    /// Milliseconds for which the client is throttled over a quota.
    #[wire(versions = "1+", ignorable)]
    pub throttle_time_ms: i32,
    /// 0, or why it failed ([`crate::ErrorCode`]).
    #[wire(versions = "0-3")]
    pub error_code: i16,
    /// The reason in words, or null.
    #[wire(versions = "1-3", nullable = "0+", ignorable)]
    pub error_message: Option<Text>,
    /// Id of the broker.
    #[wire(versions = "0-3")]
    pub node_id: i32,
    /// Host name or address for clients.
    #[wire(versions = "0-3")]
    pub host: Text,
    /// Port for clients.
    #[wire(versions = "0-3")]
    pub port: i32,
    /// By key, from v4.
    #[wire(versions = "4+")]
    pub coordinators: Vec<Coordinator>,
}

/// The coordinator of one key.
#[derive(Clone, Debug, PartialEq, Wire)]
pub struct Coordinator {
    /// The key asked for.
    #[wire(versions = "4+")]
    pub key: Text,
    /// Id of the broker.
    #[wire(versions = "4+")]
    pub node_id: i32,
    /// Host name or address for clients.
    #[wire(versions = "4+")]
    pub host: Text,
    /// Port for clients.
    #[wire(versions = "4+")]
    pub port: i32,
    /// 0, or why it failed ([`crate::ErrorCode`]).
    #[wire(versions = "4+")]
    pub error_code: i16,
    /// The reason in words, or null.
    #[wire(versions = "4+", nullable = "0+", ignorable)]
    pub error_message: Option<Text>,
}
