// SPDX-License-Identifier: Apache-2.0
//! The controller Lease as a port: read it, change it by compare-and-set. Must not know when to take it.

mod file;
mod in_process;

use std::cmp::Ordering;
use std::fmt::Debug;

pub use file::FileLease;
pub use in_process::InProcessLease;
use odradek_disk::DiskError;
use odradek_model::{ClusterId, ControllerEpoch};
use thiserror::Error;

use crate::{Holder, Voter};

/// The Lease as it was at one moment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LeaseView {
    /// Identity of one life of the Lease: one that was deleted and created again has another.
    pub uid: String,
    /// `leaseTransitions`: +1 on every take.
    pub epoch: ControllerEpoch,
    /// +1 on every write.
    pub sequence: i64,
    /// `None` if never held or released.
    pub holder: Option<Holder>,
    /// The voters of the metadata log; empty before the first controller.
    pub voters: Vec<Voter>,
    /// The cluster.
    pub cluster_id: ClusterId,
    /// What compare-and-set compares (`resourceVersion` in Kubernetes); opaque, never ordered.
    pub version: String,
}

/// How one view stands to another.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ViewOrder {
    /// It was seen before the other.
    Older,
    /// The same state. After a write without answer this decides nothing: it may still land (rule 7).
    Same,
    /// It was seen after the other.
    Newer,
    /// Another life of the Lease: rule 10.
    OtherLease,
}

impl LeaseView {
    /// How this view stands to `other`: by uid, epoch, sequence, never by version.
    pub fn order(&self, other: &Self) -> ViewOrder {
        if self.uid != other.uid {
            return ViewOrder::OtherLease;
        }
        match (self.epoch, self.sequence).cmp(&(other.epoch, other.sequence)) {
            Ordering::Less => ViewOrder::Older,
            Ordering::Equal => ViewOrder::Same,
            Ordering::Greater => ViewOrder::Newer,
        }
    }
}

/// What a write makes of the Lease; the sequence rises by itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LeaseChange {
    /// The new epoch, that of the view or above.
    pub epoch: ControllerEpoch,
    /// The new holder; `None` releases.
    pub holder: Option<Holder>,
    /// The new voters.
    pub voters: Vec<Voter>,
}

/// What became of a write.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum WriteOutcome {
    /// It was made; this is the Lease now.
    Written(LeaseView),
    /// It was not made and never will be: the Lease had changed since the view.
    Refused,
    /// No answer, or an unclear one: it may have been made, or may be later (rule 7).
    Unknown(String),
}

/// Why the Lease could not be used. A write that fails with this was not made.
#[derive(Debug, Error)]
pub enum LeaseError {
    /// The store could not be reached or failed.
    #[error("the controller Lease is out of reach: {0}")]
    Unavailable(String),
    /// Another process is changing it this moment; try again.
    #[error("the controller Lease is being changed by another process")]
    Busy,
    /// The object is not one of ours.
    #[error("the controller Lease is malformed: {0}")]
    Malformed(String),
    /// There is one already.
    #[error("there is a controller Lease already")]
    Exists,
    /// The disk below a local Lease.
    #[error(transparent)]
    Disk(#[from] DiskError),
}

/// The Lease `<cluster>-controller`.
pub trait ControllerLease: Send + Sync + Debug {
    /// The present Lease; `None` if there is none, which is rule 10, never a bootstrap.
    ///
    /// # Errors
    /// [`LeaseError`]
    fn read(&self) -> Result<Option<LeaseView>, LeaseError>;

    /// Makes the change if the Lease is still that of the view.
    ///
    /// # Errors
    /// [`LeaseError`], if the write was certainly not made.
    ///
    /// # Panics
    /// If the change's epoch is below the view's.
    fn compare_and_set(&self, view: &LeaseView, change: &LeaseChange) -> Result<WriteOutcome, LeaseError>;

    /// Makes a new Lease, with sequence 0, if there is none (rule 10). `uid` is random text, another for each.
    ///
    /// # Errors
    /// [`LeaseError`], if the write was certainly not made.
    fn create(&self, uid: &str, cluster_id: &ClusterId, change: &LeaseChange) -> Result<WriteOutcome, LeaseError>;
}

/// The view after the change, for the local implementations.
fn changed(view: &LeaseView, change: &LeaseChange) -> LeaseView {
    assert!(change.epoch >= view.epoch, "epoch {} after {}", change.epoch, view.epoch);
    let sequence = view.sequence + 1;
    LeaseView {
        uid: view.uid.clone(),
        epoch: change.epoch,
        sequence,
        holder: change.holder.clone(),
        voters: change.voters.clone(),
        cluster_id: view.cluster_id.clone(),
        version: sequence.to_string(),
    }
}

/// The first view of a new Lease: epoch 0, no holder, no voters.
fn created(uid: &str, cluster_id: &ClusterId) -> LeaseView {
    LeaseView {
        uid: uid.to_owned(),
        epoch: 0,
        sequence: 0,
        holder: None,
        voters: Vec::new(),
        cluster_id: cluster_id.clone(),
        version: "0".to_owned(),
    }
}

#[cfg(test)]
mod tests;
