// SPDX-License-Identifier: Apache-2.0
//! The thread of the metadata node: it takes what is in the inbox, one at a time, and wakes the node when it is time.
//! It alone touches the metadata log, so it may wait for the disk. It must not decide anything.
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use odradek_coordination::quorum;
use odradek_disk::Gate;
use odradek_metadata::{Image, Ticket};
use odradek_server::clock::{Clock, Random};
use odradek_server::controller::{
    AnswerTo, Ask, ControllerHandle, ControllerInbox, ControllerStatus, ControllerUnavailable, Decided,
    HeartbeatAnswer, Inbox, QuorumNetwork,
};
use odradek_server::failure::Failure;
use tokio::sync::{oneshot, watch};

use super::lease::LeaseCalls;
use super::node::{Effect, Input, MetadataNode, Moment};
use crate::incarnation::spawn_thread;
use crate::recovery_order::RecoveryOrder;

/// The longest sleep; the node always wants to be woken before.
const LONGEST_SLEEP: Duration = Duration::from_hours(1);
/// How long a clean stop waits until the Lease is given back: the node itself gives up after 2 s, and the Lease answers
/// within 2 s.
const HAND_OVER_DEADLINE: Duration = Duration::from_secs(5);

/// What the thread works with.
#[derive(Debug)]
pub(crate) struct NodeParts {
    pub(crate) node: MetadataNode,
    pub(crate) inbox: ControllerInbox,
    /// By which outcomes come back.
    pub(crate) handle: ControllerHandle,
    pub(crate) lease: Box<dyn LeaseCalls>,
    pub(crate) network: Arc<dyn QuorumNetwork>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) random: Arc<dyn Random>,
    /// Where committed images go; only the newest counts.
    pub(crate) images: watch::Sender<Arc<Image>>,
    pub(crate) failure: Arc<Failure>,
    /// The order to recover without voters, if there is one.
    pub(crate) order: Option<RecoveryOrder>,
    /// Where the thread waits while its broker is paused, and ends when that is killed.
    pub(crate) gate: Arc<Gate>,
}

/// Starts the thread.
///
/// # Errors
/// If the system gives no thread.
pub(crate) fn spawn(parts: NodeParts) -> std::io::Result<()> {
    spawn_thread("metadata", move || NodeThread::new(parts).run())
}

struct NodeThread {
    parts: NodeParts,
    started: Instant,
    next_ticket: Ticket,
    commands: BTreeMap<Ticket, AnswerTo<Decided>>,
    heartbeats: BTreeMap<Ticket, AnswerTo<HeartbeatAnswer>>,
    /// Who waits for the end, and until when at the latest.
    stopping: Option<(oneshot::Sender<()>, Instant)>,
    is_over: bool,
}

impl NodeThread {
    fn new(parts: NodeParts) -> Self {
        Self {
            parts,
            started: Instant::now(),
            next_ticket: 0,
            commands: BTreeMap::new(),
            heartbeats: BTreeMap::new(),
            stopping: None,
            is_over: false,
        }
    }

    fn run(mut self) {
        self.step(Input::Tick);
        while !self.is_over {
            let until_wake = Duration::from_millis(self.parts.node.wake_at().saturating_sub(self.now_ms()));
            let until_end = self.stopping.as_ref().map_or(LONGEST_SLEEP, |(_, by)| by.duration_since(Instant::now()));
            let next = self.parts.inbox.next(until_wake.min(until_end));
            // After the wait, in which the broker may have been paused or killed.
            if self.parts.gate.wait().is_err() {
                break;
            }
            match next {
                Inbox::Ask(ask) => self.take(ask),
                Inbox::Nothing | Inbox::Closed => {}
            }
            if self.parts.node.wake_at() <= self.now_ms() {
                self.step(Input::Tick);
            }
            if let Some((_, by)) = &self.stopping
                && Instant::now() >= *by
            {
                tracing::warn!("the controller Lease was not given back in time; it is taken from this broker instead");
                self.is_over = true;
            }
        }
        self.end();
    }

    fn now_ms(&self) -> u64 {
        self.started.elapsed().as_millis() as u64
    }

    fn take(&mut self, ask: Ask) {
        match ask {
            Ask::Decide(command, answer) => {
                let ticket = self.ticket();
                self.commands.insert(ticket, answer);
                self.step(Input::Command(ticket, *command));
            }
            Ask::Heartbeat(heartbeat, answer) => {
                let ticket = self.ticket();
                self.heartbeats.insert(ticket, answer);
                self.step(Input::Heartbeat(ticket, heartbeat));
            }
            Ask::Quorum(input) => self.step(Input::Quorum(*input)),
            Ask::ConnectionLost(broker) => self.step(Input::ConnectionLost(broker)),
            Ask::ProbeFinished(probe, answered) => self.step(Input::ProbeFinished(probe, answered)),
            Ask::Stop { hand_over: true, done } => {
                self.stopping = Some((done, Instant::now() + HAND_OVER_DEADLINE));
                self.step(Input::Quorum(quorum::Input::Resign));
            }
            Ask::Stop { hand_over: false, done } => {
                self.stopping = Some((done, Instant::now()));
                self.is_over = true;
            }
        }
    }

    fn ticket(&mut self) -> Ticket {
        self.next_ticket += 1;
        self.next_ticket
    }

    fn step(&mut self, input: Input) {
        let (now_ms, wall_ms, seed) = (self.now_ms(), self.parts.clock.now_ms(), self.parts.random.number());
        for effect in self.parts.node.handle(Moment { now_ms, wall_ms, seed }, input) {
            self.carry_out(effect);
        }
        self.show();
    }

    fn carry_out(&mut self, effect: Effect) {
        let handle = self.parts.handle.clone();
        match effect {
            Effect::ReadLease(call) => self.parts.lease.read(Box::new(move |found| {
                handle.outcome(Ask::Quorum(Box::new(quorum::Input::LeaseRead(call, found))));
            })),
            Effect::WriteLease { call, base, change } => {
                let done = Box::new(move |outcome| {
                    handle.outcome(Ask::Quorum(Box::new(quorum::Input::LeaseWritten(call, outcome))));
                });
                self.parts.lease.write(base, change, done);
            }
            Effect::Send(to, message) => self.parts.network.send(to, message),
            Effect::ProbeMember(broker) => {
                let done = Box::new(move |alive| {
                    handle.outcome(Ask::Quorum(Box::new(quorum::Input::Probed(broker, alive))));
                });
                self.parts.network.probe(broker, done);
            }
            Effect::ProbeBroker(probe) => {
                let done = Box::new(move |answered| handle.outcome(Ask::ProbeFinished(probe, answered)));
                self.parts.network.probe(probe.broker_id, done);
            }
            Effect::Publish(image) => {
                self.parts.images.send_replace(image);
            }
            // Nobody listens any more if the client has gone.
            Effect::Reply(ticket, answer) => {
                let _ = self.commands.remove(&ticket).map(|waiting| waiting.send(answer));
            }
            Effect::HeartbeatReply(ticket, answer) => {
                let _ = self.heartbeats.remove(&ticket).map(|waiting| waiting.send(answer));
            }
            Effect::OrderIsOver => {
                if let Some(order) = self.parts.order.take() {
                    order.remove();
                }
            }
            Effect::Resigned => self.is_over |= self.stopping.is_some(),
            Effect::Stop(reason) => {
                self.parts.failure.fail(reason);
                self.is_over = true;
            }
        }
    }

    fn show(&self) {
        let member = self.parts.node.member();
        self.parts.inbox.show(ControllerStatus {
            epoch: member.controller.epoch,
            controller: member.controller.holder.map(|holder| holder.broker_id),
            leads: self.parts.node.leads(),
            commit_end: member.commit_end,
            voters: member.voters.len(),
            lease_answered_at: member.lease_answered_at.map(|at| self.started + Duration::from_millis(at)),
            lease_is_fallen: member.lease_is_fallen,
        });
    }

    /// Closes the log, then answers all that wait.
    fn end(self) {
        let Self { parts, commands, heartbeats, stopping, .. } = self;
        let NodeParts { node, inbox, .. } = parts;
        drop(node);
        inbox.show(ControllerStatus::default());
        for waiting in commands.into_values() {
            let _ = waiting.send(Err(ControllerUnavailable::Stopped));
        }
        for waiting in heartbeats.into_values() {
            let _ = waiting.send(Err(ControllerUnavailable::Stopped));
        }
        if let Some((done, _)) = stopping {
            let _ = done.send(());
        }
    }
}
