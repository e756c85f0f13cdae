// SPDX-License-Identifier: Apache-2.0
//! LeaveGroup (13): members go.
use std::sync::Arc;

use odradek_groups as groups;
use odradek_wire::messages::{LeaveGroupRequest, LeaveGroupResponse, MemberResponse};

use crate::broker::Broker;
use crate::dispatch::{Answer, Call};
use crate::error_table::group_code;

pub(crate) fn handle(broker: &Arc<Broker>, call: &Call<'_>, request: LeaveGroupRequest) -> Answer<LeaveGroupResponse> {
    let version = call.version;
    let members = if version < 3 {
        vec![groups::MemberIdentity { member_id: (*request.member_id).into(), group_instance_id: None }]
    } else {
        let identity = |member: &odradek_wire::messages::MemberIdentity| groups::MemberIdentity {
            member_id: (*member.member_id).into(),
            group_instance_id: member.group_instance_id.as_deref().map(Into::into),
        };
        request.members.iter().map(identity).collect()
    };
    let leave = groups::LeaveGroup { group_id: (*request.group_id).into(), members };
    let group_id = Arc::clone(&leave.group_id);
    broker.coordinators.ask(&group_id, groups::Request::Leave(leave), move |outcome| {
        let left = match outcome {
            Ok(groups::Response::Leave(left)) => left,
            Ok(other) => unreachable!("a leave was answered with {other:?}"),
            Err(error) => groups::LeaveGroupResponse { error: Some(error), members: Vec::new() },
        };
        // Below version 3 there is one member, and its error is the answer's.
        let first = left.members.first().and_then(|(_, error)| *error);
        let error = if version < 3 { left.error.or(first) } else { left.error };
        let members = left.members.into_iter().map(|(member, error)| MemberResponse {
            member_id: (&*member.member_id).into(),
            group_instance_id: member.group_instance_id.as_deref().map(Into::into),
            error_code: group_code(error),
        });
        LeaveGroupResponse {
            error_code: group_code(error),
            members: if version < 3 { Vec::new() } else { members.collect() },
            ..LeaveGroupResponse::default()
        }
    })
}
