// SPDX-License-Identifier: Apache-2.0
//! How far the search goes in `make test`, and further on demand: `ODRADEK_REPLICATION_LENGTH` (longest history of an
//! exhaustive search), `ODRADEK_REPLICATION_STEPS` (where it ends at the latest) and `ODRADEK_REPLICATION_WALKS` (random
//! histories per setup). `cargo test --release -p odradek-partition --lib bounds -- --nocapture` tells what was covered.

use odradek_model::BrokerId;

use super::cluster::{Action, Budget, Setup};
use super::search::{Searched, search_all, walk};
use crate::PlantedBug;

fn bound(name: &str, default: usize) -> usize {
    std::env::var(name).ok().map_or(default, |value| value.parse().expect("a number"))
}

fn setup(in_sync: &[i32], min_in_sync: i32, budget: Budget) -> Setup {
    Setup { in_sync: in_sync.to_vec(), min_in_sync, budget, bug: None, controller_remembers_refusals: true }
}

/// Everything a little.
const MIXED: Budget = Budget { appends: 3, kills: 1, power_losses: 1, fences: 1, moves: 1, lags: 1, faults: 1 };
/// Everything often, for long histories.
const ROUGH: Budget = Budget { appends: 6, kills: 4, power_losses: 1, fences: 3, moves: 3, lags: 3, faults: 5 };

fn report(name: &str, searched: &Searched) {
    let Searched { moments, steps, complete, .. } = searched;
    #[allow(clippy::print_stdout, reason = "what a search covered is its result")]
    {
        println!("{name}: {steps} steps, {moments} moments, complete: {complete}");
    }
    if let Some(violation) = &searched.violation {
        let history: Vec<_> = violation.history.iter().map(|action| format!("\n  {action:?}")).collect();
        panic!("{name}: {}, after{}", violation.what, history.concat());
    }
}

/// One record that brokers 0 and 1 have and that is committed, as broker 1 does not know yet; broker 2 has nothing.
fn one_committed() -> Vec<Action> {
    let (leader, follower) = (BrokerId(0), BrokerId(1));
    let round = [Action::SendFetch(follower), Action::ServeFetch(follower), Action::TakeAnswer(follower)];
    [[Action::Append(leader)].as_slice(), &round, &round[..2]].concat()
}

#[test]
fn no_short_history_loses_or_hides_what_was_committed() {
    let none = Budget::default();
    let mixed = bound("ODRADEK_REPLICATION_LENGTH", 6) as u8;
    let narrow = mixed + 5;
    let (all, two, one) = (&[0, 1, 2][..], &[0, 1][..], &[0][..]);
    let committed = one_committed();
    for (name, setup, prefix, length) in [
        ("all in sync", setup(all, 2, MIXED), &[][..], mixed),
        ("one outside", setup(two, 2, MIXED), &[], mixed),
        ("leader alone", setup(one, 1, MIXED), &[], mixed),
        ("committed, one outside", setup(two, 2, MIXED), &committed, mixed),
        ("committed, all in sync", setup(all, 2, MIXED), &committed, mixed),
        ("death", setup(two, 2, Budget { appends: 1, kills: 1, ..none }), &committed, narrow),
        ("moves", setup(all, 2, Budget { appends: 2, moves: 2, ..none }), &committed, narrow),
        ("lag", setup(all, 2, Budget { appends: 2, lags: 2, ..none }), &[], narrow),
        ("faults", setup(two, 2, Budget { appends: 1, fences: 1, faults: 2, ..none }), &[], narrow),
        ("loss", setup(two, 2, Budget { appends: 1, kills: 1, power_losses: 1, ..none }), &committed, narrow),
    ] {
        report(name, &search_all(&setup, prefix, length, bound("ODRADEK_REPLICATION_STEPS", 1_000_000)));
    }
}

#[test]
fn no_long_history_loses_or_hides_what_was_committed_and_all_come_right_again() {
    let walks = bound("ODRADEK_REPLICATION_WALKS", 300) as u64;
    for (in_sync, min) in [(&[0, 1, 2][..], 2), (&[0, 1], 2), (&[0], 1), (&[0, 1, 2], 3)] {
        // A replica that loses records counts on another that has them.
        let power_losses = if min == 1 { 0 } else { ROUGH.power_losses };
        let setup = setup(in_sync, min, Budget { power_losses, ..ROUGH });
        for seed in 0..walks {
            report(&format!("{in_sync:?} with a minimum of {min}"), &walk(&setup, seed, 120));
        }
    }
}

/// The first seed whose history breaks a property, and how.
fn find(bug: Option<PlantedBug>, setup: &Setup, length: usize, walks: u64) -> (u64, String) {
    let setup = Setup { bug, ..setup.clone() };
    let found =
        (0..walks).find_map(|seed| walk(&setup, seed, length).violation.map(|violation| (seed, violation.what)));
    found.unwrap_or_else(|| panic!("{bug:?} was not found in {walks} histories"))
}

#[test]
fn every_planted_bug_is_found() {
    let rough = setup(&[0, 1], 2, ROUGH);
    // A follower that still follows the leader before last is counted, and then cuts what was counted.
    let moves = setup(&[0, 1, 2], 2, Budget { appends: 1, moves: 2, lags: 1, ..Budget::default() });
    for (bug, setup, length) in [
        (PlantedBug::HighWatermarkFromCommittedIsr, &rough, 120),
        (PlantedBug::ShrinkBeforeCommit, &rough, 120),
        (PlantedBug::FetchEpochUnchecked, &moves, 50),
        (PlantedBug::LateAnswersTaken, &rough, 120),
        (PlantedBug::TruncateToHighWatermark, &rough, 120),
        (PlantedBug::JoinBelowEpochStart, &rough, 120),
        (PlantedBug::BrokerEpochUnchecked, &rough, 120),
        (PlantedBug::HighWatermarkFalls, &rough, 120),
        (PlantedBug::HighWatermarkMovesUnderMinIsr, &rough, 120),
        (PlantedBug::UnknownOutcomeReverted, &rough, 120),
    ] {
        let (_, what) = find(Some(bug), setup, length, 100_000);
        #[allow(clippy::print_stdout, reason = "what a search covered is its result")]
        {
            println!("{bug:?}: {what}");
        }
    }
}

#[test]
fn a_controller_that_forgets_what_it_refused_lets_an_earlier_attempt_through() {
    let only_what_it_takes = Budget { appends: 1, fences: 1, faults: 1, ..Budget::default() };
    let remembering = setup(&[0, 1], 2, only_what_it_takes);
    let forgetful = Setup { controller_remembers_refusals: false, ..remembering.clone() };
    let (seed, _) = find(None, &forgetful, 120, 20_000);
    report("the same history where it remembers", &walk(&remembering, seed, 120));
}
