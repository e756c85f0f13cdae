// SPDX-License-Identifier: Apache-2.0
//! SyncGroup (14): the leader gives, every member gets its assignment.
use std::sync::Arc;

use bytes::Bytes;
use odradek_groups as groups;
use odradek_wire::ErrorCode;
use odradek_wire::messages::{SyncGroupRequest, SyncGroupResponse};

use crate::broker::Broker;
use crate::dispatch::{Answer, Call};
use crate::error_table::group_code;

pub(crate) fn handle(broker: &Arc<Broker>, call: &Call<'_>, request: SyncGroupRequest) -> Answer<SyncGroupResponse> {
    // Mandatory from version 5 on (KafkaApis, KIP-559).
    if call.version >= 5 && (request.protocol_type.is_none() || request.protocol_name.is_none()) {
        let code = ErrorCode::InconsistentGroupProtocol.code();
        return Answer::now(SyncGroupResponse { error_code: code, ..SyncGroupResponse::default() });
    }
    let sync = groups::SyncGroup {
        group_id: (*request.group_id).into(),
        generation_id: request.generation_id,
        member_id: (*request.member_id).into(),
        group_instance_id: request.group_instance_id.as_deref().map(Into::into),
        protocol_type: request.protocol_type.as_deref().map(Into::into),
        protocol_name: request.protocol_name.as_deref().map(Into::into),
        assignments: request
            .assignments
            .iter()
            .map(|a| ((*a.member_id).into(), Bytes::copy_from_slice(&a.assignment)))
            .collect(),
    };
    let group_id = Arc::clone(&sync.group_id);
    broker.coordinators.ask(&group_id, groups::Request::Sync(sync), |outcome| match outcome {
        Ok(groups::Response::Sync(sync)) => SyncGroupResponse {
            error_code: group_code(sync.error),
            protocol_type: sync.protocol_type.as_deref().map(Into::into),
            protocol_name: sync.protocol_name.as_deref().map(Into::into),
            assignment: sync.assignment,
            ..SyncGroupResponse::default()
        },
        Ok(other) => unreachable!("a sync was answered with {other:?}"),
        Err(error) => SyncGroupResponse { error_code: group_code(Some(error)), ..SyncGroupResponse::default() },
    })
}
