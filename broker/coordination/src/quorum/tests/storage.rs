// SPDX-License-Identifier: Apache-2.0
//! Storage in memory that holds nothing but the epoch of each record.

use std::convert::Infallible;

use bytes::Bytes;
use odradek_model::{ControllerEpoch, Offset};

use super::super::{LogBatch, LogPosition, Promise, QuorumStorage, StorageError, VoterSet, VoterSets};
use crate::Holder;

/// See the module.
#[derive(Clone, Debug, Default)]
pub(super) struct TestStorage {
    promise: Promise,
    voter_sets: VoterSets,
    epochs: Vec<ControllerEpoch>,
    /// Of the newest epoch record.
    pub(super) recovered_without: VoterSet,
}

impl StorageError for Infallible {
    fn is_fatal(&self) -> bool {
        match *self {}
    }
}

impl TestStorage {
    pub(super) fn with(promise: Promise, epochs: &[ControllerEpoch]) -> Self {
        Self { promise, epochs: epochs.to_vec(), ..Self::default() }
    }

    pub(super) fn knowing(self, voter_sets: VoterSets) -> Self {
        Self { voter_sets, ..self }
    }

    pub(super) fn batch(epoch: ControllerEpoch, base_offset: Offset, count: Offset) -> LogBatch {
        LogBatch { epoch, base_offset, end_offset: base_offset + count, bytes: Bytes::from_static(b"batch") }
    }
}

impl QuorumStorage for TestStorage {
    type Records = [u64];
    type Error = Infallible;

    fn position(&self) -> LogPosition {
        LogPosition { epoch: self.epochs.last().copied().unwrap_or(0), end: self.epochs.len() as i64 }
    }

    fn start(&self) -> LogPosition {
        LogPosition::default()
    }

    fn epoch_end(&self, epoch: ControllerEpoch) -> LogPosition {
        let end = self.epochs.partition_point(|other| *other <= epoch);
        LogPosition { epoch: end.checked_sub(1).map_or(0, |last| self.epochs[last]), end: end as i64 }
    }

    fn promised(&self) -> &Promise {
        &self.promise
    }

    fn promise(&mut self, epoch: ControllerEpoch, holder: &Holder) -> Result<bool, Infallible> {
        let next = Promise { epoch, holder: Some(holder.clone()) };
        let kept = epoch > self.promise.epoch || next == self.promise;
        if kept {
            self.promise = next;
        }
        Ok(kept)
    }

    fn voter_sets(&self) -> &VoterSets {
        &self.voter_sets
    }

    fn store_voter_sets(&mut self, sets: VoterSets) -> Result<(), Infallible> {
        self.voter_sets = sets;
        Ok(())
    }

    fn append(&mut self, epoch: ControllerEpoch, records: &[u64]) -> Result<(), Infallible> {
        self.epochs.extend(records.iter().map(|_| epoch));
        Ok(())
    }

    fn append_epoch_record(
        &mut self,
        epoch: ControllerEpoch,
        _: &Holder,
        recovered_without: &VoterSet,
    ) -> Result<(), Infallible> {
        self.epochs.push(epoch);
        self.recovered_without.clone_from(recovered_without);
        Ok(())
    }

    fn append_batches(&mut self, batches: &[LogBatch]) -> Result<(), Infallible> {
        for batch in batches {
            self.epochs.extend((batch.base_offset..batch.end_offset).map(|_| batch.epoch));
        }
        Ok(())
    }

    fn read(&self, from: Offset, _: usize) -> Result<Vec<LogBatch>, Infallible> {
        let epochs = self.epochs.iter().enumerate().skip(from as usize);
        Ok(epochs.map(|(offset, epoch)| Self::batch(*epoch, offset as i64, 1)).collect())
    }

    fn truncate_to(&mut self, end: Offset) -> Result<(), Infallible> {
        self.epochs.truncate(end as usize);
        Ok(())
    }

    fn snapshot_bytes(&self) -> u64 {
        0
    }

    fn read_snapshot(&self, _: u64, _: usize) -> Result<Bytes, Infallible> {
        Ok(Bytes::new())
    }

    fn install_snapshot(&mut self, _: &[u8]) -> Result<(), Infallible> {
        Ok(())
    }
}
