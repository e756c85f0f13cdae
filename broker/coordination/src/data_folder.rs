// SPDX-License-Identifier: Apache-2.0
//! Whose folder it is: `odradek-meta.json`, the lock while in use, and the format step.
//!
//! Opening never writes into a folder that is not certainly ours. Formatting writes the identity first as unfinished,
//! lets the caller prepare the rest, and finishes it last: a crash in between is recognised and done again. Must not
//! know what else lies in the folder.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use odradek_disk::{Disk, DiskError, DiskErrorKind, DiskLock, read_small_file, write_file_durably};
use odradek_model::{BrokerId, ClusterId, DirectoryId};
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The file with the identity.
pub const IDENTITY_FILE: &str = "odradek-meta.json";
/// The lock file; Kafka's name for it.
const LOCK_FILE: &str = ".lock";
/// The format this version reads and writes.
pub const FORMAT_VERSION: u32 = 1;
/// Longest identity file: a few short texts.
const MAX_BYTES: usize = 64 << 10;

/// Who a folder belongs to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Identity {
    /// The cluster.
    pub cluster_id: ClusterId,
    /// The broker.
    pub broker_id: BrokerId,
    /// This life of the folder.
    pub directory_id: DirectoryId,
    /// Who used it last: the pod's uid, or whatever the caller gave.
    pub last_holder: Option<String>,
}

/// Why a folder is not used. Nothing in it was changed.
#[derive(Debug, Error)]
pub enum DataFolderError {
    /// Another process has it.
    #[error("the data folder {} is in use by another process", .0.display())]
    InUse(PathBuf),
    /// Of another cluster.
    #[error("the data folder {} belongs to cluster {found}, not to {expected}", path.display())]
    OtherCluster {
        /// The folder.
        path: PathBuf,
        /// Whose it is.
        found: ClusterId,
        /// Who asked.
        expected: ClusterId,
    },
    /// Of another broker.
    #[error("the data folder {} belongs to broker {found}, not to broker {expected}", path.display())]
    OtherBroker {
        /// The folder.
        path: PathBuf,
        /// Whose it is.
        found: BrokerId,
        /// Who asked.
        expected: BrokerId,
    },
    /// Written by a newer version.
    #[error(
        "the data folder {} has format version {found}, this version reads up to {FORMAT_VERSION}: use a newer version",
        path.display()
    )]
    NewerFormat {
        /// The folder.
        path: PathBuf,
        /// Its version.
        found: u64,
    },
    /// The identity file is damaged.
    #[error("{IDENTITY_FILE} in the data folder {} is unreadable: {reason}", path.display())]
    Unreadable {
        /// The folder.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// Files, but no identity: not a folder of ours, or its identity was removed.
    #[error("the data folder {} has no {IDENTITY_FILE} but holds {found:?}: it is not a folder of Odradek", path.display())]
    Foreign {
        /// The folder.
        path: PathBuf,
        /// One of the names in it.
        found: String,
    },
    /// Empty, missing, or an unfinished format.
    #[error("the data folder {} is not formatted", .0.display())]
    NotFormatted(PathBuf),
    /// To be formatted, but it is already.
    #[error("the data folder {} is formatted already, for broker {} of cluster {}", path.display(), identity.broker_id, identity.cluster_id)]
    Formatted {
        /// The folder.
        path: PathBuf,
        /// Whose it is.
        identity: Box<Identity>,
    },
    /// Preparing the rest failed; the format can be done again.
    #[error("the data folder {} could not be prepared: {reason}", path.display())]
    Prepare {
        /// The folder.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The disk.
    #[error(transparent)]
    Disk(#[from] DiskError),
}

/// A folder in use: ours, and locked until this is dropped.
#[derive(Debug)]
pub struct DataFolder {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    identity: Identity,
    /// Fields of later versions, written back as they are.
    other: BTreeMap<String, serde_json::Value>,
    _lock: Box<dyn DiskLock>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Stored {
    format_version: u32,
    cluster_id: String,
    broker_id: i32,
    directory_id: String,
    /// Whether the format step ended.
    complete: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    last_holder: Option<String>,
    #[serde(flatten)]
    other: BTreeMap<String, serde_json::Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct VersionOnly {
    format_version: u64,
}

struct Found {
    identity: Identity,
    complete: bool,
    other: BTreeMap<String, serde_json::Value>,
}

impl DataFolder {
    /// Makes a missing or empty folder (or one whose format was cut short) the broker's, durably. `prepare` makes what
    /// else must be there before the broker's first start; it is told whether an earlier attempt may have left some.
    ///
    /// # Errors
    /// [`DataFolderError`]
    pub fn format(
        disk: &Arc<dyn Disk>,
        path: &Path,
        identity: &Identity,
        prepare: impl FnOnce(&Path, bool) -> Result<(), String>,
    ) -> Result<(), DataFolderError> {
        let mut again = false;
        match find(disk.as_ref(), path) {
            Ok(Found { complete: false, .. }) => again = true,
            Ok(found) => {
                return Err(DataFolderError::Formatted { path: path.to_owned(), identity: Box::new(found.identity) });
            }
            Err(DataFolderError::NotFormatted(_)) => {}
            Err(error) => return Err(error),
        }
        disk.create_dir_all(path)?;
        let _lock = lock(disk.as_ref(), path)?;
        write(disk.as_ref(), path, identity, false, BTreeMap::new())?;
        if let Some(parent) = path.parent() {
            disk.sync_dir(parent)?;
        }
        prepare(path, again).map_err(|reason| DataFolderError::Prepare { path: path.to_owned(), reason })?;
        write(disk.as_ref(), path, identity, true, BTreeMap::new())
    }

    /// Whose folder it is, without locking it; `None` if it is missing, empty or not completely formatted.
    ///
    /// # Errors
    /// [`DataFolderError`]
    pub fn identity_at(disk: &dyn Disk, path: &Path) -> Result<Option<Identity>, DataFolderError> {
        match find(disk, path) {
            Ok(found) => Ok(found.complete.then_some(found.identity)),
            Err(DataFolderError::NotFormatted(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Opens and locks a formatted folder, if it belongs to the cluster and broker (where given).
    ///
    /// # Errors
    /// [`DataFolderError`]
    pub fn open(
        disk: Arc<dyn Disk>,
        path: &Path,
        cluster_id: Option<&ClusterId>,
        broker_id: Option<BrokerId>,
    ) -> Result<Self, DataFolderError> {
        let check = |found: &Found| {
            if let Some(expected) = cluster_id
                && *expected != found.identity.cluster_id
            {
                let (found, expected) = (found.identity.cluster_id.clone(), expected.clone());
                return Err(DataFolderError::OtherCluster { path: path.to_owned(), found, expected });
            }
            if let Some(expected) = broker_id
                && expected != found.identity.broker_id
            {
                let found = found.identity.broker_id;
                return Err(DataFolderError::OtherBroker { path: path.to_owned(), found, expected });
            }
            if found.complete { Ok(()) } else { Err(DataFolderError::NotFormatted(path.to_owned())) }
        };
        check(&find(disk.as_ref(), path)?)?;
        let lock = lock(disk.as_ref(), path)?;
        // Now that nobody else can change it, what counts.
        let found = find(disk.as_ref(), path)?;
        check(&found)?;
        Ok(Self { disk, path: path.to_owned(), identity: found.identity, other: found.other, _lock: lock })
    }

    /// Whose folder it is.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Records who uses it now, durably.
    ///
    /// # Errors
    /// Disk errors.
    pub fn set_last_holder(&mut self, holder: &str) -> Result<(), DataFolderError> {
        let identity = Identity { last_holder: Some(holder.to_owned()), ..self.identity.clone() };
        write(self.disk.as_ref(), &self.path, &identity, true, self.other.clone())?;
        self.identity = identity;
        Ok(())
    }
}

fn lock(disk: &dyn Disk, path: &Path) -> Result<Box<dyn DiskLock>, DataFolderError> {
    disk.lock(&path.join(LOCK_FILE)).map_err(|error| match error.kind {
        DiskErrorKind::Locked => DataFolderError::InUse(path.to_owned()),
        _ => error.into(),
    })
}

/// Reads the identity; touches nothing.
fn find(disk: &dyn Disk, path: &Path) -> Result<Found, DataFolderError> {
    let file = path.join(IDENTITY_FILE);
    let unreadable = |reason: String| DataFolderError::Unreadable { path: path.to_owned(), reason };
    let bytes = match read_small_file(disk, &file, MAX_BYTES) {
        Ok(Some(bytes)) => bytes,
        Ok(None) => return Err(without_identity(disk, path)?),
        Err(error) if error.kind == DiskErrorKind::TooLarge => return Err(unreadable(error.to_string())),
        Err(error) => return Err(error.into()),
    };
    let version: VersionOnly = serde_json::from_slice(&bytes).map_err(|error| unreadable(error.to_string()))?;
    if version.format_version > u64::from(FORMAT_VERSION) {
        return Err(DataFolderError::NewerFormat { path: path.to_owned(), found: version.format_version });
    }
    let stored: Stored = serde_json::from_slice(&bytes).map_err(|error| unreadable(error.to_string()))?;
    let identity = Identity {
        cluster_id: ClusterId::new(&stored.cluster_id).map_err(|error| unreadable(error.to_string()))?,
        broker_id: BrokerId(stored.broker_id),
        directory_id: stored.directory_id.parse().map_err(|()| unreadable("the directory id is none".to_owned()))?,
        last_holder: stored.last_holder,
    };
    if identity.broker_id.0 < 0 {
        return Err(unreadable(format!("the broker id is {}", identity.broker_id)));
    }
    Ok(Found { identity, complete: stored.complete, other: stored.other })
}

/// What a folder without identity is. A fresh file system has `lost+found`; a format cut short may have left the lock
/// and the temporary file of its first write.
fn without_identity(disk: &dyn Disk, path: &Path) -> Result<DataFolderError, DiskError> {
    if !disk.exists(path)? {
        return Ok(DataFolderError::NotFormatted(path.to_owned()));
    }
    let temporary = format!("{IDENTITY_FILE}.tmp");
    let ours = |name: &str| name == LOCK_FILE || name == "lost+found" || name == temporary;
    let entries = disk.list(path)?;
    Ok(match entries.into_iter().find(|entry| !ours(&entry.name)) {
        Some(entry) => DataFolderError::Foreign { path: path.to_owned(), found: entry.name },
        None => DataFolderError::NotFormatted(path.to_owned()),
    })
}

fn write(
    disk: &dyn Disk,
    path: &Path,
    identity: &Identity,
    complete: bool,
    other: BTreeMap<String, serde_json::Value>,
) -> Result<(), DataFolderError> {
    let stored = Stored {
        format_version: FORMAT_VERSION,
        cluster_id: identity.cluster_id.as_str().to_owned(),
        broker_id: identity.broker_id.0,
        directory_id: identity.directory_id.to_string(),
        complete,
        last_holder: identity.last_holder.clone(),
        other,
    };
    let mut bytes = serde_json::to_vec_pretty(&stored).expect("texts and numbers have a JSON form");
    bytes.push(b'\n');
    Ok(write_file_durably(disk, &path.join(IDENTITY_FILE), &bytes)?)
}

#[cfg(test)]
mod tests;
