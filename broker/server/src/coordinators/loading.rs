// SPDX-License-Identifier: Apache-2.0
//! Reads the journal of a partition's groups from its start to its end. All of it or nothing: what cannot be read must
//! neither be served around nor be written anew without it.
use odradek_groups::{GroupCoordinator, RecordError};
use odradek_model::{LeaderEpoch, Offset, Timestamp};
use odradek_partition::{Isolation, LeadershipError, PartitionView, ReadError};
use odradek_records::{Batch, BatchError, Batches, MalformedRecord};

use crate::replica::Replica;

/// Bytes of the journal read in one go.
const READ_BYTES: usize = 1 << 20;

/// Why the groups of a partition are not served.
#[derive(Debug, thiserror::Error)]
pub(super) enum LoadError {
    /// Another broker leads: nothing is wrong.
    #[error(transparent)]
    Leadership(#[from] LeadershipError),
    /// The log cannot be read.
    #[error("offset {offset}: {error}")]
    Read {
        /// Where.
        offset: Offset,
        /// Why.
        error: ReadError,
    },
    /// The log has less than it claims.
    #[error("offset {0}: there is nothing below the high watermark")]
    Missing(Offset),
    /// A batch is damaged.
    #[error("offset {offset}: {error}")]
    Batch {
        /// Where.
        offset: Offset,
        /// How.
        error: BatchError,
    },
    /// A batch is whole but not what batches are.
    #[error("offset {offset}: {error}")]
    Malformed {
        /// Where its batch begins.
        offset: Offset,
        /// How.
        error: MalformedRecord,
    },
    /// A record is not one of groups, or one of a newer program.
    #[error("offset {offset}: {error}")]
    Record {
        /// Where its batch begins.
        offset: Offset,
        /// How.
        error: RecordError,
    },
}

/// Gives every committed record of the replica's log to the machine, in order, if it leads in that epoch. Blocks.
pub(super) fn load(
    replica: &Replica,
    leader_epoch: LeaderEpoch,
    machine: &mut GroupCoordinator,
    now_ms: Timestamp,
) -> Result<(), LoadError> {
    let view: PartitionView = replica.view(Some(leader_epoch))?;
    let mut offset = view.log_start_offset();
    while offset < view.high_watermark() {
        let before = offset;
        let fetched = view
            .read(offset, READ_BYTES, Isolation::ReadUncommitted, true)
            .map_err(|error| LoadError::Read { offset, error })?;
        for batch in Batches::new(&fetched.records) {
            let batch = batch.and_then(|batch| batch.verify().map(|()| batch));
            let batch = batch.map_err(|error| LoadError::Batch { offset, error })?;
            if !batch.header.is_control() {
                replay(&batch, machine, now_ms)?;
            }
            offset = batch.header.next_offset();
        }
        if offset <= before {
            return Err(LoadError::Missing(offset));
        }
    }
    Ok(())
}

fn replay(batch: &Batch<'_>, machine: &mut GroupCoordinator, now_ms: Timestamp) -> Result<(), LoadError> {
    let offset = batch.header.base_offset;
    let records = batch.records().map_err(|error| LoadError::Batch { offset, error })?;
    for record in records.iter() {
        let record = record.map_err(|error| LoadError::Malformed { offset, error })?;
        // Without a key it is about nothing: a compacted topic of Kafka's would not have it either.
        let Some(key) = record.key else { continue };
        machine.replay(key, record.value, now_ms).map_err(|error| LoadError::Record { offset, error })?;
    }
    Ok(())
}
