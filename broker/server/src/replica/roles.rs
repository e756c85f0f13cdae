// SPDX-License-Identifier: Apache-2.0
//! Leading and following as the broker drives them: what the metadata decided, what a follower asks and does with the
//! answers, what a leader makes of its followers' fetches. It must not know how any of it travels.
use std::sync::{Arc, PoisonError};

use odradek_model::{BrokerId, LeaderEpoch, Offset, TopicSettings};
use odradek_partition::{
    Decided, DeleteOutcome, DeleteRecordsError, DeleteRequested, FetchAnswer, FetchPlan, FollowError, FollowerFetch,
    FollowerFetchError, FollowerFetched, FollowerStep, IsrAnswer, IsrChange, LeaderOffsets, LeadershipError,
    OffsetsPlan, PartitionView, ReadError, StorageError, WaitError, Waiting, Witnesses,
};
use odradek_replication::Confirmed;
use tokio::sync::oneshot;

use super::{FetchWait, Replica, Waiter};

/// What a consumer may read now.
#[derive(Debug, Clone)]
pub enum ConsumerView {
    /// Read from here.
    Read(PartitionView),
    /// It has read what is not in this log: where the log ends in the largest epoch at or below the consumer's.
    Diverging {
        /// That epoch.
        epoch: LeaderEpoch,
        /// Its end.
        end_offset: Offset,
    },
}

impl Replica {
    /// Takes a decision of the metadata, with the settings of the same moment. Blocks.
    ///
    /// # Errors
    /// As [`odradek_partition::Partition::decide`].
    pub fn decide(self: &Arc<Self>, decided: Decided, settings: &TopicSettings) -> Result<(), StorageError> {
        let now = self.context.clock.monotonic();
        let leads = matches!(decided, Decided::Leads(_));
        let changed = (*self.settings() != *settings).then_some(settings);
        let (effects, outcome) = {
            let mut partition = self.lock();
            if let Some(settings) = changed {
                *self.settings.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(settings.clone());
            }
            partition.decide(decided, changed, now)
        };
        if leads {
            self.begin(effects);
        } else {
            self.carry_out(effects);
        }
        outcome
    }

    /// Lets time pass for a leader.
    pub fn tick(self: &Arc<Self>) {
        let effects = self.lock().tick(self.context.clock.monotonic());
        self.carry_out(effects);
    }

    /// Tells a leader that the metadata says something new of brokers.
    pub fn brokers_changed(self: &Arc<Self>) {
        let effects = self.lock().brokers_changed(self.context.clock.monotonic());
        self.carry_out(effects);
    }

    /// Whether this replica leads.
    pub fn leads(&self) -> bool {
        self.lock().leadership().is_some()
    }

    /// The highest leader epoch in which this replica has led or followed since this broker's start; `None` if in none.
    pub fn newest_epoch(&self) -> Option<LeaderEpoch> {
        Some(self.lock().leader_epoch()).filter(|epoch| *epoch >= 0)
    }

    /// Whom to ask whether this replica still leads; see [`odradek_partition::Partition::witnesses`].
    pub fn witnesses(&self, leader_epoch: LeaderEpoch) -> Result<Witnesses, LeadershipError> {
        self.lock().witnesses(Some(leader_epoch))
    }

    /// Whether this replica leads in that epoch and nobody has committed anything in a later one: `None` if that is so and
    /// nobody has to be asked, else who will tell.
    pub fn confirm(self: &Arc<Self>, leader_epoch: LeaderEpoch) -> Option<oneshot::Receiver<Confirmed>> {
        match self.witnesses(leader_epoch) {
            Ok(witnesses) if witnesses.suffice(|_| false) => None,
            Ok(_) | Err(_) => Some(self.context.replication.confirm(self.key(), leader_epoch)),
        }
    }

    /// Whether this replica leads with fewer than all replicas in sync.
    pub fn is_under_replicated(&self) -> bool {
        self.lock().leadership().is_some_and(|led| led.in_sync.len() < led.replicas.len())
    }

    /// Whether this replica leads with fewer replicas in sync than the topic demands.
    pub fn is_under_min_in_sync(&self) -> bool {
        self.lock().is_under_min_in_sync()
    }

    // === as a follower ===

    /// What to ask the leader next; see [`odradek_partition::Partition::next_step`].
    pub fn next_step(&self) -> FollowerStep {
        self.lock().next_step()
    }

    /// Acts on the leader's answer to a fetch; `false` if the replica has another question by now. May block: records are
    /// written, and a log that differs is cut.
    pub fn fetch_answered(self: &Arc<Self>, plan: &FetchPlan, answer: FetchAnswer) -> Result<bool, FollowError> {
        let (awaits, (effects, result)) = {
            let mut partition = self.lock();
            let awaits = partition.awaits(plan);
            (awaits, partition.fetch_answered(plan, answer, self.context.clock.now_ms()))
        };
        self.carry_out(effects);
        result.map(|()| awaits)
    }

    /// Acts on the leader's offsets. May block.
    pub fn offsets_answered(self: &Arc<Self>, plan: &OffsetsPlan, leader: LeaderOffsets) -> Result<(), FollowError> {
        let (effects, result) = self.lock().offsets_answered(plan, leader, self.context.clock.now_ms());
        self.carry_out(effects);
        result
    }

    /// The checkpoints after a cut are on the disk.
    pub fn checkpointed(&self) {
        self.lock().checkpointed();
    }

    // === as a leader ===

    /// Judges a follower's fetch, once when it arrives, and takes note of how far the follower has come.
    pub fn follower_fetch(self: &Arc<Self>, fetch: &FollowerFetch) -> Result<FollowerFetched, FollowerFetchError> {
        let (fetched, effects) = self.lock().follower_fetch(fetch, self.context.clock.monotonic())?;
        self.carry_out(effects);
        Ok(fetched)
    }

    /// Judges a follower's fetch again, after a wait.
    pub fn follower_view(&self, fetch: &FollowerFetch) -> Result<FollowerFetched, FollowerFetchError> {
        self.lock().follower_view(fetch)
    }

    /// Whether a follower's fetches count against the leader's rate: it is listed, and not in sync.
    pub fn is_slowed_for(&self, leader: BrokerId, follower: BrokerId) -> bool {
        self.settings().leader_throttled.contains(self.index, leader)
            && self.lock().leadership().is_some_and(|led| !led.in_sync.contains(&follower))
    }

    /// Has `wake` called, once, when there is more for a follower, or this replica leads no more. `None` if that is so
    /// already.
    pub fn wait_follower_fetch(
        self: &Arc<Self>,
        wake: impl FnOnce() + Send + 'static,
        offset: Offset,
        seen_end: Offset,
    ) -> Result<Option<FetchWait>, WaitError> {
        let token = self.new_token();
        self.waiters().insert(token, Waiter::FollowerFetch(Box::new(wake)));
        let wait = FetchWait { replica: Arc::downgrade(self), token };
        match self.lock().wait_follower_fetch(token, offset, seen_end) {
            Ok(Waiting::Registered) => Ok(Some(wait)),
            Ok(Waiting::Ready) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The controller's answer to an ISR change.
    pub fn isr_answered(self: &Arc<Self>, change: &IsrChange, answer: IsrAnswer) {
        let effects = self.lock().isr_answered(change, answer);
        self.carry_out(effects);
    }

    /// Makes `offset` the first of the log, the high watermark if `None`; see
    /// [`odradek_partition::Partition::delete_records`].
    pub fn delete_records(
        self: &Arc<Self>,
        offset: Option<Offset>,
        requested_epoch: Option<LeaderEpoch>,
    ) -> Result<DeleteRequested, DeleteRecordsError> {
        let (requested, effects) = self.lock().delete_records(offset, requested_epoch)?;
        self.carry_out(effects);
        Ok(requested)
    }

    /// Tells when all live replicas have deleted everything below `offset`; `None` if there is nothing to wait for.
    pub fn when_deleted(
        self: &Arc<Self>,
        offset: Offset,
    ) -> Result<Option<oneshot::Receiver<DeleteOutcome>>, WaitError> {
        let token = self.new_token();
        let (sender, receiver) = oneshot::channel();
        self.waiters().insert(token, Waiter::Deletion(sender));
        let waiting = self.lock().wait_deletion(token, offset);
        match waiting {
            Ok(Waiting::Registered) => Ok(Some(receiver)),
            other => {
                self.waiters().remove(&token);
                other.map(|_| None)
            }
        }
    }

    // === for consumers ===

    /// What a consumer may read who has read up to `offset`, the last of it in `last_epoch`. With `may_follow` also if
    /// another broker leads (KIP-392).
    pub fn consumer_view(
        &self,
        requested_epoch: Option<LeaderEpoch>,
        may_follow: bool,
        offset: Offset,
        last_epoch: Option<LeaderEpoch>,
    ) -> Result<ConsumerView, ReadError> {
        let partition = self.lock();
        let view =
            if may_follow { partition.replica_view(requested_epoch)? } else { partition.view(requested_epoch)? };
        let diverging = last_epoch.map(|epoch| partition.diverging(offset, epoch)).transpose()?.flatten();
        Ok(match diverging {
            Some((epoch, end_offset)) => ConsumerView::Diverging { epoch, end_offset },
            None => ConsumerView::Read(view),
        })
    }

    /// The replica that a consumer of a rack should read from instead; see
    /// [`odradek_partition::Partition::preferred_read_replica`].
    pub fn preferred_read_replica<'a>(
        &self,
        rack: &str,
        offset: Offset,
        requested_epoch: Option<LeaderEpoch>,
        rack_of: impl Fn(BrokerId) -> Option<&'a str>,
    ) -> Result<Option<BrokerId>, LeadershipError> {
        self.lock().preferred_read_replica(rack, offset, requested_epoch, rack_of)
    }
}
