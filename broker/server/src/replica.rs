// SPDX-License-Identifier: Apache-2.0
//! One replica as requests meet it: the partition's state machine behind a lock, and the tasks that wait for it. It
//! carries out the machine's effects, or hands them to [`Replication`]; it must not know requests, folders or
//! checkpoints.
//!
//! Batches are judged before the lock is taken and read after it is given back: it is held for the log's write only.
//! This file has what clients need; `replica/roles.rs` what leading and following is made of.
mod roles;

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock, Weak};

use bytes::Bytes;
use odradek_model::{LeaderEpoch, Offset, Timestamp, TopicId, TopicName, TopicSettings};
use odradek_partition::{
    Acks, AppendError, Appended, DeleteOutcome, Effect, Isolation, LeadershipError, Partition, PartitionView,
    ProduceOutcome, ProduceWait, StorageError, WaitError, WaitToken, Waiting,
};
use odradek_records::{ProduceError, ProduceRules, ValidatedBatch, validate_produced};
use odradek_replication::ReplicaKey;
use tokio::runtime::Handle;
use tokio::sync::{Notify, oneshot};

use crate::clock::Clock;
use crate::failure::Failure;
use crate::metrics::TopicMetrics;
use crate::replication::Replication;

pub use self::roles::ConsumerView;

/// Why a produced batch is not in the log.
#[derive(Debug, thiserror::Error)]
pub enum AppendFailure {
    /// The batch.
    #[error(transparent)]
    Refused(#[from] ProduceError),
    /// The partition.
    #[error(transparent)]
    Partition(#[from] AppendError),
}

/// Who waits under a token.
enum Waiter {
    Fetch(Arc<Notify>),
    FollowerFetch(Box<dyn FnOnce() + Send>),
    Produce(oneshot::Sender<ProduceOutcome>),
    Deletion(oneshot::Sender<DeleteOutcome>),
}

impl fmt::Debug for Waiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Fetch(_) => "Fetch",
            Self::FollowerFetch(_) => "FollowerFetch",
            Self::Produce(_) => "Produce",
            Self::Deletion(_) => "Deletion",
        })
    }
}

/// What every replica of this broker shares.
#[derive(Debug, Clone)]
pub struct ReplicaContext {
    /// Where syncs run: on threads that may block.
    pub runtime: Handle,
    /// A failed sync, or a failed append that could not be undone, ends the broker: what was acknowledged may be gone,
    /// and only a restart finds out. Not so if the partition is being deleted.
    pub failure: Arc<Failure>,
    /// Who carries out what goes beyond one replica.
    pub replication: Arc<Replication>,
    /// Time.
    pub clock: Arc<dyn Clock>,
}

/// What a replica is opened with.
#[derive(Debug)]
pub struct ReplicaParts {
    /// Name of its topic.
    pub topic: TopicName,
    /// Id of its topic.
    pub topic_id: TopicId,
    /// Its index.
    pub index: i32,
    /// Settings of its topic.
    pub settings: TopicSettings,
    /// Counters of its topic.
    pub metrics: TopicMetrics,
    /// The state machine with its log.
    pub partition: Partition,
}

/// One replica of this broker.
#[derive(Debug)]
pub struct Replica {
    /// Name of its topic.
    pub topic: TopicName,
    /// Id of its topic.
    pub topic_id: TopicId,
    /// Its index.
    pub index: i32,
    /// Counters of its topic.
    pub metrics: TopicMetrics,
    settings: RwLock<Arc<TopicSettings>>,
    context: ReplicaContext,
    partition: Mutex<Partition>,
    /// Whether a sync waits for a thread.
    sync_waits: AtomicBool,
    /// Told at the end of each sync.
    sync_ended: Condvar,
    /// Whether the topic is gone: what becomes of the log's bytes matters no more.
    deleted: AtomicBool,
    next_token: AtomicU64,
    waiters: Mutex<HashMap<WaitToken, Waiter>>,
}

impl Replica {
    /// A replica around an opened partition.
    pub fn new(parts: ReplicaParts, context: ReplicaContext) -> Arc<Self> {
        let ReplicaParts { topic, topic_id, index, settings, metrics, partition } = parts;
        Arc::new(Self {
            topic,
            topic_id,
            index,
            metrics,
            settings: RwLock::new(Arc::new(settings)),
            context,
            partition: Mutex::new(partition),
            sync_waits: AtomicBool::new(false),
            sync_ended: Condvar::new(),
            deleted: AtomicBool::new(false),
            next_token: AtomicU64::new(0),
            waiters: Mutex::default(),
        })
    }

    /// Carries out what the beginning of a reign asks for. Where records count as committed only once they are on the
    /// disk, they are synced here and now: whoever reads next, the coordinator of a journal among them, finds all that
    /// the log holds. Blocks.
    pub fn begin(self: &Arc<Self>, effects: Vec<Effect>) {
        let (syncs, others): (Vec<_>, Vec<_>) = effects.into_iter().partition(|effect| *effect == Effect::Flush);
        self.carry_out(others);
        let is_behind = {
            let partition = self.lock();
            partition.high_watermark() < partition.log_end_offset()
        };
        if is_behind && !syncs.is_empty() {
            self.flush();
        } else {
            self.carry_out(syncs);
        }
    }

    /// Which partition this is.
    pub fn key(&self) -> ReplicaKey {
        ReplicaKey { topic: self.topic_id, partition: self.index }
    }

    /// Settings of its topic, as they are now.
    pub fn settings(&self) -> Arc<TopicSettings> {
        Arc::clone(&self.settings.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Judges a produced batch and appends it.
    pub fn produce(
        self: &Arc<Self>,
        records: &Bytes,
        version: i16,
        acks: Acks,
        now_ms: Timestamp,
    ) -> Result<Appended, AppendFailure> {
        let batch = validate_produced(records, &ProduceRules::new(&self.settings(), version), now_ms)?;
        Ok(self.append(batch, acks, now_ms)?)
    }

    /// Appends a batch of the broker's own, or one that was judged.
    pub fn append(
        self: &Arc<Self>,
        batch: ValidatedBatch,
        acks: Acks,
        now_ms: Timestamp,
    ) -> Result<Appended, AppendError> {
        self.append_in_epoch(batch, acks, None, now_ms)
    }

    /// As [`Self::append`], for a writer that must not write once another has led in between.
    pub fn append_in_epoch(
        self: &Arc<Self>,
        batch: ValidatedBatch,
        acks: Acks,
        expected_epoch: Option<LeaderEpoch>,
        now_ms: Timestamp,
    ) -> Result<Appended, AppendError> {
        let (outcome, has_failed) = {
            let mut partition = self.lock();
            let outcome = partition.append(batch, acks, expected_epoch, now_ms);
            let has_failed = matches!(outcome, Err(AppendError::Log(_))) && partition.has_failed();
            (outcome, has_failed)
        };
        if let Err(error) = &outcome
            && has_failed
        {
            self.fail(error);
        }
        let (appended, effects) = outcome?;
        self.carry_out(effects);
        Ok(appended)
    }

    /// Waits until an append is committed: the outcome, or who will tell it. `None` if too many wait.
    pub fn when_committed(
        self: &Arc<Self>,
        required_offset: Offset,
    ) -> Option<Result<ProduceOutcome, oneshot::Receiver<ProduceOutcome>>> {
        let token = self.new_token();
        let (sender, receiver) = oneshot::channel();
        // Known before it can be woken.
        self.waiters().insert(token, Waiter::Produce(sender));
        let waiting = self.lock().wait_produce(token, required_offset);
        match waiting {
            Ok(ProduceWait::Registered) => Some(Err(receiver)),
            Ok(ProduceWait::Done(outcome)) => {
                self.waiters().remove(&token);
                Some(Ok(outcome))
            }
            Err(_) => {
                self.waiters().remove(&token);
                None
            }
        }
    }

    /// The watermarks and the reading side of the log, if this broker leads at that epoch.
    pub fn view(&self, requested_epoch: Option<LeaderEpoch>) -> Result<PartitionView, LeadershipError> {
        self.lock().view(requested_epoch)
    }

    /// Where an epoch ends (rule 29).
    pub fn epoch_end(
        &self,
        epoch: LeaderEpoch,
        requested_epoch: Option<LeaderEpoch>,
    ) -> Result<Option<(LeaderEpoch, Offset)>, LeadershipError> {
        self.lock().epoch_end(epoch, requested_epoch)
    }

    /// Has `notify` told when there is more to read. `None` if there is already.
    pub fn wait_fetch(
        self: &Arc<Self>,
        notify: &Arc<Notify>,
        offset: Offset,
        seen_end: Offset,
        wanted_bytes: u64,
        isolation: Isolation,
    ) -> Result<Option<FetchWait>, WaitError> {
        let token = self.new_token();
        self.waiters().insert(token, Waiter::Fetch(Arc::clone(notify)));
        let wait = FetchWait { replica: Arc::downgrade(self), token };
        match self.lock().wait_fetch(token, offset, seen_end, wanted_bytes, isolation) {
            Ok(Waiting::Registered) => Ok(Some(wait)),
            // Dropping `wait` forgets the token.
            Ok(Waiting::Ready) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Bytes in the log.
    pub fn size_bytes(&self) -> u64 {
        self.lock().size_bytes()
    }

    /// The offset after the last record.
    pub fn log_end(&self) -> Offset {
        self.lock().log_end_offset()
    }

    /// High watermark, recovery point and log start, to be checkpointed.
    pub fn checkpoints(&self) -> (Offset, Offset, Offset) {
        let partition = self.lock();
        (partition.high_watermark(), partition.recovery_point(), partition.log_start_offset())
    }

    /// Applies retention and time-based rolls. Blocks.
    pub fn maintain(&self, now_ms: Timestamp) -> Result<bool, StorageError> {
        self.lock().maintain(now_ms)
    }

    /// Forces the log to the disk. Blocks. `false` if it failed, or a sync is running already.
    pub fn flush(self: &Arc<Self>) -> bool {
        let Some(job) = self.lock().flush_job() else {
            return false;
        };
        let result = (job.run)();
        let kept = result.is_ok();
        if let Err(error) = &result {
            self.fail(error);
        }
        let (effects, follows) = {
            let mut partition = self.lock();
            (partition.flushed(result), partition.following().is_some())
        };
        self.sync_ended.notify_all();
        self.carry_out(effects);
        if follows {
            self.context.replication.ready(self.key());
        }
        kept
    }

    /// Raises the log start; what lies wholly below goes.
    pub fn advance_log_start(&self, offset: Offset) -> Result<(), StorageError> {
        self.lock().advance_log_start(offset)
    }

    /// The broker stops: everybody who waits is woken, nothing is taken any more.
    pub fn close(self: &Arc<Self>) {
        let effects = self.lock().close();
        self.carry_out(effects);
    }

    /// The topic is deleted: as [`Self::close`], and a sync that still runs is waited for, so that the folder may go; its
    /// failure does not matter. Blocks.
    pub fn delete(self: &Arc<Self>) {
        self.deleted.store(true, Ordering::Release);
        self.close();
        drop(self.lock_when_synced());
    }

    /// Forces the log to the disk after [`Self::close`], so that the next start needs no recovery. A sync that still
    /// runs is waited for, and fails this if it fails. Blocks.
    pub fn close_log(&self) -> Result<(), StorageError> {
        self.lock_when_synced().close_log()
    }

    /// After [`Self::close`] no sync begins, so the wait is for one at most.
    fn lock_when_synced(&self) -> MutexGuard<'_, Partition> {
        self.sync_ended
            .wait_while(self.lock(), |partition| partition.is_flushing())
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Only a restart helps the log, unless it is being deleted.
    fn fail(&self, error: &dyn std::error::Error) {
        if !self.deleted.load(Ordering::Acquire) {
            self.context.failure.fail(format!("{}-{}: {error}", self.topic, self.index));
        }
    }

    fn carry_out(self: &Arc<Self>, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::WakeFetch(token) => {
                    let waiter = self.waiters().remove(&token);
                    match waiter {
                        Some(Waiter::Fetch(notify)) => notify.notify_one(),
                        Some(Waiter::FollowerFetch(wake)) => wake(),
                        Some(Waiter::Produce(_) | Waiter::Deletion(_)) | None => {}
                    }
                }
                Effect::WakeProduce { token, outcome } => {
                    if let Some(Waiter::Produce(sender)) = self.waiters().remove(&token) {
                        // A client that has gone does not listen.
                        let _ = sender.send(outcome);
                    }
                }
                Effect::WakeDeletion { token, outcome } => {
                    if let Some(Waiter::Deletion(sender)) = self.waiters().remove(&token) {
                        let _ = sender.send(outcome);
                    }
                }
                Effect::Checkpoint => self.context.replication.was_cut(Arc::clone(self)),
                Effect::ProposeIsr(change) => {
                    self.context.replication.propose(self.key(), change, self.context.clock.monotonic());
                }
                // One sync per partition runs at a time and serves all appends before it; its end asks for the next.
                // One waits for a thread at a time: it will serve all appends before it begins.
                Effect::Flush => {
                    if !self.sync_waits.swap(true, Ordering::AcqRel) {
                        let replica = Arc::clone(self);
                        self.context.runtime.spawn_blocking(move || {
                            replica.sync_waits.store(false, Ordering::Release);
                            replica.flush();
                        });
                    }
                }
            }
        }
    }

    fn new_token(&self) -> WaitToken {
        WaitToken(self.next_token.fetch_add(1, Ordering::Relaxed))
    }

    fn lock(&self) -> MutexGuard<'_, Partition> {
        self.partition.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn waiters(&self) -> MutexGuard<'_, HashMap<WaitToken, Waiter>> {
        self.waiters.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A fetch that waits for a partition; dropping it takes the wait back. It does not keep a replica that is gone.
#[derive(Debug)]
pub struct FetchWait {
    replica: Weak<Replica>,
    token: WaitToken,
}

impl Drop for FetchWait {
    fn drop(&mut self) {
        let Some(replica) = self.replica.upgrade() else { return };
        // Woken ones are gone from both.
        let waiter = replica.waiters().remove(&self.token);
        if waiter.is_some() {
            replica.lock().cancel(self.token);
        }
    }
}
