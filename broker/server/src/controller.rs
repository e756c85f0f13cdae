// SPDX-License-Identifier: Apache-2.0
//! The way to the metadata node of this process, which is the controller while its broker leads: what it is asked and
//! told, and what it needs of the network. One thread takes everything in order. It must not know requests.
//!
//! - [`ControllerHandle`]: for whoever asks. Nothing that it does waits for room in a queue: what finds none is refused
//!   ([`ControllerUnavailable::Busy`]) or, if the protocol repeats it, dropped.
//! - [`ControllerInbox`]: for the thread.
//! - [`QuorumNetwork`]: what the thread sends by.
use std::fmt::Debug;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use odradek_coordination::quorum::{Input, Message};
use odradek_metadata::{Command, Heartbeat, HeartbeatReply, Probe, Reply, StaleHeartbeat};
use odradek_model::{BrokerId, ControllerEpoch, Offset};
use tokio::sync::{oneshot, watch};

/// Commands and heartbeats that wait for the thread. Each command costs an fsync of a few ms: 256 is a second's work.
const WAITING_COMMANDS: usize = 256;
/// Messages and lost connections that wait for the thread. Members have one fetch under way each, so a cluster of 100
/// brokers has about as many messages at once; of large ones (an answer with records, 1 MiB) only the one that this
/// broker asked for.
const WAITING_MESSAGES: usize = 1024;
/// After so long nobody waits for a decision any more. Commits take milliseconds; a controller that has lost its voters
/// finds out within a session.
const DECISION_DEADLINE: Duration = Duration::from_secs(30);

/// A decision that is committed.
#[derive(Debug)]
pub struct Decided {
    /// What was decided.
    pub reply: Reply,
    /// By the controller of this epoch.
    pub epoch: ControllerEpoch,
    /// The end of the log that it was decided on: a broker that has applied so much sees what the reply says.
    pub end: Offset,
}

/// Why there is no decision.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ControllerUnavailable {
    /// This broker does not lead, or stopped leading before the decision was committed: then its fate is unknown.
    #[error("this broker is not the controller{}", newest(*.controller, *.epoch))]
    NotController {
        /// The newest one known.
        controller: Option<BrokerId>,
        /// Its epoch.
        epoch: ControllerEpoch,
    },
    /// Too much waits already. Nothing was done.
    #[error("the controller is busy; try again")]
    Busy,
    /// It has stopped.
    #[error("the controller has stopped")]
    Stopped,
    /// No decision within the deadline; it may yet come.
    #[error("the controller gave no answer in time")]
    TimedOut,
}

fn newest(controller: Option<BrokerId>, epoch: ControllerEpoch) -> String {
    controller.map(|broker| format!("; in epoch {epoch} that is broker {broker}")).unwrap_or_default()
}

/// What the node knows of the controller and of itself.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ControllerStatus {
    /// The highest epoch heard of.
    pub epoch: ControllerEpoch,
    /// The controller of that epoch, once known; it may not lead yet.
    pub controller: Option<BrokerId>,
    /// Whether it is this broker, and leads.
    pub leads: bool,
    /// Up to where metadata is known to be committed.
    pub commit_end: Offset,
    /// Voters of the metadata log.
    pub voters: usize,
    /// When the controller Lease last answered.
    pub lease_answered_at: Option<Instant>,
    /// Whether the Lease is missing, replaced or older than the logs (coordination rule 10).
    pub lease_is_fallen: bool,
}

impl ControllerStatus {
    /// Whether somebody who waits for another controller has to look again.
    fn is_news_after(&self, before: &Self) -> bool {
        (self.epoch, self.controller, self.leads) != (before.epoch, before.controller, before.leads)
    }
}

/// What the node sends by. No call blocks.
pub trait QuorumNetwork: Send + Sync + Debug {
    /// Sends a message, or drops it: the queue for each broker is bounded, and the protocol repeats.
    fn send(&self, to: BrokerId, message: Message);

    /// Tries to open a connection to the broker within 500 ms, and says whether its process accepted it.
    fn probe(&self, broker: BrokerId, done: Box<dyn FnOnce(bool) + Send>);
}

/// Where an answer goes. Nobody may listen any more.
pub type AnswerTo<T> = oneshot::Sender<Result<T, ControllerUnavailable>>;

/// The answer to a heartbeat, with the epoch of the controller that gave it.
pub type HeartbeatAnswer = (ControllerEpoch, Result<HeartbeatReply, StaleHeartbeat>);

/// What the node is asked and told.
#[derive(Debug)]
pub enum Ask {
    /// A command to decide.
    Decide(Box<Command>, AnswerTo<Decided>),
    /// A broker is alive.
    Heartbeat(Heartbeat, AnswerTo<HeartbeatAnswer>),
    /// Something for the quorum.
    Quorum(Box<Input>),
    /// A connection with the broker was refused or reset.
    ConnectionLost(BrokerId),
    /// How a probe of the sessions ended.
    ProbeFinished(Probe, bool),
    /// The end: close the log, then say that it is done.
    Stop {
        /// Hand the controller Lease over first, as a clean stop does.
        hand_over: bool,
        /// Told when it is done.
        done: oneshot::Sender<()>,
    },
}

/// A place in a queue, until the thread takes it.
#[derive(Debug)]
struct Place(Arc<AtomicUsize>);

impl Place {
    fn take(taken: &Arc<AtomicUsize>, places: usize) -> Option<Self> {
        let room = |n: usize| (n < places).then_some(n + 1);
        taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, room).ok().map(|_| Self(Arc::clone(taken)))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The way to the node. Clones lead to the same one.
#[derive(Debug, Clone)]
pub struct ControllerHandle {
    // Without a bound of its own: each kind has one, by places or by the calls that can be under way.
    queue: Sender<(Ask, Option<Place>)>,
    commands: Arc<AtomicUsize>,
    messages: Arc<AtomicUsize>,
    status: watch::Receiver<ControllerStatus>,
}

/// What the thread has.
#[derive(Debug)]
pub struct ControllerInbox {
    queue: Receiver<(Ask, Option<Place>)>,
    status: watch::Sender<ControllerStatus>,
}

/// A way to a node that is yet to be run.
pub fn channel() -> (ControllerHandle, ControllerInbox) {
    let (sender, receiver) = std::sync::mpsc::channel();
    let (shown, status) = watch::channel(ControllerStatus::default());
    let handle = ControllerHandle { queue: sender, commands: Arc::default(), messages: Arc::default(), status };
    (handle, ControllerInbox { queue: receiver, status: shown })
}

impl ControllerHandle {
    /// Decides here, if this broker is the active controller; answers once that is committed (coordination rule 11).
    ///
    /// # Errors
    /// [`ControllerUnavailable`]
    pub async fn decide(&self, command: Command) -> Result<Decided, ControllerUnavailable> {
        self.ask(|answer| Ask::Decide(Box::new(command), answer)).await
    }

    /// Takes a broker's heartbeat, if this broker is the active controller.
    ///
    /// # Errors
    /// [`ControllerUnavailable`]
    pub async fn heartbeat(&self, heartbeat: Heartbeat) -> Result<HeartbeatAnswer, ControllerUnavailable> {
        self.ask(|answer| Ask::Heartbeat(heartbeat, answer)).await
    }

    /// A quorum message from an authenticated peer. Dropped if too many wait: the protocol repeats.
    pub fn received(&self, message: Message) {
        self.tell_if_room(Ask::Quorum(Box::new(Input::Received(message))));
    }

    /// A connection to or from the broker was refused or reset.
    pub fn connection_lost(&self, broker: BrokerId) {
        self.tell_if_room(Ask::ConnectionLost(broker));
    }

    /// The outcome of a call that the node made, which is never dropped: each call has one, and few are under way.
    pub fn outcome(&self, ask: Ask) {
        let _ = self.queue.send((ask, None));
    }

    /// The newest controller known, to look at and to wait for.
    pub fn status(&self) -> watch::Receiver<ControllerStatus> {
        self.status.clone()
    }

    /// Ends the node and returns when its files are closed. A clean stop hands the Lease over, if this broker has it;
    /// without that it ends as if the process had died.
    pub async fn stop(&self, hand_over: bool) {
        let (done, is_done) = oneshot::channel();
        if self.queue.send((Ask::Stop { hand_over, done }, None)).is_ok() {
            let _ = is_done.await;
        }
    }

    fn ask<T, F: FnOnce(AnswerTo<T>) -> Ask>(
        &self,
        ask: F,
    ) -> impl Future<Output = Result<T, ControllerUnavailable>> + use<T, F> {
        let (answer, answered) = oneshot::channel();
        let asked = match Place::take(&self.commands, WAITING_COMMANDS) {
            None => Err(ControllerUnavailable::Busy),
            place => self.queue.send((ask(answer), place)).map_err(|_| ControllerUnavailable::Stopped),
        };
        async move {
            asked?;
            match tokio::time::timeout(DECISION_DEADLINE, answered).await {
                Err(_) => Err(ControllerUnavailable::TimedOut),
                Ok(answer) => answer.unwrap_or(Err(ControllerUnavailable::Stopped)),
            }
        }
    }

    fn tell_if_room(&self, ask: Ask) {
        if let place @ Some(_) = Place::take(&self.messages, WAITING_MESSAGES) {
            let _ = self.queue.send((ask, place));
        }
    }
}

/// What the thread found in its inbox.
#[derive(Debug)]
pub enum Inbox {
    /// The next thing asked or told.
    Ask(Ask),
    /// Nothing came in time.
    Nothing,
    /// Nobody can ask any more.
    Closed,
}

impl ControllerInbox {
    /// Waits for what is next, at most so long. Blocks.
    pub fn next(&self, at_most: Duration) -> Inbox {
        match self.queue.recv_timeout(at_most) {
            Ok((ask, _place)) => Inbox::Ask(ask),
            Err(RecvTimeoutError::Timeout) => Inbox::Nothing,
            Err(RecvTimeoutError::Disconnected) => Inbox::Closed,
        }
    }

    /// Shows what the node knows. Wakes those who wait only if the controller, its epoch or its leading changed.
    pub fn show(&self, status: ControllerStatus) {
        self.status.send_if_modified(|shown| {
            let news = status.is_news_after(shown);
            *shown = status;
            news
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heartbeat() -> Heartbeat {
        let broker_id = BrokerId(0);
        Heartbeat { broker_id, broker_epoch: 1, metadata_end: 0, wants_fence: false, wants_shutdown: false }
    }

    #[tokio::test]
    async fn what_finds_no_room_is_refused_at_once_and_outcomes_always_fit() {
        let (handle, inbox) = channel();
        let waiting: Vec<_> = (0..WAITING_COMMANDS).map(|_| handle.ask(|a| Ask::Heartbeat(heartbeat(), a))).collect();
        assert_eq!(handle.heartbeat(heartbeat()).await, Err(ControllerUnavailable::Busy));
        for _ in 0..2 * WAITING_MESSAGES {
            handle.connection_lost(BrokerId(1));
        }
        handle.outcome(Ask::Quorum(Box::new(Input::ImageLoaded)));
        let mut found = (0, 0, 0);
        while let Inbox::Ask(ask) = inbox.next(Duration::ZERO) {
            match ask {
                Ask::Heartbeat(_, answer) => {
                    found.0 += 1;
                    let _ = answer.send(Err(ControllerUnavailable::TimedOut));
                }
                Ask::ConnectionLost(_) => found.1 += 1,
                _ => found.2 += 1,
            }
        }
        assert_eq!(found, (WAITING_COMMANDS, WAITING_MESSAGES, 1));
        for waiting in waiting {
            assert_eq!(waiting.await, Err(ControllerUnavailable::TimedOut));
        }
        drop(inbox);
        assert_eq!(handle.heartbeat(heartbeat()).await, Err(ControllerUnavailable::Stopped));
    }

    #[test]
    fn only_another_controller_wakes_who_waits_for_one() {
        let (handle, inbox) = channel();
        let mut status = handle.status();
        let renewed = ControllerStatus { lease_answered_at: Some(Instant::now()), ..ControllerStatus::default() };
        inbox.show(renewed.clone());
        assert!(!status.has_changed().unwrap());
        assert_eq!(*status.borrow(), renewed);
        inbox.show(ControllerStatus { epoch: 1, ..renewed });
        assert!(status.has_changed().unwrap());
        assert_eq!(status.borrow_and_update().epoch, 1);
    }
}
