// SPDX-License-Identifier: Apache-2.0
//! Names of the files in a partition's folder (`LogFileUtils` in Kafka). Must not know what is in them.

use odradek_model::Offset;
use std::path::{Path, PathBuf};

/// Leader epochs and where each began.
pub(crate) const LEADER_EPOCH_CHECKPOINT: &str = "leader-epoch-checkpoint";
/// The topic's id.
pub(crate) const PARTITION_METADATA: &str = "partition.metadata";

/// The files that are named for an offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FileKind {
    /// Record batches.
    Log,
    /// Offset to position.
    OffsetIndex,
    /// Timestamp to offset.
    TimeIndex,
    /// Producer states before the offset.
    ProducerSnapshot,
    /// What a crash left over: files in the making or marked for removal.
    Leftover,
}

impl FileKind {
    fn suffix(self) -> &'static str {
        match self {
            Self::Log => ".log",
            Self::OffsetIndex => ".index",
            Self::TimeIndex => ".timeindex",
            Self::ProducerSnapshot => ".snapshot",
            Self::Leftover => ".tmp",
        }
    }

    /// `<dir>/<offset in 20 digits><suffix>`.
    pub(crate) fn path(self, dir: &Path, offset: Offset) -> PathBuf {
        dir.join(format!("{offset:020}{}", self.suffix()))
    }

    /// Kind and offset of a name; `None` for one that is not ours.
    pub(crate) fn parse(name: &str) -> Option<(Self, Offset)> {
        if matches!(name.rsplit_once('.'), Some((_, "tmp" | "deleted" | "cleaned"))) {
            return Some((Self::Leftover, 0));
        }
        let (digits, _) = name.split_once('.')?;
        if digits.len() != 20 || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        let offset = digits.parse().ok()?;
        [Self::Log, Self::OffsetIndex, Self::TimeIndex, Self::ProducerSnapshot]
            .into_iter()
            .find(|kind| &name[20..] == kind.suffix())
            .map(|kind| (kind, offset))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_kafkas_and_parse_back() {
        let path = FileKind::TimeIndex.path(Path::new("a-0"), 42);
        assert_eq!(path, Path::new("a-0/00000000000000000042.timeindex"));
        assert_eq!(FileKind::parse("00000000000000000042.timeindex"), Some((FileKind::TimeIndex, 42)));
        assert_eq!(FileKind::parse("00000000000000000042.log.deleted"), Some((FileKind::Leftover, 0)));
        for name in ["42.log", "leader-epoch-checkpoint", "00000000000000000042.txt", "99999999999999999999.log", ""] {
            assert_eq!(FileKind::parse(name), None, "{name}");
        }
    }
}
