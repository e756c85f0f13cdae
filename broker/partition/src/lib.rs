// SPDX-License-Identifier: Apache-2.0
//! One replica of one partition: its log, leadership, high watermark, waiting produces and fetches.
//!
//! [`Partition`] is a state machine: calls come with the time, effects ([`Effect`]) go out to the caller, who wakes
//! tasks and runs syncs. It is meant to sit behind a mutex that is held for the log's writes only; a
//! [`PartitionView`], taken under the lock, reads without it. The log is behind a port ([`ReplicaLog`]),
//! which `odradek_log::Log` fulfils.
//!
//! Sources of the rules: `Partition.scala`, `ReplicaManager.scala`, `DelayedProduce`, `DelayedFetch` in Kafka.
//!
//! Invariant: must not know the wire, clocks, tasks, other partitions or how metadata travels. Replication adds a
//! follower beside `leader` and followers' progress in it; it moves no wall.

mod error;
mod leader;
mod log_port;
mod partition;
mod real_log;
mod view;
mod waits;

pub use error::{AppendError, LeadershipError, ListOffsetsError, ReadError};
pub use leader::Leadership;
pub use log_port::{
    AppendRefusal, FlushDone, FlushJob, LogAppended, LogReadError, ReplicaLog, ReplicaReader, StorageError, TimedOffset,
};
pub use partition::{Acks, Appended, Effect, Partition, PartitionSettings, ProduceOutcome, ProduceWait};
pub use view::{Fetched, Isolation, ListedOffset, OffsetSpec, PartitionView};
pub use waits::{WAITS_MAX, WaitError, WaitToken, Waiting};
