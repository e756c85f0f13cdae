// SPDX-License-Identifier: Apache-2.0
//! A disk whose calls can be held back for a while, or refused for good: how one of several brokers in a process is
//! paused and killed. It must not know who passes and why.
//!
//! - While the [`Gate`] is [`Standing::Paused`] a call waits at it, as a stopped process would not have made it yet.
//! - Once it is [`Standing::Closed`] every call fails, also those that waited, and the locks taken through it are free:
//!   what the kernel does at the death of a process. What was written before stays written, synced or not.
//!
//! Both wait for the calls that are inside: after [`Gate::pause`] and [`GatedDisk::close`] nothing changes on the disk.

use crate::{DirEntry, Disk, DiskError, DiskFile, DiskLock, DiskOperation, OpenMode};
use std::collections::BTreeMap;
use std::io;
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};

/// What a gate does with who comes to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Standing {
    /// Lets everybody through.
    #[default]
    Open,
    /// Lets everybody wait.
    Paused,
    /// Refuses everybody, for ever.
    Closed,
}

/// A point that threads pass, where they can be held back or refused. Blocks, so it is for threads that may.
#[derive(Debug, Default)]
pub struct Gate {
    /// Whoever is inside holds it for reading; a change of the standing waits for them.
    standing: RwLock<Standing>,
    /// For those who wait: the standing is looked at and changed under it as well, so that no change is missed.
    waiting: Mutex<()>,
    changed: Condvar,
}

/// The gate is closed for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the broker was killed")]
pub struct Closed;

/// Keeps pauses and closings waiting until it is dropped. Who holds one must not pass the same gate again: a pause that
/// waits for the first would hold back the second.
#[derive(Debug)]
#[must_use = "the gate counts only those inside who hold it"]
pub struct Passage<'a> {
    _inside: RwLockReadGuard<'a, Standing>,
}

impl Gate {
    /// How it stands at this moment.
    pub fn standing(&self) -> Standing {
        *self.standing.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Passes, after waiting while it is paused.
    ///
    /// # Errors
    /// When it is closed.
    pub fn pass(&self) -> Result<Passage<'_>, Closed> {
        loop {
            let inside = self.standing.read().unwrap_or_else(PoisonError::into_inner);
            match *inside {
                Standing::Open => return Ok(Passage { _inside: inside }),
                Standing::Closed => return Err(Closed),
                Standing::Paused => drop(inside),
            }
            self.wait()?;
        }
    }

    /// Waits while it is paused, without being counted as inside.
    ///
    /// # Errors
    /// When it is closed.
    pub fn wait(&self) -> Result<(), Closed> {
        let mut waiting = self.waiting();
        loop {
            match self.standing() {
                Standing::Open => return Ok(()),
                Standing::Closed => return Err(Closed),
                Standing::Paused => {
                    waiting = self.changed.wait(waiting).unwrap_or_else(PoisonError::into_inner);
                }
            }
        }
    }

    /// Holds back everybody from now on; returns when nobody is inside. Nothing happens if it is closed.
    pub fn pause(&self) {
        self.change(Standing::Paused);
    }

    /// Lets everybody through again. Nothing happens if it is closed.
    pub fn resume(&self) {
        self.change(Standing::Open);
    }

    /// Refuses everybody from now on, also those who wait; returns when nobody is inside.
    pub fn close(&self) {
        self.change(Standing::Closed);
    }

    fn change(&self, to: Standing) {
        {
            let mut standing = self.standing.write().unwrap_or_else(PoisonError::into_inner);
            if *standing != Standing::Closed {
                *standing = to;
            }
        }
        // Taken after the change: who has looked before it waits already, and is woken.
        let _waiting = self.waiting();
        self.changed.notify_all();
    }

    fn waiting(&self) -> MutexGuard<'_, ()> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The number of the last lock taken, and the locks that are held by their numbers.
type Numbered = (u64, BTreeMap<u64, Box<dyn DiskLock>>);

/// Locks that are held through a disk, by number. The disk has them, not their holders: a holder that was killed may
/// leave its lock lying about.
#[derive(Debug, Default)]
struct Locks {
    held: Mutex<Numbered>,
}

impl Locks {
    fn held(&self) -> MutexGuard<'_, Numbered> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// See the module. Clones share gate and locks.
#[derive(Debug, Clone)]
pub struct GatedDisk {
    inner: Arc<dyn Disk>,
    gate: Arc<Gate>,
    locks: Arc<Locks>,
}

#[derive(Debug)]
struct GatedFile {
    inner: Arc<dyn DiskFile>,
    gate: Arc<Gate>,
    path: PathBuf,
}

#[derive(Debug)]
struct GatedLock {
    locks: Arc<Locks>,
    number: u64,
}

impl DiskLock for GatedLock {}

impl Drop for GatedLock {
    fn drop(&mut self) {
        self.locks.held().1.remove(&self.number);
    }
}

fn refused(operation: DiskOperation, path: &Path) -> impl FnOnce(Closed) -> DiskError + '_ {
    move |closed| DiskError::new(operation, path, io::Error::other(closed))
}

impl GatedDisk {
    /// Puts an open gate before `inner`.
    pub fn new(inner: Arc<dyn Disk>) -> Self {
        Self { inner, gate: Arc::default(), locks: Arc::default() }
    }

    /// The gate, to pause and resume, or to pass for other work that has to stand still with the disk. To close it,
    /// [`close`](Self::close) the disk.
    pub fn gate(&self) -> &Arc<Gate> {
        &self.gate
    }

    /// Fails every call from now on and frees the locks; returns when no call is inside.
    pub fn close(&self) {
        self.gate.close();
        // No call is inside and none will be, so no lock is being taken.
        let locks = std::mem::take(&mut self.locks.held().1);
        drop(locks);
    }

    fn pass(&self, operation: DiskOperation, path: &Path) -> Result<Passage<'_>, DiskError> {
        self.gate.pass().map_err(refused(operation, path))
    }
}

impl Disk for GatedDisk {
    fn create_dir_all(&self, path: &Path) -> Result<(), DiskError> {
        let _inside = self.pass(DiskOperation::CreateDir, path)?;
        self.inner.create_dir_all(path)
    }

    fn list(&self, dir: &Path) -> Result<Vec<DirEntry>, DiskError> {
        let _inside = self.pass(DiskOperation::List, dir)?;
        self.inner.list(dir)
    }

    fn open(&self, path: &Path, mode: OpenMode) -> Result<Arc<dyn DiskFile>, DiskError> {
        let _inside = self.pass(DiskOperation::Open, path)?;
        let inner = self.inner.open(path, mode)?;
        Ok(Arc::new(GatedFile { inner, gate: Arc::clone(&self.gate), path: path.to_path_buf() }))
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<(), DiskError> {
        let _inside = self.pass(DiskOperation::Rename, from)?;
        self.inner.rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> Result<(), DiskError> {
        let _inside = self.pass(DiskOperation::Remove, path)?;
        self.inner.remove_file(path)
    }

    fn remove_dir_all(&self, path: &Path) -> Result<(), DiskError> {
        let _inside = self.pass(DiskOperation::Remove, path)?;
        self.inner.remove_dir_all(path)
    }

    fn sync_dir(&self, dir: &Path) -> Result<(), DiskError> {
        let _inside = self.pass(DiskOperation::SyncDir, dir)?;
        self.inner.sync_dir(dir)
    }

    fn file_len(&self, path: &Path) -> Result<Option<u64>, DiskError> {
        let _inside = self.pass(DiskOperation::Metadata, path)?;
        self.inner.file_len(path)
    }

    fn exists(&self, path: &Path) -> Result<bool, DiskError> {
        let _inside = self.pass(DiskOperation::Metadata, path)?;
        self.inner.exists(path)
    }

    fn free_bytes(&self, path: &Path) -> Result<u64, DiskError> {
        let _inside = self.pass(DiskOperation::Metadata, path)?;
        self.inner.free_bytes(path)
    }

    fn total_bytes(&self, path: &Path) -> Result<u64, DiskError> {
        let _inside = self.pass(DiskOperation::Metadata, path)?;
        self.inner.total_bytes(path)
    }

    fn lock(&self, path: &Path) -> Result<Box<dyn DiskLock>, DiskError> {
        let _inside = self.pass(DiskOperation::Lock, path)?;
        let lock = self.inner.lock(path)?;
        let mut held = self.locks.held();
        held.0 += 1;
        let number = held.0;
        held.1.insert(number, lock);
        Ok(Box::new(GatedLock { locks: Arc::clone(&self.locks), number }))
    }
}

impl GatedFile {
    fn pass(&self, operation: DiskOperation) -> Result<Passage<'_>, DiskError> {
        self.gate.pass().map_err(refused(operation, &self.path))
    }
}

impl DiskFile for GatedFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<usize, DiskError> {
        let _inside = self.pass(DiskOperation::Read)?;
        self.inner.read_at(buffer, offset)
    }

    fn read_append(&self, buffer: &mut Vec<u8>, len: usize, offset: u64) -> Result<usize, DiskError> {
        let _inside = self.pass(DiskOperation::Read)?;
        self.inner.read_append(buffer, len, offset)
    }

    fn read_cached(&self, buffer: &mut Vec<u8>, len: usize, offset: u64) -> Result<Option<usize>, DiskError> {
        let _inside = self.pass(DiskOperation::Read)?;
        self.inner.read_cached(buffer, len, offset)
    }

    fn is_cached(&self, offset: u64, len: usize) -> bool {
        self.pass(DiskOperation::Read).is_ok_and(|_inside| self.inner.is_cached(offset, len))
    }

    fn send(&self, socket: BorrowedFd<'_>, offset: u64, len: usize) -> io::Result<usize> {
        let _inside = self.gate.pass().map_err(io::Error::other)?;
        self.inner.send(socket, offset, len)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> Result<(), DiskError> {
        let _inside = self.pass(DiskOperation::Write)?;
        self.inner.write_at(bytes, offset)
    }

    fn write_pair_at(&self, first: &[u8], second: &[u8], offset: u64) -> Result<(), DiskError> {
        let _inside = self.pass(DiskOperation::Write)?;
        self.inner.write_pair_at(first, second, offset)
    }

    fn truncate(&self, len: u64) -> Result<(), DiskError> {
        let _inside = self.pass(DiskOperation::Truncate)?;
        self.inner.truncate(len)
    }

    fn sync(&self) -> Result<(), DiskError> {
        let _inside = self.pass(DiskOperation::Sync)?;
        self.inner.sync()
    }

    fn len(&self) -> Result<u64, DiskError> {
        let _inside = self.pass(DiskOperation::Metadata)?;
        self.inner.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{BeginningCall, DiskErrorKind, SimulatedDisk};
    use std::sync::mpsc::{RecvTimeoutError, channel};
    use std::thread;
    use std::time::Duration;

    /// Long enough that a thread which can go on would have.
    const A_WHILE: Duration = Duration::from_millis(50);
    const LIMIT: Duration = Duration::from_secs(10);

    fn gated() -> (SimulatedDisk, GatedDisk) {
        let below = SimulatedDisk::new(1);
        below.create_dir_all(Path::new("/d")).unwrap();
        (below.clone(), GatedDisk::new(Arc::new(below)))
    }

    #[test]
    fn a_closed_disk_refuses_every_call_and_changes_nothing() {
        let (below, disk) = gated();
        let path = Path::new("/d/a");
        let file = disk.open(path, OpenMode::Create).unwrap();
        file.write_at(b"before", 0).unwrap();
        disk.close();
        let refusals: Vec<Result<(), DiskError>> = vec![
            file.write_at(b"after", 0),
            file.write_pair_at(b"af", b"ter", 0),
            file.truncate(0),
            file.sync(),
            file.len().map(drop),
            file.read_at(&mut [0; 4], 0).map(drop),
            file.read_append(&mut Vec::new(), 4, 0).map(drop),
            disk.open(path, OpenMode::Read).map(drop),
            disk.create_dir_all(Path::new("/d/e")),
            disk.list(Path::new("/d")).map(drop),
            disk.rename(path, Path::new("/d/b")),
            disk.remove_file(path),
            disk.remove_dir_all(Path::new("/d")),
            disk.sync_dir(Path::new("/d")),
            disk.file_len(path).map(drop),
            disk.exists(path).map(drop),
            disk.free_bytes(path).map(drop),
            disk.lock(path).map(drop),
        ];
        for refusal in refusals {
            let error = refusal.unwrap_err();
            assert_eq!(error.kind, DiskErrorKind::Failed, "{error}");
            assert!(error.to_string().contains("killed"), "{error}");
        }
        let mut kept = Vec::new();
        below.open(path, OpenMode::Read).unwrap().read_append(&mut kept, 100, 0).unwrap();
        assert_eq!(kept, b"before");
        disk.gate().resume();
        assert_eq!(disk.gate().standing(), Standing::Closed);
    }

    #[test]
    fn closing_frees_locks_whose_holders_are_still_about() {
        let (below, disk) = gated();
        let path = Path::new("/d/lock");
        let kept = disk.lock(path).unwrap();
        assert_eq!(below.lock(path).unwrap_err().kind, DiskErrorKind::Locked);
        drop(disk.lock(Path::new("/d/other")).unwrap());
        drop(below.lock(Path::new("/d/other")).unwrap());
        disk.close();
        let next = below.lock(path).unwrap();
        // The old holder's end takes nothing from the new one.
        drop(kept);
        assert_eq!(below.lock(path).unwrap_err().kind, DiskErrorKind::Locked);
        drop(next);
    }

    #[test]
    fn a_paused_call_waits_for_the_resumption_or_the_closing() {
        for close in [false, true] {
            let (below, disk) = gated();
            let path = Path::new("/d/a");
            let file = disk.open(path, OpenMode::Create).unwrap();
            disk.gate().pause();
            let (done, outcome) = channel();
            let writer = thread::spawn(move || done.send(file.write_at(b"x", 0)).unwrap());
            assert_eq!(outcome.recv_timeout(A_WHILE).unwrap_err(), RecvTimeoutError::Timeout);
            assert_eq!(below.file_len(path).unwrap(), Some(0));
            if close {
                disk.close();
            } else {
                disk.gate().resume();
            }
            assert_eq!(outcome.recv_timeout(LIMIT).unwrap().is_ok(), !close);
            writer.join().unwrap();
            assert_eq!(below.file_len(path).unwrap(), Some(u64::from(!close)));
        }
    }

    #[test]
    fn closing_waits_for_the_call_inside() {
        let (below, disk) = gated();
        let (entered, inside) = channel();
        let (leave, left) = channel::<()>();
        let left = Mutex::new(left);
        below.before_calls(move |call| {
            if matches!(call, BeginningCall::Sync(_)) {
                entered.send(()).unwrap();
                left.lock().unwrap().recv_timeout(LIMIT).unwrap();
            }
        });
        let file = disk.open(Path::new("/d/a"), OpenMode::Create).unwrap();
        let syncing = thread::spawn(move || file.sync());
        inside.recv_timeout(LIMIT).unwrap();
        let (done, closed) = channel();
        let closing = thread::spawn(move || {
            disk.close();
            done.send(()).unwrap();
        });
        assert_eq!(closed.recv_timeout(A_WHILE).unwrap_err(), RecvTimeoutError::Timeout);
        leave.send(()).unwrap();
        closed.recv_timeout(LIMIT).unwrap();
        closing.join().unwrap();
        syncing.join().unwrap().unwrap();
    }
}
