// SPDX-License-Identifier: Apache-2.0
//! The active controller as one state machine: events in, effects out. It joins the image of the log's end, the
//! decisions, the sessions and the duties that nobody asks for; the caller owns log, network and clock.
//!
//! How to drive it:
//! 1. Make one when this broker begins to lead and its epoch record is committed (coordination rule 4), from the image
//!    of its whole log; drop it on stepping down, refusing (`NOT_CONTROLLER`) every ticket not yet answered.
//! 2. Hand it each [`Event`] as it comes, and do the [`Effect`]s in their order. [`Effect::Append`] is applied to the
//!    machine's image already: append it to the log as one batch under the controller's epoch and replicate it. If the
//!    append fails, drop the machine: its image is ahead of the log.
//! 3. When the commit point moves, say so ([`Event::Committed`]): replies that waited for it come out, errors included
//!    (rule 11).
//! 4. Ask [`ActiveController::next_tick`] after each event and send [`Event::Tick`] at that time.
//! 5. Sessions begin anew with each controller. If the former one was found dead when the Lease was taken, say so at once
//!    ([`Event::ConnectionLost`]): else its partitions wait for the end of its new session.
//!
//! Each event is worked off at once; only replies wait, at most [`MAX_WAITING`] of them.

use std::collections::VecDeque;

use odradek_model::{BrokerId, ControllerEpoch, Offset, Timestamp};

use super::sessions::{Heartbeat, HeartbeatReply, MonotonicMs, Probe, Sessions, StaleHeartbeat, StateChange};
use super::stop_proof::logs_after_stop;
use super::transition::{Before, Cause};
use super::{
    AlterPartitionRefusal, BrokerState, ChangeBrokerState, Command, ControllerSettings, Decision, Progress,
    RegisterBrokerError, Reply, decide,
};
use crate::{Image, Record};

/// Replies that may wait for the commit point. Each is one request of a client or broker: so many are seconds of work
/// of a controller whose commits take milliseconds.
pub const MAX_WAITING: usize = 4096;
/// Decisions of one event, when one batch cannot hold all: 100,000 changes each, for more partitions than a cluster has.
const MAX_REPEATS: usize = 64;
/// Between looks for leaders that are not the preferred ones, for partitions without one, and for internal topics
/// (`leader.imbalance.check.interval.seconds` and `unclean.leader.election.interval.ms` are as long in Kafka).
const LOOK_AFTER_INTERVAL_MS: i64 = 300_000;
/// After a broker was unfenced: long enough for those that start together to be counted together.
const AFTER_JOIN_MS: i64 = 5_000;
/// After settings were changed: long enough for one look to serve the several requests of one administrator.
const AFTER_SETTINGS_MS: i64 = 5_000;
/// An event that comes so much later than the tick it should have waited for: this process was paused. More than the
/// scheduling of a loaded machine, and well under a session.
const PAUSED_MS: i64 = 1_000;
/// When there is more to do than one look may do.
const AGAIN_MS: i64 = 1_000;

/// The caller's name for a request; it comes back with the answer.
pub type Ticket = u64;

/// What happens to the controller.
#[derive(Clone, PartialEq, Debug)]
pub enum Event {
    /// A command of a client or a broker. `RegisterBroker` is checked against the sessions first.
    Command(Ticket, Command),
    /// A broker is alive.
    Heartbeat(Ticket, Heartbeat),
    /// A connection with a broker was reset or refused.
    ConnectionLost(BrokerId),
    /// A probe was answered, or not.
    ProbeFinished {
        /// Which.
        probe: Probe,
        /// Whether the broker's process accepted it.
        answered: bool,
    },
    /// A new process of the broker holds its lock.
    BrokerReplaced(BrokerId),
    /// Everything below the offset is committed.
    Committed(Offset),
    /// The time of [`ActiveController::next_tick`] has come.
    Tick {
        /// Random: where placement begins.
        placement_seed: u64,
    },
}

/// What the caller does.
#[derive(PartialEq, Debug)]
pub enum Effect {
    /// Append the records as one batch.
    Append(Vec<Record>),
    /// Answer a command.
    Reply(Ticket, Reply),
    /// Answer a heartbeat.
    HeartbeatReply(Ticket, Result<HeartbeatReply, StaleHeartbeat>),
    /// Too many replies wait: refuse the request with an error after which it is sent again.
    Busy(Ticket),
    /// Ask the broker whether it still accepts connections, with a deadline of about half a second.
    Probe(Probe),
}

#[derive(Debug)]
struct Waiting {
    /// Everything below was read for the answer.
    end: Offset,
    effect: Effect,
}

/// The controller that leads. See the module.
#[derive(Debug)]
pub struct ActiveController {
    epoch: ControllerEpoch,
    image: Image,
    settings: ControllerSettings,
    sessions: Sessions,
    committed: Offset,
    /// By `end`, which never falls.
    waiting: VecDeque<Waiting>,
    look_after_at: MonotonicMs,
    /// When only leaderless partitions are looked at, as a setting may let them elect now.
    elect_leaderless_at: Option<MonotonicMs>,
    /// When the next event should be here at the latest.
    expected_at: MonotonicMs,
}

impl ActiveController {
    /// The controller of the epoch, over the image of its whole log, which is committed up to `committed`.
    pub fn new(
        epoch: ControllerEpoch,
        image: Image,
        committed: Offset,
        settings: ControllerSettings,
        session_timeout_ms: i64,
        now: MonotonicMs,
    ) -> Self {
        let sessions = Sessions::new(&image, session_timeout_ms, now);
        let look_after_at = now + AFTER_JOIN_MS;
        let expected_at = look_after_at;
        let waiting = VecDeque::new();
        let mut controller = Self {
            epoch,
            image,
            settings,
            sessions,
            committed,
            waiting,
            look_after_at,
            elect_leaderless_at: None,
            expected_at,
        };
        controller.expected_at = controller.next_tick();
        controller
    }

    /// The image of the log's end, committed or not: for this controller alone.
    pub fn image(&self) -> &Image {
        &self.image
    }

    /// When to send [`Event::Tick`].
    pub fn next_tick(&self) -> MonotonicMs {
        [self.sessions.next_expiry(&self.image), self.elect_leaderless_at]
            .into_iter()
            .flatten()
            .fold(self.look_after_at, MonotonicMs::min)
    }

    /// Works off an event. `now` is monotonic; `wall_ms` is the time of day.
    pub fn handle(&mut self, event: Event, now: MonotonicMs, wall_ms: Timestamp) -> Vec<Effect> {
        let late_ms = now - self.expected_at;
        if late_ms > PAUSED_MS {
            // The heartbeats of that time are waiting to be read behind this event.
            self.sessions.postpone(late_ms);
        }
        let mut effects = Vec::new();
        match event {
            Event::Command(ticket, _) if self.waiting.len() >= MAX_WAITING => effects.push(Effect::Busy(ticket)),
            Event::Heartbeat(ticket, heartbeat) if self.waiting.len() >= MAX_WAITING => {
                self.sessions.touch(&heartbeat, now);
                effects.push(Effect::Busy(ticket));
            }
            Event::Command(ticket, command) => {
                let about = self.about_a_broker(&command);
                let reply = self.command(&command, now, wall_ms, &mut effects);
                self.tell(about);
                self.answer(Effect::Reply(ticket, reply));
            }
            Event::Heartbeat(ticket, heartbeat) => {
                let outcome = self.sessions.heartbeat(&self.image, &heartbeat, now);
                let reply = outcome.map(|outcome| {
                    if let Some(change) = outcome.change {
                        self.change_state(change, now, wall_ms, &mut effects);
                    }
                    outcome.reply
                });
                self.answer(Effect::HeartbeatReply(ticket, reply));
            }
            Event::ConnectionLost(broker) => {
                effects.extend(self.sessions.suspect(&self.image, broker, now).map(Effect::Probe));
            }
            Event::ProbeFinished { probe, answered } => {
                if let Some(change) = self.sessions.probe_finished(&self.image, probe, answered, now) {
                    self.change_state(change, now, wall_ms, &mut effects);
                }
            }
            Event::BrokerReplaced(broker) => {
                self.sessions.replace(broker);
                self.fence_expired(now, wall_ms, &mut effects);
            }
            Event::Committed(offset) => {
                assert!(offset <= self.image.end_offset(), "nothing is committed that was not appended");
                self.committed = self.committed.max(offset);
            }
            Event::Tick { placement_seed } => {
                self.fence_expired(now, wall_ms, &mut effects);
                if now >= self.look_after_at {
                    self.look_after(placement_seed, now, wall_ms, &mut effects);
                } else if self.elect_leaderless_at.is_some_and(|at| now >= at) {
                    let reply = self.command(&Command::ElectLeaderless, now, wall_ms, &mut effects);
                    let again = reply == Reply::Progress(Progress::AskAgain);
                    self.elect_leaderless_at = again.then_some(now + AGAIN_MS);
                }
            }
        }
        while self.waiting.front().is_some_and(|waiting| waiting.end <= self.committed) {
            effects.extend(self.waiting.pop_front().map(|waiting| waiting.effect));
        }
        self.expected_at = self.next_tick().max(now);
        effects
    }

    /// Decides the command, again and again while one batch cannot hold all, and applies what follows.
    fn command(&mut self, command: &Command, now: MonotonicMs, wall_ms: Timestamp, effects: &mut Vec<Effect>) -> Reply {
        if let Command::RegisterBroker(registration) = command
            && let Err(error) = self.sessions.admit(&self.image, registration, now)
        {
            return Reply::RegisterBroker(Err(error));
        }
        if let Command::AlterPartition(proposal) = command {
            let admitted = if proposal.controller_epoch == self.epoch {
                self.sessions.admit_proposal(&self.image, proposal, now)
            } else {
                Err(AlterPartitionRefusal::Late(proposal.sequence))
            };
            if let Err(refusal) = admitted {
                return Reply::AlterPartition(Err(refusal));
            }
        }
        let mut repeats = 0;
        let reply = loop {
            let Decision { records, reply } = decide(&self.image, &self.settings, command, wall_ms);
            let again = matches!(
                reply,
                Reply::BrokerState(Ok(Progress::AskAgain))
                    | Reply::RegisterBroker(Err(RegisterBrokerError::HandingOver))
            );
            let did_something = !records.is_empty();
            self.append(records, effects);
            repeats += 1;
            if !again || !did_something || repeats == MAX_REPEATS {
                break reply;
            }
        };
        match command {
            Command::RegisterBroker(_) | Command::UnregisterBroker(_) => self.sessions.follow(&self.image, now),
            // A broker that joined may lead what prefers it, and hold more of the internal topics.
            Command::ChangeBrokerState(ChangeBrokerState { state: BrokerState::Unfenced, .. }) => {
                self.look_after_at = self.look_after_at.min(now + AFTER_JOIN_MS);
            }
            // Unclean elections may be allowed now. No other duty depends on settings: leaders that an administrator has
            // placed are not moved because a retention was changed.
            Command::AlterSettings(_) => {
                self.elect_leaderless_at.get_or_insert(now + AFTER_SETTINGS_MS);
            }
            _ => {}
        }
        reply
    }

    fn append(&mut self, records: Vec<Record>, effects: &mut Vec<Effect>) {
        for record in &records {
            if let Err(error) = self.image.apply_mut(self.epoch, record) {
                panic!("a decision does not fit the image it was made on: {error}");
            }
        }
        if !records.is_empty() {
            effects.push(Effect::Append(records));
        }
    }

    fn answer(&mut self, effect: Effect) {
        self.waiting.push_back(Waiting { end: self.image.end_offset(), effect });
    }

    fn fence_expired(&mut self, now: MonotonicMs, wall_ms: Timestamp, effects: &mut Vec<Effect>) {
        // One after another, each seeing what the one before did; no more than there are brokers.
        for _ in 0..self.image.brokers().count() {
            let Some(change) = self.sessions.expired(&self.image, now) else { break };
            self.change_state(change, now, wall_ms, effects);
        }
    }

    fn change_state(&mut self, change: StateChange, now: MonotonicMs, wall_ms: Timestamp, effects: &mut Vec<Effect>) {
        let StateChange { change, reason } = change;
        let before = Before::of(&self.image, change.broker_id);
        let cause = Cause::State(change.state, reason);
        self.command(&Command::ChangeBrokerState(change), now, wall_ms, effects);
        self.tell(Some((before, cause)));
    }

    /// If the command is one by which a broker comes or goes: the broker as it is, and what the log is to say.
    fn about_a_broker(&self, command: &Command) -> Option<(Before, Cause)> {
        match command {
            Command::RegisterBroker(registration) => {
                let before = self.image.broker(registration.broker_id).map(AsRef::as_ref);
                let cause = match before {
                    None => Cause::FirstRegistration,
                    Some(_) => Cause::Registration(logs_after_stop(&self.settings, before, registration)),
                };
                Some((Before::of(&self.image, registration.broker_id), cause))
            }
            Command::UnregisterBroker(command) => {
                Some((Before::of(&self.image, command.broker_id), Cause::Unregistration))
            }
            _ => None,
        }
    }

    fn tell(&self, about: Option<(Before, Cause)>) {
        if let Some(transition) = about.and_then(|(before, cause)| before.transition(&self.image, cause)) {
            transition.tell();
        }
    }

    fn look_after(&mut self, seed: u64, now: MonotonicMs, wall_ms: Timestamp, effects: &mut Vec<Effect>) {
        let duties =
            [Command::ElectLeaderless, Command::BalanceLeaders, Command::RaiseInternalTopics { placement_seed: seed }];
        let mut wait = LOOK_AFTER_INTERVAL_MS;
        for duty in duties {
            if self.command(&duty, now, wall_ms, effects) == Reply::Progress(Progress::AskAgain) {
                wait = AGAIN_MS;
            }
        }
        self.look_after_at = now + wait;
        self.elect_leaderless_at = None;
    }
}

#[cfg(test)]
mod tests;
