// SPDX-License-Identifier: Apache-2.0
//! `odradek dev`: one broker in this process, for an application developer's laptop and for tests.
//! It must not know the broker's parts: it fills in a configuration and waits.
use std::ffi::OsString;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::{Args, ValueEnum};
use odradek_runtime::config::{Config, Coordination, ListenerConfig, LogConfig};
use odradek_runtime::{Broker, RunningBroker, logging, signals, threads};
use tokio::process::Command;

const EXAMPLES: &str = "\
Examples:
  A broker on 127.0.0.1:9092, gone without a trace at Ctrl-C:
    odradek dev

  Keep the data, listen elsewhere:
    odradek dev --data-dir ./kafka-data --listen 127.0.0.1:19092

  Run the tests of an application against it (BOOTSTRAP_SERVERS is set), with their exit code:
    odradek dev --listen 127.0.0.1:0 --exec -- ./gradlew test

  For scripts:
    odradek dev --output json | head -n 1";

/// Run a broker on this machine, ready for Kafka clients at once.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// Address and port for Kafka clients; port 0 takes a free one.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:9092")]
    listen: SocketAddr,
    /// Host and port that clients are told, if not the address itself (needed when listening on 0.0.0.0).
    #[arg(long, value_name = "HOST:PORT")]
    advertise: Option<String>,
    /// Address and port for probes and metrics; none by default.
    #[arg(long, value_name = "ADDR")]
    http: Option<SocketAddr>,
    /// Folder to keep data in. Without it data is temporary and removed at exit.
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// A broker setting by Kafka's name; may be repeated.
    #[arg(long = "set", value_name = "NAME=VALUE")]
    set: Vec<String>,
    /// Detail of the log on stderr: error, warn, info, debug, trace, or a filter such as odradek_log=debug.
    #[arg(long, value_name = "LEVEL", default_value = "warn")]
    log_level: String,
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

#[expect(clippy::needless_pass_by_value, reason = "the verb owns its arguments")]
pub(crate) fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    logging::start(&LogConfig { level: Some(arguments.log_level.clone()), ..LogConfig::default() })
        .context("--log-level")?;
    let temporary = match &arguments.data_dir {
        Some(_) => None,
        None => Some(tempfile::Builder::new().prefix("odradek-dev-").tempdir().context("temporary data folder")?),
    };
    let folder = match (&arguments.data_dir, &temporary) {
        (Some(folder), _) => folder.clone(),
        (None, Some(temporary)) => temporary.path().to_path_buf(),
        (None, None) => bail!("no data folder"),
    };
    let config = configure(&arguments, folder.clone())?;
    let workers = config.worker_threads;
    let outcome = threads::runtime(workers)?.block_on(serve(&arguments, config, &folder, temporary.is_some()));
    if let Some(temporary) = temporary {
        temporary.close().context("removing the temporary data folder")?;
    }
    outcome
}

fn configure(arguments: &Arguments, data_folder: PathBuf) -> anyhow::Result<Config> {
    // A developer waits for the first rebalance of every test: the pause that gathers a fleet's members is short, yet
    // long enough that members started together share the first generation.
    let mut given = vec![("group.initial.rebalance.delay.ms".to_owned(), "100".to_owned())];
    for pair in &arguments.set {
        let (name, value) = pair.split_once('=').with_context(|| format!("--set {pair}: not NAME=VALUE"))?;
        given.push((name.to_owned(), value.to_owned()));
    }
    let settings = odradek_runtime::config::settings(given)?;
    let advertised = match &arguments.advertise {
        Some(text) => Some(odradek_runtime::config::host_and_port("--advertise", text)?),
        None if arguments.listen.ip().is_unspecified() => Some(("127.0.0.1".to_owned(), arguments.listen.port())),
        None => None,
    };
    Ok(Config {
        cluster_id: None,
        broker_id: 0,
        data_folder,
        listeners: vec![ListenerConfig { name: "plain".to_owned(), bind: arguments.listen, advertised }],
        http: arguments.http,
        rack: None,
        brokers: Vec::new(),
        cluster_secret_file: None,
        cluster_secret: None,
        coordination: Coordination::Alone,
        memory_limit_bytes: None,
        worker_threads: None,
        log: LogConfig::default(),
        settings,
    })
}

async fn serve(arguments: &Arguments, config: Config, folder: &Path, temporary: bool) -> anyhow::Result<ExitCode> {
    // Signals first: one that comes during the start must not leave the temporary folder behind.
    let mut stop = signals::Stop::listen()?;
    let broker: RunningBroker = tokio::select! {
        broker = Broker::start(config) => broker?,
        () = stop.requested() => return Ok(ExitCode::SUCCESS),
    };
    let bootstrap = broker.advertised("plain").context("the listener is gone")?;
    announce(arguments.output, &bootstrap, folder, temporary, broker.http())?;
    let outcome = if arguments.exec {
        tokio::select! {
            code = execute(&arguments.command, &bootstrap, folder) => code,
            () = stop.requested() => Ok(ExitCode::SUCCESS),
            error = broker.failed() => Err(error.into()),
        }
    } else {
        tokio::select! {
            () = stop.requested() => Ok(ExitCode::SUCCESS),
            error = broker.failed() => Err(error.into()),
        }
    };
    broker.shutdown().await;
    outcome
}

fn announce(
    output: Output,
    bootstrap: &str,
    folder: &Path,
    temporary: bool,
    http: Option<SocketAddr>,
) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    match output {
        Output::Json => {
            let line = serde_json::json!({
                "event": "ready",
                "bootstrapServers": bootstrap,
                "http": http.map(|address| address.to_string()),
                "dataDir": folder.to_string_lossy(),
                "temporary": temporary,
                "pid": std::process::id(),
            });
            writeln!(out, "{line}")?;
        }
        Output::Text => {
            let fate = if temporary { "temporary" } else { "kept" };
            writeln!(out, "odradek dev is ready: BOOTSTRAP_SERVERS={bootstrap}  (data {fate}: {})", folder.display())?;
            writeln!(out, "\nTry it from another terminal:")?;
            writeln!(out, "  echo hello | kcat -b {bootstrap} -t greetings -P")?;
            writeln!(out, "  kcat -b {bootstrap} -t greetings -C -e")?;
            writeln!(out, "\nCtrl-C stops it.")?;
        }
    }
    out.flush()?;
    Ok(())
}

/// Runs the command to its end. It is killed if the broker stops first.
async fn execute(command: &[OsString], bootstrap: &str, folder: &Path) -> anyhow::Result<ExitCode> {
    let Some((program, arguments)) = command.split_first() else {
        bail!("--exec needs a command after --");
    };
    let mut child = Command::new(program)
        .args(arguments)
        .env("BOOTSTRAP_SERVERS", bootstrap)
        .env("ODRADEK_DATA_DIR", folder)
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("cannot run {}", program.to_string_lossy()))?;
    let status = child.wait().await.context("waiting for the command")?;
    // A command that died by a signal has no code: 1, as the shell's 128 + n would not say more here.
    let code = status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1);
    Ok(ExitCode::from(code))
}
