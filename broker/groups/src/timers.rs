// SPDX-License-Identifier: Apache-2.0
//! Deadlines by name. Must not know the clock: time is a parameter.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use odradek_model::Timestamp;

/// What is to be done at a deadline.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) enum Timer {
    /// Complete the join phase of the group.
    Join(Arc<str>),
    /// Remove the members of the group that have not synced.
    Sync(Arc<str>),
    /// Remove the member of the group.
    Session(Arc<str>, Arc<str>),
    /// Look for expired offsets.
    Expiry,
}

/// All deadlines of a coordinator; one per timer.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    deadlines: HashMap<Timer, Timestamp>,
    order: BTreeSet<(Timestamp, Timer)>,
}

impl Timers {
    /// Sets or moves the deadline.
    pub(crate) fn schedule(&mut self, timer: Timer, at: Timestamp) {
        if let Some(old) = self.deadlines.insert(timer.clone(), at) {
            self.order.remove(&(old, timer.clone()));
        }
        self.order.insert((at, timer));
    }

    pub(crate) fn cancel(&mut self, timer: &Timer) {
        if let Some(at) = self.deadlines.remove(timer) {
            self.order.remove(&(at, timer.clone()));
        }
    }

    pub(crate) fn next(&self) -> Option<Timestamp> {
        self.order.first().map(|(at, _)| *at)
    }

    /// Takes the earliest timer that is due.
    pub(crate) fn pop_due(&mut self, now: Timestamp) -> Option<Timer> {
        if self.next()? > now {
            return None;
        }
        let (_, timer) = self.order.pop_first()?;
        self.deadlines.remove(&timer);
        Some(timer)
    }

    pub(crate) fn clear(&mut self) {
        self.deadlines.clear();
        self.order.clear();
    }
}
