// SPDX-License-Identifier: Apache-2.0
//! Which leader epoch began at which offset (KIP-101, `LeaderEpochFileCache`), kept in `leader-epoch-checkpoint`.
//!
//! Epochs and start offsets both rise. The file is text in Kafka's checkpoint form: version 0, count, then one
//! `epoch start` line each. Must not know who leads.
//!
//! With each failover thousands of logs get one epoch more. So a short file to which a line is added is written where it
//! is, which costs one sync and no new file. What a loss of power may leave of that is the old text, the new one, or one
//! whose count does not fit its lines, which is seen as damage: then the epochs are rebuilt from the batches.

use crate::checkpoint::{checkpoint_lines, checkpoint_text};
use crate::file_names::LEADER_EPOCH_CHECKPOINT;
use odradek_disk::{Disk, DiskError, DiskErrorKind, OpenMode, read_small_file, write_file_durably};
use odradek_model::{LeaderEpoch, Offset};
use std::path::{Path, PathBuf};

/// Largest file that is read: 100,000 leader changes, far more than retention leaves.
const FILE_BYTES_MAX: usize = 4 << 20;

/// Longest text that is written in place, and remembered for it: a page, some 300 epochs. Longer ones are replaced.
const IN_PLACE_BYTES_MAX: usize = 4 << 10;

/// One epoch and its first offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EpochEntry {
    /// The epoch.
    pub epoch: LeaderEpoch,
    /// First offset written in it.
    pub start_offset: Offset,
}

/// The epochs of one log. Bounded by retention: [`EpochCache::truncate_from_start`] drops what the log no longer holds.
#[derive(Debug, Clone)]
pub(crate) struct EpochCache {
    path: PathBuf,
    entries: Vec<EpochEntry>,
    /// Whether the file has epochs that must not be believed, because it could not be written: no batch may be written
    /// before it is.
    unstored: bool,
    /// The text of the file, if it is short and known to be whole.
    stored: Option<String>,
}

impl EpochCache {
    pub(crate) fn empty(dir: &Path) -> Self {
        Self { path: dir.join(LEADER_EPOCH_CHECKPOINT), entries: Vec::new(), unstored: false, stored: None }
    }

    /// The stored epochs; `None` if the file is missing or damaged, so that they must be rebuilt from the batches.
    pub(crate) fn load(disk: &dyn Disk, dir: &Path) -> Result<Option<Self>, DiskError> {
        let path = dir.join(LEADER_EPOCH_CHECKPOINT);
        let bytes = match read_small_file(disk, &path, FILE_BYTES_MAX) {
            Ok(Some(bytes)) => bytes,
            Ok(None) => return Ok(None),
            Err(error) if error.kind == DiskErrorKind::TooLarge => return Ok(None),
            Err(error) => return Err(error),
        };
        let Some(entries) = Self::parse(&bytes) else { return Ok(None) };
        let stored = String::from_utf8(bytes).ok().filter(|text| text.len() <= IN_PLACE_BYTES_MAX);
        Ok(Some(Self { path, entries, unstored: false, stored }))
    }

    fn parse(bytes: &[u8]) -> Option<Vec<EpochEntry>> {
        let entries = checkpoint_lines(bytes)?
            .map(|line| {
                let (epoch, start) = line.split_once(' ')?;
                Some(EpochEntry { epoch: epoch.parse().ok()?, start_offset: start.parse().ok()? })
            })
            .collect::<Option<Vec<_>>>()?;
        let sane = entries.iter().all(|entry| entry.epoch >= 0 && entry.start_offset >= 0)
            && entries
                .windows(2)
                .all(|pair| pair[0].epoch < pair[1].epoch && pair[0].start_offset <= pair[1].start_offset);
        sane.then_some(entries)
    }

    /// Writes the file; durable when it returns.
    pub(crate) fn store(&mut self, disk: &dyn Disk) -> Result<(), DiskError> {
        let lines = self.entries.iter().map(|entry| format!("{} {}", entry.epoch, entry.start_offset));
        let text = checkpoint_text(lines);
        self.unstored = true;
        if self.stored.take().is_some_and(|stored| only_adds_lines(&stored, &text)) {
            let file = disk.open(&self.path, OpenMode::ReadWrite)?;
            file.write_at(text.as_bytes(), 0)?;
            file.sync()?;
        } else {
            write_file_durably(disk, &self.path, text.as_bytes())?;
        }
        self.unstored = false;
        self.stored = Some(text).filter(|text| text.len() <= IN_PLACE_BYTES_MAX);
        Ok(())
    }

    /// The file may hold what these entries do not say: another set of them could not be written.
    pub(crate) fn doubt_the_file(&mut self) {
        self.unstored = true;
        self.stored = None;
    }

    /// As [`store`](Self::store), but a full disk is no error: the next append finds the epochs
    /// [unstored](Self::is_unstored).
    pub(crate) fn store_if_there_is_room(&mut self, disk: &dyn Disk) -> Result<(), DiskError> {
        match self.store(disk) {
            Err(error) if error.is_no_space() => {
                tracing::warn!(%error, "leader epochs are not stored for now");
                Ok(())
            }
            stored => stored,
        }
    }

    /// Whether the last attempt to write the file failed.
    pub(crate) fn is_unstored(&self) -> bool {
        self.unstored
    }

    pub(crate) fn entries(&self) -> &[EpochEntry] {
        &self.entries
    }

    pub(crate) fn latest(&self) -> Option<LeaderEpoch> {
        self.entries.last().map(|entry| entry.epoch)
    }

    /// Notes that `epoch` begins at `start_offset`, dropping entries that contradict it. Whether anything changed.
    pub(crate) fn assign(&mut self, epoch: LeaderEpoch, start_offset: Offset) -> bool {
        if let Some(last) = self.entries.last()
            && last.epoch == epoch
            && start_offset >= last.start_offset
        {
            return false;
        }
        while self.entries.last().is_some_and(|last| last.epoch >= epoch || last.start_offset >= start_offset) {
            self.entries.pop();
        }
        self.entries.push(EpochEntry { epoch, start_offset });
        true
    }

    /// Answers OffsetForLeaderEpoch: the largest epoch at or below the asked one, and where the next began.
    /// The latest epoch ends at the log's end; a higher one is unknown; one below all gets the first start.
    pub(crate) fn end_offset(&self, epoch: LeaderEpoch, log_end: Offset) -> Option<(LeaderEpoch, Offset)> {
        if epoch < 0 {
            return None;
        }
        let after = self.entries.partition_point(|entry| entry.epoch <= epoch);
        let Some(next) = self.entries.get(after) else {
            let last = self.entries.last()?;
            return (last.epoch == epoch).then_some((epoch, log_end));
        };
        let found = after.checked_sub(1).map_or(epoch, |at| self.entries[at].epoch);
        Some((found, next.start_offset))
    }

    /// The epoch that the record at `offset` was written in.
    pub(crate) fn epoch_at(&self, offset: Offset) -> Option<LeaderEpoch> {
        let after = self.entries.partition_point(|entry| entry.start_offset <= offset);
        after.checked_sub(1).map(|at| self.entries[at].epoch)
    }

    /// Drops epochs that begin after the log's end. One that begins right at the end stays: it was assigned before
    /// anything was written in it. Whether anything changed.
    pub(crate) fn truncate_from_end(&mut self, log_end: Offset) -> bool {
        let before = self.entries.len();
        self.entries.retain(|entry| entry.start_offset <= log_end);
        before != self.entries.len()
    }

    /// Drops epochs of which the log holds no record any more. They may stay in the file until it is next written: a
    /// start drops them again.
    pub(crate) fn truncate_from_start(&mut self, log_start: Offset) {
        let after = self.entries.partition_point(|entry| entry.start_offset <= log_start);
        let Some(current) = after.checked_sub(1) else { return };
        self.entries.drain(..current);
        self.entries[0].start_offset = log_start;
    }
}

/// Whether the new text differs from the old one by lines at its end and by their count alone, so that any mix of both is
/// seen as damage.
fn only_adds_lines(old: &str, new: &str) -> bool {
    fn parts(text: &str) -> Option<(&str, &str)> {
        text.strip_prefix("0\n")?.split_once('\n')
    }
    let (Some((old_count, old_lines)), Some((new_count, new_lines))) = (parts(old), parts(new)) else { return false };
    new.len() <= IN_PLACE_BYTES_MAX && old_count.len() == new_count.len() && new_lines.starts_with(old_lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache(entries: &[(LeaderEpoch, Offset)]) -> EpochCache {
        let mut cache = EpochCache::empty(Path::new("a-0"));
        for (epoch, start) in entries {
            assert!(cache.assign(*epoch, *start));
        }
        cache
    }

    #[test]
    fn end_offsets_follow_the_rule_of_leader_epochs() {
        let cache = cache(&[(2, 10), (3, 20), (7, 50)]);
        for (asked, expected) in [
            (-1, None),
            (0, Some((0, 10))),
            (2, Some((2, 20))),
            (3, Some((3, 50))),
            (5, Some((3, 50))),
            (7, Some((7, 99))),
            (8, None),
        ] {
            assert_eq!(cache.end_offset(asked, 99), expected, "epoch {asked}");
        }
        assert_eq!(EpochCache::empty(Path::new("a-0")).end_offset(0, 99), None);
        assert_eq!([9, 10, 49, 50].map(|o| cache.epoch_at(o)), [None, Some(2), Some(3), Some(7)]);
    }

    #[test]
    fn a_contradicting_assignment_drops_what_it_contradicts() {
        let mut cache = cache(&[(2, 10), (3, 20), (7, 50)]);
        assert!(!cache.assign(7, 60), "the same epoch later");
        assert!(cache.assign(8, 50), "nothing was written in 7");
        assert!(cache.assign(9, 15));
        assert_eq!(
            cache.entries(),
            [EpochEntry { epoch: 2, start_offset: 10 }, EpochEntry { epoch: 9, start_offset: 15 }]
        );
    }

    #[test]
    fn truncation_at_both_ends() {
        let mut cache = cache(&[(2, 10), (3, 20), (7, 50)]);
        assert!(!cache.truncate_from_end(50));
        assert!(cache.truncate_from_end(49));
        for _ in 0..2 {
            cache.truncate_from_start(25);
        }
        assert_eq!(cache.entries(), [EpochEntry { epoch: 3, start_offset: 25 }]);
    }

    #[test]
    fn a_line_more_is_written_in_place_and_any_part_of_that_is_old_new_or_damage() {
        let texts =
            [("0\n1\n2 10\n", "0\n2\n2 10\n13 200\n"), ("0\n2\n2 10\n3 20\n", "0\n4\n2 10\n3 20\n4 20\n7 31\n")];
        for (old, new) in texts {
            assert!(only_adds_lines(old, new));
            let parsed = [old, new].map(|text| EpochCache::parse(text.as_bytes()));
            // Each byte of the count and of the new lines has arrived or not; a length may be there before its bytes.
            for with_count in [false, true] {
                for arrived in old.len()..=new.len() {
                    for len in arrived..=new.len() {
                        let mut left = new.as_bytes()[..arrived].to_vec();
                        left.resize(len, 0);
                        if !with_count {
                            left[2] = old.as_bytes()[2];
                        }
                        let found = EpochCache::parse(&left);
                        assert!(found.is_none() || parsed.contains(&found), "{:?}", String::from_utf8_lossy(&left));
                    }
                }
            }
        }
        assert!(!only_adds_lines("0\n2\n2 10\n3 20\n", "0\n2\n2 10\n4 20\n"), "a line is replaced");
        let nine = (1..=9).fold(String::new(), |text, epoch| text + &format!("{epoch} 0\n"));
        let (old, new) = (format!("0\n9\n{nine}"), format!("0\n10\n{nine}10 0\n"));
        assert!(!only_adds_lines(&old, &new), "the lines move");
    }

    #[test]
    fn damaged_files_are_seen() {
        let good = "0\n2\n2 10\n3 20\n";
        assert_eq!(EpochCache::parse(good.as_bytes()).map(|entries| entries.len()), Some(2));
        for cut in 0..good.len() {
            assert_eq!(EpochCache::parse(&good.as_bytes()[..cut]), None, "cut at {cut}");
        }
        for bad in ["0\n1\n2 10\n3 20\n", "1\n0\n", "0\n2\n3 20\n2 30\n", "0\n1\nx 1\n", "0\n1\n1 -1\n"] {
            assert_eq!(EpochCache::parse(bad.as_bytes()), None, "{bad:?}");
        }
    }
}
