// SPDX-License-Identifier: Apache-2.0
//! The model of coordination by Lease: no violation in what is searched, and every mistake found.

#![expect(clippy::print_stdout, reason = "figures for whoever reads the run")]

use odradek_sim::model::{Bounds, Found, Mistake, search};

fn expect_none(name: &str, bounds: &Bounds) -> Found {
    let found = search(bounds, None);
    println!(
        "{name}: {} states, complete: {}, commits up to {} in epoch {}",
        found.states, found.complete, found.longest_commit, found.highest_epoch
    );
    assert_eq!(found.violation, None, "{name}: {bounds:?}");
    found
}

/// What `make model` searches: the protocol page's own bounds, and what it left out.
fn large() -> Vec<(&'static str, Bounds)> {
    let no_changes = |bounds| Bounds { changes: false, ..bounds };
    vec![
        ("one voter", Bounds::of(3, 1, 2, 3, 4)),
        ("two voters", Bounds::of(3, 2, 2, 3, 4)),
        ("three voters", Bounds::of(3, 3, 2, 3, 4)),
        ("three voters, many takes", no_changes(Bounds::of(3, 3, 4, 4, 4))),
        ("four voters", no_changes(Bounds::of(4, 4, 3, 3, 3))),
        ("five voters", no_changes(Bounds::of(5, 5, 2, 3, 2))),
        ("four voters that change", Bounds::of(4, 4, 2, 2, 3)),
        ("first take", Bounds::of(3, 0, 2, 3, 4)),
        ("two voters, a folder emptied", Bounds { emptied: 1, ..Bounds::of(2, 2, 2, 3, 4) }),
        ("three voters, a folder emptied", Bounds { emptied: 1, ..Bounds::of(3, 3, 2, 2, 3) }),
        ("one voter, Lease fallen", Bounds { falls: 1, ..Bounds::of(2, 1, 3, 3, 4) }),
        ("two voters, Lease fallen", Bounds { falls: 1, ..Bounds::of(2, 2, 3, 3, 4) }),
        ("three voters, Lease fallen", no_changes(Bounds { falls: 1, ..Bounds::of(3, 3, 3, 3, 3) })),
        ("four voters, Lease fallen", no_changes(Bounds { falls: 1, ..Bounds::of(4, 4, 2, 2, 3) })),
    ]
}

#[test]
fn a_part_of_each_search_finds_nothing() {
    // The search goes from few steps to many: with this bound only the smaller setups come as far as a commit.
    let commits = large().into_iter().map(|(name, bounds)| {
        let found = expect_none(name, &Bounds { states: 30_000, ..bounds });
        usize::from(found.longest_commit > 0)
    });
    assert!(commits.sum::<usize>() > large().len() / 2, "most searches come as far as a commit");
}

#[test]
fn a_dead_voter_does_not_keep_the_others_from_committing() {
    for (voters, dead) in [(1, 0b010), (2, 0b010), (3, 0b100)] {
        let found = expect_none("one dead", &Bounds { dead, states: 200_000, ..Bounds::of(3, voters, 2, 2, 3) });
        assert!(found.longest_commit > 0, "{voters} voters: nothing was committed");
    }
}

#[test]
#[ignore = "many minutes and some GB: make model"]
fn the_whole_of_each_search_finds_nothing() {
    let states = std::env::var("ODRADEK_STATES").ok().and_then(|text| text.parse().ok()).unwrap_or(60_000_000);
    for (name, bounds) in large() {
        let found = expect_none(name, &Bounds { states, ..bounds });
        assert!(found.longest_commit > 0, "{name}: nothing was committed");
    }
}

#[test]
fn every_mistake_is_found() {
    let only = std::env::var("ODRADEK_MISTAKE").unwrap_or_default();
    let no_changes = |bounds| Bounds { changes: false, ..bounds };
    let cases = [
        (Mistake::PromiseQuorumOfOne, no_changes(Bounds::of(3, 3, 2, 2, 2))),
        (Mistake::NonVoterTakes, no_changes(Bounds::of(2, 1, 2, 2, 2))),
        (Mistake::NoCatchUp, no_changes(Bounds::of(3, 3, 2, 2, 2))),
        (Mistake::CommitWithoutPendingSet, Bounds::of(2, 1, 2, 3, 3)),
        (Mistake::ChangeWithoutCheck, Bounds::of(2, 1, 2, 2, 3)),
        (Mistake::PendingForgottenAfterRead, Bounds::of(2, 1, 2, 3, 3)),
        (Mistake::LeaseWithoutCompareAndSet, Bounds::of(2, 2, 3, 3, 5)),
        (Mistake::OlderEpochsCounted, no_changes(Bounds::of(3, 3, 4, 2, 4))),
        (Mistake::EmptiedFolderKeepsIdentity, no_changes(Bounds { emptied: 1, ..Bounds::of(3, 3, 2, 2, 2) })),
        (Mistake::RecoveryWithoutAll, no_changes(Bounds { falls: 1, ..Bounds::of(3, 3, 2, 2, 3) })),
        (Mistake::RepairWithPromiseQuorum, no_changes(Bounds { falls: 1, ..Bounds::of(2, 2, 2, 2, 4) })),
        (Mistake::TakeWithoutAsking, no_changes(Bounds { falls: 1, ..Bounds::of(2, 2, 2, 2, 4) })),
        (Mistake::TakeOfFourWithoutAsking, no_changes(Bounds { falls: 1, ..Bounds::of(4, 4, 1, 1, 2) })),
    ];
    let mut missed = Vec::new();
    for (mistake, bounds) in cases {
        if !format!("{mistake:?}").contains(&only) {
            continue;
        }
        let found = search(&Bounds { states: 3_000_000, ..bounds }, Some(mistake));
        println!("{mistake:?}: {} states, found: {}", found.states, found.violation.is_some());
        if found.violation.is_none() {
            missed.push(mistake);
        }
    }
    assert_eq!(missed, []);
}
