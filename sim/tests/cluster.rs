// SPDX-License-Identifier: Apache-2.0
//! Random histories of clusters. `ODRADEK_CLUSTER_SEEDS=from..to` runs others; a failing seed prints its last events,
//! `ODRADEK_LINES` of them. `ODRADEK_MISTAKE` chooses planted mistakes by a part of their names. Seeds run on as many
//! threads as there are processors, or `ODRADEK_THREADS`.

#![expect(clippy::print_stdout, reason = "figures for whoever reads the run")]

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use odradek_metadata::PlantedBug as ControllerBug;
use odradek_partition::PlantedBug as PartitionBug;
use odradek_sim::cluster::{Emphasis, Outcome, Planted, Profile, Tally, run};

/// Histories in `make test`.
const SEEDS: std::ops::Range<u64> = 0..300;
/// A planted mistake must be found within so many.
const SEEDS_FOR_A_MISTAKE: u64 = 2_000;

fn seeds() -> std::ops::Range<u64> {
    let Ok(text) = std::env::var("ODRADEK_CLUSTER_SEEDS") else { return SEEDS };
    let (from, to) = text.split_once("..").expect("from..to");
    from.parse().expect("a number")..to.parse().expect("a number")
}

fn explain(seed: u64, profile: &Profile, outcome: &Outcome) -> String {
    let story = run(seed, profile, true).story;
    let lines = std::env::var("ODRADEK_LINES").ok().and_then(|n| n.parse().ok()).unwrap_or(60);
    let last = &story[story.len().saturating_sub(lines)..];
    let why = outcome.violation.as_ref().map(|violation| &violation.0);
    format!("seed {seed}: {}\n{profile:?}\n{}", why.map_or("", String::as_str), last.join("\n"))
}

/// Runs the seeds on all processors, in their order, and hands each outcome to `take`, which says whether to go on.
/// `None` is an assertion that failed.
fn run_all(
    seeds: std::ops::Range<u64>,
    profile_of: impl Fn(u64) -> Profile + Sync,
    take: impl FnMut(u64, Option<Outcome>) -> bool + Send,
) {
    let given = std::env::var("ODRADEK_THREADS").ok().and_then(|n| n.parse().ok());
    let threads = given.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
    let (next, goes_on, take) = (AtomicU64::new(seeds.start), AtomicBool::new(true), Mutex::new(take));
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while goes_on.load(Ordering::Relaxed) {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        return;
                    }
                    let outcome = catch_unwind(AssertUnwindSafe(|| run(seed, &profile_of(seed), false))).ok();
                    let mut take = take.lock().expect("nobody panics with it");
                    if !take(seed, outcome) {
                        goes_on.store(false, Ordering::Relaxed);
                    }
                }
            });
        }
    });
}

#[test]
fn random_histories_keep_what_was_acknowledged_and_become_whole() {
    let (mut acknowledged, mut read, mut events, mut tally) = (0, 0, 0, Tally::default());
    let (mut time_ms, mut slowest, mut failed) = (0, (0, 0), BTreeMap::new());
    run_all(seeds(), Profile::of_seed, |seed, outcome| {
        let Some(outcome) = outcome else {
            println!("seed {seed}: an assertion");
            failed.insert(seed, None);
            return true;
        };
        if let Some(violation) = &outcome.violation {
            let emphasis = Profile::of_seed(seed).emphasis;
            println!("seed {seed}, {emphasis:?}: {}", violation.0.lines().next().unwrap_or_default());
            failed.insert(seed, Some(outcome.clone()));
        }
        acknowledged += outcome.acknowledged;
        read += outcome.read;
        events += outcome.events;
        time_ms += outcome.time_ms;
        slowest = slowest.max((outcome.healed_ms, seed));
        tally += &outcome.tally;
        true
    });
    println!(
        "{acknowledged} records acknowledged, {read} read, {events} events in {} simulated seconds\nwhole again {} ms \
         after healing at the latest, seed {}\n{}",
        time_ms / 1_000,
        slowest.0,
        slowest.1,
        tally.lines()
    );
    if let Some((seed, outcome)) = failed.first_key_value() {
        let why = outcome.as_ref().map(|outcome| explain(*seed, &Profile::of_seed(*seed), outcome));
        panic!("{} of the histories, seed {seed}: {}", failed.len(), why.unwrap_or_else(|| "an assertion".to_owned()));
    }
    assert!(acknowledged > 0 && read > 0);
    if seeds().count() >= SEEDS.count() {
        assert_eq!(tally.missing(), [], "a fault that never occurs tests nothing");
    }
}

#[test]
fn the_same_seed_gives_the_same_history() {
    for seed in 0..Emphasis::ALL.len() as u64 {
        let profile = Profile::of_seed(seed);
        assert_eq!(run(seed, &profile, true), run(seed, &profile, true), "seed {seed}");
    }
}

/// Whether one of the seeds finds it, in profiles of that emphasis: what goes wrong without the mistake does not count.
fn is_found(planted: Planted, emphasis: Emphasis) -> bool {
    let mut found = None;
    let profile_of = |seed| Profile { planted: Some(planted), ..Profile::with(seed, emphasis) };
    run_all(0..SEEDS_FOR_A_MISTAKE, profile_of, |seed, outcome| {
        let what: String = match outcome {
            Some(Outcome { violation: None, .. }) => return true,
            Some(Outcome { violation: Some(violation), .. }) => violation.0.chars().take(200).collect(),
            None => "an assertion".to_owned(),
        };
        let without = catch_unwind(|| run(seed, &Profile::with(seed, emphasis), false));
        if !without.is_ok_and(|outcome| outcome.violation.is_none()) {
            println!("{planted:?}: {emphasis:?} {seed}: not clean without it either");
            return true;
        }
        println!("{planted:?}: {emphasis:?} {seed}: {what}");
        found = Some(seed);
        false
    });
    if found.is_none() {
        println!("{planted:?}: not found");
    }
    found.is_some()
}

fn find_all(all: impl IntoIterator<Item = (Planted, Emphasis)>) {
    let only = std::env::var("ODRADEK_MISTAKE").unwrap_or_default();
    let wanted = all.into_iter().filter(|(planted, _)| format!("{planted:?}").contains(&only));
    let missed: Vec<_> = wanted.filter(|(planted, emphasis)| !is_found(*planted, *emphasis)).collect();
    assert!(missed.is_empty(), "not found in {SEEDS_FOR_A_MISTAKE} seeds: {missed:?}");
}

#[test]
#[ignore = "minutes: make sim-mistakes"]
fn every_mistake_of_replicas_is_found() {
    let all = [
        (PartitionBug::HighWatermarkFromCommittedIsr, Emphasis::Stale),
        (PartitionBug::ShrinkBeforeCommit, Emphasis::Stale),
        (PartitionBug::FetchEpochUnchecked, Emphasis::Stale),
        (PartitionBug::LateAnswersTaken, Emphasis::Stale),
        (PartitionBug::TruncateToHighWatermark, Emphasis::Restarts),
        (PartitionBug::JoinBelowEpochStart, Emphasis::Stale),
        (PartitionBug::BrokerEpochUnchecked, Emphasis::Stale),
        (PartitionBug::HighWatermarkFalls, Emphasis::Stale),
        (PartitionBug::HighWatermarkMovesUnderMinIsr, Emphasis::Disks),
        (PartitionBug::ProgressKeptOverEpochs, Emphasis::Stale),
        (PartitionBug::RepeatedMetadataSettles, Emphasis::Stale),
        (PartitionBug::UnknownOutcomeReverted, Emphasis::Network),
    ];
    find_all(all.into_iter().map(|(bug, emphasis)| (Planted::Partition(bug), emphasis)));
}

#[test]
#[ignore = "minutes: make sim-mistakes"]
fn every_mistake_about_damaged_logs_is_found() {
    let all = [Planted::DamageNotTold, Planted::DamageForgotten];
    find_all(all.map(|planted| (planted, Emphasis::Disks)));
}

#[test]
#[ignore = "minutes: make sim-mistakes"]
fn every_mistake_of_the_controller_is_found() {
    let emphasis = |bug| match bug {
        ControllerBug::IneligibleReplicasAccepted | ControllerBug::PartitionEpochNotChecked => Emphasis::Stale,
        ControllerBug::LeaderEpochNotRaised => Emphasis::Restarts,
        ControllerBug::ReassignmentCompletedEarly => Emphasis::Churn,
        _ => Emphasis::Disks,
    };
    find_all(ControllerBug::ALL.map(|bug| (Planted::Controller(bug), emphasis(bug))));
}
