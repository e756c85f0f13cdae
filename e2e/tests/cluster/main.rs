// SPDX-License-Identifier: Apache-2.0
//! Scenarios on a real Kubernetes of three nodes, one after another on one cluster. Arguments that are
//! no options select scenarios by a part of their name. On failure the cluster's state is saved.

#![allow(clippy::print_stdout, clippy::print_stderr)]

mod killed_broker;
mod ownership;
mod placeholder;
mod records;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow};
use futures::future::{FutureExt as _, LocalBoxFuture};
use odradek_e2e::cluster::{Cluster, Reach};
use odradek_e2e::ending::Ending;
use odradek_e2e::{diagnosis, product};

/// One scenario. It makes its objects in a namespace of its own, so that one that failed disturbs no other.
struct Scenario {
    name: &'static str,
    /// What of the cluster it has to reach from this machine.
    needs: Reach,
    /// Whether the operator has to be there.
    product: bool,
    run: for<'a> fn(&'a Cluster) -> LocalBoxFuture<'a, Result<()>>,
}

/// The longest of them takes a minute on an idle machine. Each wait in them has a shorter deadline, with a better word
/// about what was missing; this one is for what was forgotten.
const SCENARIO_PATIENCE: Duration = Duration::from_mins(8);
/// Images and charts: seconds, beside a build more.
const INSTALL_PATIENCE: Duration = Duration::from_mins(10);

const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "stateful_set_keeps_its_volume",
        needs: Reach::Nodes,
        product: false,
        run: |cluster| placeholder::stateful_set_keeps_its_volume(cluster).boxed_local(),
    },
    Scenario {
        name: "records_come_back_also_after_the_cluster_was_deleted",
        needs: Reach::Pods,
        product: true,
        run: |cluster| records::records_come_back_also_after_the_cluster_was_deleted(cluster).boxed_local(),
    },
    Scenario {
        name: "no_acknowledged_record_is_lost",
        needs: Reach::Pods,
        product: true,
        run: |cluster| killed_broker::no_acknowledged_record_is_lost(cluster).boxed_local(),
    },
    Scenario {
        name: "a_strangers_object_is_not_taken_over",
        needs: Reach::Api,
        product: true,
        run: |cluster| ownership::a_strangers_object_is_not_taken_over(cluster).boxed_local(),
    },
    Scenario {
        name: "a_restart_of_the_operator_changes_nothing",
        needs: Reach::Api,
        product: true,
        run: |cluster| ownership::a_restart_of_the_operator_changes_nothing(cluster).boxed_local(),
    },
];

fn main() -> ExitCode {
    let filters: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    if std::env::args().any(|argument| argument == "--list") {
        for scenario in SCENARIOS {
            println!("{}: test", scenario.name);
        }
        return ExitCode::SUCCESS;
    }
    // kube reports every refused connection as an error, also those of a server that is just starting.
    let levels = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("warn,kube_client=off"));
    tracing_subscriber::fmt().with_env_filter(levels).with_writer(std::io::stderr).init();
    let selected: Vec<&Scenario> = SCENARIOS
        .iter()
        .filter(|scenario| filters.is_empty() || filters.iter().any(|filter| scenario.name.contains(filter.as_str())))
        .collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime starts");
    match runtime.block_on(run(&selected)) {
        Ok(tally) => {
            println!("{} passed, {} failed, {} skipped", tally.passed, tally.failed, tally.skipped);
            if tally.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            eprintln!("the run did not come to its end: {error:#}");
            ExitCode::FAILURE
        }
    }
}

#[derive(Default)]
struct Tally {
    passed: usize,
    failed: usize,
    skipped: usize,
}

async fn run(scenarios: &[&Scenario]) -> Result<Tally> {
    if scenarios.is_empty() {
        return Ok(Tally::default());
    }
    let mut ending = Ending::listen()?;
    let started = Instant::now();
    // Each of its parts has a deadline of its own; set-up may have to build first.
    let cluster = ending.or(Duration::from_mins(45), Cluster::start()).await.0.context("no cluster")?;
    println!("cluster ready in {:.1} s", started.elapsed().as_secs_f64());
    let outcome = run_on(&cluster, scenarios, &mut ending).await;
    let started = Instant::now();
    let removed = cluster.remove().await;
    println!("cluster removed in {:.1} s", started.elapsed().as_secs_f64());
    let tally = outcome?;
    removed?;
    Ok(tally)
}

async fn run_on(cluster: &Cluster, scenarios: &[&Scenario], ending: &mut Ending) -> Result<Tally> {
    let mut tally = Tally::default();
    let (reachable, others): (Vec<&Scenario>, Vec<&Scenario>) =
        scenarios.iter().partition(|scenario| scenario.needs <= cluster.reach());
    for scenario in others {
        println!("scenario {} ... skipped: it has to reach the cluster's {:?}", scenario.name, scenario.needs);
        tally.skipped += 1;
    }
    if reachable.iter().any(|scenario| scenario.product) {
        let started = Instant::now();
        if let (Err(error), _) = ending.or(INSTALL_PATIENCE, product::install(cluster)).await {
            save(cluster, "install").await;
            return Err(error.context("the operator did not install"));
        }
        println!("operator installed in {:.1} s", started.elapsed().as_secs_f64());
    }
    for scenario in reachable {
        let name = scenario.name;
        let started = Instant::now();
        let guarded = std::panic::AssertUnwindSafe((scenario.run)(cluster)).catch_unwind();
        let guarded = guarded.map(|outcome| outcome.unwrap_or_else(|_| Err(anyhow!("it panicked"))));
        let (outcome, ended) = ending.or(SCENARIO_PATIENCE, guarded).await;
        let seconds = started.elapsed().as_secs_f64();
        let Err(error) = outcome else {
            tally.passed += 1;
            println!("scenario {name} ... ok ({seconds:.1} s)");
            continue;
        };
        tally.failed += 1;
        println!("scenario {name} ... FAILED ({seconds:.1} s)\n{error:#}");
        save(cluster, name).await;
        if ended {
            return Err(error.context(format!("in scenario {name}")));
        }
    }
    Ok(tally)
}

async fn save(cluster: &Cluster, name: &str) {
    match diagnosis::save(cluster, name).await {
        Ok(folder) => println!("logs, events and resources: {}", folder.display()),
        Err(error) => println!("its state could not be saved: {error:#}"),
    }
}
