// SPDX-License-Identifier: Apache-2.0
//! Scenarios on a real Kubernetes of three nodes, one after another on one cluster. Arguments that are
//! no options select scenarios by a part of their name. On failure the cluster's state is saved.

#![allow(clippy::print_stdout, clippy::print_stderr)]

mod killed_broker;
mod ownership;
mod placeholder;
mod records;

use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Result, anyhow};
use futures::future::{FutureExt as _, LocalBoxFuture};
use odradek_e2e::cluster::Cluster;
use odradek_e2e::{diagnosis, product};
use tokio::signal::unix::{SignalKind, signal};

type Scenario = (&'static str, for<'a> fn(&'a Cluster) -> LocalBoxFuture<'a, Result<()>>);

const SCENARIOS: &[Scenario] = &[
    ("stateful_set_keeps_its_volume", |cluster| placeholder::stateful_set_keeps_its_volume(cluster).boxed_local()),
    ("records_come_back_also_after_the_cluster_was_deleted", |cluster| {
        records::records_come_back_also_after_the_cluster_was_deleted(cluster).boxed_local()
    }),
    ("no_acknowledged_record_is_lost", |cluster| killed_broker::no_acknowledged_record_is_lost(cluster).boxed_local()),
    ("a_strangers_object_is_not_taken_over", |cluster| {
        ownership::a_strangers_object_is_not_taken_over(cluster).boxed_local()
    }),
    ("a_restart_of_the_operator_changes_nothing", |cluster| {
        ownership::a_restart_of_the_operator_changes_nothing(cluster).boxed_local()
    }),
];

/// The one scenario that is about the harness itself, and needs nothing of the product.
const WITHOUT_PRODUCT: &str = "stateful_set_keeps_its_volume";

fn main() -> ExitCode {
    let filters: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    if std::env::args().any(|argument| argument == "--list") {
        for (name, _) in SCENARIOS {
            println!("{name}: test");
        }
        return ExitCode::SUCCESS;
    }
    // kube reports every refused connection as an error, also those of a server that is just starting.
    let levels = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("warn,kube_client=off"));
    tracing_subscriber::fmt().with_env_filter(levels).with_writer(std::io::stderr).init();
    let selected: Vec<&Scenario> = SCENARIOS
        .iter()
        .filter(|(name, _)| filters.is_empty() || filters.iter().any(|filter| name.contains(filter.as_str())))
        .collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime starts");
    match runtime.block_on(run_unless_ended(&selected)) {
        Ok(0) => ExitCode::SUCCESS,
        Ok(failed) => {
            eprintln!("{failed} of {} scenarios failed", selected.len());
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("the run did not come to its end: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// A run that is told to end drops its cluster, and so removes it.
async fn run_unless_ended(scenarios: &[&Scenario]) -> Result<usize> {
    let mut terminated = signal(SignalKind::terminate())?;
    tokio::select! {
        outcome = run(scenarios) => outcome,
        _ = tokio::signal::ctrl_c() => Err(anyhow!("interrupted")),
        _ = terminated.recv() => Err(anyhow!("terminated")),
    }
}

async fn run(scenarios: &[&Scenario]) -> Result<usize> {
    if scenarios.is_empty() {
        return Ok(0);
    }
    let started = Instant::now();
    let cluster = Cluster::start().await?;
    println!("cluster ready in {:.1} s", started.elapsed().as_secs_f64());
    if scenarios.iter().any(|(name, _)| *name != WITHOUT_PRODUCT) {
        let started = Instant::now();
        if let Err(error) = product::install(&cluster).await {
            println!("the operator did not install: {error:#}");
            let folder = diagnosis::save(&cluster, "install").await?;
            println!("logs, events and resources: {}", folder.display());
            return Ok(scenarios.len());
        }
        println!("operator installed in {:.1} s", started.elapsed().as_secs_f64());
    }
    let mut failed = 0;
    for (name, scenario) in scenarios {
        let started = Instant::now();
        let outcome = std::panic::AssertUnwindSafe(scenario(&cluster)).catch_unwind().await;
        let outcome = outcome.unwrap_or_else(|_| Err(anyhow!("it panicked")));
        let seconds = started.elapsed().as_secs_f64();
        match outcome {
            Ok(()) => println!("scenario {name} ... ok ({seconds:.1} s)"),
            Err(error) => {
                failed += 1;
                println!("scenario {name} ... FAILED ({seconds:.1} s)\n{error:#}");
                match diagnosis::save(&cluster, name).await {
                    Ok(folder) => println!("logs, events and resources: {}", folder.display()),
                    Err(error) => println!("its state could not be saved: {error:#}"),
                }
            }
        }
    }
    let started = Instant::now();
    drop(cluster);
    println!("cluster removed in {:.1} s", started.elapsed().as_secs_f64());
    Ok(failed)
}
