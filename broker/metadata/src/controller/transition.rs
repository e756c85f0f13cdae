// SPDX-License-Identifier: Apache-2.0
//! What the active controller's log says of a broker that comes or goes: which one, why, and what became of the
//! partitions that it led. For whoever is woken at night; nothing is decided by it.
//!
//! [`Before`] is taken before a decision, and what the decision made of it is a [`Transition`]: none if the broker is as
//! it was, so each is told once. It is told when it is decided: should the controller lose its place before the commit,
//! the next one decides again, and tells it again. Counts come from the image's indexes, so they cost nothing.

use std::fmt;
use std::sync::Arc;

use odradek_model::{BrokerEpoch, BrokerId};
use tracing::{info, warn};

use super::stop_proof::LogsAfterStop;
use super::{BrokerState, MonotonicMs};
use crate::{BrokerImage, Image};

/// Why a broker is to change its state.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StateReason {
    /// No heartbeat for longer than a session.
    NotHeard {
        /// For so long; pauses of the controller itself do not count.
        for_ms: MonotonicMs,
    },
    /// A connection with it was reset or refused, and a probe then failed.
    ProbeFailed,
    /// Another process of it holds the lock of its data folder.
    Replaced,
    /// It says that it cannot serve: it has not recovered, or its disk failed.
    CannotServe,
    /// It asked to stop.
    Stops,
    /// It has applied its own registration.
    CaughtUp,
}

impl fmt::Display for StateReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotHeard { for_ms } => write!(f, "its session expired: no heartbeat for {for_ms} ms"),
            Self::ProbeFailed => f.write_str("a connection with it broke, and then it did not accept a new one"),
            Self::Replaced => f.write_str("another process of it has the lock of its data folder"),
            Self::CannotServe => f.write_str("it says that it cannot serve: it is recovering, or its disk failed"),
            Self::Stops => f.write_str("it asked to stop"),
            Self::CaughtUp => f.write_str("it has applied the metadata up to its registration"),
        }
    }
}

/// What was decided about a broker.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Cause {
    /// It changes its state.
    State(BrokerState, StateReason),
    /// It registers for the first time.
    FirstRegistration,
    /// A new process of it registers.
    Registration(LogsAfterStop),
    /// An administrator forgets it.
    Unregistration,
}

/// A broker before the decision.
#[derive(Debug)]
pub(super) struct Before {
    id: BrokerId,
    broker: Option<Arc<BrokerImage>>,
    led: usize,
    leaderless: usize,
}

/// What became of a broker.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Transition {
    pub(super) id: BrokerId,
    /// Of its present registration, or of its last one.
    pub(super) epoch: BrokerEpoch,
    pub(super) cause: Cause,
    /// Whether it served until now, and does not any more.
    pub(super) fenced: bool,
    /// Partitions that it led and another broker leads now.
    pub(super) moved: usize,
    /// Partitions that it led and nobody leads now.
    pub(super) left_leaderless: usize,
    /// Partitions that nobody led and that have a leader now.
    pub(super) led_again: usize,
}

impl Before {
    /// As the image has it.
    pub(super) fn of(image: &Image, id: BrokerId) -> Self {
        Self {
            id,
            broker: image.broker(id).cloned(),
            led: image.leadership_count(id),
            leaderless: image.leaderless_count(),
        }
    }

    /// What the decision made of it; `None` if nothing that is told.
    pub(super) fn transition(&self, image: &Image, cause: Cause) -> Option<Transition> {
        let (before, after) = (self.broker.as_deref(), image.broker(self.id).map(AsRef::as_ref));
        let serves = |broker: Option<&BrokerImage>| broker.is_some_and(|broker| !broker.fenced);
        let state = |broker: Option<&BrokerImage>| {
            broker.map(|broker| (broker.epoch, broker.fenced, broker.shutting_down_at.is_some()))
        };
        if state(before) == state(after) {
            return None;
        }
        // A decision about one broker takes leaders from it or lets partitions without one try again; should an unclean
        // election give a leader in between, the counts are off by that one.
        let left_leaderless = image.leaderless_count().saturating_sub(self.leaderless);
        Some(Transition {
            id: self.id,
            epoch: after.or(before)?.epoch,
            cause,
            fenced: serves(before) && !serves(after),
            moved: self.led.saturating_sub(image.leadership_count(self.id)).saturating_sub(left_leaderless),
            left_leaderless,
            led_again: self.leaderless.saturating_sub(image.leaderless_count()),
        })
    }
}

impl Transition {
    /// One line: a warning if a broker stops serving that did not ask for it, or if partitions lose their leader.
    pub(super) fn tell(&self) {
        let Self { id, epoch, cause, fenced, moved, left_leaderless, led_again } = *self;
        let event = match cause {
            Cause::State(BrokerState::Fenced, _) => "a broker is fenced",
            Cause::State(BrokerState::Unfenced, _) => "a broker is unfenced",
            Cause::State(BrokerState::ShuttingDown, _) => "a broker begins its controlled shutdown",
            Cause::Registration(_) if fenced => {
                "a new process of a broker registers, and is fenced until it has caught up"
            }
            Cause::FirstRegistration => "a broker registers for the first time",
            Cause::Registration(_) => "a new process of a broker registers",
            Cause::Unregistration => "a broker is unregistered",
        };
        let reason = self.reason();
        let is_wanted = matches!(cause, Cause::State(_, StateReason::Stops) | Cause::Unregistration);
        if left_leaderless > 0 || (fenced && !is_wanted) {
            warn!(broker = %id, epoch, %reason, moved, left_leaderless, "{event}");
        } else if led_again > 0 {
            info!(broker = %id, epoch, %reason, led_again, "{event}");
        } else {
            info!(broker = %id, epoch, %reason, moved, "{event}");
        }
    }

    fn reason(&self) -> String {
        match self.cause {
            Cause::State(_, reason) => reason.to_string(),
            Cause::FirstRegistration => "no broker of that id was known".to_owned(),
            Cause::Registration(LogsAfterStop::Proven) => "it has what it had when it stopped".to_owned(),
            Cause::Registration(LogsAfterStop::Unproven) => {
                "it has its data folder, but may have lost what was not yet on the disk".to_owned()
            }
            Cause::Registration(LogsAfterStop::Lost) => {
                "its data folder is new: whatever it held before counts as lost".to_owned()
            }
            Cause::Unregistration => "an administrator said that it is gone for good".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use odradek_model::BrokerId;

    use super::super::scenarios::Cluster;
    use super::*;

    const EXPIRED: Cause = Cause::State(BrokerState::Fenced, StateReason::NotHeard { for_ms: 6001 });
    const CAUGHT_UP: Cause = Cause::State(BrokerState::Unfenced, StateReason::CaughtUp);

    #[test]
    fn leaders_that_moved_and_those_that_nobody_took_over_are_counted_apart() {
        let mut cluster = Cluster::of(2);
        cluster.topic("shared", &[&[1, 2], &[1, 2], &[2, 1]], &[]);
        cluster.topic("alone", &[&[1]], &[]);
        let before = Before::of(&cluster.image, BrokerId(1));
        cluster.set(1, BrokerState::Fenced);
        let epoch = cluster.epoch(1);
        let fenced = Transition {
            id: BrokerId(1),
            epoch,
            cause: EXPIRED,
            fenced: true,
            moved: 2,
            left_leaderless: 1,
            led_again: 0,
        };
        assert_eq!(before.transition(&cluster.image, EXPIRED), Some(fenced));
        let before = Before::of(&cluster.image, BrokerId(1));
        assert_eq!(before.transition(&cluster.image, EXPIRED), None, "told once");
        cluster.set(1, BrokerState::Unfenced);
        let unfenced =
            Transition { cause: CAUGHT_UP, fenced: false, moved: 0, left_leaderless: 0, led_again: 1, ..fenced };
        assert_eq!(before.transition(&cluster.image, CAUGHT_UP), Some(unfenced));
    }

    #[test]
    fn a_new_process_of_a_broker_that_served_takes_its_leaders_from_it() {
        let mut cluster = Cluster::of(2);
        cluster.topic("t", &[&[1, 2]], &[]);
        let before = Before::of(&cluster.image, BrokerId(1));
        cluster.restart(1, |_| {});
        let cause = Cause::Registration(LogsAfterStop::Proven);
        let transition = before.transition(&cluster.image, cause).expect("another registration");
        assert_eq!((transition.epoch, transition.moved), (cluster.epoch(1), 1));
        assert!(transition.fenced);
        let first = Before::of(&cluster.image, BrokerId(3));
        cluster.restart(3, |_| {});
        let transition = first.transition(&cluster.image, cause).expect("a first registration");
        assert!(!transition.fenced, "it never served");
    }

    #[test]
    fn the_length_of_the_silence_is_in_the_reason() {
        assert_eq!(StateReason::NotHeard { for_ms: 6001 }.to_string(), "its session expired: no heartbeat for 6001 ms");
    }
}
