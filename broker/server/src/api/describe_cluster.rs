// SPDX-License-Identifier: Apache-2.0
//! DescribeCluster (60): cluster id, controller and brokers.
use std::sync::Arc;

use odradek_wire::ErrorCode;
use odradek_wire::messages::{DescribeClusterBroker, DescribeClusterRequest, DescribeClusterResponse};

use crate::broker::Broker;
use crate::dispatch::{Answer, Call};

/// Endpoint types (KIP-919).
const BROKERS: i8 = 1;
const CONTROLLERS: i8 = 2;

pub(crate) fn handle(
    broker: &Arc<Broker>,
    call: &Call<'_>,
    request: DescribeClusterRequest,
) -> Answer<DescribeClusterResponse> {
    if call.version >= 1 && request.endpoint_type != BROKERS {
        let (code, message) = match request.endpoint_type {
            CONTROLLERS => {
                (ErrorCode::MismatchedEndpointType, "this listener serves brokers, not controllers".to_owned())
            }
            other => (ErrorCode::UnsupportedEndpointType, format!("unsupported endpoint type {other}")),
        };
        return Answer::now(DescribeClusterResponse {
            error_code: code.code(),
            error_message: Some(message.into()),
            ..DescribeClusterResponse::default()
        });
    }
    let mut response = DescribeClusterResponse {
        endpoint_type: BROKERS,
        cluster_id: broker.cluster_id.as_str().into(),
        // Kafka names any live broker: every broker takes Admin requests.
        controller_id: broker.id.0,
        ..DescribeClusterResponse::default()
    };
    if request.include_cluster_authorized_operations {
        response.cluster_authorized_operations = super::metadata::CLUSTER_OPERATIONS;
    }
    let image = broker.image();
    let fenced_too = call.version >= 2 && request.include_fenced_brokers;
    for member in image.brokers().filter(|member| fenced_too || !member.fenced) {
        let Some((host, port)) = broker.endpoint(member, &call.peer.listener) else {
            continue;
        };
        response.brokers.push(DescribeClusterBroker {
            broker_id: member.id.0,
            host: host.into(),
            port: i32::from(port),
            rack: member.rack.as_deref().map(Into::into),
            is_fenced: member.fenced,
        });
    }
    Answer::now(response)
}
