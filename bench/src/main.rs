// SPDX-License-Identifier: Apache-2.0
//! Measures Odradek beside Apache Kafka 4.3.1: in one run, on one machine, with one client (librdkafka), in
//! alternating order. Every figure it prints was measured in that run. Must not know: any crate of the brokers.

mod load;
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

/// Measures Odradek beside Apache Kafka.
#[derive(Debug, Parser)]
struct Arguments {
    /// One run each with little data: whether it works, not how fast it is.
    #[arg(long)]
    quick: bool,
    /// How often each broker is measured; the table has medians.
    #[arg(long)]
    runs: Option<u32>,
    /// Megabytes (10^6 bytes) written and read back in each run.
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
    let report = report::Report::new(&plan, &measure::all(&plan)?);
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
