// SPDX-License-Identifier: Apache-2.0
//! Real files: the only module of the project that calls `std::fs` or the file calls of rustix.
//!
//! It must not know what is stored, and takes no decision beyond what the port's contract says.

#[cfg(target_os = "linux")]
use rustix::io::{Errno, ReadWriteFlags};

use crate::{DirEntry, Disk, DiskError, DiskFile, DiskLock, DiskOperation, OpenMode};
use std::fs::{self, File, OpenOptions};
use std::io;
#[cfg(target_os = "linux")]
use std::os::fd::BorrowedFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Between two looks at whether a part of a file is in memory. The kernel takes up and drops neighbouring pages
/// together: a read-ahead is 128 KiB where nobody has set it.
#[cfg(target_os = "linux")]
const SAMPLE_BYTES: usize = 128 << 10;

/// The file system of this machine. Free to create and share; it holds nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct RealDisk;

#[derive(Debug)]
struct RealFile {
    file: File,
    path: PathBuf,
}

#[derive(Debug)]
struct RealLock {
    /// The lock lives as long as this open file.
    _file: File,
}

impl DiskLock for RealLock {}

fn at(operation: DiskOperation, path: &Path) -> impl FnOnce(io::Error) -> DiskError + '_ {
    move |source| DiskError::new(operation, path, source)
}

fn space(path: &Path) -> Result<rustix::fs::StatVfs, DiskError> {
    rustix::fs::statvfs(path).map_err(|errno| DiskError::new(DiskOperation::Metadata, path, io::Error::from(errno)))
}

// === impl Disk ===

impl Disk for RealDisk {
    fn create_dir_all(&self, path: &Path) -> Result<(), DiskError> {
        fs::create_dir_all(path).map_err(at(DiskOperation::CreateDir, path))
    }

    fn list(&self, dir: &Path) -> Result<Vec<DirEntry>, DiskError> {
        let mut entries = Vec::new();
        for entry in fs::read_dir(dir).map_err(at(DiskOperation::List, dir))? {
            let entry = entry.map_err(at(DiskOperation::List, dir))?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            // A file may go away between the listing and the look at it: then it is not listed.
            let metadata = match entry.metadata() {
                Ok(metadata) => metadata,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(DiskError::new(DiskOperation::Metadata, &entry.path(), error)),
            };
            let is_dir = metadata.is_dir();
            entries.push(DirEntry { name, is_dir, len: if is_dir { 0 } else { metadata.len() } });
        }
        entries.sort();
        Ok(entries)
    }

    fn open(&self, path: &Path, mode: OpenMode) -> Result<Arc<dyn DiskFile>, DiskError> {
        let mut options = OpenOptions::new();
        options.read(true);
        match mode {
            OpenMode::Read => {}
            OpenMode::ReadWrite => {
                options.write(true);
            }
            OpenMode::Create => {
                options.write(true).create(true).truncate(false);
            }
            OpenMode::CreateNew => {
                options.write(true).create_new(true);
            }
        }
        let file = options.open(path).map_err(at(DiskOperation::Open, path))?;
        Ok(Arc::new(RealFile { file, path: path.to_path_buf() }))
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<(), DiskError> {
        fs::rename(from, to).map_err(at(DiskOperation::Rename, from))
    }

    fn remove_file(&self, path: &Path) -> Result<(), DiskError> {
        fs::remove_file(path).map_err(at(DiskOperation::Remove, path))
    }

    fn remove_dir_all(&self, path: &Path) -> Result<(), DiskError> {
        fs::remove_dir_all(path).map_err(at(DiskOperation::Remove, path))
    }

    fn sync_dir(&self, dir: &Path) -> Result<(), DiskError> {
        let dir = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
        File::open(dir).and_then(|opened| opened.sync_all()).map_err(at(DiskOperation::SyncDir, dir))
    }

    fn file_len(&self, path: &Path) -> Result<Option<u64>, DiskError> {
        match fs::metadata(path) {
            Ok(metadata) if metadata.is_file() => Ok(Some(metadata.len())),
            Ok(_) => Ok(None),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(DiskError::new(DiskOperation::Metadata, path, error)),
        }
    }

    fn exists(&self, path: &Path) -> Result<bool, DiskError> {
        path.try_exists().map_err(at(DiskOperation::Metadata, path))
    }

    fn free_bytes(&self, path: &Path) -> Result<u64, DiskError> {
        let space = space(path)?;
        Ok(space.f_bavail.saturating_mul(space.f_frsize))
    }

    fn total_bytes(&self, path: &Path) -> Result<u64, DiskError> {
        let space = space(path)?;
        Ok(space.f_blocks.saturating_mul(space.f_frsize))
    }

    fn lock(&self, path: &Path) -> Result<Box<dyn DiskLock>, DiskError> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .map_err(at(DiskOperation::Lock, path))?;
        match file.try_lock() {
            Ok(()) => Ok(Box::new(RealLock { _file: file })),
            Err(fs::TryLockError::WouldBlock) => {
                let reason = "another process holds the lock";
                Err(DiskError::new(DiskOperation::Lock, path, io::Error::new(io::ErrorKind::WouldBlock, reason)))
            }
            Err(fs::TryLockError::Error(error)) => Err(DiskError::new(DiskOperation::Lock, path, error)),
        }
    }
}

// === impl DiskFile ===

impl DiskFile for RealFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<usize, DiskError> {
        let mut done = 0;
        while done < buffer.len() {
            match self.file.read_at(&mut buffer[done..], offset + done as u64) {
                Ok(0) => break,
                Ok(read) => done += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(DiskError::new(DiskOperation::Read, &self.path, error)),
            }
        }
        Ok(done)
    }

    fn read_append(&self, buffer: &mut Vec<u8>, len: usize, offset: u64) -> Result<usize, DiskError> {
        buffer.reserve_exact(len);
        let start = buffer.len();
        while buffer.len() - start < len {
            let done = buffer.len() - start;
            // The spare capacity may be larger than asked for; `read_spare` never reads more than is left.
            match self.read_spare(buffer, len - done, offset + done as u64) {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(DiskError::new(DiskOperation::Read, &self.path, error)),
            }
        }
        Ok(buffer.len() - start)
    }

    // The rest of the systems have no read that refuses to wait: there the port says so, and files are read.
    #[cfg(target_os = "linux")]
    fn read_cached(&self, buffer: &mut Vec<u8>, len: usize, offset: u64) -> Result<Option<usize>, DiskError> {
        let start = buffer.len();
        buffer.resize(start + len, 0);
        let mut done = 0;
        while done < len {
            match self.read_now(&mut buffer[start + done..], offset + done as u64) {
                Ok(0) => break,
                Ok(read) => done += read,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN | Errno::OPNOTSUPP | Errno::INVAL | Errno::NOSYS) => {
                    buffer.truncate(start);
                    return Ok(None);
                }
                Err(errno) => {
                    buffer.truncate(start);
                    return Err(DiskError::new(DiskOperation::Read, &self.path, errno.into()));
                }
            }
        }
        buffer.truncate(start + done);
        Ok(Some(done))
    }

    #[cfg(target_os = "linux")]
    fn is_cached(&self, offset: u64, len: usize) -> bool {
        let last = offset + len.saturating_sub(1) as u64;
        let samples = (offset..last).step_by(SAMPLE_BYTES).chain(std::iter::once(last));
        // The end of the file is no reason to wait either.
        samples.into_iter().all(|at| self.read_now(&mut [0], at).is_ok())
    }

    #[cfg(target_os = "linux")]
    fn send(&self, socket: BorrowedFd<'_>, offset: u64, len: usize) -> io::Result<usize> {
        let mut at = offset;
        loop {
            match rustix::fs::sendfile(socket, &self.file, Some(&mut at), len) {
                Ok(sent) => return Ok(sent),
                Err(Errno::INTR) => {}
                // File systems without pages of their own (some in user space) refuse like this.
                Err(Errno::INVAL | Errno::NOSYS) => return Err(io::ErrorKind::Unsupported.into()),
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> Result<(), DiskError> {
        self.file.write_all_at(bytes, offset).map_err(at(DiskOperation::Write, &self.path))
    }

    // Darwin has no positional gathering write in rustix; there the port's two writes do.
    #[cfg(target_os = "linux")]
    fn write_pair_at(&self, first: &[u8], second: &[u8], offset: u64) -> Result<(), DiskError> {
        let total = first.len() + second.len();
        let mut done = 0;
        while done < first.len() {
            let pieces = [io::IoSlice::new(&first[done..]), io::IoSlice::new(second)];
            match rustix::io::pwritev(&self.file, &pieces, offset + done as u64) {
                Ok(0) if total > done => {
                    let error = io::Error::from(io::ErrorKind::WriteZero);
                    return Err(DiskError::new(DiskOperation::Write, &self.path, error));
                }
                Ok(written) => done += written,
                Err(Errno::INTR) => {}
                Err(errno) => return Err(DiskError::new(DiskOperation::Write, &self.path, errno.into())),
            }
        }
        // A short write may have ended inside the second piece.
        let rest = &second[(done - first.len()).min(second.len())..];
        if rest.is_empty() { Ok(()) } else { self.write_at(rest, offset + done as u64) }
    }

    fn truncate(&self, len: u64) -> Result<(), DiskError> {
        self.file.set_len(len).map_err(at(DiskOperation::Truncate, &self.path))
    }

    fn sync(&self) -> Result<(), DiskError> {
        self.file.sync_data().map_err(at(DiskOperation::Sync, &self.path))
    }

    fn len(&self) -> Result<u64, DiskError> {
        self.file.metadata().map(|metadata| metadata.len()).map_err(at(DiskOperation::Metadata, &self.path))
    }
}

impl RealFile {
    /// One read that fails with `EAGAIN` rather than wait for the device.
    #[cfg(target_os = "linux")]
    fn read_now(&self, buffer: &mut [u8], offset: u64) -> Result<usize, Errno> {
        rustix::io::preadv2(&self.file, &mut [io::IoSliceMut::new(buffer)], offset, ReadWriteFlags::NOWAIT)
    }

    /// One `pread` of at most `len` bytes straight into the uninitialised end of `buffer`.
    fn read_spare(&self, buffer: &mut Vec<u8>, len: usize, offset: u64) -> io::Result<usize> {
        if buffer.capacity() - buffer.len() <= len {
            return Ok(rustix::io::pread(&self.file, rustix::buffer::spare_capacity(buffer), offset)?);
        }
        // More room than wanted (the caller's own): read into a zeroed piece of exactly the wanted size.
        let start = buffer.len();
        buffer.resize(start + len, 0);
        let result = self.file.read_at(&mut buffer[start..], offset);
        buffer.truncate(start + result.as_ref().map_or(0, |read| *read));
        result
    }
}
