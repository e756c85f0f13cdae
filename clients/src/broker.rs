// SPDX-License-Identifier: Apache-2.0
//! A broker under test as a process: `odradek dev`, or Apache Kafka as one combined node. Starting, killing, ending
//! and starting again on the same port and data. Knows what a user knows: command lines, ports, folders, signals.

use crate::ports::free_ports;
use crate::process::{ProcessUsage, wait_with_deadline};
use crate::{apache_kafka, binary, native};
use anyhow::{Context, Result, bail, ensure};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// The longest from a start until clients are answered. Apache Kafka needs 3 s on an idle machine.
const START_LIMIT: Duration = Duration::from_secs(90);
/// The longest from SIGTERM to the end.
const STOP_LIMIT: Duration = Duration::from_mins(1);

/// Which broker is under test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flavor {
    /// `odradek dev`.
    Odradek,
    /// Apache Kafka, one node that is broker and controller, with default settings but for what one node needs.
    ApacheKafka,
}

impl Flavor {
    /// The one that `ODRADEK_CHECK_AGAINST` asks for; ours if it is unset.
    ///
    /// # Errors
    /// When the variable names neither.
    pub fn from_environment() -> Result<Self> {
        match std::env::var("ODRADEK_CHECK_AGAINST").as_deref() {
            Err(_) | Ok("" | "odradek") => Ok(Self::Odradek),
            Ok("kafka") => Ok(Self::ApacheKafka),
            Ok(other) => {
                bail!("ODRADEK_CHECK_AGAINST is {other:?}; it can be \"odradek\" or \"kafka\"")
            }
        }
    }
}

/// How a broker is started beyond its flavor.
#[derive(Clone, Debug, Default)]
pub struct StartOptions {
    /// The processors it may run on, as a list for taskset; all if unset.
    pub processors: Option<String>,
    /// Return as soon as the process runs, without waiting until it answers.
    pub without_waiting: bool,
}

/// A broker process with a folder of its own. Dropping it kills the process and removes the folder.
#[derive(Debug)]
pub struct Broker {
    flavor: Flavor,
    options: StartOptions,
    process: Option<Child>,
    port: u16,
    controller_port: u16,
    folder: tempfile::TempDir,
    started_at: Instant,
}

impl Broker {
    /// Starts the flavor of the environment and waits until clients are answered.
    ///
    /// # Errors
    /// When it cannot be built or started, or does not answer in time; with the end of its log.
    pub fn start() -> Result<Self> {
        Self::start_with(Flavor::from_environment()?, StartOptions::default())
    }

    /// Starts `flavor`.
    ///
    /// # Errors
    /// As [`Broker::start`].
    pub fn start_with(flavor: Flavor, options: StartOptions) -> Result<Self> {
        let mut broker = Self::prepare(flavor, options)?;
        broker.launch()?;
        Ok(broker)
    }

    /// Everything up to the start of the process: free ports, an empty folder; Apache Kafka's storage formatted;
    /// our binary built. [`Broker::launch`] then only starts the process.
    ///
    /// # Errors
    /// As [`Broker::start`].
    pub fn prepare(flavor: Flavor, options: StartOptions) -> Result<Self> {
        let ports = free_ports(2)?;
        let broker = Self {
            flavor,
            options,
            process: None,
            port: ports[0],
            controller_port: ports[1],
            folder: tempfile::Builder::new().prefix("odradek-check-").tempdir()?,
            started_at: Instant::now(),
        };
        match flavor {
            Flavor::Odradek => {
                binary::odradek()?;
            }
            Flavor::ApacheKafka => broker.format_apache_kafka()?,
        }
        Ok(broker)
    }

    fn format_apache_kafka(&self) -> Result<()> {
        let (port, controller) = (self.port, self.controller_port);
        let data = self.data_dir();
        std::fs::write(
            self.properties(),
            format!(
                "process.roles=broker,controller\n\
                 node.id=1\n\
                 listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}\n\
                 controller.listener.names=CONTROLLER\n\
                 controller.quorum.bootstrap.servers=127.0.0.1:{controller}\n\
                 log.dirs={}\n\
                 offsets.topic.replication.factor=1\n\
                 transaction.state.log.replication.factor=1\n\
                 transaction.state.log.min.isr=1\n\
                 share.coordinator.state.topic.replication.factor=1\n\
                 share.coordinator.state.topic.min.isr=1\n\
                 group.initial.rebalance.delay.ms=0\n",
                data.display()
            ),
        )?;
        apache_kafka::format(&[self.properties()], &["--standalone"])
    }

    fn properties(&self) -> PathBuf {
        self.folder.path().join("server.properties")
    }

    fn command(&self) -> Result<Command> {
        let inner = match self.flavor {
            Flavor::Odradek => {
                let mut command = Command::new(binary::odradek()?);
                command.args(["dev", "--listen", &self.bootstrap(), "--data-dir"]).arg(self.data_dir());
                command
            }
            Flavor::ApacheKafka => apache_kafka::command(&self.properties())?,
        };
        let Some(processors) = &self.options.processors else {
            return Ok(inner);
        };
        let mut pinned = Command::new("taskset");
        pinned.args(["--cpu-list", processors]).arg(inner.get_program()).args(inner.get_args());
        Ok(pinned)
    }

    /// Starts the process, on the same port and data as before if there was one.
    ///
    /// # Errors
    /// As [`Broker::start`].
    ///
    /// # Panics
    /// When it runs already.
    pub fn launch(&mut self) -> Result<()> {
        assert!(self.process.is_none(), "the broker runs already");
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.log_file())?;
        let mut command = self.command()?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        self.started_at = Instant::now();
        self.process = Some(command.spawn().with_context(|| format!("starting {command:?}"))?);
        if self.options.without_waiting {
            return Ok(());
        }
        self.wait_until_ready()
    }

    /// Waits until a client gets metadata.
    ///
    /// # Errors
    /// When the process ends, or the time is up; with the end of its log.
    pub fn wait_until_ready(&mut self) -> Result<()> {
        let bootstrap = self.bootstrap();
        let deadline = self.started_at + START_LIMIT;
        loop {
            let process = self.process.as_mut().context("the broker does not run")?;
            if let Some(status) = process.try_wait()? {
                self.process = None;
                bail!("the broker ended at its start with {status}: {}", self.log_tail());
            }
            // The port first: a client that is refused once waits longer before it tries again.
            if std::net::TcpStream::connect(&bootstrap).is_ok() && native::answers_metadata(&bootstrap) {
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "the broker was not ready within {START_LIMIT:?}: {}", self.log_tail());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// When the process was started last.
    pub fn started_at(&self) -> Instant {
        self.started_at
    }

    /// Which broker it is.
    pub fn flavor(&self) -> Flavor {
        self.flavor
    }

    /// Its address for clients.
    pub fn bootstrap(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The folder of its data.
    pub fn data_dir(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// The folder of one partition's files.
    pub fn partition_dir(&self, topic: &str, partition: i32) -> PathBuf {
        self.data_dir().join(format!("{topic}-{partition}"))
    }

    fn log_file(&self) -> PathBuf {
        self.folder.path().join("broker.log")
    }

    /// Everything the broker has printed since it was first started.
    pub fn log(&self) -> String {
        std::fs::read(self.log_file())
            .map_or_else(|error| format!("(no log: {error})"), |bytes| String::from_utf8_lossy(&bytes).into_owned())
    }

    fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }

    /// What the process uses.
    ///
    /// # Errors
    /// When it does not run.
    pub fn usage(&self) -> Result<ProcessUsage> {
        let process = self.process.as_ref().context("the broker does not run")?;
        ProcessUsage::of(process.id())
    }

    /// Ends the process at once (SIGKILL), as when its machine's memory runs out.
    ///
    /// # Errors
    /// When it does not run, or had ended by itself.
    pub fn kill(&mut self) -> Result<()> {
        let mut process = self.process.take().context("the broker does not run")?;
        if let Some(status) = process.try_wait()? {
            bail!("the broker had ended by itself with {status}: {}", self.log_tail());
        }
        process.kill()?;
        process.wait()?;
        Ok(())
    }

    /// Asks the process to end (SIGTERM), and gives back how it ended and how long that took.
    ///
    /// # Errors
    /// When it does not run, or does not end within a minute.
    pub fn terminate(&mut self) -> Result<(ExitStatus, Duration)> {
        let mut process = self.process.take().context("the broker does not run")?;
        let asked = Instant::now();
        let pid = rustix::process::Pid::from_child(&process);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
        let status = wait_with_deadline(&mut process, STOP_LIMIT, "the broker").with_context(|| self.log_tail())?;
        Ok((status, asked.elapsed()))
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let mut ended = None;
        if let Some(mut process) = self.process.take() {
            // A broker that ended without being asked to explains whatever its clients complain of.
            ended = process.try_wait().ok().flatten();
            // Failing means that it has ended already.
            let _ = process.kill();
            let _ = process.wait();
        }
        if ended.is_some() || std::thread::panicking() || std::env::var_os("ODRADEK_CHECK_LOGS").is_some() {
            #[expect(clippy::print_stderr, reason = "a failed check shows what its broker said")]
            {
                let ended = ended.map_or_else(|| "it ran until now".to_owned(), |status| format!("it ended: {status}"));
                eprintln!("--- {}, {ended}; its log ends:\n{}\n---", self.bootstrap(), self.log_tail());
            }
        }
    }
}
