// SPDX-License-Identifier: Apache-2.0
//! A log is opened: the newest snapshot, the batches after it, and the judgement of what follows the last good one.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use odradek_disk::{DirEntry, Disk, OpenMode, read_small_file};
use odradek_model::{ControllerEpoch, Offset};
use tracing::warn;

use super::batch::{self, Batch, MAX_BATCH_BYTES};
use super::{
    MetadataLog, MetadataLogError, apply_error, promise, read_all, record_error, segment_path, snapshot, snapshot_path,
};
use crate::Image;

/// What opening found.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct RecoveryReport {
    /// Where the snapshot ends, 0 without one.
    pub snapshot_end: Offset,
    /// Records replayed after it.
    pub replayed_records: u64,
    /// Bytes of an incomplete final write that were cut.
    pub torn_bytes: u64,
}

/// Everything a folder says, before anything in it is changed.
pub(super) struct Replayed {
    pub(super) image: Image,
    epochs: Vec<(ControllerEpoch, Offset)>,
    /// First offset, valid bytes.
    segments: Vec<(Offset, u64)>,
    snapshot_epoch: ControllerEpoch,
    snapshot_bytes: u64,
    bytes_since_snapshot: u64,
    obsolete: Vec<PathBuf>,
    /// An installed snapshot whose log was not begun yet.
    begin_at: Option<Offset>,
    report: RecoveryReport,
}

impl MetadataLog {
    /// Opens the log of a folder that was formatted, and replays it.
    ///
    /// # Errors
    /// [`MetadataLogError::Lost`] and [`MetadataLogError::Corrupt`]: the folder is no voter's any more;
    /// [`MetadataLogError::Newer`]: use a newer version; disk errors. Nothing is changed then.
    pub fn open(disk: Arc<dyn Disk>, dir: &Path) -> Result<(Self, Image, RecoveryReport), MetadataLogError> {
        let promise = promise::read(disk.as_ref(), dir)?;
        let mut replayed = replay(disk.as_ref(), dir)?;
        for path in &replayed.obsolete {
            disk.remove_file(path)?;
        }
        if let Some(start) = replayed.begin_at {
            disk.open(&segment_path(dir, start), OpenMode::CreateNew)?.sync()?;
            disk.sync_dir(dir)?;
            replayed.segments = vec![(start, 0)];
        }
        let (start, file_len) = *replayed.segments.last().expect("replay found a segment");
        let path = segment_path(dir, start);
        let file = disk.open(&path, OpenMode::ReadWrite)?;
        if file.len()? > file_len {
            let torn = replayed.report.torn_bytes;
            warn!(file = %path.display(), position = file_len, bytes = torn, "cut the incomplete final write");
            file.truncate(file_len)?;
            file.sync()?;
        }
        let image = replayed.image;
        let log = Self {
            disk,
            dir: dir.to_owned(),
            file,
            file_len,
            segments: replayed.segments,
            end: image.end_offset(),
            epochs: replayed.epochs,
            recent: VecDeque::new(),
            promise,
            snapshot_epoch: replayed.snapshot_epoch,
            snapshot_end: replayed.report.snapshot_end,
            snapshot_bytes: replayed.snapshot_bytes,
            bytes_since_snapshot: replayed.bytes_since_snapshot,
            stopped: false,
        };
        Ok((log, image, replayed.report))
    }
}

/// The numbers of the files with the ending, rising, with their lengths.
pub(super) fn listed(entries: &[DirEntry], ending: &str) -> Vec<(Offset, u64)> {
    let number = |entry: &DirEntry| {
        let digits = entry.name.strip_suffix(ending)?;
        let proper = digits.len() == 20 && digits.bytes().all(|b| b.is_ascii_digit());
        if proper && !entry.is_dir { digits.parse().ok().map(|number| (number, entry.len)) } else { None }
    };
    entries.iter().filter_map(number).collect()
}

pub(super) fn replay(disk: &dyn Disk, dir: &Path) -> Result<Replayed, MetadataLogError> {
    let lost = |reason: &str| MetadataLogError::Lost { path: dir.to_owned(), reason: reason.to_owned() };
    let entries = disk.list(dir)?;
    let mut obsolete: Vec<PathBuf> =
        entries.iter().filter(|e| e.name.strip_suffix(".tmp").is_some()).map(|e| dir.join(&e.name)).collect();
    let mut snapshots = listed(&entries, ".snapshot");
    let newest = snapshots.pop();
    obsolete.extend(snapshots.iter().map(|(end, _)| snapshot_path(dir, *end)));
    let mut image = Image::empty();
    let mut installed = false;
    let mut snapshot_bytes = 0;
    if let Some((end, _)) = newest {
        let path = snapshot_path(dir, end);
        let bytes = read_small_file(disk, &path, snapshot::MAX_BYTES)?.ok_or_else(|| lost("the snapshot is gone"))?;
        let read = snapshot::decode(&bytes, &path)?;
        if read.image.end_offset() != end {
            let reason = format!("the snapshot ends at {}, its name says otherwise", read.image.end_offset());
            return Err(MetadataLogError::Corrupt { path, position: 8, reason });
        }
        (image, installed, snapshot_bytes) = (read.image, read.installed, bytes.len() as u64);
    }
    let snapshot_end = image.end_offset();
    let mut epochs = Vec::new();
    if newest.is_some() {
        epochs.push((image.epoch(), snapshot_end));
    }
    let snapshot_epoch = if newest.is_some() { image.epoch() } else { 0 };
    let report = RecoveryReport { snapshot_end, ..RecoveryReport::default() };
    let mut replayed = Replayed {
        image,
        epochs,
        segments: Vec::new(),
        snapshot_epoch,
        snapshot_bytes,
        bytes_since_snapshot: 0,
        obsolete,
        begin_at: None,
        report,
    };
    let mut segments = listed(&entries, ".log");
    if installed && !segments.iter().any(|(start, _)| *start == snapshot_end) {
        // The crash came between the snapshot and the log that begins at it.
        replayed.obsolete.extend(segments.iter().map(|(start, _)| segment_path(dir, *start)));
        replayed.begin_at = Some(snapshot_end);
        return Ok(replayed);
    }
    while segments.len() > 1 && (segments[1].0 <= snapshot_end) {
        replayed.obsolete.push(segment_path(dir, segments.remove(0).0));
    }
    match segments.first() {
        None => return Err(lost("there is no segment")),
        Some((start, _)) if *start > snapshot_end => {
            return Err(lost(&format!("the log begins at {start}, the snapshot ends at {snapshot_end}")));
        }
        Some(_) => {}
    }
    let mut expected = segments[0].0;
    for (i, (start, _)) in segments.iter().enumerate() {
        let path = segment_path(dir, *start);
        if *start != expected {
            return Err(lost(&format!("{} begins where {expected} was expected", path.display())));
        }
        let bytes = read_all(&disk.open(&path, OpenMode::Read)?)?;
        let valid = replayed.segment(&path, &bytes, &mut expected, i + 1 == segments.len())?;
        replayed.segments.push((*start, valid as u64));
    }
    if replayed.image.end_offset() > expected {
        return Err(lost(&format!("the log ends at {expected}, before its snapshot at {snapshot_end}")));
    }
    Ok(replayed)
}

impl Replayed {
    /// Applies a segment's batches; returns how many of its bytes are valid.
    fn segment(
        &mut self,
        path: &Path,
        bytes: &[u8],
        expected: &mut Offset,
        last: bool,
    ) -> Result<usize, MetadataLogError> {
        let mut at = 0;
        while at < bytes.len() {
            let corrupt =
                |reason: String| Err(MetadataLogError::Corrupt { path: path.to_owned(), position: at as u64, reason });
            let batch = match Batch::parse(&bytes[at..]) {
                Ok(batch) => batch,
                Err(reason) => {
                    let rest = &bytes[at..];
                    if !last {
                        return corrupt(format!("{reason}, and a later segment follows"));
                    }
                    if rest.len() > MAX_BATCH_BYTES {
                        return corrupt(format!("{reason}, and more follows than one write could be"));
                    }
                    if batch::proves_durable(rest, *expected) {
                        return corrupt(format!("{reason}, and a later batch says that it was whole"));
                    }
                    self.report.torn_bytes = rest.len() as u64;
                    return Ok(at);
                }
            };
            if batch.base_offset != *expected || batch.durable_end > batch.base_offset {
                return corrupt(format!("a batch at {} where {expected} was expected", batch.base_offset));
            }
            let last_epoch = self.epochs.last().map(|(epoch, _)| *epoch);
            if batch.end_offset() > self.image.end_offset() {
                if last_epoch.is_some_and(|last| batch.epoch < last) {
                    return corrupt(format!("epoch {} after {}", batch.epoch, last_epoch.unwrap_or(0)));
                }
                if last_epoch.is_none_or(|last| last < batch.epoch) {
                    self.epochs.push((batch.epoch, batch.base_offset));
                }
                self.bytes_since_snapshot += batch.len() as u64;
            }
            for (i, record) in batch.records().enumerate() {
                let record = record.map_err(|error| record_error(&error, path, at as u64))?;
                if batch.base_offset + i as i64 >= self.image.end_offset() {
                    self.image.apply_mut(batch.epoch, &record).map_err(|error| apply_error(&error, path, at as u64))?;
                    self.report.replayed_records += 1;
                }
            }
            *expected = batch.end_offset();
            at += batch.len();
        }
        Ok(at)
    }
}
