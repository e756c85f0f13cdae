// SPDX-License-Identifier: Apache-2.0
//! Several brokers under test: `odradek dev --brokers N` as a process, its brokers killed, paused and started again by
//! `odradek dev broker`. Knows what a user knows: command lines, their output, folders, signals.

use crate::binary;
use crate::native;
use crate::process::wait_with_deadline;
use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

/// The longest from a start until the ready line; a controller is elected and brokers register.
const START_LIMIT: Duration = Duration::from_mins(1);
/// The longest that one `odradek dev broker` may take: it has a limit of its own a little below.
const COMMAND_LIMIT: Duration = Duration::from_secs(90);
/// The longest from SIGTERM to the end.
const STOP_LIMIT: Duration = Duration::from_mins(1);

/// A running cluster with a folder of its own. Dropping it kills the process and removes the folder, unless
/// `ODRADEK_CHECK_KEEP` is set.
#[derive(Debug)]
pub struct DevCluster {
    process: Child,
    ready: Ready,
    folder: tempfile::TempDir,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Ready {
    bootstrap_servers: String,
    control: String,
    brokers: Vec<BrokerStatus>,
}

/// A broker as `odradek dev broker list --output json` shows it.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BrokerStatus {
    /// Its id.
    pub id: i32,
    /// Its rack.
    pub rack: Option<String>,
    /// `running`, `paused`, `stopped` or `starting`.
    pub state: String,
    /// Where clients reach it.
    pub address: String,
    /// Whether it is the controller.
    pub controller: bool,
    /// Partitions that it leads.
    pub leaders: usize,
}

impl DevCluster {
    /// Starts `brokers` brokers in racks a, b, c, with `settings`, and waits until all of them serve.
    ///
    /// # Errors
    /// When the binary cannot be built or started, or is not ready within a minute; with the end of its log.
    pub fn start(brokers: u16, settings: &[(&str, &str)]) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("odradek-check-").tempdir()?;
        let mut command = Command::new(binary::odradek()?);
        command.args(["dev", "--brokers", &brokers.to_string(), "--racks", "a,b,c", "--listen", "127.0.0.1:0"]);
        command.arg("--data-dir").arg(folder.path().join("data"));
        command.arg("--control").arg(folder.path().join("control.sock"));
        command.args(["--output", "json", "--log-level"]);
        command.arg(std::env::var("ODRADEK_CHECK_LOG_LEVEL").unwrap_or_else(|_| "warn".to_owned()));
        for (name, value) in settings {
            command.args(["--set", &format!("{name}={value}")]);
        }
        let log = File::create(folder.path().join("cluster.log"))?;
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log);
        let mut process = command.spawn().with_context(|| format!("starting {command:?}"))?;
        let stdout = process.stdout.take().context("stdout is a pipe")?;
        let (sender, line) = channel();
        std::thread::spawn(move || {
            let mut line = String::new();
            // What cannot be read is an empty line: not a ready one.
            let _ = BufReader::new(stdout).read_line(&mut line);
            let _ = sender.send(line);
        });
        let ready = line.recv_timeout(START_LIMIT).unwrap_or_default();
        match serde_json::from_str::<Ready>(&ready) {
            Ok(ready) => {
                let cluster = Self { process, ready, folder };
                ensure!(cluster.ready.brokers.len() == usize::from(brokers), "ready with {:?}", cluster.ready);
                Ok(cluster)
            }
            Err(error) => {
                // Failing means that it has ended already.
                let _ = process.kill();
                let _ = process.wait();
                let log = tail(&folder.path().join("cluster.log"));
                Err(error)
                    .with_context(|| format!("no ready line within {START_LIMIT:?} but {ready:?}; its log:\n{log}"))
            }
        }
    }

    /// The addresses of all brokers for clients.
    pub fn bootstrap(&self) -> String {
        self.ready.bootstrap_servers.clone()
    }

    /// Where everything of it is, the brokers' data among it.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    fn broker(&self, arguments: &[&str]) -> Result<Vec<BrokerStatus>> {
        let output = self.folder.path().join("command.out");
        let errors = self.folder.path().join("command.err");
        let mut command = Command::new(binary::odradek()?);
        command.args(["dev", "broker", "--output", "json", "--control", &self.ready.control]).args(arguments);
        command.stdin(Stdio::null()).stdout(File::create(&output)?).stderr(File::create(&errors)?);
        let mut process = command.spawn()?;
        let status = wait_with_deadline(&mut process, COMMAND_LIMIT, &format!("odradek dev broker {arguments:?}"))?;
        let complaint = std::fs::read_to_string(&errors)?;
        ensure!(status.success(), "odradek dev broker {arguments:?} ended with {status}: {complaint}");
        Ok(serde_json::from_slice(&std::fs::read(&output)?)?)
    }

    /// How the brokers are.
    ///
    /// # Errors
    /// When the command fails, as all below.
    pub fn list(&self) -> Result<Vec<BrokerStatus>> {
        self.broker(&["list"])
    }

    /// Kills a broker.
    ///
    /// # Errors
    /// When the command fails.
    pub fn kill(&self, id: i32) -> Result<()> {
        self.broker(&["kill", &id.to_string()]).map(drop)
    }

    /// Stops a broker where it is.
    ///
    /// # Errors
    /// When the command fails.
    pub fn pause(&self, id: i32) -> Result<()> {
        self.broker(&["pause", &id.to_string()]).map(drop)
    }

    /// Lets a paused broker go on.
    ///
    /// # Errors
    /// When the command fails.
    pub fn resume(&self, id: i32) -> Result<()> {
        self.broker(&["resume", &id.to_string()]).map(drop)
    }

    /// Starts a broker again and waits until it serves.
    ///
    /// # Errors
    /// When the command fails, also when the broker does not serve within a minute.
    pub fn restart(&self, id: i32) -> Result<()> {
        self.broker(&["restart", &id.to_string()]).map(drop)
    }

    /// Waits until every broker tells clients that every replica of every partition is in sync, at most `limit`; gives
    /// back how long that took. One broker's word is not enough: it may not have heard yet that a replica has left. The one
    /// that was started last has.
    ///
    /// # Errors
    /// When the time is up, naming a partition that is not whole.
    pub fn wait_until_in_sync(&self, limit: Duration) -> Result<Duration> {
        native::wait_until_in_sync(&self.bootstrap(), limit)
    }

    /// Asks the process to end (SIGTERM), which has to succeed; gives back how long it took.
    ///
    /// # Errors
    /// When it ends with a failure, or not within a minute.
    pub fn stop(mut self) -> Result<Duration> {
        let asked = Instant::now();
        let pid = rustix::process::Pid::from_child(&self.process);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
        let status = wait_with_deadline(&mut self.process, STOP_LIMIT, "odradek dev")?;
        ensure!(status.success(), "after SIGTERM it ended with {status}");
        Ok(asked.elapsed())
    }

    fn log_file(&self) -> PathBuf {
        self.folder.path().join("cluster.log")
    }
}

fn tail(log: &Path) -> String {
    const LINES: usize = 100;
    let log = std::fs::read(log)
        .map_or_else(|error| format!("(no log: {error})"), |bytes| String::from_utf8_lossy(&bytes).into_owned());
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(LINES)..].join("\n")
}

impl Drop for DevCluster {
    fn drop(&mut self) {
        // Failing means that it has ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
        let keep = std::env::var_os("ODRADEK_CHECK_KEEP").is_some();
        if keep {
            self.folder.disable_cleanup(true);
        }
        if keep || std::thread::panicking() || std::env::var_os("ODRADEK_CHECK_LOGS").is_some() {
            #[expect(clippy::print_stderr, reason = "a failed check shows what its brokers said")]
            {
                let (log, folder) = (tail(&self.log_file()), self.folder.path().display());
                eprintln!("--- {}, in {folder}; its log ends:\n{log}\n---", self.ready.bootstrap_servers);
            }
        }
    }
}
