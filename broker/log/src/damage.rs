// SPDX-License-Identifier: Apache-2.0
//! Whether a log lacks what it must hold, and the mark in its folder that says so until that was told. Must not know whom.
//!
//! Recovery cuts what is damaged and makes anew what is gone, and the caller's checkpoints follow: to the next start the
//! log would look whole. So the mark, an empty file, is durable before recovery changes anything, and stays until
//! [`remove_damage_mark`].

use crate::recovery::RecoveryReport;
use odradek_disk::{Disk, DiskError, DiskFile, OpenMode};
use odradek_model::Offset;
use odradek_records::{Batch, BatchHeader, HEADER_BYTES};
use std::path::Path;

/// Name of the mark. Kafka passes over files whose suffix it does not know.
const MARK: &str = "damaged";

/// Bytes that a search for a later batch reads at once.
const SEARCH_BYTES: usize = 1 << 20;
/// Places that may look like a batch and be none before the search gives up: each costs a read of what it claims.
const FALSE_PLACES: usize = 16;

/// What must be in a log that a process before this one may have written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExpectedLog {
    /// Whether it is known to have been there.
    pub was_there: bool,
    /// It held everything below; 0 if unknown.
    pub end_offset: Offset,
    /// Whether nothing that was written can be lost: all logs were closed, or the kernel that took the bytes still runs.
    /// Otherwise a log may end anywhere.
    pub is_kept: bool,
    /// Whether everything below `end_offset` was forced to the disk, so that it is there whatever else was lost.
    pub is_forced: bool,
}

impl ExpectedLog {
    /// What the log lacks, in words, by where recovery says that it ends and is to be cut. `clean` if it was closed.
    pub(crate) fn damage(&self, clean: bool, report: &RecoveryReport) -> Option<String> {
        if !self.is_kept && !self.is_forced {
            return None;
        }
        // A process that is killed tears the batch that it writes; an orderly end tears nothing. A loss of power may spoil
        // what was not forced, which is the end of a log that is forced with each batch: were several of its last batches
        // on their way to the disk at once, this may say too much, and costs no record.
        let is_unexplained = clean || (self.is_kept && !report.is_torn) || (self.is_forced && report.hides_later);
        let cut = report.cut.as_ref().filter(|_| is_unexplained);
        let (end, expected) = (report.log_end_offset, self.end_offset);
        match cut {
            Some(cut) => Some(cut.clone()),
            None => (end < expected).then(|| format!("it ends at offset {end} and held everything up to {expected}")),
        }
    }
}

/// Marks the log in a folder, durably. The folder's own name is durable.
pub(crate) fn mark(disk: &dyn Disk, dir: &Path) -> Result<(), DiskError> {
    disk.open(&dir.join(MARK), OpenMode::Create)?;
    disk.sync_dir(dir)
}

/// Whether an earlier start has found the log damaged, and nobody was told.
pub(crate) fn is_marked(disk: &dyn Disk, dir: &Path) -> Result<bool, DiskError> {
    disk.exists(&dir.join(MARK))
}

/// Whoever had to know has been told that the log in this folder is damaged: later starts do not say it again. Durable
/// when it returns. Nothing happens where there is no mark, or no folder.
///
/// # Errors
/// The disk's. The mark may come back then.
pub fn remove_damage_mark(disk: &dyn Disk, dir: &Path) -> Result<(), DiskError> {
    match disk.remove_file(&dir.join(MARK)) {
        Ok(()) => disk.sync_dir(dir),
        Err(error) if error.is_not_found() => Ok(()),
        Err(error) => Err(error),
    }
}

/// Whether a whole batch of later records lies between two positions of a segment, of which the first is where a batch
/// that seems incomplete begins. If so nobody was killed while writing it: its length is damaged. `expected` is the offset
/// that is next there. One chunk of memory, or one batch if that is larger.
pub(crate) fn hides_later_batch(file: &dyn DiskFile, from: u64, to: u64, expected: Offset) -> Result<bool, DiskError> {
    let is_later =
        |header: &BatchHeader| (expected..expected.saturating_add(i64::from(i32::MAX))).contains(&header.base_offset);
    let (mut chunk, mut failed) = (Vec::new(), 0);
    // The batch itself begins at the first.
    let mut position = from + 1;
    while position + HEADER_BYTES as u64 <= to {
        let wanted = SEARCH_BYTES.min(usize::try_from(to - position).unwrap_or(SEARCH_BYTES));
        chunk.clear();
        file.read_append(&mut chunk, wanted, position)?;
        if chunk.len() < HEADER_BYTES {
            break;
        }
        for (at, bytes) in chunk.windows(HEADER_BYTES).enumerate() {
            let Ok(header) = BatchHeader::parse(bytes) else { continue };
            let place = position + at as u64;
            if !is_later(&header) || header.size_bytes() as u64 > to - place {
                continue;
            }
            let mut whole = Vec::new();
            file.read_append(&mut whole, header.size_bytes(), place)?;
            if Batch::parse(&whole).is_ok_and(|batch| batch.verify().is_ok()) {
                return Ok(true);
            }
            failed += 1;
            if failed == FALSE_PLACES {
                return Ok(false);
            }
        }
        position += (chunk.len() - HEADER_BYTES + 1) as u64;
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_end_of_the_last_process_explains_is_no_damage() {
        let kept = ExpectedLog { was_there: true, end_offset: 5, is_kept: true, is_forced: false };
        let lost_power = ExpectedLog { is_kept: false, ..kept };
        let forced = ExpectedLog { is_forced: true, ..lost_power };
        let whole = RecoveryReport { log_end_offset: 5, ..RecoveryReport::default() };
        let torn = RecoveryReport { cut: Some("torn".to_owned()), is_torn: true, ..whole.clone() };
        let broken = RecoveryReport { is_torn: false, ..torn.clone() };
        let amid = RecoveryReport { hides_later: true, ..broken.clone() };
        let short = RecoveryReport { log_end_offset: 4, ..whole.clone() };
        for (expected, clean, report, is_damaged) in [
            (kept, false, &whole, false),
            (kept, false, &torn, false),
            (kept, true, &torn, true),
            (kept, false, &broken, true),
            (kept, false, &short, true),
            (lost_power, false, &broken, false),
            (lost_power, false, &amid, false),
            (lost_power, false, &short, false),
            (forced, false, &broken, false),
            (forced, false, &amid, true),
            (forced, false, &short, true),
        ] {
            assert_eq!(expected.damage(clean, report).is_some(), is_damaged, "{expected:?}, {clean}, {report:?}");
        }
    }
}
