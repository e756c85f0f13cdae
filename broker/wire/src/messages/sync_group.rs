// SPDX-License-Identifier: Apache-2.0
//! SyncGroup (key 14): the leader hands in assignments, each member receives its own.
//! It must not know how a broker answers, only what stands on the wire.

use bytes::Bytes;
use odradek_wire_derive::Wire;

use crate::text::Text;

/// Asks for the member's assignment; the leader brings those of all.
#[derive(Clone, Debug, PartialEq, Wire)]
#[wire(versions = "0-5", flexible = "4+")]
pub struct SyncGroupRequest {
    /// Id of the group.
    pub group_id: Text,
    /// Generation of the group.
    pub generation_id: i32,
    /// Id of the member.
    pub member_id: Text,
    /// Id of a static member, or null (KIP-345).
    #[wire(versions = "3+", nullable = "0+", default = None)]
    pub group_instance_id: Option<Text>,
    /// Kind of group: `consumer`, `connect` or another.
    #[wire(versions = "5+", nullable = "0+", default = None, ignorable)]
    pub protocol_type: Option<Text>,
    /// The strategy chosen.
    #[wire(versions = "5+", nullable = "0+", default = None, ignorable)]
    pub protocol_name: Option<Text>,
    /// The assignments, from the leader; empty from others.
    pub assignments: Vec<SyncGroupRequestAssignment>,
}

/// The assignment of one member.
#[derive(Clone, Debug, PartialEq, Wire)]
pub struct SyncGroupRequestAssignment {
    /// Id of the member.
    pub member_id: Text,
    /// The assignment; the broker does not look inside.
    pub assignment: Bytes,
}

/// The assignment of the member that asks.
#[derive(Clone, Debug, PartialEq, Wire)]
#[wire(versions = "0-5", flexible = "4+")]
pub struct SyncGroupResponse {
    /// Milliseconds for which the client is throttled over a quota.
    #[wire(versions = "1+", ignorable)]
    pub throttle_time_ms: i32,
    /// 0, or why it failed ([`crate::ErrorCode`]).
    pub error_code: i16,
    /// Kind of group: `consumer`, `connect` or another.
    #[wire(versions = "5+", nullable = "0+", default = None, ignorable)]
    pub protocol_type: Option<Text>,
    /// The strategy chosen.
    #[wire(versions = "5+", nullable = "0+", default = None, ignorable)]
    pub protocol_name: Option<Text>,
    /// The assignment; the broker does not look inside.
    pub assignment: Bytes,
}
