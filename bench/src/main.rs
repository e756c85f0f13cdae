// SPDX-License-Identifier: Apache-2.0
//! Measures Odradek beside Apache Kafka 4.3.1: in one run, on one machine, with one client (librdkafka), in
//! alternating order. Every figure it prints was measured in that run. Must not know: any crate of the brokers.

mod load;
mod machine;
mod measure;
mod report;

use anyhow::Result;
use clap::{Parser, ValueEnum};
use measure::Plan;

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Output {
    /// A table for a person and for docs/performance.md.
    Markdown,
    /// Every single figure.
    Json,
}

const EXAMPLES: &str = "\
Examples:
  make bench                                    five runs of each, about 15 minutes on 2 cores
  make bench ARGS=--quick                       one small run of each: whether it works, not how fast it is
  make bench ARGS='--runs 9 --megabytes 4000'   more, for a machine that is not quiet
  make bench ARGS='--output json' >bench.json   every single figure, for a program
  make bench ARGS=--check                       the exit code says whether all goals are met

ODRADEK_BIN names the binary that is measured; without it, it is built in the profile of this program.
The table goes to standard output, progress to standard error. docs/performance.md says how each figure is measured.";

/// Measures Odradek beside Apache Kafka, in one run, with one client.
#[derive(Debug, Parser)]
#[command(after_help = EXAMPLES)]
struct Arguments {
    /// One run each with little data: whether it works, not how fast it is.
    #[arg(long)]
    quick: bool,
    /// How often each broker is measured; the table has medians [default: 5, with --quick 1].
    #[arg(long)]
    runs: Option<u32>,
    /// Megabytes (10^6 bytes) written and read back in each run [default: 2000, with --quick 200].
    #[arg(long)]
    megabytes: Option<u32>,
    /// Fail when a goal is not met.
    #[arg(long)]
    check: bool,
    #[arg(long, value_enum, default_value = "markdown")]
    output: Output,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let (runs, megabytes) = if arguments.quick { (1, 200) } else { (5, 2_000) };
    let plan = Plan::new(
        arguments.runs.unwrap_or(runs).max(1),
        arguments.megabytes.unwrap_or(megabytes).max(1),
        arguments.quick,
    );
    // Before anything runs: what else the machine was doing is part of the result.
    let machine = machine::Machine::describe()?;
    let report = report::Report::new(machine, &plan, &measure::all(&plan)?);
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
}
