// SPDX-License-Identifier: Apache-2.0
//! The log of one partition: segments of record batches in Kafka's files, byte for byte.
//!
//! A folder `<topic>-<partition>` holds for each segment `<base offset>.log` (batches v2), `.index` and `.timeindex`
//! (written when the segment is sealed or the log closed; made anew if missing), producer `.snapshot`s, and
//! `leader-epoch-checkpoint` and `partition.metadata`. Kafka's DumpLogSegments reads them.
//!
//! [`Log`] is the one writer; an append is one positional write. [`LogReader`]s read beside it. Syncing goes through a
//! [`FlushHandle`] off the writer. The caller keeps the recovery point and the log start (see [`write_offset_checkpoint`])
//! and says at [`Log::open`] whether the log was closed cleanly, and what it must hold.
//!
//! Must not know: clocks (time is a parameter), the high watermark (an offset up to which is a parameter), the wire
//! protocol, threads.

mod cache;
mod checkpoint;
mod damage;
mod epochs;
mod error;
mod file_names;
mod flush;
mod index;
mod locate;
mod log;
mod maintenance;
mod partition_metadata;
mod producers;
mod reader;
mod recovery;
mod scan;
mod segment;
mod settings;

pub use cache::SegmentCache;
pub use checkpoint::{
    HIGH_WATERMARK_CHECKPOINT, LOG_START_CHECKPOINT, PartitionOffsets, RECOVERY_POINT_CHECKPOINT,
    read_offset_checkpoint, write_offset_checkpoint,
};
pub use damage::{ExpectedLog, remove_damage_mark};
pub use epochs::EpochEntry;
pub use error::{AppendError, FlushError, LogError, ReadError};
pub use flush::{FlushHandle, Flushed};
pub use log::{Appended, Log, LogOptions};
pub use maintenance::Deleted;
pub use odradek_disk::FileRegion;
pub use partition_metadata::read_topic_id;
pub use reader::{FoundTimestamp, HOT_BYTES, LogReader, LogSlice};
pub use recovery::{RecoveryProgress, RecoveryReport};
pub use settings::LogSettings;
