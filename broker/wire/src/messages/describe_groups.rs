// SPDX-License-Identifier: Apache-2.0
//! DescribeGroups (key 15): state and members of classic groups.
//! It must not know how a broker answers, only what stands on the wire.

use bytes::Bytes;
use odradek_wire_derive::Wire;

use crate::text::Text;

/// Asks for groups.
#[derive(Clone, Debug, PartialEq, Wire)]
#[wire(versions = "0-6", flexible = "5+")]
pub struct DescribeGroupsRequest {
    /// Ids of the groups.
    pub groups: Vec<Text>,
    /// Whether to tell what the client may do with each.
    #[wire(versions = "3+")]
    pub include_authorized_operations: bool,
}

/// The groups.
#[derive(Clone, Debug, PartialEq, Wire)]
#[wire(versions = "0-6", flexible = "5+")]
pub struct DescribeGroupsResponse {
    /// Milliseconds for which the client is throttled over a quota.
    #[wire(versions = "1+", ignorable)]
    pub throttle_time_ms: i32,
    /// By group.
    pub groups: Vec<DescribedGroup>,
}

/// One group.
#[derive(Clone, Debug, PartialEq, Wire)]
pub struct DescribedGroup {
    /// 0, or why it failed ([`crate::ErrorCode`]).
    pub error_code: i16,
    /// The reason in words, or null (KIP-1043).
    #[wire(versions = "6+", nullable = "6+", default = None)]
    pub error_message: Option<Text>,
    /// Id of the group.
    pub group_id: Text,
    /// Kafka's name of its state, or empty.
    pub group_state: Text,
    /// Its protocol type, or empty.
    pub protocol_type: Text,
    /// The protocol that its members use, or empty; only while it is stable.
    pub protocol_data: Text,
    /// Its members.
    pub members: Vec<DescribedGroupMember>,
    /// Bits of what the client may do with the group; `i32::MIN` if not told.
    #[wire(versions = "3+", default = i32::MIN)]
    pub authorized_operations: i32,
}

/// One member.
#[derive(Clone, Debug, PartialEq, Wire)]
pub struct DescribedGroupMember {
    /// Id of the member.
    pub member_id: Text,
    /// Id of a static member, or null (KIP-345).
    #[wire(versions = "4+", nullable = "4+", default = None, ignorable)]
    pub group_instance_id: Option<Text>,
    /// The client's name for itself.
    pub client_id: Text,
    /// Where it connects from.
    pub client_host: Text,
    /// What it told in the protocol that is used; only while the group is stable.
    pub member_metadata: Bytes,
    /// What the leader of the group gave to it; only while the group is stable.
    pub member_assignment: Bytes,
}
