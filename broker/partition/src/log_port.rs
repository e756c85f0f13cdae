// SPDX-License-Identifier: Apache-2.0
//! What a replica needs from the log that it owns. Tests and the simulation have logs of their own behind it.
//! Must not know files or the formats in them; a place in a file is passed on unopened.

use std::any::Any;
use std::fmt::Debug;
use std::sync::Arc;

use bytes::Bytes;
use odradek_log::FileRegion;
use odradek_model::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, Timestamp, TopicSettings};
use odradek_records::ValidatedBatch;
use thiserror::Error;

/// What storage could not do. The texts name folder and cause.
#[derive(Debug, Error, Clone)]
#[error("{message}")]
pub struct StorageError {
    /// Whether the disk is full, so that the same may succeed later.
    pub no_space: bool,
    /// The cause, for people.
    pub message: Arc<str>,
}

/// Why a log did not take a batch. Nothing of it is in the log.
#[derive(Debug, Error, Clone)]
pub enum AppendRefusal {
    /// OUT_OF_ORDER_SEQUENCE_NUMBER 45 (rule 14).
    #[error("producer {producer_id} sent sequence {found}, expected {expected}")]
    OutOfOrderSequence {
        /// The producer.
        producer_id: ProducerId,
        /// First sequence of the batch.
        found: i32,
        /// What would have been accepted.
        expected: i32,
    },
    /// INVALID_PRODUCER_EPOCH 47 (rule 15).
    #[error("producer {producer_id} has epoch {found}, epoch {current} has already written")]
    InvalidProducerEpoch {
        /// The producer.
        producer_id: ProducerId,
        /// Epoch of the batch.
        found: ProducerEpoch,
        /// Newest epoch known.
        current: ProducerEpoch,
    },
    /// The disk refused.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// Why a log did not take what a leader sent. Whole batches before the one that failed are in the log.
#[derive(Debug, Error, Clone)]
pub enum ReplicateRefusal {
    /// A batch is damaged.
    #[error("{message}")]
    Corrupt {
        /// The cause, for people.
        message: Arc<str>,
    },
    /// A batch does not continue the log.
    #[error("a batch begins at offset {found}, the log ends at {end}")]
    NotNext {
        /// Offset of the batch's first record.
        found: Offset,
        /// The log's end.
        end: Offset,
    },
    /// The disk refused.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// Why a log gave no bytes.
#[derive(Debug, Error, Clone)]
pub enum LogReadError {
    /// Below the start (segments may go between look and read) or above the end.
    #[error("offset {offset} is outside the log, which holds {start} to {end}")]
    OffsetOutOfRange {
        /// What was asked for.
        offset: Offset,
        /// First offset of the log.
        start: Offset,
        /// The offset after the last.
        end: Offset,
    },
    /// The disk refused or has damaged the bytes.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// What an append did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LogAppended {
    /// Offset of the batch's first record.
    pub base_offset: Offset,
    /// Offset of its last record.
    pub last_offset: Offset,
    /// The time stamped into it, where the topic keeps the broker's time.
    pub log_append_time_ms: Option<Timestamp>,
    /// Whether the very batch was in the log already (rule 14): nothing was written.
    pub duplicate: bool,
}

/// A record found by time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TimedOffset {
    /// The record's timestamp.
    pub timestamp: Timestamp,
    /// Its offset.
    pub offset: Offset,
    /// Leader epoch of its batch, if known.
    pub leader_epoch: Option<LeaderEpoch>,
}

/// A sync of what the log has not yet forced to the disk, to be run outside of any lock.
pub struct FlushJob {
    /// Once it has succeeded, everything below this offset survives a loss of power.
    pub through: Offset,
    /// The sync itself. Never to be tried again after an error.
    pub run: Box<dyn FnOnce() -> Result<FlushDone, StorageError> + Send>,
}

/// A sync that has succeeded.
pub struct FlushDone {
    /// Everything below this offset survives a loss of power.
    pub through: Offset,
    /// What the log wants to have back ([`ReplicaLog::flushed`]); its own business.
    pub receipt: Box<dyn Any + Send>,
}

impl Debug for FlushDone {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FlushDone").field("through", &self.through).finish_non_exhaustive()
    }
}

impl Debug for FlushJob {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FlushJob").field("through", &self.through).finish_non_exhaustive()
    }
}

/// The writing side of a log; one owner.
pub trait ReplicaLog: Debug + Send {
    /// Stamps and appends one batch.
    fn append(
        &mut self,
        batch: ValidatedBatch,
        leader_epoch: LeaderEpoch,
        now_ms: Timestamp,
    ) -> Result<LogAppended, AppendRefusal>;

    /// Appends batches that a leader has stamped, as they are; checksums are checked, epochs and producers noted. A
    /// last batch that is cut off is left out. Returns the new end.
    fn append_replicated(&mut self, batches: &[u8], now_ms: Timestamp) -> Result<Offset, ReplicateRefusal>;

    /// Cuts the log so that it ends at or before `offset`, and forgets epochs that begin at or after that end. Durable
    /// when it returns, except for the recovery point: its checkpoint must be written before the next append.
    /// Returns the new end.
    fn truncate_to(&mut self, offset: Offset, now_ms: Timestamp) -> Result<Offset, StorageError>;

    /// Removes everything, epochs too, and begins anew at `offset`. As durable as [`Self::truncate_to`].
    fn truncate_fully(&mut self, offset: Offset, now_ms: Timestamp) -> Result<(), StorageError>;

    /// First offset that can be read.
    fn log_start_offset(&self) -> Offset;

    /// The offset after the last record.
    fn log_end_offset(&self) -> Offset;

    /// Everything below survives a loss of power.
    fn recovery_point(&self) -> Offset;

    /// Notes durably that a leader epoch begins at an offset. No effect if that epoch or a higher one is known.
    fn assign_epoch(&mut self, epoch: LeaderEpoch, start_offset: Offset) -> Result<(), StorageError>;

    /// The largest known epoch at or below `epoch` and the offset at which it ends (the log's end for the latest);
    /// rule 29. `None` for an epoch above the latest, or if no epoch is known.
    fn epoch_end(&self, epoch: LeaderEpoch) -> Option<(LeaderEpoch, Offset)>;

    /// Leader epoch of the record at an offset, if known; at the log's end the latest.
    fn epoch_at(&self, offset: Offset) -> Option<LeaderEpoch>;

    /// Takes new settings; they hold from the next append on.
    fn set_settings(&mut self, settings: &TopicSettings);

    /// Whether a failure left the log in doubt: it takes nothing any more, and only a restart helps.
    fn has_failed(&self) -> bool;

    /// Whether segments were closed whose files no sync has covered: a sync soon keeps the next start short.
    fn has_sealed_unflushed(&self) -> bool;

    /// The reading side; follows the log.
    fn reader(&self) -> Arc<dyn ReplicaReader>;

    /// The sync of all that is not forced yet; `None` if there is nothing.
    fn flush_job(&mut self) -> Option<FlushJob>;

    /// Takes note of a sync that has succeeded.
    fn flushed(&mut self, done: FlushDone);

    /// Raises the log start; data wholly below may go.
    fn advance_log_start(&mut self, offset: Offset) -> Result<(), StorageError>;

    /// Applies retention and time-based rolls to what lies below the high watermark; true if anything went.
    fn maintain(&mut self, high_watermark: Offset, now_ms: Timestamp) -> Result<bool, StorageError>;

    /// Bytes in the log.
    fn size_bytes(&self) -> u64;

    /// Forces everything to the disk and leaves what makes the next start quick. No use afterwards.
    fn close(&mut self) -> Result<(), StorageError>;
}

/// The reading side of a log: shared, needs no lock, may block on the disk.
pub trait ReplicaReader: Debug + Send + Sync {
    /// First offset that can be read.
    fn log_start_offset(&self) -> Offset;

    /// Whether a read from this offset is likely served from memory. Does not block; a guess that is wrong costs time
    /// only.
    fn is_hot(&self, from: Offset) -> bool;

    /// Whole batches from the one that holds `from`, all below `up_to`, at most `max_bytes`; the first one even if it
    /// is larger, if `first_batch_always` (rule 22). Empty if nothing lies there.
    fn read(
        &self,
        from: Offset,
        up_to: Offset,
        max_bytes: usize,
        first_batch_always: bool,
    ) -> Result<Bytes, LogReadError>;

    /// Where what [`Self::read`] would give lies, if it is `least` bytes or more and can be sent from there without
    /// waiting for the disk. `None` in any doubt: then it is read.
    fn locate(&self, _from: Offset, _up_to: Offset, _max_bytes: usize, _least: usize) -> Option<FileRegion> {
        None
    }

    /// The first record below `up_to` whose timestamp is at or above `timestamp` (rule 32).
    fn offset_for_time(&self, timestamp: Timestamp, up_to: Offset) -> Result<Option<TimedOffset>, LogReadError>;

    /// The record with the largest timestamp below `up_to`, the first of several (KIP-734).
    fn max_timestamp(&self, up_to: Offset) -> Result<Option<TimedOffset>, LogReadError>;
}
