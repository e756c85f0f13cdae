// SPDX-License-Identifier: Apache-2.0
//! Opening a log: finds its files, checks what was not synced when the process ended, cuts what is torn, and rebuilds
//! indexes, epochs and producers. Never refuses because of damage; says what it cut.
//!
//! What lies below the recovery point was synced and is trusted: it is walked by headers only.
//! Must not know how the caller keeps the recovery point, nor clocks.

use crate::cache::{IndexBuilder, SegmentCache, read_indexes};
use crate::damage::{self, ExpectedLog};
use crate::epochs::EpochCache;
use crate::error::LogError;
use crate::file_names::FileKind;
use crate::index::SegmentIndexes;
use crate::producers::Producers;
use crate::scan::{ScanError, Scanner};
use crate::segment::{ActiveParts, Segment};
use odradek_disk::{Disk, DiskErrorKind, DiskFile, OpenMode, read_small_file};
use odradek_model::{Offset, Timestamp};
use odradek_records::{BatchError, BatchHeader};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

/// Largest producer snapshot that is read: 1.4 million producers of 46 bytes.
const SNAPSHOT_BYTES_MAX: usize = 64 << 20;

/// How far a recovery has come, in bytes to look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RecoveryProgress {
    /// Bytes looked at.
    pub done: u64,
    /// Bytes to look at in all.
    pub total: u64,
}

/// What opening a log found and did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RecoveryReport {
    /// Bytes whose checksums were checked because they may not have been synced.
    pub bytes_checked: u64,
    /// Bytes that were cut off because no whole batch began there, with everything after them.
    pub bytes_cut: u64,
    /// Segments that were removed because they came after a cut or a hole.
    pub segments_removed: usize,
    /// Where and why the log was cut; `None` if it was whole.
    pub cut: Option<String>,
    /// The cut is all that an interrupted write leaves: an incomplete batch at the very end. Any other is damage.
    pub is_torn: bool,
    /// A whole batch of later records lies behind the cut. Looked for only if the cut may be torn, or each batch was forced.
    pub hides_later: bool,
    /// What the log lacks of what was expected, in words; nobody was told yet.
    pub damage: Option<String>,
    /// Files beside the batches that were damaged or missing and were made anew, in words.
    pub rebuilt: Vec<String>,
    /// The log's first offset.
    pub log_start_offset: Offset,
    /// The offset after the last record.
    pub log_end_offset: Offset,
}

/// What a recovery works with.
pub(crate) struct Recovery<'a> {
    pub(crate) disk: &'a dyn Disk,
    pub(crate) cache: &'a SegmentCache,
    pub(crate) dir: &'a Path,
    pub(crate) clean: bool,
    pub(crate) expected: Option<ExpectedLog>,
    /// The recovery point: batches below it were synced.
    pub(crate) trusted_to: Offset,
    pub(crate) log_start: Offset,
    pub(crate) index_interval: u32,
    pub(crate) now_ms: Timestamp,
    pub(crate) progress: &'a mut dyn FnMut(RecoveryProgress),
}

/// A log as it lies on the disk after recovery.
pub(crate) struct Recovered {
    pub(crate) segments: Vec<Arc<Segment>>,
    pub(crate) active_file: Arc<dyn DiskFile>,
    /// Largest timestamp of the first batch of the active segment; `None` without a batch.
    pub(crate) active_first_timestamp: Option<Timestamp>,
    pub(crate) log_end: Offset,
    pub(crate) epochs: EpochCache,
    pub(crate) producers: Producers,
    pub(crate) snapshots: BTreeSet<Offset>,
    pub(crate) report: RecoveryReport,
}

/// A segment on disk that has been looked at from its first byte to its last good one.
struct Examined {
    indexes: IndexBuilder,
    good_bytes: u64,
    end_offset: Offset,
    first_timestamp: Option<Timestamp>,
    fault: Option<BatchError>,
}

impl Recovery<'_> {
    pub(crate) fn run(self) -> Result<Recovered, LogError> {
        let mut report = RecoveryReport::default();
        let (mut sizes, mut snapshots) = self.find_files()?;
        self.remove_below_start(&mut sizes)?;
        if sizes.is_empty() {
            let is_gone = self.expected.is_some_and(|expected| expected.was_there);
            report.damage = is_gone.then(|| "it is gone".to_owned());
            self.remember_damage(&mut report)?;
            return self.start_empty(self.log_start, &snapshots, report);
        }
        let stored_epochs = EpochCache::load(self.disk, self.dir)?;
        let epochs_lost = stored_epochs.is_none();
        let mut epochs = stored_epochs.unwrap_or_else(|| EpochCache::empty(self.dir));
        if epochs_lost {
            report.rebuilt.push("leader-epoch-checkpoint".to_owned());
        }

        // From which segment on batches are checked; segments before it are trusted.
        let bases: Vec<Offset> = sizes.keys().copied().collect();
        let last_base = bases[bases.len() - 1];
        let check_from = if self.clean {
            last_base
        } else {
            // Strictly below: a segment that ends right at the recovery point may have been sealed after that flush,
            // and its index files are then not synced.
            let after = bases.partition_point(|base| *base < self.trusted_to);
            bases[after.saturating_sub(1)]
        };
        let mut producers = self.load_snapshot(bases[0], check_from, &mut snapshots, &mut report)?;
        let replay_from = producers.1;
        let mut progress = RecoveryProgress::default();
        let trusted_from = if epochs_lost { bases[0] } else { replay_from };
        let after_trusted = bases.partition_point(|base| *base <= trusted_from);
        let walk_from = bases[after_trusted.saturating_sub(1)].min(check_from);
        progress.total = sizes.range(walk_from..).map(|(_, size)| *size).sum();
        (self.progress)(progress);

        // Trusted segments: by headers, only for what must be rebuilt from them.
        let trusted: Vec<(Offset, u64)> = sizes.range(walk_from..check_from).map(|(b, s)| (*b, *s)).collect();
        for (base, size) in trusted {
            let file = self.disk.open(&FileKind::Log.path(self.dir, base), OpenMode::Read)?;
            let before = progress.done;
            let mut scanner = Scanner::headers(&*file, 0, size);
            loop {
                match scanner.peek() {
                    Ok(None) => break,
                    Ok(Some(header)) => {
                        note(&header, &mut epochs, &mut producers.0, replay_from);
                        scanner.skip(&header);
                        progress.done = before + scanner.position();
                        (self.progress)(progress);
                    }
                    Err(ScanError::Disk(error)) => return Err(error.into()),
                    Err(ScanError::Batch(error)) => {
                        // Synced bytes that rotted. Readers of this place get an error; the rest is served.
                        tracing::error!(base, position = scanner.position(), %error, "trusted segment is damaged");
                        break;
                    }
                }
            }
            progress.done = before + size;
            (self.progress)(progress);
        }

        // The rest: every batch that may not have been synced is checked.
        let mut kept: Vec<(Offset, u64)> = sizes.range(..check_from).map(|(b, s)| (*b, *s)).collect();
        let (mut active, mut tail) = (None, None);
        let to_check: Vec<(Offset, u64)> = sizes.range(check_from..).map(|(b, s)| (*b, *s)).collect();
        let mut expected_base = check_from;
        for (at, (base, size)) in to_check.iter().copied().enumerate() {
            if base != expected_base {
                report.cut = Some(format!("a segment begins at offset {base} where {expected_base} is next"));
                report.segments_removed = to_check.len() - at;
                report.hides_later = to_check[at..].iter().any(|(_, size)| *size > 0);
                break;
            }
            let file = self.disk.open(&FileKind::Log.path(self.dir, base), OpenMode::ReadWrite)?;
            let is_last = at + 1 == to_check.len();
            let examined = if self.clean && is_last {
                let replay = (replay_from, epochs_lost);
                self.open_clean(&*file, base, size, replay, &mut epochs, &mut producers.0, &mut report)?
            } else {
                let mut count = |bytes: u64| {
                    progress.done += bytes;
                    (self.progress)(progress);
                };
                let (trusted_to, interval) = (self.trusted_to, self.index_interval);
                examine(&*file, base, size, trusted_to, interval, &mut count, &mut |header| {
                    note(header, &mut epochs, &mut producers.0, replay_from);
                })?
            };
            if !self.clean {
                report.bytes_checked += examined.good_bytes;
            }
            expected_base = examined.end_offset;
            kept.push((base, examined.good_bytes));
            let cut = size - examined.good_bytes;
            if cut > 0 {
                tail = Some((Arc::clone(&file), examined.good_bytes));
                report.bytes_cut += cut;
            }
            let fault = examined.fault.map(|error| (base, examined.good_bytes, error));
            if let Some((_, position, error)) = &fault {
                let may_be_torn = is_last && matches!(error, BatchError::Incomplete { .. });
                // Reads what follows, so only where it makes a difference.
                if may_be_torn || self.expected.is_some_and(|expected| expected.is_forced) {
                    let is_followed = to_check[at + 1..].iter().any(|(_, size)| *size > 0);
                    report.hides_later =
                        is_followed || damage::hides_later_batch(&*file, *position, size, expected_base)?;
                }
                report.is_torn = may_be_torn && !report.hides_later;
            }
            // Until the next segment turns out to be good, this one is the last.
            if let Some((file, examined, base)) = active.replace((file, examined, base)) {
                self.store_indexes(&*file, examined, base)?;
            }
            if let Some((base, position, error)) = fault {
                report.cut = Some(format!("{base:020}.log at byte {position}: {error}"));
                report.segments_removed = to_check.len() - at - 1;
                break;
            }
        }
        report.log_end_offset = expected_base.max(self.log_start);
        report.damage = self.expected.and_then(|expected| expected.damage(self.clean, &report));
        // Before the first byte goes: what is left may look whole.
        self.remember_damage(&mut report)?;
        if let Some((file, good_bytes)) = tail {
            // Synced, so that no power loss can put the cut bytes behind what is appended next.
            file.truncate(good_bytes)?;
            file.sync()?;
        }
        for (base, size) in to_check.iter().filter(|(base, _)| !kept.iter().any(|(kept, _)| kept == base)) {
            self.remove_segment(*base)?;
            report.bytes_cut += size;
        }
        if report.segments_removed > 0 {
            self.disk.sync_dir(self.dir)?;
        }
        progress.done = progress.total;
        (self.progress)(progress);
        sizes.retain(|base, _| kept.iter().any(|(kept, _)| kept == base));
        if let Some(cut) = &report.cut {
            tracing::warn!(
                dir = %self.dir.display(), cut, bytes = report.bytes_cut, segments = report.segments_removed,
                "the log's tail is torn; it was cut at the last whole batch"
            );
        }

        let log_end = expected_base;
        if log_end < self.log_start {
            // Everything that was left after a deletion is gone: offsets must not be given twice.
            for base in sizes.keys() {
                self.remove_segment(*base)?;
            }
            return self.start_empty(self.log_start, &snapshots, report);
        }
        for stale in snapshots.range(log_end + 1..).copied().collect::<Vec<_>>() {
            self.remove_snapshot(stale, &mut snapshots)?;
        }
        let (active_file, examined, active_base) = active.expect("the last segment is always examined");
        let log_start = self.log_start.max(*sizes.keys().next().expect("there is a segment"));
        let epochs_cut = epochs.truncate_from_end(log_end);
        epochs.truncate_from_start(log_start);
        if epochs_lost || epochs_cut {
            epochs.store_if_there_is_room(self.disk)?;
        }
        let mut segments: Vec<Arc<Segment>> = kept
            .iter()
            .filter(|(base, _)| *base != active_base)
            .map(|(base, size)| Arc::new(Segment::sealed(self.dir, *base, *size, self.cache.next_id(), self.now_ms)))
            .collect();
        let parts = ActiveParts { file: active_file.clone(), builder: examined.indexes };
        let max = parts.builder.max.timestamp;
        segments.push(Arc::new(Segment::active(
            self.dir,
            active_base,
            examined.good_bytes,
            self.cache.next_id(),
            self.now_ms,
            max,
            parts,
        )));
        report.log_start_offset = log_start;
        report.log_end_offset = log_end;
        Ok(Recovered {
            segments,
            active_file,
            active_first_timestamp: examined.first_timestamp,
            log_end,
            epochs,
            producers: producers.0,
            snapshots,
            report,
        })
    }

    /// Marks a log that is damaged, and finds the mark of an earlier start.
    fn remember_damage(&self, report: &mut RecoveryReport) -> Result<(), LogError> {
        if self.expected.is_none() {
            return Ok(());
        }
        if report.damage.is_some() {
            damage::mark(self.disk, self.dir)?;
        } else if damage::is_marked(self.disk, self.dir)? {
            report.damage = Some("a start before this one found it damaged".to_owned());
        }
        Ok(())
    }

    /// Segment sizes and snapshots by offset; removes what a crash left over.
    fn find_files(&self) -> Result<(BTreeMap<Offset, u64>, BTreeSet<Offset>), LogError> {
        let entries = self.disk.list(self.dir)?;
        let mut sizes = BTreeMap::new();
        let mut snapshots = BTreeSet::new();
        for entry in entries.iter().filter(|entry| !entry.is_dir) {
            match FileKind::parse(&entry.name) {
                Some((FileKind::Log, base)) => {
                    sizes.insert(base, entry.len);
                }
                Some((FileKind::ProducerSnapshot, offset)) => {
                    snapshots.insert(offset);
                }
                Some((FileKind::Leftover, _)) => self.disk.remove_file(&self.dir.join(&entry.name))?,
                _ => {}
            }
        }
        for entry in &entries {
            if let Some((FileKind::OffsetIndex | FileKind::TimeIndex, base)) = FileKind::parse(&entry.name)
                && !sizes.contains_key(&base)
            {
                self.disk.remove_file(&self.dir.join(&entry.name))?;
            }
        }
        Ok((sizes, snapshots))
    }

    /// Removes segments that lie wholly below the log start: deleted already, and left or brought back by a crash. They
    /// need not be whole, so damage in one must not end the log there.
    fn remove_below_start(&self, sizes: &mut BTreeMap<Offset, u64>) -> Result<(), LogError> {
        let mut bases = sizes.keys().copied();
        let Some(mut base) = bases.next() else { return Ok(()) };
        let below: Vec<Offset> =
            bases.take_while(|next| *next <= self.log_start).map(|next| std::mem::replace(&mut base, next)).collect();
        for base in below {
            self.remove_segment(base)?;
            sizes.remove(&base);
        }
        Ok(())
    }

    fn start_empty(
        &self,
        base: Offset,
        snapshots: &BTreeSet<Offset>,
        mut report: RecoveryReport,
    ) -> Result<Recovered, LogError> {
        let mut left = snapshots.clone();
        for snapshot in snapshots {
            self.remove_snapshot(*snapshot, &mut left)?;
        }
        let mut epochs = EpochCache::load(self.disk, self.dir)?.unwrap_or_else(|| EpochCache::empty(self.dir));
        epochs.truncate_from_start(base);
        if epochs.truncate_from_end(base) {
            epochs.store_if_there_is_room(self.disk)?;
        }
        let file = self.disk.open(&FileKind::Log.path(self.dir, base), OpenMode::Create)?;
        file.truncate(0)?;
        let parts = ActiveParts { file: file.clone(), builder: IndexBuilder::new(base) };
        let segment = Segment::active(self.dir, base, 0, self.cache.next_id(), self.now_ms, -1, parts);
        report.log_start_offset = base;
        report.log_end_offset = base;
        Ok(Recovered {
            segments: vec![Arc::new(segment)],
            active_file: file,
            active_first_timestamp: None,
            log_end: base,
            epochs,
            producers: Producers::default(),
            snapshots: left,
            report,
        })
    }

    /// The newest good snapshot of producers that may be believed, with its offset (the log's start without one).
    /// After an unclean end none above the first checked segment is: what it speaks of may have been lost. One below the
    /// first segment never is: batches that it does not know are gone, and a producer would be taken for behind that is
    /// not (`ProducerStateManager.truncateAndReload`).
    fn load_snapshot(
        &self,
        first: Offset,
        check_from: Offset,
        snapshots: &mut BTreeSet<Offset>,
        report: &mut RecoveryReport,
    ) -> Result<(Producers, Offset), LogError> {
        let newest = if self.clean { Offset::MAX } else { check_from };
        for stale in snapshots.iter().copied().filter(|at| !(first..=newest).contains(at)).collect::<Vec<_>>() {
            self.remove_snapshot(stale, snapshots)?;
        }
        while let Some(offset) = snapshots.last().copied() {
            if let Some(producers) = read_snapshot(self.disk, self.dir, offset)? {
                return Ok((producers, offset));
            }
            let path = FileKind::ProducerSnapshot.path(self.dir, offset);
            tracing::warn!(path = %path.display(), "a producer snapshot is damaged; an older one is used");
            report.rebuilt.push(format!("{offset:020}.snapshot"));
            self.remove_snapshot(offset, snapshots)?;
        }
        Ok((Producers::default(), self.log_start))
    }

    /// The last segment after a clean end: its indexes are believed if they are there, so that only what follows the
    /// last entry is walked. A torn tail is cut all the same.
    #[expect(clippy::too_many_arguments, reason = "what is rebuilt on the way belongs to the caller")]
    fn open_clean(
        &self,
        file: &dyn DiskFile,
        base: Offset,
        size: u64,
        (replay_from, epochs_lost): (Offset, bool),
        epochs: &mut EpochCache,
        producers: &mut Producers,
        report: &mut RecoveryReport,
    ) -> Result<Examined, LogError> {
        let probe = Segment::sealed(self.dir, base, size, 0, self.now_ms);
        let stored = read_indexes(self.disk, &probe)?;
        if stored.is_none() && size > 0 {
            report.rebuilt.push(format!("{base:020}.index"));
        }
        // A replay that begins inside this segment needs its batches from there on, so that the walk begins earlier.
        let indexes = stored.unwrap_or_else(|| SegmentIndexes::new(base));
        let start = if epochs_lost { 0 } else { indexes.position_of(replay_from) };
        let start = start.min(indexes.last_position());
        let mut examined = Examined {
            good_bytes: u64::from(start),
            end_offset: base,
            first_timestamp: None,
            fault: None,
            indexes: IndexBuilder { since_entry: 0, max: indexes.last_time(), indexes },
        };
        let mut scanner = Scanner::headers(file, 0, size);
        match scanner.peek() {
            Ok(Some(header)) => examined.first_timestamp = Some(header.max_timestamp),
            Ok(None) => return Ok(examined),
            Err(ScanError::Disk(error)) => return Err(error.into()),
            Err(ScanError::Batch(_)) => {}
        }
        let mut scanner = Scanner::headers(file, u64::from(start), size);
        let last_indexed = u64::from(examined.indexes.indexes.last_position());
        let mut expected = base;
        loop {
            let position = scanner.position();
            match scanner.peek() {
                Ok(None) => break,
                Ok(Some(header)) if follows(&header, base, expected) => {
                    note(&header, epochs, producers, replay_from);
                    if position < last_indexed || (position == last_indexed && last_indexed > 0) {
                        examined.indexes.since_entry = header.size_bytes() as u64;
                        if header.max_timestamp > examined.indexes.max.timestamp {
                            examined.indexes.max.timestamp = header.max_timestamp;
                            examined.indexes.max.offset = header.last_offset();
                        }
                    } else {
                        examined.indexes.add(&header, position as u32, self.index_interval);
                    }
                    expected = header.next_offset();
                    scanner.skip(&header);
                    examined.good_bytes = scanner.position();
                    examined.end_offset = expected;
                }
                Ok(Some(header)) => {
                    examined.fault = Some(unexpected(&header));
                    break;
                }
                Err(ScanError::Disk(error)) => return Err(error.into()),
                Err(ScanError::Batch(error)) => {
                    examined.fault = Some(error);
                    break;
                }
            }
        }
        if examined.fault.is_some() && start > 0 {
            // The index pointed somewhere wrong, or the file shrank: look at all of it.
            report.rebuilt.push(format!("{base:020}.index"));
            return examine(file, base, size, self.trusted_to, self.index_interval, &mut |_| {}, &mut |header| {
                note(header, epochs, producers, replay_from);
            });
        }
        Ok(examined)
    }

    /// A checked segment that turned out not to be the last is sealed: its indexes go to their files, synced, since a
    /// short time index would let retention take the segment too early. On a full disk it has none: a start that failed
    /// there would keep retention from making room.
    fn store_indexes(&self, file: &dyn DiskFile, examined: Examined, base: Offset) -> Result<(), LogError> {
        file.sync()?;
        let stored = write_indexes(self.disk, self.dir, base, &examined.indexes.seal())
            .and_then(|indexes| indexes.iter().try_for_each(|index| index.sync()).map_err(LogError::from));
        match stored {
            Err(LogError::Disk(error)) if error.is_no_space() => {
                tracing::warn!(%error, "the indexes of a segment were not written");
                remove_indexes(self.disk, self.dir, base);
                Ok(())
            }
            stored => stored,
        }
    }

    fn remove_segment(&self, base: Offset) -> Result<(), LogError> {
        remove_segment_files(self.disk, self.dir, base)?;
        Ok(())
    }

    fn remove_snapshot(&self, offset: Offset, snapshots: &mut BTreeSet<Offset>) -> Result<(), LogError> {
        remove_if_there(self.disk, &FileKind::ProducerSnapshot.path(self.dir, offset))?;
        snapshots.remove(&offset);
        Ok(())
    }
}

/// Takes note of a batch that is in the log.
fn note(header: &BatchHeader, epochs: &mut EpochCache, producers: &mut Producers, replay_from: Offset) {
    if header.partition_leader_epoch >= 0 && epochs.latest().is_none_or(|last| header.partition_leader_epoch > last) {
        epochs.assign(header.partition_leader_epoch, header.base_offset);
    }
    if header.base_offset >= replay_from {
        producers.apply(header);
    }
}

/// Whether a batch may come next in the segment.
fn follows(header: &BatchHeader, base: Offset, expected: Offset) -> bool {
    header.base_offset >= expected && SegmentIndexes::fits(base, header.last_offset())
}

fn unexpected(header: &BatchHeader) -> BatchError {
    BatchError::Offsets {
        base_offset: header.base_offset,
        last_offset_delta: header.last_offset_delta,
        record_count: header.record_count,
    }
}

/// Looks at a segment from its start: every header, and the checksum of every batch that reaches beyond `trusted_to`.
fn examine(
    file: &dyn DiskFile,
    base: Offset,
    size: u64,
    trusted_to: Offset,
    index_interval: u32,
    count: &mut dyn FnMut(u64),
    on_batch: &mut dyn FnMut(&BatchHeader),
) -> Result<Examined, LogError> {
    let mut examined = Examined {
        indexes: IndexBuilder::new(base),
        good_bytes: 0,
        end_offset: base,
        first_timestamp: None,
        fault: None,
    };
    let mut scanner = Scanner::whole(file, 0, size);
    loop {
        let position = scanner.position();
        let checked = scanner.peek().and_then(|header| {
            let Some(header) = header else { return Ok(None) };
            if !follows(&header, base, examined.end_offset) || position > u64::from(u32::MAX) {
                return Err(ScanError::Batch(unexpected(&header)));
            }
            if header.next_offset() > trusted_to {
                scanner.batch(&header)?.verify().map_err(ScanError::Batch)?;
            }
            Ok(Some(header))
        });
        match checked {
            Ok(None) => return Ok(examined),
            Ok(Some(header)) => {
                on_batch(&header);
                examined.first_timestamp.get_or_insert(header.max_timestamp);
                examined.indexes.add(&header, position as u32, index_interval);
                scanner.skip(&header);
                examined.good_bytes = scanner.position();
                examined.end_offset = header.next_offset();
                count(header.size_bytes() as u64);
            }
            Err(ScanError::Disk(error)) => return Err(error.into()),
            Err(ScanError::Batch(error)) => {
                examined.fault = Some(error);
                return Ok(examined);
            }
        }
    }
}

/// Writes both index files of a segment. Not synced: until the segment is below the recovery point they are made anew
/// after a crash, and the flush that raises it syncs them.
pub(crate) fn write_indexes(
    disk: &dyn Disk,
    dir: &Path,
    base: Offset,
    indexes: &SegmentIndexes,
) -> Result<[Arc<dyn DiskFile>; 2], LogError> {
    let write = |kind: FileKind, bytes: Vec<u8>| -> Result<Arc<dyn DiskFile>, LogError> {
        let file = disk.open(&kind.path(dir, base), OpenMode::Create)?;
        file.truncate(0)?;
        file.write_at(&bytes, 0)?;
        Ok(file)
    };
    Ok([write(FileKind::OffsetIndex, indexes.encode_offsets())?, write(FileKind::TimeIndex, indexes.encode_times())?])
}

/// Removes index files that were not wholly written: a part of one can look whole, and the largest timestamp in it would
/// let retention take the segment too early. Readers make them anew from the batches.
pub(crate) fn remove_indexes(disk: &dyn Disk, dir: &Path, base: Offset) {
    for kind in [FileKind::OffsetIndex, FileKind::TimeIndex] {
        if let Err(error) = remove_if_there(disk, &kind.path(dir, base)) {
            tracing::warn!(%error, "a partly written index stays");
        }
    }
}

/// Removes a segment's files. The batches go last, so that a crash in between leaves a segment, not strays of one.
pub(crate) fn remove_segment_files(disk: &dyn Disk, dir: &Path, base: Offset) -> Result<(), odradek_disk::DiskError> {
    for kind in [FileKind::OffsetIndex, FileKind::TimeIndex, FileKind::Log] {
        remove_if_there(disk, &kind.path(dir, base))?;
    }
    Ok(())
}

/// The producers of the snapshot at that offset; `None` if there is none, or it is damaged.
pub(crate) fn read_snapshot(disk: &dyn Disk, dir: &Path, offset: Offset) -> Result<Option<Producers>, LogError> {
    match read_small_file(disk, &FileKind::ProducerSnapshot.path(dir, offset), SNAPSHOT_BYTES_MAX) {
        Ok(bytes) => Ok(bytes.and_then(|bytes| Producers::decode_snapshot(&bytes))),
        Err(error) if error.kind == DiskErrorKind::TooLarge => Ok(None),
        Err(error) => Err(error.into()),
    }
}

pub(crate) fn remove_if_there(disk: &dyn Disk, path: &Path) -> Result<(), odradek_disk::DiskError> {
    match disk.remove_file(path) {
        Err(error) if !error.is_not_found() => Err(error),
        _ => Ok(()),
    }
}
