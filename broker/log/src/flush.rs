// SPDX-License-Identifier: Apache-2.0
//! Syncing a log without holding its writer: a handle with the open files, run on any thread, whose result the log then
//! takes note of. One run serves all appends before it (group commit). Must not know who waits for it.

use crate::error::FlushError;
use odradek_disk::{Disk, DiskFile};
use odradek_model::Offset;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Everything that must be synced for the records below an offset to survive a loss of power.
#[derive(Debug)]
#[must_use = "nothing is synced before `run`"]
pub struct FlushHandle {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) dir: PathBuf,
    pub(crate) files: Vec<Arc<dyn DiskFile>>,
    pub(crate) sync_dir: bool,
    pub(crate) names_changed: u64,
    pub(crate) up_to: Offset,
    pub(crate) truncations: u64,
    pub(crate) failed: Arc<AtomicBool>,
}

/// What a run made durable; for [`crate::Log::flushed_up_to`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "the log must take note of it"]
pub struct Flushed {
    /// Records below this offset survive a loss of power.
    pub up_to: Offset,
    pub(crate) truncations: u64,
    pub(crate) names_changed: u64,
}

impl FlushHandle {
    /// The offset below which records are durable once [`run`](Self::run) succeeds.
    pub fn up_to(&self) -> Offset {
        self.up_to
    }

    /// Syncs the files, then the folder if names in it are new. Blocks on the device.
    ///
    /// # Errors
    /// The log takes no more writes then; never retry (see [`FlushError`]).
    pub fn run(self) -> Result<Flushed, FlushError> {
        let synced = self
            .files
            .iter()
            .try_for_each(|file| file.sync())
            .and_then(|()| if self.sync_dir { self.disk.sync_dir(&self.dir) } else { Ok(()) });
        match synced {
            Ok(()) => {
                let Self { up_to, truncations, names_changed, .. } = self;
                Ok(Flushed { up_to, truncations, names_changed })
            }
            Err(error) => {
                self.failed.store(true, Ordering::Release);
                tracing::error!(%error, dir = %self.dir.display(), "a sync failed: the log takes no more writes");
                Err(FlushError(error))
            }
        }
    }
}
