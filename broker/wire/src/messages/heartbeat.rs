// SPDX-License-Identifier: Apache-2.0
//! Heartbeat (key 12): a member of a classic group is alive.
//! It must not know how a broker answers, only what stands on the wire.

use odradek_wire_derive::Wire;

use crate::text::Text;

/// Says that a member is alive.
#[derive(Clone, Debug, PartialEq, Wire)]
#[wire(versions = "0-4", flexible = "4+")]
pub struct HeartbeatRequest {
    /// Id of the group.
    pub group_id: Text,
    /// Generation of the group.
    pub generation_id: i32,
    /// Id of the member.
    pub member_id: Text,
    /// Id of a static member, or null (KIP-345).
    #[wire(versions = "3+", nullable = "0+", default = None)]
    pub group_instance_id: Option<Text>,
}

/// Whether the member may go on.
#[derive(Clone, Debug, PartialEq, Wire)]
#[wire(versions = "0-4", flexible = "4+")]
pub struct HeartbeatResponse {
    /// Milliseconds for which the client is throttled over a quota.
    #[wire(versions = "1+", ignorable)]
    pub throttle_time_ms: i32,
    /// 0, or why it failed ([`crate::ErrorCode`]).
    pub error_code: i16,
}
