// SPDX-License-Identifier: Apache-2.0
//! `odradek-broker`, the pod's binary: reads the configuration file, runs the broker until a signal. It must not know
//! the broker's parts.
mod allocator;

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use odradek_runtime::config::Config;
use odradek_runtime::{Broker, logging, signals, threads};

const EXAMPLES: &str = "\
Examples:
  Run with a configuration file; SIGTERM stops it cleanly:
    odradek-broker run --config /etc/odradek/broker.yaml

  Only check the file:
    odradek-broker run --config broker.yaml --check";

/// A Kafka-compatible broker.
#[derive(Debug, Parser)]
#[command(name = "odradek-broker", version, about, after_help = EXAMPLES, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Run the broker until SIGTERM or SIGINT.
    #[command(after_help = EXAMPLES)]
    Run {
        /// The configuration file (YAML).
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// Check the file and exit.
        #[arg(long)]
        check: bool,
    },
}

fn main() -> ExitCode {
    let Verb::Run { config, check } = Arguments::parse().verb;
    match run(&config, check) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let line = format!("{error:#}").replace('\n', " ");
            let _ = writeln!(std::io::stderr(), "odradek-broker: {line}");
            ExitCode::FAILURE
        }
    }
}

fn run(path: &std::path::Path, check: bool) -> anyhow::Result<()> {
    let config = Config::load(path).with_context(|| format!("configuration {}", path.display()))?;
    if check {
        return Ok(());
    }
    logging::start(&config.log).context("log.level")?;
    threads::runtime(config.worker_threads)?.block_on(async {
        let mut stop = signals::Stop::listen()?;
        let broker = tokio::select! {
            broker = Broker::start(config) => broker?,
            () = stop.requested() => return Ok(()),
        };
        let outcome = tokio::select! {
            () = stop.requested() => Ok(()),
            error = broker.failed() => Err(error.into()),
        };
        broker.shutdown().await;
        outcome
    })
}
