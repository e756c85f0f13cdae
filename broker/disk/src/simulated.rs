// SPDX-License-Identifier: Apache-2.0
//! A disk in memory that behaves as badly as a real one may, and the same way each time it is given the same seed.
//!
//! - A loss of power ([`Outage::PowerLoss`]) drops what was not synced: of each file every unsynced sector is kept or
//!   lost by itself (the last one torn at a byte), its length may or may not have grown, and of each folder's unsynced
//!   changes of names some first part is kept. The death of the process ([`Outage::ProcessDeath`]) drops nothing.
//! - [`SimulatedDisk::crash_at`] ends the process in the middle of the n-th mutating call: a write is torn, any other
//!   call has happened or has not. All calls fail from then on until [`SimulatedDisk::restart`].
//! - It fills up ([`SimulatedDisk::set_capacity`]), reports errors ([`SimulatedDisk::inject`]), and rots
//!   ([`SimulatedDisk::corrupt`]). After a failed sync the unsynced bytes are lost at the next loss of power even if a
//!   later sync succeeds, as on Linux.
//!
//! Slowness is the caller's to simulate, by waiting in [`SimulatedDisk::before_calls`]: there is no time here. It must not
//! know what is stored.

mod state;

use crate::{DirEntry, Disk, DiskError, DiskFile, DiskLock, DiskOperation, OpenMode};
use state::{Hook, Node, State};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How the machine stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outage {
    /// kill -9: the kernel keeps what was written.
    ProcessDeath,
    /// What was not synced may be lost, by the seed.
    PowerLoss,
    /// Everything that was not synced is lost: the plainest of all losses of power.
    PowerLossOfAllUnsynced,
}

/// An error to report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The call that fails.
    pub operation: DiskOperation,
    /// Only on paths that end with this text; empty for all.
    pub path_suffix: String,
    /// Matching calls that pass before the first failure.
    pub after: u64,
    /// How many calls fail then.
    pub times: u64,
}

/// A call that is about to begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BeginningCall<'a> {
    /// [`Disk::open`].
    Open(&'a Path, OpenMode),
    /// [`DiskFile::sync`] of the file that was opened by this path.
    Sync(&'a Path),
}

/// Calls made so far, for tests that bound them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct OperationCounts {
    pub reads: u64,
    pub writes: u64,
    pub file_syncs: u64,
    pub dir_syncs: u64,
    pub opens: u64,
    /// Calls that change the disk: what [`SimulatedDisk::crash_at`] counts.
    pub mutations: u64,
}

/// See the module. Clones are the same disk.
#[derive(Debug, Clone)]
pub struct SimulatedDisk {
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct SimulatedFile {
    state: Arc<Mutex<State>>,
    path: PathBuf,
    inode: u64,
    boot: u64,
    writable: bool,
}

#[derive(Debug)]
struct SimulatedLock {
    state: Arc<Mutex<State>>,
    path: PathBuf,
    boot: u64,
}

impl DiskLock for SimulatedLock {}

impl Drop for SimulatedFile {
    fn drop(&mut self) {
        let mut state = lock(&self.state);
        if state.boot == self.boot {
            state.handle_dropped(self.inode);
        }
    }
}

impl Drop for SimulatedLock {
    fn drop(&mut self) {
        let mut state = lock(&self.state);
        if state.boot == self.boot {
            state.locks.remove(&self.path);
        }
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl SimulatedDisk {
    /// An empty disk without limit. The seed decides what losses of power and torn writes keep.
    pub fn new(seed: u64) -> Self {
        Self { state: Arc::new(Mutex::new(State::new(seed))) }
    }

    /// Crashes in the `n`-th mutating call from now (0 is the next one); `None` never.
    pub fn crash_at(&self, n: Option<u64>) {
        let mut state = lock(&self.state);
        state.crash_at = n.map(|n| state.counts.mutations + n);
    }

    /// Whether it has crashed and not been started again.
    pub fn is_crashed(&self) -> bool {
        lock(&self.state).crashed
    }

    /// Stops in the given way, if it has not crashed already, and starts again: locks are free, earlier handles fail.
    pub fn restart(&self, outage: Outage) {
        lock(&self.state).restart(outage);
    }

    /// Bytes that files may hold together; `None` is without limit. A removed file gives its bytes back when its last
    /// handle is dropped.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        lock(&self.state).capacity = bytes;
    }

    /// Reports an error for calls to come.
    pub fn inject(&self, fault: Fault) {
        lock(&self.state).faults.push(fault);
    }

    /// Reports no more injected errors.
    pub fn clear_faults(&self) {
        lock(&self.state).faults.clear();
    }

    /// Flips the bits of `mask` in the byte at `offset`, on the platter itself. Nothing happens beyond the file's end.
    pub fn corrupt(&self, path: &Path, offset: u64, mask: u8) {
        lock(&self.state).corrupt(path, offset, mask);
    }

    /// Runs `work` before every call of a kind that [`BeginningCall`] has, in the caller's thread: tests act or wait there.
    /// It may use the disk itself. Replaces what was given before.
    pub fn before_calls(&self, work: impl Fn(BeginningCall<'_>) + Send + Sync + 'static) {
        lock(&self.state).hook = Some(Hook(Arc::new(work)));
    }

    /// Calls made so far.
    pub fn counts(&self) -> OperationCounts {
        lock(&self.state).counts
    }
}

/// Tells the test that a call begins. Without the lock: what it does may call the disk.
fn begin(state: &Mutex<State>, call: BeginningCall<'_>) {
    let hook = lock(state).hook.clone();
    if let Some(Hook(work)) = hook {
        work(call);
    }
}

fn no_entry(operation: DiskOperation, path: &Path) -> DiskError {
    DiskError::new(operation, path, io::Error::from(io::ErrorKind::NotFound))
}

// === impl Disk ===

impl Disk for SimulatedDisk {
    fn create_dir_all(&self, path: &Path) -> Result<(), DiskError> {
        let mut state = lock(&self.state);
        if state.is_dir(path) {
            return Ok(());
        }
        let happens = state.mutate(DiskOperation::CreateDir, path)?;
        if happens.apply {
            state.create_dir_all(path);
        }
        happens.outcome
    }

    fn list(&self, dir: &Path) -> Result<Vec<DirEntry>, DiskError> {
        let mut state = lock(&self.state);
        state.observe(DiskOperation::List, dir)?;
        state.list(dir).ok_or_else(|| no_entry(DiskOperation::List, dir))
    }

    fn open(&self, path: &Path, mode: OpenMode) -> Result<Arc<dyn DiskFile>, DiskError> {
        begin(&self.state, BeginningCall::Open(path, mode));
        let mut state = lock(&self.state);
        state.counts.opens += 1;
        let inode = match (state.node(path), mode) {
            (Some(Node::Dir), _) => {
                let error = io::Error::from(io::ErrorKind::IsADirectory);
                return Err(DiskError::new(DiskOperation::Open, path, error));
            }
            (Some(Node::File(_)), OpenMode::CreateNew) => {
                let error = io::Error::from(io::ErrorKind::AlreadyExists);
                return Err(DiskError::new(DiskOperation::Open, path, error));
            }
            (Some(Node::File(inode)), _) => {
                state.observe(DiskOperation::Open, path)?;
                inode
            }
            (None, OpenMode::Read | OpenMode::ReadWrite) => {
                state.observe(DiskOperation::Open, path)?;
                return Err(no_entry(DiskOperation::Open, path));
            }
            (None, OpenMode::Create | OpenMode::CreateNew) => {
                if !path.parent().is_some_and(|parent| state.is_dir(parent)) {
                    return Err(no_entry(DiskOperation::Open, path));
                }
                let happens = state.mutate(DiskOperation::Open, path)?;
                let inode = if happens.apply { state.create_file(path) } else { 0 };
                happens.outcome?;
                inode
            }
        };
        let (boot, writable) = (state.boot, mode != OpenMode::Read);
        state.handle_opened(inode);
        Ok(Arc::new(SimulatedFile { state: self.state.clone(), path: path.to_path_buf(), inode, boot, writable }))
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<(), DiskError> {
        let mut state = lock(&self.state);
        if state.node(from).is_none() || !to.parent().is_some_and(|parent| state.is_dir(parent)) {
            state.observe(DiskOperation::Rename, from)?;
            return Err(no_entry(DiskOperation::Rename, from));
        }
        let happens = state.mutate(DiskOperation::Rename, from)?;
        if happens.apply {
            state.rename(from, to);
        }
        happens.outcome
    }

    fn remove_file(&self, path: &Path) -> Result<(), DiskError> {
        let mut state = lock(&self.state);
        if !matches!(state.node(path), Some(Node::File(_))) {
            state.observe(DiskOperation::Remove, path)?;
            return Err(no_entry(DiskOperation::Remove, path));
        }
        let happens = state.mutate(DiskOperation::Remove, path)?;
        if happens.apply {
            state.remove(path);
        }
        happens.outcome
    }

    fn remove_dir_all(&self, path: &Path) -> Result<(), DiskError> {
        let mut state = lock(&self.state);
        if !state.is_dir(path) {
            state.observe(DiskOperation::Remove, path)?;
            return Err(no_entry(DiskOperation::Remove, path));
        }
        // One call to the system per name, as the real one has, so that a crash may leave a part.
        for victim in state.tree_below(path) {
            let happens = state.mutate(DiskOperation::Remove, path)?;
            if happens.apply {
                state.remove(&victim);
            }
            happens.outcome?;
        }
        Ok(())
    }

    fn sync_dir(&self, dir: &Path) -> Result<(), DiskError> {
        let mut state = lock(&self.state);
        state.counts.dir_syncs += 1;
        if !state.is_dir(dir) {
            return Err(no_entry(DiskOperation::SyncDir, dir));
        }
        let happens = state.mutate(DiskOperation::SyncDir, dir)?;
        if happens.apply {
            state.sync_dir(dir);
        }
        happens.outcome
    }

    fn file_len(&self, path: &Path) -> Result<Option<u64>, DiskError> {
        let mut state = lock(&self.state);
        state.observe(DiskOperation::Metadata, path)?;
        Ok(match state.node(path) {
            Some(Node::File(inode)) => Some(state.len(inode)),
            _ => None,
        })
    }

    fn exists(&self, path: &Path) -> Result<bool, DiskError> {
        let mut state = lock(&self.state);
        state.observe(DiskOperation::Metadata, path)?;
        Ok(state.node(path).is_some())
    }

    fn free_bytes(&self, path: &Path) -> Result<u64, DiskError> {
        let mut state = lock(&self.state);
        state.observe(DiskOperation::Metadata, path)?;
        Ok(state.capacity.map_or(u64::MAX, |capacity| capacity.saturating_sub(state.used())))
    }

    fn total_bytes(&self, path: &Path) -> Result<u64, DiskError> {
        let mut state = lock(&self.state);
        state.observe(DiskOperation::Metadata, path)?;
        Ok(state.capacity.unwrap_or(u64::MAX))
    }

    fn lock(&self, path: &Path) -> Result<Box<dyn DiskLock>, DiskError> {
        drop(self.open(path, OpenMode::Create)?);
        let mut state = lock(&self.state);
        if !state.locks.insert(path.to_path_buf()) {
            let error = io::Error::new(io::ErrorKind::WouldBlock, "another process holds the lock");
            return Err(DiskError::new(DiskOperation::Lock, path, error));
        }
        let boot = state.boot;
        Ok(Box::new(SimulatedLock { state: self.state.clone(), path: path.to_path_buf(), boot }))
    }
}

// === impl DiskFile ===

impl SimulatedFile {
    fn state(&self, operation: DiskOperation) -> Result<MutexGuard<'_, State>, DiskError> {
        let state = lock(&self.state);
        if state.boot != self.boot {
            return Err(DiskError::new(operation, &self.path, io::Error::other("the handle is of an earlier process")));
        }
        if !self.writable && matches!(operation, DiskOperation::Write | DiskOperation::Truncate) {
            let error = io::Error::new(io::ErrorKind::PermissionDenied, "opened for reading");
            return Err(DiskError::new(operation, &self.path, error));
        }
        Ok(state)
    }

    fn write_pieces(&self, pieces: [&[u8]; 2], offset: u64) -> Result<(), DiskError> {
        let mut state = self.state(DiskOperation::Write)?;
        state.counts.writes += 1;
        let len: usize = pieces.iter().map(|piece| piece.len()).sum();
        let happens = state.mutate(DiskOperation::Write, &self.path)?;
        let room = state.room(self.inode, offset, len);
        let mut allowed = match (&happens.outcome, happens.apply) {
            (Ok(()), _) => len,
            // Torn: any first part of it.
            (Err(_), true) => state.random_below(len as u64 + 1) as usize,
            (Err(_), false) => 0,
        };
        let full = room < len;
        allowed = allowed.min(room);
        let mut at = offset;
        for piece in pieces {
            let part = &piece[..piece.len().min(allowed)];
            state.write(self.inode, part, at);
            at += part.len() as u64;
            allowed -= part.len();
        }
        happens.outcome?;
        if full {
            let error = io::Error::from(io::ErrorKind::StorageFull);
            return Err(DiskError::new(DiskOperation::Write, &self.path, error));
        }
        Ok(())
    }
}

impl DiskFile for SimulatedFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<usize, DiskError> {
        let mut state = self.state(DiskOperation::Read)?;
        state.counts.reads += 1;
        state.observe(DiskOperation::Read, &self.path)?;
        let bytes = state.read(self.inode, offset, buffer.len());
        buffer[..bytes.len()].copy_from_slice(bytes);
        Ok(bytes.len())
    }

    fn read_append(&self, buffer: &mut Vec<u8>, len: usize, offset: u64) -> Result<usize, DiskError> {
        let mut state = self.state(DiskOperation::Read)?;
        state.counts.reads += 1;
        state.observe(DiskOperation::Read, &self.path)?;
        let bytes = state.read(self.inode, offset, len);
        buffer.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn read_cached(&self, buffer: &mut Vec<u8>, len: usize, offset: u64) -> Result<Option<usize>, DiskError> {
        self.read_append(buffer, len, offset).map(Some)
    }

    fn is_cached(&self, _offset: u64, _len: usize) -> bool {
        true
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> Result<(), DiskError> {
        self.write_pieces([bytes, &[]], offset)
    }

    fn write_pair_at(&self, first: &[u8], second: &[u8], offset: u64) -> Result<(), DiskError> {
        self.write_pieces([first, second], offset)
    }

    fn truncate(&self, len: u64) -> Result<(), DiskError> {
        let mut state = self.state(DiskOperation::Truncate)?;
        let happens = state.mutate(DiskOperation::Truncate, &self.path)?;
        if happens.apply {
            state.set_len(self.inode, len);
        }
        happens.outcome
    }

    fn sync(&self) -> Result<(), DiskError> {
        begin(&self.state, BeginningCall::Sync(&self.path));
        let mut state = self.state(DiskOperation::Sync)?;
        state.counts.file_syncs += 1;
        match state.mutate(DiskOperation::Sync, &self.path) {
            Ok(happens) => {
                if happens.apply {
                    state.sync(self.inode);
                }
                happens.outcome
            }
            Err(error) => {
                state.lose_unsynced_later(self.inode);
                Err(error)
            }
        }
    }

    fn len(&self) -> Result<u64, DiskError> {
        let mut state = self.state(DiskOperation::Metadata)?;
        state.observe(DiskOperation::Metadata, &self.path)?;
        Ok(state.len(self.inode))
    }
}
