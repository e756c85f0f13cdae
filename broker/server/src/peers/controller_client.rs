// SPDX-License-Identifier: Apache-2.0
//! Asks the controller, wherever it is: in this process if this broker leads, else over the private connection to the
//! newest controller known. It must not know what a command does.
//!
//! A command that surely was not carried out is tried again until the deadline, also at the next controller. One that
//! may have been is tried again only if that does no harm. Answers of an epoch below the highest heard of are not
//! believed (coordination rule 11).
use std::future::Future;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use odradek_metadata::{
    AllocateProducerIds, AllocateProducerIdsError, AlterPartition, AlterPartitionReply, Command, Heartbeat,
    HeartbeatReply, MayStop, ProducerIdBlock, RegisterBroker, RegisterBrokerError, Reply, StaleHeartbeat, StopVerdict,
};
use odradek_model::{BrokerEpoch, BrokerId, ControllerEpoch};
use odradek_wire::private::{
    AllocateProducerIdsResponse, AlterPartitionResponse, BrokerHeartbeatResponse, ControllerAnswer, EnvelopeRequest,
    EnvelopeResponse, MayStopResponse, PeerRequest, RegisterBrokerResponse,
};
use odradek_wire::{ErrorCode, Request, Text, frame};
use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, timeout_at};

use super::{Lane, PeerError, Peers};
use crate::controller::{ControllerHandle, ControllerStatus, ControllerUnavailable};
use crate::net::Peer;
use crate::private::commands::{self, Impossible};

/// Pause before the next attempt, if nothing is heard of another controller meanwhile.
const PAUSE: Duration = Duration::from_millis(50);
/// Clients' requests on their way to the controller at once, each on a connection of its own so that none waits for the
/// commit of another. The controller decides one after the other, and a commit takes milliseconds: four keep it busy
/// over a round trip. It bounds the responses held, too.
const FORWARDED_AT_ONCE: u8 = 4;

/// Why the controller gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum ControllerClientError {
    /// It was surely not carried out.
    #[error("no controller took the request: {0}")]
    NotCarriedOut(String),
    /// It may have been carried out.
    #[error("it is not known whether the controller carried out the request: {0}")]
    Unknown(String),
    /// The cluster is not upgraded yet (`UNSUPPORTED_VERSION`, 35).
    #[error("the cluster has feature level {present}, {needed} is needed")]
    FeatureLevelTooLow {
        /// What the command needs.
        needed: u32,
        /// The cluster's.
        present: u32,
    },
    /// The answer makes no sense.
    #[error("the controller's answer has {0}")]
    Malformed(#[from] Impossible),
}

/// Whether a command that may have been carried out is sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Again {
    /// Twice is as good as once.
    Harmless,
    /// The caller decides.
    Never,
}

/// An answer of the epoch's controller.
type Answered<T> = (ControllerEpoch, T);

/// How an attempt ended.
enum Attempt<T> {
    Answered(ControllerEpoch, T),
    /// Surely not carried out; perhaps the asked one knows the controller.
    NotDone(String, Option<Answered<BrokerId>>),
    Unknown(String),
    Failed(ControllerClientError),
}

/// The way to the controller of the cluster.
#[derive(Debug)]
pub struct ControllerClient {
    here: ControllerHandle,
    peers: Arc<Peers>,
    /// The highest epoch of an answer.
    heard: AtomicI64,
    forwarding: Semaphore,
    /// Lanes without a request.
    free_lanes: Mutex<Vec<u8>>,
}

impl ControllerClient {
    /// Asks `here` when it leads, others by `peers`.
    pub fn new(here: ControllerHandle, peers: Arc<Peers>) -> Self {
        Self {
            here,
            peers,
            heard: AtomicI64::new(0),
            forwarding: Semaphore::new(usize::from(FORWARDED_AT_ONCE)),
            free_lanes: Mutex::new((0..FORWARDED_AT_ONCE).collect()),
        }
    }

    /// Whether this broker leads now.
    pub fn leads_here(&self) -> bool {
        self.here.status().borrow().leads
    }

    /// Registers this broker. The same again is answered the same.
    ///
    /// # Errors
    /// [`ControllerClientError`]
    pub async fn register(
        &self,
        command: &RegisterBroker,
        deadline: Duration,
    ) -> Result<Result<BrokerEpoch, RegisterBrokerError>, ControllerClientError> {
        let request = commands::register(command);
        let read = |response: &RegisterBrokerResponse| commands::read_registered(command, response);
        let here = || {
            self.decide(Command::RegisterBroker(command.clone()), |reply| match reply {
                Reply::RegisterBroker(registered) => Ok(registered),
                other => Err(other),
            })
        };
        self.ask(Lane::Control, Again::Harmless, deadline, here, &request, read).await.map(|(_, registered)| registered)
    }

    /// Says that this broker is alive, with the epoch of the controller that heard it.
    ///
    /// # Errors
    /// [`ControllerClientError`]
    pub async fn heartbeat(
        &self,
        heartbeat: &Heartbeat,
        deadline: Duration,
    ) -> Result<(ControllerEpoch, Result<HeartbeatReply, StaleHeartbeat>), ControllerClientError> {
        let request = commands::heartbeat(heartbeat);
        let read = |response: &BrokerHeartbeatResponse| commands::read_heard(heartbeat, response);
        let here = || async {
            match self.here.heartbeat(heartbeat.clone()).await {
                Ok((epoch, reply)) => Attempt::Answered(epoch, reply),
                Err(error) => unavailable(&error),
            }
        };
        self.ask(Lane::Heartbeat, Again::Harmless, deadline, here, &request, read).await
    }

    /// Proposes ISRs to the controller of [`AlterPartition::controller_epoch`], once: what is sent again needs another
    /// number, so it is the caller's to send.
    ///
    /// # Errors
    /// [`ControllerClientError`]
    pub async fn alter_partition(
        &self,
        command: &AlterPartition,
        deadline: Duration,
    ) -> Result<(ControllerEpoch, AlterPartitionReply), ControllerClientError> {
        let request = commands::alter(command);
        let read = |response: &AlterPartitionResponse| commands::read_altered(command, response);
        let here = || {
            self.decide(Command::AlterPartition(command.clone()), |reply| match reply {
                Reply::AlterPartition(altered) => Ok(altered),
                other => Err(other),
            })
        };
        self.ask(Lane::Control, Again::Never, deadline, here, &request, read).await
    }

    /// Gets a block of producer ids. One that was given and never arrived is lost.
    ///
    /// # Errors
    /// [`ControllerClientError`]
    pub async fn allocate_producer_ids(
        &self,
        command: &AllocateProducerIds,
        deadline: Duration,
    ) -> Result<Result<ProducerIdBlock, AllocateProducerIdsError>, ControllerClientError> {
        let request = commands::allocate(command);
        let read = |response: &AllocateProducerIdsResponse| commands::read_allocated(command, response);
        let here = || {
            self.decide(Command::AllocateProducerIds(command.clone()), |reply| match reply {
                Reply::AllocateProducerIds(block) => Ok(block),
                other => Err(other),
            })
        };
        self.ask(Lane::Control, Again::Harmless, deadline, here, &request, read).await.map(|(_, block)| block)
    }

    /// Asks which partitions would suffer if a broker stopped now; `None` if no such broker is registered.
    ///
    /// # Errors
    /// [`ControllerClientError`]
    pub async fn may_stop(
        &self,
        command: MayStop,
        deadline: Duration,
    ) -> Result<Option<StopVerdict>, ControllerClientError> {
        let request = commands::may_stop(command);
        let here = || {
            self.decide(Command::MayStop(command), |reply| match reply {
                Reply::MayStop(verdict) => Ok(verdict),
                other => Err(other),
            })
        };
        let read = commands::read_stop_verdict;
        self.ask(Lane::Question, Again::Harmless, deadline, here, &request, read).await.map(|(_, verdict)| verdict)
    }

    /// Has another broker, the controller, answer a client's request: the frame as it came (without its size), and the
    /// answer as it is to go back, with the end of the metadata that it depends on.
    ///
    /// # Errors
    /// [`ControllerClientError::NotCarriedOut`] also when this broker leads; nothing is tried again after that.
    pub async fn forward(
        &self,
        peer: &Peer,
        request: Bytes,
        deadline: Duration,
    ) -> Result<Forwarded, ControllerClientError> {
        let envelope = EnvelopeRequest {
            principal: Text::from(&*peer.principal),
            listener: Text::from(&*peer.listener),
            client_address: Text::from(peer.address.to_string()),
            request: Some(request),
        };
        let until = Instant::now() + deadline;
        let late = || ControllerClientError::NotCarriedOut("too many requests are on their way to it".to_owned());
        let permit = timeout_at(until, self.forwarding.acquire()).await.map_err(|_| late())?;
        // Never closed; and there are as many lanes as permits.
        let _permit = permit.expect("the semaphore is never closed");
        let lane = FreeLane::take(&self.free_lanes);
        let left = until.saturating_duration_since(Instant::now());
        let here = || async {
            Attempt::<Forwarded>::Failed(ControllerClientError::NotCarriedOut("it is this broker itself".to_owned()))
        };
        let read = |response: &EnvelopeResponse| {
            Ok(Forwarded { response: response.response.clone(), end: response.controller.end_offset })
        };
        let asked = self.ask(Lane::Forwarding(lane.number), Again::Never, left, here, &envelope, read);
        asked.await.map(|(_, forwarded)| forwarded)
    }

    /// Asks another broker, the controller, as a client would, in the request's newest version.
    ///
    /// # Errors
    /// As [`ControllerClient::forward`].
    pub async fn request<R: Request>(
        &self,
        peer: &Peer,
        request: &R,
        deadline: Duration,
    ) -> Result<(R::Response, odradek_model::Offset), ControllerClientError> {
        let version = R::MAX_VERSION;
        let header = odradek_wire::RequestHeader { key: R::KEY, version, correlation_id: 0, client_id: None };
        let impossible = |what| ControllerClientError::Malformed(Impossible(what));
        let segments = frame::encode_request(&header, request).map_err(|_| impossible("request"))?;
        let bytes = Bytes::from(segments.concat()).slice(frame::SIZE_LENGTH..);
        let Forwarded { response, end } = self.forward(peer, bytes, deadline).await?;
        let response = response.ok_or(impossible("missing response"))?;
        let (_, body) =
            frame::decode_response(response, R::KEY, version).map_err(|_| impossible("response that is none"))?;
        Ok((body, end))
    }

    async fn decide<T>(&self, command: Command, read: impl FnOnce(Reply) -> Result<T, Reply>) -> Attempt<T> {
        match self.here.decide(command).await {
            Ok(decided) => match read(decided.reply) {
                Ok(reply) => Attempt::Answered(decided.epoch, reply),
                Err(Reply::FeatureLevelTooLow { needed, present }) => {
                    Attempt::Failed(ControllerClientError::FeatureLevelTooLow { needed, present })
                }
                Err(other) => unreachable!("a command was answered with {other:?}"),
            },
            Err(error) => unavailable(&error),
        }
    }

    /// Attempts until there is an answer or the deadline passes.
    async fn ask<T, F, R>(
        &self,
        lane: Lane,
        again: Again,
        deadline: Duration,
        here: impl Fn() -> F,
        request: &R,
        read: impl Fn(&R::Response) -> Result<T, Impossible>,
    ) -> Result<Answered<T>, ControllerClientError>
    where
        F: Future<Output = Attempt<T>>,
        R: PeerRequest<Response: HasControllerAnswer>,
    {
        let until = Instant::now() + deadline;
        let mut status = self.here.status();
        let mut hint: Option<Answered<BrokerId>> = None;
        loop {
            let seen = status.borrow_and_update().clone();
            let known = seen.controller.map(|controller| (seen.epoch, controller));
            let target = later(known, hint.take());
            let attempt = if seen.leads {
                let abandoned = || Attempt::Unknown("no decision within the deadline".to_owned());
                timeout_at(until, here()).await.unwrap_or_else(|_| abandoned())
            } else if let Some((epoch, controller)) =
                target.filter(|(_, id)| *id != self.peers.identity().holder.broker_id)
            {
                let left = until.saturating_duration_since(Instant::now());
                tokio::select! {
                    biased;
                    answer = self.peers.call(controller, lane, request, left) => self.judge(answer, &read),
                    // Who waits for one that is controller no more would wait for nothing.
                    () = later_controller(&mut status, epoch) => {
                        Attempt::Unknown(format!("broker {controller} is controller no more"))
                    }
                }
            } else {
                Attempt::NotDone("no controller is known".to_owned(), None)
            };
            let error = match attempt {
                Attempt::Answered(epoch, answer) => return Ok((epoch, answer)),
                Attempt::Failed(error) => return Err(error),
                Attempt::NotDone(why, other) => {
                    hint = other.filter(|(epoch, _)| *epoch >= seen.epoch);
                    ControllerClientError::NotCarriedOut(why)
                }
                Attempt::Unknown(why) if again == Again::Harmless => ControllerClientError::Unknown(why),
                Attempt::Unknown(why) => return Err(ControllerClientError::Unknown(why)),
            };
            let pause = (Instant::now() + PAUSE).min(until);
            if hint.is_none() {
                // An error means that the node has stopped; then the pause is all there is.
                if let Ok(Err(_)) = timeout_at(pause, status.changed()).await {
                    tokio::time::sleep_until(pause).await;
                }
            } else {
                tokio::time::sleep_until(pause).await;
            }
            if Instant::now() >= until {
                return Err(error);
            }
        }
    }

    fn judge<T, R: HasControllerAnswer>(
        &self,
        answer: Result<R, PeerError>,
        read: impl Fn(&R) -> Result<T, Impossible>,
    ) -> Attempt<T> {
        let response = match answer {
            Ok(response) => response,
            Err(error) if error.may_have_arrived() => return Attempt::Unknown(error.to_string()),
            Err(error) => return Attempt::NotDone(error.to_string(), None),
        };
        let controller = response.controller_answer();
        let epoch = controller.controller_epoch;
        match ErrorCode::from_code(controller.error_code) {
            Some(ErrorCode::None) => {
                let heard = self.heard.fetch_max(epoch, Ordering::Relaxed).max(self.here.status().borrow().epoch);
                if epoch < heard {
                    let what = format!("the answer is of epoch {epoch}, and {heard} was heard of");
                    return Attempt::Unknown(what);
                }
                match read(&response) {
                    Ok(answer) => Attempt::Answered(epoch, answer),
                    Err(impossible) => Attempt::Failed(impossible.into()),
                }
            }
            Some(ErrorCode::NotController) => {
                let other = (controller.controller_id >= 0).then_some((epoch, BrokerId(controller.controller_id)));
                Attempt::NotDone("the broker asked is not the controller".to_owned(), other)
            }
            Some(ErrorCode::ThrottlingQuotaExceeded) => Attempt::NotDone("the controller is busy".to_owned(), None),
            Some(ErrorCode::RequestTimedOut) => Attempt::Unknown("the controller gave no answer in time".to_owned()),
            Some(ErrorCode::UnsupportedVersion) => Attempt::Failed(ControllerClientError::FeatureLevelTooLow {
                needed: controller.needed_feature_level,
                present: controller.feature_level,
            }),
            _ => Attempt::Failed(Impossible("error code").into()),
        }
    }
}

/// The controller's answer to a client's request.
#[derive(Debug)]
pub struct Forwarded {
    /// Header and body; `None` closes the client's connection.
    pub response: Option<Bytes>,
    /// Everything that it depends on stands below.
    pub end: odradek_model::Offset,
}

fn unavailable<T>(error: &ControllerUnavailable) -> Attempt<T> {
    let why = error.to_string();
    match error {
        ControllerUnavailable::Busy | ControllerUnavailable::Stopped => Attempt::NotDone(why, None),
        // It may have led when it began.
        ControllerUnavailable::NotController { .. } | ControllerUnavailable::TimedOut => Attempt::Unknown(why),
    }
}

/// Returns when a controller of a later epoch is known.
async fn later_controller(status: &mut watch::Receiver<ControllerStatus>, epoch: ControllerEpoch) {
    if status.wait_for(|now| now.epoch > epoch && now.controller.is_some()).await.is_err() {
        // The node has stopped: nothing is heard any more.
        std::future::pending::<()>().await;
    }
}

/// The controller of the later epoch.
fn later(known: Option<Answered<BrokerId>>, hint: Option<Answered<BrokerId>>) -> Option<Answered<BrokerId>> {
    known.into_iter().chain(hint).reduce(|known, hint| if hint.0 > known.0 { hint } else { known })
}

/// A lane that is this request's alone.
struct FreeLane<'a> {
    number: u8,
    free: &'a Mutex<Vec<u8>>,
}

impl<'a> FreeLane<'a> {
    /// # Panics
    /// If there is none: who has a permit has a lane.
    fn take(free: &'a Mutex<Vec<u8>>) -> Self {
        let number = free.lock().unwrap_or_else(PoisonError::into_inner).pop();
        Self { number: number.expect("there is a lane for each permit"), free }
    }
}

impl Drop for FreeLane<'_> {
    fn drop(&mut self) {
        self.free.lock().unwrap_or_else(PoisonError::into_inner).push(self.number);
    }
}

/// A response of a controller.
trait HasControllerAnswer {
    fn controller_answer(&self) -> &ControllerAnswer;
}

macro_rules! has_controller_answer {
    ($($response:ident),*) => {$(
        impl HasControllerAnswer for $response {
            fn controller_answer(&self) -> &ControllerAnswer {
                &self.controller
            }
        }
    )*};
}

has_controller_answer!(
    RegisterBrokerResponse,
    BrokerHeartbeatResponse,
    AlterPartitionResponse,
    AllocateProducerIdsResponse,
    MayStopResponse,
    EnvelopeResponse
);
