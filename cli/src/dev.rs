// SPDX-License-Identifier: Apache-2.0
//! `odradek dev`: brokers in this process, for an application developer's laptop and for tests. This file has the
//! options and the course of a run. It must not know the broker's parts: it fills in configurations and waits.
mod broker;
mod cluster;
mod control;
mod plan;
mod ports;
mod ready;

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand, ValueEnum};
use odradek_runtime::config::LogConfig;
use odradek_runtime::{logging, signals};
use tokio::process::Command;

use cluster::Cluster;
use control::{CONTROL_VARIABLE, ControlSocket};
use plan::Plan;

/// Brokers in one process at most: each has threads and a share of the memory of its own, and five is the most that
/// vote on metadata. More would show nothing new.
const MOST_BROKERS: u16 = 16;

const EXAMPLES: &str = "\
Examples:
  A broker on 127.0.0.1:9092, gone without a trace at Ctrl-C:
    odradek dev

  Keep the data, listen elsewhere:
    odradek dev --data-dir ./kafka-data --listen 127.0.0.1:19092

  Run the tests of an application against it (BOOTSTRAP_SERVERS is set), with their exit code:
    odradek dev --listen 127.0.0.1:0 --exec -- ./gradlew test

  Three brokers in three racks, on ports 9092 to 9094:
    odradek dev --brokers 3 --racks a,b,c

  Then, in another terminal, see how an application takes the loss of one:
    odradek dev broker list
    odradek dev broker kill 1
    odradek dev broker restart 1

  For scripts:
    odradek dev --output json | head -n 1";

/// Run brokers on this machine, ready for Kafka clients at once.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES, args_conflicts_with_subcommands = true)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    verb: Option<Verb>,
    #[command(flatten)]
    options: Options,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Look at the brokers of a running `odradek dev`, and make single ones fail.
    Broker(broker::Arguments),
}

#[derive(Debug, Args)]
struct Options {
    /// Brokers to run, each as if it were alone on a machine of its own.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=i64::from(MOST_BROKERS)))]
    brokers: u16,
    /// Racks that the brokers are in, by turns.
    #[arg(long, value_name = "RACK,...", value_delimiter = ',')]
    racks: Vec<String>,
    /// Address and port for Kafka clients; port 0 takes a free one. Further brokers take the ports behind it.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:9092")]
    listen: SocketAddr,
    /// Host and port that clients are told, if not the address itself (needed when listening on 0.0.0.0). Further
    /// brokers tell the ports behind it.
    #[arg(long, value_name = "HOST:PORT")]
    advertise: Option<String>,
    /// Address and port for probes and metrics; none by default. Further brokers take the ports behind it.
    #[arg(long, value_name = "ADDR")]
    http: Option<SocketAddr>,
    /// Folder to keep data in; several brokers have folders broker-0, broker-1, ... in it. Without it data is temporary
    /// and removed at exit.
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// A broker setting by Kafka's name; may be repeated.
    #[arg(long = "set", value_name = "NAME=VALUE")]
    set: Vec<String>,
    /// Detail of the log on stderr: error, warn, info, debug, trace, or a filter such as odradek_log=debug.
    #[arg(long, value_name = "LEVEL", default_value = "warn")]
    log_level: String,
    /// Socket for `odradek dev broker`; by default one that it finds by itself.
    #[arg(long, value_name = "PATH")]
    control: Option<PathBuf>,
    /// Form of the ready line.
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,
    /// Run the command after `--` once ready, and exit with its code.
    #[arg(long, requires = "command")]
    exec: bool,
    /// The command for --exec.
    #[arg(last = true, requires = "exec", value_name = "CMD")]
    command: Vec<OsString>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    Text,
    Json,
}

pub(crate) fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    match arguments.verb {
        Some(Verb::Broker(arguments)) => runtime()?.block_on(broker::run(arguments)),
        None => run_brokers(&arguments.options),
    }
}

/// For what this process does beside its brokers, which have threads of their own.
fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}

fn run_brokers(options: &Options) -> anyhow::Result<ExitCode> {
    logging::start(&LogConfig { level: Some(options.log_level.clone()), ..LogConfig::default() })
        .context("--log-level")?;
    let temporary = match &options.data_dir {
        Some(_) => None,
        None => Some(tempfile::Builder::new().prefix("odradek-dev-").tempdir().context("temporary data folder")?),
    };
    let folder = match (&options.data_dir, &temporary) {
        (Some(folder), _) => folder.clone(),
        (None, Some(temporary)) => temporary.path().to_path_buf(),
        (None, None) => bail!("no data folder"),
    };
    plan::check_folder(&folder, options.brokers)?;
    let outcome = runtime()?.block_on(serve(options, &folder, temporary.is_some()));
    if let Some(temporary) = temporary {
        temporary.close().context("removing the temporary data folder")?;
    }
    outcome
}

async fn serve(options: &Options, folder: &Path, temporary: bool) -> anyhow::Result<ExitCode> {
    // Signals first: one that comes during the start must not leave the temporary folder behind.
    let mut stop = signals::Stop::listen()?;
    let (plan, sockets) = Plan::new(options, folder).await?;
    let cluster = Arc::new(Cluster::new(&plan));
    tokio::select! {
        started = cluster.start(sockets) => started?,
        () = stop.requested() => return Ok(ExitCode::SUCCESS),
    }
    let bootstrap = plan.bootstrap();
    let control = ControlSocket::open(options.control.as_deref(), &plan, Arc::clone(&cluster))?;
    ready::announce(options.output, &plan, &cluster, temporary, control.as_ref())?;
    let outcome = {
        let command = async {
            if options.exec {
                execute(&options.command, &bootstrap, folder, control.as_ref()).await
            } else {
                std::future::pending().await
            }
        };
        tokio::select! {
            code = command => code,
            () = stop.requested() => Ok(ExitCode::SUCCESS),
            error = cluster.failed() => Err(error),
        }
    };
    drop(control);
    cluster.stop().await;
    outcome
}

/// Runs the command to its end. It is killed if the brokers stop first.
async fn execute(
    command: &[OsString],
    bootstrap: &str,
    folder: &Path,
    control: Option<&ControlSocket>,
) -> anyhow::Result<ExitCode> {
    let Some((program, arguments)) = command.split_first() else {
        bail!("--exec needs a command after --");
    };
    let mut command = Command::new(program);
    command.args(arguments).env("BOOTSTRAP_SERVERS", bootstrap).env("ODRADEK_DATA_DIR", folder).kill_on_drop(true);
    if let Some(control) = control {
        command.env(CONTROL_VARIABLE, control.path());
    }
    let mut child = command.spawn().with_context(|| format!("cannot run {}", program.to_string_lossy()))?;
    let status = child.wait().await.context("waiting for the command")?;
    // A command that died by a signal has no code: 1, as the shell's 128 + n would not say more here.
    let code = status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1);
    Ok(ExitCode::from(code))
}
