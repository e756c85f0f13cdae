// SPDX-License-Identifier: Apache-2.0
//! One segment as writer and readers share it: its file, its size so far, its indexes.
//!
//! The active segment keeps its file and indexes here; a sealed one gets them from the [`SegmentCache`] on demand.
//! Must not know other segments, nor who reads.

use crate::cache::{IndexBuilder, LoadedSegment, SegmentCache};
use crate::error::ReadError;
use crate::file_names::FileKind;
use crate::index::{SegmentIndexes, TimestampOffset};
use crate::scan::{ScanError, Scanner};
use odradek_disk::{Disk, DiskFile};
use odradek_model::{Offset, Timestamp};
use odradek_records::BatchHeader;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Places where recent reads ended: a consumer's next read begins exactly there. Four serve four consumers at
/// different places of one segment; one more costs it a look into the index.
const HINTS: usize = 4;

/// `max_timestamp` of a sealed segment whose time index has not been looked at.
const UNKNOWN_TIMESTAMP: i64 = i64::MIN;

/// What only the active segment has.
#[derive(Debug)]
pub(crate) struct ActiveParts {
    pub(crate) file: Arc<dyn DiskFile>,
    pub(crate) builder: IndexBuilder,
}

#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) base_offset: Offset,
    pub(crate) path: PathBuf,
    /// Key in the cache; unique in the process.
    pub(crate) id: u64,
    /// When it was created or loaded: its age if no batch of it has a timestamp.
    pub(crate) created_ms: Timestamp,
    /// Bytes of whole batches; readers never look beyond.
    size: AtomicU64,
    max_timestamp: AtomicI64,
    active: Mutex<Option<ActiveParts>>,
    /// Whether its files are removed or cut: the cache keeps it no more.
    gone: AtomicBool,
    hints: Mutex<[(Offset, u64); HINTS]>,
}

/// A panic elsewhere must not spread: every value behind these locks is whole at every moment.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Segment {
    pub(crate) fn sealed(dir: &Path, base_offset: Offset, size: u64, id: u64, now_ms: Timestamp) -> Self {
        Self {
            base_offset,
            path: FileKind::Log.path(dir, base_offset),
            id,
            created_ms: now_ms,
            size: AtomicU64::new(size),
            max_timestamp: AtomicI64::new(UNKNOWN_TIMESTAMP),
            active: Mutex::new(None),
            gone: AtomicBool::new(false),
            hints: Mutex::new([(-1, 0); HINTS]),
        }
    }

    /// `max` is the largest timestamp in it, -1 if there is none.
    pub(crate) fn active(
        dir: &Path,
        base_offset: Offset,
        size: u64,
        id: u64,
        now_ms: Timestamp,
        max: Timestamp,
        parts: ActiveParts,
    ) -> Self {
        let mut segment = Self::sealed(dir, base_offset, size, id, now_ms);
        segment.max_timestamp = AtomicI64::new(max);
        segment.active = Mutex::new(Some(parts));
        segment
    }

    pub(crate) fn size(&self) -> u64 {
        self.size.load(Ordering::Acquire)
    }

    /// Lets readers see what was written up to `size`.
    pub(crate) fn publish(&self, size: u64, max_timestamp: Timestamp) {
        self.max_timestamp.store(max_timestamp, Ordering::Release);
        self.size.store(size, Ordering::Release);
    }

    /// Works on the active parts; `None` for a sealed segment.
    pub(crate) fn with_active<T>(&self, work: impl FnOnce(&mut ActiveParts) -> T) -> Option<T> {
        lock(&self.active).as_mut().map(work)
    }

    /// Turns the active segment into a sealed one: from here on readers use its index files.
    pub(crate) fn seal(&self) {
        *lock(&self.active) = None;
    }

    pub(crate) fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Acquire)
    }

    pub(crate) fn set_gone(&self) {
        self.gone.store(true, Ordering::Release);
    }

    pub(crate) fn dir(&self) -> &Path {
        self.path.parent().unwrap_or(Path::new("."))
    }

    /// The file and a position from which a walk finds the batch that `look_up` asks the indexes for.
    pub(crate) fn look_up(
        &self,
        disk: &dyn Disk,
        cache: &SegmentCache,
        look_up: impl Fn(&SegmentIndexes) -> u32,
    ) -> Result<(Arc<dyn DiskFile>, u64), ReadError> {
        let found = self.with_active(|active| (active.file.clone(), u64::from(look_up(&active.builder.indexes))));
        if let Some(found) = found {
            return Ok(found);
        }
        let LoadedSegment { file, indexes } = &*cache.load(disk, self)?;
        Ok((file.clone(), u64::from(look_up(indexes))))
    }

    /// As [`look_up`](Self::look_up), without opening anything; `None` if the segment is not open.
    pub(crate) fn look_up_open(
        &self,
        cache: &SegmentCache,
        look_up: impl Fn(&SegmentIndexes) -> u32,
    ) -> Option<(Arc<dyn DiskFile>, u64)> {
        let found = self.with_active(|active| (active.file.clone(), u64::from(look_up(&active.builder.indexes))));
        found.or_else(|| {
            let loaded = cache.loaded(self)?;
            Some((loaded.file.clone(), u64::from(look_up(&loaded.indexes))))
        })
    }

    /// The largest timestamp of the segment with the offset that ends its batch; -1 if no batch has one.
    pub(crate) fn max_time(&self, disk: &dyn Disk, cache: &SegmentCache) -> Result<TimestampOffset, ReadError> {
        if let Some(last) = self.with_active(|active| active.builder.max) {
            return Ok(last);
        }
        let last = cache.load(disk, self)?.indexes.last_time();
        self.max_timestamp.store(last.timestamp, Ordering::Release);
        Ok(last)
    }

    /// The largest timestamp of the segment; -1 if no batch has one.
    pub(crate) fn max_timestamp(&self, disk: &dyn Disk, cache: &SegmentCache) -> Result<Timestamp, ReadError> {
        match self.max_timestamp.load(Ordering::Acquire) {
            UNKNOWN_TIMESTAMP => Ok(self.max_time(disk, cache)?.timestamp),
            known => Ok(known),
        }
    }

    /// Where the batch that begins at or holds `offset` begins, if a recent read ended there.
    pub(crate) fn hint(&self, offset: Offset) -> Option<u64> {
        lock(&self.hints).iter().find(|hint| hint.0 == offset).map(|hint| hint.1)
    }

    /// Notes that the batch with `offset` begins at `position`; takes the place of the oldest note.
    pub(crate) fn note_hint(&self, offset: Offset, position: u64) {
        let mut hints = lock(&self.hints);
        if !hints.iter().any(|hint| hint.0 == offset) {
            hints.rotate_right(1);
            hints[0] = (offset, position);
        }
    }

    /// Walks from `position` to the first batch for which `wanted` holds; `None` if there is none before `end`.
    pub(crate) fn find(
        &self,
        file: &dyn DiskFile,
        position: u64,
        end: u64,
        wanted: impl Fn(&BatchHeader) -> bool,
    ) -> Result<Option<(u64, BatchHeader)>, ReadError> {
        let mut scanner = Scanner::headers(file, position, end);
        loop {
            match scanner.peek() {
                Ok(None) => return Ok(None),
                Ok(Some(header)) if wanted(&header) => return Ok(Some((scanner.position(), header))),
                Ok(Some(header)) => scanner.skip(&header),
                Err(error) => return Err(self.damaged(scanner.position(), error)),
            }
        }
    }

    pub(crate) fn damaged(&self, position: u64, error: ScanError) -> ReadError {
        match error {
            ScanError::Disk(error) => ReadError::Disk(error),
            ScanError::Batch(error) => ReadError::Damaged { path: self.path.clone(), position, error },
        }
    }
}
