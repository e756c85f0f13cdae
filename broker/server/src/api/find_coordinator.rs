// SPDX-License-Identifier: Apache-2.0
//! FindCoordinator (10): which broker coordinates a group. The first question creates `__consumer_offsets`.
//!
//! Transactions are not there yet and not advertised as a feature. A question for a transaction coordinator is
//! answered CLUSTER_AUTHORIZATION_FAILED with a text that says why: the one code that both Java and librdkafka take as
//! fatal here without hiding the text. (librdkafka asks again for ever after UNSUPPORTED_VERSION.)
use std::sync::Arc;

use odradek_metadata::BrokerImage;
use odradek_model::OFFSETS_TOPIC;
use odradek_wire::ErrorCode;
use odradek_wire::messages::{Coordinator, FindCoordinatorRequest, FindCoordinatorResponse};

use crate::broker::Broker;
use crate::dispatch::{Answer, Call};

/// Groups; 1 are transactions, 2 share groups.
const GROUP: i8 = 0;
const TRANSACTION: i8 = 1;

pub(crate) fn handle(
    broker: &Arc<Broker>,
    call: &Call<'_>,
    request: FindCoordinatorRequest,
) -> Answer<FindCoordinatorResponse> {
    let version = call.version;
    let keys: Vec<String> = if version < 4 {
        vec![request.key.to_string()]
    } else {
        request.coordinator_keys.iter().map(ToString::to_string).collect()
    };
    if request.key_type != GROUP {
        let (code, message) = match request.key_type {
            TRANSACTION => (ErrorCode::ClusterAuthorizationFailed, "this broker does not support transactions yet"),
            _ => (ErrorCode::InvalidRequest, "unknown coordinator type"),
        };
        return Answer::now(respond(version, &keys, |_| Err((code, message))));
    }
    let listener = Arc::clone(&call.peer.listener);
    if broker.image().topic(OFFSETS_TOPIC).is_some() {
        return Answer::now(locate(broker, version, &keys, &listener));
    }
    let broker = Arc::clone(broker);
    Answer::later(async move {
        // On failure the answer is "not available", which clients ask again after.
        broker.create_offsets_topic().await;
        locate(&broker, version, &keys, &listener).into()
    })
}

fn locate(broker: &Arc<Broker>, version: i16, keys: &[String], listener: &str) -> FindCoordinatorResponse {
    let image = broker.image();
    respond(version, keys, |key| {
        let leader = broker.coordinators.leader_of(&image, key);
        let leader = leader.and_then(|id| image.broker(id)).filter(|leader| !leader.fenced);
        let located = leader.and_then(|leader| Some((leader.clone(), broker.endpoint(leader, listener)?)));
        located.ok_or((ErrorCode::CoordinatorNotAvailable, ""))
    })
}

type Located = Result<(Arc<BrokerImage>, (String, u16)), (ErrorCode, &'static str)>;

fn respond(version: i16, keys: &[String], locate: impl Fn(&str) -> Located) -> FindCoordinatorResponse {
    let mut coordinators: Vec<Coordinator> = keys
        .iter()
        .map(|key| match locate(key) {
            Ok((leader, (host, port))) => Coordinator {
                key: key.into(),
                node_id: leader.id.0,
                host: host.into(),
                port: i32::from(port),
                error_code: 0,
                // Kafka's text below version 4, for want of an error (`Errors.message`).
                error_message: Some(if version < 4 { "NONE" } else { "" }.into()),
            },
            Err((code, message)) => Coordinator {
                key: key.into(),
                node_id: -1,
                host: "".into(),
                port: -1,
                error_code: code.code(),
                error_message: Some(message.into()),
            },
        })
        .collect();
    let mut response = FindCoordinatorResponse::default();
    if version >= 4 {
        response.coordinators = coordinators;
    } else if let Some(only) = coordinators.pop() {
        response.node_id = only.node_id;
        response.host = only.host;
        response.port = only.port;
        response.error_code = only.error_code;
        response.error_message = only.error_message;
    }
    response
}
