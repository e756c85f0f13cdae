// SPDX-License-Identifier: Apache-2.0
//! Open files and indexes of sealed segments, loaded when a reader needs them, the least recently used dropped first.
//! One for all logs of a broker, so that the number of partitions does not matter. Must not know logs or readers.

use crate::error::ReadError;
use crate::file_names::FileKind;
use crate::index::{SegmentIndexes, TimestampOffset};
use crate::scan::Scanner;
use crate::segment::Segment;
use odradek_disk::{Disk, DiskErrorKind, DiskFile, OpenMode, read_small_file};
use odradek_model::Offset;
use odradek_records::BatchHeader;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Open sealed segments by default: with one active segment per partition this leaves room below the usual limit of
/// 65,536 descriptors in containers for 60,000 partitions and connections.
const SEGMENTS_MAX: usize = 1024;
/// Bytes of indexes by default. An index of a full 1-GiB segment has 2 MiB (8 bytes per 4 KiB) plus at most 3 MiB for
/// times, so a few readers of old data fit; idle brokers hold none.
const INDEX_BYTES_MAX: usize = 16 << 20;
/// Largest index file that is read: what a segment of 2 GiB can have at one entry per 4 KiB, with room.
const INDEX_FILE_BYTES_MAX: usize = 64 << 20;

/// A sealed segment ready to be read.
#[derive(Debug)]
pub(crate) struct LoadedSegment {
    pub(crate) file: Arc<dyn DiskFile>,
    pub(crate) indexes: SegmentIndexes,
}

/// See the module. Cheap to create, shared by all logs of a broker.
#[derive(Debug)]
pub struct SegmentCache {
    segments_max: usize,
    index_bytes_max: usize,
    next_id: AtomicU64,
    state: Mutex<CacheState>,
}

#[derive(Debug, Default)]
struct CacheState {
    loaded: BTreeMap<u64, (Arc<LoadedSegment>, u64)>,
    by_use: BTreeMap<u64, u64>,
    uses: u64,
    index_bytes: usize,
}

impl Default for SegmentCache {
    fn default() -> Self {
        Self::new(SEGMENTS_MAX, INDEX_BYTES_MAX)
    }
}

impl SegmentCache {
    /// Keeps at most so many segments open, with at most so many bytes of indexes (the one last used is always kept).
    pub fn new(segments_max: usize, index_bytes_max: usize) -> Self {
        Self { segments_max, index_bytes_max, next_id: AtomicU64::new(0), state: Mutex::default() }
    }

    /// Number of sealed segments that are open now.
    pub fn open_segments(&self) -> usize {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).loaded.len()
    }

    pub(crate) fn next_id(&self) -> u64 {
        self.next_id.fetch_add(1, Ordering::Relaxed)
    }

    /// The segment if it is open already.
    pub(crate) fn loaded(&self, segment: &Segment) -> Option<Arc<LoadedSegment>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).touch(segment.id)
    }

    pub(crate) fn load(&self, disk: &dyn Disk, segment: &Segment) -> Result<Arc<LoadedSegment>, ReadError> {
        if let Some(found) = self.loaded(segment) {
            return Ok(found);
        }
        // Outside the lock: two readers may load the same segment at once; the second replaces the first.
        let file = disk.open(&segment.path, OpenMode::Read)?;
        let indexes = match read_indexes(disk, segment)? {
            Some(indexes) => indexes,
            None => rebuild_indexes(&*file, segment)?,
        };
        let loaded = Arc::new(LoadedSegment { file, indexes });
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        // One that went while it was loaded is not kept: an open file holds the space of a removed one.
        if !segment.is_gone() {
            state.insert(segment.id, loaded.clone());
            state.shrink(self.segments_max, self.index_bytes_max);
        }
        Ok(loaded)
    }

    /// Forgets a segment that is gone, also for readers that are loading it now.
    pub(crate) fn forget(&self, segment: &Segment) {
        segment.set_gone();
        self.state.lock().unwrap_or_else(PoisonError::into_inner).remove(segment.id);
    }
}

impl CacheState {
    fn touch(&mut self, id: u64) -> Option<Arc<LoadedSegment>> {
        let (loaded, used) = self.loaded.get_mut(&id)?;
        self.by_use.remove(used);
        self.uses += 1;
        *used = self.uses;
        self.by_use.insert(self.uses, id);
        Some(loaded.clone())
    }

    fn insert(&mut self, id: u64, loaded: Arc<LoadedSegment>) {
        self.remove(id);
        self.uses += 1;
        self.index_bytes += loaded.indexes.memory_bytes();
        self.by_use.insert(self.uses, id);
        self.loaded.insert(id, (loaded, self.uses));
    }

    fn remove(&mut self, id: u64) {
        if let Some((loaded, used)) = self.loaded.remove(&id) {
            self.by_use.remove(&used);
            self.index_bytes -= loaded.indexes.memory_bytes();
        }
    }

    fn shrink(&mut self, segments_max: usize, index_bytes_max: usize) {
        while self.loaded.len() > 1 && (self.loaded.len() > segments_max || self.index_bytes > index_bytes_max) {
            let Some((_, oldest)) = self.by_use.first_key_value() else { return };
            self.remove(*oldest);
        }
    }
}

/// The index files of a segment; `None` if one is missing or damaged.
pub(crate) fn read_indexes(disk: &dyn Disk, segment: &Segment) -> Result<Option<SegmentIndexes>, ReadError> {
    let read = |kind: FileKind| match read_small_file(
        disk,
        &kind.path(segment.dir(), segment.base_offset),
        INDEX_FILE_BYTES_MAX,
    ) {
        Err(error) if error.kind == DiskErrorKind::TooLarge => Ok(None),
        other => other,
    };
    let (Some(offsets), Some(times)) = (read(FileKind::OffsetIndex)?, read(FileKind::TimeIndex)?) else {
        return Ok(None);
    };
    Ok(SegmentIndexes::decode(segment.base_offset, &offsets, &times, segment.size()))
}

/// Makes the indexes of a sealed segment anew from its batches.
fn rebuild_indexes(file: &dyn DiskFile, segment: &Segment) -> Result<SegmentIndexes, ReadError> {
    tracing::warn!(path = %segment.path.display(), "an index is missing or damaged; it is built anew from the batches");
    let mut builder = IndexBuilder::new(segment.base_offset);
    let mut scanner = Scanner::headers(file, 0, segment.size());
    loop {
        match scanner.peek() {
            Ok(None) => return Ok(builder.seal()),
            Ok(Some(header)) if SegmentIndexes::fits(segment.base_offset, header.last_offset()) => {
                builder.add(&header, scanner.position() as u32, 4096);
                scanner.skip(&header);
            }
            Ok(Some(header)) => {
                let error = odradek_records::BatchError::Offsets {
                    base_offset: header.base_offset,
                    last_offset_delta: header.last_offset_delta,
                    record_count: header.record_count,
                };
                return Err(segment.damaged(scanner.position(), crate::scan::ScanError::Batch(error)));
            }
            Err(error) => return Err(segment.damaged(scanner.position(), error)),
        }
    }
}

/// Adds index entries as batches come, at Kafka's places: a batch gets one if more than the interval has been written
/// since the last.
#[derive(Debug, Clone)]
pub(crate) struct IndexBuilder {
    pub(crate) indexes: SegmentIndexes,
    pub(crate) since_entry: u64,
    pub(crate) max: TimestampOffset,
}

impl IndexBuilder {
    pub(crate) fn new(base_offset: Offset) -> Self {
        let indexes = SegmentIndexes::new(base_offset);
        Self { since_entry: 0, max: indexes.last_time(), indexes }
    }

    pub(crate) fn add(&mut self, header: &BatchHeader, position: u32, interval: u32) {
        if header.max_timestamp > self.max.timestamp {
            self.max = TimestampOffset { timestamp: header.max_timestamp, offset: header.last_offset() };
        }
        if self.since_entry > u64::from(interval) {
            self.indexes.push_offset(header.last_offset(), position);
            self.indexes.push_time(self.max);
            self.since_entry = 0;
        }
        self.since_entry += header.size_bytes() as u64;
    }

    /// The indexes with the entry that closing a segment adds.
    pub(crate) fn seal(mut self) -> SegmentIndexes {
        self.indexes.push_time(self.max);
        self.indexes
    }
}
