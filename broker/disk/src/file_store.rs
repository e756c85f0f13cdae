// SPDX-License-Identifier: Apache-2.0
//! Whole small files, read with a bound and replaced so that a crash leaves the old or the new one.
//!
//! For checkpoints, identities and snapshots. It must not know what they hold.

use crate::{Disk, DiskError, DiskErrorKind, DiskOperation, OpenMode};
use std::io;
use std::path::{Path, PathBuf};

/// All bytes of a file of at most `max_len` bytes; `None` if there is no such file.
/// [`DiskErrorKind::TooLarge`] if it is longer, before anything is allocated.
pub fn read_small_file(disk: &dyn Disk, path: &Path, max_len: usize) -> Result<Option<Vec<u8>>, DiskError> {
    let file = match disk.open(path, OpenMode::Read) {
        Ok(file) => file,
        Err(error) if error.kind == DiskErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let len = file.len()?;
    if len > max_len as u64 {
        let reason = format!("it has {len} bytes, at most {max_len} are allowed");
        return Err(DiskError::new(DiskOperation::Read, path, io::Error::new(io::ErrorKind::FileTooLarge, reason)));
    }
    let mut bytes = Vec::new();
    file.read_append(&mut bytes, len as usize, 0)?;
    Ok(Some(bytes))
}

/// Replaces (or creates) the file in one step: the bytes go to `<path>.tmp`, are synced, renamed over `path`, and the
/// folder is synced. When it returns `Ok` the new content survives a loss of power; after an error or a crash in
/// between, `path` holds either the old or the new content. A `.tmp` left over is removed by the next call: if its sync
/// failed, nothing that is written into that very file can be relied upon.
pub fn write_file_durably(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> Result<(), DiskError> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".tmp");
    let temporary = PathBuf::from(temporary);
    match disk.remove_file(&temporary) {
        Err(error) if error.kind != DiskErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let file = disk.open(&temporary, OpenMode::CreateNew)?;
    file.write_at(bytes, 0)?;
    file.sync()?;
    drop(file);
    disk.rename(&temporary, path)?;
    disk.sync_dir(path.parent().unwrap_or(Path::new(".")))
}
