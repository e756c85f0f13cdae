// SPDX-License-Identifier: Apache-2.0
//! ListGroups (key 16): the groups of one broker (KIP-518, KIP-848).
//! It must not know how a broker answers, only what stands on the wire.

use odradek_wire_derive::Wire;

use crate::text::Text;

/// Asks for the groups that this broker coordinates.
#[derive(Clone, Debug, PartialEq, Wire)]
#[wire(versions = "0-5", flexible = "3+")]
pub struct ListGroupsRequest {
    /// States wanted; none is all.
    #[wire(versions = "4+")]
    pub states_filter: Vec<Text>,
    /// Types wanted; none is all.
    #[wire(versions = "5+")]
    pub types_filter: Vec<Text>,
}

/// The groups.
#[derive(Clone, Debug, PartialEq, Wire)]
#[wire(versions = "0-5", flexible = "3+")]
pub struct ListGroupsResponse {
    /// Milliseconds for which the client is throttled over a quota.
    #[wire(versions = "1+", ignorable)]
    pub throttle_time_ms: i32,
    /// 0, or why it failed ([`crate::ErrorCode`]).
    pub error_code: i16,
    /// By group.
    pub groups: Vec<ListedGroup>,
}

/// One group.
#[derive(Clone, Debug, PartialEq, Wire)]
pub struct ListedGroup {
    /// Id of the group.
    pub group_id: Text,
    /// Its protocol type, or empty.
    pub protocol_type: Text,
    /// Kafka's name of its state.
    #[wire(versions = "4+", ignorable)]
    pub group_state: Text,
    /// Kafka's name of its type.
    #[wire(versions = "5+", ignorable)]
    pub group_type: Text,
}
