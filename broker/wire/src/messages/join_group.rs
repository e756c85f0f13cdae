// SPDX-License-Identifier: Apache-2.0
//! JoinGroup (key 11): a member enters a rebalance of the classic protocol.
//! It must not know how a broker answers, only what stands on the wire.

use bytes::Bytes;
use odradek_wire_derive::Wire;

use crate::text::Text;

/// A member joins or rejoins a group.
#[derive(Clone, Debug, PartialEq, Wire)]
#[wire(versions = "0-9", flexible = "6+")]
pub struct JoinGroupRequest {
    /// Id of the group.
    pub group_id: Text,
    /// Milliseconds without a heartbeat after which the member is dead.
    pub session_timeout_ms: i32,
    /// Milliseconds that the member may take to rejoin; -1 (v0): the session timeout.
    #[wire(versions = "1+", default = -1, ignorable)]
    pub rebalance_timeout_ms: i32,
    /// Id of the member; empty if it has none yet.
    pub member_id: Text,
    /// Id of a static member, or null (KIP-345).
    #[wire(versions = "5+", nullable = "0+", default = None)]
    pub group_instance_id: Option<Text>,
    /// Kind of group: `consumer`, `connect` or another.
    pub protocol_type: Text,
    /// Strategies that the member can follow, best first.
    pub protocols: Vec<JoinGroupRequestProtocol>,
    /// Why, in words, or null (KIP-800).
    #[wire(versions = "8+", nullable = "0+", default = None, ignorable)]
    pub reason: Option<Text>,
}

/// An assignment strategy that the member can follow, with its subscription.
#[derive(Clone, Debug, PartialEq, Wire)]
pub struct JoinGroupRequestProtocol {
    /// Name of the strategy.
    pub name: Text,
    /// The member's subscription; the broker does not look inside.
    pub metadata: Bytes,
}

/// The generation that the member is in. Only the leader receives the members.
#[derive(Clone, Debug, PartialEq, Wire)]
#[wire(versions = "0-9", flexible = "6+")]
pub struct JoinGroupResponse {
    /// Milliseconds for which the client is throttled over a quota.
    #[wire(versions = "2+", ignorable)]
    pub throttle_time_ms: i32,
    /// 0, or why it failed ([`crate::ErrorCode`]).
    pub error_code: i16,
    /// Generation of the group, or -1.
    #[wire(default = -1)]
    pub generation_id: i32,
    /// Kind of group: `consumer`, `connect` or another.
    #[wire(versions = "7+", nullable = "0+", default = None, ignorable)]
    pub protocol_type: Option<Text>,
    /// The strategy chosen.
    #[wire(nullable = "7+")]
    pub protocol_name: Option<Text>,
    /// Member id of the leader.
    pub leader: Text,
    /// Whether the leader must not assign, as a static leader came back to a stable group (KIP-814).
    #[wire(versions = "9+")]
    pub skip_assignment: bool,
    /// Id of the member.
    pub member_id: Text,
    /// All members, for the leader; empty for others.
    pub members: Vec<JoinGroupResponseMember>,
}

/// A member, for the leader to assign partitions to.
#[derive(Clone, Debug, PartialEq, Wire)]
pub struct JoinGroupResponseMember {
    /// Id of the member.
    pub member_id: Text,
    /// Id of a static member, or null (KIP-345).
    #[wire(versions = "5+", nullable = "0+", default = None, ignorable)]
    pub group_instance_id: Option<Text>,
    /// The member's subscription for the protocol chosen.
    pub metadata: Bytes,
}
