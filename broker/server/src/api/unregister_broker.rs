// SPDX-License-Identifier: Apache-2.0
//! UnregisterBroker (64): has the controller forget a broker that is gone for good.
use std::sync::Arc;

use odradek_metadata::{Command, Progress, Reply, UnregisterBroker};
use odradek_model::BrokerId;
use odradek_wire::ErrorCode;
use odradek_wire::messages::{UnregisterBrokerRequest, UnregisterBrokerResponse};

use super::decide;
use crate::broker::Broker;
use crate::dispatch::{Answer, Call};
use crate::error_table::broker_state_code;

pub(crate) fn handle(
    broker: &Arc<Broker>,
    _call: &Call<'_>,
    request: UnregisterBrokerRequest,
) -> Answer<UnregisterBrokerResponse> {
    let command = Command::UnregisterBroker(UnregisterBroker { broker_id: BrokerId(request.broker_id) });
    let broker = Arc::clone(broker);
    Answer::later(async move {
        let refusal = match decide(&broker, command).await {
            Ok(Reply::BrokerState(Ok(Progress::Complete))) => None,
            // Its partitions are more than the controller changes in one go; what is done is done.
            Ok(Reply::BrokerState(Ok(Progress::AskAgain))) => {
                let message = "the broker's partitions are still being handed over; ask again".to_owned();
                Some((ErrorCode::RequestTimedOut, message))
            }
            Ok(Reply::BrokerState(Err(error))) => Some((broker_state_code(&error), error.to_string())),
            Ok(other) => unreachable!("an unregistration was answered with {other:?}"),
            Err(refusal) => Some(refusal),
        };
        let (error_code, error_message) = match refusal {
            None => (0, None),
            Some((code, message)) => (code.code(), Some(message.into())),
        };
        UnregisterBrokerResponse { error_code, error_message, ..UnregisterBrokerResponse::default() }.into()
    })
}
