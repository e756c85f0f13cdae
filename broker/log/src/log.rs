// SPDX-License-Identifier: Apache-2.0
//! The writer of a log: open, append, roll, flush, epochs. Must not know who reads, nor when to flush.

use crate::cache::{IndexBuilder, SegmentCache};
use crate::damage::ExpectedLog;
use crate::epochs::{EpochCache, EpochEntry};
use crate::error::{AppendError, LogError};
use crate::file_names::FileKind;
use crate::flush::{FlushHandle, Flushed};
use crate::index::SegmentIndexes;
use crate::partition_metadata;
use crate::producers::Producers;
use crate::reader::{LogReader, Shared};
use crate::recovery::{Recovery, RecoveryProgress, RecoveryReport, remove_if_there, remove_indexes, write_indexes};
use crate::segment::{ActiveParts, Segment};
use crate::settings::LogSettings;
use odradek_disk::{Disk, DiskError, DiskFile, OpenMode};
use odradek_model::{LeaderEpoch, Offset, Timestamp, TimestampType, TopicId};
use odradek_records::{BatchHeader, Batches, HEADER_BYTES, ValidatedBatch};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex};

/// Which log to open, and what the caller knows of its past.
#[derive(Debug, Clone)]
pub struct LogOptions {
    /// The partition's folder, made if missing.
    pub dir: PathBuf,
    /// The topic's id; a folder with another is refused.
    pub topic_id: TopicId,
    /// The topic's settings.
    pub settings: LogSettings,
    /// Whether [`Log::close_clean`] succeeded for this log and nothing wrote since.
    pub clean: bool,
    /// From the recovery-point checkpoint; 0 if unknown. Below it batches are trusted.
    pub recovery_point: Offset,
    /// From the log-start checkpoint; 0 if unknown.
    pub log_start_offset: Offset,
    /// What must be there; `None` for a log that is new. What is not is damage, which recovery marks and reports.
    pub expected: Option<ExpectedLog>,
}

/// Where a batch is in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    /// Offset of its first record.
    pub base_offset: Offset,
    /// Offset of its last record.
    pub last_offset: Offset,
    /// The time it was stamped with, where the topic keeps the broker's time.
    pub log_append_time_ms: Option<Timestamp>,
    /// Whether it was in the log before: nothing was written.
    pub duplicate: bool,
}

/// A file of a sealed segment that waits for its first sync.
#[derive(Debug)]
pub(crate) struct UnflushedFile {
    /// Base offset of its segment.
    pub(crate) base_offset: Offset,
    /// `names_changed` when it was written: a flush taken earlier has not synced it.
    pub(crate) since: u64,
    pub(crate) file: Arc<dyn DiskFile>,
}

/// The one writer of a log. Dropping it without [`close_clean`](Self::close_clean) is like a crash of the process.
#[derive(Debug)]
pub struct Log {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) cache: Arc<SegmentCache>,
    pub(crate) dir: PathBuf,
    pub(crate) settings: LogSettings,
    pub(crate) shared: Arc<Shared>,
    /// The same list as in `shared`, for the writer's own use.
    pub(crate) segments: Vec<Arc<Segment>>,
    pub(crate) active_file: Arc<dyn DiskFile>,
    /// Largest timestamp of the first batch of the active segment.
    pub(crate) active_first_timestamp: Option<Timestamp>,
    pub(crate) end: Offset,
    pub(crate) epochs: EpochCache,
    pub(crate) producers: Producers,
    pub(crate) snapshots: BTreeSet<Offset>,
    pub(crate) recovery_point: Offset,
    /// Files of sealed segments (batches, indexes, producer snapshot) that no flush has synced, oldest first.
    /// Bounded by flushing after a roll: the caller asks [`Log::has_sealed_unflushed`].
    pub(crate) unflushed_files: Vec<UnflushedFile>,
    /// Counts the names made or removed in the folder.
    pub(crate) names_changed: u64,
    /// `names_changed` at the last sync of the folder.
    pub(crate) names_synced: u64,
    pub(crate) truncations: u64,
    pub(crate) failed: Arc<AtomicBool>,
}

// === impl Log: open ===

impl Log {
    /// Opens the log in a folder, or makes a new one. After an unclean end everything from the segment of the recovery
    /// point on is looked at, torn bytes are cut with a warning, and `progress` is called as it goes. That a log lacks what
    /// was expected is reported by this and every later start until the [mark](crate::remove_damage_mark) is removed.
    ///
    /// # Errors
    /// The disk's, or a folder of another topic id. Never because of damage.
    pub fn open(
        disk: Arc<dyn Disk>,
        cache: Arc<SegmentCache>,
        options: LogOptions,
        now_ms: Timestamp,
        progress: &mut dyn FnMut(RecoveryProgress),
    ) -> Result<(Self, RecoveryReport), LogError> {
        let LogOptions { dir, topic_id, settings, clean, recovery_point, log_start_offset, expected } = options;
        disk.create_dir_all(&dir)?;
        if partition_metadata::read_topic_id(&*disk, &dir)?.is_none() {
            // Before the id: from a folder that has one, later starts conclude that its own name is durable.
            disk.sync_dir(dir.parent().unwrap_or(Path::new(".")))?;
        }
        partition_metadata::claim(&*disk, &dir, topic_id)?;
        let recovered = Recovery {
            disk: &*disk,
            cache: &cache,
            dir: &dir,
            clean,
            expected,
            trusted_to: recovery_point.max(0),
            log_start: log_start_offset.max(0),
            index_interval: settings.index_interval_bytes,
            now_ms,
            progress,
        }
        .run()?;
        let mut producers = recovered.producers;
        producers.expire(now_ms, settings.producer_id_expiration_ms);
        let report = recovered.report;
        let end = recovered.log_end;
        let recovery_point = if clean { end } else { recovery_point.clamp(0, end) };
        // After a crash of the process the pages of these files may still wait to be written.
        let mut unflushed_files = Vec::new();
        if !clean {
            let sealed = &recovered.segments[..recovered.segments.len() - 1];
            for (at, segment) in sealed.iter().enumerate() {
                let segment_end = recovered.segments[at + 1].base_offset;
                if segment_end > recovery_point {
                    let file = disk.open(&segment.path, OpenMode::ReadWrite)?;
                    unflushed_files.push(UnflushedFile { base_offset: segment.base_offset, since: 1, file });
                }
            }
        }
        let shared = Arc::new(Shared {
            disk: disk.clone(),
            cache: cache.clone(),
            segments: Mutex::new(Arc::from(&*recovered.segments)),
            start: AtomicI64::new(report.log_start_offset),
            end: AtomicI64::new(end),
        });
        let log = Self {
            disk,
            cache,
            dir,
            settings,
            shared,
            segments: recovered.segments,
            active_file: recovered.active_file,
            active_first_timestamp: recovered.active_first_timestamp,
            end,
            epochs: recovered.epochs,
            producers,
            snapshots: recovered.snapshots,
            recovery_point,
            unflushed_files,
            names_changed: 1,
            names_synced: 0,
            truncations: 0,
            failed: Arc::new(AtomicBool::new(false)),
        };
        Ok((log, report))
    }

    /// A reader; cheap, as are its clones.
    pub fn reader(&self) -> LogReader {
        LogReader { shared: self.shared.clone() }
    }

    /// Replaces the settings; they hold from the next append and the next retention on.
    pub fn set_settings(&mut self, settings: LogSettings) {
        self.settings = settings;
    }

    /// The settings in force.
    pub fn settings(&self) -> &LogSettings {
        &self.settings
    }

    /// The partition's folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// First offset of the log.
    pub fn log_start_offset(&self) -> Offset {
        self.shared.start.load(Ordering::Acquire)
    }

    /// The offset after the last.
    pub fn log_end_offset(&self) -> Offset {
        self.end
    }

    /// Offset of the oldest record that a transaction may still change, below the given high watermark. Without
    /// transactions that is the high watermark.
    pub fn last_stable_offset(&self, high_watermark: Offset) -> Offset {
        high_watermark.min(self.end)
    }

    /// Records below this offset survive a loss of power.
    pub fn recovery_point(&self) -> Offset {
        self.recovery_point
    }

    /// Bytes of batches in all segments.
    pub fn size_bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.size()).sum()
    }

    /// Number of segments, the active one included.
    pub fn segment_count(&self) -> usize {
        self.segments.len()
    }

    /// Number of producers whose last batches are remembered.
    pub fn producer_count(&self) -> usize {
        self.producers.len()
    }

    /// Whether an earlier failure left the files in doubt: no writes are taken until the log is opened again.
    pub fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Acquire)
    }

    pub(crate) fn active(&self) -> &Arc<Segment> {
        self.segments.last().expect("a log always has an active segment")
    }

    pub(crate) fn check_writable(&self) -> Result<(), LogError> {
        if self.has_failed() {
            return Err(LogError::Failed { dir: self.dir.clone() });
        }
        Ok(())
    }
}

// === impl Log: append ===

impl Log {
    /// Appends one batch as leader: stamps offset, epoch and, where the topic keeps it, the time, and writes it with one
    /// call. A batch that its producer sent before is answered with its old offsets and not written again.
    ///
    /// Durable only after a flush. An epoch above the latest is made durable first, see [`assign_epoch`](Self::assign_epoch).
    ///
    /// # Errors
    /// See [`AppendError`]: nothing of the batch is in the log then.
    pub fn append(
        &mut self,
        mut batch: ValidatedBatch,
        leader_epoch: LeaderEpoch,
        now_ms: Timestamp,
    ) -> Result<Appended, AppendError> {
        self.check_writable().map_err(append_error)?;
        if let Some(duplicate) = self.producers.check(batch.header())? {
            let log_append_time_ms =
                (self.settings.timestamp_type == TimestampType::LogAppendTime).then_some(duplicate.timestamp);
            return Ok(Appended {
                base_offset: duplicate.first_offset(),
                last_offset: duplicate.last_offset,
                log_append_time_ms,
                duplicate: true,
            });
        }
        if self.epochs.latest().is_none_or(|latest| leader_epoch > latest) {
            self.assign_epoch(leader_epoch, self.end).map_err(append_error)?;
        }
        let log_append_time_ms = (self.settings.timestamp_type == TimestampType::LogAppendTime).then_some(now_ms);
        batch.assign(self.end, leader_epoch, log_append_time_ms);
        let header = *batch.header();
        self.write(&header, &header.to_prefix(), batch.payload(), now_ms)?;
        Ok(Appended {
            base_offset: header.base_offset,
            last_offset: header.last_offset(),
            log_append_time_ms,
            duplicate: false,
        })
    }

    /// Appends batches that a leader has stamped, as follower: kept byte for byte, checksums checked, producers and
    /// epochs noted without judging. Offsets must continue the log; gaps are the leader's (compaction). A last batch
    /// that is cut off is left out. Returns the new end.
    ///
    /// # Errors
    /// Batches before the one that failed are in the log; see [`log_end_offset`](Self::log_end_offset).
    pub fn append_replicated(&mut self, bytes: &[u8], now_ms: Timestamp) -> Result<Offset, AppendError> {
        self.check_writable().map_err(append_error)?;
        for batch in Batches::new(bytes) {
            let batch = match batch {
                Ok(batch) => batch,
                Err(odradek_records::BatchError::Incomplete { .. }) => break,
                Err(error) => return Err(error.into()),
            };
            batch.verify()?;
            let header = batch.header;
            if header.base_offset < self.end {
                return Err(AppendError::NotNext { found: header.base_offset, end: self.end });
            }
            let epoch = header.partition_leader_epoch;
            if epoch >= 0 && self.epochs.latest().is_none_or(|latest| epoch > latest) {
                self.assign_epoch(epoch, header.base_offset).map_err(append_error)?;
            }
            let (prefix, payload) = batch.bytes.split_at(HEADER_BYTES);
            let prefix = prefix.first_chunk().expect("split at the header's length");
            self.write(&header, prefix, payload, now_ms)?;
        }
        Ok(self.end)
    }

    fn write(
        &mut self,
        header: &BatchHeader,
        prefix: &[u8; HEADER_BYTES],
        payload: &[u8],
        now_ms: Timestamp,
    ) -> Result<(), AppendError> {
        assert!(header.base_offset >= self.end, "offsets never go back");
        if self.epochs.is_unstored() {
            self.epochs.store(&*self.disk)?;
        }
        if self.must_roll(header, now_ms) {
            // At the log's end also where the leader's compaction has left a gap: a recovery takes one between segments
            // for lost records. Only a batch too far from there makes a gap in the names.
            let base_offset =
                if SegmentIndexes::fits(self.end, header.last_offset()) { self.end } else { header.base_offset };
            self.roll(base_offset, now_ms).map_err(append_error)?;
        }
        let active = self.segments.last().expect("a log always has an active segment");
        let position = active.size();
        if let Err(error) = self.active_file.write_pair_at(prefix, payload, position) {
            return Err(self.undo_write(position, error));
        }
        let interval = self.settings.index_interval_bytes;
        let max = active
            .with_active(|parts| {
                parts.builder.add(header, position as u32, interval);
                parts.builder.max.timestamp
            })
            .expect("the last segment is active");
        self.active_first_timestamp.get_or_insert(header.max_timestamp);
        self.end = header.next_offset();
        active.publish(position + header.size_bytes() as u64, max);
        self.shared.end.store(self.end, Ordering::Release);
        self.producers.apply(header);
        Ok(())
    }

    /// Cuts off what a failed write left. If even that fails the file is in doubt and the log stops.
    fn undo_write(&mut self, position: u64, error: DiskError) -> AppendError {
        if let Err(undo) = self.active_file.truncate(position) {
            tracing::error!(%undo, dir = %self.dir.display(), "a failed append could not be undone: the log takes no more writes");
            self.failed.store(true, Ordering::Release);
        }
        AppendError::Disk(error)
    }

    /// Kafka's rule (`LogSegment.shouldRoll`): full, too old by the timestamps in it (by its age while no batch of it
    /// has one), an index full, or an offset too far from the base.
    fn must_roll(&self, header: &BatchHeader, now_ms: Timestamp) -> bool {
        let active = self.active();
        let size = active.size();
        if size == 0 {
            return !SegmentIndexes::fits(active.base_offset, header.last_offset());
        }
        let age_ms = match self.active_first_timestamp {
            Some(first) if first >= 0 => header.max_timestamp.saturating_sub(first),
            _ => now_ms.saturating_sub(active.created_ms),
        };
        let index_full = || {
            active
                .with_active(|parts| parts.builder.indexes.is_full(self.settings.segment_index_bytes))
                .unwrap_or(false)
        };
        size + header.size_bytes() as u64 > u64::from(self.settings.segment_bytes)
            || age_ms > self.settings.segment_ms
            || !SegmentIndexes::fits(active.base_offset, header.last_offset())
            || index_full()
    }

    /// Seals the active segment and begins one at `base_offset` (the log's end, or later for a follower after a gap).
    /// The sealed files are not synced here; see [`has_sealed_unflushed`](Self::has_sealed_unflushed).
    pub(crate) fn roll(&mut self, base_offset: Offset, now_ms: Timestamp) -> Result<(), LogError> {
        self.check_writable()?;
        // The new file first: if that fails, nothing has changed.
        let file = self.disk.open(&FileKind::Log.path(&self.dir, base_offset), OpenMode::Create)?;
        file.truncate(0)?;
        self.names_changed += 1;
        let sealed = self.active().clone();
        // Readers find the indexes in memory until their files are whole: old or partial files of the same names would
        // be taken for the segment's, and be kept.
        let indexes = sealed.with_active(|parts| parts.builder.clone().seal()).expect("the last segment is active");
        let mut files = vec![self.active_file.clone()];
        match write_indexes(&*self.disk, &self.dir, sealed.base_offset, &indexes) {
            Ok(index_files) => files.extend(index_files),
            // They can be made anew from the batches, so the log goes on without them.
            Err(error) => {
                tracing::warn!(%error, dir = %self.dir.display(), "the indexes of a segment were not written");
                remove_indexes(&*self.disk, &self.dir, sealed.base_offset);
            }
        }
        sealed.seal();
        let (base, since) = (sealed.base_offset, self.names_changed);
        self.unflushed_files.extend(files.into_iter().map(|file| UnflushedFile { base_offset: base, since, file }));
        self.keep_snapshot();
        let parts = ActiveParts { file: file.clone(), builder: IndexBuilder::new(base_offset) };
        let id = self.cache.next_id();
        self.segments.push(Arc::new(Segment::active(&self.dir, base_offset, 0, id, now_ms, -1, parts)));
        self.active_file = file;
        self.active_first_timestamp = None;
        self.shared.set_segments(&self.segments);
        Ok(())
    }

    /// Writes the producers' state before the log's end; `None` if that snapshot is there already.
    pub(crate) fn write_snapshot(&mut self) -> Result<Option<Arc<dyn DiskFile>>, LogError> {
        if self.snapshots.contains(&self.end) {
            return Ok(None);
        }
        let path = FileKind::ProducerSnapshot.path(&self.dir, self.end);
        let file = self.disk.open(&path, OpenMode::Create)?;
        let written = file.truncate(0).and_then(|()| file.write_at(&self.producers.encode_snapshot(), 0));
        if let Err(error) = written {
            // A part of one is of no use, and on a full disk in the way.
            remove_if_there(&*self.disk, &path)?;
            return Err(error.into());
        }
        self.snapshots.insert(self.end);
        self.names_changed += 1;
        Ok(Some(file))
    }

    /// As [`write_snapshot`](Self::write_snapshot), to be synced by the next flush. The log goes on without it: the
    /// producers' state can be made anew from the batches.
    pub(crate) fn keep_snapshot(&mut self) {
        match self.write_snapshot() {
            Ok(Some(file)) => {
                let (base_offset, since) = (self.active().base_offset, self.names_changed);
                self.unflushed_files.push(UnflushedFile { base_offset, since, file });
            }
            Ok(None) => {}
            Err(error) => tracing::warn!(%error, dir = %self.dir.display(), "a producer snapshot was not written"),
        }
    }
}

fn append_error(error: LogError) -> AppendError {
    match error {
        LogError::Disk(error) => AppendError::Disk(error),
        LogError::Failed { dir } => AppendError::Failed { dir },
        LogError::TopicIdMismatch { .. } | LogError::OffsetOutOfRange { .. } | LogError::Read(_) => {
            unreachable!("an append opens no log and asks for no offset: {error}")
        }
    }
}

// === impl Log: epochs ===

impl Log {
    /// Notes that `epoch` begins at `start_offset`; durable when it returns. A new leader calls it with the log's end
    /// before it serves.
    pub fn assign_epoch(&mut self, epoch: LeaderEpoch, start_offset: Offset) -> Result<(), LogError> {
        self.check_writable()?;
        assert!(epoch >= 0 && start_offset >= 0, "epochs and offsets of a log are not negative");
        // The disk first: an epoch that only memory knows would be taken for a durable one by the next append.
        let mut epochs = self.epochs.clone();
        if epochs.assign(epoch, start_offset) {
            if let Err(error) = epochs.store(&*self.disk) {
                self.epochs.doubt_the_file();
                return Err(error.into());
            }
            self.epochs = epochs;
        }
        Ok(())
    }

    /// The largest epoch at or below `epoch` and the offset after its last record; `None` for an epoch above all.
    pub fn epoch_end_offset(&self, epoch: LeaderEpoch) -> Option<(LeaderEpoch, Offset)> {
        self.epochs.end_offset(epoch, self.end)
    }

    /// The latest epoch known.
    pub fn latest_epoch(&self) -> Option<LeaderEpoch> {
        self.epochs.latest()
    }

    /// The epoch in which the record at `offset` was written (at the log's end: the latest).
    pub fn epoch_at(&self, offset: Offset) -> Option<LeaderEpoch> {
        self.epochs.epoch_at(offset)
    }

    /// All epochs with their first offsets.
    pub fn epochs(&self) -> &[EpochEntry] {
        self.epochs.entries()
    }
}

// === impl Log: flush ===

impl Log {
    /// Whether `flush.messages` asks for a flush now.
    pub fn needs_flush(&self) -> bool {
        self.settings.flush_messages.is_some_and(|limit| (self.end - self.recovery_point) as u64 >= limit)
    }

    /// Whether sealed segments wait for their first sync. A background flush then raises the recovery point, so that
    /// little is looked at after a crash.
    pub fn has_sealed_unflushed(&self) -> bool {
        !self.unflushed_files.is_empty()
    }

    /// Everything to sync for the records so far, to be run off the writer; then [`flushed_up_to`](Self::flushed_up_to).
    pub fn flush_handle(&self) -> FlushHandle {
        let mut files: Vec<_> = self.unflushed_files.iter().map(|unflushed| unflushed.file.clone()).collect();
        files.push(self.active_file.clone());
        FlushHandle {
            disk: self.disk.clone(),
            dir: self.dir.clone(),
            files,
            sync_dir: self.names_changed != self.names_synced,
            names_changed: self.names_changed,
            up_to: self.end,
            truncations: self.truncations,
            failed: self.failed.clone(),
        }
    }

    /// Takes note of a finished flush: the recovery point rises, unless the log was cut back meanwhile.
    pub fn flushed_up_to(&mut self, flushed: Flushed) {
        self.names_synced = self.names_synced.max(flushed.names_changed);
        if flushed.truncations != self.truncations {
            return;
        }
        self.recovery_point = self.recovery_point.max(flushed.up_to);
        self.unflushed_files.retain(|unflushed| unflushed.since > flushed.names_changed);
    }

    /// Syncs everything now, on this thread.
    ///
    /// # Errors
    /// The log takes no more writes after a failed sync.
    pub fn flush(&mut self) -> Result<(), crate::FlushError> {
        let flushed = self.flush_handle().run()?;
        self.flushed_up_to(flushed);
        Ok(())
    }

    /// Writes indexes and producers' state and syncs everything. The caller may then open the log as clean.
    pub fn close_clean(&mut self) -> Result<(), LogError> {
        self.check_writable()?;
        let snapshot = self.write_snapshot()?;
        let active = self.active().clone();
        let indexes = active.with_active(|parts| parts.builder.clone().seal()).expect("the last segment is active");
        let files = write_indexes(&*self.disk, &self.dir, active.base_offset, &indexes)?;
        for file in snapshot.iter().chain(&files) {
            file.sync()?;
        }
        self.names_changed += 1;
        self.flush().map_err(|error| LogError::Disk(error.0))
    }
}
