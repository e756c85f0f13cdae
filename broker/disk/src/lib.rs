// SPDX-License-Identifier: Apache-2.0
//! The port to the disk, and the only adapter that touches real files.
//!
//! Everything that stores bytes does so through [`Disk`] and [`DiskFile`], so that tests and the simulation can put
//! [`SimulatedDisk`] underneath: it loses what was not synced, tears writes, fills up and reports errors.
//! [`GatedDisk`] stands before another disk and can hold its calls back or end them.
//! It must not know what is stored: no topics, no records, no formats. It has no threads, no clock and no async; calls
//! block and belong on threads that may block.
//!
//! Durability contract, the same for both adapters:
//! - Bytes written with [`DiskFile::write_at`] survive the death of the process, but survive a loss of power only
//!   after a later [`DiskFile::sync`] of the same file succeeded.
//! - A name (created, renamed, removed) survives a loss of power only after [`Disk::sync_dir`] of its folder.
//! - A failed sync is final: the kernel may have dropped the dirty pages and marked them clean, so a second sync can
//!   succeed without the bytes. Callers must never retry one; they give up the file (and usually the process).

mod error;
mod file_store;
mod gated;
mod real;
mod region;
mod simulated;

pub use error::{DiskError, DiskErrorKind, DiskOperation};
pub use file_store::{read_small_file, write_file_durably};
pub use gated::{Closed, Gate, GatedDisk, Passage, Standing};
pub use real::RealDisk;
pub use region::FileRegion;
pub use simulated::{BeginningCall, Fault, OperationCounts, Outage, SimulatedDisk};

use std::fmt::Debug;
use std::io;
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::sync::Arc;

/// How [`Disk::open`] treats a name that is, or is not, there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpenMode {
    /// The file must exist; writing through the handle fails.
    Read,
    /// The file must exist; reads and writes.
    ReadWrite,
    /// Opened if it exists with its bytes kept, else created empty; reads and writes.
    Create,
    /// Created empty; fails with [`DiskErrorKind::AlreadyExists`] if the name is taken.
    CreateNew,
}

/// One name in a folder, as [`Disk::list`] returns it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct DirEntry {
    /// The bare name. Names that are not UTF-8 are left out of listings: nothing of ours has such a name.
    pub name: String,
    pub is_dir: bool,
    /// Length in bytes for a file, 0 for a folder.
    pub len: u64,
}

/// What a lock on a path holds until it is dropped (or the process ends).
pub trait DiskLock: Send + Sync + Debug {}

/// A folder tree. All methods may block on the device.
pub trait Disk: Send + Sync + Debug {
    /// Creates the folder and all missing parents; no error if it is there. Not durable before the parents are synced.
    fn create_dir_all(&self, path: &Path) -> Result<(), DiskError>;

    /// The entries of a folder, sorted by name. [`DiskErrorKind::NotFound`] if the folder is missing.
    fn list(&self, dir: &Path) -> Result<Vec<DirEntry>, DiskError>;

    /// Opens or creates a file; see [`OpenMode`].
    fn open(&self, path: &Path, mode: OpenMode) -> Result<Arc<dyn DiskFile>, DiskError>;

    /// Atomically gives a file or folder a new name, replacing a file that has it. Both names must be in one file
    /// system. Not durable before the folder(s) are synced.
    fn rename(&self, from: &Path, to: &Path) -> Result<(), DiskError>;

    /// Removes a file's name; handles stay readable. [`DiskErrorKind::NotFound`] if it is missing.
    fn remove_file(&self, path: &Path) -> Result<(), DiskError>;

    /// Removes a folder with everything below it. [`DiskErrorKind::NotFound`] if it is missing.
    fn remove_dir_all(&self, path: &Path) -> Result<(), DiskError>;

    /// Makes the folder's names durable (creations, renames, removals directly in it).
    fn sync_dir(&self, dir: &Path) -> Result<(), DiskError>;

    /// Length of the file in bytes, `None` if there is no such file (a folder is no file).
    fn file_len(&self, path: &Path) -> Result<Option<u64>, DiskError>;

    /// Whether a file or folder has this name.
    fn exists(&self, path: &Path) -> Result<bool, DiskError>;

    /// Bytes an unprivileged process can still write on the file system that holds `path` (which must exist).
    fn free_bytes(&self, path: &Path) -> Result<u64, DiskError>;

    /// Bytes of the file system that holds `path` (which must exist), free or not.
    fn total_bytes(&self, path: &Path) -> Result<u64, DiskError>;

    /// Takes an exclusive lock on the file (created if missing, its bytes kept) without waiting.
    /// [`DiskErrorKind::Locked`] if another holder has it. The kernel frees it when the holder dies.
    fn lock(&self, path: &Path) -> Result<Box<dyn DiskLock>, DiskError>;
}

/// An open file with positional reads and writes; no cursor, so that one writer and many readers share a handle.
pub trait DiskFile: Send + Sync + Debug {
    /// Reads at `offset` into `buffer` until it is full or the file ends; returns the bytes read.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<usize, DiskError>;

    /// Appends up to `len` bytes from `offset` to `buffer`, fewer only at the end of the file; returns the bytes read.
    /// Unlike [`read_at`](Self::read_at) nothing is zeroed first, so this is the one for large reads. `buffer` grows by
    /// at most `len`; the caller bounds `len`.
    fn read_append(&self, buffer: &mut Vec<u8>, len: usize, offset: u64) -> Result<usize, DiskError>;

    /// As [`read_append`](Self::read_append), but never waits for the device. `None` if it would have to, or where the
    /// system cannot tell; `buffer` is as it was then.
    fn read_cached(&self, _buffer: &mut Vec<u8>, _len: usize, _offset: u64) -> Result<Option<usize>, DiskError> {
        Ok(None)
    }

    /// Whether `len` bytes from `offset` are in memory, by samples of them: false is certain, true is likely.
    fn is_cached(&self, _offset: u64, _len: usize) -> bool {
        false
    }

    /// Hands at most `len` bytes from `offset` to a socket without copying them; returns how many it took, 0 only at
    /// the end of the file. `Unsupported` where the file or the system cannot do that: read then.
    fn send(&self, _socket: BorrowedFd<'_>, _offset: u64, _len: usize) -> io::Result<usize> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Writes all of `bytes` at `offset`, growing the file if needed (a gap reads as zeros). After an error any part
    /// may have been written.
    fn write_at(&self, bytes: &[u8], offset: u64) -> Result<(), DiskError>;

    /// Writes both pieces one after the other at `offset`, in one call to the system where it can. As
    /// [`write_at`](Self::write_at) otherwise.
    fn write_pair_at(&self, first: &[u8], second: &[u8], offset: u64) -> Result<(), DiskError> {
        self.write_at(first, offset)?;
        self.write_at(second, offset + first.len() as u64)
    }

    /// Cuts or zero-extends the file to `len` bytes.
    fn truncate(&self, len: u64) -> Result<(), DiskError>;

    /// Makes the bytes and the length durable (`fdatasync`). Never to be retried after an error.
    fn sync(&self) -> Result<(), DiskError>;

    /// Present length in bytes.
    fn len(&self) -> Result<u64, DiskError>;

    /// Whether the file has no bytes.
    fn is_empty(&self) -> Result<bool, DiskError> {
        Ok(self.len()? == 0)
    }
}
