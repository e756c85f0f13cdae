// SPDX-License-Identifier: Apache-2.0
//! The model of coordination by Lease: no violation in what is searched, and every mistake found. What is printed says
//! how far each search went; only "complete" means all that can happen within its bounds.

#![expect(clippy::print_stdout, reason = "figures for whoever reads the run")]

use std::time::Instant;

use odradek_sim::model::{Bounds, Found, Mistake, search};

/// States of each search in `make test`: some seconds. Those of [`small`] end before.
const STATES_IN_TEST: usize = 15_000;
/// States of each search in `make model`, where `ODRADEK_STATES` does not say otherwise: minutes and up to 2 GB each.
const STATES: usize = 4_000_000;
/// States within which a mistake must be found.
const STATES_FOR_A_MISTAKE: usize = 1_500_000;

fn print_head() {
    println!(
        "{:<38} {:>7} {:>6} {:>5} {:>3} {:>6} {:>7} {:>7} {:>5} {:>10} {:<16} {:>6} {:>5} {:>5}",
        "search",
        "brokers",
        "voters",
        "takes",
        "log",
        "writes",
        "changes",
        "emptied",
        "falls",
        "states",
        "so far",
        "commit",
        "epoch",
        "s"
    );
}

fn expect_none(name: &str, bounds: &Bounds) -> Found {
    let started = Instant::now();
    let found = search(bounds, None);
    let so_far = if found.complete { "complete".to_owned() } else { format!("{} steps", found.depth) };
    println!(
        "{name:<38} {:>7} {:>6} {:>5} {:>3} {:>6} {:>7} {:>7} {:>5} {:>10} {so_far:<16} {:>6} {:>5} {:>5}",
        bounds.brokers,
        bounds.voters,
        bounds.takes,
        bounds.log,
        bounds.writes,
        bounds.changes,
        bounds.emptied,
        bounds.falls,
        found.states,
        found.longest_commit,
        found.highest_epoch,
        started.elapsed().as_secs()
    );
    assert_eq!(found.violation, None, "{name}: {bounds:?}");
    found
}

fn no_changes(mut bounds: Bounds) -> Bounds {
    bounds.changes = false;
    bounds
}

fn fallen(mut bounds: Bounds) -> Bounds {
    bounds.falls = 1;
    bounds
}

fn emptied(mut bounds: Bounds) -> Bounds {
    bounds.emptied = 1;
    bounds
}

/// What `make test` searches completely.
fn small() -> Vec<(&'static str, Bounds)> {
    vec![
        ("first take", Bounds::of(2, 0, 2, 2, 3)),
        ("one voter", Bounds::of(2, 1, 2, 2, 3)),
        ("two voters", Bounds::of(2, 2, 2, 2, 3)),
        ("three voters that change", Bounds::of(3, 3, 2, 2, 2)),
        ("four voters that change", Bounds::of(4, 4, 2, 2, 2)),
        ("five voters", no_changes(Bounds::of(5, 5, 2, 2, 2))),
        ("two voters, a folder emptied", emptied(Bounds::of(2, 2, 2, 2, 3))),
        ("three voters, a folder emptied", no_changes(emptied(Bounds::of(3, 3, 2, 2, 2)))),
        ("four voters, a folder emptied", no_changes(emptied(Bounds::of(4, 4, 2, 2, 2)))),
        ("one voter, Lease fallen", fallen(Bounds::of(1, 1, 2, 2, 3))),
        ("two voters, Lease fallen", no_changes(fallen(Bounds::of(2, 2, 2, 2, 3)))),
        ("three voters, Lease fallen", no_changes(fallen(Bounds::of(3, 3, 2, 1, 2)))),
        ("four voters, Lease fallen", no_changes(fallen(Bounds::of(4, 4, 2, 2, 1)))),
    ]
}

/// What `make model` searches: the protocol page's own bounds, and what it left out.
fn large() -> Vec<(&'static str, Bounds)> {
    vec![
        ("first take", Bounds::of(3, 0, 2, 3, 4)),
        ("one voter", Bounds::of(3, 1, 2, 3, 4)),
        ("two voters", Bounds::of(3, 2, 2, 3, 4)),
        ("three voters", Bounds::of(3, 3, 2, 3, 4)),
        ("three voters, many takes", no_changes(Bounds::of(3, 3, 4, 4, 4))),
        ("four voters", no_changes(Bounds::of(4, 4, 3, 3, 3))),
        ("four voters that change", Bounds::of(4, 4, 2, 2, 3)),
        ("five voters", no_changes(Bounds::of(5, 5, 2, 3, 2))),
        ("five voters that change", Bounds::of(5, 5, 2, 2, 2)),
        ("five voters that change more", Bounds::of(5, 5, 2, 2, 3)),
        ("two voters, a folder emptied", emptied(Bounds::of(2, 2, 2, 3, 4))),
        ("three voters, a folder emptied", emptied(Bounds::of(3, 3, 2, 2, 3))),
        ("five voters, a folder emptied", no_changes(emptied(Bounds::of(5, 5, 2, 2, 2)))),
        ("one voter, Lease fallen", fallen(Bounds::of(2, 1, 3, 3, 4))),
        ("two voters, Lease fallen", fallen(Bounds::of(2, 2, 3, 3, 4))),
        ("three voters, Lease fallen", no_changes(fallen(Bounds::of(3, 3, 3, 3, 3)))),
        ("four voters, Lease fallen", no_changes(fallen(Bounds::of(4, 4, 2, 2, 3)))),
        ("five voters, Lease fallen", no_changes(fallen(Bounds::of(5, 5, 2, 2, 1)))),
        ("five voters, Lease fallen, more", no_changes(fallen(Bounds::of(5, 5, 2, 2, 3)))),
        ("two voters, both", no_changes(emptied(fallen(Bounds::of(2, 2, 2, 2, 4))))),
    ]
}

#[test]
fn small_searches_are_complete_and_find_nothing() {
    print_head();
    for (name, bounds) in small() {
        let found = expect_none(name, &bounds);
        assert!(found.complete && found.longest_commit > 0, "{name}: {found:?}");
    }
}

#[test]
fn a_part_of_each_large_search_finds_nothing() {
    print_head();
    // The search goes from few steps to many: with this bound only the smaller setups come as far as a commit.
    let commits = large().into_iter().map(|(name, bounds)| {
        let found = expect_none(name, &Bounds { states: STATES_IN_TEST, ..bounds });
        usize::from(found.longest_commit > 0)
    });
    assert!(commits.sum::<usize>() > large().len() / 2, "most searches come as far as a commit");
}

#[test]
fn a_dead_voter_does_not_keep_the_others_from_committing() {
    print_head();
    for (voters, dead) in [(1, 0b010), (2, 0b010), (3, 0b100)] {
        let found = expect_none("one dead", &Bounds { dead, states: 200_000, ..Bounds::of(3, voters, 2, 2, 3) });
        assert!(found.longest_commit > 0, "{voters} voters: nothing was committed");
    }
}

#[test]
#[ignore = "many minutes and some GB: make model"]
fn each_large_search_finds_nothing() {
    let states = std::env::var("ODRADEK_STATES").ok().and_then(|text| text.parse().ok()).unwrap_or(STATES);
    let only = std::env::var("ODRADEK_SEARCH").unwrap_or_default();
    print_head();
    for (name, bounds) in large().into_iter().filter(|(name, _)| name.contains(&only)) {
        let found = expect_none(name, &Bounds { states, ..bounds });
        assert!(found.longest_commit > 0, "{name}: nothing was committed");
    }
}

/// Each mistake, the rule that it breaks, and bounds within which it must be found.
fn mistakes() -> Vec<(Mistake, &'static str, Bounds)> {
    vec![
        (Mistake::NonVoterTakes, "1", no_changes(Bounds::of(2, 1, 2, 2, 2))),
        (Mistake::PromiseForgotten, "2", no_changes(Bounds::of(3, 3, 2, 2, 2))),
        (Mistake::FollowsLower, "2", no_changes(Bounds::of(3, 3, 2, 2, 2))),
        (Mistake::PromiseQuorumOfOne, "3", no_changes(Bounds::of(3, 3, 2, 2, 2))),
        (Mistake::PromiseQuorumOfOne, "3", no_changes(Bounds::of(4, 4, 2, 2, 2))),
        (Mistake::PromiseQuorumOfOne, "3", no_changes(Bounds::of(5, 5, 2, 2, 2))),
        (Mistake::NoCatchUp, "3", no_changes(Bounds::of(3, 3, 2, 2, 2))),
        (Mistake::NoCatchUp, "3", no_changes(Bounds::of(5, 5, 2, 2, 2))),
        (Mistake::OlderEpochsCounted, "5", no_changes(Bounds::of(3, 3, 4, 2, 4))),
        (Mistake::UnmatchedAcknowledged, "5", no_changes(Bounds::of(3, 3, 3, 3, 3))),
        (Mistake::AcknowledgedForAnyEpoch, "5", no_changes(Bounds::of(3, 3, 3, 3, 3))),
        (Mistake::ChangeWithoutCheck, "6", Bounds::of(2, 1, 2, 2, 3)),
        (Mistake::CommitWithoutPendingSet, "6", Bounds::of(2, 1, 2, 3, 3)),
        (Mistake::CommitWithoutOldSet, "6", Bounds::of(2, 2, 2, 3, 3)),
        (Mistake::SecondChangeWhilePending, "6", Bounds::of(3, 1, 2, 2, 3)),
        (Mistake::PendingForgottenAfterRead, "7", Bounds::of(2, 1, 2, 3, 3)),
        (Mistake::LeaseWithoutCompareAndSet, "compare-and-set", Bounds::of(2, 2, 3, 3, 5)),
        (Mistake::EmptiedFolderKeepsIdentity, "9", no_changes(emptied(Bounds::of(3, 3, 2, 2, 2)))),
        (Mistake::FallenLeaseIsBootstrap, "10", no_changes(fallen(Bounds::of(2, 2, 3, 3, 4)))),
        (Mistake::RecoveryWithoutAll, "10", no_changes(fallen(Bounds::of(3, 3, 2, 2, 3)))),
        (Mistake::RecoveryWithoutPromises, "10", no_changes(fallen(Bounds::of(3, 3, 2, 2, 3)))),
        (Mistake::RepairWithPromiseQuorum, "10", no_changes(fallen(Bounds::of(2, 2, 2, 2, 4)))),
        (Mistake::TakeWithoutAsking, "10", no_changes(fallen(Bounds::of(2, 2, 2, 2, 4)))),
        (Mistake::TakeOfFourWithoutAsking, "10", no_changes(fallen(Bounds::of(4, 4, 1, 1, 2)))),
    ]
}

#[test]
fn every_mistake_is_found() {
    let only = std::env::var("ODRADEK_MISTAKE").unwrap_or_default();
    let mut missed = Vec::new();
    println!("{:<28} {:<16} {:>6} {:>10} {:<5}", "mistake", "rule", "voters", "states", "found");
    for (mistake, rule, bounds) in mistakes() {
        if !format!("{mistake:?}").contains(&only) {
            continue;
        }
        let found = search(&Bounds { states: STATES_FOR_A_MISTAKE, ..bounds.clone() }, Some(mistake));
        let is_found = found.violation.is_some();
        println!("{:<28} {rule:<16} {:>6} {:>10} {is_found}", format!("{mistake:?}"), bounds.voters, found.states);
        if !is_found {
            missed.push((mistake, bounds));
        }
    }
    assert_eq!(missed, []);
}
