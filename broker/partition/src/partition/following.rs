// SPDX-License-Identifier: Apache-2.0
//! What a follower does: plan the next question to its leader, and act on the answer: append, cut, start over, take
//! over watermarks (`ReplicaFetcherThread`). Must not know how questions travel.

use bytes::Bytes;
use odradek_model::{LeaderEpoch, Offset, Timestamp};
use odradek_records::Batches;

use super::{Effect, Partition, ProduceOutcome, Role};
use crate::error::FollowError;
use crate::follower::{
    AskNumber, FetchAnswer, FetchPlan, FollowerStep, LeaderOffsets, OffsetsPlan, Phase, truncation_offset,
};
use crate::log_port::{ReplicateRefusal, StorageError};
use crate::planted::PlantedBug;

/// What acting on an answer came to: effects in any case, and whether the caller waits before the next step.
type Followed = (Vec<Effect>, Result<(), FollowError>);

impl Partition {
    /// What to do next as a follower. Every call makes the answers to earlier steps void, so it is asked for once the
    /// last answer was given in, or when none will come.
    pub fn next_step(&mut self) -> FollowerStep {
        let last_fetched_epoch = self.log.epoch_at(self.log.log_end_offset());
        let claims_unforced = self.forces_every_record() && self.log.log_end_offset() > self.log.recovery_point();
        let Role::Follower(follower) = &mut self.role else {
            return FollowerStep::Nothing;
        };
        follower.asked = None;
        if follower.phase == Phase::Fenced {
            return FollowerStep::Nothing;
        }
        if self.checkpoint_due {
            return FollowerStep::AwaitCheckpoint;
        }
        if claims_unforced {
            return FollowerStep::AwaitFlush;
        }
        let (number, leader) = (AskNumber(self.next_ask), follower.following.leader);
        let leader_epoch = follower.following.leader_epoch;
        self.next_ask += 1;
        let step = match follower.phase {
            Phase::OutOfRange => FollowerStep::AskOffsets(OffsetsPlan { number, leader, leader_epoch }),
            Phase::Fetching | Phase::Fenced => FollowerStep::Fetch(FetchPlan {
                number,
                leader,
                leader_epoch,
                fetch_offset: self.log.log_end_offset(),
                last_fetched_epoch,
                log_start_offset: self.log.log_start_offset(),
            }),
        };
        follower.asked = Some(step);
        step
    }

    /// Whether this is the replica's present question: the answer to another means nothing.
    pub fn awaits(&self, plan: &FetchPlan) -> bool {
        matches!(&self.role, Role::Follower(follower) if follower.asked == Some(FollowerStep::Fetch(*plan)))
    }

    /// Acts on the answer to a fetch. After an error the caller waits `replica.fetch.backoff.ms` before the next step.
    pub fn fetch_answered(&mut self, plan: &FetchPlan, answer: FetchAnswer, now_ms: Timestamp) -> Followed {
        let late_is_good = self.planted.has(PlantedBug::LateAnswersTaken);
        let Role::Follower(follower) = &mut self.role else {
            return (Vec::new(), Ok(()));
        };
        if follower.asked != Some(FollowerStep::Fetch(*plan)) && !late_is_good {
            return (Vec::new(), Ok(()));
        }
        follower.asked = None;
        match answer {
            FetchAnswer::Records { records, high_watermark, log_start_offset } => {
                self.take_records(plan, &records, high_watermark, log_start_offset, now_ms)
            }
            FetchAnswer::Diverging { epoch, end_offset } => self.cut_diverging(plan, epoch, end_offset, now_ms),
            FetchAnswer::OutOfRange => {
                follower.phase = Phase::OutOfRange;
                (Vec::new(), Ok(()))
            }
            FetchAnswer::Fenced => {
                follower.phase = Phase::Fenced;
                (Vec::new(), Ok(()))
            }
        }
    }

    /// Acts on the leader's log start and end, asked for because the last fetch was out of its range: a longer log is
    /// cut to the leader's end (that happens after an unclean election only), one that ends below the leader's start is
    /// begun anew there.
    pub fn offsets_answered(&mut self, plan: &OffsetsPlan, leader: LeaderOffsets, now_ms: Timestamp) -> Followed {
        let Role::Follower(follower) = &mut self.role else {
            return (Vec::new(), Ok(()));
        };
        if follower.asked != Some(FollowerStep::AskOffsets(*plan)) {
            return (Vec::new(), Ok(()));
        }
        follower.asked = None;
        if leader.log_start < 0 || leader.log_start > leader.log_end {
            return unusable(format!("its log holds {} to {}", leader.log_start, leader.log_end));
        }
        follower.phase = Phase::Fetching;
        let log_end = self.log.log_end_offset();
        let partition = &self.id.topic_partition;
        let cut = if log_end > leader.log_end {
            tracing::warn!(%partition, log_end, ?leader, "the log is longer than the leader's and is cut");
            self.log.truncate_to(leader.log_end, now_ms).map(|_| ())
        } else if log_end < leader.log_start {
            tracing::warn!(%partition, log_end, ?leader, "the log ends below the leader's start and begins anew there");
            self.log.truncate_fully(leader.log_start, now_ms)
        } else {
            // In range by now; not at once again, lest two brokers that disagree keep each other busy.
            return unusable(format!("offset {log_end} is out of range, and within it"));
        };
        match cut {
            Ok(()) => (self.was_cut(), Ok(())),
            Err(error) => self.storage_failed(error),
        }
    }

    /// Appends what continues the log, then takes over high watermark and log start.
    fn take_records(
        &mut self,
        plan: &FetchPlan,
        records: &Bytes,
        high_watermark: Offset,
        log_start_offset: Offset,
        now_ms: Timestamp,
    ) -> Followed {
        let mut effects = Vec::new();
        let mut result = Ok(());
        if !records.is_empty() {
            match self.append_replicated(plan.leader_epoch, records, now_ms, &mut effects) {
                Ok(()) => {}
                Err(FollowError::Storage(error)) => {
                    let (more, result) = self.storage_failed(error);
                    effects.extend(more);
                    return (effects, result);
                }
                Err(error) => result = Err(error),
            }
        }
        // It never falls but by a cut: what one leader said is committed stays so, even if the next is yet to learn it.
        let committed = high_watermark.min(self.log.log_end_offset());
        if committed > self.high_watermark {
            self.raise_high_watermark(committed, &mut effects);
        }
        let start = log_start_offset.min(self.high_watermark);
        if start > self.log.log_start_offset() {
            let is_common = self.continues_across(start);
            if let Err(error) = self.log.advance_log_start(start) {
                let (more, result) = self.storage_failed(error);
                effects.extend(more);
                return (effects, result);
            }
            if !is_common {
                // It must not come back with a restart: until then this replica asks for nothing, so it is not in sync.
                self.checkpoint_due = true;
                effects.push(Effect::Checkpoint);
            }
        }
        effects.extend(self.advance());
        (effects, result)
    }

    /// Whether what lies below an offset is surely the leader's, whose log begins there: one epoch on both sides is one
    /// history. A leader whose log no longer has the epoch of a follower's tail tells it to cut at the leader's start at the
    /// lowest, and what is left of the tail below that was perhaps never committed.
    fn continues_across(&self, offset: Offset) -> bool {
        offset < self.log.log_end_offset() && self.log.epoch_at(offset - 1) == self.log.epoch_at(offset)
    }

    fn append_replicated(
        &mut self,
        leader_epoch: LeaderEpoch,
        records: &Bytes,
        now_ms: Timestamp,
        effects: &mut Vec<Effect>,
    ) -> Result<(), FollowError> {
        let continuation = Continuation::of(records, leader_epoch, self.log.epoch_at(self.log.log_end_offset()));
        let log_end = self.log.log_end_offset();
        if self.log.log_start_offset() == log_end
            && let Some((first, next)) = continuation.first
            && first < log_end
            && next > log_end
        {
            // The leader's log starts in the middle of a batch (DeleteRecords): an empty log begins where the batch does.
            self.log.truncate_fully(first, now_ms)?;
            effects.extend(self.was_cut());
        }
        let appended = self.log.append_replicated(&records[..continuation.size], now_ms);
        let log_end = self.log.log_end_offset();
        for (next_offset, size) in continuation.batches.into_iter().filter(|(next, _)| *next <= log_end) {
            self.waits.appended(next_offset, size);
        }
        match appended {
            Ok(_) => {
                continuation.refused.map_or(Ok(()), |message| Err(FollowError::Corrupt { message: message.into() }))
            }
            Err(ReplicateRefusal::Storage(error)) => Err(error.into()),
            Err(error @ (ReplicateRefusal::Corrupt { .. } | ReplicateRefusal::NotNext { .. })) => {
                Err(FollowError::Corrupt { message: error.to_string().into() })
            }
        }
    }

    /// Cuts the log where the leader says that it differs; the next fetch finds out whether that was enough.
    fn cut_diverging(&mut self, plan: &FetchPlan, epoch: LeaderEpoch, end: Offset, now_ms: Timestamp) -> Followed {
        if epoch < 0 || end < 0 || plan.last_fetched_epoch.is_none_or(|asked| epoch > asked) {
            return unusable(format!(
                "asked for the end of epoch {:?} it said {end} of {epoch}",
                plan.last_fetched_epoch
            ));
        }
        let log_end = self.log.log_end_offset();
        let last_epoch = self.log.epoch_at(log_end);
        let to = truncation_offset((epoch, end), self.log.epoch_end(epoch), log_end);
        let partition = &self.id.topic_partition;
        if to < self.high_watermark {
            let high_watermark = self.high_watermark;
            tracing::warn!(%partition, to, high_watermark, "the log is cut below its high watermark");
        }
        let new_end = match self.log.truncate_to(to, now_ms) {
            Ok(new_end) => new_end,
            Err(error) => return self.storage_failed(error),
        };
        tracing::info!(%partition, log_end, new_end, epoch, end, "the log differs from the leader's and was cut");
        if new_end < log_end {
            return (self.was_cut(), Ok(()));
        }
        if self.log.epoch_at(new_end) == last_epoch {
            return unusable(format!("nothing differs at {end} of epoch {epoch}"));
        }
        (Vec::new(), Ok(()))
    }

    /// After the log was cut: the high watermark comes back into it, and the recovery point must be checkpointed.
    fn was_cut(&mut self) -> Vec<Effect> {
        let (start, end) = (self.log.log_start_offset(), self.log.log_end_offset());
        self.high_watermark = self.high_watermark.clamp(start, end);
        self.waits.truncated_to(end);
        self.checkpoint_due = true;
        vec![Effect::Checkpoint]
    }

    /// A full disk may have room later. After anything else the log is in doubt, and only a restart finds out.
    fn storage_failed(&mut self, error: StorageError) -> Followed {
        if error.no_space && !self.log.has_failed() {
            return (self.advance(), Err(error.into()));
        }
        tracing::error!(partition = %self.id.topic_partition, %error, "a follower's log failed, the partition is closed");
        (self.close_with(ProduceOutcome::StorageFailed), Err(error.into()))
    }
}

fn unusable(message: String) -> Followed {
    (Vec::new(), Err(FollowError::Unusable { message: message.into() }))
}

/// The part of what a leader sent that may continue a log.
#[derive(Debug, Default)]
struct Continuation {
    /// Bytes of that part; damage is left in, for the log to find.
    size: usize,
    /// First offset of the first batch and the one after its last.
    first: Option<(Offset, Offset)>,
    /// The offset after each batch, and its bytes. Bounded by the answer's size.
    batches: Vec<(Offset, usize)>,
    /// Why the rest is not wanted.
    refused: Option<String>,
}

impl Continuation {
    /// Batches of an epoch above the one that was asked in are left out silently: the broker has lost its leadership
    /// while it answered and read what a later leader wrote. An epoch that falls within a log is damage (the field is
    /// outside of the checksum).
    fn of(records: &Bytes, leader_epoch: LeaderEpoch, last_epoch: Option<LeaderEpoch>) -> Self {
        let mut part = Self::default();
        let mut last_epoch = last_epoch.unwrap_or(0);
        let mut batches = Batches::new(records);
        loop {
            part.size = batches.position();
            let header = match batches.next() {
                Some(Ok(batch)) => batch.header,
                Some(Err(_)) => {
                    part.size = records.len();
                    return part;
                }
                None => return part,
            };
            let epoch = header.partition_leader_epoch;
            if epoch > leader_epoch {
                return part;
            }
            if epoch < last_epoch {
                part.refused = Some(format!("epoch {epoch} follows {last_epoch} at offset {}", header.base_offset));
                return part;
            }
            last_epoch = epoch;
            part.first.get_or_insert((header.base_offset, header.next_offset()));
            part.batches.push((header.next_offset(), header.size_bytes()));
        }
    }
}
