// SPDX-License-Identifier: Apache-2.0
//! The policy of voters as tables, and that it comes to rest from anywhere.

use odradek_model::{BrokerId, DirectoryId};

use super::*;

fn voter(id: i32) -> Voter {
    Voter { broker_id: BrokerId(id), directory_id: DirectoryId(uuid::Uuid::from_u128(id as u128)) }
}

fn set(ids: &[i32]) -> VoterSet {
    ids.iter().map(|id| voter(*id)).collect()
}

fn alive(id: i32, rack: &str) -> Member {
    Member { voter: voter(id), rack: Some(rack.to_owned()), alive: true, gone: false, caught_up: true }
}

fn dead(id: i32, gone: bool) -> Member {
    Member { alive: false, gone, ..alive(id, "a") }
}

/// Applies changes until there is none; also checks that none goes beyond five or touches `me`.
fn settle(me: i32, start: &[i32], members: &[Member]) -> Vec<i32> {
    let mut voters = set(start);
    for _ in 0..20 {
        let Some(change) = next_change(voter(me), &voters, members) else {
            return voters.iter().map(|voter| voter.broker_id.0).collect();
        };
        assert_ne!(change, VoterChange::Drop(voter(me)), "never itself");
        voters = change.applied(&voters);
        assert!(voters.len() <= MAX_VOTERS);
    }
    panic!("it never comes to rest: {voters:?} of {members:?}");
}

#[test]
fn the_number_of_voters_follows_the_number_of_brokers() {
    for (brokers, expected) in [(1, 1), (2, 2), (3, 3), (4, 3), (5, 5), (9, 5)] {
        let members: Vec<_> = (0..brokers).map(|id| alive(id, "a")).collect();
        assert_eq!(settle(0, &[0], &members).len(), expected, "{brokers} brokers");
    }
}

#[test]
fn of_two_a_dead_one_is_dropped_at_once_and_comes_back() {
    assert_eq!(
        next_change(voter(0), &set(&[0, 1]), &[alive(0, "a"), dead(1, false)]),
        Some(VoterChange::Drop(voter(1)))
    );
    assert_eq!(next_change(voter(0), &set(&[0, 1]), &[alive(0, "a")]), Some(VoterChange::Drop(voter(1))));
    assert_eq!(settle(0, &[0], &[alive(0, "a"), alive(1, "a")]), [0, 1]);
}

#[test]
fn of_three_a_dead_one_stays_for_a_while_and_is_then_replaced_or_dropped() {
    let (a, b) = (alive(0, "a"), alive(1, "a"));
    let three = set(&[0, 1, 2]);
    assert_eq!(next_change(voter(0), &three, &[a.clone(), b.clone(), dead(2, false)]), None);
    assert_eq!(settle(0, &[0, 1, 2], &[a.clone(), b.clone(), dead(2, true)]), [0, 1]);
    let with_fourth = [a, b, dead(2, true), alive(3, "a")];
    assert_eq!(next_change(voter(0), &three, &with_fourth), Some(VoterChange::Add(voter(3))));
    assert_eq!(settle(0, &[0, 1, 2], &with_fourth), [0, 1, 3]);
}

#[test]
fn an_emptied_folder_is_another_voter() {
    let emptied = Voter { broker_id: BrokerId(2), directory_id: DirectoryId(uuid::Uuid::from_u128(99)) };
    let again = Member { voter: emptied, ..alive(2, "a") };
    let members = [alive(0, "a"), alive(1, "a"), again, dead(2, true)];
    let mut voters = set(&[0, 1, 2]);
    for _ in 0..2 {
        voters = next_change(voter(0), &voters, &members).expect("a change").applied(&voters);
    }
    assert_eq!(voters, [voter(0), voter(1), emptied].into());
    assert_eq!(next_change(voter(0), &voters, &members), None);
}

#[test]
fn who_is_behind_is_not_added() {
    let behind = Member { caught_up: false, ..alive(1, "a") };
    assert_eq!(next_change(voter(0), &set(&[0]), &[alive(0, "a"), behind]), None);
}

#[test]
fn voters_spread_over_racks() {
    let members: Vec<_> =
        [(0, "a"), (1, "a"), (2, "a"), (3, "b"), (4, "b"), (5, "c")].map(|(id, rack)| alive(id, rack)).into();
    for start in [&[0][..], &[0, 1, 2], &[0, 1, 2, 3, 4]] {
        let voters = settle(0, start, &members);
        assert_eq!(voters.len(), 5);
        assert!(voters.contains(&5) && voters.iter().any(|id| [3, 4].contains(id)), "{start:?} became {voters:?}");
    }
    let members: Vec<_> = [(0, "a"), (1, "a"), (2, "a"), (3, "b")].map(|(id, rack)| alive(id, rack)).into();
    assert!(settle(0, &[0, 1, 2], &members).contains(&3), "a rack without a voter gets one");
}

#[test]
fn from_every_small_state_it_comes_to_rest() {
    // Six brokers in three racks, each alive, dead or gone, and every set that holds broker 0.
    for states in 0..3_u32.pow(5) {
        let mut members = vec![alive(0, "a")];
        for id in 1..6 {
            let rack = ["a", "b", "c"][id as usize % 3];
            let member = alive(id, rack);
            members.push(match states / 3_u32.pow(id as u32 - 1) % 3 {
                0 => member,
                state => Member { alive: false, gone: state == 2, ..member },
            });
        }
        for mask in 0..32_u32 {
            let mut start = vec![0];
            start.extend((1..6).filter(|id| mask & (1 << (id - 1)) != 0));
            if start.len() <= MAX_VOTERS {
                settle(0, &start, &members);
            }
        }
    }
}
