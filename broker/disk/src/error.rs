// SPDX-License-Identifier: Apache-2.0
//! What can go wrong on a disk, with the operation and path, so that a message names the file.
//!
//! Callers decide by [`DiskErrorKind`]; they must not look at operating-system codes.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// The call that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DiskOperation {
    CreateDir,
    List,
    Open,
    Rename,
    Remove,
    SyncDir,
    Metadata,
    Lock,
    Read,
    Write,
    Truncate,
    Sync,
}

impl fmt::Display for DiskOperation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::CreateDir => "create the folder",
            Self::List => "list the folder",
            Self::Open => "open",
            Self::Rename => "rename",
            Self::Remove => "remove",
            Self::SyncDir => "sync the folder",
            Self::Metadata => "look at",
            Self::Lock => "lock",
            Self::Read => "read",
            Self::Write => "write to",
            Self::Truncate => "set the length of",
            Self::Sync => "sync",
        })
    }
}

/// What a caller may want to tell apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DiskErrorKind {
    NotFound,
    AlreadyExists,
    /// The file system or the quota is full.
    NoSpace,
    /// Somebody else holds the lock.
    Locked,
    /// The file is larger than the caller allowed (see [`crate::read_small_file`]).
    TooLarge,
    /// Anything else: the device, permissions, a read-only file system.
    Failed,
}

/// A failed call, e.g. `could not write to /data/a-0/0.log: No space left on device (os error 28)`.
#[derive(Debug, thiserror::Error)]
#[error("could not {operation} {}: {source}", path.display())]
pub struct DiskError {
    pub operation: DiskOperation,
    pub path: PathBuf,
    pub kind: DiskErrorKind,
    pub source: io::Error,
}

impl DiskError {
    /// Wraps an error of the operating system (or of a simulation that speaks like one).
    pub fn new(operation: DiskOperation, path: &Path, source: io::Error) -> Self {
        let kind = match source.kind() {
            io::ErrorKind::NotFound => DiskErrorKind::NotFound,
            io::ErrorKind::AlreadyExists => DiskErrorKind::AlreadyExists,
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => DiskErrorKind::NoSpace,
            io::ErrorKind::WouldBlock => DiskErrorKind::Locked,
            io::ErrorKind::FileTooLarge => DiskErrorKind::TooLarge,
            _ => DiskErrorKind::Failed,
        };
        Self { operation, path: path.to_path_buf(), kind, source }
    }

    pub fn is_not_found(&self) -> bool {
        self.kind == DiskErrorKind::NotFound
    }

    pub fn is_no_space(&self) -> bool {
        self.kind == DiskErrorKind::NoSpace
    }
}
