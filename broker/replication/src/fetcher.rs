// SPDX-License-Identifier: Apache-2.0
//! The fetcher of one leader and lane (`AbstractFetcherThread`): which of its partitions the next request asks for, in
//! which order, and who has to wait after an error. Must not know how a request travels or what an answer does to a log.
//!
//! The leader keeps a session (KIP-227): a request names the partitions that the leader does not know as they are now,
//! and the answer those with news. A partition that neither names is asked for all the same, by the same question.
//!
//! What the leader has said of a partition it does not say again. So who has not taken an answer in leaves the session and
//! comes back as new, or the session is begun anew.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use odradek_model::BrokerId;
use odradek_partition::{AskNumber, FetchPlan, FollowerStep, MonotonicTime, OffsetsPlan};

use crate::session::{Session, SessionAnswer, SessionStep};
use crate::throttle::Throttle;
use crate::{FetcherId, Lane, ReplicaKey};

/// The settings of replica fetches.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FetchSettings {
    /// `replica.fetch.response.max.bytes`: bytes of records in one answer.
    pub request_bytes: usize,
    /// `replica.fetch.max.bytes`: bytes of records of one partition in one answer.
    pub partition_bytes: usize,
    /// `replica.fetch.min.bytes`: the leader waits for so much.
    pub min_bytes: usize,
    /// `replica.fetch.wait.max.ms`: but not longer than this.
    pub wait_ms: i64,
    /// `replica.fetch.backoff.ms`: pause of a partition, or of all, after an error.
    pub backoff_ms: i64,
}

impl Default for FetchSettings {
    /// Kafka's.
    fn default() -> Self {
        Self { request_bytes: 10 << 20, partition_bytes: 1 << 20, min_bytes: 1, wait_ms: 500, backoff_ms: 1_000 }
    }
}

/// While a partition waits for its own disk, requests for the others do not wait longer than this at the leader:
/// acknowledgements hang on what that partition claims next, and a sync takes a few milliseconds.
const WAIT_MS_BESIDE_A_SYNC: i64 = 10;

/// A request for newcomers waits no longer than this: it ends soon after the next ordinary request has taken them over,
/// and the connection is free for others.
const WAIT_MS_OF_NEWCOMERS: i64 = 100;

/// A throttled request asks for a second's bytes at most, and for no less than this: a batch or two.
const THROTTLED_BYTES_MIN: usize = 64 << 10;

/// One partition of a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ask<P> {
    /// The partition.
    pub key: ReplicaKey,
    /// What its replica wants to know.
    pub plan: P,
}

/// A Fetch request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fetch {
    /// How it stands to the leader's session.
    pub session: SessionStep,
    /// The partitions that it names, in this order: a leader serves the first ones first.
    pub named: Vec<Ask<FetchPlan>>,
    /// Those that leave the session.
    pub forgotten: Vec<ReplicaKey>,
    /// How long the leader may wait for records.
    pub wait_ms: i64,
    /// Bytes of records wanted at most.
    pub request_bytes: usize,
}

/// What a fetcher does next.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Next {
    /// Send these; there is one of them at least.
    Ask {
        /// To be asked first, by ListOffsets.
        offsets: Vec<Ask<OffsetsPlan>>,
        /// To be asked by one Fetch.
        fetch: Option<Fetch>,
    },
    /// Nothing to send before that time, or before a partition is added or ready.
    Wait(Option<MonotonicTime>),
}

/// What became of a partition's question.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// It was answered, with so many bytes of records, and the replica made use of it.
    Taken {
        /// Bytes of records.
        bytes: usize,
    },
    /// It was answered, and the replica has another question by now.
    Void {
        /// Bytes of records.
        bytes: usize,
    },
    /// The connection, the leader or the replica refused: not again before the back-off is over.
    Failed {
        /// Bytes of records that came all the same.
        bytes: usize,
    },
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// To be asked for with the next request.
    Due,
    /// In the request on its way.
    Asked(AskNumber),
    /// Waits for its own disk.
    Blocked,
    /// Waits after an error.
    Delayed(MonotonicTime),
    /// Has nothing to ask before the metadata changes.
    Idle,
}

/// Whom a request is for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Whom {
    All,
    Newcomers,
}

#[derive(Clone, Copy, Debug)]
struct Followed {
    state: State,
    /// Its place in the order.
    place: u64,
    /// The question that the leader's session has for it.
    known: Option<FetchPlan>,
}

impl Followed {
    /// Whether its question stands without being named again.
    fn stands(&self) -> bool {
        self.known.is_some_and(|known| self.state == State::Asked(known.number))
    }
}

/// The partitions followed through one connection. One request at a time is on its way, and one for newcomers beside it.
#[derive(Debug)]
pub struct Fetcher {
    id: FetcherId,
    settings: FetchSettings,
    throttle: Option<Throttle>,
    partitions: HashMap<ReplicaKey, Followed>,
    /// Who comes first in a request: who got records last comes last, so that a partition with much to fetch does not
    /// take the bytes of all others.
    order: BTreeMap<u64, ReplicaKey>,
    next_place: u64,
    /// The places of those whose question does not stand. A request is made of them alone, so that with thousands of
    /// partitions it costs what has changed.
    restless: BTreeSet<u64>,
    session: Session,
    /// Who is in the leader's session and is to leave it, as the leader has said what was not taken in; bounded by the
    /// session's partitions.
    leaving: BTreeSet<ReplicaKey>,
    is_paused: bool,
    /// Whether the last [`Fetcher::next`] gave a request.
    is_asking: bool,
}

impl Fetcher {
    /// A fetcher without partitions; `throttle` bounds its bytes per second.
    pub fn new(id: FetcherId, settings: FetchSettings, throttle: Option<Throttle>) -> Self {
        Self {
            id,
            settings,
            throttle,
            partitions: HashMap::new(),
            order: BTreeMap::new(),
            next_place: 0,
            restless: BTreeSet::new(),
            session: Session::default(),
            leaving: BTreeSet::new(),
            is_paused: false,
            is_asking: false,
        }
    }

    /// Which one it is.
    pub fn id(&self) -> FetcherId {
        self.id
    }

    /// Whom it asks.
    pub fn leader(&self) -> BrokerId {
        self.id.leader
    }

    /// Whether it has nothing to do, for ever.
    pub fn is_empty(&self) -> bool {
        self.partitions.is_empty()
    }

    /// Number of partitions.
    pub fn len(&self) -> usize {
        self.partitions.len()
    }

    /// Bounds the bytes per second, or no more.
    pub fn set_throttle(&mut self, bytes_per_second: Option<u64>, now: MonotonicTime) {
        let present = self.throttle.as_ref().map(Throttle::bytes_per_second);
        if present != bytes_per_second {
            self.throttle = bytes_per_second.map(|rate| Throttle::new(rate, now));
        }
    }

    /// Takes a partition in, or has it asked for at once although it waits after an error: the metadata has changed.
    pub fn add(&mut self, key: ReplicaKey) {
        if let Some(followed) = self.partitions.get_mut(&key) {
            followed.state = State::Due;
            self.restless.insert(followed.place);
            return;
        }
        let place = self.next_place;
        self.next_place += 1;
        self.order.insert(place, key);
        self.restless.insert(place);
        self.partitions.insert(key, Followed { state: State::Due, place, known: None });
    }

    /// Forgets a partition; an answer for it that is on its way is of no matter.
    pub fn remove(&mut self, key: ReplicaKey) {
        if let Some(followed) = self.partitions.remove(&key) {
            self.order.remove(&followed.place);
            self.restless.remove(&followed.place);
            if followed.known.is_some() {
                self.leaving.insert(key);
            }
        }
    }

    /// The partition's disk has done what it waited for. Others are not touched: a back-off stays.
    pub fn ready(&mut self, key: ReplicaKey) {
        if let Some(followed) = self.partitions.get_mut(&key)
            && followed.state == State::Blocked
        {
            followed.state = State::Due;
        }
    }

    /// Stops asking, or goes on. A request on its way is not taken back.
    pub fn pause(&mut self, paused: bool) {
        self.is_paused = paused;
    }

    /// What to ask beside a request on its way, for those that came meanwhile or whose wait is over: on another
    /// connection, so that they do not wait with it. As [`Self::next`] else; the next call of that takes over whom this
    /// one asks for. Such a request has no session. Without a request on its way [`Self::next`] is about to see them.
    pub fn next_of_newcomers(&mut self, now: MonotonicTime, step: impl FnMut(ReplicaKey) -> FollowerStep) -> Next {
        // Only an ordinary lane has a second connection.
        if !matches!(self.id.lane, Lane::Ordinary(_)) || !self.is_asking {
            return Next::Wait(None);
        }
        match self.ask(now, Whom::Newcomers, step) {
            Next::Ask { offsets, fetch } => {
                let shorter = |fetch: Fetch| Fetch { wait_ms: fetch.wait_ms.min(WAIT_MS_OF_NEWCOMERS), ..fetch };
                Next::Ask { offsets, fetch: fetch.map(shorter) }
            }
            wait @ Next::Wait(_) => wait,
        }
    }

    /// What to do next. `step` asks a partition for its next step; that voids what was asked for it before, so it is
    /// called for those alone whose question does not stand. To be called when the last request has ended; partitions of
    /// which it was not told what became of them are asked for again, unless the session goes on and the answer does not
    /// name them: their questions stand.
    pub fn next(&mut self, now: MonotonicTime, step: impl FnMut(ReplicaKey) -> FollowerStep) -> Next {
        let next = self.ask(now, Whom::All, step);
        self.is_asking = matches!(next, Next::Ask { .. });
        next
    }

    fn ask(&mut self, now: MonotonicTime, whom: Whom, mut step: impl FnMut(ReplicaKey) -> FollowerStep) -> Next {
        if self.is_paused {
            return Next::Wait(None);
        }
        if let Some(until) = self.throttle.as_mut().and_then(|throttle| throttle.until(now)) {
            return Next::Wait(Some(until));
        }
        if whom == Whom::All && (self.session.awaits_answer() || !self.session.is_open() || self.any_returns(now)) {
            self.begin_session();
        }
        let (mut offsets, mut named) = (Vec::new(), Vec::new());
        let mut outside = Vec::new();
        let (mut earliest, mut any_blocked) = (None::<MonotonicTime>, false);
        let restless: Vec<u64> = self.restless.iter().copied().collect();
        for place in restless {
            let key = &self.order[&place];
            let followed = self.partitions.get_mut(key).expect("the order names partitions that are there");
            let asks = match followed.state {
                State::Asked(_) if whom == Whom::Newcomers => continue,
                State::Idle => false,
                State::Blocked => {
                    any_blocked = true;
                    false
                }
                State::Delayed(until) if until > now => {
                    earliest = Some(earliest.map_or(until, |earliest| earliest.min(until)));
                    false
                }
                State::Due | State::Asked(_) | State::Delayed(_) => true,
            };
            if asks {
                followed.state = match step(*key) {
                    FollowerStep::Fetch(plan) if plan.leader == self.id.leader => {
                        let known = if whom == Whom::All { followed.known.replace(plan) } else { None };
                        if !known.is_some_and(|known| asks_alike(known, plan)) {
                            named.push(Ask { key: *key, plan });
                        }
                        State::Asked(plan.number)
                    }
                    FollowerStep::AskOffsets(plan) if plan.leader == self.id.leader => {
                        offsets.push(Ask { key: *key, plan });
                        State::Asked(plan.number)
                    }
                    // It follows another already, and whoever told it so is about to take it from here.
                    FollowerStep::Fetch(_) | FollowerStep::AskOffsets(_) | FollowerStep::Nothing => State::Idle,
                    FollowerStep::AwaitCheckpoint | FollowerStep::AwaitFlush => {
                        any_blocked = true;
                        State::Blocked
                    }
                };
            }
            if followed.stands() {
                self.restless.remove(&place);
            } else if whom == Whom::All && followed.known.is_some() {
                outside.push(*key);
            }
        }
        let any_stands = whom == Whom::All && self.restless.len() < self.partitions.len();
        let fetch = (!named.is_empty() || any_stands).then(|| {
            let mut wait_ms = self.settings.wait_ms;
            if let Some(earliest) = earliest {
                wait_ms = wait_ms.min(earliest.millis_since(now));
            }
            if any_blocked {
                wait_ms = wait_ms.min(WAIT_MS_BESIDE_A_SYNC);
            }
            let (session, forgotten) = match whom {
                Whom::All => (self.session.next(), self.leave_session(&outside)),
                Whom::Newcomers => (SessionStep::NONE, Vec::new()),
            };
            Fetch { session, named, forgotten, wait_ms, request_bytes: self.request_bytes() }
        });
        if offsets.is_empty() && fetch.is_none() { Next::Wait(earliest) } else { Next::Ask { offsets, fetch } }
    }

    fn request_bytes(&self) -> usize {
        match &self.throttle {
            Some(throttle) => {
                let second = usize::try_from(throttle.bytes_per_second()).unwrap_or(usize::MAX);
                self.settings.request_bytes.min(second.max(THROTTLED_BYTES_MIN))
            }
            None => self.settings.request_bytes,
        }
    }

    /// Whether the next request would name one that it has to have left out once: a session forgets last.
    fn any_returns(&self, now: MonotonicTime) -> bool {
        self.leaving.iter().filter_map(|key| self.partitions.get(key)).any(|followed| match followed.state {
            State::Due | State::Asked(_) => true,
            State::Delayed(until) => until <= now,
            State::Blocked | State::Idle => false,
        })
    }

    /// The next request names all partitions.
    fn begin_session(&mut self) {
        self.session.doubt();
        self.leaving.clear();
        for followed in self.partitions.values_mut() {
            followed.known = None;
        }
        self.restless = self.order.keys().copied().collect();
    }

    /// Who is left out of a session's next request.
    fn leave_session(&mut self, outside: &[ReplicaKey]) -> Vec<ReplicaKey> {
        for key in outside {
            self.partitions.get_mut(key).expect("it was just seen").known = None;
            self.leaving.insert(*key);
        }
        std::mem::take(&mut self.leaving).into_iter().collect()
    }

    /// The question of a partition that the last request of [`Self::next`] asks, by name or because it stands. `None` for
    /// one that it does not ask, or that has left since: what is said of it means nothing.
    pub fn question(&self, key: ReplicaKey) -> Option<Ask<FetchPlan>> {
        self.partitions.get(&key)?.known.map(|plan| Ask { key, plan })
    }

    /// Whether nobody has said yet what became of a partition's question.
    pub fn awaits(&self, ask: &Ask<FetchPlan>) -> bool {
        self.partitions.get(&ask.key).is_some_and(|followed| followed.state == State::Asked(ask.plan.number))
    }

    /// Takes note of what the leader said of the session in its answer to the last request of [`Self::next`].
    pub fn session_answered(&mut self, answer: SessionAnswer) {
        if !self.session.answered(answer) {
            self.begin_session();
        }
    }

    /// The last request of [`Self::next`] was not answered: none of its partitions is asked for before the back-off is
    /// over.
    pub fn failed(&mut self, now: MonotonicTime) {
        let until = self.delayed_until(now);
        for followed in self.partitions.values_mut().filter(|followed| followed.stands()) {
            followed.state = State::Delayed(until);
        }
        self.session.failed();
        // It makes all restless.
        self.begin_session();
    }

    fn delayed_until(&self, now: MonotonicTime) -> MonotonicTime {
        MonotonicTime(now.0.saturating_add(self.settings.backoff_ms.max(1)))
    }

    /// Takes note of what became of the question `number` of a partition; of another it is late and means nothing.
    pub fn answered(&mut self, key: ReplicaKey, number: AskNumber, outcome: Outcome, now: MonotonicTime) {
        let (Outcome::Taken { bytes } | Outcome::Void { bytes } | Outcome::Failed { bytes }) = outcome;
        if let Some(throttle) = &mut self.throttle {
            throttle.take(bytes, now);
        }
        let until = self.delayed_until(now);
        let Some(followed) = self.partitions.get_mut(&key) else { return };
        let is_asked = followed.state == State::Asked(number);
        // The leader has said what nobody took in.
        if !matches!(outcome, Outcome::Taken { .. }) && followed.known.is_some_and(|known| known.number == number) {
            followed.known = None;
            self.leaving.insert(key);
            self.restless.insert(followed.place);
        }
        if !is_asked {
            return;
        }
        followed.state = match outcome {
            Outcome::Taken { .. } | Outcome::Void { .. } => State::Due,
            Outcome::Failed { .. } => State::Delayed(until),
        };
        if bytes > 0 {
            self.order.remove(&followed.place);
            self.restless.remove(&followed.place);
            followed.place = self.next_place;
            self.next_place += 1;
            self.order.insert(followed.place, key);
        }
        self.restless.insert(followed.place);
    }
}

/// Whether the leader need not be told of the second question.
fn asks_alike(known: FetchPlan, plan: FetchPlan) -> bool {
    FetchPlan { number: plan.number, ..known } == plan
}
