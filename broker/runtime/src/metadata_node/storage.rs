// SPDX-License-Identifier: Apache-2.0
//! The metadata log as the storage of a quorum member, and the reading of what is committed in it. It translates; it
//! must not decide.
use std::fmt;

use bytes::Bytes;
use odradek_coordination::Holder;
use odradek_coordination::quorum::{LogBatch, LogPosition, Promise, QuorumStorage, StorageError, VoterSet, VoterSets};
use odradek_metadata::records::ControllerChangeRecord;
use odradek_metadata::{ApplyError, Image, MetadataBatch, MetadataLog, MetadataLogError, Record};
use odradek_model::{ControllerEpoch, Offset};

/// Bytes that are read at once when committed records are applied: as the quorum sends at once.
const READ_BYTES: usize = 1 << 20;

/// What can fail in the log.
#[derive(Debug, thiserror::Error)]
pub enum QuorumLogError {
    /// The log itself.
    #[error(transparent)]
    Log(#[from] MetadataLogError),
    /// The log could not be cut: its end is unknown.
    #[error("the end of the metadata log could not be cut: {0}")]
    Cut(MetadataLogError),
    /// A record that does not fit the image.
    #[error("a committed record does not fit: {0}")]
    Record(#[from] ApplyError),
    /// Who holds the promise, or what is kept of the voters, cannot be read.
    #[error("the promise file says what this version does not understand: {0}")]
    Promise(String),
}

impl StorageError for QuorumLogError {
    fn is_fatal(&self) -> bool {
        match self {
            Self::Log(error) => error.is_fatal(),
            Self::Cut(_) | Self::Record(_) | Self::Promise(_) => true,
        }
    }
}

/// See the module. Keeps copies of what the port returns by reference.
pub struct QuorumLog {
    log: MetadataLog,
    promise: Promise,
    voter_sets: VoterSets,
}

impl fmt::Debug for QuorumLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QuorumLog").field("position", &self.position()).finish_non_exhaustive()
    }
}

impl QuorumLog {
    /// Around an opened log.
    ///
    /// # Errors
    /// [`QuorumLogError::Promise`]
    pub fn new(log: MetadataLog) -> Result<Self, QuorumLogError> {
        let stored = log.promised();
        let holder = if stored.holder.is_empty() { None } else { Some(stored.holder.parse::<Holder>()) };
        let holder = holder.transpose().map_err(|error| QuorumLogError::Promise(error.to_string()))?;
        let promise = Promise { epoch: stored.epoch, holder };
        let voter_sets =
            VoterSets::decode(&stored.voters).map_err(|error| QuorumLogError::Promise(error.to_string()))?;
        Ok(Self { log, promise, voter_sets })
    }

    /// The image of what is certainly committed: of the snapshot.
    ///
    /// # Errors
    /// [`QuorumLogError::Log`]
    pub fn committed_image(&self) -> Result<Image, QuorumLogError> {
        Ok(self.log.committed_image()?)
    }

    /// Applies the records from the image's end up to `end`, a batch's, to the image.
    ///
    /// # Errors
    /// [`QuorumLogError`], all of them fatal: what is committed cannot be left out.
    pub fn apply(&self, image: &mut Image, end: Offset) -> Result<(), QuorumLogError> {
        while image.end_offset() < end {
            for batch in self.log.read(image.end_offset(), READ_BYTES)? {
                if batch.base_offset >= end {
                    break;
                }
                for record in batch.records()? {
                    image.apply_mut(batch.epoch, &record)?;
                }
            }
        }
        Ok(())
    }

    /// Writes a snapshot of the image, which holds committed records only, if one is due.
    ///
    /// # Errors
    /// [`QuorumLogError::Log`]
    pub fn write_snapshot_if_due(&mut self, image: &Image) -> Result<(), QuorumLogError> {
        if self.log.snapshot_due() { self.write_snapshot(image) } else { Ok(()) }
    }

    /// As [`Self::write_snapshot_if_due`], due or not.
    ///
    /// # Errors
    /// [`QuorumLogError::Log`]
    pub fn write_snapshot(&mut self, image: &Image) -> Result<(), QuorumLogError> {
        Ok(self.log.write_snapshot(image)?)
    }
}

fn position(position: odradek_metadata::LogPosition) -> LogPosition {
    LogPosition { epoch: position.epoch, end: position.end }
}

fn to_log(batch: &LogBatch) -> MetadataBatch {
    let (epoch, base_offset, end_offset) = (batch.epoch, batch.base_offset, batch.end_offset);
    MetadataBatch { epoch, base_offset, end_offset, bytes: batch.bytes.clone() }
}

fn of_log(batch: MetadataBatch) -> LogBatch {
    let MetadataBatch { epoch, base_offset, end_offset, bytes } = batch;
    LogBatch { epoch, base_offset, end_offset, bytes }
}

impl QuorumStorage for QuorumLog {
    type Records = [Record];
    type Error = QuorumLogError;

    fn position(&self) -> LogPosition {
        position(self.log.position())
    }

    fn start(&self) -> LogPosition {
        position(self.log.start())
    }

    fn epoch_end(&self, epoch: ControllerEpoch) -> LogPosition {
        position(self.log.epoch_end(epoch))
    }

    fn promised(&self) -> &Promise {
        &self.promise
    }

    fn promise(&mut self, epoch: ControllerEpoch, holder: &Holder) -> Result<bool, QuorumLogError> {
        let promise = odradek_metadata::Promise { epoch, holder: holder.to_string(), voters: Vec::new() };
        let kept = self.log.promise(promise)?;
        if kept {
            self.promise = Promise { epoch, holder: Some(holder.clone()) };
        }
        Ok(kept)
    }

    fn voter_sets(&self) -> &VoterSets {
        &self.voter_sets
    }

    fn store_voter_sets(&mut self, sets: VoterSets) -> Result<(), QuorumLogError> {
        self.log.store_voters(&sets.encode())?;
        self.voter_sets = sets;
        Ok(())
    }

    fn append(&mut self, epoch: ControllerEpoch, records: &[Record]) -> Result<(), QuorumLogError> {
        self.log.append(epoch, records)?;
        Ok(())
    }

    fn append_epoch_record(
        &mut self,
        epoch: ControllerEpoch,
        holder: &Holder,
        recovered_without: &VoterSet,
    ) -> Result<(), QuorumLogError> {
        let record = ControllerChangeRecord {
            controller_epoch: epoch,
            broker_id: holder.broker_id.0,
            incarnation: holder.incarnation.clone(),
            recovered_without: recovered_without.iter().map(ToString::to_string).collect(),
        };
        self.append(epoch, &[record.into()])
    }

    fn append_batches(&mut self, batches: &[LogBatch]) -> Result<(), QuorumLogError> {
        Ok(self.log.append_batches(&batches.iter().map(to_log).collect::<Vec<_>>())?)
    }

    fn read(&self, from: Offset, max_bytes: usize) -> Result<Vec<LogBatch>, QuorumLogError> {
        Ok(self.log.read(from, max_bytes)?.into_iter().map(of_log).collect())
    }

    fn truncate_to(&mut self, end: Offset) -> Result<(), QuorumLogError> {
        self.log.truncate_to(end).map(|_| ()).map_err(QuorumLogError::Cut)
    }

    fn snapshot_bytes(&self) -> u64 {
        self.log.snapshot_bytes()
    }

    fn read_snapshot(&self, at: u64, max_bytes: usize) -> Result<Bytes, QuorumLogError> {
        Ok(self.log.read_snapshot(at, max_bytes)?)
    }

    fn install_snapshot(&mut self, bytes: &[u8]) -> Result<(), QuorumLogError> {
        self.log.install_snapshot(bytes)?;
        Ok(())
    }
}
