// SPDX-License-Identifier: Apache-2.0
//! Reading a log beside its writer: a cheap clone over a shared list of segments.
//!
//! A read takes the list as it is, opens what it needs and reads with `pread`; rolls and retention meanwhile change the
//! list, never the files it holds. Must not know the high watermark: the caller says up to where.

use crate::cache::SegmentCache;
use crate::error::ReadError;
use crate::index::TimestampOffset;
use crate::scan::{ScanError, Scanner};
use crate::segment::Segment;
use bytes::Bytes;
use odradek_disk::{Disk, DiskErrorKind, DiskFile};
use odradek_model::{LeaderEpoch, Offset, Timestamp, TimestampType};
use odradek_records::{Batch, BatchError, BatchHeader, HEADER_BYTES};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// What was appended last is in the page cache: written there by the append itself, and the last thing the kernel
/// drops. 8 MiB is what the slowest supported node (256 MiB for the broker) keeps of each of a few busy partitions.
pub const HOT_BYTES: u64 = 8 << 20;

/// What the writer shares with all readers.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) cache: Arc<SegmentCache>,
    pub(crate) segments: Mutex<Arc<[Arc<Segment>]>>,
    pub(crate) start: AtomicI64,
    pub(crate) end: AtomicI64,
}

impl Shared {
    pub(crate) fn segments(&self) -> Arc<[Arc<Segment>]> {
        self.segments.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn set_segments(&self, segments: &[Arc<Segment>]) {
        *self.segments.lock().unwrap_or_else(PoisonError::into_inner) = Arc::from(segments);
    }

    pub(crate) fn check(&self, offset: Offset) -> Result<(), ReadError> {
        let (start, end) = (self.start.load(Ordering::Acquire), self.end.load(Ordering::Acquire));
        if offset < start || offset > end {
            return Err(ReadError::OffsetOutOfRange { offset, start, end });
        }
        Ok(())
    }
}

/// Whole batches read from the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogSlice {
    /// The batches, one after another; empty if none fits.
    pub bytes: Bytes,
    /// Base offset of the first batch, which may lie below the offset asked for; that offset if there is no batch.
    pub base_offset: Offset,
    /// The offset to read next.
    pub next_offset: Offset,
}

/// A record found by its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FoundTimestamp {
    /// Timestamp of the record.
    pub timestamp: Timestamp,
    /// Its offset.
    pub offset: Offset,
    /// Leader epoch of its batch.
    pub leader_epoch: LeaderEpoch,
}

/// Reads a log; clones share everything. Safe beside appends, rolls and retention.
#[derive(Debug, Clone)]
pub struct LogReader {
    pub(crate) shared: Arc<Shared>,
}

impl LogReader {
    /// First offset of the log.
    pub fn log_start_offset(&self) -> Offset {
        self.shared.start.load(Ordering::Acquire)
    }

    /// The offset after the last.
    pub fn log_end_offset(&self) -> Offset {
        self.shared.end.load(Ordering::Acquire)
    }

    /// Whether a read from `from` is likely served from memory: its batch lies in the last segment, within
    /// [`HOT_BYTES`] of the end, where appends have just written it. Never touches the disk.
    pub fn is_hot(&self, from: Offset) -> bool {
        let segments = self.shared.segments();
        let Some(last) = segments.last() else { return true };
        let position = || last.with_active(|active| u64::from(active.builder.indexes.position_of(from)));
        // Without active parts it was sealed just now.
        from >= last.base_offset
            && (last.size() <= HOT_BYTES || position().is_some_and(|at| last.size().saturating_sub(at) <= HOT_BYTES))
    }

    /// Reads whole batches from the one that holds `from`, all below `up_to` (exclusive), of `max_bytes` together.
    ///
    /// With `min_one_batch` the first batch is given even if it alone is larger. At or above `up_to`, and at the log's
    /// end, the slice is empty. One segment at a time: a slice never goes over a segment's end.
    ///
    /// # Errors
    /// `OffsetOutOfRange` below the start or above the end. Allocates `max_bytes`, or the first batch, at most.
    pub fn read(
        &self,
        from: Offset,
        max_bytes: usize,
        up_to: Offset,
        min_one_batch: bool,
    ) -> Result<LogSlice, ReadError> {
        self.shared.check(from)?;
        let empty = LogSlice { bytes: Bytes::new(), base_offset: from, next_offset: from };
        let up_to = up_to.min(self.log_end_offset());
        if from >= up_to || (max_bytes < HEADER_BYTES && !min_one_batch) {
            return Ok(empty);
        }
        let segments = self.shared.segments();
        let first = segments.partition_point(|segment| segment.base_offset <= from).saturating_sub(1);
        for segment in &segments[first..] {
            if segment.base_offset >= up_to {
                break;
            }
            match self.read_segment(segment, from, max_bytes, up_to, min_one_batch) {
                Ok(Some(slice)) => return Ok(slice),
                // Offsets between the segment's last batch and the next segment: compaction leaves such gaps.
                Ok(None) => {}
                Err(error) => return Err(self.explain(from, error)),
            }
        }
        Ok(empty)
    }

    /// A file that retention removed meanwhile means that the offset is gone too.
    fn explain(&self, offset: Offset, error: ReadError) -> ReadError {
        match &error {
            ReadError::Disk(disk) if disk.kind == DiskErrorKind::NotFound => {
                self.shared.check(offset).err().unwrap_or(error)
            }
            _ => error,
        }
    }

    /// `None` if the segment ends before `from`.
    fn read_segment(
        &self,
        segment: &Segment,
        from: Offset,
        max_bytes: usize,
        up_to: Offset,
        min_one_batch: bool,
    ) -> Result<Option<LogSlice>, ReadError> {
        let end = segment.size();
        let hint = segment.hint(from);
        let (file, looked_up) =
            segment.look_up(&*self.shared.disk, &self.shared.cache, |indexes| indexes.position_of(from))?;
        let position = match hint {
            Some(position) => position,
            None => match segment.find(&*file, looked_up, end, |header| header.last_offset() >= from)? {
                Some((position, _)) => position,
                None => return Ok(None),
            },
        };
        if position >= end {
            return Ok(None);
        }
        let left = usize::try_from(end - position).unwrap_or(usize::MAX);
        let wanted = max_bytes.max(HEADER_BYTES).min(left);
        let mut bytes = Vec::new();
        file.read_append(&mut bytes, wanted, position)?;
        let first = BatchHeader::parse(&bytes).map_err(|error| segment.damaged(position, ScanError::Batch(error)))?;
        if first.size_bytes() > bytes.len() || first.size_bytes() > max_bytes {
            if first.size_bytes() > left {
                let error = BatchError::Incomplete { needed: first.size_bytes(), available: left };
                return Err(segment.damaged(position, ScanError::Batch(error)));
            }
            if !min_one_batch || first.next_offset() > up_to {
                return Ok(Some(LogSlice { bytes: Bytes::new(), base_offset: from, next_offset: from }));
            }
            if bytes.len() < first.size_bytes() {
                let (have, missing) = (bytes.len(), first.size_bytes() - bytes.len());
                file.read_append(&mut bytes, missing, position + have as u64)?;
            }
        }
        let mut kept = 0;
        let mut next_offset = from;
        while let Ok(header) = BatchHeader::parse(&bytes[kept..]) {
            let fits = kept + header.size_bytes() <= bytes.len()
                && (kept + header.size_bytes() <= max_bytes || (kept == 0 && min_one_batch));
            if !fits || header.next_offset() > up_to {
                break;
            }
            kept += header.size_bytes();
            next_offset = header.next_offset();
        }
        if kept > 0 {
            segment.note_hint(next_offset, position + kept as u64);
        }
        bytes.truncate(kept);
        let base_offset = if kept > 0 { first.base_offset } else { from };
        Ok(Some(LogSlice { bytes: Bytes::from(bytes), base_offset, next_offset }))
    }

    /// The first record below `up_to` whose timestamp is `timestamp` or later.
    pub fn offset_for_time(&self, timestamp: Timestamp, up_to: Offset) -> Result<Option<FoundTimestamp>, ReadError> {
        let (disk, cache) = (&*self.shared.disk, &*self.shared.cache);
        let start = self.log_start_offset();
        for segment in self.shared.segments().iter() {
            if segment.base_offset >= up_to {
                break;
            }
            let found = (|| {
                if segment.max_timestamp(disk, cache)? < timestamp {
                    return Ok(None);
                }
                let (file, mut position) =
                    segment.look_up(disk, cache, |indexes| indexes.position_of_time(timestamp))?;
                let end = segment.size();
                let wanted = |header: &BatchHeader| header.max_timestamp >= timestamp && header.last_offset() >= start;
                while let Some((at, header)) = segment.find(&*file, position, end, wanted)? {
                    if header.base_offset >= up_to {
                        break;
                    }
                    let found = first_record(&*file, segment, at, &header, timestamp, start.max(segment.base_offset))?;
                    if let Some(found) = found {
                        return Ok(Some(found));
                    }
                    position = at + header.size_bytes() as u64;
                }
                Ok(None)
            })();
            match found {
                Ok(Some(found)) => return Ok((found.offset < up_to).then_some(found)),
                Ok(None) => {}
                // Retention took the segment meanwhile: the answer is in a later one.
                Err(ReadError::Disk(error)) if error.kind == DiskErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    /// The record below `up_to` with the largest timestamp, the first if there are several.
    /// Looks at the newest batch of the segment that has it; a batch at or above `up_to` does not count.
    pub fn max_timestamp(&self, up_to: Offset) -> Result<Option<FoundTimestamp>, ReadError> {
        loop {
            let start = self.log_start_offset();
            match self.max_timestamp_from(start, up_to) {
                // Retention took a segment meanwhile: what is left is looked at again. The start rises each time.
                Err(ReadError::Disk(error))
                    if error.kind == DiskErrorKind::NotFound && self.log_start_offset() > start => {}
                found => return found,
            }
        }
    }

    fn max_timestamp_from(&self, start: Offset, up_to: Offset) -> Result<Option<FoundTimestamp>, ReadError> {
        let (disk, cache) = (&*self.shared.disk, &*self.shared.cache);
        let mut best: Option<TimestampOffset> = None;
        let segments = self.shared.segments();
        for (at, segment) in segments.iter().enumerate() {
            if segment.base_offset >= up_to {
                break;
            }
            let is_below_start = segments.get(at + 1).is_some_and(|next| next.base_offset <= start);
            let is_newer = |timestamp: Timestamp| timestamp >= 0 && best.is_none_or(|best| timestamp > best.timestamp);
            if is_below_start || !is_newer(segment.max_timestamp(disk, cache)?) {
                continue;
            }
            let newest = segment.max_time(disk, cache)?;
            if newest.offset < up_to && newest.offset >= start {
                best = Some(newest);
                continue;
            }
            // The newest batch is too new for `up_to` or below the start: a walk over headers finds the right one.
            let (file, _) = segment.look_up(disk, cache, |_| 0)?;
            let mut scanner = Scanner::headers(&*file, 0, segment.size());
            loop {
                match scanner.peek() {
                    Ok(Some(header)) if header.next_offset() <= up_to => {
                        let newer = best.is_none_or(|best| header.max_timestamp > best.timestamp);
                        if header.last_offset() >= start && header.max_timestamp >= 0 && newer {
                            best =
                                Some(TimestampOffset { timestamp: header.max_timestamp, offset: header.last_offset() });
                        }
                        scanner.skip(&header);
                    }
                    Ok(_) => break,
                    Err(error) => return Err(segment.damaged(scanner.position(), error)),
                }
            }
        }
        let Some(best) = best else { return Ok(None) };
        self.offset_for_time_in(best, up_to)
    }

    /// The first record of the batch at `of.offset` with its timestamp or later.
    fn offset_for_time_in(&self, of: TimestampOffset, up_to: Offset) -> Result<Option<FoundTimestamp>, ReadError> {
        let segments = self.shared.segments();
        let at = segments.partition_point(|segment| segment.base_offset <= of.offset).saturating_sub(1);
        let Some(segment) = segments.get(at) else { return Ok(None) };
        let (file, position) =
            segment.look_up(&*self.shared.disk, &self.shared.cache, |indexes| indexes.position_of(of.offset))?;
        let found = segment.find(&*file, position, segment.size(), |header| header.last_offset() >= of.offset)?;
        let Some((position, header)) = found else { return Ok(None) };
        let start = self.log_start_offset();
        Ok(first_record(&*file, segment, position, &header, of.timestamp, start)?.filter(|found| found.offset < up_to))
    }
}

/// The first record of a batch at or after `from` with `timestamp` or later. A batch whose records cannot be read
/// answers by its header: better a record too early than a look-up that fails.
fn first_record(
    file: &dyn DiskFile,
    segment: &Segment,
    position: u64,
    header: &BatchHeader,
    timestamp: Timestamp,
    from: Offset,
) -> Result<Option<FoundTimestamp>, ReadError> {
    let found = |timestamp, offset| FoundTimestamp { timestamp, offset, leader_epoch: header.partition_leader_epoch };
    let by_header = found(header.max_timestamp, header.base_offset.max(from));
    if header.timestamp_type() == TimestampType::LogAppendTime {
        return Ok(Some(by_header));
    }
    let mut bytes = Vec::new();
    file.read_append(&mut bytes, header.size_bytes(), position)?;
    let batch = Batch::parse(&bytes).map_err(|error| segment.damaged(position, ScanError::Batch(error)))?;
    let Ok(records) = batch.records() else { return Ok(Some(by_header)) };
    for record in records.iter() {
        let Ok(record) = record else { return Ok(Some(by_header)) };
        let at = header.record_timestamp(record.timestamp_delta);
        let offset = header.base_offset.saturating_add(i64::from(record.offset_delta));
        if at >= timestamp && offset >= from {
            return Ok(Some(found(at, offset)));
        }
    }
    Ok(None)
}
