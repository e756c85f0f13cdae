// SPDX-License-Identifier: Apache-2.0
//! Random histories of a quorum. `ODRADEK_SEEDS=from..to` runs others; a failing seed prints its last events.

#![expect(clippy::print_stdout, reason = "figures for whoever reads the run")]

use odradek_coordination::quorum::PlantedBug;
use odradek_sim::quorum::{Outcome, Planted, Profile, Tally, run};

/// Histories in `make test`: seconds.
const SEEDS: std::ops::Range<u64> = 0..300;
/// A planted mistake must be found within so many.
const SEEDS_FOR_A_MISTAKE: u64 = 2_000;

fn seeds() -> std::ops::Range<u64> {
    let Ok(text) = std::env::var("ODRADEK_SEEDS") else { return SEEDS };
    let (from, to) = text.split_once("..").expect("from..to");
    from.parse().expect("a number")..to.parse().expect("a number")
}

fn explain(seed: u64, profile: &Profile, outcome: &Outcome) -> String {
    let story = run(seed, profile, true).story;
    let lines = std::env::var("ODRADEK_LINES").ok().and_then(|n| n.parse().ok()).unwrap_or(60);
    let last = &story[story.len().saturating_sub(lines)..];
    format!("seed {seed}: {:?}\n{profile:?}\n{}", outcome.violation, last.join("\n"))
}

#[test]
fn random_histories_keep_what_was_committed_and_go_on_after_healing() {
    let (mut committed, mut events, mut tally) = (0, 0, Tally::default());
    for seed in seeds() {
        let profile = Profile::of_seed(seed);
        let outcome = run(seed, &profile, false);
        assert!(outcome.violation.is_none(), "{}", explain(seed, &profile, &outcome));
        committed += outcome.committed;
        events += outcome.events;
        tally += &outcome.tally;
    }
    println!("{committed} records committed in {events} events\n{}", tally.lines());
    assert!(committed > 0);
    if seeds().count() >= SEEDS.count() {
        assert_eq!(tally.missing(), [], "a fault that never occurs tests nothing");
    }
}

/// The first seed that finds it.
fn finds(planted: Planted) -> Option<u64> {
    for seed in 0..SEEDS_FOR_A_MISTAKE {
        let profile = Profile { planted: Some(planted), ..Profile::of_seed(seed) };
        let outcome = std::panic::catch_unwind(|| run(seed, &profile, false));
        match outcome {
            Ok(Outcome { violation: None, .. }) => {}
            Ok(Outcome { violation, .. }) => {
                let what = violation.map(|violation| violation.0.chars().take(150).collect::<String>());
                println!("{planted:?}: seed {seed}: {what:?}");
                return Some(seed);
            }
            Err(_) => {
                println!("{planted:?}: seed {seed}: an assertion");
                return Some(seed);
            }
        }
    }
    None
}

#[test]
#[ignore = "a minute: make sim"]
fn every_planted_mistake_is_found() {
    let only = std::env::var("ODRADEK_MISTAKE").unwrap_or_default();
    let members = [
        PlantedBug::PromiseQuorumOfOne,
        PlantedBug::NonVoterTakes,
        PlantedBug::NoCatchUp,
        PlantedBug::CommitWithoutPendingSet,
        PlantedBug::ChangeWithoutCheck,
        PlantedBug::PendingForgottenAfterRead,
        PlantedBug::OlderEpochsCounted,
        PlantedBug::UnmatchedAcknowledged,
        PlantedBug::CommittedWithoutMatch,
        PlantedBug::RecoveryWithoutAll,
    ];
    let around = [Planted::LeaseWithoutCompareAndSet, Planted::EmptiedFolderKeepsIdentity];
    let all = members.into_iter().map(Planted::Member).chain(around);
    let wanted = all.filter(|planted| format!("{planted:?}").contains(&only));
    let missed: Vec<_> = wanted.filter(|planted| finds(*planted).is_none()).collect();
    assert!(missed.is_empty(), "not found in {SEEDS_FOR_A_MISTAKE} seeds: {missed:?}");
}

#[test]
fn the_same_seed_gives_the_same_history() {
    let (mut real_logs, mut falls) = (0, 0);
    for seed in 0..12 {
        let profile = Profile::of_seed(seed);
        real_logs += usize::from(profile.real_log);
        falls += usize::from(profile.lease_falls);
        assert_eq!(run(seed, &profile, true), run(seed, &profile, true), "seed {seed}");
    }
    assert!(real_logs > 0 && falls > 0, "{real_logs} with real logs, {falls} with a falling Lease");
}
