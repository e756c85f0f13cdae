// SPDX-License-Identifier: Apache-2.0
//! `make demo`: Odradek on a real Kubernetes, step by step with every command and what it took, from
//! `helm install` to the last record read back. `KEEP=1` leaves everything up in the background, `--down` removes that.
#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::env;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use odradek_e2e::clients::Clients;
use odradek_e2e::cluster::{Cluster, Reach};
use odradek_e2e::command::output_with_input;
use odradek_e2e::ending::Ending;
use odradek_e2e::machine::{DEMO, Machine};
use odradek_e2e::wait::until;
use odradek_e2e::workspace::Workspace;
use odradek_e2e::{diagnosis, leftovers, product, tools};
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};

const NAMESPACE: &str = "demo";
const NAME: &str = "demo";
const TOPIC: &str = "greetings";
const RECORDS: usize = 1000;
/// How many of the records that were read are shown.
const SHOWN: usize = 3;
/// Set for the process that stays in the background and holds the cluster: the file it writes when the
/// demonstration is over.
const HOLDER: &str = "ODRADEK_DEMO_DONE";
/// Each part of the demonstration has a shorter deadline of its own; set-up may have to build first.
const WHOLE_PATIENCE: Duration = Duration::from_hours(1);
/// A cluster is removed in seconds.
const REMOVAL_PATIENCE: Duration = Duration::from_mins(2);

fn main() -> ExitCode {
    let levels = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("warn,kube_client=off"));
    tracing_subscriber::fmt().with_env_filter(levels).with_writer(std::io::stderr).init();
    let keep = env::var_os("KEEP").is_some_and(|value| !value.is_empty() && value != "0");
    let done = env::var_os(HOLDER).map(PathBuf::from);
    let down = env::args().nth(1).is_some_and(|argument| argument == "--down");
    let outcome = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("no runtime").and_then(
        |runtime| match (down, keep, done) {
            (true, ..) => runtime.block_on(remove_kept()),
            (false, true, None) => runtime.block_on(start_holder()),
            (false, _, done) => runtime.block_on(run(done.as_deref())),
        },
    );
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("odradek-demo: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Starts this program again in a group of its own, which Ctrl-C in this terminal does not reach, and
/// returns when its demonstration is over. Until then, who ends this process ends that one.
async fn start_holder() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let done = folder.path().join("done");
    let mut ending = Ending::listen()?;
    let mut command = Command::new(env::current_exe()?);
    command.env(HOLDER, &done).stdin(Stdio::null()).process_group(0);
    let mut holder = command.spawn()?;
    let shown = async {
        loop {
            if let Some(status) = holder.try_wait()? {
                bail!("the demonstration failed: {status}");
            }
            if done.exists() {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let (outcome, ended) = ending.or(WHOLE_PATIENCE, shown).await;
    if ended {
        end(&mut holder).await?;
    }
    outcome
}

/// Asks the holder to remove its cluster, and waits for that.
async fn end(holder: &mut Child) -> Result<()> {
    if let Some(process) = holder.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?)) {
        kill_process(process, Signal::TERM)?;
        tokio::time::timeout(REMOVAL_PATIENCE, holder.wait()).await.context("the cluster is not removed yet")??;
    }
    Ok(())
}

/// `make demo-down`: ends a demonstration that stays up, and removes what a killed one left.
async fn remove_kept() -> Result<()> {
    let mut machine = Machine::try_take()?;
    if machine.is_none() {
        let holder = Machine::holder().context("a test cluster is just starting: try again")?;
        ensure!(
            holder.program == DEMO,
            "{} (process {}) runs a test cluster, and is no demonstration",
            holder.program,
            holder.process
        );
        println!("ending the demonstration (process {})", holder.process);
        kill_process(Pid::from_raw(holder.process).context("process 0")?, Signal::TERM)?;
        until("the cluster is removed", REMOVAL_PATIENCE, async || {
            machine = Machine::try_take()?;
            ensure!(machine.is_some(), "process {} still holds it", holder.process);
            Ok(())
        })
        .await?;
    }
    let folders: Vec<PathBuf> = machine
        .as_ref()
        .and_then(Machine::left_by_a_killed_run)
        .map(Path::to_owned)
        .into_iter()
        .chain([env::temp_dir().join("odradek-cluster-")])
        .collect();
    for folder in folders {
        leftovers::remove(&folder);
        let left = leftovers::find(&folder);
        ensure!(left.is_empty(), "these are left:\n{}", left.join("\n"));
    }
    for kind in ["cluster", "control-plane"] {
        Workspace::remove_abandoned(kind)?;
    }
    println!("no test cluster is on this machine");
    Ok(())
}

async fn run(done: Option<&Path>) -> Result<()> {
    let mut ending = Ending::listen()?;
    let started = Instant::now();
    println!("# A Kubernetes of three nodes in three zones, on this machine");
    let cluster = ending.or(WHOLE_PATIENCE, Cluster::start()).await.0?;
    println!("  {:.1} s\n", started.elapsed().as_secs_f64());
    let outcome = match ending.or(WHOLE_PATIENCE, demonstrate(&cluster)).await {
        (Err(error), ended) => {
            if !ended {
                match diagnosis::save(&cluster, "demo").await {
                    Ok(folder) => eprintln!("logs, events and resources: {}", folder.display()),
                    Err(error) => eprintln!("its state could not be saved: {error:#}"),
                }
            }
            Err(error)
        }
        (Ok(()), _) => {
            println!("From an empty machine to the last record: {:.1} s", started.elapsed().as_secs_f64());
            match done {
                Some(done) => stay(&cluster, done, &mut ending).await,
                None => Ok(()),
            }
        }
    };
    let removed = cluster.remove().await;
    outcome.and(removed)
}

/// Holds the cluster until somebody ends this process.
async fn stay(cluster: &Cluster, done: &Path, ending: &mut Ending) -> Result<()> {
    println!("\nIt stays up. To look around:");
    println!("  export KUBECONFIG={}", cluster.kubeconfig().display());
    println!("  alias kubectl={}", tools::kubernetes("kubectl")?.display());
    println!("  kubectl get odc,odt,pods -A");
    println!("and to end it:\n  make demo-down");
    File::create(done)?;
    // Whoever reads what this process prints, through a pipe, sees its end now.
    let nothing = File::options().write(true).open("/dev/null")?;
    rustix::stdio::dup2_stdout(&nothing)?;
    rustix::stdio::dup2_stderr(&nothing)?;
    ending.wait().await;
    Ok(())
}

async fn demonstrate(cluster: &Cluster) -> Result<()> {
    ensure!(
        cluster.reach() >= Reach::Pods,
        "the clients of the demonstration have to reach the cluster's pods from this machine: unset E2E_KUBECONFIG"
    );
    for archive in product::image_archives()? {
        let importing = Instant::now();
        println!("# Give the image to every node\n  {}", archive.display());
        cluster.import(&archive).await?;
        println!("  {:.1} s\n", importing.elapsed().as_secs_f64());
    }
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
    let file = file.display().to_string();
    println!("# The Cluster and the Topic, as {file}\n{}\n", indented(&manifest));
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
    run_step(&title, produce, Some(&input), 0).await?;

    let mut consume = clients.java("org.apache.kafka.tools.consumer.ConsoleConsumer")?;
    consume.args(["--topic", TOPIC, "--group", "java", "--from-beginning"]);
    consume.args(["--max-messages", &RECORDS.to_string()]);
    let by_java = run_step("Read them in a group with Java", consume, None, SHOWN).await?;
    let count = RECORDS.to_string();
    let consume = clients.kcat(&["-q", "-G", "kcat", "-c", &count, "-X", "auto.offset.reset=earliest", TOPIC])?;
    let by_kcat = run_step("Read them in a group with kcat (librdkafka)", consume, None, SHOWN).await?;

    lines.sort_unstable();
    for (name, read) in [("Java", by_java), ("kcat", by_kcat)] {
        let mut read: Vec<&str> = read.lines().collect();
        read.sort_unstable();
        ensure!(read == lines, "{name} read {} records, and not those that were written", read.len());
        println!("{name} read all {RECORDS} records, each once.");
    }
    println!("From helm install to the last record read back: {:.1} s", started.elapsed().as_secs_f64());
    Ok(())
}

/// Runs a command and shows it, what it printed and what it took.
async fn step(title: &str, command: Command) -> Result<()> {
    run_step(title, command, None, usize::MAX).await.map(drop)
}

/// The same with a file as its input, and showing that many lines at most.
async fn run_step(title: &str, command: Command, input: Option<&Path>, lines: usize) -> Result<String> {
    let started = Instant::now();
    let redirection = input.map(|file| format!(" < {}", file.display())).unwrap_or_default();
    println!("# {title}\n$ {}{redirection}", as_typed(&command));
    let input = match input {
        Some(file) => File::open(file)?.into(),
        None => Stdio::null(),
    };
    let printed = output_with_input(command, input, Duration::from_mins(3)).await?;
    let all = printed.trim_end().lines().count();
    let shown: Vec<&str> = printed.trim_end().lines().take(lines).collect();
    if !shown.is_empty() {
        println!("{}", indented(&shown.join("\n")));
    }
    if lines > 0 && all > shown.len() {
        println!("  … {} more", all - shown.len());
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
