// SPDX-License-Identifier: Apache-2.0
//! Which fetcher a followed partition belongs to. Must not know what a fetcher does.

use odradek_model::BrokerId;

use crate::ReplicaKey;

/// Fetchers of one leader that do not wait for each other: each has a connection of its own.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Lane {
    /// Partitions that are in sync or were: their lag holds back acknowledgements, so nothing slow may stand before
    /// them. There are `num.replica.fetchers` of them.
    Ordinary(u8),
    /// Beside an ordinary one whose request waits at the leader: what has just come to that fetcher does not wait with
    /// it. The next ordinary request takes it over.
    Newcomers(u8),
    /// Partitions that a reassignment adds and that have not caught up: large, throttled, in nobody's way.
    Reassignment,
}

/// Names a fetcher.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct FetcherId {
    /// Whom it asks.
    pub leader: BrokerId,
    /// On which connection.
    pub lane: Lane,
}

/// The fetcher of a partition. `is_added` says that a reassignment adds this broker's replica and that it has not
/// joined the ISR yet. `lanes` is `num.replica.fetchers`, at least 1. Partitions are spread by their ids, the partitions
/// of one topic evenly (`AbstractFetcherManager.getFetcherId`).
pub fn fetcher_of(leader: BrokerId, key: ReplicaKey, is_added: bool, lanes: u8) -> FetcherId {
    let lane = if is_added {
        Lane::Reassignment
    } else {
        let topic = key.topic.0.as_u128();
        let folded = (topic >> 64) as u64 ^ topic as u64;
        let spread = folded.wrapping_mul(31).wrapping_add(u64::from(key.partition.unsigned_abs()));
        Lane::Ordinary((spread % u64::from(lanes.max(1))) as u8)
    };
    FetcherId { leader, lane }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenarios::key;

    #[test]
    fn a_topics_partitions_are_spread_evenly_over_the_lanes() {
        let mut counts = [0; 4];
        for partition in 0..40 {
            match fetcher_of(BrokerId(1), key(7, partition), false, 4).lane {
                Lane::Ordinary(lane) => counts[usize::from(lane)] += 1,
                other => panic!("{other:?} is nobody's to begin with"),
            }
        }
        assert_eq!(counts, [10; 4]);
        let first = fetcher_of(BrokerId(1), key(7, 0), false, 4);
        assert_eq!(fetcher_of(BrokerId(1), key(7, 0), false, 4), first, "always the same");
    }

    #[test]
    fn what_a_reassignment_adds_has_a_lane_of_its_own() {
        assert_eq!(fetcher_of(BrokerId(1), key(7, 3), true, 4).lane, Lane::Reassignment);
        assert_eq!(fetcher_of(BrokerId(1), key(7, 3), false, 0).lane, Lane::Ordinary(0), "no lanes is one");
    }
}
