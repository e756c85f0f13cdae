// SPDX-License-Identifier: Apache-2.0
//! Opens the data folder: checks whose it is, formats an empty one, takes its lock and its controller Lease, and
//! replays the metadata. It refuses before it changes anything. All of it blocks.
use std::path::{Path, PathBuf};
use std::sync::Arc;

use odradek_coordination::{
    DataFolder, DataFolderError, FileLease, Holder, Identity, LeaseError, LeaseView, TakeError, VoterLog, release,
    take_and_lead,
};
use odradek_disk::{Disk, DiskError};
use odradek_metadata::{Controller, ControllerError, ControllerSettings, MetadataLog, MetadataLogError};
use odradek_model::{BrokerId, ClusterId, ControllerEpoch, DirectoryId};
use odradek_server::clock::Random;
use uuid::Uuid;

/// Folder of the metadata log in the data folder. No topic's partition has a name without `-<number>`.
const METADATA_FOLDER: &str = "__metadata";
/// File of the controller Lease while coordination is local.
const LEASE_FILE: &str = "controller-lease.json";
/// A start needs room for its own files: identity, metadata, Lease, the internal topic.
const LEAST_FREE_BYTES: u64 = 8 << 20;

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
    /// The Lease, or another process that leads.
    #[error("{0}")]
    Lease(String),
}

/// A data folder in use.
#[derive(Debug)]
pub(crate) struct Storage {
    pub(crate) folder: DataFolder,
    lease: FileLease,
    held: LeaseView,
    /// This process.
    pub(crate) incarnation: Uuid,
}

/// What the caller knows of the folder.
pub(crate) struct Wanted<'a> {
    pub(crate) path: &'a Path,
    pub(crate) cluster_id: Option<&'a ClusterId>,
    pub(crate) broker_id: BrokerId,
}

impl Storage {
    pub(crate) fn open(
        disk: &Arc<dyn Disk>,
        wanted: &Wanted<'_>,
        settings: ControllerSettings,
        random: &dyn Random,
    ) -> Result<(Self, Controller), StorageError> {
        let path = wanted.path;
        check_space(disk.as_ref(), path)?;
        if DataFolder::identity_at(disk.as_ref(), path)?.is_none() {
            format(disk, wanted, random)?;
        }
        let mut folder = DataFolder::open(Arc::clone(disk), path, wanted.cluster_id, Some(wanted.broker_id))?;
        let incarnation = random.uuid();
        let holder = Holder { broker_id: wanted.broker_id, incarnation: incarnation.to_string() };
        folder.set_last_holder(&holder.to_string())?;
        let (controller, report) = Controller::open(Arc::clone(disk), &path.join(METADATA_FOLDER), settings)?;
        tracing::debug!(?report, "metadata log opened");
        let lease = FileLease::at(Arc::clone(disk), &path.join(LEASE_FILE));
        let mut voter = SoleVoter { controller, cluster_id: folder.identity().cluster_id.clone() };
        let held = take_and_lead(&lease, &holder, folder.identity().directory_id, &mut voter)
            .map_err(|error: TakeError<ControllerError>| StorageError::Lease(error.to_string()))?;
        Ok((Self { folder, lease, held, incarnation }, voter.controller))
    }

    /// Gives the Lease back at a clean stop.
    pub(crate) fn release(&self) -> Result<(), LeaseError> {
        release(&self.lease, &self.held)
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
        match FileLease::at(Arc::clone(disk), &path.join(LEASE_FILE)).create(&uid, &cluster_id) {
            Ok(_) => Ok(()),
            Err(LeaseError::Exists) if again => Ok(()),
            Err(error) => Err(error.to_string()),
        }
    })?;
    tracing::info!(cluster = %cluster_id, broker = %wanted.broker_id, folder = %wanted.path.display(), "formatted");
    Ok(())
}

/// The metadata log as the election of a sole voter sees it.
struct SoleVoter {
    controller: Controller,
    cluster_id: ClusterId,
}

impl VoterLog for SoleVoter {
    type Error = ControllerError;

    fn is_empty(&self) -> bool {
        self.controller.position().end == 0
    }

    fn promised_epoch(&self) -> ControllerEpoch {
        self.controller.promised().epoch
    }

    fn promise(&mut self, epoch: ControllerEpoch, holder: &Holder) -> Result<bool, ControllerError> {
        Ok(self.controller.promise(epoch, &holder.to_string())?)
    }

    fn lead(&mut self, epoch: ControllerEpoch, holder: &Holder) -> Result<(), ControllerError> {
        self.controller.lead(epoch, holder.broker_id, &holder.incarnation, &self.cluster_id)
    }
}
