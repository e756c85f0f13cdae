// SPDX-License-Identifier: Apache-2.0
//! A long-running process of the harness with its log file. It dies with the test process, even when
//! that one is killed. It must not know what the process is for.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, OnceLock, mpsc};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process};

use crate::tools;

/// One process, killed on drop.
#[derive(Debug)]
pub struct Daemon {
    name: String,
    child: Child,
    log: PathBuf,
}

/// How a [`Daemon`] is started.
#[derive(Debug, Clone)]
pub struct DaemonCommand {
    /// What the daemon is called in errors; also the name of its log file.
    pub name: String,
    pub program: PathBuf,
    pub arguments: Vec<OsString>,
    pub environment: Vec<(String, OsString)>,
    /// The network namespace (a path) to run in, if not the test's own.
    pub network: Option<PathBuf>,
}

impl DaemonCommand {
    pub fn new<A: Into<OsString>>(
        name: &str,
        program: impl Into<PathBuf>,
        arguments: impl IntoIterator<Item = A>,
    ) -> Self {
        Self {
            name: name.to_owned(),
            program: program.into(),
            arguments: arguments.into_iter().map(Into::into).collect(),
            environment: Vec::new(),
            network: None,
        }
    }

    #[must_use]
    pub fn in_network(mut self, namespace: &Path) -> Self {
        self.network = Some(namespace.to_owned());
        self
    }

    #[must_use]
    pub fn environment(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self.environment.push((name.to_owned(), value.into()));
        self
    }

    /// Starts it; what it prints is appended to `<logs>/<name>.log`.
    pub fn start(&self, logs: &Path) -> Result<Daemon> {
        let log = logs.join(format!("{}.log", self.name));
        let output = File::options()
            .create(true)
            .append(true)
            .open(&log)
            .with_context(|| format!("{} cannot be opened", log.display()))?;
        // nsenter and setpriv replace themselves by the program, so the child's id is the program's.
        let mut command = match &self.network {
            None => Command::new(tools::system("setpriv")?),
            Some(network) => {
                let mut command = Command::new(tools::system("nsenter")?);
                let mut option = OsString::from("--net=");
                option.push(network);
                command.arg(option).arg("--").arg(tools::system("setpriv")?);
                command
            }
        };
        command
            .args(["--pdeathsig", "KILL", "--"])
            .arg(&self.program)
            .args(&self.arguments)
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output);
        let child = spawn(command).with_context(|| format!("{} cannot be started", self.name))?;
        Ok(Daemon { name: self.name.clone(), child, log })
    }
}

impl Daemon {
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn log(&self) -> &Path {
        &self.log
    }

    /// Its exit status, if it has ended.
    pub fn exited(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// An error that names the exit status and the end of the log, if it has ended.
    pub fn check_running(&mut self) -> Result<()> {
        let Some(status) = self.exited()? else { return Ok(()) };
        anyhow::bail!("{} ended: {status}\n{}", self.name, self.log_tail(20));
    }

    /// The last lines of what it printed.
    pub fn log_tail(&self, lines: usize) -> String {
        let text = fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let all: Vec<&str> = text.lines().collect();
        all[all.len().saturating_sub(lines)..].join("\n")
    }

    /// Asks it to end (SIGTERM), and kills it when it has not after `patience`.
    #[expect(clippy::disallowed_methods, reason = "a child can only be polled without a runtime")]
    pub fn stop(mut self, patience: Duration) {
        let pid = Pid::from_child(&self.child);
        let deadline = Instant::now() + patience;
        if kill_process(pid, Signal::TERM).is_ok() {
            while Instant::now() < deadline && matches!(self.child.try_wait(), Ok(None)) {
                std::thread::sleep(Duration::from_millis(10));
            }
        }
        self.kill();
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        kill_process(Pid::from_child(&self.child), signal).with_context(|| format!("{} takes no {signal:?}", self.name))
    }

    /// Kills it (SIGKILL) and waits until it is gone.
    pub fn kill(&mut self) {
        // An error means that it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.kill();
    }
}

type Order = (Command, mpsc::Sender<io::Result<Child>>);

/// Starts a child from a thread that lives as long as the process: the kernel sends the parent-death
/// signal when the *thread* that started a child ends, and a test's thread ends with the test.
fn spawn(command: Command) -> io::Result<Child> {
    static ORDERS: OnceLock<Mutex<mpsc::Sender<Order>>> = OnceLock::new();
    let orders = ORDERS.get_or_init(|| {
        let (sender, receiver) = mpsc::channel::<Order>();
        std::thread::Builder::new()
            .name("daemons".to_owned())
            .spawn(move || {
                for (mut command, reply) in receiver {
                    // Nobody waiting for the reply means that the test has ended: drop the child.
                    let _ = reply.send(command.spawn());
                }
            })
            .expect("a thread can be started");
        Mutex::new(sender)
    });
    let (reply, answer) = mpsc::channel();
    orders
        .lock()
        .expect("no thread panics while it holds this lock")
        .send((command, reply))
        .expect("the thread ends with the process only");
    answer.recv().expect("every order is answered")
}
