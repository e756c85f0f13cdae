// SPDX-License-Identifier: Apache-2.0
//! The loss of one of thirty brokers with 100,000 partitions, by the program `odradek-broker-loss`: it runs the real
//! controller and the real replicas in one process, and models what lies between machines. Knows its output alone.

use crate::figures::{Goal, Measure};
use crate::say;
use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use std::process::{Command, Stdio};

#[derive(Debug, Deserialize)]
struct Report {
    options: Options,
    runs: Vec<Run>,
}

#[derive(Debug, Deserialize)]
struct Options {
    partitions: u32,
    brokers: u32,
    replicas: u32,
    round_trip_milliseconds: f64,
    network_megabytes_per_second: f64,
}

#[derive(Debug, Deserialize)]
struct Run {
    seconds: f64,
    steps: Vec<Step>,
    records: u64,
    bytes: u64,
    leaderships_moved: u64,
    replicas_told: u64,
    leaderships_taken: u64,
}

#[derive(Debug, Deserialize)]
struct Step {
    what: String,
    seconds: f64,
    modelled: bool,
}

pub(crate) fn measure(quick: bool) -> Result<(Vec<String>, Vec<Measure>)> {
    let binary = odradek_clients::program("odradek-broker-loss", "ODRADEK_BROKER_LOSS_BIN")?;
    let mut command = Command::new(&binary);
    if quick {
        command.args(["--partitions", "10000", "--runs", "1"]);
    }
    let output = command.stderr(Stdio::inherit()).output().with_context(|| format!("running {}", binary.display()))?;
    ensure!(output.status.success(), "{} ended with {}", binary.display(), output.status);
    let report: Report = serde_json::from_slice(&output.stdout).context("what it printed")?;
    let first = report.runs.first().context("no run")?;
    say(&format!(
        "{} partitions on {} brokers, one lost: {first:?}",
        report.options.partitions, report.options.brokers
    ));
    Ok((settings(&report, first), measures(&report, first)))
}

fn settings(report: &Report, first: &Run) -> Vec<String> {
    let options = &report.options;
    vec![format!(
        "simulation: {} partitions of {} replicas on {} brokers, one killed: {} leaderships move, {} records in {:.1} MB; \
         of the survivors one has most to do, {} replicas told, {} of them elected; decisions, logs, images and replicas \
         are the real ones and measured, modelled are a round trip of {} ms and {} MB/s of the controller's machine for \
         all others together; the queues and threads of a broker are not in it (the part on many partitions has them)",
        options.partitions,
        options.replicas,
        options.brokers,
        first.leaderships_moved,
        first.records,
        first.bytes as f64 / 1e6,
        first.replicas_told,
        first.leaderships_taken,
        options.round_trip_milliseconds,
        options.network_megabytes_per_second
    )]
}

fn measures(report: &Report, first: &Run) -> Vec<Measure> {
    let (partitions, brokers) = (report.options.partitions, report.options.brokers);
    let name = format!("simulation: {partitions} partitions, {brokers} brokers, one lost: until leaders have moved");
    let mut measures =
        vec![Measure::new(name, "s").with_goal(Goal::MedianAtMost(3.0)).of(&report.runs, &[], |run| run.seconds)];
    for (number, step) in first.steps.iter().enumerate() {
        let kind = if step.modelled { "modelled" } else { "measured" };
        let name = format!("of that, {kind}: {}", step.what);
        measures.push(Measure::new(name, "s").of(&report.runs, &[], |run| run.steps[number].seconds));
    }
    measures
}
