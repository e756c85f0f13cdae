// SPDX-License-Identifier: Apache-2.0
//! Runs the group coordinators of this broker: one state machine per partition of `__consumer_offsets` that it leads,
//! journalled in that partition. It must not know requests of the wire.
use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use odradek_groups::{
    AppendError, Effect, GroupCoordinator, GroupError, GroupSettings, JournalRecord, Request, RequestToken, Response,
    journal_partition, should_rewrite,
};
use odradek_metadata::Image;
use odradek_model::{BrokerId, OFFSETS_TOPIC, Offset, Timestamp, TopicId};
use odradek_partition::{Acks, Isolation, PartitionView};
use odradek_records::{BatchBuilder, BatchOptions, Batches};
use tokio::runtime::Handle;
use tokio::sync::{Notify, oneshot};
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::dispatch::{Answer, Answered};
use crate::error_table::journal_error;
use crate::replica::Replica;

/// Bytes of the journal read in one go while loading.
const LOAD_BYTES: usize = 1 << 20;
/// Longest sleep of the timer task; it is woken for anything nearer.
const LONGEST_SLEEP: Duration = Duration::from_mins(1);

/// A request that was given to a coordinator.
#[derive(Debug)]
pub enum Asked {
    /// Answered.
    Ready(Box<Result<Response, GroupError>>),
    /// To be answered.
    Waiting(oneshot::Receiver<Response>),
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
            Self::Waiting(_) => panic!("asked for an answer that is not there"),
        }
    }

    /// Waits for the answer.
    pub async fn wait(self) -> Result<Response, GroupError> {
        match self {
            Self::Ready(outcome) => *outcome,
            // The coordinator went away with the request.
            Self::Waiting(receiver) => receiver.await.map_err(|_| GroupError::NotCoordinator),
        }
    }
}

/// The coordinators of this broker.
#[derive(Debug)]
pub struct Coordinators {
    settings: GroupSettings,
    clock: Arc<dyn Clock>,
    runtime: Handle,
    /// By partition of the offsets topic; empty until there is one.
    partitions: RwLock<Vec<Option<Arc<Coordinator>>>>,
    next_token: AtomicU64,
    /// When the timer task wakes up.
    armed_for: AtomicI64,
    rearm: Notify,
}

#[derive(Debug)]
struct Coordinator {
    replica: Arc<Replica>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    machine: GroupCoordinator,
    /// Requests that wait: at most one per member, and one per connection's slot.
    waiting: HashMap<RequestToken, oneshot::Sender<Response>>,
    /// Whether the end of a rewrite is on its way to the disk.
    rewriting: bool,
}

impl Coordinators {
    /// None yet.
    pub fn new(settings: GroupSettings, clock: Arc<dyn Clock>, runtime: Handle) -> Self {
        Self {
            settings,
            clock,
            runtime,
            partitions: RwLock::default(),
            next_token: AtomicU64::new(0),
            armed_for: AtomicI64::new(i64::MAX),
            rearm: Notify::new(),
        }
    }

    /// Whether there is an offsets topic here.
    pub fn exist(&self) -> bool {
        !self.partitions.read().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// The broker that coordinates the group, by the image.
    pub fn leader_of(&self, image: &Image, group_id: &str) -> Option<BrokerId> {
        let topic = image.topic(OFFSETS_TOPIC)?;
        let partition = journal_partition(group_id, i32::try_from(topic.partitions.len()).ok()?);
        topic.partitions.get(partition as usize)?.leader
    }

    /// Takes over the partitions of the offsets topic: reads each journal to its end, then serves its groups. Blocks.
    pub fn load(&self, replicas: &[Option<Arc<Replica>>]) {
        let coordinators: Vec<Option<Arc<Coordinator>>> =
            replicas.iter().map(|replica| replica.as_ref().map(|replica| Arc::new(self.load_one(replica)))).collect();
        let started: Vec<_> = coordinators.iter().flatten().cloned().collect();
        *self.partitions.write().unwrap_or_else(PoisonError::into_inner) = coordinators;
        let now_ms = self.clock.now_ms();
        for coordinator in started {
            let mut state = coordinator.lock();
            let effects = state.machine.loaded(now_ms);
            self.carry_out(&coordinator, &mut state, effects);
        }
    }

    fn load_one(&self, replica: &Arc<Replica>) -> Coordinator {
        let mut machine = GroupCoordinator::new(self.settings.clone());
        let now_ms = self.clock.now_ms();
        match replica.view(None) {
            Ok(view) => replay(&view, &mut machine, replica.index, now_ms),
            // Another broker leads: nothing is served here.
            Err(error) => tracing::debug!(partition = replica.index, %error, "no groups are loaded"),
        }
        Coordinator {
            replica: Arc::clone(replica),
            state: Mutex::new(State { machine, waiting: HashMap::new(), rewriting: false }),
        }
    }

    /// Gives a request to the coordinator of its group.
    pub fn start(&self, group_id: &str, request: Request) -> Asked {
        let coordinator = {
            let partitions = self.partitions.read().unwrap_or_else(PoisonError::into_inner);
            let Some(count) = i32::try_from(partitions.len()).ok().filter(|count| *count > 0) else {
                return Asked::Ready(Box::new(Err(GroupError::CoordinatorNotAvailable)));
            };
            partitions[journal_partition(group_id, count) as usize].clone()
        };
        let Some(coordinator) = coordinator else {
            return Asked::Ready(Box::new(Err(GroupError::NotCoordinator)));
        };
        let token = RequestToken(self.next_token.fetch_add(1, Ordering::Relaxed));
        let (sender, mut receiver) = oneshot::channel();
        let mut state = coordinator.lock();
        state.waiting.insert(token, sender);
        let effects = state.machine.handle(token, request, self.clock.now_ms());
        self.carry_out(&coordinator, &mut state, effects);
        drop(state);
        match receiver.try_recv() {
            Ok(response) => Asked::Ready(Box::new(Ok(response))),
            Err(_) => Asked::Waiting(receiver),
        }
    }

    /// Gives a request to the coordinator of its group and makes the answer with `respond`.
    pub(crate) fn ask<T: Send + 'static>(
        &self,
        group_id: &str,
        request: Request,
        respond: impl FnOnce(Result<Response, GroupError>) -> T + Send + 'static,
    ) -> Answer<T> {
        match self.start(group_id, request) {
            Asked::Ready(outcome) => Answer::now(respond(*outcome)),
            waiting @ Asked::Waiting(_) => Answer::later(async move { Answered::from(respond(waiting.wait().await)) }),
        }
    }

    /// Tells all coordinators that topics are gone: their committed offsets go too.
    pub fn topics_deleted(&self, topics: &[(&str, TopicId)]) {
        let all: Vec<_> = self.all();
        for coordinator in all {
            let mut state = coordinator.lock();
            let effects = state.machine.topics_deleted(topics, self.clock.now_ms());
            self.carry_out(&coordinator, &mut state, effects);
        }
    }

    /// Answers every waiting request: the broker stops.
    pub fn unload(&self) {
        for coordinator in self.all() {
            let mut state = coordinator.lock();
            let effects = state.machine.unload();
            self.carry_out(&coordinator, &mut state, effects);
        }
    }

    /// Drives the coordinators' timers until `stopping`. Sleeps until the next deadline: it never polls.
    pub async fn run_timers(&self, stopping: CancellationToken) {
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
    fn carry_out(&self, coordinator: &Arc<Coordinator>, state: &mut State, effects: Vec<Effect>) {
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
                    let outcome = self.append(coordinator, &records).map(|_| ());
                    appended = true;
                    queue.extend(state.machine.appended(token, outcome, self.clock.now_ms()));
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

    fn append(&self, coordinator: &Coordinator, records: &[JournalRecord]) -> Result<i64, AppendError> {
        let now_ms = self.clock.now_ms();
        let mut batch = BatchBuilder::new(BatchOptions::default());
        for record in records {
            batch.append(now_ms, Some(&record.key), record.value.as_deref(), &[]);
        }
        // With one replica and no flush.messages an append is committed when it is in the log.
        match coordinator.replica.append(batch.build_validated(), Acks::All, now_ms) {
            Ok(appended) => Ok(appended.base_offset),
            Err(error) => {
                tracing::error!(partition = coordinator.replica.index, %error, "cannot journal a group");
                Err(journal_error(&error))
            }
        }
    }

    /// Keeps the journal small: the live state is written anew at its head, and once that is on the disk everything
    /// before it goes. A partition stays below twice its live bytes and two segments (the active one is not closed for
    /// it), and what is appended while a rewrite is being synced.
    fn rewrite_if_due(&self, coordinator: &Arc<Coordinator>, state: &mut State) {
        let replica = &coordinator.replica;
        let segment_bytes = u64::from(replica.settings.segment_bytes);
        if state.rewriting || !should_rewrite(replica.size_bytes(), state.machine.live_bytes(), segment_bytes) {
            return;
        }
        let Some(Effect::Append { token, records }) = state.machine.rewrite() else {
            return;
        };
        let mut outcome = Ok(0);
        let mut first = None;
        let mut rest = records.as_slice();
        while !rest.is_empty() && outcome.is_ok() {
            let mut bytes = 0;
            let fits = |record: &&JournalRecord| {
                bytes += record.key.len() + record.value.as_ref().map_or(0, bytes::Bytes::len);
                bytes <= REWRITE_BATCH_BYTES
            };
            let count = rest.iter().take_while(fits).count().max(1);
            outcome = self.append(coordinator, &rest[..count]);
            first = first.or(outcome.ok());
            rest = &rest[count..];
        }
        let effects = state.machine.appended(token, outcome.map(|_| ()), self.clock.now_ms());
        let Some(first) = first.filter(|_| outcome.is_ok()) else {
            self.carry_out(coordinator, state, effects);
            return;
        };
        state.rewriting = true;
        self.carry_out(coordinator, state, effects);
        let end = replica.log_end();
        let coordinator = Arc::clone(coordinator);
        self.runtime.spawn(async move {
            for _ in 0..CUT_ATTEMPTS {
                let tried = Arc::clone(&coordinator);
                if tokio::task::spawn_blocking(move || tried.cut(first, end)).await.unwrap_or(true) {
                    break;
                }
                tokio::time::sleep(CUT_PAUSE).await;
            }
            coordinator.lock().rewriting = false;
        });
    }
}

/// Records of a rewrite go into batches of this size: far below any segment's, and one is read in one go.
const REWRITE_BATCH_BYTES: usize = 256 * 1024;

/// A sync of the journal may be under way when a rewrite ends, and reaches less far: the cut is tried again for a
/// second, many times what a sync takes. After that the next append begins a new rewrite.
const CUT_ATTEMPTS: u32 = 200;
const CUT_PAUSE: Duration = Duration::from_millis(5);

/// Reads the journal to its end.
fn replay(view: &PartitionView, machine: &mut GroupCoordinator, partition: i32, now_ms: Timestamp) {
    let mut offset = view.log_start_offset();
    while offset < view.high_watermark() {
        let fetched = match view.read(offset, LOAD_BYTES, Isolation::ReadUncommitted, true) {
            Ok(fetched) => fetched,
            Err(error) => {
                tracing::error!(partition, offset, %error, "cannot read the journal of groups");
                return;
            }
        };
        let before = offset;
        for batch in Batches::new(&fetched.records).flatten() {
            offset = offset.max(batch.header.next_offset());
            let Ok(records) = batch.records() else {
                tracing::warn!(partition, offset, "a damaged batch of groups is skipped");
                continue;
            };
            for record in records.iter().flatten() {
                let Some(key) = record.key else { continue };
                if let Err(error) = machine.replay(key, record.value, now_ms) {
                    tracing::warn!(partition, %error, "a record of groups is skipped");
                }
            }
        }
        if offset == before {
            tracing::error!(partition, offset, "the journal of groups cannot be read further");
            return;
        }
    }
}

impl Coordinator {
    /// Removes what lies before a rewrite that begins at `first`, once all of it (up to `end`) is on the disk. `false`
    /// to be tried again. Blocks.
    fn cut(&self, first: Offset, end: Offset) -> bool {
        let flushed = self.replica.flush();
        let (_, recovery_point, _) = self.replica.checkpoints();
        if recovery_point < end {
            tracing::debug!(partition = self.replica.index, flushed, "a rewritten journal is not synced yet");
            return false;
        }
        if let Err(error) = self.replica.advance_log_start(first) {
            tracing::warn!(partition = self.replica.index, %error, "the journal of groups is not cut");
        }
        true
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
