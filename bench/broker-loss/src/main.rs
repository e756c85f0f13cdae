// SPDX-License-Identifier: Apache-2.0
//! How long the loss of one broker of a large cluster takes: the controller, its log, the images and the replicas are the
//! real ones, and what they cost is measured on this machine; what lies between machines is a model, given by options.
//! Prints one JSON object. It must not know sockets, tasks or the quorum's machine.

mod brokers;
mod replicas;
mod steps;

use anyhow::Result;
use clap::Parser;
use serde::Serialize;

const EXAMPLES: &str = "\
Examples:
  odradek-broker-loss                                        100,000 partitions on 30 brokers, three runs
  odradek-broker-loss --partitions 10000 --brokers 3 --runs 1
  odradek-broker-loss --network-megabytes-per-second 1250    machines with 10 Gbit/s instead of one";

/// Measures what the loss of one of many brokers costs, step by step.
#[derive(Clone, Copy, Debug, Parser, Serialize)]
#[command(after_help = EXAMPLES)]
struct Options {
    /// Partitions of the cluster, in topics of a thousand.
    #[arg(long, default_value_t = 100_000)]
    partitions: u32,
    /// Brokers before the loss.
    #[arg(long, default_value_t = 30)]
    brokers: i32,
    /// Replicas of each partition.
    #[arg(long, default_value_t = 3)]
    replicas: i16,
    /// Each run builds the cluster anew and loses another broker.
    #[arg(long, default_value_t = 3)]
    runs: u32,
    /// Model: from one broker to another and back.
    #[arg(long, default_value_t = 1.0)]
    round_trip_milliseconds: f64,
    /// Model: what the controller's machine can send, to all others together.
    #[arg(long, default_value_t = 125.0)]
    network_megabytes_per_second: f64,
}

#[derive(Debug, Serialize)]
struct Report {
    options: Options,
    runs: Vec<steps::Run>,
}

fn main() -> Result<()> {
    let options = Options::parse();
    let runs = (0..options.runs).map(|number| steps::lose_one(&options, number)).collect::<Result<Vec<_>>>()?;
    #[expect(clippy::print_stdout, reason = "the product of this program")]
    {
        println!("{}", serde_json::to_string_pretty(&Report { options, runs })?);
    }
    Ok(())
}
