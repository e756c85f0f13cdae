// SPDX-License-Identifier: Apache-2.0
//! One error enum per operation. Must not know Kafka's error codes: the server maps them.

use odradek_disk::DiskError;
use odradek_model::{Offset, ProducerEpoch, ProducerId};
use odradek_records::BatchError;
use std::path::PathBuf;
use thiserror::Error;

/// Why a log cannot be opened, maintained or closed.
#[derive(Debug, Error)]
pub enum LogError {
    /// The disk refused. A torn or damaged tail is never an error; it is cut and reported.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The folder holds another life of the topic: a stray of a deleted topic.
    #[error("{} belongs to topic id {found}, not {expected}", dir.display())]
    TopicIdMismatch {
        /// The partition's folder.
        dir: PathBuf,
        /// What the folder says.
        found: String,
        /// The id that was asked for.
        expected: String,
    },
    /// An earlier failure left the files in doubt (a failed sync or an append that could not be undone). The log
    /// takes no more writes; only a restart, which recovers it, helps.
    #[error("the log in {} failed earlier and takes no more writes until it is opened again", dir.display())]
    Failed {
        /// The partition's folder.
        dir: PathBuf,
    },
    /// A log start beyond the end was asked for.
    #[error("offset {offset} is outside the log, which holds {start} to {end}")]
    OffsetOutOfRange {
        /// What was asked for.
        offset: Offset,
        /// First offset of the log.
        start: Offset,
        /// The offset after the last.
        end: Offset,
    },
    /// A segment that is trusted cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
}

/// Why a batch was not appended. Nothing of it is in the log, whatever the variant.
#[derive(Debug, Error)]
pub enum AppendError {
    /// The sequence number leaves a gap, or an unknown epoch does not begin at 0 (OUT_OF_ORDER_SEQUENCE_NUMBER 45).
    #[error("producer {producer_id} sent sequence {found}, expected {expected}")]
    OutOfOrderSequence {
        /// The producer.
        producer_id: ProducerId,
        /// First sequence of the batch.
        found: i32,
        /// What would have been accepted.
        expected: i32,
    },
    /// A newer incarnation of the producer has written (INVALID_PRODUCER_EPOCH 47).
    #[error("producer {producer_id} has epoch {found}, epoch {current} has already written")]
    InvalidProducerEpoch {
        /// The producer.
        producer_id: ProducerId,
        /// Epoch of the batch.
        found: ProducerEpoch,
        /// Newest epoch known.
        current: ProducerEpoch,
    },
    /// Replicated bytes do not continue the log: their first offset is not the log's end or later.
    #[error("batch at offset {found} does not continue the log, which ends at {end}")]
    NotNext {
        /// Base offset of the batch.
        found: Offset,
        /// The log's end.
        end: Offset,
    },
    /// Replicated bytes are no record batches.
    #[error("replicated bytes are damaged: {0}")]
    Batch(#[from] BatchError),
    /// The disk refused, for example because it is full ([`DiskError::is_no_space`]); what was written of the batch
    /// has been cut off again, so later appends may succeed.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// See [`LogError::Failed`].
    #[error("the log in {} failed earlier and takes no more writes until it is opened again", dir.display())]
    Failed {
        /// The partition's folder.
        dir: PathBuf,
    },
}

/// Why nothing was read.
#[derive(Debug, Error)]
pub enum ReadError {
    /// Below the log's start or above its end (OFFSET_OUT_OF_RANGE 1).
    #[error("offset {offset} is outside the log, which holds {start} to {end}")]
    OffsetOutOfRange {
        /// What was asked for.
        offset: Offset,
        /// First offset of the log.
        start: Offset,
        /// The offset after the last.
        end: Offset,
    },
    /// The stored bytes are no batch where one must begin: the disk has damaged them.
    #[error("damaged batch in {} at byte {position}: {error}", path.display())]
    Damaged {
        /// The segment's file.
        path: PathBuf,
        /// Where the batch should begin.
        position: u64,
        /// What is wrong.
        error: BatchError,
    },
    /// The disk refused.
    #[error(transparent)]
    Disk(#[from] DiskError),
}

/// A sync failed. The kernel may have thrown the bytes away and will not say so again, so it is never retried: the log
/// takes no more writes, and the process should end and recover.
#[derive(Debug, Error)]
#[error("records may be lost because the disk failed to keep them: {0}")]
pub struct FlushError(#[from] pub DiskError);
