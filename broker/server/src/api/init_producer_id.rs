// SPDX-License-Identifier: Apache-2.0
//! InitProducerId (22): an id for an idempotent producer, out of blocks that are this broker's alone.
//!
//! A transactional id is answered UNSUPPORTED_VERSION (`find_coordinator` refuses earlier): fatal for clients, and true.
use std::sync::Arc;

use odradek_wire::ErrorCode;
use odradek_wire::messages::{InitProducerIdRequest, InitProducerIdResponse};

use crate::broker::Broker;
use crate::dispatch::{Answer, Call};

pub(crate) fn handle(
    broker: &Arc<Broker>,
    _call: &Call<'_>,
    request: InitProducerIdRequest,
) -> Answer<InitProducerIdResponse> {
    // Both or neither of what the producer has been given before (KIP-360); an id that is no id.
    let is_half = (request.producer_id == -1) != (request.producer_epoch == -1);
    if is_half || request.transactional_id.as_ref().is_some_and(|id| id.is_empty()) {
        return Answer::now(refuse(ErrorCode::InvalidRequest));
    }
    if request.transactional_id.is_some() {
        return Answer::now(refuse(ErrorCode::UnsupportedVersion));
    }
    if let Some(id) = broker.producer_ids.next() {
        return Answer::now(grant(id));
    }
    let broker = Arc::clone(broker);
    Answer::later(async move {
        match broker.producer_ids.refill(&broker).await {
            Some(id) => grant(id),
            None => refuse(ErrorCode::CoordinatorLoadInProgress),
        }
        .into()
    })
}

fn grant(producer_id: i64) -> InitProducerIdResponse {
    InitProducerIdResponse { producer_id, producer_epoch: 0, ..InitProducerIdResponse::default() }
}

fn refuse(code: ErrorCode) -> InitProducerIdResponse {
    InitProducerIdResponse {
        error_code: code.code(),
        producer_id: -1,
        producer_epoch: -1,
        ..InitProducerIdResponse::default()
    }
}
