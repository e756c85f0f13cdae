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
        ("each commits alone", setup(all, 1, Budget { power_losses: 0, ..MIXED }), &[], mixed),
        ("committed, one outside", setup(two, 2, MIXED), &committed, mixed),
        ("committed, all in sync", setup(all, 2, MIXED), &committed, mixed),
        ("death", setup(two, 2, Budget { appends: 1, kills: 1, ..none }), &committed, narrow),
        ("moves", setup(all, 2, Budget { appends: 2, moves: 2, ..none }), &committed, narrow),
        ("lag", setup(all, 2, Budget { appends: 2, lags: 2, ..none }), &[], narrow),
        ("faults", setup(two, 2, Budget { appends: 1, fences: 1, faults: 2, ..none }), &[], narrow - 2),
        ("loss", setup(two, 2, Budget { appends: 1, kills: 1, power_losses: 1, ..none }), &committed, narrow),
    ] {
        report(name, &search_all(&setup, prefix, length, bound("ODRADEK_REPLICATION_STEPS", 3_000_000)));
    }
}

#[test]
fn no_long_history_loses_or_hides_what_was_committed_and_all_come_right_again() {
    let walks = bound("ODRADEK_REPLICATION_WALKS", 1_000) as u64;
    for (in_sync, min) in [(&[0, 1, 2][..], 2), (&[0, 1], 2), (&[0], 1), (&[0, 1, 2], 1), (&[0, 1, 2], 3)] {
        // A replica that loses records counts on another that has them.
        let power_losses = if min == 1 { 0 } else { ROUGH.power_losses };
        let setup = setup(in_sync, min, Budget { power_losses, ..ROUGH });
        for seed in 0..walks {
            report(&format!("{in_sync:?} with a minimum of {min}"), &walk(&setup, &[], seed, 120));
        }
    }
}

/// The first seed whose history breaks a property, and how.
fn find(bug: Option<PlantedBug>, setup: &Setup, prefix: &[Action], walks: u64) -> (u64, String) {
    let setup = Setup { bug, ..setup.clone() };
    let violation = |seed| walk(&setup, prefix, seed, 120).violation.map(|violation| (seed, violation.what));
    (0..walks).find_map(violation).unwrap_or_else(|| panic!("{bug:?} was not found in {walks} histories"))
}

#[test]
fn every_planted_bug_is_found() {
    let rough = setup(&[0, 1], 2, ROUGH);
    // One may commit alone.
    let single = setup(&[0, 1, 2], 1, Budget { power_losses: 0, ..ROUGH });
    // Two have a record, the leadership went away and came back, and the leader in between does not know yet. To come
    // that far by chance takes long.
    let moves = setup(&[0, 1, 2], 2, Budget { appends: 1, moves: 2, lags: 1, ..Budget::default() });
    let (leader, follower) = (BrokerId(0), BrokerId(2));
    let mut fetch_on_its_way = vec![Action::Append(leader), Action::SendFetch(follower), Action::ServeFetch(follower)];
    fetch_on_its_way.extend([Action::TakeAnswer(follower), Action::SendFetch(follower)]);
    let mut fetch_served = [fetch_on_its_way.as_slice(), &[Action::ServeFetch(follower)]].concat();
    for prefix in [&mut fetch_on_its_way, &mut fetch_served] {
        prefix.extend([Action::MoveLeader(BrokerId(1)), Action::Hear(BrokerId(1)), Action::MoveLeader(leader)]);
    }
    for (bug, setup, prefix) in [
        (PlantedBug::HighWatermarkFromCommittedIsr, &rough, &[][..]),
        (PlantedBug::ShrinkBeforeCommit, &rough, &[]),
        (PlantedBug::FetchEpochUnchecked, &moves, &fetch_on_its_way),
        (PlantedBug::LateAnswersTaken, &rough, &[]),
        (PlantedBug::TruncateToHighWatermark, &rough, &[]),
        (PlantedBug::JoinBelowEpochStart, &rough, &[]),
        (PlantedBug::BrokerEpochUnchecked, &rough, &[]),
        (PlantedBug::HighWatermarkFalls, &rough, &[]),
        (PlantedBug::HighWatermarkMovesUnderMinIsr, &rough, &[]),
        (PlantedBug::ProgressKeptOverEpochs, &moves, &fetch_served),
        (PlantedBug::RepeatedMetadataSettles, &rough, &[]),
        (PlantedBug::UnknownOutcomeReverted, &rough, &[]),
        (PlantedBug::OneWitnessIsEnough, &single, &[]),
    ] {
        let (seed, what) = find(Some(bug), setup, prefix, 20_000);
        // The same seed without the bug is good.
        report("without the bug", &walk(setup, prefix, seed, 120));
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
    let outside = BrokerId(2);
    let prefix = [Action::SendFetch(outside), Action::ServeFetch(outside), Action::GiveUpIsrChange(0)];
    let (seed, _) = find(None, &forgetful, &prefix, 20_000);
    report("where it remembers", &walk(&remembering, &prefix, seed, 120));
}
