// SPDX-License-Identifier: Apache-2.0
//! `partition.metadata`: the topic id that a partition's folder belongs to (`PartitionMetadataFile` in Kafka), by which
//! strays of deleted topics are known. Must not know which topics exist.

use crate::error::LogError;
use crate::file_names::PARTITION_METADATA;
use odradek_disk::{Disk, DiskError, DiskErrorKind, read_small_file, write_file_durably};
use odradek_model::TopicId;
use std::path::Path;

/// Longest file that is read: two short lines.
const FILE_BYTES_MAX: usize = 1024;

/// The topic id in a partition's folder; `None` if the file is missing or damaged.
pub fn read_topic_id(disk: &dyn Disk, dir: &Path) -> Result<Option<TopicId>, DiskError> {
    let bytes = match read_small_file(disk, &dir.join(PARTITION_METADATA), FILE_BYTES_MAX) {
        Ok(Some(bytes)) => bytes,
        Ok(None) => return Ok(None),
        Err(error) if error.kind == DiskErrorKind::TooLarge => return Ok(None),
        Err(error) => return Err(error),
    };
    Ok(parse(&bytes))
}

fn parse(bytes: &[u8]) -> Option<TopicId> {
    let mut lines = std::str::from_utf8(bytes).ok()?.lines();
    let version = lines.next()?.strip_prefix("version:")?.trim();
    let id = lines.next()?.strip_prefix("topic_id:")?.trim();
    if version != "0" {
        return None;
    }
    id.parse().ok().filter(|id: &TopicId| !id.is_zero())
}

/// Checks that the folder belongs to the topic, and says so in it if it does not say anything yet.
pub(crate) fn claim(disk: &dyn Disk, dir: &Path, topic_id: TopicId) -> Result<(), LogError> {
    match read_topic_id(disk, dir)? {
        Some(found) if found == topic_id => Ok(()),
        Some(found) => Err(LogError::TopicIdMismatch {
            dir: dir.to_path_buf(),
            found: found.to_string(),
            expected: topic_id.to_string(),
        }),
        None => {
            let text = format!("version: 0\ntopic_id: {topic_id}");
            Ok(write_file_durably(disk, &dir.join(PARTITION_METADATA), text.as_bytes())?)
        }
    }
}
