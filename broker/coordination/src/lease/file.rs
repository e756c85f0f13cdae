// SPDX-License-Identifier: Apache-2.0
//! The Lease of brokers that share a machine: a JSON file, replaced in one step while its lock file is held.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use odradek_disk::{Disk, DiskErrorKind, DiskLock, DiskOperation, read_small_file, write_file_durably};
use odradek_model::ClusterId;
use serde::{Deserialize, Serialize};

use super::{ControllerLease, LeaseChange, LeaseError, LeaseView, WriteOutcome, changed, created};

/// Longest file: five voters of 40 bytes, a holder of 80, and the names: 64 KiB is far above.
const MAX_BYTES: usize = 64 << 10;

/// A Lease in a file.
#[derive(Debug)]
pub struct FileLease {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    /// The brokers of one process share one of these and wait for each other; the file's lock is for those of others.
    writing: Mutex<()>,
}

/// While it is held nobody else writes.
struct Writing<'a> {
    _file: Box<dyn DiskLock>,
    _process: MutexGuard<'a, ()>,
}

/// The names are those of the Kubernetes Lease.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Stored {
    uid: String,
    cluster_id: String,
    lease_transitions: i64,
    sequence: i64,
    holder_identity: Option<String>,
    voters: Vec<String>,
}

impl FileLease {
    /// The Lease in the file, which need not be there yet.
    pub fn at(disk: Arc<dyn Disk>, path: &Path) -> Self {
        Self { disk, path: path.to_owned(), writing: Mutex::default() }
    }

    /// Makes the first Lease, durably. Part of the explicit format step, never of a start (rule 10).
    ///
    /// # Errors
    /// [`LeaseError::Exists`]; [`LeaseError::Busy`]; disk errors.
    pub fn format(&self, uid: &str, cluster_id: &ClusterId) -> Result<LeaseView, LeaseError> {
        let _lock = self.lock()?;
        if self.read()?.is_some() {
            return Err(LeaseError::Exists);
        }
        let view = created(uid, cluster_id);
        write_file_durably(self.disk.as_ref(), &self.path, &encode(&view))?;
        Ok(view)
    }

    fn lock(&self) -> Result<Writing<'_>, LeaseError> {
        let process = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut path = self.path.as_os_str().to_owned();
        path.push(".lock");
        match self.disk.lock(Path::new(&path)) {
            Ok(file) => Ok(Writing { _file: file, _process: process }),
            Err(error) if error.kind == DiskErrorKind::Locked => Err(LeaseError::Busy),
            Err(error) => Err(error.into()),
        }
    }

    fn write(&self, next: LeaseView) -> Result<WriteOutcome, LeaseError> {
        match write_file_durably(self.disk.as_ref(), &self.path, &encode(&next)) {
            Ok(()) => Ok(WriteOutcome::Written(next)),
            // After these the new file may or may not be the one that is found after a crash.
            Err(error) if matches!(error.operation, DiskOperation::Rename | DiskOperation::SyncDir) => {
                Ok(WriteOutcome::Unknown(error.to_string()))
            }
            Err(error) => Err(error.into()),
        }
    }
}

impl ControllerLease for FileLease {
    fn read(&self) -> Result<Option<LeaseView>, LeaseError> {
        let bytes = match read_small_file(self.disk.as_ref(), &self.path, MAX_BYTES) {
            Ok(bytes) => bytes,
            Err(error) if error.kind == DiskErrorKind::TooLarge => {
                return Err(LeaseError::Malformed(error.to_string()));
            }
            Err(error) => return Err(error.into()),
        };
        bytes.map(|bytes| decode(&bytes)).transpose()
    }

    fn compare_and_set(&self, view: &LeaseView, change: &LeaseChange) -> Result<WriteOutcome, LeaseError> {
        let _lock = self.lock()?;
        match self.read()? {
            Some(present) if (&present.uid, &present.version) == (&view.uid, &view.version) => {}
            _ => return Ok(WriteOutcome::Refused),
        }
        self.write(changed(view, change))
    }

    fn create(&self, uid: &str, cluster_id: &ClusterId, change: &LeaseChange) -> Result<WriteOutcome, LeaseError> {
        let _lock = self.lock()?;
        if self.read()?.is_some() {
            return Ok(WriteOutcome::Refused);
        }
        let LeaseChange { epoch, holder, voters } = change.clone();
        self.write(LeaseView { epoch, holder, voters, ..created(uid, cluster_id) })
    }
}

fn encode(view: &LeaseView) -> Vec<u8> {
    let stored = Stored {
        uid: view.uid.clone(),
        cluster_id: view.cluster_id.as_str().to_owned(),
        lease_transitions: view.epoch,
        sequence: view.sequence,
        holder_identity: view.holder.as_ref().map(ToString::to_string),
        voters: view.voters.iter().map(ToString::to_string).collect(),
    };
    serde_json::to_vec_pretty(&stored).expect("texts and numbers have a JSON form")
}

fn decode(bytes: &[u8]) -> Result<LeaseView, LeaseError> {
    let malformed = |reason: &dyn ToString| LeaseError::Malformed(reason.to_string());
    let stored: Stored = serde_json::from_slice(bytes).map_err(|error| malformed(&error))?;
    if stored.lease_transitions < 0 || stored.sequence < 0 {
        return Err(LeaseError::Malformed("a negative count".to_owned()));
    }
    let holder = stored.holder_identity.map(|holder| holder.parse()).transpose().map_err(|error| malformed(&error))?;
    let voters: Result<Vec<_>, _> = stored.voters.iter().map(|voter| voter.parse()).collect();
    Ok(LeaseView {
        uid: stored.uid,
        epoch: stored.lease_transitions,
        sequence: stored.sequence,
        holder,
        voters: voters.map_err(|error| malformed(&error))?,
        cluster_id: ClusterId::new(&stored.cluster_id).map_err(|error| malformed(&error))?,
        version: stored.sequence.to_string(),
    })
}
