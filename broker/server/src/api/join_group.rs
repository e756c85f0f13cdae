// SPDX-License-Identifier: Apache-2.0
//! JoinGroup (11): becomes a member of the next generation. Waits for the others.
use std::sync::Arc;

use bytes::Bytes;
use odradek_groups as groups;
use odradek_wire::messages::{JoinGroupRequest, JoinGroupResponse, JoinGroupResponseMember};

use crate::broker::Broker;
use crate::dispatch::{Answer, Call};
use crate::error_table::group_code;

pub(crate) fn handle(broker: &Arc<Broker>, call: &Call<'_>, request: JoinGroupRequest) -> Answer<JoinGroupResponse> {
    let version = call.version;
    let member_id: Arc<str> = (*request.member_id).into();
    let join = groups::JoinGroup {
        group_id: (*request.group_id).into(),
        member_id: Arc::clone(&member_id),
        group_instance_id: request.group_instance_id.as_deref().map(Into::into),
        session_timeout_ms: request.session_timeout_ms,
        rebalance_timeout_ms: if version == 0 { request.session_timeout_ms } else { request.rebalance_timeout_ms },
        protocol_type: (*request.protocol_type).into(),
        protocols: request
            .protocols
            .iter()
            .map(|protocol| groups::Protocol {
                name: (*protocol.name).into(),
                // Copied: what a group keeps must not hold on to the connection's receive buffer.
                metadata: Bytes::copy_from_slice(&protocol.metadata),
            })
            .collect(),
        client_id: call.client_id().into(),
        client_host: format!("/{}", call.peer.address.ip()).into(),
        requires_known_member_id: version >= 4,
        supports_skipping_assignment: version >= 9,
        new_member_suffix: broker.random.uuid().to_string().into(),
    };
    let group_id = Arc::clone(&join.group_id);
    broker.coordinators.ask(&group_id, groups::Request::Join(join), move |outcome| {
        let joined = match outcome {
            Ok(groups::Response::Join(joined)) => joined,
            Ok(other) => unreachable!("a join was answered with {other:?}"),
            Err(error) => {
                return JoinGroupResponse {
                    error_code: group_code(Some(error)),
                    member_id: (&*member_id).into(),
                    protocol_name: (version < 7).then(|| "".into()),
                    ..JoinGroupResponse::default()
                };
            }
        };
        JoinGroupResponse {
            error_code: group_code(joined.error),
            generation_id: joined.generation_id,
            protocol_type: joined.protocol_type.as_deref().map(Into::into),
            protocol_name: match joined.protocol_name.as_deref() {
                Some(name) => Some(name.into()),
                None if version < 7 => Some("".into()),
                None => None,
            },
            leader: (&*joined.leader).into(),
            skip_assignment: joined.skip_assignment,
            member_id: (&*joined.member_id).into(),
            members: joined
                .members
                .into_iter()
                .map(|member| JoinGroupResponseMember {
                    member_id: (&*member.member_id).into(),
                    group_instance_id: member.group_instance_id.as_deref().map(Into::into),
                    metadata: member.metadata,
                })
                .collect(),
            ..JoinGroupResponse::default()
        }
    })
}
