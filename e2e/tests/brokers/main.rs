// SPDX-License-Identifier: Apache-2.0
//! Outages: brokers as processes on machines of their own, a real kube-apiserver and etcd, clients that write and read
//! all the time, and something taken away. One scenario after another on one site, each with a cluster of its own.
//! Arguments that are no options select scenarios by a part of their name; `--include-ignored` also runs the long ones,
//! `--ignored` only those. On failure the logs and histories are saved.

#![allow(clippy::print_stdout, clippy::print_stderr)]

mod api_server;
mod controller;
mod kills;
mod network;
mod run;
mod volumes;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow};
use futures::future::{FutureExt as _, LocalBoxFuture};
use odradek_e2e::ending::Ending;
use odradek_e2e::site::Site;
use odradek_e2e::{broker_processes, diagnosis};

use crate::run::Outcome;

/// One scenario. Its name is also that of its cluster and, with dashes, of its namespace.
struct Scenario {
    name: &'static str,
    /// Only with `--ignored` or `--include-ignored`.
    long: bool,
    run: for<'a> fn(&'a mut Site, &'static str) -> LocalBoxFuture<'a, Result<Outcome>>,
}

/// The longest has an outage of ten minutes. Each wait in it has a shorter deadline, with a better word about what was missing.
const SCENARIO_PATIENCE: Duration = Duration::from_mins(20);

macro_rules! scenarios {
    ($($length:ident $module:ident::$name:ident,)*) => {
        &[$(Scenario {
            name: stringify!($name),
            long: scenarios!(@$length),
            run: |site, name| $module::$name(site, name).boxed_local(),
        }),*]
    };
    (@short) => { false };
    (@long) => { true };
}

const SCENARIOS: &[Scenario] = scenarios![
    short controller::a_lone_broker_is_killed,
    short controller::the_controller_is_killed,
    short api_server::the_api_server_is_away_for_a_short_time,
    short api_server::the_lease_is_deleted,
    long controller::every_broker_is_killed_in_turn,
    long controller::the_controller_is_frozen_past_its_lease,
    long controller::a_broker_is_frozen_past_its_session,
    long controller::a_broker_comes_back_in_another_pod,
    long controller::the_controller_stops_cleanly,
    long controller::each_of_two_brokers_is_killed,
    long api_server::the_api_server_is_away_for_two_minutes,
    long api_server::the_api_server_is_away_for_ten_minutes,
    long api_server::a_broker_is_killed_while_the_api_server_is_away,
    long api_server::the_controller_is_killed_while_the_api_server_is_away,
    long api_server::one_of_two_brokers_is_killed_while_the_api_server_is_away,
    long api_server::a_stranger_takes_the_lease,
    long api_server::the_lease_is_made_unreadable,
    long api_server::etcd_is_restored_to_an_older_state,
    long network::the_controller_is_cut_off_from_the_others,
    long network::a_broker_is_cut_off_from_the_others,
    long network::the_others_do_not_hear_the_controller,
    long network::the_controller_does_not_hear_the_others,
    long network::the_controller_is_cut_off_from_the_api_server,
    long network::two_brokers_are_cut_off_from_each_other,
    long network::three_brokers_are_cut_off_from_each_other,
    long volumes::each_volume_is_wiped_in_turn,
    long volumes::a_followers_log_is_damaged,
    long volumes::a_second_process_has_a_brokers_id,
    long kills::brokers_are_killed_at_random,
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let option = |name: &str| arguments.iter().any(|argument| argument == name);
    let filters: Vec<&String> = arguments.iter().filter(|argument| !argument.starts_with('-')).collect();
    let wanted = |scenario: &&Scenario| {
        let length = option("--include-ignored") || scenario.long == option("--ignored");
        let named = filters.iter().any(|filter| scenario.name.contains(filter.as_str()));
        if filters.is_empty() { length } else { named }
    };
    let selected: Vec<&Scenario> = SCENARIOS.iter().filter(wanted).collect();
    if option("--list") {
        for scenario in selected {
            println!("{}: test", scenario.name);
        }
        return ExitCode::SUCCESS;
    }
    if std::env::var_os("E2E_KUBECONFIG").is_some_and(|given| !given.is_empty()) {
        println!(
            "outages ... skipped: they need a control plane that can be taken away, not the one of E2E_KUBECONFIG"
        );
        return ExitCode::SUCCESS;
    }
    // kube reports every refused connection as an error, also those of a server that was stopped on purpose.
    let levels = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("warn,kube_client=off"));
    tracing_subscriber::fmt().with_env_filter(levels).with_writer(std::io::stderr).init();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime starts");
    match runtime.block_on(run(&selected)) {
        Ok(failed) => {
            println!("{} passed, {failed} failed", selected.len() - failed);
            if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            eprintln!("the run did not come to its end: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(scenarios: &[&Scenario]) -> Result<usize> {
    if scenarios.is_empty() {
        return Ok(0);
    }
    broker_processes::binary()?;
    let mut ending = Ending::listen()?;
    let started = Instant::now();
    // Set-up may have to build first.
    let mut site = ending.or(Duration::from_mins(45), Site::start()).await.0.context("no site")?;
    println!("network and control plane ready in {:.1} s", started.elapsed().as_secs_f64());
    let mut failed = 0;
    let mut rows = Vec::new();
    let mut interrupted = None;
    for scenario in scenarios {
        let name = scenario.name;
        let started = Instant::now();
        let guarded = std::panic::AssertUnwindSafe((scenario.run)(&mut site, name)).catch_unwind();
        let guarded = guarded.map(|outcome| outcome.unwrap_or_else(|_| Err(anyhow!("it panicked"))));
        let (outcome, ended) = ending.or(SCENARIO_PATIENCE, guarded).await;
        let seconds = started.elapsed().as_secs_f64();
        match outcome {
            Ok(outcome) => {
                println!("scenario {name} ... ok ({seconds:.1} s)\n  {outcome}");
                rows.push(outcome.row(name));
            }
            Err(error) => {
                failed += 1;
                println!("scenario {name} ... FAILED ({seconds:.1} s)\n{error:#}");
                save(&site, name);
                if ended {
                    interrupted = Some(error.context(format!("in scenario {name}")));
                    break;
                }
            }
        }
        // The next one finds everything as it was at the beginning.
        site.heal().await.with_context(|| format!("after scenario {name}"))?;
        let _ = std::fs::remove_dir_all(run::folder(&site, name));
    }
    site.remove()?;
    println!("\n{}\n{}\n", run::TABLE, rows.join("\n"));
    interrupted.map_or(Ok(failed), Err)
}

fn save(site: &Site, name: &str) {
    let kept = diagnosis::save_folders(name, &[("control-plane", site.plane.logs())])
        .and_then(|folder| run::keep(&run::folder(site, name), &folder).map(|()| folder));
    match kept {
        Ok(folder) => println!("logs, Lease history and configuration: {}", folder.display()),
        Err(error) => println!("its state could not be saved: {error:#}"),
    }
}
