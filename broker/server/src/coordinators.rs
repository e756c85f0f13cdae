// SPDX-License-Identifier: Apache-2.0
//! Runs the group coordinators of this broker: one state machine per partition of `__consumer_offsets` that it leads,
//! journalled in that partition. A coordinator lives for one reign: it writes in its leader epoch alone, answers once the
//! journal has what it wrote on all replicas in sync, and ends when another leads. It must not know requests of the wire.
mod committing;
mod describing;
mod loading;
mod moving;
mod reading;
mod rewriting;

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use odradek_groups::{
    AppendError, Effect, GroupCoordinator, GroupError, GroupSettings, JournalRecord, Request, RequestToken, Response,
    journal_partition,
};
use odradek_metadata::Image;
use odradek_model::{BrokerId, LeaderEpoch, OFFSETS_TOPIC, Timestamp, TopicId};
use odradek_partition::{Acks, Appended};
use odradek_records::{BatchBuilder, BatchOptions};
use tokio::runtime::Handle;
use tokio::sync::{Notify, oneshot};
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::dispatch::{Answer, Answered};
use crate::error_table::journal_error;
use crate::replica::Replica;

use self::committing::Uncommitted;
use self::rewriting::Held;

pub use self::moving::Loading;
pub use self::reading::{Reading, Uncertain, Unconfirmed};

/// Longest sleep of the timer task; it is woken for anything nearer.
const LONGEST_SLEEP: Duration = Duration::from_mins(1);

/// A request that was given to a coordinator.
#[derive(Debug)]
pub enum Asked {
    /// Answered.
    Ready(Box<Result<Response, GroupError>>),
    /// To be answered.
    Waiting {
        /// Brings the answer.
        answer: oneshot::Receiver<Response>,
        /// How long it may take until it is [`GroupError::CoordinatorNotAvailable`]; `None` as long as it wants.
        longest: Option<Duration>,
    },
}

impl Asked {
    /// Whether the answer is there.
    pub fn is_ready(&self) -> bool {
        matches!(self, Self::Ready(_))
    }

    /// The answer that [`Self::is_ready`] promised.
    ///
    /// # Panics
    /// If it is not there.
    pub fn take_ready(self) -> Result<Response, GroupError> {
        match self {
            Self::Ready(outcome) => *outcome,
            Self::Waiting { .. } => panic!("asked for an answer that is not there"),
        }
    }

    /// Waits for the answer.
    pub async fn wait(self) -> Result<Response, GroupError> {
        match self {
            Self::Ready(outcome) => *outcome,
            Self::Waiting { answer, longest } => {
                let answer = match longest {
                    None => answer.await,
                    Some(longest) => {
                        let in_time = tokio::time::timeout(longest, answer).await;
                        in_time.map_err(|_| GroupError::CoordinatorNotAvailable)?
                    }
                };
                // The coordinator went away with the request.
                answer.map_err(|_| GroupError::NotCoordinator)
            }
        }
    }
}

/// The coordinators of this broker.
#[derive(Debug)]
pub struct Coordinators {
    settings: GroupSettings,
    clock: Arc<dyn Clock>,
    runtime: Handle,
    /// By partition of the offsets topic; empty while there is none. `None` where no groups are served: another broker
    /// leads, or the journal cannot be read.
    partitions: RwLock<Vec<Option<Arc<Coordinator>>>>,
    next_token: AtomicU64,
    /// When the timer task wakes up.
    armed_for: AtomicI64,
    rearm: Notify,
}

#[derive(Debug)]
struct Coordinator {
    replica: Arc<Replica>,
    /// Of the reign that it lives for.
    leader_epoch: LeaderEpoch,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    machine: GroupCoordinator,
    /// Appends that are not committed, in their order. Bounded as those that wait: each has at most one.
    uncommitted: VecDeque<Uncommitted>,
    /// Whether a task waits for them.
    awaits_commits: bool,
    /// Requests that wait: at most one per member, and one per connection's slot.
    waiting: HashMap<RequestToken, oneshot::Sender<Response>>,
    /// Whether a rewrite is on its way to the disk.
    rewriting: bool,
    /// Those of `waiting` that are not begun, as the journal is at its bound; only during a rewrite.
    held: VecDeque<Held>,
}

impl Coordinators {
    /// None yet.
    pub fn new(settings: GroupSettings, clock: Arc<dyn Clock>, runtime: Handle) -> Arc<Self> {
        Arc::new(Self {
            settings,
            clock,
            runtime,
            partitions: RwLock::default(),
            next_token: AtomicU64::new(0),
            armed_for: AtomicI64::new(i64::MAX),
            rearm: Notify::new(),
        })
    }

    /// The broker that coordinates the group, by the image.
    pub fn leader_of(&self, image: &Image, group_id: &str) -> Option<BrokerId> {
        let topic = image.topic(OFFSETS_TOPIC)?;
        let partition = journal_partition(group_id, i32::try_from(topic.partitions.len()).ok()?);
        topic.partitions.get(partition as usize)?.leader
    }

    /// Gives a request to the coordinator of its group.
    pub fn start(self: &Arc<Self>, group_id: &str, request: Request) -> Asked {
        // Without an offsets topic nobody coordinates: clients look for the coordinator, which creates it.
        let Some(coordinator) = self.coordinator_of(group_id) else {
            return Asked::Ready(Box::new(Err(GroupError::NotCoordinator)));
        };
        let token = RequestToken(self.next_token.fetch_add(1, Ordering::Relaxed));
        let longest = self.longest_wait(&request);
        let (sender, mut answer) = oneshot::channel();
        let mut state = coordinator.lock();
        state.waiting.insert(token, sender);
        let Some(request) = self.hold_back(&coordinator, &mut state, token, request) else {
            return Asked::Waiting { answer, longest };
        };
        let effects = state.machine.handle(token, request, self.clock.now_ms());
        self.carry_out(&coordinator, &mut state, effects);
        drop(state);
        match answer.try_recv() {
            Ok(response) => Asked::Ready(Box::new(Ok(response))),
            Err(_) => Asked::Waiting { answer, longest },
        }
    }

    /// What waits for nothing but the journal gets its time for a write; it may be committed later all the same, as in
    /// Kafka. The others wait for members too, which have timers of their own.
    fn longest_wait(&self, request: &Request) -> Option<Duration> {
        let is_write = matches!(request, Request::Commit(_) | Request::Leave(_));
        is_write.then(|| Duration::from_millis(self.settings.offsets_commit_timeout_ms.max(0) as u64))
    }

    fn coordinator_of(&self, group_id: &str) -> Option<Arc<Coordinator>> {
        let partitions = self.partitions.read().unwrap_or_else(PoisonError::into_inner);
        let count = i32::try_from(partitions.len()).ok().filter(|count| *count > 0)?;
        partitions[journal_partition(group_id, count) as usize].clone()
    }

    /// Gives a request to the coordinator of its group and makes the answer with `respond`.
    pub(crate) fn ask<T: Send + 'static>(
        self: &Arc<Self>,
        group_id: &str,
        request: Request,
        respond: impl FnOnce(Result<Response, GroupError>) -> T + Send + 'static,
    ) -> Answer<T> {
        match self.start(group_id, request) {
            Asked::Ready(outcome) => Answer::now(respond(*outcome)),
            waiting @ Asked::Waiting { .. } => {
                Answer::later(async move { Answered::from(respond(waiting.wait().await)) })
            }
        }
    }

    /// Tells all coordinators that topics are gone: their committed offsets go too. With the offsets topic itself, which
    /// anybody may delete as in Kafka, all groups go; the next question for a coordinator creates it anew.
    pub fn topics_deleted(self: &Arc<Self>, topics: &[(&str, TopicId)]) {
        if let Some((_, id)) = topics.iter().find(|(name, _)| *name == OFFSETS_TOPIC) {
            self.forget(*id);
        }
        for coordinator in self.all() {
            let mut state = coordinator.lock();
            let effects = state.machine.topics_deleted(topics, self.clock.now_ms());
            self.carry_out(&coordinator, &mut state, effects);
        }
    }

    /// Drops the coordinators whose journal is in the topic with this id.
    fn forget(self: &Arc<Self>, id: TopicId) {
        let gone = {
            let mut partitions = self.partitions.write().unwrap_or_else(PoisonError::into_inner);
            let is_anew = partitions.iter().flatten().any(|coordinator| coordinator.replica.topic_id != id);
            if is_anew { Vec::new() } else { std::mem::take(&mut *partitions) }
        };
        for coordinator in gone.iter().flatten() {
            self.unload_one(coordinator);
        }
    }

    /// Answers every waiting request: the broker stops.
    pub fn unload(self: &Arc<Self>) {
        let gone: Vec<_> = {
            let mut partitions = self.partitions.write().unwrap_or_else(PoisonError::into_inner);
            partitions.iter_mut().filter_map(Option::take).collect()
        };
        for coordinator in gone {
            self.unload_one(&coordinator);
        }
    }

    fn unload_one(self: &Arc<Self>, coordinator: &Arc<Coordinator>) {
        let mut state = coordinator.lock();
        let mut effects = state.machine.unload();
        for Held { token, request, .. } in std::mem::take(&mut state.held) {
            effects.extend(state.machine.handle(token, request, self.clock.now_ms()));
        }
        self.carry_out(coordinator, &mut state, effects);
    }

    /// Drives the coordinators' timers until `stopping`. Sleeps until the next deadline: it never polls.
    pub async fn run_timers(self: &Arc<Self>, stopping: CancellationToken) {
        loop {
            let now_ms = self.clock.now_ms();
            let mut next = Timestamp::MAX;
            self.armed_for.store(next, Ordering::SeqCst);
            for coordinator in self.all() {
                let mut state = coordinator.lock();
                if state.machine.next_deadline().is_some_and(|deadline| deadline <= now_ms) {
                    let effects = state.machine.tick(now_ms);
                    self.carry_out(&coordinator, &mut state, effects);
                }
                next = next.min(state.machine.next_deadline().unwrap_or(Timestamp::MAX));
            }
            self.armed_for.fetch_min(next, Ordering::SeqCst);
            let sleep = Duration::from_millis((next.saturating_sub(now_ms)).max(1) as u64).min(LONGEST_SLEEP);
            tokio::select! {
                () = tokio::time::sleep(sleep) => {}
                () = self.rearm.notified() => {}
                () = stopping.cancelled() => return,
            }
        }
    }

    fn all(&self) -> Vec<Arc<Coordinator>> {
        self.partitions.read().unwrap_or_else(PoisonError::into_inner).iter().flatten().cloned().collect()
    }

    /// Carries out effects, and those that follow from them, in order.
    fn carry_out(self: &Arc<Self>, coordinator: &Arc<Coordinator>, state: &mut State, effects: Vec<Effect>) {
        let mut appended = false;
        let mut queue = VecDeque::from(effects);
        while let Some(effect) = queue.pop_front() {
            match effect {
                Effect::Reply { token, response } => {
                    if let Some(sender) = state.waiting.remove(&token) {
                        // A client that has gone away does not listen.
                        let _ = sender.send(response);
                    }
                }
                Effect::Append { token, records } => {
                    let outcome = self.append(coordinator, &records);
                    appended = true;
                    if let Some(outcome) = self.committed(coordinator, state, token, outcome) {
                        queue.extend(state.machine.appended(token, outcome, self.clock.now_ms()));
                    }
                }
            }
        }
        if appended {
            self.rewrite_if_due(coordinator, state);
        }
        if let Some(deadline) = state.machine.next_deadline()
            && deadline < self.armed_for.load(Ordering::SeqCst)
        {
            self.armed_for.fetch_min(deadline, Ordering::SeqCst);
            self.rearm.notify_one();
        }
    }

    fn append(&self, coordinator: &Coordinator, records: &[JournalRecord]) -> Result<Appended, AppendError> {
        let now_ms = self.clock.now_ms();
        let mut batch = BatchBuilder::new(BatchOptions::default());
        for record in records {
            batch.append(now_ms, Some(&record.key), record.value.as_deref(), &[]);
        }
        let (replica, epoch) = (&coordinator.replica, Some(coordinator.leader_epoch));
        replica.append_in_epoch(batch.build_validated(), Acks::All, epoch, now_ms).map_err(|error| {
            if journal_error(&error) == AppendError::NotLeader {
                tracing::info!(partition = replica.index, %error, "groups have moved on");
            } else {
                tracing::error!(partition = replica.index, %error, "cannot journal a group");
            }
            journal_error(&error)
        })
    }
}

impl Coordinator {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
