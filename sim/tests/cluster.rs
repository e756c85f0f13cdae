// SPDX-License-Identifier: Apache-2.0
//! Random histories of clusters. `ODRADEK_CLUSTER_SEEDS=from..to` runs others; a failing seed prints its last events,
//! `ODRADEK_LINES` of them. `ODRADEK_MISTAKE` chooses planted mistakes by a part of their names.

#![expect(clippy::print_stdout, reason = "figures for whoever reads the run")]

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

#[test]
fn random_histories_keep_what_was_acknowledged_and_become_whole() {
    let (mut acknowledged, mut read, mut events, mut tally) = (0, 0, 0, Tally::default());
    let (mut time_ms, mut slowest, mut failed) = (0, (0, 0), Vec::new());
    for seed in seeds() {
        let profile = Profile::of_seed(seed);
        let outcome = run(seed, &profile, false);
        if let Some(violation) = &outcome.violation {
            println!("seed {seed}, {:?}: {}", profile.emphasis, violation.0.lines().next().unwrap_or_default());
            failed.push((seed, profile, outcome.clone()));
        }
        acknowledged += outcome.acknowledged;
        read += outcome.read;
        events += outcome.events;
        time_ms += outcome.time_ms;
        slowest = slowest.max((outcome.healed_ms, seed));
        tally += &outcome.tally;
    }
    println!(
        "{acknowledged} records acknowledged, {read} read, {events} events in {} simulated seconds\nwhole again {} ms \
         after healing at the latest, seed {}\n{}",
        time_ms / 1_000,
        slowest.0,
        slowest.1,
        tally.lines()
    );
    if let Some((seed, profile, outcome)) = failed.first() {
        panic!("{} of the histories: {}", failed.len(), explain(*seed, profile, outcome));
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

/// The first seed that finds it.
fn finds(planted: Planted) -> Option<u64> {
    for seed in 0..SEEDS_FOR_A_MISTAKE {
        let profile = Profile { planted: Some(planted), ..Profile::of_seed(seed) };
        let outcome = std::panic::catch_unwind(|| run(seed, &profile, false));
        let what = match outcome {
            Ok(Outcome { violation: None, .. }) => continue,
            Ok(Outcome { violation: Some(violation), .. }) => violation.0.chars().take(200).collect(),
            Err(_) => "an assertion".to_owned(),
        };
        println!("{planted:?}: seed {seed}: {what}");
        return Some(seed);
    }
    println!("{planted:?}: not found");
    None
}

fn find_all(all: impl Iterator<Item = Planted>) {
    let only = std::env::var("ODRADEK_MISTAKE").unwrap_or_default();
    let wanted = all.filter(|planted| format!("{planted:?}").contains(&only));
    let missed: Vec<_> = wanted.filter(|planted| finds(*planted).is_none()).collect();
    assert!(missed.is_empty(), "not found in {SEEDS_FOR_A_MISTAKE} seeds: {missed:?}");
}

#[test]
#[ignore = "minutes: make sim-mistakes"]
fn every_mistake_of_replicas_is_found() {
    let all = [
        PartitionBug::HighWatermarkFromCommittedIsr,
        PartitionBug::ShrinkBeforeCommit,
        PartitionBug::FetchEpochUnchecked,
        PartitionBug::LateAnswersTaken,
        PartitionBug::TruncateToHighWatermark,
        PartitionBug::JoinBelowEpochStart,
        PartitionBug::BrokerEpochUnchecked,
        PartitionBug::HighWatermarkFalls,
        PartitionBug::HighWatermarkMovesUnderMinIsr,
        PartitionBug::ProgressKeptOverEpochs,
        PartitionBug::RepeatedMetadataSettles,
        PartitionBug::UnknownOutcomeReverted,
    ];
    find_all(all.into_iter().map(Planted::Partition));
}

#[test]
#[ignore = "minutes: make sim-mistakes"]
fn every_mistake_of_the_controller_is_found() {
    find_all(ControllerBug::ALL.into_iter().map(Planted::Controller));
}
