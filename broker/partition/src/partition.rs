// SPDX-License-Identifier: Apache-2.0
//! One replica: its log, its role, its high watermark, and who waits for it. Messages and time come in, effects go out;
//! the only I/O is the log's own. This file has what clients see; `partition/` has the roles and what each does.

mod deletion;
mod fetches;
mod following;
#[cfg(test)]
mod fork;
mod roles;
mod witnesses;

use std::sync::Arc;

use odradek_model::{LeaderEpoch, Offset, PartitionEpoch, Timestamp, TopicIdPartition, TopicSettings};
use odradek_records::ValidatedBatch;

pub use self::deletion::{DeleteOutcome, DeleteRequested};
pub use self::fetches::{FollowerFetch, FollowerFetched};
pub use self::roles::Decided;
pub use self::witnesses::Witnesses;
use crate::brokers::LocalBroker;
use crate::error::{AppendError, LeadershipError};
use crate::follower::Follower;
use crate::isr::IsrChange;
use crate::leader::Leader;
use crate::log_port::{FlushDone, FlushJob, ReplicaLog, ReplicaReader, StorageError};
use crate::planted::{Planted, PlantedBug};
use crate::time::MonotonicTime;
use crate::view::{Isolation, PartitionView, check_epoch};
use crate::waits::{WaitError, WaitToken, Waiting, Waits};

/// How much certainty a producer asks for before it is answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Acks {
    /// 0: no answer at all.
    None,
    /// 1: the leader has it in its log.
    Leader,
    /// -1: all in-sync replicas have it, and they are enough.
    All,
}

/// The settings of the topic that a replica itself obeys.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PartitionSettings {
    /// `min.insync.replicas`; effective is at most the number of replicas.
    pub min_insync_replicas: i32,
    /// `flush.messages`: with 1 only what is forced to the disk becomes visible and is acknowledged to acks=all; with
    /// more a sync is asked for after so many records; `None` leaves it to the system.
    pub flush_messages: Option<u64>,
}

impl PartitionSettings {
    /// Those of a topic.
    pub fn new(settings: &TopicSettings) -> Self {
        Self { min_insync_replicas: settings.min_insync_replicas, flush_messages: settings.flush_messages }
    }
}

/// What an append did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Appended {
    /// Offset of the first record.
    pub base_offset: Offset,
    /// Offset of the last record.
    pub last_offset: Offset,
    /// For the answer: set where the topic keeps the broker's time (rule 9).
    pub log_append_time_ms: Option<Timestamp>,
    /// For the answer.
    pub log_start_offset: Offset,
    /// Whether the very batch was there already (rule 14).
    pub duplicate: bool,
    /// The high watermark that acks=all waits for ([`Partition::wait_produce`]).
    pub required_offset: Offset,
}

/// How a produce with acks=all that waited ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ProduceOutcome {
    /// Committed.
    Committed,
    /// NOT_ENOUGH_REPLICAS_AFTER_APPEND 20: in the log, but the in-sync replicas have become too few (rule 12).
    NotEnoughReplicasAfterAppend,
    /// NOT_LEADER_OR_FOLLOWER 6: leadership or the partition is gone; the record may be in the log.
    NotLeader,
    /// KAFKA_STORAGE_ERROR 56: the disk failed to keep it; the record may be in the log.
    StorageFailed,
}

/// What becomes of a produce that would wait.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ProduceWait {
    /// The token will be woken with an outcome, once.
    Registered,
    /// There is nothing to wait for.
    Done(ProduceOutcome),
}

/// What the caller must do after a call.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Effect {
    /// Let the fetch look again (it may find more bytes, another leader, or the partition gone).
    WakeFetch(WaitToken),
    /// Answer the produce.
    WakeProduce {
        /// Who.
        token: WaitToken,
        /// With what.
        outcome: ProduceOutcome,
    },
    /// Answer the deletion.
    WakeDeletion {
        /// Who.
        token: WaitToken,
        /// With what.
        outcome: DeleteOutcome,
    },
    /// Take [`Partition::flush_job`], run it outside of the lock, report by [`Partition::flushed`].
    Flush,
    /// The log was cut back, or what lies below its new start must not come back: write the checkpoints of recovery point,
    /// high watermark and log start, then report by [`Partition::checkpointed`]. Nothing is appended before.
    Checkpoint,
    /// Send this to the controller and report by [`Partition::isr_answered`]. Attempts after the first are to be sent
    /// no sooner than 50 ms after the one before.
    ProposeIsr(IsrChange),
}

#[derive(Debug)]
enum Role {
    /// The partition has no leader, or nothing has been heard yet.
    Idle,
    Leader(Leader),
    Follower(Follower),
}

/// One replica of one partition. All calls are quick except for the log's writes; reading goes through a
/// [`PartitionView`], outside of whatever lock holds the partition.
#[derive(Debug)]
pub struct Partition {
    id: TopicIdPartition,
    local: LocalBroker,
    settings: PartitionSettings,
    log: Box<dyn ReplicaLog>,
    reader: Arc<dyn ReplicaReader>,
    role: Role,
    /// Of the newest decision taken; older ones are ignored.
    epochs: (LeaderEpoch, PartitionEpoch),
    /// The latest time heard of, for calls that bring none.
    now: MonotonicTime,
    high_watermark: Offset,
    flush_running: bool,
    /// The log was cut and the checkpoint of its recovery point is not written yet.
    checkpoint_due: bool,
    /// Of the next question to a leader.
    next_ask: u64,
    /// Set by a failed sync or by [`Partition::close`]; nothing is taken any more.
    closed: Option<ProduceOutcome>,
    waits: Waits,
    planted: Planted,
}

impl Partition {
    /// A replica that neither leads nor follows yet. `checkpointed_high_watermark` is what was last stored for it
    /// (0 if nothing); nothing between it and the log's end counts as committed before a leader says so.
    pub fn new(
        id: TopicIdPartition,
        local: LocalBroker,
        settings: PartitionSettings,
        log: Box<dyn ReplicaLog>,
        checkpointed_high_watermark: Offset,
    ) -> Self {
        let reader = log.reader();
        let high_watermark = checkpointed_high_watermark.clamp(log.log_start_offset(), log.log_end_offset());
        Self {
            id,
            local,
            settings,
            reader,
            role: Role::Idle,
            epochs: (-1, -1),
            now: MonotonicTime(i64::MIN),
            high_watermark,
            flush_running: false,
            checkpoint_due: false,
            next_ask: 0,
            closed: None,
            waits: Waits::default(),
            planted: Planted::default(),
            log,
        }
    }

    /// Which partition this is.
    pub fn id(&self) -> &TopicIdPartition {
        &self.id
    }

    /// The offset below which everything is committed; to be checkpointed from time to time.
    pub fn high_watermark(&self) -> Offset {
        self.high_watermark
    }

    /// First offset that can be read.
    pub fn log_start_offset(&self) -> Offset {
        self.log.log_start_offset()
    }

    /// The offset after the last record.
    pub fn log_end_offset(&self) -> Offset {
        self.log.log_end_offset()
    }

    /// Everything below survives a loss of power; to be checkpointed from time to time.
    pub fn recovery_point(&self) -> Offset {
        self.log.recovery_point()
    }

    /// Bytes in the log.
    pub fn size_bytes(&self) -> u64 {
        self.log.size_bytes()
    }

    /// Whether the log takes nothing any more because a failure left it in doubt; only a restart helps.
    pub fn has_failed(&self) -> bool {
        self.log.has_failed()
    }

    /// How many requests wait.
    pub fn waiting(&self) -> usize {
        self.waits.len()
    }

    /// Whether fewer replicas are in sync than the topic demands; false unless leading.
    pub fn is_under_min_in_sync(&self) -> bool {
        self.reign().is_some_and(|leader| !leader.has_enough_in_sync(self.settings.min_insync_replicas))
    }

    /// Takes new settings, the log's too; a smaller minimum may commit what was frozen.
    pub fn update_settings(&mut self, settings: &TopicSettings) -> Vec<Effect> {
        self.settings = PartitionSettings::new(settings);
        self.log.set_settings(settings);
        self.advance()
    }

    /// Whether a [`FlushJob`] was taken whose end has not been reported.
    pub fn is_flushing(&self) -> bool {
        self.flush_running
    }

    /// Forces the log to the disk and leaves what makes the next start quick. After [`Partition::close`] only, and once
    /// no sync runs: the failure of one is told to one caller only, and a second sync of the same files would succeed.
    pub fn close_log(&mut self) -> Result<(), StorageError> {
        assert!(self.closed.is_some(), "a partition is closed before its log");
        assert!(!self.flush_running, "a sync that runs is waited for");
        self.log.close()
    }

    /// Appends one batch. `expected_epoch` is for writers that hold the partition by its epoch (coordinators).
    pub fn append(
        &mut self,
        batch: ValidatedBatch,
        acks: Acks,
        expected_epoch: Option<LeaderEpoch>,
        now_ms: Timestamp,
    ) -> Result<(Appended, Vec<Effect>), AppendError> {
        let (min_in_sync, in_sync, leader_epoch) = {
            let leader = self.leader(expected_epoch)?;
            if self.checkpoint_due {
                // The client asks again; the checkpoint is on its way.
                return Err(LeadershipError::NotLeader.into());
            }
            let leadership = &leader.leadership;
            (leader.min_in_sync(self.settings.min_insync_replicas), leadership.in_sync.len(), leadership.leader_epoch)
        };
        if acks == Acks::All && in_sync < min_in_sync {
            return Err(AppendError::NotEnoughReplicas { in_sync, required: min_in_sync });
        }
        let size = batch.size_bytes();
        let appended = self.log.append(batch, leader_epoch, now_ms).map_err(AppendError::Log)?;
        let required_offset = appended.last_offset + 1;
        let effects = if appended.duplicate {
            Vec::new()
        } else {
            assert_eq!(self.log.log_end_offset(), required_offset, "a batch is appended at the end");
            self.waits.appended(required_offset, size);
            let mut effects = self.advance();
            self.wake_followers(&mut effects);
            effects
        };
        let appended = Appended {
            base_offset: appended.base_offset,
            last_offset: appended.last_offset,
            log_append_time_ms: appended.log_append_time_ms,
            log_start_offset: self.log.log_start_offset(),
            duplicate: appended.duplicate,
            required_offset,
        };
        Ok((appended, effects))
    }

    /// Waits until everything below `required_offset` is committed.
    pub fn wait_produce(&mut self, token: WaitToken, required_offset: Offset) -> Result<ProduceWait, WaitError> {
        if let Some(outcome) = self.closed {
            return Ok(ProduceWait::Done(outcome));
        }
        let Some(leader) = self.reign() else {
            return Ok(ProduceWait::Done(ProduceOutcome::NotLeader));
        };
        if self.high_watermark >= required_offset {
            return Ok(ProduceWait::Done(self.committed_outcome(leader)));
        }
        self.waits.wait_committed(token, required_offset)?;
        Ok(ProduceWait::Registered)
    }

    /// Waits for something new to read. The caller has read (or found nothing) up to `seen_end`, the visible end of
    /// its [`PartitionView`]: if that has moved on since, there is nothing to wait for. Otherwise the token is woken
    /// once anything from `fetch_offset` on is visible and `wanted_bytes` have become visible since. A request over
    /// several partitions whose sum counts waits on each with `wanted_bytes` 1 and looks at the sum itself.
    pub fn wait_fetch(
        &mut self,
        token: WaitToken,
        fetch_offset: Offset,
        seen_end: Offset,
        wanted_bytes: u64,
        isolation: Isolation,
    ) -> Result<Waiting, WaitError> {
        let visible_end = self.visible_end(isolation);
        if matches!(self.role, Role::Idle) || visible_end > seen_end.max(fetch_offset) {
            return Ok(Waiting::Ready);
        }
        if wanted_bytes <= 1 || fetch_offset > visible_end {
            self.waits.wait_visible(token, seen_end.max(fetch_offset))?;
        } else {
            self.waits.wait_bytes(token, wanted_bytes)?;
        }
        Ok(Waiting::Registered)
    }

    /// Stops waiting (time is over, the client is gone); false if the token has been woken or never waited.
    pub fn cancel(&mut self, token: WaitToken) -> bool {
        self.waits.cancel(token)
    }

    /// What reading needs, to be used without the partition. Fails unless this replica leads at that epoch.
    pub fn view(&self, requested_epoch: Option<LeaderEpoch>) -> Result<PartitionView, LeadershipError> {
        let leader = self.leader(requested_epoch)?;
        Ok(self.view_from(leader.epoch_start_offset))
    }

    /// As [`Self::view`], for a consumer that may read from a follower too (KIP-392): up to this replica's own high
    /// watermark (rule 31).
    pub fn replica_view(&self, requested_epoch: Option<LeaderEpoch>) -> Result<PartitionView, LeadershipError> {
        self.check_open(requested_epoch)?;
        match &self.role {
            Role::Leader(leader) => Ok(self.view_from(leader.epoch_start_offset)),
            // Only a leader may have to hold answers back until its epoch has begun.
            Role::Follower(_) => Ok(self.view_from(self.log.log_start_offset())),
            Role::Idle => Err(LeadershipError::NotLeader),
        }
    }

    fn view_from(&self, epoch_start_offset: Offset) -> PartitionView {
        PartitionView {
            reader: Arc::clone(&self.reader),
            leader_epoch: self.epochs.0,
            epoch_start_offset,
            log_start_epoch: self.log.epoch_at(self.log.log_start_offset()),
            high_watermark: self.high_watermark,
            last_stable_offset: self.visible_end(Isolation::ReadCommitted),
            log_end_offset: self.log.log_end_offset(),
        }
    }

    /// Where an epoch ends (rule 29): the largest known epoch at or below `epoch` and its end; `None` (-1/-1 on the
    /// wire) for one above the present, or if nothing is known.
    pub fn epoch_end(
        &self,
        epoch: LeaderEpoch,
        requested_epoch: Option<LeaderEpoch>,
    ) -> Result<Option<(LeaderEpoch, Offset)>, LeadershipError> {
        self.leader(requested_epoch)?;
        Ok(if epoch < 0 { None } else { self.log.epoch_end(epoch) })
    }

    /// Raises the log start to an offset that is committed; others are ignored. So are all once the partition is closed:
    /// its folder's name may be another topic's by then.
    pub fn advance_log_start(&mut self, offset: Offset) -> Result<(), StorageError> {
        if self.closed.is_none() && offset > self.log.log_start_offset() && offset <= self.high_watermark {
            self.log.advance_log_start(offset)?;
        }
        Ok(())
    }

    /// Applies retention and time-based rolls; to be called every few minutes. True if anything went.
    pub fn maintain(&mut self, now_ms: Timestamp) -> Result<bool, StorageError> {
        if self.closed.is_some() { Ok(false) } else { self.log.maintain(self.high_watermark, now_ms) }
    }

    /// The sync that [`Effect::Flush`] asks for; `None` if one runs already (its end will ask again if needed) or
    /// there is nothing to force.
    pub fn flush_job(&mut self) -> Option<FlushJob> {
        if self.flush_running || self.closed.is_some() {
            return None;
        }
        let job = self.log.flush_job()?;
        self.flush_running = true;
        Some(job)
    }

    /// Reports the end of a [`FlushJob`]. A failed one closes the partition: what was written since the last good
    /// one may be lost, and only a restart finds out.
    pub fn flushed(&mut self, result: Result<FlushDone, StorageError>) -> Vec<Effect> {
        self.flush_running = false;
        match result {
            Ok(done) => {
                self.log.flushed(done);
                self.advance()
            }
            Err(error) => {
                tracing::error!(partition = %self.id.topic_partition, %error, "a sync failed, the partition is closed");
                self.close_with(ProduceOutcome::StorageFailed)
            }
        }
    }

    /// The present reign, if this replica leads.
    fn reign(&self) -> Option<&Leader> {
        match &self.role {
            Role::Leader(leader) => Some(leader),
            Role::Idle | Role::Follower(_) => None,
        }
    }

    /// The epoch is compared before anything else (rule 27): a replica that has not heard yet that it leads says so.
    fn check_open(&self, requested_epoch: Option<LeaderEpoch>) -> Result<(), LeadershipError> {
        if self.closed.is_some() {
            return Err(LeadershipError::Closed);
        }
        check_epoch(self.epochs.0, requested_epoch)
    }

    fn leader(&self, requested_epoch: Option<LeaderEpoch>) -> Result<&Leader, LeadershipError> {
        self.check_open(requested_epoch)?;
        self.reign().ok_or(LeadershipError::NotLeader)
    }

    /// The end that a consumer may see. Without transactions both isolations see the same.
    fn visible_end(&self, _isolation: Isolation) -> Offset {
        self.high_watermark
    }

    /// Whether the ISR is large enough now for what is committed to count (rule 12); who is about to join counts.
    fn committed_outcome(&self, leader: &Leader) -> ProduceOutcome {
        if leader.maximal_isr_len() < leader.min_in_sync(self.settings.min_insync_replicas) {
            ProduceOutcome::NotEnoughReplicasAfterAppend
        } else {
            ProduceOutcome::Committed
        }
    }

    /// Whether fetches and acknowledgements wait until records are forced to the disk.
    fn forces_every_record(&self) -> bool {
        self.settings.flush_messages.is_some_and(|messages| messages <= 1)
    }

    fn is_flush_due(&self) -> bool {
        let unforced = self.log.log_end_offset() - self.log.recovery_point();
        let many = |messages: u64| unforced >= i64::try_from(messages.max(1)).unwrap_or(i64::MAX);
        self.log.has_sealed_unflushed() || self.settings.flush_messages.is_some_and(many)
    }

    /// Asks for a sync if one is due, moves the high watermark of a leader as far as it may, and wakes whom that serves.
    fn advance(&mut self) -> Vec<Effect> {
        let mut effects = Vec::new();
        if !matches!(self.role, Role::Idle) && !self.flush_running && self.is_flush_due() {
            effects.push(Effect::Flush);
        }
        let Some(leader) = self.reign() else {
            return effects;
        };
        let log_end = self.log.log_end_offset();
        let own_end = if self.forces_every_record() { log_end.min(self.log.recovery_point()) } else { log_end };
        let may_move = leader.has_enough_in_sync(self.settings.min_insync_replicas)
            || self.planted.has(PlantedBug::HighWatermarkMovesUnderMinIsr);
        let committed = leader.committed_end(own_end, log_end, &self.local, self.now, self.planted);
        if let Some(committed) = committed.filter(|committed| may_move && *committed > self.high_watermark) {
            self.raise_high_watermark(committed, &mut effects);
        } else if self.planted.has(PlantedBug::HighWatermarkFalls) {
            self.high_watermark = committed.unwrap_or(0).min(self.high_watermark);
        }
        effects
    }

    /// Moves the high watermark up and wakes whom that serves.
    fn raise_high_watermark(&mut self, to: Offset, effects: &mut Vec<Effect>) {
        assert!(to > self.high_watermark, "the high watermark rises");
        assert!(to <= self.log.log_end_offset(), "what is committed is in the log");
        self.high_watermark = to;
        let mut woken = Vec::new();
        self.waits.visible_to(to, &mut woken);
        effects.extend(woken.drain(..).map(Effect::WakeFetch));
        if let Role::Leader(leader) = &self.role {
            let outcome = self.committed_outcome(leader);
            self.waits.committed_to(to, &mut woken);
            effects.extend(woken.into_iter().map(|token| Effect::WakeProduce { token, outcome }));
        }
    }

    /// Wakes followers' fetches that wait for what lies below the log's end.
    fn wake_followers(&mut self, effects: &mut Vec<Effect>) {
        let mut woken = Vec::new();
        self.waits.appended_to(self.log.log_end_offset(), &mut woken);
        effects.extend(woken.into_iter().map(Effect::WakeFetch));
    }

    /// Whoever waits finds another leader, or the partition gone.
    fn wake_all(&mut self, outcome: ProduceOutcome) -> Vec<Effect> {
        let drained = self.waits.drain();
        let produces = drained.produces.into_iter().map(|token| Effect::WakeProduce { token, outcome });
        let deletion = DeleteOutcome::NotLeader;
        let deletions = drained.deletions.into_iter().map(|token| Effect::WakeDeletion { token, outcome: deletion });
        drained.fetches.into_iter().map(Effect::WakeFetch).chain(produces).chain(deletions).collect()
    }
}
