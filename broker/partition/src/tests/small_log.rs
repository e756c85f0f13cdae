// SPDX-License-Identifier: Apache-2.0
//! A log of which only the leader epoch of each record is kept: an epoch has one leader, so epoch and offset name a
//! record. One record to a batch.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use odradek_model::{LeaderEpoch, Offset, Timestamp, TopicSettings};
use odradek_records::{BatchBuilder, BatchOptions, Batches, ValidatedBatch};

use crate::{
    AppendRefusal, FlushDone, FlushJob, LogAppended, LogReadError, ReplicaLog, ReplicaReader, ReplicateRefusal,
    StorageError, TimedOffset,
};

/// What is on the disk.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Contents {
    /// Leader epoch of each record, from offset 0 on.
    pub(super) records: Vec<LeaderEpoch>,
    /// Where each epoch began.
    pub(super) epochs: Vec<(LeaderEpoch, Offset)>,
}

#[derive(Clone, Debug, Default)]
pub(super) struct SmallLog(Arc<Mutex<Contents>>);

impl SmallLog {
    pub(super) fn new(contents: Contents) -> Self {
        Self(Arc::new(Mutex::new(contents)))
    }

    pub(super) fn contents(&self) -> MutexGuard<'_, Contents> {
        self.0.lock().expect("no test panics with it")
    }
}

impl Contents {
    fn end(&self) -> Offset {
        self.records.len() as Offset
    }

    fn assign(&mut self, epoch: LeaderEpoch, start: Offset) {
        if self.epochs.last().is_none_or(|(last, _)| *last < epoch) {
            self.epochs.retain(|(_, other)| *other < start);
            self.epochs.push((epoch, start));
        }
    }

    pub(super) fn cut(&mut self, offset: Offset) {
        self.records.truncate(offset as usize);
        let end = self.end();
        self.epochs.retain(|(_, start)| *start < end);
    }
}

thread_local! {
    static BATCHES: RefCell<BTreeMap<(LeaderEpoch, Offset), Bytes>> = const { RefCell::new(BTreeMap::new()) };
    static ONE: ValidatedBatch = one_record();
}

fn one_record() -> ValidatedBatch {
    let mut builder = BatchBuilder::new(BatchOptions::default());
    builder.append(0, None, None, &[]);
    builder.build_validated()
}

/// A batch of one record, as a client sends it.
pub(super) fn produced() -> ValidatedBatch {
    ONE.with(Clone::clone)
}

fn stored(epoch: LeaderEpoch, offset: Offset) -> Bytes {
    BATCHES.with_borrow_mut(|batches| {
        let made = batches.entry((epoch, offset)).or_insert_with(|| {
            let mut batch = produced();
            batch.assign(offset, epoch, None);
            batch.to_vec().into()
        });
        made.clone()
    })
}

impl ReplicaLog for SmallLog {
    fn append(
        &mut self,
        _batch: ValidatedBatch,
        leader_epoch: LeaderEpoch,
        _now_ms: Timestamp,
    ) -> Result<LogAppended, AppendRefusal> {
        let mut contents = self.contents();
        let offset = contents.end();
        contents.assign(leader_epoch, offset);
        contents.records.push(leader_epoch);
        Ok(LogAppended { base_offset: offset, last_offset: offset, log_append_time_ms: None, duplicate: false })
    }

    fn append_replicated(&mut self, batches: &[u8], _now_ms: Timestamp) -> Result<Offset, ReplicateRefusal> {
        let mut contents = self.contents();
        for batch in Batches::new(batches) {
            let header = batch.expect("the network damages nothing").header;
            let (found, end) = (header.base_offset, contents.end());
            if found != end {
                return Err(ReplicateRefusal::NotNext { found, end });
            }
            contents.assign(header.partition_leader_epoch, found);
            contents.records.push(header.partition_leader_epoch);
        }
        Ok(contents.end())
    }

    fn truncate_to(&mut self, offset: Offset, _now_ms: Timestamp) -> Result<Offset, StorageError> {
        let mut contents = self.contents();
        contents.cut(offset);
        Ok(contents.end())
    }

    fn truncate_fully(&mut self, _offset: Offset, _now_ms: Timestamp) -> Result<(), StorageError> {
        unreachable!("all logs begin at 0")
    }

    fn log_start_offset(&self) -> Offset {
        0
    }

    fn log_end_offset(&self) -> Offset {
        self.contents().end()
    }

    fn recovery_point(&self) -> Offset {
        0
    }

    fn assign_epoch(&mut self, epoch: LeaderEpoch, start_offset: Offset) -> Result<(), StorageError> {
        self.contents().assign(epoch, start_offset);
        Ok(())
    }

    fn epoch_end(&self, epoch: LeaderEpoch) -> Option<(LeaderEpoch, Offset)> {
        let contents = self.contents();
        let after = contents.epochs.partition_point(|(known, _)| *known <= epoch);
        let Some((_, end)) = contents.epochs.get(after) else {
            let (last, _) = contents.epochs.last()?;
            return (*last == epoch).then_some((epoch, contents.end()));
        };
        Some((after.checked_sub(1).map_or(epoch, |at| contents.epochs[at].0), *end))
    }

    fn epoch_at(&self, offset: Offset) -> Option<LeaderEpoch> {
        self.contents().epochs.iter().rev().find(|(_, start)| *start <= offset).map(|(epoch, _)| *epoch)
    }

    fn set_settings(&mut self, _settings: &TopicSettings) {}

    fn has_failed(&self) -> bool {
        false
    }

    fn has_sealed_unflushed(&self) -> bool {
        false
    }

    fn reader(&self) -> Arc<dyn ReplicaReader> {
        Arc::new(self.clone())
    }

    fn flush_job(&mut self) -> Option<FlushJob> {
        None
    }

    fn flushed(&mut self, _done: FlushDone) {}

    fn advance_log_start(&mut self, _offset: Offset) -> Result<(), StorageError> {
        unreachable!("all logs begin at 0")
    }

    fn maintain(&mut self, _high_watermark: Offset, _now_ms: Timestamp) -> Result<bool, StorageError> {
        Ok(false)
    }

    fn size_bytes(&self) -> u64 {
        0
    }

    fn close(&mut self) -> Result<(), StorageError> {
        Ok(())
    }
}

impl ReplicaReader for SmallLog {
    fn log_start_offset(&self) -> Offset {
        0
    }

    fn is_hot(&self, _from: Offset) -> bool {
        true
    }

    fn read(&self, from: Offset, up_to: Offset, _max_bytes: usize, _first: bool) -> Result<Bytes, LogReadError> {
        let contents = self.contents();
        let wanted = from..up_to.min(contents.end());
        let parts: Vec<_> = wanted.map(|offset| stored(contents.records[offset as usize], offset)).collect();
        Ok(if let [one] = &parts[..] { one.clone() } else { parts.concat().into() })
    }

    fn offset_for_time(&self, _timestamp: Timestamp, _up_to: Offset) -> Result<Option<TimedOffset>, LogReadError> {
        Ok(None)
    }

    fn max_timestamp(&self, _up_to: Offset) -> Result<Option<TimedOffset>, LogReadError> {
        Ok(None)
    }
}
