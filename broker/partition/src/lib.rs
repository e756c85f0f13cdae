// SPDX-License-Identifier: Apache-2.0
//! One replica of one partition: its log, its role, its high watermark, waiting produces and fetches.
//!
//! [`Partition`] is a state machine: calls come with the time, effects ([`Effect`]) go out to the caller, who wakes
//! tasks, runs syncs, writes checkpoints and talks to the controller. It is meant to sit behind a mutex that is held
//! for the log's writes only; a [`PartitionView`], taken under the lock, reads without it. Its ports are the log
//! ([`ReplicaLog`], which `odradek_log::Log` fulfils) and what the metadata says of other brokers ([`Brokers`]).
//!
//! # How to drive it
//! 1. **Metadata.** For every change of the partition, in the metadata's order: [`Partition::decide`], which leads,
//!    follows or resigns; [`Partition::close`] if it goes.
//! 2. **As leader.** [`Partition::append`] for produces, [`Partition::follower_fetch`] when a follower's fetch arrives,
//!    [`Partition::tick`] every half of `replica.lag.time.max.ms`, [`Partition::brokers_changed`] when the metadata says
//!    something new of brokers. [`Effect::ProposeIsr`] goes to the controller and its
//!    answer back by [`Partition::isr_answered`]; that it was committed comes with the metadata. One is on its way at
//!    a time.
//! 3. **As follower.** Loop: [`Partition::next_step`]; send what it says; give the answer to
//!    [`Partition::fetch_answered`] or [`Partition::offsets_answered`]; after an error, or when no answer comes, wait a
//!    little and ask for the next step. The log is cut and refilled by these calls alone.
//! 4. **In any role.** [`Effect::Flush`] and [`Effect::Checkpoint`] are done outside of the lock and reported by
//!    [`Partition::flushed`] and [`Partition::checkpointed`].
//!
//! # Departures from Kafka, each towards safety
//! - A leader forgets followers' progress with every leader epoch, also when it stays leader: metadata may have skipped
//!   an epoch in which a follower cut its log.
//! - The same decision heard twice does not drop an ISR change that is on its way.
//! - An ISR change counts as committed only by the metadata; each attempt at it is numbered ([`IsrChange::attempt`]).
//! - A follower's high watermark falls by a cut only, not with a new leader that is yet to learn it.
//! - With `flush.messages=1` a follower claims only what it has forced to the disk.
//!
//! Sources of the rules: `Partition.scala`, `Replica`, `AbstractFetcherThread`, `ReplicaFetcherThread`,
//! `ReplicaManager.scala`, `DelayedProduce`, `DelayedFetch` in Kafka.
//!
//! Invariant: must not know the wire, clocks, tasks, other partitions or how metadata travels.

mod brokers;
mod error;
mod follower;
mod high_watermark;
mod isr;
mod leader;
mod log_port;
mod partition;
mod planted;
mod progress;
mod read_replica;
mod real_log;
#[cfg(test)]
mod tests;
mod time;
mod view;
mod waits;

pub use brokers::{BrokerStatus, Brokers, LocalBroker};
pub use error::{
    AppendError, DeleteRecordsError, FollowError, FollowerFetchError, LeadershipError, ListOffsetsError, ReadError,
};
pub use follower::{AskNumber, FetchAnswer, FetchPlan, FollowerStep, Followership, LeaderOffsets, OffsetsPlan};
pub use isr::{IsrAnswer, IsrChange, IsrMember};
pub use leader::Leadership;
pub use log_port::{
    AppendRefusal, FlushDone, FlushJob, LogAppended, LogReadError, ReplicaLog, ReplicaReader, ReplicateRefusal,
    StorageError, TimedOffset,
};
pub use partition::{
    Acks, Appended, Decided, DeleteOutcome, DeleteRequested, Effect, FollowerFetch, FollowerFetched, Partition,
    PartitionSettings, ProduceOutcome, ProduceWait, Witnesses,
};
#[cfg(any(test, feature = "planted-bugs"))]
pub use planted::PlantedBug;
pub use read_replica::{ReadReplica, preferred_read_replica};
pub use time::MonotonicTime;
pub use view::{Fetched, Isolation, ListedOffset, OffsetSpec, PartitionView};
pub use waits::{WAITS_MAX, WaitError, WaitToken, Waiting};
