// SPDX-License-Identifier: Apache-2.0
//! The metadata log on disk: own format, every append fsynced before it counts (coordination rules 5 and 9).
//!
//! A folder holds segments `<first offset, 20 digits>.log` of batches ([`batch`]), at most one snapshot that counts
//! (`<end offset>.snapshot`, [`snapshot`]) and the promise ([`promise`]). There are never two un-fsynced writes, so
//! damage is either an incomplete final write, which is cut with a warning, or corruption, which is an error: the
//! caller then takes a new directory id and is no voter any more. A failed fsync is final: the process must stop.
//!
//! Bound on replay: a snapshot is due when the log since the last one has grown past that snapshot's size and 1 MiB
//! ([`MetadataLog::snapshot_due`]). So a start reads at most the snapshot, as much again, 1 MiB and one batch; and
//! snapshots at most double what is written. The metadata of 100,000 partitions is about 6 MB.
//!
//! Must not know what records mean beyond applying them to an [`Image`], nor who leads.

mod batch;
mod promise;
mod recovery;
mod replication;
mod snapshot;

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use batch::Batch;
pub use batch::MAX_BATCH_BYTES;
use odradek_disk::{Disk, DiskError, DiskFile, DiskOperation, OpenMode};
use odradek_model::{ControllerEpoch, Offset};
pub use promise::{MAX_VOTERS_BYTES, Promise, read_promise};
pub use recovery::RecoveryReport;
pub use replication::MetadataBatch;
use replication::REMEMBERED_BATCHES;
use thiserror::Error;

use crate::records::RecordError;
use crate::{ApplyError, Image, Record};

/// A snapshot is not due before the log has grown by this much: 1 MiB replays in milliseconds.
const MIN_BYTES_BETWEEN_SNAPSHOTS: u64 = 1 << 20;

/// How far a log reaches: compared first by epoch, then by end (coordination rules 2 and 3).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct LogPosition {
    /// The epoch of the last record, 0 for an empty log.
    pub epoch: ControllerEpoch,
    /// The offset after the last record.
    pub end: Offset,
}

/// Why the log cannot be used.
#[derive(Debug, Error)]
pub enum MetadataLogError {
    /// The disk failed or is full. See [`MetadataLogError::is_fatal`].
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The folder was emptied, or part of it is gone.
    #[error("the metadata log in {} is incomplete: {reason}", path.display())]
    Lost {
        /// The folder.
        path: PathBuf,
        /// What is missing.
        reason: String,
    },
    /// Bytes that were fsynced are damaged.
    #[error("the metadata log is corrupt: {} at byte {position}: {reason}", path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// Where the damage begins.
        position: u64,
        /// What is wrong.
        reason: String,
    },
    /// A record of a newer version; nothing is changed.
    #[error("the metadata log was written by a newer version: {0}")]
    Newer(String),
    /// The folder to format holds something.
    #[error("the folder {} is not empty", .0.display())]
    NotEmpty(PathBuf),
    /// The batch is larger than [`MAX_BATCH_BYTES`].
    #[error("a change of {bytes} bytes is over the limit of {MAX_BATCH_BYTES}")]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// Bytes of another broker that are damaged or do not follow the log; nothing is changed.
    #[error("what another broker sent does not fit the metadata log: {0}")]
    Received(String),
    /// An earlier failure left the end of the log unknown.
    #[error("the metadata log failed before; the process must restart")]
    Stopped,
}

impl MetadataLogError {
    /// Whether the process must stop: what is on disk is no longer known. Otherwise the change was not made, and a
    /// later one may succeed.
    pub fn is_fatal(&self) -> bool {
        match self {
            Self::Disk(error) => may_have_happened(error),
            Self::TooLarge { .. } | Self::Received(_) => false,
            _ => true,
        }
    }
}

/// After a failure of these, the old or the new state may be the one that survives.
fn may_have_happened(error: &DiskError) -> bool {
    matches!(error.operation, DiskOperation::Sync | DiskOperation::SyncDir | DiskOperation::Rename)
}

/// The metadata log of one broker. Calls block on the disk.
#[derive(Debug)]
pub struct MetadataLog {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    /// The active segment and how many of its bytes count.
    file: Arc<dyn DiskFile>,
    file_len: u64,
    /// First offset and length of all segments, the active one last (its length is `file_len`).
    segments: Vec<(Offset, u64)>,
    end: Offset,
    /// Each epoch in the log with its first offset, rising in both. What is in the snapshot has only its last epoch
    /// here, at the snapshot's end: so a log is the same before and after it is opened anew.
    epochs: Vec<(ControllerEpoch, Offset)>,
    /// Where the last batches of the active segment begin: first offset and byte. At most [`REMEMBERED_BATCHES`].
    recent: VecDeque<(Offset, u64)>,
    promise: Promise,
    snapshot_epoch: ControllerEpoch,
    snapshot_end: Offset,
    snapshot_bytes: u64,
    bytes_since_snapshot: u64,
    stopped: bool,
}

impl MetadataLog {
    /// Makes an empty log and an empty promise, fsynced with the folder's name: the step before a broker first takes,
    /// promises or acknowledges anything (rule 9).
    ///
    /// # Errors
    /// [`MetadataLogError::NotEmpty`] if the folder holds anything; disk errors.
    pub fn format(disk: &dyn Disk, dir: &Path) -> Result<(), MetadataLogError> {
        if disk.exists(dir)? && !disk.list(dir)?.is_empty() {
            return Err(MetadataLogError::NotEmpty(dir.to_owned()));
        }
        disk.create_dir_all(dir)?;
        disk.open(&segment_path(dir, 0), OpenMode::CreateNew)?.sync()?;
        promise::write(disk, dir, &Promise::default())?;
        disk.sync_dir(dir)?;
        if let Some(parent) = dir.parent() {
            disk.sync_dir(parent)?;
        }
        Ok(())
    }

    /// The log's end.
    pub fn position(&self) -> LogPosition {
        LogPosition { epoch: self.epochs.last().map_or(0, |(epoch, _)| *epoch), end: self.end }
    }

    /// What this broker has promised last.
    pub fn promised(&self) -> &Promise {
        &self.promise
    }

    /// Promises the epoch to the holder, durably, unless a higher epoch, or this one to another holder, is promised
    /// already: then `Ok(false)` (rule 2).
    ///
    /// # Errors
    /// Disk errors; see [`MetadataLogError::is_fatal`].
    pub fn promise(&mut self, promise: Promise) -> Result<bool, MetadataLogError> {
        self.check_running()?;
        if promise.epoch < self.promise.epoch
            || (promise.epoch == self.promise.epoch && promise.holder != self.promise.holder)
        {
            return Ok(false);
        }
        let promise = Promise { voters: self.promise.voters.clone(), ..promise };
        if promise != self.promise {
            promise::write(self.disk.as_ref(), &self.dir, &promise).map_err(|error| self.stop_if_unknown(error))?;
            self.promise = promise;
        }
        Ok(true)
    }

    /// Appends the records as one batch of the epoch and fsyncs it; returns the offset of the first. After an error
    /// that is not fatal the log is as before.
    ///
    /// # Errors
    /// [`MetadataLogError::TooLarge`]; disk errors; [`MetadataLogError::Stopped`] after a fatal one.
    ///
    /// # Panics
    /// If there are no records, or the epoch is below the last one or not the promised one: a controller that is none.
    pub fn append(&mut self, epoch: ControllerEpoch, records: &[Record]) -> Result<Offset, MetadataLogError> {
        self.check_running()?;
        assert!(!records.is_empty(), "a batch has at least one record");
        assert!(epoch >= self.position().epoch, "epoch {epoch} after {}", self.position().epoch);
        assert_eq!(epoch, self.promise.epoch, "only the promised epoch may be appended");
        let base = self.end;
        let bytes = batch::encode(epoch, base, records);
        if bytes.len() > MAX_BATCH_BYTES {
            return Err(MetadataLogError::TooLarge { bytes: bytes.len() });
        }
        let at = self.file_len;
        self.write_and_sync(&bytes)?;
        self.note_batch(epoch, base, at);
        self.end += records.len() as i64;
        Ok(base)
    }

    /// Appends bytes to the active segment, durably. After an error that is not fatal it is as before.
    fn write_and_sync(&mut self, bytes: &[u8]) -> Result<(), MetadataLogError> {
        if let Err(error) = self.file.write_at(bytes, self.file_len) {
            // Nothing was fsynced, so the batch is undone by cutting what was written of it.
            if self.file.truncate(self.file_len).is_err() {
                self.stopped = true;
            }
            return Err(error.into());
        }
        if let Err(error) = self.file.sync() {
            self.stopped = true;
            return Err(error.into());
        }
        self.file_len += bytes.len() as u64;
        self.bytes_since_snapshot += bytes.len() as u64;
        Ok(())
    }

    /// A batch of the epoch, with this first offset, stands at the byte of the active segment.
    fn note_batch(&mut self, epoch: ControllerEpoch, base: Offset, at: u64) {
        if self.epochs.last().is_none_or(|(last, _)| *last < epoch) {
            self.epochs.push((epoch, base));
        }
        if self.recent.len() == REMEMBERED_BATCHES {
            self.recent.pop_front();
        }
        self.recent.push_back((base, at));
    }

    /// Keeps what the caller has to know of the voters, opaque here, durably, in one file with the promise: who loses
    /// one of the two is no voter any more (rule 9).
    ///
    /// # Errors
    /// Disk errors; see [`MetadataLogError::is_fatal`].
    ///
    /// # Panics
    /// If it is longer than [`MAX_VOTERS_BYTES`].
    pub fn store_voters(&mut self, voters: &[u8]) -> Result<(), MetadataLogError> {
        self.check_running()?;
        let next = Promise { voters: voters.to_vec(), ..self.promise.clone() };
        promise::write(self.disk.as_ref(), &self.dir, &next).map_err(|error| self.stop_if_unknown(error))?;
        self.promise = next;
        Ok(())
    }

    /// Where the epoch, or the highest one below it that the log has, ends here: its number and the offset after its
    /// last record (KIP-101's question, for logs that have to be matched).
    pub fn epoch_end(&self, epoch: ControllerEpoch) -> LogPosition {
        let after = self.epochs.partition_point(|(e, _)| *e <= epoch);
        let end = self.epochs.get(after).map_or(self.end, |(_, start)| *start);
        match after.checked_sub(1) {
            Some(i) => LogPosition { epoch: self.epochs[i].0, end },
            None => LogPosition::default(),
        }
    }

    /// Cuts the log to `end`, or to the batch boundary below it, durably; returns the new end. What a snapshot holds
    /// is committed and cannot be cut. The caller takes [`Self::image`] anew.
    ///
    /// # Errors
    /// Disk errors and damage, all of them fatal here.
    ///
    /// # Panics
    /// If `end` is below the snapshot.
    pub fn truncate_to(&mut self, end: Offset) -> Result<Offset, MetadataLogError> {
        self.check_running()?;
        assert!(end >= self.snapshot_end, "committed records up to {} cannot be cut to {end}", self.snapshot_end);
        if end >= self.end {
            return Ok(self.end);
        }
        self.stopped = true;
        while self.segments.len() > 1 && self.segments.last().is_some_and(|(start, _)| *start > end) {
            let (start, _) = self.segments.pop().expect("more than one segment");
            self.disk.remove_file(&segment_path(&self.dir, start))?;
            self.disk.sync_dir(&self.dir)?;
        }
        let start = self.segments.last().expect("a log has a segment").0;
        let path = segment_path(&self.dir, start);
        self.file = self.disk.open(&path, OpenMode::ReadWrite)?;
        let bytes = read_all(&self.file)?;
        let (mut kept, mut offset) = (0, start);
        while kept < bytes.len() {
            let batch = Batch::parse(&bytes[kept..]).map_err(|reason| MetadataLogError::Corrupt {
                path: path.clone(),
                position: kept as u64,
                reason: reason.to_owned(),
            })?;
            if batch.end_offset() > end {
                break;
            }
            kept += batch.len();
            offset = batch.end_offset();
        }
        assert!(offset >= self.snapshot_end, "the snapshot at {} ends at a batch's end", self.snapshot_end);
        self.recent.clear();
        self.file.truncate(kept as u64)?;
        self.file.sync()?;
        self.file_len = kept as u64;
        self.end = offset;
        let (new_end, snapshot_epoch) = (self.end, self.snapshot_epoch);
        // An epoch that begins where the log ends now is gone, also where the snapshot ends: of what begins there only
        // the snapshot's own epoch stays. A position with the epoch of records that were cut would pass for a log that
        // is further than it is (rule 3).
        self.epochs.retain(|(epoch, first)| *epoch <= snapshot_epoch || *first < new_end);
        self.stopped = false;
        Ok(self.end)
    }

    /// Replays snapshot and log up to their end.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn image(&self) -> Result<Image, MetadataLogError> {
        recovery::replay(self.disk.as_ref(), &self.dir).map(|replayed| replayed.image)
    }

    /// Whether a snapshot should be written now; see the module for the bound.
    pub fn snapshot_due(&self) -> bool {
        self.bytes_since_snapshot > self.snapshot_bytes.max(MIN_BYTES_BETWEEN_SNAPSHOTS)
    }

    /// Stores the image, which must hold committed records only, and drops the log below it.
    ///
    /// # Errors
    /// Disk errors. If not fatal the log works on; the snapshot may or may not be there.
    ///
    /// # Panics
    /// If the image is older than the present snapshot or newer than the log, or was made of other records.
    pub fn write_snapshot(&mut self, image: &Image) -> Result<(), MetadataLogError> {
        self.check_running()?;
        let at = image.end_offset();
        assert!(self.snapshot_end <= at && at <= self.end, "snapshot at {at} outside of the log");
        if at == self.snapshot_end {
            return Ok(());
        }
        let epoch = self.epochs.iter().rfind(|(_, first)| *first < at).map_or(0, |(epoch, _)| *epoch);
        assert_eq!(image.epoch(), epoch, "the epoch of the last record of a snapshot at {at}");
        let bytes = snapshot::encode(image, false);
        self.store_snapshot(image, &bytes)?;
        self.roll()?;
        self.drop_obsolete()
    }

    /// Puts another broker's snapshot (the bytes of its file) in place of this log, atomically: after a crash either
    /// the old log, perhaps without what was beyond the snapshot, or the snapshot is there (rule 3). Returns its image.
    ///
    /// # Errors
    /// Malformed bytes, and a snapshot that ends below this log's own, change nothing; disk errors.
    pub fn install_snapshot(&mut self, bytes: &[u8]) -> Result<Image, MetadataLogError> {
        self.check_running()?;
        let image = Self::received_snapshot(bytes)?;
        let end = image.end_offset();
        if end < self.snapshot_end {
            let own = self.snapshot_end;
            return Err(MetadataLogError::Received(format!(
                "a snapshot up to {end}, but {own} records are committed here"
            )));
        }
        if self.end > end && self.segments.iter().any(|(start, _)| *start == end) {
            // A segment with the name of the new log's first one would be taken for that, should the process die
            // before it is removed.
            self.truncate_to(end)?;
        }
        let bytes = snapshot::encode(&image, true);
        self.store_snapshot(&image, &bytes)?;
        self.stopped = true;
        for (start, _) in std::mem::take(&mut self.segments) {
            self.disk.remove_file(&segment_path(&self.dir, start))?;
        }
        self.file = self.disk.open(&segment_path(&self.dir, image.end_offset()), OpenMode::CreateNew)?;
        self.file.sync()?;
        self.disk.sync_dir(&self.dir)?;
        self.segments = vec![(image.end_offset(), 0)];
        self.file_len = 0;
        self.recent.clear();
        self.end = image.end_offset();
        self.epochs = vec![(image.epoch(), image.end_offset())];
        self.drop_obsolete()?;
        self.stopped = false;
        Ok(image)
    }

    fn store_snapshot(&mut self, image: &Image, bytes: &[u8]) -> Result<(), MetadataLogError> {
        let path = snapshot_path(&self.dir, image.end_offset());
        odradek_disk::write_file_durably(self.disk.as_ref(), &path, bytes)
            .map_err(|error| self.stop_if_unknown(error))?;
        self.snapshot_epoch = image.epoch();
        self.snapshot_end = image.end_offset();
        self.epochs.retain(|(epoch, _)| *epoch > image.epoch());
        self.epochs.insert(0, (image.epoch(), image.end_offset()));
        self.snapshot_bytes = bytes.len() as u64;
        self.bytes_since_snapshot = 0;
        Ok(())
    }

    /// Begins a new segment at the log's end, unless the active one is empty.
    fn roll(&mut self) -> Result<(), MetadataLogError> {
        if self.file_len == 0 {
            return Ok(());
        }
        let file = self.disk.open(&segment_path(&self.dir, self.end), OpenMode::CreateNew)?;
        if let Err(error) = file.sync().and_then(|()| self.disk.sync_dir(&self.dir)) {
            self.stopped = true;
            return Err(error.into());
        }
        if let Some(active) = self.segments.last_mut() {
            active.1 = self.file_len;
        }
        self.segments.push((self.end, 0));
        self.file = file;
        self.file_len = 0;
        self.recent.clear();
        Ok(())
    }

    /// Removes segments and snapshots that the present snapshot makes useless.
    fn drop_obsolete(&mut self) -> Result<(), MetadataLogError> {
        while self.segments.len() > 1 && self.segments[1].0 <= self.snapshot_end {
            self.disk.remove_file(&segment_path(&self.dir, self.segments[0].0))?;
            self.segments.remove(0);
        }
        for (end, _) in recovery::listed(&self.disk.list(&self.dir)?, ".snapshot") {
            if end < self.snapshot_end {
                self.disk.remove_file(&snapshot_path(&self.dir, end))?;
            }
        }
        // Names that come back after a crash are removed at the next start.
        Ok(())
    }

    fn check_running(&self) -> Result<(), MetadataLogError> {
        if self.stopped { Err(MetadataLogError::Stopped) } else { Ok(()) }
    }

    fn stop_if_unknown(&mut self, error: DiskError) -> MetadataLogError {
        self.stopped |= may_have_happened(&error);
        error.into()
    }
}

fn segment_path(dir: &Path, start: Offset) -> PathBuf {
    dir.join(format!("{start:020}.log"))
}

fn snapshot_path(dir: &Path, end: Offset) -> PathBuf {
    dir.join(format!("{end:020}.snapshot"))
}

/// All bytes of a segment. Bounded by the snapshot rule of the module.
fn read_all(file: &Arc<dyn DiskFile>) -> Result<Vec<u8>, DiskError> {
    let mut bytes = Vec::new();
    file.read_append(&mut bytes, file.len()? as usize, 0)?;
    Ok(bytes)
}

/// What a record that cannot be read or applied says about the log.
fn record_error(error: &RecordError, path: &Path, position: u64) -> MetadataLogError {
    match error {
        RecordError::UnknownKind(_) => MetadataLogError::Newer(error.to_string()),
        RecordError::Malformed(_) => {
            MetadataLogError::Corrupt { path: path.to_owned(), position, reason: error.to_string() }
        }
    }
}

fn apply_error(error: &ApplyError, path: &Path, position: u64) -> MetadataLogError {
    match error {
        ApplyError::NewerFeatureLevel { .. } => MetadataLogError::Newer(error.to_string()),
        ApplyError::DoesNotFit { .. } => {
            MetadataLogError::Corrupt { path: path.to_owned(), position, reason: error.to_string() }
        }
    }
}

#[cfg(test)]
mod tests;
