// SPDX-License-Identifier: Apache-2.0
//! One error enum per operation. Beside each: the error code of Kafka that clients get; the server maps them.

use std::sync::Arc;

use odradek_model::{BrokerEpoch, BrokerId, LeaderEpoch, Offset};
use thiserror::Error;

use crate::log_port::{AppendRefusal, LogReadError, StorageError};

/// The request speaks of another leadership than the present one (rule 27).
#[derive(Debug, Error, Clone, Copy, PartialEq, Eq)]
pub enum LeadershipError {
    /// NOT_LEADER_OR_FOLLOWER 6: this replica does not lead.
    #[error("this replica does not lead the partition")]
    NotLeader,
    /// FENCED_LEADER_EPOCH 74: the requester is behind.
    #[error("leader epoch {requested} is over, the present one is {current}")]
    Fenced {
        /// What the request says.
        requested: LeaderEpoch,
        /// What is.
        current: LeaderEpoch,
    },
    /// UNKNOWN_LEADER_EPOCH 75: this replica is behind.
    #[error("leader epoch {requested} is not known here yet, the present one is {current}")]
    Unknown {
        /// What the request says.
        requested: LeaderEpoch,
        /// What is.
        current: LeaderEpoch,
    },
    /// NOT_LEADER_OR_FOLLOWER 6: the partition was deleted or the broker stops.
    #[error("the partition is closed")]
    Closed,
}

/// Why a batch was not appended.
#[derive(Debug, Error, Clone)]
pub enum AppendError {
    /// See there.
    #[error(transparent)]
    Leadership(#[from] LeadershipError),
    /// NOT_ENOUGH_REPLICAS 19: acks=all with fewer in-sync replicas than `min.insync.replicas` (rule 12).
    #[error("{in_sync} in-sync replicas, {required} are needed")]
    NotEnoughReplicas {
        /// Members of the ISR.
        in_sync: usize,
        /// The effective minimum.
        required: usize,
    },
    /// 45, 47, or KAFKA_STORAGE_ERROR 56.
    #[error(transparent)]
    Log(#[from] AppendRefusal),
}

/// Why nothing was read.
#[derive(Debug, Error, Clone)]
pub enum ReadError {
    /// See there.
    #[error(transparent)]
    Leadership(#[from] LeadershipError),
    /// OFFSET_OUT_OF_RANGE 1: below the log start or above the log end (rule 23).
    #[error("offset {offset} is outside the log, which holds {start} to {end}")]
    OffsetOutOfRange {
        /// What was asked for.
        offset: Offset,
        /// First offset of the log.
        start: Offset,
        /// The offset after the last.
        end: Offset,
    },
    /// KAFKA_STORAGE_ERROR 56.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

impl From<LogReadError> for ReadError {
    fn from(error: LogReadError) -> Self {
        match error {
            LogReadError::OffsetOutOfRange { offset, start, end } => Self::OffsetOutOfRange { offset, start, end },
            LogReadError::Storage(error) => Self::Storage(error),
        }
    }
}

/// Why no offset was found.
#[derive(Debug, Error, Clone)]
pub enum ListOffsetsError {
    /// See there.
    #[error(transparent)]
    Leadership(#[from] LeadershipError),
    /// OFFSET_NOT_AVAILABLE 78 (5 LEADER_NOT_AVAILABLE below version 5): the leader is new and what it has is not yet
    /// known to be committed (KIP-207).
    #[error("the high watermark has not reached the start of the leader's epoch yet")]
    NotAvailable,
    /// KAFKA_STORAGE_ERROR 56.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

impl From<LogReadError> for ListOffsetsError {
    fn from(error: LogReadError) -> Self {
        match error {
            // Segments went between look and read: the client asks again.
            LogReadError::OffsetOutOfRange { .. } => Self::NotAvailable,
            LogReadError::Storage(error) => Self::Storage(error),
        }
    }
}

/// Why a follower's fetch was not served.
#[derive(Debug, Error, Clone)]
pub enum FollowerFetchError {
    /// See there.
    #[error(transparent)]
    Leadership(#[from] LeadershipError),
    /// UNKNOWN_LEADER_EPOCH 75: no replica, as far as is known here. It may be one that the metadata adds; it retries.
    #[error("broker {replica} is not among the replicas")]
    NotAReplica {
        /// Who asked.
        replica: BrokerId,
    },
    /// NOT_LEADER_OR_FOLLOWER 6: a request of an incarnation that is over (KIP-903).
    #[error("broker {replica} fetches with broker epoch {found}, {current} is registered")]
    StaleBrokerEpoch {
        /// Who asked.
        replica: BrokerId,
        /// What the request says.
        found: BrokerEpoch,
        /// What the metadata says.
        current: BrokerEpoch,
    },
    /// OFFSET_OUT_OF_RANGE 1: below the log start or above the log end, or an epoch of which nothing is known.
    #[error("offset {offset} is outside the log, which holds {start} to {end}")]
    OffsetOutOfRange {
        /// What was asked for.
        offset: Offset,
        /// First offset of the log.
        start: Offset,
        /// The offset after the last.
        end: Offset,
    },
}

/// Why a follower has made no use of an answer, or not of all of it. The caller waits `replica.fetch.backoff.ms` and
/// asks for the next step.
#[derive(Debug, Error, Clone)]
pub enum FollowError {
    /// The leader sent what is no continuation of the log: damaged on the way, or at the leader. Whole batches before
    /// it are kept.
    #[error("the leader sent records that cannot be used: {message}")]
    Corrupt {
        /// The cause, for people.
        message: Arc<str>,
    },
    /// The leader's answer makes no sense, or would be given again for ever.
    #[error("the leader's answer cannot be acted upon: {message}")]
    Unusable {
        /// The cause, for people.
        message: Arc<str>,
    },
    /// The own disk. Unless it is only full, the partition is closed now and the effects are those of
    /// [`crate::Partition::close`].
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// Why no records were deleted (rule 34).
#[derive(Debug, Error, Clone)]
pub enum DeleteRecordsError {
    /// See there.
    #[error(transparent)]
    Leadership(#[from] LeadershipError),
    /// OFFSET_OUT_OF_RANGE 1: negative, or not committed.
    #[error("offset {offset} is not below the high watermark {high_watermark}")]
    OffsetOutOfRange {
        /// What was asked for.
        offset: Offset,
        /// What is committed.
        high_watermark: Offset,
    },
    /// KAFKA_STORAGE_ERROR 56.
    #[error(transparent)]
    Storage(#[from] StorageError),
}
