// SPDX-License-Identifier: Apache-2.0
//! The journal's records in Kafka's formats for `__consumer_offsets`
//! (`group-coordinator/src/main/resources/common/message`): key = type as int16, then fields; value = version as
//! int16, then fields; a value of null is a tombstone. Must not know the coordinator.

use thiserror::Error;

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
}
