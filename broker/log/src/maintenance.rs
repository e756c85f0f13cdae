// SPDX-License-Identifier: Apache-2.0
//! What happens to a log besides appends: retention, deletion up to an offset, cutting back, expiry of producers.
//! Must not know when it is time for any of it.

use crate::cache::IndexBuilder;
use crate::error::{LogError, ReadError};
use crate::file_names::FileKind;
use crate::log::Log;
use crate::producers::Producers;
use crate::recovery::{read_snapshot, remove_if_there, remove_segment_files};
use crate::scan::{ScanError, Scanner};
use crate::segment::{ActiveParts, Segment};
use odradek_disk::OpenMode;
use odradek_model::{Offset, Timestamp};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// What retention or a deletion removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Deleted {
    /// Segments whose files are gone.
    pub segments: usize,
    /// Bytes of batches in them.
    pub bytes: u64,
}

impl Deleted {
    fn add(&mut self, more: Self) {
        self.segments += more.segments;
        self.bytes += more.bytes;
    }
}

impl Log {
    /// Applies `retention.ms`, `retention.bytes` and the log start, oldest segment first, and forgets idle producers.
    /// Only records below `high_watermark` go. If even the active segment is too old it is rolled and goes too.
    ///
    /// The log start rises; the caller checkpoints it, but nothing is lost if it does not.
    pub fn apply_retention(&mut self, now_ms: Timestamp, high_watermark: Offset) -> Result<Deleted, LogError> {
        self.check_writable()?;
        self.producers.expire(now_ms, self.settings.producer_id_expiration_ms);
        let mut excess = match self.settings.retention_bytes {
            Some(limit) => self.size_bytes().saturating_sub(limit),
            None => 0,
        };
        let mut count = 0;
        for (at, segment) in self.segments.iter().enumerate() {
            let next = self.segments.get(at + 1).map(|next| next.base_offset);
            let size = segment.size();
            let segment_end = next.unwrap_or(self.end);
            if segment_end > high_watermark || (next.is_none() && size == 0) {
                break;
            }
            let below_start = next.is_some() && segment_end <= self.log_start_offset();
            let too_much = self.settings.retention_bytes.is_some() && excess >= size && size > 0;
            if !(below_start || too_much || self.is_too_old(segment, now_ms)) {
                break;
            }
            excess = excess.saturating_sub(size);
            count += 1;
        }
        let active_too = count == self.segments.len();
        // What is closed goes first: on a full disk its space is what the roll needs.
        let mut deleted = self.remove_oldest(count - usize::from(active_too))?;
        if active_too {
            self.roll(self.end, now_ms)?;
            deleted.add(self.remove_oldest(1)?);
            // Nothing else tells of their producers now, and a full disk may have refused it while it was rolled.
            self.keep_snapshot();
        }
        Ok(deleted)
    }

    /// Whether the newest record of the segment is older than `retention.ms`; by the segment's age if no record has a
    /// timestamp. A segment that cannot be read is not old: an operator must see it first.
    fn is_too_old(&self, segment: &Segment, now_ms: Timestamp) -> bool {
        let Some(retention_ms) = self.settings.retention_ms else { return false };
        let newest = match segment.max_timestamp(&*self.disk, &self.cache) {
            Ok(newest) if newest >= 0 => newest,
            Ok(_) => segment.created_ms,
            Err(error) => {
                tracing::error!(%error, path = %segment.path.display(), "retention cannot read a segment");
                return false;
            }
        };
        now_ms.saturating_sub(newest) > retention_ms
    }

    /// Makes `offset` the log's first (DeleteRecords): records below it can no longer be read, segments wholly below it
    /// go. No effect at or below the present start. The caller checkpoints the new start: until it has, a restart may
    /// show records of the first segment again.
    ///
    /// # Errors
    /// Beyond the log's end.
    pub fn advance_log_start(&mut self, offset: Offset) -> Result<Deleted, LogError> {
        self.check_writable()?;
        let start = self.log_start_offset();
        if offset > self.end {
            return Err(LogError::OffsetOutOfRange { offset, start, end: self.end });
        }
        if offset <= start {
            return Ok(Deleted::default());
        }
        self.shared.start.store(offset, Ordering::Release);
        self.epochs.truncate_from_start(offset);
        let count = self.segments[1..].iter().take_while(|segment| segment.base_offset <= offset).count();
        self.remove_oldest(count)
    }

    /// Removes the oldest segments; readers that have them open go on.
    ///
    /// Writes nothing, so that it gives space back on a full disk, and is right wherever it is interrupted: the names
    /// go oldest first, so what is left is a log that begins later; epochs of what is gone stay in their file until the
    /// next epoch is stored, and a start leaves them out. After an error the segments that are left are still known,
    /// lie below the log start, and go with the next retention.
    fn remove_oldest(&mut self, count: usize) -> Result<Deleted, LogError> {
        if count == 0 {
            return Ok(Deleted::default());
        }
        assert!(count < self.segments.len(), "the active segment stays");
        self.shared.start.fetch_max(self.segments[count].base_offset, Ordering::AcqRel);
        self.epochs.truncate_from_start(self.log_start_offset());
        let mut deleted = Deleted::default();
        let mut outcome = Ok(());
        for segment in &self.segments[..count] {
            outcome = remove_segment_files(&*self.disk, &self.dir, segment.base_offset);
            if outcome.is_err() {
                break;
            }
            self.cache.forget(segment);
            deleted.segments += 1;
            deleted.bytes += segment.size();
        }
        self.segments.drain(..deleted.segments);
        self.shared.set_segments(&self.segments);
        let first = self.segments[0].base_offset;
        self.recovery_point = self.recovery_point.max(first.min(self.end));
        self.unflushed_files.retain(|unflushed| unflushed.base_offset >= first);
        outcome?;
        // One at the first segment is of use: it speaks of all that is gone. An older one does not (`reload_producers`).
        for old in self.snapshots.range(..first).copied().collect::<Vec<_>>() {
            remove_if_there(&*self.disk, &FileKind::ProducerSnapshot.path(&self.dir, old))?;
            self.snapshots.remove(&old);
        }
        Ok(deleted)
    }

    /// Cuts the log back so that it ends at or before `offset` (a follower's truncation by epoch): the batch that holds
    /// `offset` goes as a whole. Epochs and producers go back with it. Returns the new end.
    ///
    /// The caller must checkpoint [`recovery_point`](Self::recovery_point) before it appends again.
    ///
    /// # Errors
    /// The log takes no more writes after one: what is in memory and what is on the disk may differ.
    pub fn truncate_to(&mut self, offset: Offset, now_ms: Timestamp) -> Result<Offset, LogError> {
        self.check_writable()?;
        let outcome = self.cut_to(offset, now_ms);
        self.stop_after_error(outcome)
    }

    fn cut_to(&mut self, offset: Offset, now_ms: Timestamp) -> Result<Offset, LogError> {
        if offset >= self.end {
            self.forget_epochs_from(self.end)?;
            return Ok(self.end);
        }
        self.truncations += 1;
        if offset <= self.segments[0].base_offset {
            self.start_over(offset.max(0), now_ms)?;
        } else {
            self.cut_at(offset, now_ms)?;
        }
        self.recovery_point = self.recovery_point.min(self.end);
        self.shared.end.store(self.end, Ordering::Release);
        self.shared.start.fetch_min(self.end, Ordering::AcqRel);
        self.forget_epochs_from(self.end)?;
        self.reload_producers(now_ms)?;
        self.names_changed += 1;
        Ok(self.end)
    }

    /// Also an epoch that begins right there: it was this replica's own, and nothing was written in it.
    fn forget_epochs_from(&mut self, offset: Offset) -> Result<(), LogError> {
        if self.epochs.truncate_from_end(offset - 1) {
            self.epochs.store(&*self.disk)?;
        }
        Ok(())
    }

    fn stop_after_error<T>(&self, outcome: Result<T, LogError>) -> Result<T, LogError> {
        if let Err(error) = &outcome {
            tracing::error!(%error, dir = %self.dir.display(), "cutting failed: the log takes no more writes");
            self.failed.store(true, Ordering::Release);
        }
        outcome
    }

    /// Removes everything and begins anew at `offset` (a follower whose leader's log begins above its own end).
    /// No epoch and no producer of what was there is left: what producers have written up to `offset` is not known, so
    /// that the next batch of each is taken as it comes (`ProducerStateManager.truncateFullyAndStartAt`).
    ///
    /// # Errors
    /// As [`truncate_to`](Self::truncate_to).
    pub fn truncate_fully(&mut self, offset: Offset, now_ms: Timestamp) -> Result<(), LogError> {
        self.check_writable()?;
        let outcome = self.clear(offset, now_ms);
        self.stop_after_error(outcome)
    }

    fn clear(&mut self, offset: Offset, now_ms: Timestamp) -> Result<(), LogError> {
        self.truncations += 1;
        // First: after a crash in between, snapshots of what is gone would be believed beside an empty segment.
        for snapshot in std::mem::take(&mut self.snapshots) {
            remove_if_there(&*self.disk, &FileKind::ProducerSnapshot.path(&self.dir, snapshot))?;
        }
        self.start_over(offset, now_ms)?;
        self.recovery_point = offset;
        self.shared.end.store(offset, Ordering::Release);
        self.shared.start.store(offset, Ordering::Release);
        self.forget_epochs_from(0)?;
        self.reload_producers(now_ms)?;
        self.names_changed += 1;
        Ok(())
    }

    fn start_over(&mut self, offset: Offset, now_ms: Timestamp) -> Result<(), LogError> {
        for segment in self.segments.drain(..).rev() {
            self.cache.forget(&segment);
            remove_segment_files(&*self.disk, &self.dir, segment.base_offset)?;
        }
        let file = self.disk.open(&FileKind::Log.path(&self.dir, offset), OpenMode::Create)?;
        file.truncate(0)?;
        self.disk.sync_dir(&self.dir)?;
        let parts = ActiveParts { file: file.clone(), builder: IndexBuilder::new(offset) };
        let id = self.cache.next_id();
        self.segments.push(Arc::new(Segment::active(&self.dir, offset, 0, id, now_ms, -1, parts)));
        self.shared.set_segments(&self.segments);
        self.active_file = file;
        self.active_first_timestamp = None;
        self.unflushed_files.clear();
        self.end = offset;
        Ok(())
    }

    fn cut_at(&mut self, offset: Offset, now_ms: Timestamp) -> Result<(), LogError> {
        while self.active().base_offset >= offset {
            let segment = self.segments.pop().expect("the first segment begins below the cut");
            self.cache.forget(&segment);
            remove_segment_files(&*self.disk, &self.dir, segment.base_offset)?;
        }
        let last = self.segments.pop().expect("the first segment begins below the cut");
        self.cache.forget(&last);
        let base = last.base_offset;
        let file = self.disk.open(&last.path, OpenMode::ReadWrite)?;
        // The indexes on disk would point beyond the cut; they are written again when the segment is sealed.
        for kind in [FileKind::OffsetIndex, FileKind::TimeIndex] {
            remove_if_there(&*self.disk, &kind.path(&self.dir, base))?;
        }
        let mut builder = IndexBuilder::new(base);
        let mut scanner = Scanner::headers(&*file, 0, last.size());
        let mut end = base;
        let mut first_timestamp = None;
        loop {
            match scanner.peek() {
                Ok(Some(header)) if header.last_offset() < offset => {
                    first_timestamp.get_or_insert(header.max_timestamp);
                    builder.add(&header, scanner.position() as u32, self.settings.index_interval_bytes);
                    end = header.next_offset();
                    scanner.skip(&header);
                }
                Ok(_) => break,
                Err(ScanError::Disk(error)) => return Err(error.into()),
                Err(ScanError::Batch(error)) => {
                    let (path, position) = (last.path.clone(), scanner.position());
                    return Err(ReadError::Damaged { path, position, error }.into());
                }
            }
        }
        let size = scanner.position();
        // Synced, so that no power loss can put the old records behind the new ones.
        file.truncate(size)?;
        file.sync()?;
        self.disk.sync_dir(&self.dir)?;
        let max = builder.max.timestamp;
        let parts = ActiveParts { file: file.clone(), builder };
        let id = self.cache.next_id();
        self.segments.push(Arc::new(Segment::active(&self.dir, base, size, id, now_ms, max, parts)));
        self.shared.set_segments(&self.segments);
        self.active_file = file;
        self.active_first_timestamp = first_timestamp;
        self.unflushed_files.retain(|unflushed| unflushed.base_offset < base);
        self.end = end;
        Ok(())
    }

    /// The producers' state at the log's end, from the newest good snapshot and the batches after it. A snapshot below the
    /// first segment is not believed: batches that it does not know are gone, and a producer would be taken for behind that
    /// is not (`ProducerStateManager.truncateAndReload`). Who is not known may go on with any sequence.
    fn reload_producers(&mut self, now_ms: Timestamp) -> Result<(), LogError> {
        for stale in self.snapshots.range(self.end + 1..).copied().collect::<Vec<_>>() {
            remove_if_there(&*self.disk, &FileKind::ProducerSnapshot.path(&self.dir, stale))?;
            self.snapshots.remove(&stale);
        }
        let mut from = self.log_start_offset();
        self.producers = Producers::default();
        for offset in self.snapshots.range(self.segments[0].base_offset..).rev() {
            if let Some(producers) = read_snapshot(&*self.disk, &self.dir, *offset)? {
                self.producers = producers;
                from = *offset;
                break;
            }
        }
        let first = self.segments.partition_point(|segment| segment.base_offset <= from).saturating_sub(1);
        for segment in &self.segments[first..] {
            let (file, position) = segment.look_up(&*self.disk, &self.cache, |indexes| indexes.position_of(from))?;
            let mut scanner = Scanner::headers(&*file, position, segment.size());
            loop {
                match scanner.peek() {
                    Ok(Some(header)) => {
                        if header.base_offset >= from {
                            self.producers.apply(&header);
                        }
                        scanner.skip(&header);
                    }
                    Ok(None) => break,
                    Err(error) => return Err(segment.damaged(scanner.position(), error).into()),
                }
            }
        }
        self.producers.expire(now_ms, self.settings.producer_id_expiration_ms);
        Ok(())
    }
}
