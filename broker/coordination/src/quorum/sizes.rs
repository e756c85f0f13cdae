// SPDX-License-Identifier: Apache-2.0
//! How many voters decide: the quorums by the number of voters, and what a set of acknowledgements commits. Pure.

use std::collections::BTreeSet;

use odradek_model::Offset;

use crate::Voter;

/// Voters of one metadata log. More would make each commit wait for more fsyncs and help nobody: five survive two
/// deaths at once.
pub const MAX_VOTERS: usize = 5;

/// The voters of the metadata log at one moment.
pub type VoterSet = BTreeSet<Voter>;

/// How many voters must have fsynced a record: all of one or two, else a majority.
pub fn commit_quorum(voters: usize) -> usize {
    if voters <= 2 { voters } else { voters / 2 + 1 }
}

/// How many voters must promise an epoch, so that at least one of them has whatever was committed before.
///
/// # Panics
/// Without voters.
pub fn promise_quorum(voters: usize) -> usize {
    assert!(voters > 0, "nobody can promise for no voters");
    voters - commit_quorum(voters) + 1
}

/// Up to where a commit quorum of every set has the log; 0 without sets. `end_of` is a voter's acknowledged end.
pub(super) fn quorum_end<'a>(
    sets: impl IntoIterator<Item = &'a VoterSet>,
    end_of: impl Fn(&Voter) -> Offset,
) -> Offset {
    let reached = |set: &VoterSet| {
        let mut ends: Vec<Offset> = set.iter().map(&end_of).collect();
        ends.sort_unstable_by(|a, b| b.cmp(a));
        ends.get(commit_quorum(set.len()).wrapping_sub(1)).copied().unwrap_or(0)
    };
    sets.into_iter().map(reached).min().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use odradek_model::{BrokerId, DirectoryId};

    use super::*;

    fn voter(id: i32) -> Voter {
        Voter { broker_id: BrokerId(id), directory_id: DirectoryId(uuid::Uuid::from_u128(id as u128)) }
    }

    #[test]
    fn the_quorums_are_those_of_the_protocol_and_always_meet() {
        let table: Vec<_> = (1..=5).map(|n| (commit_quorum(n), promise_quorum(n))).collect();
        assert_eq!(table, [(1, 1), (2, 1), (2, 2), (3, 2), (3, 3)]);
        for n in 1..=MAX_VOTERS {
            assert!(commit_quorum(n) + promise_quorum(n) > n, "{n}: some voter is in both");
        }
    }

    #[test]
    fn a_record_is_committed_when_every_set_has_its_quorum() {
        let ends = [9, 7, 5, 3, 1];
        let end_of = |voter: &Voter| ends[voter.broker_id.0 as usize];
        let set = |ids: &[i32]| ids.iter().map(|id| voter(*id)).collect::<VoterSet>();
        for (ids, end) in [(&[0][..], 9), (&[0, 4], 1), (&[0, 1, 2], 7), (&[0, 1, 2, 3], 5), (&[0, 1, 2, 3, 4], 5)] {
            assert_eq!(quorum_end([&set(ids)], end_of), end, "{ids:?}");
        }
        assert_eq!(quorum_end([&set(&[0, 1, 2]), &set(&[0, 4])], end_of), 1, "both sets count");
        assert_eq!(quorum_end([], end_of), 0);
    }
}
