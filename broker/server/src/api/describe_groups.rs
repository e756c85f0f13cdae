// SPDX-License-Identifier: Apache-2.0
//! DescribeGroups (15): state and members of groups that this broker coordinates.
use std::sync::Arc;

use odradek_groups::{GroupDescription, GroupError, MemberDescription};
use odradek_wire::messages::{DescribeGroupsRequest, DescribeGroupsResponse, DescribedGroup, DescribedGroupMember};

use crate::broker::Broker;
use crate::dispatch::{Answer, Call};
use crate::error_table::group_code;

/// Read, Delete, Describe, DescribeConfigs, AlterConfigs: everybody may do everything as long as there are no ACLs (bits
/// are `AclOperation` codes, KIP-430).
const GROUP_OPERATIONS: i32 = 1 << 3 | 1 << 6 | 1 << 8 | 1 << 10 | 1 << 11;
/// Kafka's name for the state of a group that is not there.
const DEAD: &str = "Dead";

pub(crate) fn handle(
    broker: &Arc<Broker>,
    call: &Call<'_>,
    request: DescribeGroupsRequest,
) -> Answer<DescribeGroupsResponse> {
    let version = call.version;
    let groups = request.groups.iter().map(|id| {
        let mut described = match broker.coordinators.describe(id) {
            Ok(group) => describe(group),
            Err(error) => refuse(version, id, error),
        };
        if version >= 3 && request.include_authorized_operations && described.error_code == 0 {
            described.authorized_operations = GROUP_OPERATIONS;
        }
        DescribedGroup { group_id: id.clone(), ..described }
    });
    Answer::now(DescribeGroupsResponse { groups: groups.collect(), ..DescribeGroupsResponse::default() })
}

fn describe(group: GroupDescription) -> DescribedGroup {
    let member = |member: MemberDescription| DescribedGroupMember {
        member_id: (&*member.member_id).into(),
        group_instance_id: member.group_instance_id.as_deref().map(Into::into),
        client_id: (&*member.client_id).into(),
        client_host: (&*member.client_host).into(),
        member_metadata: member.metadata,
        member_assignment: member.assignment,
    };
    DescribedGroup {
        group_state: group.state.name().into(),
        protocol_type: (&*group.protocol_type).into(),
        protocol_data: (&*group.protocol).into(),
        members: group.members.into_iter().map(member).collect(),
        ..DescribedGroup::default()
    }
}

/// A group that is not there is a dead one; only from version 6 on that is an error too (KIP-1043).
fn refuse(version: i16, id: &str, error: GroupError) -> DescribedGroup {
    if error != GroupError::GroupIdNotFound {
        return DescribedGroup { error_code: group_code(Some(error)), ..DescribedGroup::default() };
    }
    let dead = DescribedGroup { group_state: DEAD.into(), ..DescribedGroup::default() };
    if version < 6 {
        return dead;
    }
    let message = format!("group {id} not found");
    DescribedGroup { error_code: group_code(Some(error)), error_message: Some(message.into()), ..dead }
}
