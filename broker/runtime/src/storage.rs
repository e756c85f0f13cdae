// SPDX-License-Identifier: Apache-2.0
//! Opens the data folder: locks the broker's id, checks whose folder it is, formats an empty one, takes its lock, and opens
//! the metadata log. It refuses before it changes anything. All of it blocks.
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use odradek_coordination::{
    BrokerLock, BrokerLockError, DataFolder, DataFolderError, FileLease, Holder, Identity, LeaseError, Voter,
};
use odradek_coordination_kubernetes::BrokerLeaseError;
use odradek_disk::{Disk, DiskError};
use odradek_metadata::{MetadataLog, MetadataLogError};
use odradek_model::{BrokerId, ClusterId, DirectoryId};
use odradek_server::clock::Random;
use uuid::Uuid;

use crate::metadata_node::{QuorumLog, QuorumLogError};
use crate::recovery_order::RecoveryOrderError;

/// Folder of the metadata log in the data folder. No topic's partition has a name without `-<number>`.
pub(crate) const METADATA_FOLDER: &str = "__metadata";
/// File of the controller Lease of a broker that is alone.
pub(crate) const LEASE_FILE: &str = "controller-lease.json";
/// A start needs room for its own files: identity, metadata, Lease, the internal topic.
const LEAST_FREE_BYTES: u64 = 8 << 20;

/// How often, and how long apart, it is tried while another broker makes the Lease that they share. That is two syncs of a
/// small file; ten seconds are enough of those for a thousand brokers that start together.
const LEASE_TRIES: usize = 500;
const LEASE_PAUSE: Duration = Duration::from_millis(20);

/// Why the folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// Whose folder it is, or the disk below.
    #[error(transparent)]
    Folder(#[from] DataFolderError),
    /// The disk.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// Too little room to start.
    #[error("no space: {free} bytes are free for the data folder {}, a start needs {LEAST_FREE_BYTES}", path.display())]
    NoSpace {
        /// The folder.
        path: PathBuf,
        /// What is free.
        free: u64,
    },
    /// The metadata log.
    #[error(transparent)]
    Metadata(#[from] MetadataLogError),
    /// What the metadata log says of its voters.
    #[error("{0}")]
    Quorum(String),
    /// The controller Lease.
    #[error(transparent)]
    Lease(#[from] LeaseError),
    /// The broker's id.
    #[error(transparent)]
    BrokerLock(#[from] BrokerLockError),
    /// The broker's own Lease.
    #[error(transparent)]
    BrokerLease(#[from] BrokerLeaseError),
    /// An order that cannot be read.
    #[error(transparent)]
    Order(#[from] RecoveryOrderError),
}

impl From<QuorumLogError> for StorageError {
    fn from(error: QuorumLogError) -> Self {
        match error {
            QuorumLogError::Log(error) => Self::Metadata(error),
            other => Self::Quorum(other.to_string()),
        }
    }
}

/// A data folder in use.
#[derive(Debug)]
pub(crate) struct Storage {
    pub(crate) folder: DataFolder,
    /// This process.
    pub(crate) incarnation: Uuid,
    _broker_lock: Option<BrokerLock>,
}

/// What the caller knows of the folder.
pub(crate) struct Wanted<'a> {
    pub(crate) path: &'a Path,
    pub(crate) cluster_id: Option<&'a ClusterId>,
    pub(crate) broker_id: BrokerId,
    /// A local Lease, to be formatted with the folder unless it is there.
    pub(crate) lease: Option<&'a FileLease>,
    /// Where the broker's id is locked: the Lease's file, if brokers share one.
    pub(crate) shared_lease_file: Option<&'a Path>,
    /// The pod, if this is one.
    pub(crate) pod_uid: Option<&'a str>,
}

impl Storage {
    /// Opens it; also says whether the last process that used it was in the same pod.
    pub(crate) fn open(
        disk: &Arc<dyn Disk>,
        wanted: &Wanted<'_>,
        random: &dyn Random,
    ) -> Result<(Self, QuorumLog, bool), StorageError> {
        let path = wanted.path;
        let lock = |lease: &Path| BrokerLock::take(disk.as_ref(), lease, wanted.broker_id);
        let broker_lock = wanted.shared_lease_file.map(lock).transpose()?;
        check_space(disk.as_ref(), path)?;
        if DataFolder::identity_at(disk.as_ref(), path)?.is_none() {
            format(disk, wanted, random)?;
        }
        let folder = DataFolder::open(Arc::clone(disk), path, wanted.cluster_id, Some(wanted.broker_id))?;
        let mut storage = Self { folder, incarnation: random.uuid(), _broker_lock: broker_lock };
        let holder = wanted.pod_uid.map_or_else(|| storage.holder().to_string(), str::to_owned);
        let restarted = storage.folder.identity().last_holder.as_ref() == Some(&holder);
        storage.folder.set_last_holder(&holder)?;
        let (log, image, report) = MetadataLog::open(Arc::clone(disk), &path.join(METADATA_FOLDER))?;
        tracing::debug!(?report, end = image.end_offset(), "metadata log opened");
        Ok((storage, QuorumLog::new(log)?, restarted))
    }

    /// This process in the controller Lease.
    pub(crate) fn holder(&self) -> Holder {
        Holder { broker_id: self.folder.identity().broker_id, incarnation: self.incarnation.to_string() }
    }

    /// This folder among the voters.
    pub(crate) fn voter(&self) -> Voter {
        let identity = self.folder.identity();
        Voter { broker_id: identity.broker_id, directory_id: identity.directory_id }
    }
}

fn check_space(disk: &dyn Disk, path: &Path) -> Result<(), StorageError> {
    // The nearest folder that exists: the data folder may have to be made.
    let mut existing = path;
    while !disk.exists(existing)? {
        match existing.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => existing = parent,
            _ => existing = Path::new("."),
        }
    }
    let free = disk.free_bytes(existing)?;
    if free < LEAST_FREE_BYTES {
        return Err(StorageError::NoSpace { path: path.to_owned(), free });
    }
    Ok(())
}

fn format(disk: &Arc<dyn Disk>, wanted: &Wanted<'_>, random: &dyn Random) -> Result<(), StorageError> {
    let cluster_id = match wanted.cluster_id {
        Some(id) => id.clone(),
        None => ClusterId::from_random(random.bytes()),
    };
    let identity = Identity {
        cluster_id: cluster_id.clone(),
        broker_id: wanted.broker_id,
        directory_id: DirectoryId(random.uuid()),
        last_holder: None,
    };
    let uid = random.uuid().to_string();
    DataFolder::format(disk, wanted.path, &identity, |path, again| {
        let metadata = path.join(METADATA_FOLDER);
        // What an earlier attempt left was never used: the folder's identity says so.
        if again && disk.exists(&metadata).map_err(|error| error.to_string())? {
            disk.remove_dir_all(&metadata).map_err(|error| error.to_string())?;
        }
        MetadataLog::format(disk.as_ref(), &metadata).map_err(|error| error.to_string())?;
        let lease = wanted.lease.map_or(Ok(()), |lease| format_lease(lease, &uid, &cluster_id));
        lease.map_err(|error| error.to_string())
    })?;
    tracing::info!(cluster = %cluster_id, broker = %wanted.broker_id, folder = %wanted.path.display(), "formatted");
    Ok(())
}

/// Makes the Lease unless it is there: of an earlier attempt, or of the other brokers that share it.
#[expect(clippy::disallowed_methods, reason = "nothing tells that another process has let go of its lock")]
fn format_lease(lease: &FileLease, uid: &str, cluster_id: &ClusterId) -> Result<(), LeaseError> {
    for _ in 0..LEASE_TRIES {
        match lease.format(uid, cluster_id) {
            Ok(_) | Err(LeaseError::Exists) => return Ok(()),
            Err(LeaseError::Busy) => std::thread::sleep(LEASE_PAUSE),
            Err(error) => return Err(error),
        }
    }
    Err(LeaseError::Busy)
}

#[cfg(test)]
mod tests {
    use super::*;
    use odradek_coordination::ControllerLease as _;
    use odradek_disk::RealDisk;

    #[test]
    fn brokers_that_start_together_wait_for_the_one_that_makes_their_lease() {
        let folder = tempfile::tempdir().unwrap();
        let disk: Arc<dyn Disk> = Arc::new(RealDisk);
        let lease = FileLease::at(Arc::clone(&disk), &folder.path().join("lease"));
        let cluster_id = ClusterId::new("c").unwrap();
        let held = disk.lock(&folder.path().join("lease.lock")).unwrap();
        assert!(matches!(lease.format("first", &cluster_id), Err(LeaseError::Busy)));
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| format_lease(&lease, "second", &cluster_id));
            assert!(lease.read().unwrap().is_none());
            drop(held);
            waiting.join().unwrap().unwrap();
        });
        let made = lease.read().unwrap().unwrap();
        assert_eq!(made.uid, "second");
        format_lease(&lease, "third", &cluster_id).unwrap();
        assert_eq!(lease.read().unwrap(), Some(made));
    }
}
