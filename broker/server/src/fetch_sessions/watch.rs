// SPDX-License-Identifier: Apache-2.0
//! Which partitions of a follower's session have to be looked at when it asks again.
//!
//! A follower of thousands of partitions asks again after each record, so a request must not cost what the session names.
//! A partition that has nothing for the follower stays *armed*: whoever looked at it left a waker there, which fires when
//! it gets a record. The next requests pass it over until it has fired, or the follower names it. What an append does not
//! tell (a high watermark, a log start, an error, and to the leader that the follower still is where it was) is seen by
//! looking at all of them every once in a while.
//!
//! It must not know what is looked at, nor what a waker is left in.
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use odradek_partition::MonotonicTime;
use tokio::sync::Notify;

use super::{Requested, RequestedTopic};

/// How a session calls a partition.
pub(super) type Name = (RequestedTopic, i32);

pub(super) fn name_of(requested: &Requested) -> Name {
    (requested.topic.clone(), requested.partition)
}

/// Whose wakers have fired, and who is told of it.
#[derive(Debug, Default)]
struct Fired {
    names: Mutex<Vec<Name>>,
    notify: Arc<Notify>,
}

/// What is left in an armed partition: a wait for records, which is given up when this is dropped.
type Wait = Box<dyn Send>;

/// See the module. Bounded by the session's partitions: each is in one of the two, and fires once for each time it is
/// armed.
pub(crate) struct Watch {
    armed: HashMap<Name, Wait>,
    /// To be looked at with the next request.
    loose: HashSet<Name>,
    fired: Arc<Fired>,
    /// When all were looked at last.
    whole_at: MonotonicTime,
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (armed, loose) = (self.armed.len(), self.loose.len());
        f.debug_struct("Watch").field("armed", &armed).field("loose", &loose).finish_non_exhaustive()
    }
}

impl Watch {
    /// All of these are looked at now.
    pub(super) fn new(names: impl Iterator<Item = Name>, now: MonotonicTime) -> Self {
        Self { armed: HashMap::new(), loose: names.collect(), fired: Arc::default(), whole_at: now }
    }

    /// Whether it is time to look at all again, `every_ms` after the last time; they are looked at then.
    pub(super) fn begin_whole(&mut self, now: MonotonicTime, every_ms: i64) -> bool {
        let is_whole = now.millis_since(self.whole_at) >= every_ms;
        if is_whole {
            self.whole_at = now;
        }
        is_whole
    }

    /// The partition has to be looked at, whatever was left there.
    pub(super) fn loosen(&mut self, name: Name) {
        self.armed.remove(&name);
        self.loose.insert(name);
    }

    /// The partition is none of the session's any more.
    pub(super) fn forget(&mut self, name: &Name) {
        self.armed.remove(name);
        self.loose.remove(name);
    }

    /// Those that have to be looked at.
    pub(super) fn loose(&self) -> impl Iterator<Item = &Name> {
        self.loose.iter()
    }

    /// Takes note of the wakers that have fired; whose they are.
    pub(super) fn take_fired(&mut self) -> Vec<Name> {
        let mut fired = std::mem::take(&mut *self.fired.names.lock().unwrap_or_else(PoisonError::into_inner));
        // One that the session has forgotten since, or that was named since, is none of those that wait.
        fired.retain(|name| self.armed.contains_key(name));
        for name in &fired {
            self.loosen(name.clone());
        }
        fired
    }

    /// Whether a waker is left with the partition that has not been seen to fire.
    pub(super) fn is_armed(&self, requested: &Requested) -> bool {
        self.armed.contains_key(&name_of(requested))
    }

    /// A waker to be left with a partition.
    pub(super) fn waker(&self, requested: &Requested) -> impl FnOnce() + Send + use<> {
        let (fired, name) = (Arc::clone(&self.fired), name_of(requested));
        move || {
            fired.names.lock().unwrap_or_else(PoisonError::into_inner).push(name);
            fired.notify.notify_one();
        }
    }

    /// The waker was left with the partition, which has nothing for the follower.
    pub(super) fn arm(&mut self, requested: &Requested, wait: impl Send + 'static) {
        let name = name_of(requested);
        self.loose.remove(&name);
        self.armed.insert(name, Box::new(wait));
    }

    /// Told whenever a waker fires.
    pub(super) fn notify(&self) -> Arc<Notify> {
        Arc::clone(&self.fired.notify)
    }
}
