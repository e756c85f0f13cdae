// SPDX-License-Identifier: Apache-2.0
//! What other brokers ask and tell this one, on the private listener: their introduction first, then messages of the
//! quorum, leaders' questions whether they still lead, and for the controller registrations, heartbeats, proposals of
//! ISRs, and clients' requests in envelopes.
//!
//! Whoever is not introduced is heard with Kafka's own requests only, as the operator is; so is a broker that speaks for
//! another. Every message is bounded by its frame, whose bytes are charged until it is answered. It must not know what
//! a command does.
pub(crate) mod authentication;
pub(crate) mod commands;
mod for_the_controller;
pub(crate) mod leadership;
pub(crate) mod quorum_messages;

use odradek_metadata::MAX_BATCH_BYTES;
use odradek_wire::private::{
    ChallengeRequest, ChallengeResponse, IntroduceRequest, IntroduceResponse, PrivateApiKey, PrivateHeader,
    QuorumMessage,
};
use odradek_wire::{DecodeError, Decoder, ErrorCode, Message};

use crate::dispatch::Dispatcher;
use crate::net::frame::Frame;
use crate::net::introduction::Introduced;
use crate::net::{CloseReason, Finished, Peer, Reply, Started};
use authentication::Refusal;
use quorum_messages::QuorumMessageError;

/// The listener on which brokers and the operator speak. No other takes private messages.
pub const PRIVATE_LISTENER: &str = "private";

/// Largest message of the quorum: one batch of the metadata log may exceed what is asked for, and the rest is small.
const LARGEST_QUORUM_FRAME: usize = MAX_BATCH_BYTES + (1 << 20);

/// Starts a private request.
pub(crate) fn start(dispatcher: &Dispatcher, frame: Frame, peer: &Peer) -> Started {
    match begin(dispatcher, frame, peer) {
        Ok(started) => started,
        Err(reason) => Started::Finished(Finished::Close(reason)),
    }
}

fn begin(dispatcher: &Dispatcher, frame: Frame, peer: &Peer) -> Result<Started, CloseReason> {
    if *peer.listener != *PRIVATE_LISTENER {
        return Err(CloseReason::UnknownRequest);
    }
    let bytes = frame.bytes.len();
    let mut decoder = Decoder::new(frame.bytes);
    let header = PrivateHeader::decode(&mut decoder).map_err(|error| {
        tracing::debug!(address = %peer.address, %error, "unknown private request");
        CloseReason::UnknownRequest
    })?;
    if !header.key.has_version(header.version) {
        return Err(CloseReason::UnknownRequest);
    }
    dispatcher.broker().metrics.request(header.key.code());
    let request = PrivateRequest { header, decoder, peer };
    match header.key {
        PrivateApiKey::Challenge => return challenge(dispatcher, request),
        PrivateApiKey::Introduce => return introduce(dispatcher, request),
        _ => {}
    }
    let introduced = peer.introduced().ok_or(CloseReason::NotIntroduced)?;
    match header.key {
        PrivateApiKey::Quorum if bytes > LARGEST_QUORUM_FRAME => Err(CloseReason::BadSize),
        PrivateApiKey::Quorum => quorum(dispatcher, request, introduced),
        PrivateApiKey::ConfirmLeadership => leadership::confirm(dispatcher.broker(), request),
        _ => for_the_controller::begin(dispatcher, request, frame.charge, introduced),
    }
}

/// A request whose header is read.
struct PrivateRequest<'a> {
    header: PrivateHeader,
    decoder: Decoder,
    peer: &'a Peer,
}

impl PrivateRequest<'_> {
    /// Reads the body, which must fill the frame.
    fn body<M: Message>(mut self) -> Result<M, CloseReason> {
        let read = M::decode(&mut self.decoder, self.header.version);
        read.and_then(|body| self.decoder.finish().map(|()| body)).map_err(|error: DecodeError| {
            let key = self.header.key.name();
            tracing::debug!(address = %self.peer.address, key, %error, "malformed private request");
            CloseReason::Malformed
        })
    }
}

/// The frame that answers a request.
fn reply<M: Message>(header: PrivateHeader, response: &M) -> Result<Reply, CloseReason> {
    let segments = header.encode_response(response).map_err(|error| {
        // We put something into the answer that cannot be said: our mistake, one broker's loss.
        tracing::error!(key = header.key.name(), %error, "cannot encode an answer");
        CloseReason::Malformed
    })?;
    Ok(Reply { segments: segments.into_iter().map(Into::into).collect(), charge: None })
}

fn challenge(dispatcher: &Dispatcher, request: PrivateRequest<'_>) -> Result<Started, CloseReason> {
    let (header, peer) = (request.header, request.peer);
    let ChallengeRequest {} = request.body()?;
    let challenge = dispatcher.broker().random.uuid();
    peer.introduction.challenged(challenge);
    Ok(Started::Finished(Finished::Reply(reply(header, &ChallengeResponse { challenge })?)))
}

fn introduce(dispatcher: &Dispatcher, request: PrivateRequest<'_>) -> Result<Started, CloseReason> {
    let (header, peer) = (request.header, request.peer);
    let body: IntroduceRequest = request.body()?;
    let unasked = || Refusal { code: ErrorCode::InvalidRequest, message: "there is no challenge".to_owned() };
    let twice = || Refusal { code: ErrorCode::InvalidRequest, message: "this connection is introduced".to_owned() };
    let judged = peer.introduction.take_challenge().ok_or_else(unasked);
    let judged = judged.and_then(|challenge| dispatcher.broker().peers.identity().judge(&body, challenge));
    let accepted = judged.and_then(|(introduced, proof)| {
        tracing::debug!(address = %peer.address, broker = %introduced.holder, "introduced");
        if peer.introduction.accept(introduced) { Ok(proof) } else { Err(twice()) }
    });
    match accepted {
        Ok(proof) => {
            let response = IntroduceResponse { proof, ..IntroduceResponse::default() };
            Ok(Started::Finished(Finished::Reply(reply(header, &response)?)))
        }
        Err(Refusal { code, message }) => {
            // Strangers can cause it: the listener's warning, which is rationed, and the answer say it.
            tracing::debug!(
                address = %peer.address, broker = body.broker_id, error = code.name(), message,
                "the introduction of a broker is refused"
            );
            let response = IntroduceResponse {
                error_code: code.code(),
                error_message: Some(message.into()),
                ..IntroduceResponse::default()
            };
            let last = Finished::LastReply(reply(header, &response)?, CloseReason::IntroductionRefused);
            Ok(Started::Finished(last))
        }
    }
}

fn quorum(
    dispatcher: &Dispatcher,
    request: PrivateRequest<'_>,
    introduced: &Introduced,
) -> Result<Started, CloseReason> {
    let address = request.peer.address;
    let wire: QuorumMessage = request.body()?;
    let message = match quorum_messages::decode(wire) {
        Ok(message) => message,
        // Of a later version: the protocol does without.
        Err(error @ QuorumMessageError::Unknown) => {
            tracing::debug!(%address, %error);
            return Ok(Started::Finished(Finished::Nothing));
        }
        Err(error @ QuorumMessageError::Impossible(_)) => {
            tracing::debug!(%address, %error);
            return Err(CloseReason::Malformed);
        }
    };
    if message.sender != introduced.holder || message.directory_id != introduced.directory_id {
        return Err(CloseReason::NotIntroduced);
    }
    dispatcher.broker().controller.received(message);
    Ok(Started::Finished(Finished::Nothing))
}
