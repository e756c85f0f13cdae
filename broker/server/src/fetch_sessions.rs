// SPDX-License-Identifier: Apache-2.0
//! Fetch sessions (KIP-227; `FetchManager`, `FetchContext`): a client names its partitions once, and from then on what
//! has changed; it is answered with what has changed. What neither side mentions stays as it was.
//!
//! A session lives here, not in a connection: it is continued on any, and ends by its client's word, when its last
//! partition is forgotten, or when another needs its place ([`cache`] says which).
//!
//! # How to drive it
//! [`FetchSessions::begin`] when a request arrives says what to read, in which order. What was read is given to
//! [`FetchSessions::end`] once, when the answer is sent: it says which partitions the answer names.
//!
//! A follower's session is read in full every once in a while, and in between where something may have come ([`watch`]
//! says which).
//!
//! Time and randomness are parameters. It must not know connections, logs, or what is read.
mod cache;
#[cfg(test)]
mod follower_tests;
mod session;
#[cfg(test)]
mod tests;
mod watch;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use odradek_model::TopicName;
use odradek_partition::MonotonicTime;
use odradek_wire::messages::{FetchPartition, FetchRequest, FetchTopic, PartitionData};
use odradek_wire::{ErrorCode, Text};
use tokio::sync::Notify;
use uuid::Uuid;

use self::cache::Cache;
use self::session::Session;
use self::watch::Watch;

/// No session.
const NO_SESSION: i32 = 0;

/// Epochs of requests that name all their partitions: to open a session, and to have none.
const OPEN: i32 = 0;
const CLOSE: i32 = -1;

/// From this version on topics are named by id.
const BY_ID: i16 = 13;

/// A topic as requests name it: by name, or by id with an empty name.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct RequestedTopic {
    pub(crate) name: Text,
    pub(crate) id: Uuid,
}

impl RequestedTopic {
    fn of(topic: &FetchTopic) -> Self {
        Self { name: topic.topic.clone(), id: topic.topic_id }
    }
}

/// What a request says of a partition. Numbers are as on the wire: -1 is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Position {
    pub(crate) fetch_offset: i64,
    pub(crate) max_bytes: i32,
    pub(crate) leader_epoch: i32,
    pub(crate) last_fetched_epoch: i32,
    /// Of a follower's log.
    pub(crate) log_start_offset: i64,
}

impl Position {
    fn of(partition: &FetchPartition) -> Self {
        Self {
            fetch_offset: partition.fetch_offset,
            max_bytes: partition.partition_max_bytes,
            leader_epoch: partition.current_leader_epoch,
            last_fetched_epoch: partition.last_fetched_epoch,
            log_start_offset: partition.log_start_offset,
        }
    }
}

/// A partition to be read, because the request names it or because it did so before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Requested {
    pub(crate) topic: RequestedTopic,
    pub(crate) partition: i32,
    pub(crate) position: Position,
    /// The name that the topic's id had when it was last known: whoever resolves the id says it.
    pub(crate) resolved: Option<TopicName>,
}

/// What of a request is of matter here.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SessionRequest<'a> {
    pub(crate) version: i16,
    pub(crate) request: &'a FetchRequest,
    /// Replicas' sessions are kept before those of consumers.
    pub(crate) is_follower: bool,
}

/// What a request is to its session, from its arrival to its answer.
#[derive(Debug)]
pub(crate) enum Turn {
    /// It has none.
    Sessionless,
    /// Its answer opens one.
    First { by_id: bool, is_follower: bool },
    /// It continues this one. The session is kept for the answer even if it loses its place meanwhile.
    Next {
        id: i32,
        epoch: i32,
        session: Arc<Mutex<Session>>,
        /// Of a follower's, which this request has taken and its answer gives back. A request that comes meanwhile looks
        /// at all.
        watch: Mutex<Option<Watch>>,
    },
}

impl Turn {
    /// `None` without a watch.
    fn with_watch<R>(&self, act: impl FnOnce(&mut Watch) -> R) -> Option<R> {
        let Self::Next { watch, .. } = self else { return None };
        watch.lock().unwrap_or_else(PoisonError::into_inner).as_mut().map(act)
    }

    /// Whether there may be partitions beside those that [`FetchSessions::begin`] gave, which wake who waits.
    pub(crate) fn is_watched(&self) -> bool {
        self.with_watch(|_| ()).is_some()
    }

    /// Who is told when one of them has something, if there is a watch.
    pub(crate) fn notify(&self) -> Option<Arc<Notify>> {
        self.with_watch(|watch| watch.notify())
    }

    /// Whether a waker is left with this partition by an earlier request, and still good.
    pub(crate) fn is_armed(&self, at: &Requested) -> bool {
        self.with_watch(|watch| watch.is_armed(at)).unwrap_or_default()
    }

    /// A waker for a partition that has nothing for the follower, and waits for records. It fires once.
    pub(crate) fn waker(&self, at: &Requested) -> Option<impl FnOnce() + Send + use<>> {
        self.with_watch(|watch| watch.waker(at))
    }

    /// Passes the partition over in requests to come, until its waker fires. Dropping `wait` has to give that up.
    pub(crate) fn arm(&self, at: &Requested, wait: impl Send + 'static) {
        self.with_watch(|watch| watch.arm(at, wait));
    }

    /// The partitions whose wakers have fired.
    pub(crate) fn fired(&self) -> Vec<Requested> {
        let Self::Next { session, .. } = self else { return Vec::new() };
        let fired = self.with_watch(Watch::take_fired).unwrap_or_default();
        if fired.is_empty() { Vec::new() } else { lock(session).requested_of(fired.iter()) }
    }
}

/// What the answer says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Ended {
    pub(crate) error: ErrorCode,
    pub(crate) session_id: i32,
    /// Which partitions are named, in the order of what was read.
    pub(crate) named: Named,
    /// Sessions that have lost their place.
    pub(crate) evicted: u64,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Named {
    All,
    These(Vec<bool>),
    None,
}

/// How many sessions there are, and how many partitions they name.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SessionCounts {
    /// Sessions.
    pub sessions: usize,
    /// Partitions over all of them.
    pub partitions: usize,
}

/// The sessions of one broker. The cache's lock is held for what a request names; what the session names beside is
/// looked at under the session's own lock. Kafka divides its cache into eight, each with an eighth of the places.
#[derive(Debug)]
pub struct FetchSessions {
    cache: Mutex<Cache>,
    /// How often all partitions of a follower's session are looked at.
    whole_every_ms: i64,
}

/// How often all partitions of a follower's session are looked at: as often as those of an idle one, whose requests wait
/// so long (`replica.fetch.wait.max.ms`).
const WHOLE_EVERY_MS: i64 = 500;

impl FetchSessions {
    /// None yet; `slots` at most (`max.incremental.fetch.session.cache.slots`). A follower counts as lagging
    /// `lag_time_max_ms` after it was seen to be at the log's end (`replica.lag.time.max.ms`).
    pub fn new(slots: usize, lag_time_max_ms: i64) -> Self {
        let whole_every_ms = WHOLE_EVERY_MS.min(lag_time_max_ms / 4);
        Self { cache: Mutex::new(Cache::new(slots)), whole_every_ms }
    }

    /// How many there are.
    pub fn counts(&self) -> SessionCounts {
        self.cache().counts()
    }

    /// Takes a request in: what to read, in which order.
    ///
    /// # Errors
    /// The request names a session that is not there, or continues it out of turn: nothing is read.
    pub(crate) fn begin(
        &self,
        asked: &SessionRequest<'_>,
        now: MonotonicTime,
    ) -> Result<(Vec<Requested>, Turn), ErrorCode> {
        let SessionRequest { version, request, is_follower } = *asked;
        let (id, epoch, by_id) = (request.session_id, request.session_epoch, version >= BY_ID);
        if epoch == OPEN || epoch == CLOSE {
            if id != NO_SESSION {
                self.cache().remove(id, is_follower);
            }
            let turn = if epoch == OPEN { Turn::First { by_id, is_follower } } else { Turn::Sessionless };
            return Ok((named_once(&request.topics), turn));
        }
        let mut cache = self.cache();
        let session = cache.get(id, is_follower).ok_or(ErrorCode::FetchSessionIdNotFound)?;
        let mut open = lock(&session);
        if open.epoch() != epoch {
            return Err(ErrorCode::InvalidFetchSessionEpoch);
        }
        if open.by_id() != by_id {
            return Err(ErrorCode::FetchSessionTopicIdError);
        }
        let mut watch = open.update(&request.topics, &request.forgotten_topics_data);
        if open.is_empty() {
            cache.remove(id, is_follower);
            return Ok((named_once(&request.topics), Turn::Sessionless));
        }
        if !cache.touch(id, open.len(), open.bytes(), now) {
            // It has outgrown the memory. Its client names all its partitions again, and is answered without a session.
            cache.remove(id, is_follower);
            return Err(ErrorCode::FetchSessionIdNotFound);
        }
        let epoch = open.turn();
        drop(cache);
        let is_whole = watch.as_mut().is_none_or(|watch| watch.begin_whole(now, self.whole_every_ms));
        let requested = match &mut watch {
            Some(watch) if !is_whole => {
                watch.take_fired();
                open.requested_of(watch.loose())
            }
            Some(_) | None => open.requested(),
        };
        if is_follower && watch.is_none() {
            watch = Some(Watch::new(requested.iter().map(watch::name_of), now));
        }
        drop(open);
        Ok((requested, Turn::Next { id, epoch, session, watch: Mutex::new(watch) }))
    }

    /// Takes note of what was read for a request, in the order of what [`Self::begin`] gave, and says what of it the
    /// answer names.
    pub(crate) fn end<'a>(
        &self,
        turn: &Turn,
        read: impl Iterator<Item = (&'a Requested, &'a PartitionData)>,
        now: MonotonicTime,
        random: impl FnMut() -> u64,
    ) -> Ended {
        let (error, named) = (ErrorCode::None, Named::All);
        match turn {
            Turn::Sessionless => Ended { error, session_id: NO_SESSION, named, evicted: 0 },
            Turn::First { by_id, is_follower } => {
                let session = Session::opened(*by_id, read);
                let mut cache = self.cache();
                let evicted = cache.evictions();
                let session_id = cache.insert(session, *is_follower, now, random).unwrap_or(NO_SESSION);
                Ended { error, session_id, named, evicted: cache.evictions() - evicted }
            }
            Turn::Next { id, epoch, session, watch } => {
                let mut session = lock(session);
                if session.epoch() == *epoch {
                    let mut watch = watch.lock().unwrap_or_else(PoisonError::into_inner).take();
                    let read = read.inspect(|(at, data)| {
                        let has_failed = data.error_code != ErrorCode::None.code() || data.diverging_epoch.epoch >= 0;
                        if let Some(watch) = watch.as_mut().filter(|_| has_failed) {
                            watch.loosen(watch::name_of(at));
                        }
                    });
                    let named = Named::These(read.map(|(at, data)| session.is_news(at, data)).collect());
                    session.keep(watch);
                    Ended { error, session_id: *id, named, evicted: 0 }
                } else {
                    // The same request has come again meanwhile.
                    let error = ErrorCode::InvalidFetchSessionEpoch;
                    Ended { error, session_id: *id, named: Named::None, evicted: 0 }
                }
            }
        }
    }

    fn cache(&self) -> MutexGuard<'_, Cache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn lock(session: &Mutex<Session>) -> MutexGuard<'_, Session> {
    session.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The partitions that a request names, each once: where it is named first, as it is named last (`FetchRequest.fetchData`).
fn named_once(topics: &[FetchTopic]) -> Vec<Requested> {
    let mut requested: Vec<Requested> = Vec::new();
    for topic in topics {
        let name = RequestedTopic::of(topic);
        requested.extend(topic.partitions.iter().map(|partition| Requested {
            topic: name.clone(),
            partition: partition.partition,
            position: Position::of(partition),
            resolved: None,
        }));
    }
    let mut once: Vec<Requested> = Vec::with_capacity(requested.len());
    let mut places = HashMap::with_capacity(requested.len());
    for at in requested {
        match places.entry((at.topic.clone(), at.partition)) {
            Entry::Occupied(place) => {
                let first: &mut Requested = &mut once[*place.get()];
                first.position = at.position;
            }
            Entry::Vacant(place) => {
                place.insert(once.len());
                once.push(at);
            }
        }
    }
    once
}
