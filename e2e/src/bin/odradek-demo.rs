// SPDX-License-Identifier: Apache-2.0
//! `make demo`: Odradek on a real Kubernetes, step by step with every command and what it took, from
//! `helm install` to the last record read back. `KEEP=1` leaves everything up in the background.
#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::fs::File;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command as StdCommand, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use odradek_e2e::clients::Clients;
use odradek_e2e::cluster::Cluster;
use odradek_e2e::command::output_with_input;
use odradek_e2e::{diagnosis, product};
use tokio::process::Command;
use tokio::signal::unix::{SignalKind, signal};

const NAMESPACE: &str = "demo";
const NAME: &str = "demo";
const TOPIC: &str = "greetings";
const RECORDS: usize = 1000;
/// Set for the process that stays in the background and holds the cluster: the file it writes when the
/// demonstration is over.
const HOLDER: &str = "ODRADEK_DEMO_DONE";

fn main() -> ExitCode {
    let levels = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("warn,kube_client=off"));
    tracing_subscriber::fmt().with_env_filter(levels).with_writer(std::io::stderr).init();
    let keep = std::env::var_os("KEEP").is_some_and(|value| !value.is_empty() && value != "0");
    let done = std::env::var_os(HOLDER).map(PathBuf::from);
    let outcome = match (keep, done) {
        (true, None) => start_holder(),
        (_, done) => tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
            .context("no runtime")
            .and_then(|runtime| runtime.block_on(run(done.as_deref()))),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("odradek-demo: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Starts this program again in a session of its own, which Ctrl-C in this terminal does not reach, and
/// returns when its demonstration is over.
#[expect(clippy::disallowed_methods, reason = "there is nothing else to do, and no runtime")]
fn start_holder() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let done = folder.path().join("done");
    let mut holder =
        StdCommand::new(std::env::current_exe()?).env(HOLDER, &done).stdin(Stdio::null()).process_group(0).spawn()?;
    loop {
        if let Some(status) = holder.try_wait()? {
            bail!("the demonstration failed: {status}");
        }
        if done.exists() {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

async fn run(done: Option<&Path>) -> Result<()> {
    let mut interrupted = signal(SignalKind::interrupt())?;
    let mut terminated = signal(SignalKind::terminate())?;
    let whole = async {
        let started = Instant::now();
        println!("# A Kubernetes of three nodes in three zones, on this machine");
        let cluster = Cluster::start().await?;
        for archive in product::image_archives()? {
            cluster.import(&archive).await?;
        }
        println!("  {:.1} s\n", started.elapsed().as_secs_f64());
        if let Err(error) = demonstrate(&cluster).await {
            let folder = diagnosis::save(&cluster, "demo").await?;
            eprintln!("logs, events and resources: {}", folder.display());
            return Err(error);
        }
        let Some(done) = done else { return Ok(()) };
        println!("\nIt stays up. To look around, and to end it:");
        println!("  export KUBECONFIG={}", cluster.kubeconfig().display());
        println!("  kill {}", std::process::id());
        File::create(done)?;
        std::future::pending::<()>().await;
        // Holds the cluster until then.
        drop(cluster);
        Ok(())
    };
    // Whatever ends the wait, the cluster is dropped, and so removed.
    tokio::select! {
        outcome = whole => outcome,
        _ = interrupted.recv() => bail!("interrupted"),
        _ = terminated.recv() => Ok(()),
    }
}

async fn demonstrate(cluster: &Cluster) -> Result<()> {
    let started = Instant::now();
    let (crds, operator) = (
        product::chart("odradek-crds").display().to_string(),
        product::chart("odradek-operator").display().to_string(),
    );
    let namespace = ["--namespace", product::OPERATOR_NAMESPACE];
    let install = |name: &str, chart: &str, more: &[&str]| {
        let arguments = ["install", name, chart].into_iter().chain(namespace).chain(more.iter().copied());
        cluster.helm_command(arguments.map(str::to_owned).collect::<Vec<_>>())
    };
    step("Install the resources' definitions", install("odradek-crds", &crds, &["--create-namespace"])?).await?;
    step("Install the operator", install("odradek-operator", &operator, &["--wait"])?).await?;

    let folder = tempfile::tempdir()?;
    let file = folder.path().join("demo.yaml");
    let manifest = [
        product::namespace_manifest(NAMESPACE),
        product::cluster_manifest(NAMESPACE, NAME),
        product::topic_manifest(NAMESPACE, TOPIC, NAME, 3),
    ]
    .join("---\n");
    std::fs::write(&file, &manifest)?;
    println!("{}", indented(&manifest));
    let file = file.display().to_string();
    step("Apply a Cluster and a Topic", cluster.kubectl_command(["apply", "-f", &file])?).await?;
    step("What it says at once", cluster.kubectl_command(["get", "odc,odt", "-A"])?).await?;
    for (title, what) in [
        ("Wait for the broker", format!("clusters.odradek.dev/{NAME}")),
        ("Wait for the topic", format!("topics.odradek.dev/{TOPIC}")),
    ] {
        let wait = ["wait", "--for=condition=Ready", &what, "-n", NAMESPACE, "--timeout=120s"];
        step(title, cluster.kubectl_command(wait)?).await?;
    }
    step("What it says now", cluster.kubectl_command(["get", "odc,odt", "-A"])?).await?;
    let made = ["get", "statefulsets,pods,services,pvc", "-n", NAMESPACE];
    step("What was made", cluster.kubectl_command(made)?).await?;

    let clients = Clients::new(cluster, &product::bootstrap(NAMESPACE, NAME)).await?;
    let mut lines: Vec<String> = (1..=RECORDS).map(|number| format!("greeting {number}")).collect();
    let input = folder.path().join("records.txt");
    std::fs::write(&input, lines.join("\n") + "\n")?;
    let mut produce = clients.java("org.apache.kafka.tools.ConsoleProducer")?;
    produce.args(["--topic", TOPIC, "--command-property", "acks=all"]);
    let title = format!("Write {RECORDS} records with Java's console producer, acks=all");
    run_step(&title, produce, File::open(&input)?.into(), false).await?;

    let mut consume = clients.java("org.apache.kafka.tools.consumer.ConsoleConsumer")?;
    consume.args(["--topic", TOPIC, "--group", "java", "--from-beginning"]);
    consume.args(["--max-messages", &RECORDS.to_string()]);
    let by_java = run_step("Read them in a group with Java", consume, Stdio::null(), false).await?;
    let count = RECORDS.to_string();
    let consume = clients.kcat(&["-q", "-G", "kcat", "-c", &count, "-X", "auto.offset.reset=earliest", TOPIC])?;
    let by_kcat = run_step("Read them in a group with kcat (librdkafka)", consume, Stdio::null(), false).await?;

    lines.sort_unstable();
    for (name, read) in [("Java", by_java), ("kcat", by_kcat)] {
        let mut read: Vec<&str> = read.lines().collect();
        read.sort_unstable();
        ensure!(read == lines, "{name} read {} records, and not those that were written", read.len());
        println!("{name} read all {RECORDS} records, each once.");
    }
    println!("\nFrom helm install to the last record read back: {:.1} s", started.elapsed().as_secs_f64());
    Ok(())
}

/// Runs a command and shows it, what it printed and what it took.
async fn step(title: &str, command: Command) -> Result<()> {
    run_step(title, command, Stdio::null(), true).await.map(drop)
}

async fn run_step(title: &str, command: Command, input: Stdio, show: bool) -> Result<String> {
    let started = Instant::now();
    println!("# {title}\n$ {}", as_typed(&command));
    let printed = output_with_input(command, input, Duration::from_mins(3)).await?;
    if show {
        println!("{}", indented(printed.trim_end()));
    }
    println!("  {:.1} s\n", started.elapsed().as_secs_f64());
    Ok(printed)
}

/// The command as a person would type it in a pod: without what takes it into the cluster's network, and
/// without the folders of tools.
fn as_typed(command: &Command) -> String {
    let arguments: Vec<_> = command.as_std().get_args().map(|argument| argument.to_string_lossy()).collect();
    // What follows the resolver's file is the client's own command.
    let client = arguments.iter().position(|argument| argument.ends_with("/resolv.conf"));
    let mut words: Vec<String> =
        arguments[client.map_or(0, |position| position + 1)..].iter().map(ToString::to_string).collect();
    if client.is_none() {
        words.insert(0, command.as_std().get_program().to_string_lossy().into_owned());
    }
    if let Some(program) = words.first_mut() {
        *program = program.rsplit('/').next().unwrap_or_default().to_owned();
    }
    // Java's memory settings and class path say nothing about what happens.
    if words.first().is_some_and(|program| program == "java") {
        let class = words.iter().position(|word| word.starts_with("org.apache.kafka")).unwrap_or(1);
        words.drain(1..class);
    }
    words.join(" ")
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("  {line}")).collect::<Vec<_>>().join("\n")
}
