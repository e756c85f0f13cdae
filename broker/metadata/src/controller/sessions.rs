// SPDX-License-Identifier: Apache-2.0
//! Who is alive, as the active controller sees it (`BrokerHeartbeatManager` in Kafka): volatile state beside the image.
//!
//! A broker's state (fenced, unfenced, going to stop) is in the image; here is only when it was last heard, how much
//! metadata it has applied, and whether it is suspected. A change of state is a [`StateChange`] to be decided at once on
//! the controller's image. So the table may be lost with the controller: the next one begins a session for each unfenced
//! broker. Time is monotonic milliseconds, a parameter. Must not know how heartbeats travel.
//!
//! A broker is fenced when it was not heard for a session, or at once when a connection with it was reset and a probe
//! then failed, unless a heartbeat came in between: so the loss of a process does not wait for the session's end.

use std::collections::BTreeMap;

use odradek_model::{BrokerEpoch, BrokerId, Offset};
use thiserror::Error;

use super::{
    AlterPartition, AlterPartitionRefusal, BrokerState, ChangeBrokerState, RegisterBroker, RegisterBrokerError,
    StateReason,
};
use crate::{BrokerImage, Image};

/// Default of [`Sessions::new`]: shorter than Kafka's 9 s, as heartbeats (2 s) go to a peer in the same cluster and
/// three may be lost.
pub const SESSION_TIMEOUT_MS: i64 = 6000;

/// Monotonic time in milliseconds, from any start.
pub type MonotonicMs = i64;

/// A broker says that it is alive.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Heartbeat {
    /// The broker.
    pub broker_id: BrokerId,
    /// Its registration.
    pub broker_epoch: BrokerEpoch,
    /// The offset after the last record that it has applied.
    pub metadata_end: Offset,
    /// It does not want to lead or be in sync: it has not recovered yet, or its disk failed.
    pub wants_fence: bool,
    /// It wants to stop.
    pub wants_shutdown: bool,
}

/// What the broker is told, once the command that came with it (if any) is committed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HeartbeatReply {
    /// It has applied its own registration.
    pub caught_up: bool,
    /// It may neither lead nor be in sync.
    pub fenced: bool,
    /// It may end its process.
    pub may_stop: bool,
}

/// A broker's state is to change.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StateChange {
    /// The command.
    pub change: ChangeBrokerState,
    /// Why.
    pub reason: StateReason,
}

/// What follows from a heartbeat.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HeartbeatOutcome {
    /// To be decided first.
    pub change: Option<StateChange>,
    /// To be answered then.
    pub reply: HeartbeatReply,
}

/// The heartbeat is of no present registration: the broker registers anew (`STALE_BROKER_EPOCH`, 77).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[error("broker {0} is not registered with epoch {1}")]
pub struct StaleHeartbeat(pub BrokerId, pub BrokerEpoch);

/// A question to a suspected broker: does its process still accept connections? The answer, a refusal, or the end of a
/// short deadline comes back as [`Sessions::probe_finished`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Probe {
    /// The broker.
    pub broker_id: BrokerId,
    /// Its registration: the probe says nothing of the next.
    pub broker_epoch: BrokerEpoch,
    number: u64,
}

#[derive(Clone, Debug)]
struct Session {
    epoch: BrokerEpoch,
    heard_at: MonotonicMs,
    /// `None` before the first heartbeat.
    metadata_end: Option<Offset>,
    /// The probe under way.
    suspected: Option<u64>,
    /// Known to be over: a probe failed, and no heartbeat came since.
    ended: bool,
    /// Over for good: a new process of the broker holds its lock.
    replaced: bool,
    /// The highest number of its ISR proposals.
    proposal: Option<u64>,
}

/// The sessions of all registered brokers. One entry for each, so bounded by the image.
#[derive(Clone, Debug)]
pub struct Sessions {
    timeout_ms: i64,
    by_broker: BTreeMap<BrokerId, Session>,
    probes: u64,
}

impl Sessions {
    /// The table of a controller that begins to lead with this image: every registered broker was heard just now.
    pub fn new(image: &Image, timeout_ms: i64, now: MonotonicMs) -> Self {
        let mut sessions = Self { timeout_ms, by_broker: BTreeMap::new(), probes: 0 };
        sessions.follow(image, now);
        sessions
    }

    /// Forgets unregistered brokers and earlier registrations, and begins sessions of new ones. To be called after
    /// each decision that registers or unregisters; the other calls do it too.
    pub fn follow(&mut self, image: &Image, now: MonotonicMs) {
        self.by_broker.retain(|id, session| image.broker(*id).is_some_and(|broker| broker.epoch == session.epoch));
        for broker in image.brokers() {
            self.by_broker.entry(broker.id).or_insert(Session {
                epoch: broker.epoch,
                heard_at: now,
                metadata_end: None,
                suspected: None,
                ended: false,
                replaced: false,
                proposal: None,
            });
        }
    }

    /// Whether the registration may be decided: no other process of that broker has a live session.
    ///
    /// # Errors
    /// [`RegisterBrokerError::LiveSession`]
    pub fn admit(&self, image: &Image, command: &RegisterBroker, now: MonotonicMs) -> Result<(), RegisterBrokerError> {
        let other = image.broker(command.broker_id).filter(|broker| broker.incarnation != command.incarnation);
        match other {
            Some(broker) if self.is_live(broker, now) => Err(RegisterBrokerError::LiveSession(broker.id)),
            _ => Ok(()),
        }
    }

    /// A new process of the broker holds its lock: the registered one is over, whatever it still says.
    pub fn replace(&mut self, broker: BrokerId) {
        if let Some(session) = self.by_broker.get_mut(&broker) {
            session.ended = true;
            session.replaced = true;
        }
    }

    /// The controller itself was away for so long (paused, or without the processor): nobody is blamed for it.
    pub fn postpone(&mut self, by_ms: i64) {
        for session in self.by_broker.values_mut() {
            session.heard_at += by_ms;
        }
    }

    /// Notes that the broker is alive, and nothing else: for a heartbeat that cannot be worked off now.
    pub fn touch(&mut self, heartbeat: &Heartbeat, now: MonotonicMs) {
        let session = self.by_broker.get_mut(&heartbeat.broker_id);
        if let Some(session) = session.filter(|s| s.epoch == heartbeat.broker_epoch && !s.replaced) {
            session.heard_at = now;
            session.suspected = None;
            session.ended = false;
        }
    }

    /// Takes a heartbeat.
    ///
    /// # Errors
    /// [`StaleHeartbeat`]
    pub fn heartbeat(
        &mut self,
        image: &Image,
        heartbeat: &Heartbeat,
        now: MonotonicMs,
    ) -> Result<HeartbeatOutcome, StaleHeartbeat> {
        self.follow(image, now);
        let (id, epoch) = (heartbeat.broker_id, heartbeat.broker_epoch);
        let broker = image.broker(id).filter(|broker| broker.epoch == epoch).ok_or(StaleHeartbeat(id, epoch))?;
        let session = self.by_broker.get_mut(&id).expect("every registered broker has one");
        if session.replaced {
            return Err(StaleHeartbeat(id, epoch));
        }
        session.metadata_end = Some(heartbeat.metadata_end.max(session.metadata_end.unwrap_or(0)));
        self.touch(heartbeat, now);
        let caught_up = heartbeat.metadata_end > broker.registered_at;
        let next = self.next_state(image, broker, heartbeat, caught_up);
        let reply = HeartbeatReply {
            caught_up,
            fenced: match next.change {
                Some((BrokerState::Fenced, _)) => true,
                Some((BrokerState::Unfenced | BrokerState::ShuttingDown, _)) => false,
                None => broker.fenced,
            },
            may_stop: next.may_stop,
        };
        let change = next.change.map(|(state, reason)| change(broker, state, reason));
        Ok(HeartbeatOutcome { change, reply })
    }

    /// Whether a broker's ISR proposal may be decided: a later one was not. The answer for the highest number is the last
    /// word of this controller.
    ///
    /// # Errors
    /// [`AlterPartitionRefusal::Late`]
    pub fn admit_proposal(
        &mut self,
        image: &Image,
        command: &AlterPartition,
        now: MonotonicMs,
    ) -> Result<(), AlterPartitionRefusal> {
        self.follow(image, now);
        let session = self.by_broker.get_mut(&command.broker_id);
        let Some(session) = session.filter(|session| session.epoch == command.broker_epoch) else {
            // The decision refuses it.
            return Ok(());
        };
        match session.proposal {
            Some(latest) if latest >= command.sequence => Err(AlterPartitionRefusal::Late(latest)),
            _ => {
                session.proposal = Some(command.sequence);
                Ok(())
            }
        }
    }

    /// A connection with the broker was reset or refused. The probe to send, unless one is under way or the broker is
    /// fenced already.
    pub fn suspect(&mut self, image: &Image, broker: BrokerId, now: MonotonicMs) -> Option<Probe> {
        self.follow(image, now);
        let registered = image.broker(broker).filter(|broker| !broker.fenced)?;
        let session =
            self.by_broker.get_mut(&broker).filter(|session| session.suspected.is_none() && !session.ended)?;
        self.probes += 1;
        session.suspected = Some(self.probes);
        Some(Probe { broker_id: broker, broker_epoch: registered.epoch, number: self.probes })
    }

    /// How a probe ended. The change to decide if the broker is taken for dead: the probe failed, and no heartbeat
    /// came since it was suspected.
    pub fn probe_finished(
        &mut self,
        image: &Image,
        probe: Probe,
        answered: bool,
        now: MonotonicMs,
    ) -> Option<StateChange> {
        self.follow(image, now);
        let session = self.by_broker.get_mut(&probe.broker_id)?;
        if session.epoch != probe.broker_epoch || session.suspected != Some(probe.number) {
            return None;
        }
        session.suspected = None;
        if answered {
            return None;
        }
        session.ended = true;
        let broker = image.broker(probe.broker_id).filter(|broker| !broker.fenced)?;
        Some(change(broker, BrokerState::Fenced, StateReason::ProbeFailed))
    }

    /// The change that fences one broker whose session is over. One at a time, each decided before the next is asked
    /// for: so what the loss of one does is seen by the next decision.
    pub fn expired(&mut self, image: &Image, now: MonotonicMs) -> Option<StateChange> {
        self.follow(image, now);
        let broker = image.brokers().find(|broker| !broker.fenced && !self.is_live(broker, now))?;
        let session = self.by_broker.get(&broker.id)?;
        let reason = match (session.replaced, session.ended) {
            (true, _) => StateReason::Replaced,
            (false, true) => StateReason::ProbeFailed,
            (false, false) => StateReason::NotHeard { for_ms: now - session.heard_at },
        };
        Some(change(broker, BrokerState::Fenced, reason))
    }

    /// When [`Sessions::expired`] is to be asked next, if nobody is heard until then.
    pub fn next_expiry(&self, image: &Image) -> Option<MonotonicMs> {
        let unfenced = image.brokers().filter(|broker| !broker.fenced);
        unfenced
            .filter_map(|broker| self.by_broker.get(&broker.id))
            .map(|session| if session.ended { session.heard_at } else { session.heard_at + self.timeout_ms + 1 })
            .min()
    }

    fn is_live(&self, broker: &BrokerImage, now: MonotonicMs) -> bool {
        self.by_broker.get(&broker.id).is_some_and(|session| {
            session.epoch == broker.epoch && !session.ended && now - session.heard_at <= self.timeout_ms
        })
    }

    fn next_state(&self, image: &Image, broker: &BrokerImage, heartbeat: &Heartbeat, caught_up: bool) -> NextState {
        let stay = NextState { change: None, may_stop: false };
        if broker.fenced {
            return match (heartbeat.wants_shutdown, heartbeat.wants_fence) {
                (true, _) => NextState { change: None, may_stop: true },
                (false, false) if caught_up => {
                    NextState { change: Some((BrokerState::Unfenced, StateReason::CaughtUp)), may_stop: false }
                }
                _ => stay,
            };
        }
        let leads = image.leadership_count(broker.id) > 0;
        let stop_now = NextState { change: Some((BrokerState::Fenced, StateReason::Stops)), may_stop: true };
        if let Some(began_at) = broker.shutting_down_at {
            return if !leads && self.all_others_have(image, began_at) { stop_now } else { stay };
        }
        match (heartbeat.wants_fence, heartbeat.wants_shutdown) {
            (true, may_stop) => NextState { change: Some((BrokerState::Fenced, StateReason::CannotServe)), may_stop },
            (false, true) if leads => {
                NextState { change: Some((BrokerState::ShuttingDown, StateReason::Stops)), may_stop: false }
            }
            (false, true) => stop_now,
            (false, false) => stay,
        }
    }

    /// Whether every broker that serves clients has applied the record at the offset: then each knows the new leaders.
    fn all_others_have(&self, image: &Image, offset: Offset) -> bool {
        let active = image.brokers().filter(|broker| broker.is_active());
        active
            .map(|broker| self.by_broker.get(&broker.id))
            .all(|session| session.and_then(|session| session.metadata_end).is_some_and(|end| end > offset))
    }
}

struct NextState {
    change: Option<(BrokerState, StateReason)>,
    may_stop: bool,
}

fn change(broker: &BrokerImage, state: BrokerState, reason: StateReason) -> StateChange {
    let change = ChangeBrokerState { broker_id: broker.id, broker_epoch: broker.epoch, state };
    StateChange { change, reason }
}

#[cfg(test)]
mod tests;
