// SPDX-License-Identifier: Apache-2.0
//! Measures Odradek beside Apache Kafka 4.3.1: in one run, on one machine, with one client (librdkafka). Every figure it
//! prints was measured in that run. Must not know: any crate of the brokers.

mod cluster;
mod figures;
mod load;
mod machine;
mod report;
mod simulation;
mod single;
mod steady;

use anyhow::{Context, Result};
use clap::{Parser, ValueEnum};
use cluster::{catch_up, failover, partitions, replication};
use figures::Measure;
use odradek_clients::Flavor;
use std::fmt::Debug;
use std::time::Instant;

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Output {
    /// A table for a person and for docs/performance.md.
    Markdown,
    /// Every single figure.
    Json,
}

/// What can be measured, in the order in which it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Three brokers: kill -9 and clean stops, about 6 minutes.
    Failover,
    /// Three brokers: processor time and latency of three replicas, about 3 minutes.
    Replication,
    /// Three brokers: a follower gets what it missed, about 2 minutes.
    CatchUp,
    /// Three brokers: 10,000 partitions, about 4 minutes.
    Partitions,
    /// 30 brokers and 100,000 partitions, in one process without network: half a minute.
    Simulation,
    /// One broker: start, memory, processor time, about 5 minutes.
    Single,
}

const EXAMPLES: &str = "\
Examples:
  make bench                                    everything, about 25 minutes on 2 cores
  make bench ARGS='--only failover,catch-up'    some parts
  make bench ARGS=--quick                       one small run of each: whether it works, not how fast it is
  make bench ARGS='--only single --runs 9'      more runs, for a machine that is not quiet
  make bench ARGS='--only failover --alone'     Odradek's figures without Apache Kafka's, in a minute
  make bench ARGS='--output json' >bench.json   every single figure, for a program
  make bench ARGS=--check                       the exit code says whether all goals are met

ODRADEK_BIN, ODRADEK_BROKER_BIN and ODRADEK_BROKER_LOSS_BIN name the binaries that are measured; without them, they are
built in the profile of this program. The table goes to standard output, progress to standard error.
docs/performance.md says how each figure is measured.";

/// Measures Odradek beside Apache Kafka, in one run, with one client.
#[derive(Debug, Parser)]
#[command(after_help = EXAMPLES)]
struct Arguments {
    /// One run each with little data: whether it works, not how fast it is.
    #[arg(long)]
    quick: bool,
    /// The parts to measure, separated by commas [default: all].
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Part>,
    /// How often the parts `single` and `replication` measure each broker; the table has medians [default: 5 and 3, with
    /// --quick 1].
    #[arg(long)]
    runs: Option<u32>,
    /// Megabytes (10^6 bytes) that the part `single` writes and reads back in each run [default: 2000, with --quick 200].
    #[arg(long)]
    megabytes: Option<u32>,
    /// Measure Odradek alone in the parts `failover` and `partitions`, which take Apache Kafka minutes: for whoever works on
    /// it. There is nothing to compare with then.
    #[arg(long)]
    alone: bool,
    /// Fail when a goal is not met.
    #[arg(long)]
    check: bool,
    #[arg(long, value_enum, default_value = "markdown")]
    output: Output,
}

impl Arguments {
    fn parts(&self) -> Vec<Part> {
        let all = Part::value_variants().iter().copied();
        all.filter(|part| self.only.is_empty() || self.only.contains(part)).collect()
    }

    /// Measures one part; gives back its settings and what was measured.
    fn measure(&self, part: Part) -> Result<(Vec<String>, Vec<Measure>)> {
        let quick = self.quick;
        Ok(match part {
            Part::Failover => {
                let mut plan = failover::Plan::new(quick);
                if self.alone {
                    (plan.kafka_kills, plan.kafka_stops) = (0, 0);
                }
                (failover::settings(&plan), failover::measure(&plan)?)
            }
            Part::Replication => {
                let mut plan = replication::Plan::new(quick);
                plan.runs = self.runs.unwrap_or(plan.runs).max(1);
                (replication::settings(&plan), replication::measure(&plan)?)
            }
            Part::CatchUp => {
                let plan = catch_up::Plan::new(quick);
                (catch_up::settings(&plan), catch_up::measure(&plan)?)
            }
            Part::Partitions => {
                let mut plan = partitions::Plan::new(quick);
                if self.alone {
                    plan.kafka_kills = 0;
                }
                partitions::measure(&plan)?
            }
            Part::Simulation => simulation::measure(quick)?,
            Part::Single => {
                let (runs, megabytes) = if quick { (1, 200) } else { (5, 2_000) };
                let (runs, megabytes) = (self.runs.unwrap_or(runs).max(1), self.megabytes.unwrap_or(megabytes).max(1));
                let plan = single::Plan::new(runs, megabytes, quick);
                (single::settings(&plan), single::measure(&plan)?)
            }
        })
    }
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    // Before anything runs: what else the machine was doing is part of the result.
    let machine = machine::Machine::describe()?;
    let begun = Instant::now();
    let (mut settings, mut measures) = (Vec::new(), Vec::new());
    for part in arguments.parts() {
        let name = part.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned());
        let part_begun = Instant::now();
        say(&format!("--- {name}"));
        let (of_part, measured) = arguments.measure(part).with_context(|| format!("part {name}"))?;
        say(&format!("--- {name} took {:.0} s", part_begun.elapsed().as_secs_f64()));
        settings.extend(of_part);
        measures.extend(measured);
    }
    let report = report::Report::new(machine, settings, measures, begun.elapsed().as_secs_f64());
    let text = match arguments.output {
        Output::Markdown => report.markdown(),
        Output::Json => serde_json::to_string_pretty(&report)?,
    };
    #[expect(clippy::print_stdout, reason = "the product of this program")]
    {
        println!("{text}");
    }
    anyhow::ensure!(!arguments.check || report.all_met(), "a goal was not met");
    Ok(())
}

#[expect(clippy::print_stderr, reason = "progress for the person who waits")]
fn say(line: &str) {
    eprintln!("{line}");
}

/// Makes so many runs of each broker, and says each; Odradek's come first in what is given back.
fn runs_of_both<Run: Debug>(runs: u32, one: impl Fn(Flavor) -> Result<Run>) -> Result<(Vec<Run>, Vec<Run>)> {
    let (mut odradek, mut kafka) = (Vec::new(), Vec::new());
    for number in 0..runs {
        for flavor in alternating(number) {
            let run = one(flavor).with_context(|| format!("run {number}, {flavor:?}"))?;
            say(&format!("run {} of {runs}, {flavor:?}: {run:?}", number + 1));
            match flavor {
                Flavor::Odradek => odradek.push(run),
                Flavor::ApacheKafka => kafka.push(run),
            }
        }
    }
    Ok((odradek, kafka))
}

/// The brokers in the order of a run: by turns, so that a machine that grows slower does so for both.
fn alternating(run: u32) -> [Flavor; 2] {
    if run.is_multiple_of(2) { [Flavor::ApacheKafka, Flavor::Odradek] } else { [Flavor::Odradek, Flavor::ApacheKafka] }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_line_that_is_written_down_is_understood() {
        let makefile = include_str!("../../Makefile");
        let line = makefile.lines().find(|line| line.contains("/odradek-bench ")).expect("make bench runs it");
        let own = line.split("/odradek-bench ").last().expect("a line that was split has a last part");
        let own = own.replace("$(ARGS)", "");
        let examples = EXAMPLES.lines().filter_map(|line| line.trim().strip_prefix("make bench"));
        let arguments = examples.map(|line| {
            let line = line.split("   ").next().unwrap_or_default().replace(">bench.json", "");
            line.replace("ARGS=", "").replace('\'', "")
        });
        for line in std::iter::once(own).chain(arguments) {
            let words = std::iter::once("odradek-bench").chain(line.split_whitespace());
            assert!(Arguments::try_parse_from(words).is_ok(), "{line:?} is not understood");
        }
    }

    #[test]
    fn parts_are_measured_in_one_order_and_all_if_none_is_named() {
        let parts = |line: &str| Arguments::try_parse_from(line.split(' ')).unwrap().parts();
        assert_eq!(parts("odradek-bench").len(), Part::value_variants().len());
        assert_eq!(parts("odradek-bench --only single,failover"), [Part::Failover, Part::Single]);
    }
}
