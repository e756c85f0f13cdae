// SPDX-License-Identifier: Apache-2.0
//! Kafka's text checkpoints (`CheckpointFile`): version line 0, count line, one line per entry; and the files of a
//! data folder in that form that hold one offset per partition: `recovery-point-offset-checkpoint`,
//! `log-start-offset-checkpoint`, `replication-offset-checkpoint`. Must not know what the offsets mean.

use odradek_disk::{Disk, DiskError, DiskErrorKind, read_small_file, write_file_durably};
use odradek_model::{Offset, TopicName, TopicPartition};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

/// Name of the checkpoint with the offset below which each log is synced.
pub const RECOVERY_POINT_CHECKPOINT: &str = "recovery-point-offset-checkpoint";
/// Name of the checkpoint with each log's first offset, where it lies inside a segment.
pub const LOG_START_CHECKPOINT: &str = "log-start-offset-checkpoint";
/// Name of the checkpoint with each replica's high watermark.
pub const HIGH_WATERMARK_CHECKPOINT: &str = "replication-offset-checkpoint";

/// Largest checkpoint that is read: 100,000 partitions with names of 249 characters are 28 MB.
const FILE_BYTES_MAX: usize = 64 << 20;

/// The text of a checkpoint.
pub(crate) fn checkpoint_text(lines: impl ExactSizeIterator<Item = String>) -> String {
    let mut text = format!("0\n{}\n", lines.len());
    for line in lines {
        let _ = writeln!(text, "{line}");
    }
    text
}

/// The entry lines of a checkpoint; `None` if it is damaged: not text, another version, another number of lines, or no
/// line feed at its end.
pub(crate) fn checkpoint_lines(bytes: &[u8]) -> Option<impl Iterator<Item = &str>> {
    let text = std::str::from_utf8(bytes).ok()?.strip_suffix('\n')?;
    let mut lines = text.split('\n').map(|line| line.strip_suffix('\r').unwrap_or(line));
    if lines.next()? != "0" {
        return None;
    }
    let count: usize = lines.next()?.parse().ok()?;
    (lines.clone().count() == count).then_some(lines)
}

/// One offset per partition, as read from or written to a checkpoint of a data folder.
pub type PartitionOffsets = BTreeMap<TopicPartition, Offset>;

/// Reads a checkpoint of the data folder. A missing or damaged one gives no offsets (`damaged` is true then): all it
/// costs is a longer recovery, so it never stops a start.
pub fn read_offset_checkpoint(disk: &dyn Disk, path: &Path) -> Result<(PartitionOffsets, bool), DiskError> {
    let bytes = match read_small_file(disk, path, FILE_BYTES_MAX) {
        Ok(Some(bytes)) => bytes,
        Ok(None) => return Ok((PartitionOffsets::new(), false)),
        Err(error) if error.kind == DiskErrorKind::TooLarge => return Ok((PartitionOffsets::new(), true)),
        Err(error) => return Err(error),
    };
    Ok(parse(&bytes).map_or_else(|| (PartitionOffsets::new(), true), |offsets| (offsets, false)))
}

fn parse(bytes: &[u8]) -> Option<PartitionOffsets> {
    checkpoint_lines(bytes)?
        .map(|line| {
            let mut fields = line.split(' ');
            let topic = TopicName::new(fields.next()?).ok()?;
            let partition: i32 = fields.next()?.parse().ok()?;
            let offset: Offset = fields.next()?.parse().ok()?;
            let sane = partition >= 0 && offset >= 0 && fields.next().is_none();
            sane.then_some((TopicPartition { topic, partition }, offset))
        })
        .collect()
}

/// Replaces a checkpoint of the data folder; durable when it returns.
pub fn write_offset_checkpoint(disk: &dyn Disk, path: &Path, offsets: &PartitionOffsets) -> Result<(), DiskError> {
    let lines = offsets.iter().map(|(of, offset)| format!("{} {} {offset}", of.topic, of.partition));
    write_file_durably(disk, path, checkpoint_text(lines).as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_form_is_kafkas_and_damage_is_seen() {
        let offsets = parse(b"0\n2\na.b 0 5\na.b 12 7\n").expect("good");
        assert_eq!(offsets.values().copied().collect::<Vec<_>>(), [5, 7]);
        for bad in ["0\n1\na 0 5\nb 0 6\n", "0\n1\na 0\n", "0\n1\na 0 -5\n", "0\n1\na/b 0 5\n", "0\n1\na 0 5 6\n", ""] {
            assert_eq!(parse(bad.as_bytes()), None, "{bad:?}");
        }
    }
}
