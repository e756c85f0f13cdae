// SPDX-License-Identifier: Apache-2.0
//! The group coordinator: Kafka's classic group protocol and committed offsets, as a state machine without I/O.
//!
//! One [`GroupCoordinator`] holds the groups of one partition of `__consumer_offsets`
//! ([`journal_partition`] tells which). Message and time go in, [`Effect`]s come out; the caller owns the journal, the
//! connections and the clock. Its duties, in order:
//!
//! 1. [`GroupCoordinator::new`], then [`GroupCoordinator::replay`] every record of the partition from its start, then
//!    [`GroupCoordinator::loaded`]. If one cannot be read, the partition is not served and nothing is written to it: a
//!    state with holes would be written anew at the head, and what it lacks be dropped.
//! 2. [`GroupCoordinator::handle`] each request; carry out the effects in order. Appends reach the journal in the order
//!    of the effects, each as one batch, and their outcomes come back by [`GroupCoordinator::appended`].
//! 3. [`GroupCoordinator::tick`] at [`GroupCoordinator::next_deadline`] (look again after every call).
//! 4. [`GroupCoordinator::topics_deleted`] when topics go.
//! 5. After appends: if [`should_rewrite`], carry out [`GroupCoordinator::rewrite`], and once it is committed *and
//!    fsynced* advance the log start to its first offset. Meanwhile requests that append wait while [`must_hold_back`].
//! 6. [`GroupCoordinator::unload`] when the partition's leadership goes.
//!
//! The crate must not know the wire protocol, tokio, clocks or randomness (the suffix of a new member id is part of the
//! request). Behaviour follows Kafka 4.4 (`GroupMetadataManager`, `ClassicGroup`, `OffsetMetadataManager`).

mod cell;
mod codec;
mod coordinator;
mod error;
mod group;
mod journal;
mod messages;
mod records;
mod settings;
mod timers;

pub use coordinator::{GroupCoordinator, GroupDescription, GroupSummary, MemberDescription};
pub use error::{AppendError, GroupError};
pub use group::GroupState;
pub use journal::{journal_partition, must_hold_back, should_rewrite};
pub use messages::{
    AppendToken, Effect, FetchedOffset, Heartbeat, JoinGroup, JoinGroupResponse, JoinedMember, JournalRecord,
    LeaveGroup, LeaveGroupResponse, MemberIdentity, OffsetCommit, OffsetCommitResponse, OffsetFetch,
    OffsetFetchResponse, PartitionCommit, Protocol, Request, RequestToken, Response, SyncGroup, SyncGroupResponse,
    TopicCommit, TopicCommitResult, TopicFetch, TopicOffsets,
};
pub use records::RecordError;
pub use settings::GroupSettings;
