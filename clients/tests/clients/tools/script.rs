// SPDX-License-Identifier: Apache-2.0
//! Three brokers of either kind, and the tools run against them, each run noted down. Knows no tool's arguments.

use anyhow::{Context, Result, bail, ensure};
use odradek_clients::transcript::{OwnNames, Step};
use odradek_clients::{DevCluster, Flavor, JavaTools, Nodes, NodesPlan, ToolRun};
use rdkafka::consumer::{BaseConsumer, Consumer};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// The longest that anything is waited for: Apache Kafka's session of 9 s, an election of its controller, and a start of a
/// node on a machine that does something else too.
const PATIENCE: Duration = Duration::from_mins(2);
/// Settings of both, for steps that need not wait for what is not looked at here.
const SETTINGS: [(&str, &str); 1] = [("group.initial.rebalance.delay.ms", "0")];

const BOOTSTRAP: &[&str] = &["--bootstrap-server", "{bootstrap}"];

/// Arguments of a tool, after those that say where the brokers are.
pub(crate) fn args<'a>(parts: &[&[&'a str]]) -> Vec<&'a str> {
    joined(&[BOOTSTRAP, &parts.concat()])
}

/// Arguments put together.
pub(crate) fn joined<'a>(parts: &[&[&'a str]]) -> Vec<&'a str> {
    parts.concat()
}

/// Three brokers with the ids 0, 1, 2 in the racks a, b, c.
pub(crate) enum Cluster {
    Odradek(DevCluster),
    ApacheKafka(Nodes),
}

impl Cluster {
    pub(crate) fn start(flavor: Flavor) -> Result<Self> {
        match flavor {
            Flavor::Odradek => Ok(Self::Odradek(DevCluster::start(3, &SETTINGS)?)),
            Flavor::ApacheKafka => {
                let settings = SETTINGS.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
                let plan = NodesPlan { racks: true, settings, ..NodesPlan::default() };
                Ok(Self::ApacheKafka(Nodes::start(flavor, plan)?))
            }
        }
    }

    fn bootstrap(&self) -> String {
        match self {
            Self::Odradek(cluster) => cluster.bootstrap(),
            Self::ApacheKafka(nodes) => nodes.bootstrap(),
        }
    }

    fn own_names(&self) -> Result<OwnNames> {
        let (addresses, folder): (Vec<String>, PathBuf) = match self {
            Self::Odradek(cluster) => {
                let brokers = cluster.list()?;
                (brokers.into_iter().map(|broker| broker.address).collect(), cluster.folder().to_owned())
            }
            Self::ApacheKafka(nodes) => {
                let addresses = nodes.ids().into_iter().map(|id| nodes.address(id));
                let folder = nodes.data_dir(0).parent().context("a folder in a folder")?.to_owned();
                (addresses.collect::<Result<_>>()?, folder)
            }
        };
        Ok(OwnNames { addresses, folder: folder.display().to_string() })
    }

    pub(crate) fn kill(&mut self, id: i32) -> Result<()> {
        match self {
            Self::Odradek(cluster) => cluster.kill(id),
            Self::ApacheKafka(nodes) => nodes.kill(id),
        }
    }

    pub(crate) fn restart(&mut self, id: i32) -> Result<()> {
        match self {
            Self::Odradek(cluster) => cluster.restart(id),
            Self::ApacheKafka(nodes) => nodes.launch(id),
        }
    }
}

/// The tools and what they have printed so far.
pub(crate) struct Script<'a> {
    java: &'a mut JavaTools,
    pub(crate) cluster: Cluster,
    own: OwnNames,
    steps: Vec<Step>,
    /// What was not as expected, while the script went on.
    complaints: Vec<String>,
    files: tempfile::TempDir,
}

impl<'a> Script<'a> {
    pub(crate) fn new(java: &'a mut JavaTools, cluster: Cluster) -> Result<Self> {
        let own = cluster.own_names()?;
        Ok(Self { java, cluster, own, steps: Vec::new(), complaints: Vec::new(), files: tempfile::tempdir()? })
    }

    pub(crate) fn bootstrap(&self) -> String {
        self.cluster.bootstrap()
    }

    /// Runs the steps to their end or to the first without which the next make no sense; gives back what was noted down,
    /// and all that was not as expected.
    pub(crate) fn finish(mut self, steps: impl FnOnce(&mut Self) -> Result<()>) -> (Vec<Step>, Vec<String>) {
        if let Err(error) = steps(&mut self) {
            self.complaints.push(format!("after {}: {error:#}", self.last_step()));
        }
        (self.steps, self.complaints)
    }

    fn last_step(&self) -> &str {
        self.steps.last().map_or("the start", |step| &step.name)
    }

    /// A file for a tool to read; gives back its path.
    pub(crate) fn file(&self, name: &str, content: &str) -> Result<String> {
        let path = self.files.path().join(name);
        std::fs::write(&path, content)?;
        Ok(path.to_str().context("temporary folder's name")?.to_owned())
    }

    /// Runs a tool without noting it down; the argument `{bootstrap}` is replaced by the brokers' addresses.
    pub(crate) fn run(&mut self, tool: &str, args: &[&str]) -> Result<ToolRun> {
        let bootstrap = self.bootstrap();
        let args: Vec<&str> =
            args.iter().map(|arg| if *arg == "{bootstrap}" { bootstrap.as_str() } else { arg }).collect();
        self.java.run(tool, &args, "")
    }

    /// Runs a tool and notes down what it printed.
    pub(crate) fn step(&mut self, name: &str, tool: &str, args: &[&str]) -> Result<ToolRun> {
        let run = self.run(tool, args)?;
        self.note(name, &run)?;
        Ok(run)
    }

    /// As [`Script::step`]; it has to succeed and to print all of these, or there is a complaint.
    pub(crate) fn expect(&mut self, name: &str, tool: &str, args: &[&str], printed: &[&str]) -> Result<ToolRun> {
        let run = self.step(name, tool, args)?;
        self.check_last(&run, run.status == 0, printed)?;
        Ok(run)
    }

    /// As [`Script::step`]; it has to fail by this exception or with these words, or there is a complaint.
    pub(crate) fn refused(&mut self, name: &str, tool: &str, args: &[&str], reason: &str) -> Result<()> {
        let run = self.step(name, tool, args)?;
        self.check_last(&run, run.status != 0, &[reason])
    }

    /// Runs a tool until it prints all of these; notes down the last run.
    pub(crate) fn until(&mut self, name: &str, tool: &str, args: &[&str], printed: &[&str]) -> Result<ToolRun> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let run = self.run(tool, args)?;
            let step = self.own.step(name, &run);
            if run.status == 0 && printed.iter().all(|words| step.lines.iter().any(|line| line.contains(words))) {
                self.note(name, &run)?;
                return Ok(run);
            }
            ensure!(Instant::now() < deadline, "{name}: {printed:?} did not appear within {PATIENCE:?}: {run:?}");
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Notes down a run.
    pub(crate) fn note(&mut self, name: &str, run: &ToolRun) -> Result<()> {
        ensure!(self.steps.iter().all(|step| step.name != name), "two steps are called {name:?}");
        self.steps.push(self.own.step(name, run));
        Ok(())
    }

    /// Notes down what was found out by other means.
    pub(crate) fn note_lines(&mut self, name: &str, lines: &[String]) -> Result<()> {
        let run = ToolRun { status: 0, stdout: lines.join("\n"), stderr: String::new() };
        self.note(name, &run)
    }

    fn check_last(&mut self, run: &ToolRun, ended_so: bool, printed: &[&str]) -> Result<()> {
        let step = self.steps.last().context("a step was noted down")?;
        let missing = printed.iter().find(|words| !step.lines.iter().any(|line| line.contains(**words)));
        if !ended_so {
            self.complaints.push(format!("{}: ended with {run:?}", step.name));
        } else if let Some(words) = missing {
            self.complaints.push(format!("{}: {words:?} is not in {run:?}", step.name));
        }
        Ok(())
    }

    /// Waits until clients are told of a state of the cluster.
    pub(crate) fn wait_for(&self, what: &str, holds: impl Fn(&rdkafka::metadata::Metadata) -> bool) -> Result<()> {
        let client: BaseConsumer = odradek_clients::native::configuration(&self.bootstrap()).create()?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            // While brokers come and go there may be no answer.
            let metadata = client.fetch_metadata(None, Duration::from_secs(5));
            if metadata.as_ref().is_ok_and(&holds) {
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!("waiting for {what}: not within {PATIENCE:?}");
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Waits until this many brokers are told of, and every partition has all its replicas in sync if it is to be.
    pub(crate) fn wait_for_brokers(&self, count: usize, whole: bool) -> Result<()> {
        self.wait_for(&format!("{count} brokers"), |metadata| {
            let mut partitions = metadata.topics().iter().flat_map(rdkafka::metadata::MetadataTopic::partitions);
            metadata.brokers().len() == count
                && (!whole || partitions.all(|partition| partition.isr().len() == partition.replicas().len()))
        })
    }
}
