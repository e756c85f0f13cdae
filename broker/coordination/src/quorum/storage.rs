// SPDX-License-Identifier: Apache-2.0
//! The port to what a member keeps on disk: its promise, the voter sets it knows, and its copy of the metadata log.
//!
//! Every call that changes something returns only once that is fsynced. A failed fsync is fatal and never retried
//! (rule 9); [`StorageError::is_fatal`] says so. Must not know what records mean.

use std::fmt::Display;

use bytes::Bytes;
use odradek_model::{ControllerEpoch, Offset};

use super::VoterSet;
use crate::{Holder, LeaseView};

/// How far a log reaches: compared first by epoch, then by end (rules 2 and 3).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct LogPosition {
    /// The epoch of the last record, 0 for an empty log.
    pub epoch: ControllerEpoch,
    /// The offset after the last record.
    pub end: Offset,
}

/// The highest epoch promised and to whom; epoch 0 and nobody before the first.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Promise {
    /// The epoch.
    pub epoch: ControllerEpoch,
    /// The one whom this broker follows in that epoch.
    pub holder: Option<Holder>,
}

/// When a view of the Lease was made: which life of the Lease, and which of its writes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LeaseStamp {
    /// The life.
    pub uid: String,
    /// The controller epoch.
    pub epoch: ControllerEpoch,
    /// The write.
    pub sequence: i64,
}

impl LeaseStamp {
    /// The stamp of a view.
    pub fn of(view: &LeaseView) -> Self {
        Self { uid: view.uid.clone(), epoch: view.epoch, sequence: view.sequence }
    }

    /// The order in which views were made; it holds across lives too, because a Lease is re-created with a higher
    /// epoch only (rule 10).
    pub fn order(&self) -> (ControllerEpoch, i64) {
        (self.epoch, self.sequence)
    }
}

/// A voter set and the view of the Lease that named it, or, while pending, on which the change is based.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StoredVoterSet {
    /// See the type.
    pub stamp: LeaseStamp,
    /// The voters.
    pub voters: VoterSet,
}

/// What a broker knows of the voters, fsynced (what rule 10 asks for).
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct VoterSets {
    /// The newest set seen in the Lease; `None` before the first.
    pub newest: Option<StoredVoterSet>,
    /// Sets sent by this broker as controller whose outcome it does not know. At most one: one change at a time, and
    /// every later take settles it.
    pub pending: Vec<StoredVoterSet>,
}

/// What one append wrote, as it travels between brokers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LogBatch {
    /// The epoch of the controller that appended it.
    pub epoch: ControllerEpoch,
    /// The offset of its first record.
    pub base_offset: Offset,
    /// The offset after its last record.
    pub end_offset: Offset,
    /// The storage's own encoding, opaque here, which proves itself (a checksum): storage refuses bytes that are
    /// damaged or do not agree with the other fields.
    pub bytes: Bytes,
}

/// What can fail in storage.
pub trait StorageError: Display {
    /// Whether what is on disk is no longer known, so that the process must stop. Otherwise nothing was changed.
    fn is_fatal(&self) -> bool;
}

/// What a member keeps on disk; see the module.
pub trait QuorumStorage {
    /// What a controller appends; opaque to the quorum.
    type Records: ?Sized;
    /// What can fail.
    type Error: StorageError;

    /// The end of the log. All of it is fsynced.
    fn position(&self) -> LogPosition;

    /// Where the log begins: the position of the snapshot below it, which holds committed records only.
    fn start(&self) -> LogPosition;

    /// Where the epoch, or the highest one below it that the log has, ends: that epoch, and the offset after its last
    /// record. The default if the log has none so low.
    fn epoch_end(&self, epoch: ControllerEpoch) -> LogPosition;

    /// The promise kept.
    fn promised(&self) -> &Promise;

    /// Promises the epoch to the holder; `Ok(false)` if a higher epoch, or this one to another, is promised.
    ///
    /// # Errors
    /// Its own.
    fn promise(&mut self, epoch: ControllerEpoch, holder: &Holder) -> Result<bool, Self::Error>;

    /// The voter sets kept.
    fn voter_sets(&self) -> &VoterSets;

    /// Puts other voter sets in place.
    ///
    /// # Errors
    /// Its own.
    fn store_voter_sets(&mut self, sets: VoterSets) -> Result<(), Self::Error>;

    /// Appends records as one batch of the promised epoch.
    ///
    /// # Errors
    /// Its own.
    fn append(&mut self, epoch: ControllerEpoch, records: &Self::Records) -> Result<(), Self::Error>;

    /// Appends the record by which a controller begins its epoch (rule 4). `recovered_without` are the voters that an
    /// administrator declared gone, if it begins without them: the record says so, and what that asks of the metadata
    /// (rule 10) is committed with it or not at all.
    ///
    /// # Errors
    /// Its own.
    fn append_epoch_record(
        &mut self,
        epoch: ControllerEpoch,
        holder: &Holder,
        recovered_without: &VoterSet,
    ) -> Result<(), Self::Error>;

    /// Appends batches of another broker, which follow this log without a gap. One write and one fsync, so its bytes
    /// are bounded by [`super::QuorumSettings::max_answer_bytes`] or one batch.
    ///
    /// # Errors
    /// Its own; bytes that are malformed change nothing and are not fatal.
    fn append_batches(&mut self, batches: &[LogBatch]) -> Result<(), Self::Error>;

    /// The batches from the offset on (a batch boundary not below [`Self::start`]), at least one if there is one, then
    /// as many as fit.
    ///
    /// # Errors
    /// Its own.
    fn read(&self, from: Offset, max_bytes: usize) -> Result<Vec<LogBatch>, Self::Error>;

    /// Cuts the log to the batch boundary at or below the offset.
    ///
    /// # Errors
    /// Its own.
    fn truncate_to(&mut self, end: Offset) -> Result<(), Self::Error>;

    /// Bytes of the snapshot at [`Self::start`], 0 without one.
    fn snapshot_bytes(&self) -> u64;

    /// A part of the snapshot.
    ///
    /// # Errors
    /// Its own.
    fn read_snapshot(&self, at: u64, max_bytes: usize) -> Result<Bytes, Self::Error>;

    /// Puts another broker's whole snapshot in place of the log, in one step.
    ///
    /// # Errors
    /// Its own; bytes that are malformed change nothing and are not fatal.
    fn install_snapshot(&mut self, bytes: &[u8]) -> Result<(), Self::Error>;
}
