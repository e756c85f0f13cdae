// SPDX-License-Identifier: Apache-2.0
//! The real log behind the replica's port. Must not decide anything: it passes on and translates errors.

use std::sync::Arc;

use bytes::Bytes;
use odradek_log::{FileRegion, Flushed, Log, LogError, LogReader, LogSettings};
use odradek_model::{LeaderEpoch, Offset, Timestamp, TopicSettings};
use odradek_records::ValidatedBatch;

use crate::log_port::{
    AppendRefusal, FlushDone, FlushJob, LogAppended, LogReadError, ReplicaLog, ReplicaReader, ReplicateRefusal,
    StorageError, TimedOffset,
};

impl ReplicaLog for Log {
    fn append(
        &mut self,
        batch: ValidatedBatch,
        leader_epoch: LeaderEpoch,
        now_ms: Timestamp,
    ) -> Result<LogAppended, AppendRefusal> {
        let appended = Log::append(self, batch, leader_epoch, now_ms).map_err(append_refusal)?;
        Ok(LogAppended {
            base_offset: appended.base_offset,
            last_offset: appended.last_offset,
            log_append_time_ms: appended.log_append_time_ms,
            duplicate: appended.duplicate,
        })
    }

    fn append_replicated(&mut self, batches: &[u8], now_ms: Timestamp) -> Result<Offset, ReplicateRefusal> {
        Log::append_replicated(self, batches, now_ms).map_err(replicate_refusal)
    }

    fn truncate_to(&mut self, offset: Offset, now_ms: Timestamp) -> Result<Offset, StorageError> {
        Log::truncate_to(self, offset, now_ms).map_err(storage_error)
    }

    fn truncate_fully(&mut self, offset: Offset, now_ms: Timestamp) -> Result<(), StorageError> {
        Log::truncate_fully(self, offset, now_ms).map_err(storage_error)
    }

    fn log_start_offset(&self) -> Offset {
        Log::log_start_offset(self)
    }

    fn log_end_offset(&self) -> Offset {
        Log::log_end_offset(self)
    }

    fn recovery_point(&self) -> Offset {
        Log::recovery_point(self)
    }

    fn assign_epoch(&mut self, epoch: LeaderEpoch, start_offset: Offset) -> Result<(), StorageError> {
        Log::assign_epoch(self, epoch, start_offset).map_err(storage_error)
    }

    fn epoch_end(&self, epoch: LeaderEpoch) -> Option<(LeaderEpoch, Offset)> {
        self.epoch_end_offset(epoch)
    }

    fn epoch_at(&self, offset: Offset) -> Option<LeaderEpoch> {
        Log::epoch_at(self, offset)
    }

    fn reader(&self) -> Arc<dyn ReplicaReader> {
        Arc::new(Log::reader(self))
    }

    fn set_settings(&mut self, settings: &TopicSettings) {
        // The broker's own settings are not the topic's to change.
        let producer_id_expiration_ms = Log::settings(self).producer_id_expiration_ms;
        Log::set_settings(self, LogSettings { producer_id_expiration_ms, ..LogSettings::new(settings) });
    }

    fn has_failed(&self) -> bool {
        Log::has_failed(self)
    }

    fn has_sealed_unflushed(&self) -> bool {
        Log::has_sealed_unflushed(self)
    }

    fn flush_job(&mut self) -> Option<FlushJob> {
        let handle = self.flush_handle();
        let through = handle.up_to();
        if through <= Log::recovery_point(self) && !Log::has_sealed_unflushed(self) {
            return None;
        }
        let run = move || match handle.run() {
            Ok(flushed) => Ok(FlushDone { through: flushed.up_to, receipt: Box::new(flushed) }),
            Err(error) => Err(StorageError { no_space: error.0.is_no_space(), message: error.to_string().into() }),
        };
        Some(FlushJob { through, run: Box::new(run) })
    }

    fn flushed(&mut self, done: FlushDone) {
        let flushed = done.receipt.downcast::<Flushed>().expect("the receipt is the one our own job made");
        self.flushed_up_to(*flushed);
    }

    fn advance_log_start(&mut self, offset: Offset) -> Result<(), StorageError> {
        Log::advance_log_start(self, offset).map(|_| ()).map_err(storage_error)
    }

    fn maintain(&mut self, high_watermark: Offset, now_ms: Timestamp) -> Result<bool, StorageError> {
        let deleted = self.apply_retention(now_ms, high_watermark).map_err(storage_error)?;
        Ok(deleted.segments > 0)
    }

    fn size_bytes(&self) -> u64 {
        Log::size_bytes(self)
    }

    fn close(&mut self) -> Result<(), StorageError> {
        self.close_clean().map_err(storage_error)
    }
}

impl ReplicaReader for LogReader {
    fn log_start_offset(&self) -> Offset {
        LogReader::log_start_offset(self)
    }

    fn is_hot(&self, from: Offset) -> bool {
        LogReader::is_hot(self, from)
    }

    fn read(
        &self,
        from: Offset,
        up_to: Offset,
        max_bytes: usize,
        first_batch_always: bool,
    ) -> Result<Bytes, LogReadError> {
        LogReader::read(self, from, max_bytes, up_to, first_batch_always).map(|slice| slice.bytes).map_err(read_error)
    }

    fn locate(&self, from: Offset, up_to: Offset, max_bytes: usize, least: usize) -> Option<FileRegion> {
        LogReader::locate(self, from, max_bytes, up_to, least)
    }

    fn offset_for_time(&self, timestamp: Timestamp, up_to: Offset) -> Result<Option<TimedOffset>, LogReadError> {
        Ok(LogReader::offset_for_time(self, timestamp, up_to).map_err(read_error)?.map(timed))
    }

    fn max_timestamp(&self, up_to: Offset) -> Result<Option<TimedOffset>, LogReadError> {
        Ok(LogReader::max_timestamp(self, up_to).map_err(read_error)?.map(timed))
    }
}

fn timed(found: odradek_log::FoundTimestamp) -> TimedOffset {
    TimedOffset { timestamp: found.timestamp, offset: found.offset, leader_epoch: Some(found.leader_epoch) }
}

fn append_refusal(error: odradek_log::AppendError) -> AppendRefusal {
    use odradek_log::AppendError as Log;
    match error {
        Log::OutOfOrderSequence { producer_id, found, expected } => {
            AppendRefusal::OutOfOrderSequence { producer_id, found, expected }
        }
        Log::InvalidProducerEpoch { producer_id, found, current } => {
            AppendRefusal::InvalidProducerEpoch { producer_id, found, current }
        }
        Log::Disk(error) => StorageError { no_space: error.is_no_space(), message: error.to_string().into() }.into(),
        error @ (Log::NotNext { .. } | Log::Batch(_) | Log::Failed { .. }) => {
            StorageError { no_space: false, message: error.to_string().into() }.into()
        }
    }
}

fn replicate_refusal(error: odradek_log::AppendError) -> ReplicateRefusal {
    use odradek_log::AppendError as Log;
    match error {
        Log::NotNext { found, end } => ReplicateRefusal::NotNext { found, end },
        Log::Batch(error) => ReplicateRefusal::Corrupt { message: error.to_string().into() },
        Log::Disk(error) => StorageError { no_space: error.is_no_space(), message: error.to_string().into() }.into(),
        // Producers are noted without judging; should that change, the copy must not go on either.
        error @ (Log::Failed { .. } | Log::OutOfOrderSequence { .. } | Log::InvalidProducerEpoch { .. }) => {
            StorageError { no_space: false, message: error.to_string().into() }.into()
        }
    }
}

fn read_error(error: odradek_log::ReadError) -> LogReadError {
    use odradek_log::ReadError as Log;
    match error {
        Log::OffsetOutOfRange { offset, start, end } => LogReadError::OffsetOutOfRange { offset, start, end },
        error @ (Log::Damaged { .. } | Log::Disk(_)) => {
            StorageError { no_space: false, message: error.to_string().into() }.into()
        }
    }
}

#[expect(clippy::needless_pass_by_value, reason = "it is what map_err gives")]
fn storage_error(error: LogError) -> StorageError {
    let no_space = matches!(&error, LogError::Disk(disk) if disk.is_no_space());
    StorageError { no_space, message: error.to_string().into() }
}
