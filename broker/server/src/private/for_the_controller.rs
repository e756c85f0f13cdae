// SPDX-License-Identifier: Apache-2.0
//! What an introduced broker asks the controller. A broker speaks for itself only, but may ask about any. It must not
//! know what is decided.
use std::future::Future;
use std::sync::Arc;

use bytes::Bytes;
use odradek_metadata::{Command, Reply as ControllerReply};
use odradek_model::{BrokerId, ControllerEpoch, Offset};
use odradek_wire::private::{
    AllocateProducerIdsRequest, AllocateProducerIdsResponse, AlterPartitionRequest, AlterPartitionResponse,
    BrokerHeartbeatRequest, BrokerHeartbeatResponse, ControllerAnswer, EnvelopeRequest, EnvelopeResponse,
    MayStopRequest, MayStopResponse, PrivateApiKey, PrivateHeader, RegisterBrokerRequest, RegisterBrokerResponse,
};
use odradek_wire::{ErrorCode, Message, frame};

use super::{PrivateRequest, commands, reply};
use crate::broker::Broker;
use crate::controller::ControllerUnavailable;
use crate::dispatch::Dispatcher;
use crate::forwarding::is_for_the_controller;
use crate::net::budget::Charge;
use crate::net::frame::Frame;
use crate::net::introduction::Introduced;
use crate::net::{CloseReason, Finished, Peer, Segment, Started};

/// Longest principal taken: a certificate's name, Kafka's longest kind, has a few hundred characters.
const LONGEST_PRINCIPAL: usize = 4096;

pub(super) fn begin(
    dispatcher: &Dispatcher,
    request: PrivateRequest<'_>,
    charge: Charge,
    introduced: &Introduced,
) -> Result<Started, CloseReason> {
    let header = request.header;
    let broker = Arc::clone(dispatcher.broker());
    let own = |broker_id: i32| {
        if introduced.holder.broker_id == BrokerId(broker_id) { Ok(()) } else { Err(CloseReason::NotIntroduced) }
    };
    match header.key {
        PrivateApiKey::RegisterBroker => {
            let request: RegisterBrokerRequest = request.body()?;
            own(request.broker_id)?;
            let command = commands::read_register(&request).map_err(|_| CloseReason::Malformed)?;
            Ok(waiting(header, charge, async move {
                match decide(&broker, Command::RegisterBroker(command)).await {
                    Ok((controller, ControllerReply::RegisterBroker(registered))) => {
                        commands::registered(controller, registered)
                    }
                    other => RegisterBrokerResponse { controller: without(other), ..RegisterBrokerResponse::default() },
                }
            }))
        }
        PrivateApiKey::BrokerHeartbeat => {
            let request: BrokerHeartbeatRequest = request.body()?;
            own(request.broker_id)?;
            Ok(waiting(header, charge, async move {
                match broker.controller.heartbeat(commands::read_heartbeat(&request)).await {
                    Ok((epoch, heard)) => commands::heard(answer(epoch, 0), heard),
                    Err(error) => {
                        BrokerHeartbeatResponse { controller: refusal(&error), ..BrokerHeartbeatResponse::default() }
                    }
                }
            }))
        }
        PrivateApiKey::AlterPartition => {
            let request: AlterPartitionRequest = request.body()?;
            own(request.broker_id)?;
            Ok(waiting(header, charge, async move {
                match decide(&broker, Command::AlterPartition(commands::read_alter(&request))).await {
                    Ok((controller, ControllerReply::AlterPartition(altered))) => {
                        commands::altered(controller, altered)
                    }
                    other => AlterPartitionResponse { controller: without(other), ..AlterPartitionResponse::default() },
                }
            }))
        }
        PrivateApiKey::AllocateProducerIds => {
            let request: AllocateProducerIdsRequest = request.body()?;
            own(request.broker_id)?;
            Ok(waiting(header, charge, async move {
                match decide(&broker, Command::AllocateProducerIds(commands::read_allocate(&request))).await {
                    Ok((controller, ControllerReply::AllocateProducerIds(block))) => {
                        commands::allocated(controller, &block)
                    }
                    other => AllocateProducerIdsResponse {
                        controller: without(other),
                        ..AllocateProducerIdsResponse::default()
                    },
                }
            }))
        }
        PrivateApiKey::MayStop => {
            let request: MayStopRequest = request.body()?;
            Ok(waiting(header, charge, async move {
                match decide(&broker, Command::MayStop(commands::read_may_stop(&request))).await {
                    Ok((controller, ControllerReply::MayStop(verdict))) => commands::stop_verdict(controller, verdict),
                    other => MayStopResponse { controller: without(other), ..MayStopResponse::default() },
                }
            }))
        }
        PrivateApiKey::Envelope => {
            let peer = request.peer.clone();
            let request: EnvelopeRequest = request.body()?;
            envelope(dispatcher, header, request, charge, &peer)
        }
        PrivateApiKey::Quorum
        | PrivateApiKey::Challenge
        | PrivateApiKey::Introduce
        | PrivateApiKey::ConfirmLeadership => Err(CloseReason::UnknownRequest),
    }
}

/// A client's request that another broker could not answer.
fn envelope(
    dispatcher: &Dispatcher,
    header: PrivateHeader,
    request: EnvelopeRequest,
    charge: Charge,
    peer: &Peer,
) -> Result<Started, CloseReason> {
    let status = dispatcher.broker().controller.status().borrow().clone();
    if !status.leads {
        let error = ControllerUnavailable::NotController { controller: status.controller, epoch: status.epoch };
        let response = EnvelopeResponse { controller: refusal(&error), ..EnvelopeResponse::default() };
        return Ok(Started::Finished(Finished::Reply(reply(header, &response)?)));
    }
    if request.principal.len() > LONGEST_PRINCIPAL {
        return Err(CloseReason::Malformed);
    }
    let address = request.client_address.parse().map_err(|_| CloseReason::Malformed)?;
    let mut client = Peer::new(Arc::from(&*request.listener), address, peer.stopping.clone());
    client.principal = Arc::from(&*request.principal);
    let frame = Frame { bytes: request.request.unwrap_or_default(), charge };
    let inbound = match dispatcher.receive(frame, &client) {
        // What any broker answers does not come in an envelope: so no envelope leads to another.
        Ok(inbound) if is_for_the_controller(inbound.header.key) => inbound,
        _ => return Err(CloseReason::Malformed),
    };
    let dispatcher = dispatcher.clone();
    let started = dispatcher.execute(inbound, &client);
    Ok(Started::Waiting(Box::pin(async move {
        let finished = match started {
            Started::Finished(finished) => finished,
            Started::Waiting(future) => future.await,
        };
        let response = match finished {
            Finished::Reply(reply) | Finished::LastReply(reply, _) => {
                let mut bytes = Vec::with_capacity(reply.segments.iter().map(Segment::len).sum());
                for segment in &reply.segments {
                    match segment {
                        Segment::Bytes(part) => bytes.extend_from_slice(part),
                        Segment::File(_) => unreachable!("only Fetch is answered from files, and it is not forwarded"),
                    }
                }
                Some(Bytes::from(bytes).slice(frame::SIZE_LENGTH..))
            }
            Finished::Nothing | Finished::Close(_) => None,
        };
        // The handler has waited until this broker had applied what it answers: the answer depends on nothing beyond.
        let end = *dispatcher.broker().applied().borrow();
        let epoch = dispatcher.broker().controller.status().borrow().epoch;
        let response = EnvelopeResponse { controller: answer(epoch, end), response };
        reply(header, &response).map_or_else(Finished::Close, Finished::Reply)
    })))
}

/// Answers when the future has the response. The request's bytes stay charged until then.
fn waiting<M: Message>(
    header: PrivateHeader,
    charge: Charge,
    response: impl Future<Output = M> + Send + 'static,
) -> Started {
    Started::Waiting(Box::pin(async move {
        let response = response.await;
        drop(charge);
        reply(header, &response).map_or_else(Finished::Close, Finished::Reply)
    }))
}

type Outcome = Result<(ControllerAnswer, ControllerReply), ControllerUnavailable>;

async fn decide(broker: &Broker, command: Command) -> Outcome {
    let decided = broker.controller.decide(command).await?;
    Ok((answer(decided.epoch, decided.end), decided.reply))
}

fn answer(epoch: ControllerEpoch, end: Offset) -> ControllerAnswer {
    ControllerAnswer { controller_epoch: epoch, end_offset: end, ..ControllerAnswer::default() }
}

/// What is answered when there is no reply of the command's own kind.
fn without(outcome: Outcome) -> ControllerAnswer {
    match outcome {
        Err(error) => refusal(&error),
        Ok((controller, ControllerReply::FeatureLevelTooLow { needed, present })) => ControllerAnswer {
            error_code: ErrorCode::UnsupportedVersion.code(),
            needed_feature_level: needed,
            feature_level: present,
            ..controller
        },
        Ok((_, other)) => unreachable!("a command was answered with {other:?}"),
    }
}

fn refusal(error: &ControllerUnavailable) -> ControllerAnswer {
    let refuse = |code: ErrorCode| ControllerAnswer { error_code: code.code(), ..ControllerAnswer::default() };
    match error {
        ControllerUnavailable::NotController { controller, epoch } => ControllerAnswer {
            controller_id: controller.map_or(-1, |broker| broker.0),
            controller_epoch: *epoch,
            ..refuse(ErrorCode::NotController)
        },
        ControllerUnavailable::Stopped => refuse(ErrorCode::NotController),
        ControllerUnavailable::Busy => refuse(ErrorCode::ThrottlingQuotaExceeded),
        ControllerUnavailable::TimedOut => refuse(ErrorCode::RequestTimedOut),
    }
}
