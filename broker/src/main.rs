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
use odradek_runtime::{Broker, RecoveryPlan, logging, signals, threads};

const EXAMPLES: &str = "\
Examples:
  Run with a configuration file; SIGTERM stops it cleanly:
    odradek-broker run --config /etc/odradek/broker.yaml

  Only check the file:
    odradek-broker run --config broker.yaml --check";

const RECOVER_EXAMPLES: &str = "\
Examples:
  Say what would be lost without broker 3:
    odradek-broker recover --config /etc/odradek/broker.yaml --without 3:DIRECTORY --dry-run

  Order it, on each broker that is left, then restart these:
    odradek-broker recover --config /etc/odradek/broker.yaml --without 3:DIRECTORY";

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
    /// Order this broker to recover the metadata without voters that are gone for good. Acknowledged records may be lost.
    #[command(after_help = RECOVER_EXAMPLES)]
    Recover {
        /// The configuration file (YAML) of the broker.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// A voter that is gone for good, as the broker's log and the controller Lease name it; as often as there are such.
        #[arg(long, value_name = "ID:DIRECTORY", required = true)]
        without: Vec<String>,
        /// Only say what would be lost.
        #[arg(long)]
        dry_run: bool,
    },
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().verb {
        Verb::Run { config, check } => run(&config, check),
        Verb::Recover { config, without, dry_run } => recover(&config, &without, dry_run),
    };
    match outcome {
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

fn recover(path: &std::path::Path, without: &[String], dry_run: bool) -> anyhow::Result<()> {
    let config = Config::load(path).with_context(|| format!("configuration {}", path.display()))?;
    let plan = threads::runtime(config.worker_threads)?.block_on(RecoveryPlan::judge(&config, without))?;
    let mut out = std::io::stdout();
    write!(out, "{plan}")?;
    if dry_run {
        writeln!(out, "Nothing was written: this was a dry run.")?;
    } else {
        plan.write()?;
        writeln!(out, "The order is written. It takes effect when this broker starts again.")?;
    }
    Ok(())
}
