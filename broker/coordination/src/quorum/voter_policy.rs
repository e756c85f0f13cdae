// SPDX-License-Identifier: Apache-2.0
//! Which brokers should be voters, one change at a time. Pure; rule 6 decides whether a change is safe now.
//!
//! 1, 2, 3, 3 voters for one to four brokers, five for more, spread over racks. Of two voters a dead one is dropped at
//! once; of three to five it is replaced after a while, or at once if its folder is gone for good, or dropped if there is
//! nobody to replace it. On a set that is as it should be there is no change.

use std::collections::BTreeMap;

use super::{MAX_VOTERS, VoterSet};
use crate::Voter;

/// A broker as the controller sees it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Member {
    /// Its present folder.
    pub(super) voter: Voter,
    /// Its rack; brokers without one share none.
    pub(super) rack: Option<String>,
    /// Whether it is heard.
    pub(super) alive: bool,
    /// Whether it has been dead for so long, or is so surely gone, that it is to be replaced.
    pub(super) gone: bool,
    /// Whether its log reaches the commit point.
    pub(super) caught_up: bool,
}

/// A change by one voter.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum VoterChange {
    /// One more.
    Add(Voter),
    /// One less.
    Drop(Voter),
}

impl VoterChange {
    /// The set after it.
    pub(super) fn applied(self, voters: &VoterSet) -> VoterSet {
        let mut voters = voters.clone();
        match self {
            Self::Add(voter) => voters.insert(voter),
            Self::Drop(voter) => voters.remove(&voter),
        };
        voters
    }
}

/// Voters wanted for so many brokers.
pub(super) fn wanted(brokers: usize) -> usize {
    match brokers {
        0..=2 => brokers.max(1),
        3 | 4 => 3,
        _ => MAX_VOTERS,
    }
}

/// The next change, if one is due. `members` holds every broker the controller knows, itself (`me`) included, and every
/// voter; a voter that is not among them is gone.
pub(super) fn next_change(me: Voter, voters: &VoterSet, members: &[Member]) -> Option<VoterChange> {
    let member = |voter: &Voter| members.iter().find(|member| member.voter == *voter);
    let others = || voters.iter().filter(|voter| **voter != me);
    if voters.len() == 2
        && let Some(dead) = others().find(|voter| member(voter).is_none_or(|member| !member.alive))
    {
        return Some(VoterChange::Drop(*dead));
    }
    let target = wanted(members.iter().filter(|member| !member.gone).count());
    let racks = Racks::of(voters, members);
    let addable = racks.best_to_add(voters, members);
    if let Some(gone) = others().find(|voter| member(voter).is_none_or(|member| member.gone)) {
        return Some(match addable {
            Some(addable) if voters.len() <= target && voters.len() < MAX_VOTERS => VoterChange::Add(addable.voter),
            _ => VoterChange::Drop(*gone),
        });
    }
    if voters.len() < target {
        return addable.map(|addable| VoterChange::Add(addable.voter));
    }
    let crowded = racks.most_crowded(me, voters, members);
    if voters.len() > target {
        return crowded.map(|(voter, _)| VoterChange::Drop(voter));
    }
    // A voter in a rack that has none is worth more than a second one elsewhere.
    let all_alive = voters.iter().all(|voter| member(voter).is_some_and(|member| member.alive));
    match (addable, crowded) {
        (Some(addable), Some((voter, crowd)))
            if all_alive && crowd > 1 && racks.count(addable.rack.as_deref()) == 0 =>
        {
            Some(if voters.len() < MAX_VOTERS { VoterChange::Add(addable.voter) } else { VoterChange::Drop(voter) })
        }
        _ => None,
    }
}

/// Voters by rack.
struct Racks(BTreeMap<String, usize>);

impl Racks {
    fn of(voters: &VoterSet, members: &[Member]) -> Self {
        let mut counts = BTreeMap::new();
        for member in members.iter().filter(|member| voters.contains(&member.voter)) {
            if let Some(rack) = &member.rack {
                *counts.entry(rack.clone()).or_default() += 1;
            }
        }
        Self(counts)
    }

    /// Voters in the rack. One without a rack is taken to crowd nobody, but also to spread nothing.
    fn count(&self, rack: Option<&str>) -> usize {
        rack.map_or(1, |rack| self.0.get(rack).copied().unwrap_or(0))
    }

    /// The broker whose rack has the fewest voters, then the lowest id. A broker whose earlier folder is still a voter
    /// waits until that is dropped.
    fn best_to_add<'a>(&self, voters: &VoterSet, members: &'a [Member]) -> Option<&'a Member> {
        members
            .iter()
            .filter(|member| member.alive && !member.gone && member.caught_up)
            .filter(|member| voters.iter().all(|voter| voter.broker_id != member.voter.broker_id))
            .min_by_key(|member| (self.count(member.rack.as_deref()), member.voter))
    }

    /// The voter, never `me`, that is dead or else whose rack has the most voters, then the highest id; and how many.
    fn most_crowded(&self, me: Voter, voters: &VoterSet, members: &[Member]) -> Option<(Voter, usize)> {
        members
            .iter()
            .filter(|member| member.voter != me && voters.contains(&member.voter))
            .max_by_key(|member| (!member.alive, self.count(member.rack.as_deref()), member.voter))
            .map(|member| (member.voter, self.count(member.rack.as_deref())))
    }
}

#[cfg(test)]
#[path = "voter_policy/tests.rs"]
mod tests;
