// SPDX-License-Identifier: Apache-2.0
//! When a broker takes the Lease (rule 1). Pure; safety never depends on it.

use super::{VoterSet, promise_quorum};
use crate::{Holder, Voter};

/// All that the decision looks at.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts, none of which excludes another")]
pub(super) struct Situation<'a> {
    /// The holder in the Lease.
    pub(super) holder: Option<&'a Holder>,
    /// The voters in the Lease.
    pub(super) voters: &'a VoterSet,
    /// The broker that decides.
    pub(super) me: Voter,
    /// Whether its log has no records.
    pub(super) log_is_empty: bool,
    /// Whether the holder is one of the cluster's brokers.
    pub(super) holder_is_known: bool,
    /// Whether it hears the controller (rule 1a).
    pub(super) hears: bool,
    /// Whether it does not because a probe failed.
    pub(super) probe_failed: bool,
    /// Whether the Lease has not changed for its duration.
    pub(super) lease_unchanged: bool,
    /// Other voters that said, just now, that they do not hear the controller either.
    pub(super) others_without: usize,
    /// Whether every known broker was asked just now for higher epochs, and answered or is out of reach (rule 10).
    pub(super) asked_everyone: bool,
}

/// What to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum TakeDecision {
    /// Nothing.
    Wait,
    /// Ask the other voters whether they hear the controller.
    AskVoters,
    /// Ask every known broker for higher epochs.
    AskEveryone,
    /// Take it.
    Take,
}

/// Decides.
pub(super) fn decide(situation: &Situation<'_>) -> TakeDecision {
    let voters = situation.voters;
    let first = voters.is_empty() && situation.log_is_empty;
    if !first && !voters.contains(&situation.me) {
        return TakeDecision::Wait;
    }
    let free = match situation.holder {
        None => true,
        // Its own earlier process, or itself without having seen the success answer (rule 1f).
        Some(holder) => holder.broker_id == situation.me.broker_id || !situation.holder_is_known,
    };
    let large = voters.len() >= 3;
    // With these numbers of voters two promise quorums need not meet, so promises alone do not show that the Lease fell
    // back behind epochs that were used: everyone is asked first (rule 10).
    let asks_everyone = voters.len() < 3 || 2 * promise_quorum(voters.len()) <= voters.len();
    if !free {
        let evidence = large || situation.probe_failed || situation.lease_unchanged;
        if situation.hears || !evidence {
            return TakeDecision::Wait;
        }
        if large && situation.others_without + 1 < promise_quorum(voters.len()) {
            return if asks_everyone { TakeDecision::AskEveryone } else { TakeDecision::AskVoters };
        }
    }
    if asks_everyone && !situation.asked_everyone {
        return TakeDecision::AskEveryone;
    }
    TakeDecision::Take
}

#[cfg(test)]
mod tests {
    use odradek_model::{BrokerId, DirectoryId};

    use super::*;

    fn voter(id: i32) -> Voter {
        Voter { broker_id: BrokerId(id), directory_id: DirectoryId(uuid::Uuid::from_u128(id as u128)) }
    }

    fn set(ids: &[i32]) -> VoterSet {
        ids.iter().map(|id| voter(*id)).collect()
    }

    fn holder(id: i32) -> Holder {
        Holder { broker_id: BrokerId(id), incarnation: "x".into() }
    }

    fn quiet<'a>(voters: &'a VoterSet, holder: Option<&'a Holder>) -> Situation<'a> {
        Situation {
            holder,
            voters,
            me: voter(1),
            log_is_empty: false,
            holder_is_known: true,
            hears: false,
            probe_failed: false,
            lease_unchanged: false,
            others_without: 0,
            asked_everyone: true,
        }
    }

    #[test]
    fn a_free_lease_is_taken_at_once_by_a_voter_whatever_it_hears() {
        let voters = set(&[1, 2, 3]);
        let (other, mine) = (holder(2), holder(1));
        for (holder, holder_is_known) in [(None, true), (Some(&mine), true), (Some(&other), false)] {
            let situation = Situation { hears: true, holder_is_known, ..quiet(&voters, holder) };
            assert_eq!(decide(&situation), TakeDecision::Take, "{holder:?}");
            assert_eq!(decide(&Situation { me: voter(4), ..situation }), TakeDecision::Wait, "no voter");
        }
        let four = set(&[1, 2, 3, 4]);
        let situation = Situation { asked_everyone: false, ..quiet(&four, None) };
        assert_eq!(decide(&situation), TakeDecision::AskEveryone, "two promise quorums of four need not meet");
    }

    #[test]
    fn only_a_broker_with_an_empty_log_is_the_first() {
        let none = VoterSet::new();
        assert_eq!(decide(&quiet(&none, None)), TakeDecision::Wait);
        let empty = Situation { log_is_empty: true, ..quiet(&none, None) };
        assert_eq!(decide(&empty), TakeDecision::Take);
        assert_eq!(decide(&Situation { asked_everyone: false, ..empty }), TakeDecision::AskEveryone);
    }

    #[test]
    fn with_three_and_more_a_promise_quorum_must_miss_the_controller() {
        let other = holder(2);
        for (n, needed) in [(3, 2), (4, 2), (5, 3)] {
            let voters = set(&(1..=n).collect::<Vec<_>>());
            for others_without in 0..4 {
                let situation = Situation { others_without, ..quiet(&voters, Some(&other)) };
                let expected = match n {
                    _ if others_without + 1 >= needed => TakeDecision::Take,
                    4 => TakeDecision::AskEveryone,
                    _ => TakeDecision::AskVoters,
                };
                assert_eq!(decide(&situation), expected, "{n} voters, {others_without} others");
                assert_eq!(decide(&Situation { hears: true, ..situation }), TakeDecision::Wait);
            }
        }
    }

    #[test]
    fn with_one_or_two_a_failed_probe_or_an_old_lease_is_the_evidence() {
        let other = holder(2);
        let voters = set(&[1, 2]);
        let situation = quiet(&voters, Some(&other));
        assert_eq!(decide(&situation), TakeDecision::Wait);
        for evident in [Situation { probe_failed: true, ..situation }, Situation { lease_unchanged: true, ..situation }]
        {
            assert_eq!(decide(&evident), TakeDecision::Take);
            assert_eq!(decide(&Situation { hears: true, ..evident }), TakeDecision::Wait);
            assert_eq!(decide(&Situation { asked_everyone: false, ..evident }), TakeDecision::AskEveryone);
        }
    }
}
