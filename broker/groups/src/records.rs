// SPDX-License-Identifier: Apache-2.0
//! The journal's records in Kafka's formats for `__consumer_offsets`
//! (`group-coordinator/src/main/resources/common/message`): key = type as int16, then fields; value = version as
//! int16, then fields; a value of null is a tombstone. Must not know the coordinator.

mod group_metadata;
mod offset_commit;

use std::sync::Arc;

pub(crate) use group_metadata::{GroupValue, MemberValue, decode_group_value, encode_group_value, group_key};
pub(crate) use offset_commit::{CommittedOffset, decode_offset_value, encode_offset_value, offset_key};
use thiserror::Error;

use crate::codec::Reader;

/// Longest text of a key: its length is an int16.
pub(crate) const MAX_KEY_TEXT: usize = i16::MAX as usize;

/// Why bytes are no record of the journal.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
pub enum RecordError {
    /// The bytes end too early, or a length or text in them is impossible.
    #[error("malformed {what} at byte {position}")]
    Malformed {
        /// Which record.
        what: &'static str,
        /// Where reading failed.
        position: usize,
    },
    /// A version of a value that is newer than this program.
    #[error("{what} has version {version}, known are 0 to {newest}")]
    Version {
        /// Which record.
        what: &'static str,
        /// The version found.
        version: i16,
        /// The newest one known.
        newest: i16,
    },
    /// A record of a group protocol that this program does not know.
    #[error("unknown type {0} of a group journal's record")]
    UnknownType(i16),
}

/// What a record is about.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum RecordKey {
    /// Types 0 and 1.
    Offset { group: Arc<str>, topic: Arc<str>, partition: i32 },
    /// Type 2.
    Group { group: Arc<str> },
}

impl RecordKey {
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        let mut reader = Reader::new("record key", bytes);
        match reader.i16()? {
            0 | 1 => Ok(Self::Offset {
                group: Arc::from(reader.text(false)?),
                topic: Arc::from(reader.text(false)?),
                partition: reader.i32()?,
            }),
            2 => Ok(Self::Group { group: Arc::from(reader.text(false)?) }),
            other => Err(RecordError::UnknownType(other)),
        }
    }
}

/// Reads a value's version and checks it.
fn version(reader: &mut Reader<'_>, what: &'static str, newest: i16) -> Result<i16, RecordError> {
    let version = reader.i16()?;
    if (0..=newest).contains(&version) { Ok(version) } else { Err(RecordError::Version { what, version, newest }) }
}

#[cfg(test)]
mod tests;
