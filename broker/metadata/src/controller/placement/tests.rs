// SPDX-License-Identifier: Apache-2.0
//! The goals of placement, over random clusters.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

const RACKS: [&str; 5] = ["a", "b", "c", "d", "e"];

fn broker(id: usize, rack: Option<usize>, fenced: bool) -> PlaceableBroker<'static> {
    PlaceableBroker { id: BrokerId(id as i32), rack: rack.map(|rack| RACKS[rack]), fenced }
}

fn even(counts: impl Iterator<Item = usize> + Clone, slack: usize) -> bool {
    counts.clone().max().unwrap_or(0) - counts.min().unwrap_or(0) <= slack
}

/// How many of the placed lists have the broker first, and at all.
fn counts(placed: &[Vec<BrokerId>], id: usize) -> (usize, usize) {
    let id = BrokerId(id as i32);
    (
        placed.iter().filter(|replicas| replicas[0] == id).count(),
        placed.iter().filter(|replicas| replicas.contains(&id)).count(),
    )
}

#[test]
fn too_few_and_fenced_brokers_are_told() {
    let brokers: Vec<_> = (0..3).map(|id| broker(id, None, false)).collect();
    assert_eq!(Placer::new(brokers, 0).place(1, 4), Err(PlacementError::TooFewBrokers(3)));
    assert_eq!(Placer::new(vec![], 9).place(1, 1), Err(PlacementError::TooFewBrokers(0)));
    let fenced: Vec<_> = (0..3).map(|id| broker(id, None, true)).collect();
    assert_eq!(Placer::new(fenced, 0).place(1, 2), Err(PlacementError::AllFenced));
}

#[test]
fn topics_of_one_partition_in_one_request_spread_and_the_seed_turns_the_start() {
    let brokers: Vec<_> = (0..3).map(|id| broker(id, None, false)).collect();
    let mut placer = Placer::new(brokers.clone(), 1);
    let leaders: BTreeSet<_> = (0..3).map(|_| placer.place(1, 1).expect("enough")[0][0]).collect();
    assert_eq!(leaders.len(), 3);
    let starts: BTreeSet<_> =
        (0..3).map(|seed| Placer::new(brokers.clone(), seed).place(1, 1).expect("enough")[0][0]).collect();
    assert_eq!(starts.len(), 3);
}

#[test]
fn the_loss_of_a_leader_spreads_over_the_others() {
    let brokers: Vec<_> = (0..6).map(|id| broker(id, None, false)).collect();
    let placed = Placer::new(brokers, 3).place(300, 3).expect("enough");
    let led: Vec<_> = placed.iter().filter(|replicas| replicas[0] == BrokerId(2)).collect();
    assert_eq!(led.len(), 50);
    let seconds = |id: i32| led.iter().filter(|replicas| replicas[1] == BrokerId(id)).count();
    let next: Vec<usize> = [0, 1, 3, 4, 5].map(seconds).to_vec();
    assert!(next.iter().all(|count| (5..=15).contains(count)), "next leaders after the loss of one: {next:?}");
}

#[test]
fn a_small_rack_takes_a_replica_of_every_partition() {
    let brokers = vec![broker(0, Some(0), false), broker(1, Some(1), false), broker(2, Some(1), false)];
    let placed = Placer::new(brokers, 0).place(30, 2).expect("enough");
    assert_eq!(counts(&placed, 0).1, 30, "the rack goal comes before the even load");
    assert!(even((0..3).map(|id| counts(&placed, id).0), 1), "leaders are even all the same");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn constraints_hold_and_goals_are_reached(
        racks in prop::collection::vec((prop::option::weighted(0.9, 0..5usize), prop::bool::weighted(0.2)), 1..12),
        partitions in 1..60usize,
        factor in 1..6usize,
        seed: u64,
    ) {
        let brokers: Vec<_> = racks.iter().enumerate().map(|(id, (rack, fenced))| broker(id, *rack, *fenced)).collect();
        let Ok(placed) = Placer::new(brokers.clone(), seed).place(partitions, factor) else {
            prop_assert!(factor > brokers.len() || brokers.iter().all(|broker| broker.fenced));
            return Ok(());
        };
        let of = |id: BrokerId| brokers[id.0 as usize];
        let distinct_racks: BTreeSet<_> = brokers.iter().map(|broker| broker.rack).collect();
        for replicas in &placed {
            prop_assert_eq!(replicas.iter().collect::<BTreeSet<_>>().len(), factor);
            prop_assert!(!of(replicas[0]).fenced);
            // Racks share evenly: one has two replicas more than another only if the other has no broker left.
            for rack in &distinct_racks {
                let mine = replicas.iter().filter(|id| of(**id).rack == *rack).count();
                for other in &distinct_racks {
                    let theirs = replicas.iter().filter(|id| of(**id).rack == *other).count();
                    let full = brokers.iter().filter(|broker| broker.rack == *other).count() == theirs;
                    prop_assert!(mine <= theirs + 1 || full, "{replicas:?}");
                }
            }
            // A fenced broker is used only where its rack has no other left.
            for fenced in replicas.iter().filter(|id| of(**id).fenced) {
                let rack = of(*fenced).rack;
                let unused = brokers.iter().find(|b| b.rack == rack && !b.fenced && !replicas.contains(&b.id));
                prop_assert!(unused.is_none(), "{replicas:?} leaves out {unused:?}");
            }
        }
        let unfenced = || brokers.iter().filter(|broker| !broker.fenced).map(|broker| broker.id.0 as usize);
        prop_assert!(even(unfenced().map(|id| counts(&placed, id).0), 1), "leaders: {placed:?}");
    }

    #[test]
    fn equal_racks_give_even_replicas(
        rack_count in 1..5usize,
        in_rack in 1..5usize,
        partitions in 1..80usize,
        factor in 1..5usize,
        seed: u64,
    ) {
        let count = rack_count * in_rack;
        prop_assume!(factor <= count);
        let brokers: Vec<_> = (0..count).map(|id| broker(id, Some(id % rack_count), false)).collect();
        let placed = Placer::new(brokers, seed).place(partitions, factor).expect("enough");
        prop_assert!(even((0..count).map(|id| counts(&placed, id).1), 2), "replicas: {placed:?}");
    }
}
