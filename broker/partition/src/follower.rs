// SPDX-License-Identifier: Apache-2.0
//! The follower's side of a replica: whom it follows, what it asks next, where it cuts its log when the leader's
//! differs (`AbstractFetcherThread`). Decisions only; must not touch the log.

use bytes::Bytes;
use odradek_model::{BrokerId, LeaderEpoch, Offset, PartitionEpoch};

/// What the controller decided for a partition that another broker leads.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Followership {
    /// Who leads.
    pub leader: BrokerId,
    /// Rises with every election.
    pub leader_epoch: LeaderEpoch,
    /// Rises with every change of the partition.
    pub partition_epoch: PartitionEpoch,
}

/// Names a question to the leader; only the answer to the latest counts. A late answer could otherwise cut records
/// that the leader has counted since.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct AskNumber(pub u64);

/// A fetch to send to the leader.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct FetchPlan {
    /// Which question this is.
    pub number: AskNumber,
    /// Whom to ask.
    pub leader: BrokerId,
    /// The epoch in which it is believed to lead.
    pub leader_epoch: LeaderEpoch,
    /// The own log's end: everything below is here.
    pub fetch_offset: Offset,
    /// The latest epoch of the own log; `None` (-1) if it has none.
    pub last_fetched_epoch: Option<LeaderEpoch>,
    /// The own log's start.
    pub log_start_offset: Offset,
}

/// A question for the leader's log start and end (ListOffsets -2, and -1 without isolation).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct OffsetsPlan {
    /// Which question this is.
    pub number: AskNumber,
    /// Whom to ask.
    pub leader: BrokerId,
    /// The epoch in which it is believed to lead.
    pub leader_epoch: LeaderEpoch,
}

/// What a follower does next.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum FollowerStep {
    /// Send this fetch; a later step makes its answer void.
    Fetch(FetchPlan),
    /// Ask for the leader's offsets; a later step makes the answer void.
    AskOffsets(OffsetsPlan),
    /// The log was cut, at its end or its start: write the checkpoints first, then tell [`crate::Partition::checkpointed`].
    AwaitCheckpoint,
    /// `flush.messages=1`: what is claimed by a fetch must be forced first; ask again after
    /// [`crate::Partition::flushed`].
    AwaitFlush,
    /// Nothing before the metadata tells of another leader epoch, or for ever: not a follower, or closed.
    Nothing,
}

/// What the leader answered to a fetch. For any other error (6, 75, 3, 100, 103, 56, a lost connection) the caller
/// waits `replica.fetch.backoff.ms` and asks for the next step.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum FetchAnswer {
    /// Records, perhaps none.
    Records {
        /// Whole batches from the offset on; the first may begin below, the last may be cut off.
        records: Bytes,
        /// The leader's.
        high_watermark: Offset,
        /// The leader's.
        log_start_offset: Offset,
    },
    /// The logs differ: where the leader's ends in the largest epoch that it knows at or below the one asked for.
    Diverging {
        /// That epoch.
        epoch: LeaderEpoch,
        /// Its end.
        end_offset: Offset,
    },
    /// OFFSET_OUT_OF_RANGE 1.
    OutOfRange,
    /// FENCED_LEADER_EPOCH 74: the leader's epoch is over.
    Fenced,
}

/// The leader's log start and end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LeaderOffsets {
    /// First offset.
    pub log_start: Offset,
    /// The offset after the last record, committed or not.
    pub log_end: Offset,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Phase {
    Fetching,
    /// The last fetch was out of the leader's range.
    OutOfRange,
    /// The leader says that this epoch is over.
    Fenced,
}

/// The follower's side of a replica.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Follower {
    pub(crate) following: Followership,
    pub(crate) phase: Phase,
    /// The latest question, until it is answered.
    pub(crate) asked: Option<FollowerStep>,
}

impl Follower {
    pub(crate) fn new(following: Followership) -> Self {
        Self { following, phase: Phase::Fetching, asked: None }
    }
}

/// Where to cut, given where the leader's log ends in an epoch, the own log's largest epoch at or below that one with
/// its end, and the own log's end. If the own log does not know the leader's epoch, it is cut to the end of the largest
/// below, and the next fetch asks about that one.
pub(crate) fn truncation_offset(
    leader: (LeaderEpoch, Offset),
    own: Option<(LeaderEpoch, Offset)>,
    own_end: Offset,
) -> Offset {
    let (epoch, leader_end) = leader;
    match own {
        Some((own_epoch, own_epoch_end)) if own_epoch != epoch => own_epoch_end.min(own_end),
        Some((_, own_epoch_end)) => own_epoch_end.min(leader_end).min(own_end),
        None => leader_end.min(own_end),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cut_is_where_both_logs_may_still_be_equal() {
        for (leader, own, own_end, cut) in [
            // Both know the epoch: the shorter of the two.
            ((3, 20), Some((3, 25)), 30, 20),
            ((3, 30), Some((3, 25)), 40, 25),
            // The leader's epoch is unknown here: back to the end of the one below, then ask again.
            ((4, 30), Some((3, 25)), 40, 25),
            ((4, 10), Some((3, 25)), 40, 25),
            // Nothing known at all.
            ((4, 10), None, 40, 10),
            ((4, 50), None, 40, 40),
        ] {
            assert_eq!(truncation_offset(leader, own, own_end), cut, "{leader:?} {own:?} {own_end}");
        }
    }
}
