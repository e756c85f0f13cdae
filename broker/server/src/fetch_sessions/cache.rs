// SPDX-License-Identifier: Apache-2.0
//! Which fetch sessions are kept (`FetchSessionCacheShard`). A new session takes the place of another if there is none
//! left, and the other has not been used for two minutes; or is a consumer's while the new one is a replica's; or names
//! fewer partitions and was opened more than two minutes ago. Else the new one is not opened. It must not know what is
//! in a session.
use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex};

use odradek_partition::MonotonicTime;

use super::session::Session;
use super::{NO_SESSION, SessionCounts};

/// How long a session that is not used, or that is new, keeps its place (`MIN_INCREMENTAL_FETCH_SESSION_EVICTION_MS`).
pub(super) const KEPT_MS: i64 = 120_000;

/// Memory of all sessions together: 100,000 partitions, which is three replicas each of 33,000 partitions led here, or a
/// thousand consumers of a hundred each. Kafka bounds the sessions only; a client could name partitions without end.
pub(super) const BYTES_MAX: usize = 64 << 20;

/// In the order in which they are given up. A replica's comes after all of consumers; then the fewest partitions first.
type Value = (bool, usize, i32);

#[derive(Debug)]
struct Slot {
    session: Arc<Mutex<Session>>,
    is_follower: bool,
    opened: MonotonicTime,
    used: MonotonicTime,
    /// Its partitions and its memory at the last use.
    partitions: usize,
    bytes: usize,
}

/// The sessions.
#[derive(Debug)]
pub(super) struct Cache {
    slots_max: usize,
    slots: HashMap<i32, Slot>,
    by_use: BTreeSet<(MonotonicTime, i32)>,
    /// Those that a consumer's new session may replace, and those that a replica's may.
    replaceable: BTreeSet<Value>,
    replaceable_by_followers: BTreeSet<Value>,
    partitions: usize,
    bytes: usize,
    evictions: u64,
}

impl Cache {
    pub(super) fn new(slots_max: usize) -> Self {
        Self {
            slots_max,
            slots: HashMap::new(),
            by_use: BTreeSet::new(),
            replaceable: BTreeSet::new(),
            replaceable_by_followers: BTreeSet::new(),
            partitions: 0,
            bytes: 0,
            evictions: 0,
        }
    }

    pub(super) fn counts(&self) -> SessionCounts {
        SessionCounts { sessions: self.slots.len(), partitions: self.partitions }
    }

    /// Sessions that have lost their place to others so far.
    pub(super) fn evictions(&self) -> u64 {
        self.evictions
    }

    /// A session. Consumers do not reach those of replicas, whose number they could guess.
    pub(super) fn get(&self, id: i32, is_follower: bool) -> Option<Arc<Mutex<Session>>> {
        self.slots.get(&id).filter(|slot| slot.is_follower == is_follower).map(|slot| Arc::clone(&slot.session))
    }

    /// Keeps a new session, if it is worth more than another or there is room: its id.
    pub(super) fn insert(
        &mut self,
        session: Session,
        is_follower: bool,
        now: MonotonicTime,
        mut random: impl FnMut() -> u64,
    ) -> Option<i32> {
        let (partitions, bytes) = (session.len(), session.bytes());
        if bytes > BYTES_MAX {
            return None;
        }
        while self.slots.len() >= self.slots_max || self.bytes + bytes > BYTES_MAX {
            if !self.evict_for(is_follower, partitions, now) {
                return None;
            }
        }
        let id = loop {
            // Ids are positive.
            let id = i32::try_from(random() & 0x7fff_ffff).expect("31 bits");
            if id != NO_SESSION && !self.slots.contains_key(&id) {
                break id;
            }
        };
        let session = Arc::new(Mutex::new(session));
        self.slots.insert(id, Slot { session, is_follower, opened: now, used: now, partitions: 0, bytes: 0 });
        let kept = self.touch(id, partitions, bytes, now);
        assert!(kept, "there is room");
        Some(id)
    }

    /// Notes that a session is used, and its size. `false` if it is too large by now; nothing is noted then.
    pub(super) fn touch(&mut self, id: i32, partitions: usize, bytes: usize, now: MonotonicTime) -> bool {
        let Some(slot) = self.slots.get_mut(&id) else { return false };
        if bytes > slot.bytes && self.bytes - slot.bytes + bytes > BYTES_MAX {
            return false;
        }
        self.by_use.remove(&(slot.used, id));
        let before = (slot.is_follower, slot.partitions, id);
        self.replaceable.remove(&before);
        self.replaceable_by_followers.remove(&before);
        self.partitions = self.partitions - slot.partitions + partitions;
        self.bytes = self.bytes - slot.bytes + bytes;
        (slot.used, slot.partitions, slot.bytes) = (now, partitions, bytes);
        self.by_use.insert((now, id));
        let value = (slot.is_follower, partitions, id);
        let is_old = now.millis_since(slot.opened) > KEPT_MS;
        if is_old {
            self.replaceable.insert(value);
        }
        if is_old || !slot.is_follower {
            self.replaceable_by_followers.insert(value);
        }
        true
    }

    /// Ends a session, if it is there.
    pub(super) fn remove(&mut self, id: i32, is_follower: bool) {
        if self.slots.get(&id).is_none_or(|slot| slot.is_follower != is_follower) {
            return;
        }
        let slot = self.slots.remove(&id).expect("it was just seen");
        self.by_use.remove(&(slot.used, id));
        let value = (slot.is_follower, slot.partitions, id);
        self.replaceable.remove(&value);
        self.replaceable_by_followers.remove(&value);
        self.partitions -= slot.partitions;
        self.bytes -= slot.bytes;
    }

    /// Gives up the session that is worth least, if it is worth no more than a new one.
    fn evict_for(&mut self, is_follower: bool, partitions: usize, now: MonotonicTime) -> bool {
        let Some((used, oldest)) = self.by_use.first().copied() else { return false };
        let least = if now.millis_since(used) > KEPT_MS {
            oldest
        } else {
            let values = if is_follower { &self.replaceable_by_followers } else { &self.replaceable };
            match values.first() {
                Some(least) if (is_follower, partitions, 0) >= *least => least.2,
                _ => return false,
            }
        };
        let of_follower = self.slots[&least].is_follower;
        self.remove(least, of_follower);
        self.evictions += 1;
        true
    }
}
