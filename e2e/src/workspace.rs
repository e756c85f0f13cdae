// SPDX-License-Identifier: Apache-2.0
//! The temporary folder of one run: locked while its owner lives, so that the next run can tell what
//! a killed run left behind and remove it. It must not know what is kept in it.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rustix::fs::{FlockOperation, flock};
use tempfile::TempDir;

/// A temporary folder that is removed on drop, or by the next [`Workspace::create`] of the same kind
/// when the process was killed before.
#[derive(Debug)]
pub struct Workspace {
    folder: TempDir,
    _lock: File,
}

const LOCK: &str = "in-use";

impl Workspace {
    /// Makes the folder `odradek-<kind>-<random>` in the system's temporary folder.
    pub fn create(kind: &str) -> Result<Self> {
        Self::remove_abandoned(kind)?;
        let folder = tempfile::Builder::new().prefix(&prefix(kind)).tempdir()?;
        // Locked before it has its name: between the two, another process would take it for one that is left over.
        let unnamed = folder.path().join("in-use.new");
        let lock = File::create(&unnamed)?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive)?;
        fs::rename(unnamed, folder.path().join(LOCK))?;
        Ok(Self { folder, _lock: lock })
    }

    /// Removes the folders of this kind that killed processes left.
    pub fn remove_abandoned(kind: &str) -> Result<()> {
        for left in abandoned(&prefix(kind)).context("the temporary folder cannot be read")? {
            // Another process may be removing it at the same time.
            let _ = fs::remove_dir_all(left);
        }
        Ok(())
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Writes a file into the folder, readable by the owner only, and returns its path.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> Result<PathBuf> {
        use std::io::Write as _;
        use std::os::unix::fs::OpenOptionsExt as _;
        let path = self.path().join(name);
        File::options()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&path)
            .and_then(|mut file| file.write_all(content.as_ref()))
            .with_context(|| format!("{} cannot be written", path.display()))?;
        Ok(path)
    }

    /// Makes a folder in the folder and returns its path.
    pub fn folder(&self, name: &str) -> Result<PathBuf> {
        let path = self.path().join(name);
        fs::create_dir_all(&path).with_context(|| format!("{} cannot be made", path.display()))?;
        Ok(path)
    }
}

fn prefix(kind: &str) -> String {
    format!("odradek-{kind}-")
}

/// Folders with this prefix whose owner is gone.
fn abandoned(prefix: &str) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(std::env::temp_dir())? {
        let entry = entry?;
        if !entry.file_name().to_string_lossy().starts_with(prefix) {
            continue;
        }
        // A folder without the file is one that its owner is just making.
        let Ok(lock) = File::open(entry.path().join(LOCK)) else { continue };
        if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok() {
            found.push(entry.path());
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_goes_with_its_owner_or_with_the_next_of_its_kind_and_never_while_it_is_in_use() {
        let kind = format!("test-{}", std::process::id());
        let first = Workspace::create(&kind).unwrap();
        let killed = Workspace::create(&kind).unwrap();
        // What a killed process leaves: the folder, with a lock that nobody holds.
        let left = killed.folder.path().to_owned();
        let Workspace { folder, _lock: lock } = killed;
        drop(lock);
        let _ = folder.keep();

        let third = Workspace::create(&kind).unwrap();
        assert!(!left.exists());
        assert!(first.path().exists() && third.path().exists());
        let path = third.path().to_owned();
        drop(third);
        assert!(!path.exists());
    }
}
