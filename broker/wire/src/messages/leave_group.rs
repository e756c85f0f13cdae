// SPDX-License-Identifier: Apache-2.0
//! LeaveGroup (key 13): members leave a classic group (v3: several, KIP-345).
//! It must not know how a broker answers, only what stands on the wire.

use odradek_wire_derive::Wire;

use crate::text::Text;

/// Members that leave: one up to v2, several from v3.
#[derive(Clone, Debug, PartialEq, Wire)]
#[wire(versions = "0-5", flexible = "4+")]
pub struct LeaveGroupRequest {
    /// Id of the group.
    pub group_id: Text,
    /// Id of the member.
    #[wire(versions = "0-2")]
    pub member_id: Text,
    /// The members, from v3.
    #[wire(versions = "3+")]
    pub members: Vec<MemberIdentity>,
}

/// A member that leaves.
#[derive(Clone, Debug, PartialEq, Wire)]
pub struct MemberIdentity {
    /// Id of the member.
    #[wire(versions = "3+")]
    pub member_id: Text,
    /// Id of a static member, or null (KIP-345).
    #[wire(versions = "3+", nullable = "0+", default = None)]
    pub group_instance_id: Option<Text>,
    /// Why, in words, or null (KIP-800).
    #[wire(versions = "5+", nullable = "0+", default = None, ignorable)]
    pub reason: Option<Text>,
}

/// What became of each member.
#[derive(Clone, Debug, PartialEq, Wire)]
#[wire(versions = "0-5", flexible = "4+")]
pub struct LeaveGroupResponse {
    /// Milliseconds for which the client is throttled over a quota.
    #[wire(versions = "1+", ignorable)]
    pub throttle_time_ms: i32,
    /// 0, or why it failed ([`crate::ErrorCode`]).
    pub error_code: i16,
    /// The members, from v3.
    #[wire(versions = "3+")]
    pub members: Vec<MemberResponse>,
}

/// What became of one member.
#[derive(Clone, Debug, PartialEq, Wire)]
pub struct MemberResponse {
    /// Id of the member.
    #[wire(versions = "3+")]
    pub member_id: Text,
    /// Id of a static member, or null (KIP-345).
    #[wire(versions = "3+", nullable = "0+")]
    pub group_instance_id: Option<Text>,
    /// 0, or why it failed ([`crate::ErrorCode`]).
    #[wire(versions = "3+")]
    pub error_code: i16,
}
