// SPDX-License-Identifier: Apache-2.0
//! How a cluster's only voter becomes its controller: take the Lease, promise, append the epoch record.
//!
//! Coordination rules 1, 2 and 4 for one voter, where the promise quorum is the candidate alone and its own fsync
//! commits. Rule 10 (a Lease that is missing, replaced or older than the log) is recognised and refused, not cured.

use odradek_model::{ControllerEpoch, DirectoryId};
use thiserror::Error;

use crate::{ControllerLease, Holder, LeaseChange, LeaseError, LeaseView, Voter, WriteOutcome};

/// Writes of the Lease that are tried before giving up. Only another writer or a lost answer costs one; a cluster of
/// one voter has neither for long.
const MAX_ATTEMPTS: usize = 3;

/// The metadata log as the election sees it.
pub trait VoterLog {
    /// What can fail below.
    type Error;

    /// Whether the log has no records.
    fn is_empty(&self) -> bool;

    /// The highest epoch promised, 0 before the first.
    fn promised_epoch(&self) -> ControllerEpoch;

    /// Promises the epoch to the holder, durably; `Ok(false)` if something higher, or the same to another, is promised.
    ///
    /// # Errors
    /// Its own.
    fn promise(&mut self, epoch: ControllerEpoch, holder: &Holder) -> Result<bool, Self::Error>;

    /// Appends and commits the epoch record: from here on it leads.
    ///
    /// # Errors
    /// Its own.
    fn lead(&mut self, epoch: ControllerEpoch, holder: &Holder) -> Result<(), Self::Error>;
}

/// Why this broker does not lead.
#[derive(Debug, Error)]
pub enum TakeError<E> {
    /// The Lease could not be used.
    #[error(transparent)]
    Lease(#[from] LeaseError),
    /// There is no Lease (rule 10).
    #[error("there is no controller Lease; it is made by the format step, not by a start")]
    NoLease,
    /// The log is ahead of the Lease (rule 10): it was replaced or rolled back.
    #[error("the controller Lease is older than the metadata log: epoch {lease} against {promised} promised")]
    LeaseOlderThanLog {
        /// The Lease's epoch.
        lease: ControllerEpoch,
        /// The log's.
        promised: ControllerEpoch,
    },
    /// The Lease names voters and this folder is none of them.
    #[error("this folder is no voter of the metadata log: the voters are {}", list(.0))]
    NotAVoter(Vec<Voter>),
    /// More than one voter.
    #[error("the metadata log has {0} voters; only one is supported so far")]
    SeveralVoters(usize),
    /// Others were faster, or no answer came.
    #[error("the controller Lease could not be taken: {0}")]
    NotTaken(String),
    /// The log.
    #[error("{0}")]
    Log(E),
}

fn list(voters: &[Voter]) -> String {
    voters.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// Takes the Lease for `me` and begins to lead; returns the Lease as taken, for renewals and the release.
///
/// # Errors
/// [`TakeError`]; whatever was written of the Lease stays, the next attempt takes it again with a higher epoch.
pub fn take_and_lead<L: VoterLog>(
    lease: &dyn ControllerLease,
    me: &Holder,
    directory_id: DirectoryId,
    log: &mut L,
) -> Result<LeaseView, TakeError<L::Error>> {
    let voter = Voter { broker_id: me.broker_id, directory_id };
    let mut reason = String::new();
    for _ in 0..MAX_ATTEMPTS {
        let view = lease.read()?.ok_or(TakeError::NoLease)?;
        check_view(&view, voter, log)?;
        let change = LeaseChange { epoch: view.epoch + 1, holder: Some(me.clone()), voters: vec![voter] };
        match lease.compare_and_set(&view, &change) {
            Ok(WriteOutcome::Written(taken)) => {
                let epoch = taken.epoch;
                if !log.promise(epoch, me).map_err(TakeError::Log)? {
                    return Err(TakeError::LeaseOlderThanLog { lease: epoch, promised: log.promised_epoch() });
                }
                log.lead(epoch, me).map_err(TakeError::Log)?;
                return Ok(taken);
            }
            Ok(WriteOutcome::Refused) => "another process changed it".clone_into(&mut reason),
            // Whether it landed is settled by the next compare-and-set (rule 7), which takes again (rule 1f).
            Ok(WriteOutcome::Unknown(why)) => reason = why,
            Err(LeaseError::Busy) => reason = LeaseError::Busy.to_string(),
            Err(error) => return Err(error.into()),
        }
    }
    Err(TakeError::NotTaken(reason))
}

fn check_view<L: VoterLog>(view: &LeaseView, me: Voter, log: &L) -> Result<(), TakeError<L::Error>> {
    if log.promised_epoch() > view.epoch || (view.voters.is_empty() && !log.is_empty()) {
        return Err(TakeError::LeaseOlderThanLog { lease: view.epoch, promised: log.promised_epoch() });
    }
    match view.voters.as_slice() {
        [] => Ok(()),
        voters if !voters.contains(&me) => Err(TakeError::NotAVoter(voters.to_vec())),
        [_] => Ok(()),
        voters => Err(TakeError::SeveralVoters(voters.len())),
    }
}

/// Gives the Lease back at a clean stop, so that it can be taken at once. A Lease that changed meanwhile is left alone.
///
/// # Errors
/// [`LeaseError`]
pub fn release(lease: &dyn ControllerLease, held: &LeaseView) -> Result<(), LeaseError> {
    let change = LeaseChange { epoch: held.epoch, holder: None, voters: held.voters.clone() };
    lease.compare_and_set(held, &change).map(|_| ())
}

#[cfg(test)]
mod tests;
