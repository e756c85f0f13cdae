// SPDX-License-Identifier: Apache-2.0
//! Heartbeat (12): keeps a member's session and tells it of a rebalance.
use std::sync::Arc;

use odradek_groups as groups;
use odradek_wire::messages::{HeartbeatRequest, HeartbeatResponse};

use crate::broker::Broker;
use crate::dispatch::{Answer, Call};
use crate::error_table::group_code;

pub(crate) fn handle(broker: &Arc<Broker>, _call: &Call<'_>, request: HeartbeatRequest) -> Answer<HeartbeatResponse> {
    let heartbeat = groups::Heartbeat {
        group_id: (*request.group_id).into(),
        generation_id: request.generation_id,
        member_id: (*request.member_id).into(),
        group_instance_id: request.group_instance_id.as_deref().map(Into::into),
    };
    let group_id = Arc::clone(&heartbeat.group_id);
    broker.coordinators.ask(&group_id, groups::Request::Heartbeat(heartbeat), |outcome| {
        let error = match outcome {
            Ok(groups::Response::Heartbeat(error)) => error,
            Ok(other) => unreachable!("a heartbeat was answered with {other:?}"),
            Err(error) => Some(error),
        };
        HeartbeatResponse { error_code: group_code(error), ..HeartbeatResponse::default() }
    })
}
