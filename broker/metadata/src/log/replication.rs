// SPDX-License-Identifier: Apache-2.0
//! The log as other brokers see it: batches and snapshots that are read for them, and those that come from them.
//!
//! A batch travels as its bytes on disk, checksum included. Whoever takes it in checks it, every record too, and writes
//! it with its own durable end, so that recovery here still tells a torn write from a damaged one: batches that come
//! together are one write.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use odradek_disk::{DiskFile, OpenMode};
use odradek_model::{ControllerEpoch, Offset};

use super::batch::{Batch, MAX_WRITE_BYTES, with_durable_end};
use super::{
    LogPosition, MAX_BATCH_BYTES, MetadataLog, MetadataLogError, read_all, segment_path, snapshot, snapshot_path,
};
use crate::records::RecordError;
use crate::{Image, Record};

/// Batches of the active segment whose place is remembered: what followers that keep up ask for. 256 places are 4 KiB,
/// and a follower that is further behind reads whole segments anyway.
pub(super) const REMEMBERED_BATCHES: usize = 256;

/// A batch as it travels.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MetadataBatch {
    /// The epoch of the controller that made it.
    pub epoch: ControllerEpoch,
    /// The offset of its first record.
    pub base_offset: Offset,
    /// The offset after its last record.
    pub end_offset: Offset,
    /// All of it.
    pub bytes: Bytes,
}

impl MetadataBatch {
    /// The batch that these bytes are.
    ///
    /// # Errors
    /// [`MetadataLogError::Received`] if they are none, or more than one.
    pub fn parse(bytes: Bytes) -> Result<Self, MetadataLogError> {
        let batch = Batch::parse(&bytes).map_err(|reason| MetadataLogError::Received(reason.to_owned()))?;
        if batch.len() != bytes.len() || batch.count == 0 {
            return Err(MetadataLogError::Received("not one batch".to_owned()));
        }
        let (epoch, base_offset, end_offset) = (batch.epoch, batch.base_offset, batch.end_offset());
        Ok(Self { epoch, base_offset, end_offset, bytes })
    }

    /// Its records.
    ///
    /// # Errors
    /// [`MetadataLogError::Newer`] for a kind of a newer version; [`MetadataLogError::Received`] for anything else that
    /// is no record.
    pub fn records(&self) -> Result<Vec<Record>, MetadataLogError> {
        let batch = Batch::parse(&self.bytes).map_err(|reason| MetadataLogError::Received(reason.to_owned()))?;
        let records: Result<Vec<_>, _> = batch.records().collect();
        records.map_err(|error| match error {
            RecordError::UnknownKind(_) => MetadataLogError::Newer(error.to_string()),
            RecordError::Malformed(_) => MetadataLogError::Received(error.to_string()),
        })
    }
}

impl MetadataLog {
    /// The end of the snapshot below the log, which holds committed records only; the default without one.
    pub fn start(&self) -> LogPosition {
        LogPosition { epoch: self.snapshot_epoch, end: self.snapshot_end }
    }

    /// The image of the snapshot alone: what is certainly committed. Apply the records of [`Self::read`] to it as far
    /// as they are known to be.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn committed_image(&self) -> Result<Image, MetadataLogError> {
        if self.snapshot_end == 0 {
            return Ok(Image::empty());
        }
        let path = snapshot_path(&self.dir, self.snapshot_end);
        let bytes = self.read_snapshot(0, self.snapshot_bytes as usize)?;
        snapshot::decode(&bytes, &path).map(|snapshot| snapshot.image)
    }

    /// The batches from the offset on, which is a batch's first: at least one, if there is one, then as many as fit
    /// into `max_bytes`.
    ///
    /// # Errors
    /// Disk errors; [`MetadataLogError::Corrupt`] for bytes that are damaged by now; [`MetadataLogError::Received`] if no
    /// batch begins there: the offset is another broker's word.
    ///
    /// # Panics
    /// If the offset is below [`Self::start`].
    pub fn read(&self, from: Offset, max_bytes: usize) -> Result<Vec<MetadataBatch>, MetadataLogError> {
        assert!(from >= self.snapshot_end, "{from} is in the snapshot up to {}", self.snapshot_end);
        if from >= self.end {
            return Ok(Vec::new());
        }
        let at = self.segments.partition_point(|(start, _)| *start <= from).saturating_sub(1);
        let path = segment_path(&self.dir, self.segments[at].0);
        let is_active = at + 1 == self.segments.len();
        let remembered = self.recent.iter().find(|(base, _)| is_active && *base == from).map(|(_, position)| *position);
        let bytes = match remembered {
            Some(position) => {
                let left = (self.file_len - position) as usize;
                let mut bytes = Vec::new();
                self.file.read_append(&mut bytes, left.min(max_bytes), position)?;
                if bytes.len() < left && Batch::parse(&bytes).is_err() {
                    // A single batch that is larger than asked for.
                    bytes.clear();
                    self.file.read_append(&mut bytes, left.min(MAX_WRITE_BYTES), position)?;
                }
                bytes
            }
            None if is_active => read_all(&self.file)?,
            None => read_all(&self.disk.open(&path, OpenMode::Read)?)?,
        };
        let bytes = Bytes::from(bytes);
        let mut batches: Vec<MetadataBatch> = Vec::new();
        let (mut position, mut left) = (0, max_bytes);
        while position < bytes.len() {
            let corrupt = |reason: &str| MetadataLogError::Corrupt {
                path: path.clone(),
                position: remembered.unwrap_or(0) + position as u64,
                reason: reason.to_owned(),
            };
            let batch = match Batch::parse(&bytes[position..]) {
                Ok(batch) => batch,
                // The read ended in the middle of one.
                Err(_) if !batches.is_empty() && remembered.is_some() => break,
                Err(reason) => return Err(corrupt(reason)),
            };
            let (len, base_offset, end_offset) = (batch.len(), batch.base_offset, batch.end_offset());
            if base_offset >= from {
                if batches.is_empty() && base_offset != from {
                    return Err(MetadataLogError::Received(format!("no batch begins at {from}, where it ends")));
                }
                if !batches.is_empty() && len > left {
                    break;
                }
                left = left.saturating_sub(len);
                let bytes = bytes.slice(position..position + len);
                batches.push(MetadataBatch { epoch: batch.epoch, base_offset, end_offset, bytes });
            }
            position += len;
        }
        Ok(batches)
    }

    /// Appends batches of another broker, in one write, and fsyncs them. After an error that is not fatal the log is as
    /// before.
    ///
    /// # Errors
    /// [`MetadataLogError::Received`] for bytes that are damaged or do not follow the log;
    /// [`MetadataLogError::Newer`]; [`MetadataLogError::TooLarge`] if together they are more than one write may be;
    /// disk errors.
    pub fn append_batches(&mut self, batches: &[MetadataBatch]) -> Result<(), MetadataLogError> {
        self.check_running()?;
        let refused = |reason: String| Err(MetadataLogError::Received(reason));
        let mut position = self.position();
        let mut write = Vec::new();
        let mut places = Vec::new();
        for received in batches {
            let batch =
                Batch::parse(&received.bytes).map_err(|reason| MetadataLogError::Received(reason.to_owned()))?;
            let fields = (batch.epoch, batch.base_offset, batch.end_offset(), batch.len());
            if fields != (received.epoch, received.base_offset, received.end_offset, received.bytes.len()) {
                return refused(format!("the batch at {} is not what it was said to be", received.base_offset));
            }
            if batch.base_offset != position.end || batch.count == 0 {
                return refused(format!("a batch at {} where {} was expected", batch.base_offset, position.end));
            }
            if batch.epoch < position.epoch || batch.epoch > self.promise.epoch {
                let promised = self.promise.epoch;
                return refused(format!("epoch {} after {}, promised {promised}", batch.epoch, position.epoch));
            }
            received.records()?;
            places.push((batch.epoch, batch.base_offset, write.len() as u64));
            position = LogPosition { epoch: batch.epoch, end: batch.end_offset() };
            write.extend_from_slice(&with_durable_end(&received.bytes, self.end));
        }
        if write.len() > MAX_BATCH_BYTES && batches.len() > 1 {
            return Err(MetadataLogError::TooLarge { bytes: write.len() });
        }
        if write.is_empty() {
            return Ok(());
        }
        let before = self.file_len;
        self.write_and_sync(&write)?;
        for (epoch, base, at) in places {
            self.note_batch(epoch, base, before + at);
        }
        self.end = position.end;
        Ok(())
    }

    /// Bytes of the snapshot, 0 without one.
    pub fn snapshot_bytes(&self) -> u64 {
        self.snapshot_bytes
    }

    /// A part of the snapshot's file, at most `max_bytes` of it.
    ///
    /// # Errors
    /// Disk errors.
    pub fn read_snapshot(&self, at: u64, max_bytes: usize) -> Result<Bytes, MetadataLogError> {
        let file: Arc<dyn DiskFile> = self.disk.open(&self.snapshot_file(), OpenMode::Read)?;
        let mut bytes = Vec::new();
        let left = self.snapshot_bytes.saturating_sub(at) as usize;
        file.read_append(&mut bytes, left.min(max_bytes), at)?;
        Ok(Bytes::from(bytes))
    }

    fn snapshot_file(&self) -> std::path::PathBuf {
        snapshot_path(&self.dir, self.snapshot_end)
    }

    /// Whether a received snapshot can be read, before it is put in place of anything.
    pub(super) fn received_snapshot(bytes: &[u8]) -> Result<Image, MetadataLogError> {
        match snapshot::decode(bytes, Path::new("received snapshot")) {
            Ok(snapshot) => Ok(snapshot.image),
            Err(MetadataLogError::Corrupt { reason, .. }) => Err(MetadataLogError::Received(reason)),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests;
