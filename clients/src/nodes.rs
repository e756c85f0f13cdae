// SPDX-License-Identifier: Apache-2.0
//! A cluster under test whose brokers are processes of their own on this machine: `odradek-broker run`, coordinated by a
//! Lease in a file, or Apache Kafka as combined nodes. Each can be killed, paused, ended and started again on its ports
//! and data. Knows what a user knows: configuration files, command lines, ports, folders, signals.

use crate::broker::Flavor;
use crate::ports::free_ports;
use crate::process::{ProcessUsage, wait_with_deadline};
use crate::workload::Random;
use crate::{apache_kafka, binary, by_hand, native};
use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// The longest from the start of several processes until each of them answers and knows all. Three nodes of Apache Kafka
/// need 8 s on two idle processors.
const START_LIMIT: Duration = Duration::from_mins(2);
/// The longest from SIGTERM to the end. Apache Kafka's controlled shutdown alone tries for some seconds.
const STOP_LIMIT: Duration = Duration::from_mins(1);
/// The longest until a cluster names its active controller; Apache Kafka's election may take some rounds.
const CONTROLLER_LIMIT: Duration = Duration::from_mins(1);
/// The longest that the election of preferred leaders may take.
const ELECTION_LIMIT: Duration = Duration::from_secs(30);
const RACKS: [&str; 3] = ["a", "b", "c"];

/// What a cluster consists of, beyond its flavor.
#[derive(Clone, Debug)]
pub struct NodesPlan {
    /// How many nodes.
    pub count: u16,
    /// The id of the first; the others follow.
    pub first_id: i32,
    /// Whether the nodes are in racks a, b, c; in none otherwise.
    pub racks: bool,
    /// Settings of each node by Kafka's names. None: all defaults.
    pub settings: Vec<(String, String)>,
    /// The processors that the nodes may run on, as a list for taskset; all if unset.
    pub processors: Option<String>,
}

impl Default for NodesPlan {
    fn default() -> Self {
        Self { count: 3, first_id: 0, racks: false, settings: Vec::new(), processors: None }
    }
}

#[derive(Debug)]
struct Node {
    id: i32,
    port: u16,
    /// Of Apache Kafka's controller listener, or of our private one.
    inner_port: u16,
    /// Of our probes and metrics.
    http_port: u16,
    process: Option<Child>,
}

/// A cluster with a folder of its own. Dropping it kills the processes and removes the folder, unless
/// `ODRADEK_CHECK_KEEP` is set.
#[derive(Debug)]
pub struct Nodes {
    flavor: Flavor,
    plan: NodesPlan,
    members: Vec<Node>,
    folder: tempfile::TempDir,
}

impl Nodes {
    /// Prepares a cluster, starts all its nodes, and waits until each of them answers clients and knows all others.
    ///
    /// # Errors
    /// When a program cannot be built or started, or the nodes do not come together in time; with the end of a log.
    pub fn start(flavor: Flavor, plan: NodesPlan) -> Result<Self> {
        let mut nodes = Self::prepare(flavor, plan)?;
        for id in nodes.ids() {
            nodes.launch(id)?;
        }
        nodes.wait_until_ready()?;
        Ok(nodes)
    }

    /// Everything up to the start of processes: free ports, empty folders, configuration; Apache Kafka's storage
    /// formatted; our binary built.
    ///
    /// # Errors
    /// As [`Nodes::start`].
    pub fn prepare(flavor: Flavor, plan: NodesPlan) -> Result<Self> {
        let ports = free_ports(3 * usize::from(plan.count))?;
        let members = (plan.first_id..).zip(ports.chunks(3)).map(|(id, ports)| Node {
            id,
            port: ports[0],
            inner_port: ports[1],
            http_port: ports[2],
            process: None,
        });
        let members = members.collect();
        let folder = tempfile::Builder::new().prefix("odradek-check-").tempdir()?;
        let cluster = Self { flavor, plan, members, folder };
        match flavor {
            Flavor::Odradek => {
                binary::odradek_broker()?;
                cluster.configure_odradek()?;
            }
            Flavor::ApacheKafka => cluster.configure_apache_kafka()?,
        }
        Ok(cluster)
    }

    fn configure_odradek(&self) -> Result<()> {
        let secret = self.folder.path().join("cluster-secret");
        std::fs::write(&secret, "the secret of a cluster that only checks know\n")?;
        let known: Vec<_> = self
            .members
            .iter()
            .map(|node| {
                let mut known = json!({"id": node.id, "host": "127.0.0.1", "port": node.inner_port});
                if let Some(rack) = self.rack(node) {
                    known["rack"] = json!(rack);
                }
                known
            })
            .collect();
        let settings: serde_json::Map<_, _> =
            self.plan.settings.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
        for node in &self.members {
            let listener = |name: &str, port: u16| json!({"name": name, "bind": format!("127.0.0.1:{port}")});
            let mut config = json!({
                "clusterId": apache_kafka::CLUSTER_ID,
                "brokerId": node.id,
                "dataFolder": self.data_dir(node.id),
                "listeners": [listener("plain", node.port), listener("private", node.inner_port)],
                "http": format!("127.0.0.1:{}", node.http_port),
                "brokers": known,
                "clusterSecretFile": secret,
                "coordination": {"local": {"leaseFile": self.lease_file()}},
                "log": {
                    "format": "text",
                    "level": std::env::var("ODRADEK_CHECK_LOG_LEVEL").unwrap_or_else(|_| "warn".to_owned()),
                },
                "config": settings,
            });
            if let Some(rack) = self.rack(node) {
                config["rack"] = json!(rack);
            }
            // JSON is YAML.
            std::fs::write(self.configuration(node.id), serde_json::to_vec_pretty(&config)?)?;
        }
        Ok(())
    }

    fn configure_apache_kafka(&self) -> Result<()> {
        let mut random = Random::new(1);
        let joined =
            |describe: &dyn Fn(&Node) -> String| self.members.iter().map(describe).collect::<Vec<_>>().join(",");
        let bootstrap = joined(&|node| format!("127.0.0.1:{}", node.inner_port));
        let mut files = Vec::new();
        let mut controllers = Vec::new();
        for node in &self.members {
            let (id, port, controller) = (node.id, node.port, node.inner_port);
            let mut properties = format!(
                "process.roles=broker,controller\n\
                 node.id={id}\n\
                 listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}\n\
                 controller.listener.names=CONTROLLER\n\
                 controller.quorum.bootstrap.servers={bootstrap}\n\
                 log.dirs={}\n",
                self.data_dir(id).display()
            );
            if let Some(rack) = self.rack(node) {
                writeln!(properties, "broker.rack={rack}")?;
            }
            for (name, value) in &self.plan.settings {
                writeln!(properties, "{name}={value}")?;
            }
            let file = self.configuration(id);
            std::fs::write(&file, properties)?;
            files.push(file);
            controllers.push(format!("{id}@127.0.0.1:{controller}:{}", directory_id(&mut random)));
        }
        apache_kafka::format(&files, &["--initial-controllers", &controllers.join(",")])
    }

    fn rack(&self, node: &Node) -> Option<&'static str> {
        let place = usize::try_from(node.id - self.plan.first_id).unwrap_or_default();
        self.plan.racks.then(|| RACKS[place % RACKS.len()])
    }

    fn configuration(&self, id: i32) -> PathBuf {
        self.folder.path().join(format!("broker-{id}.yaml"))
    }

    fn log_file(&self, id: i32) -> PathBuf {
        self.folder.path().join(format!("broker-{id}.log"))
    }

    /// Which brokers they are.
    pub fn flavor(&self) -> Flavor {
        self.flavor
    }

    /// The ids of all nodes, whether they run or not.
    pub fn ids(&self) -> Vec<i32> {
        self.members.iter().map(|node| node.id).collect()
    }

    /// The addresses of all nodes for clients.
    pub fn bootstrap(&self) -> String {
        self.members.iter().map(|node| format!("127.0.0.1:{}", node.port)).collect::<Vec<_>>().join(",")
    }

    /// The address of one node for clients.
    ///
    /// # Errors
    /// When there is no such node, as all below.
    pub fn address(&self, id: i32) -> Result<String> {
        Ok(format!("127.0.0.1:{}", self.node(id)?.port))
    }

    /// The folder of a node's data.
    pub fn data_dir(&self, id: i32) -> PathBuf {
        self.folder.path().join(format!("broker-{id}"))
    }

    /// The file of the controller Lease; only Odradek has one.
    pub fn lease_file(&self) -> PathBuf {
        self.folder.path().join("lease")
    }

    /// Everything that a node has printed since it was first started.
    pub fn log(&self, id: i32) -> String {
        std::fs::read(self.log_file(id))
            .map_or_else(|error| format!("(no log: {error})"), |bytes| String::from_utf8_lossy(&bytes).into_owned())
    }

    fn log_tail(&self, id: i32) -> String {
        const LINES: usize = 40;
        let log = self.log(id);
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(LINES)..].join("\n")
    }

    fn node(&self, id: i32) -> Result<&Node> {
        self.members.iter().find(|node| node.id == id).with_context(|| format!("there is no node {id}"))
    }

    fn node_mut(&mut self, id: i32) -> Result<&mut Node> {
        self.members.iter_mut().find(|node| node.id == id).with_context(|| format!("there is no node {id}"))
    }

    fn take(&mut self, id: i32) -> Result<Child> {
        self.node_mut(id)?.process.take().with_context(|| format!("node {id} does not run"))
    }

    fn command(&self, id: i32) -> Result<Command> {
        let inner = match self.flavor {
            Flavor::Odradek => {
                let mut command = Command::new(binary::odradek_broker()?);
                command.args(["run", "--config"]).arg(self.configuration(id));
                command
            }
            Flavor::ApacheKafka => apache_kafka::command(&self.configuration(id))?,
        };
        let Some(processors) = &self.plan.processors else {
            return Ok(inner);
        };
        let mut pinned = Command::new("taskset");
        pinned.args(["--cpu-list", processors]).arg(inner.get_program()).args(inner.get_args());
        Ok(pinned)
    }

    /// Starts a node, on the same ports and data as before if it ran already. It does not wait for it.
    ///
    /// # Errors
    /// When it runs, or cannot be started.
    pub fn launch(&mut self, id: i32) -> Result<()> {
        ensure!(self.node(id)?.process.is_none(), "node {id} runs already");
        let log = OpenOptions::new().create(true).append(true).open(self.log_file(id))?;
        let mut command = self.command(id)?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let process = command.spawn().with_context(|| format!("starting {command:?}"))?;
        self.node_mut(id)?.process = Some(process);
        Ok(())
    }

    /// Waits until each running node answers clients, and tells them of every other running one.
    ///
    /// # Errors
    /// When a process ends, or the time is up; with the end of its log.
    pub fn wait_until_ready(&mut self) -> Result<()> {
        let deadline = Instant::now() + START_LIMIT;
        self.check_running()?;
        let running = self.running();
        for id in &running {
            let address = self.address(*id)?;
            // The port first: a client that is refused once waits longer before it tries again.
            while TcpStream::connect(&address).is_err() || native::brokers_known_to(&address) < running.len() {
                self.check_running()?;
                ensure!(
                    Instant::now() < deadline,
                    "node {id} does not know {} within {START_LIMIT:?}: {}",
                    running.len(),
                    self.log_tail(*id)
                );
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        Ok(())
    }

    /// The ids of the nodes whose processes were started and neither killed nor ended.
    pub fn running(&self) -> Vec<i32> {
        self.members.iter().filter(|node| node.process.is_some()).map(|node| node.id).collect()
    }

    /// An error if a node that was started has ended by itself; with the end of its log.
    ///
    /// # Errors
    /// Then.
    pub fn check_running(&mut self) -> Result<()> {
        for id in self.running() {
            let process = self.node_mut(id)?.process.as_mut().context("it is running")?;
            if let Some(status) = process.try_wait()? {
                self.node_mut(id)?.process = None;
                bail!("node {id} ended by itself with {status}: {}", self.log_tail(id));
            }
        }
        Ok(())
    }

    /// Ends a node at once (SIGKILL), as when its machine's memory runs out.
    ///
    /// # Errors
    /// When it does not run, or had ended by itself.
    pub fn kill(&mut self, id: i32) -> Result<()> {
        let mut process = self.take(id)?;
        if let Some(status) = process.try_wait()? {
            bail!("node {id} had ended by itself with {status}: {}", self.log_tail(id));
        }
        process.kill()?;
        process.wait()?;
        Ok(())
    }

    /// Stops a node where it is (SIGSTOP): its connections stay open and nothing answers.
    ///
    /// # Errors
    /// When it does not run.
    pub fn pause(&self, id: i32) -> Result<()> {
        self.signal(id, Signal::STOP)
    }

    /// Lets a paused node go on (SIGCONT).
    ///
    /// # Errors
    /// When it does not run.
    pub fn resume(&self, id: i32) -> Result<()> {
        self.signal(id, Signal::CONT)
    }

    fn signal(&self, id: i32, signal: Signal) -> Result<()> {
        let process = self.node(id)?.process.as_ref().with_context(|| format!("node {id} does not run"))?;
        Ok(kill_process(Pid::from_child(process), signal)?)
    }

    /// Asks a node to end (SIGTERM), and gives back how it ended and how long that took. Of Apache Kafka, status 143 is
    /// a JVM that ended as it was asked to.
    ///
    /// # Errors
    /// When it does not run, or does not end within a minute.
    pub fn terminate(&mut self, id: i32) -> Result<(ExitStatus, Duration)> {
        let mut process = self.take(id)?;
        let asked = Instant::now();
        kill_process(Pid::from_child(&process), Signal::TERM)?;
        let status =
            wait_with_deadline(&mut process, STOP_LIMIT, &format!("node {id}")).with_context(|| self.log_tail(id))?;
        Ok((status, asked.elapsed()))
    }

    /// What a node uses.
    ///
    /// # Errors
    /// When it does not run.
    pub fn usage(&self, id: i32) -> Result<ProcessUsage> {
        let process = self.node(id)?.process.as_ref().with_context(|| format!("node {id} does not run"))?;
        ProcessUsage::of(process.id())
    }

    /// The processor time of all running nodes together, in seconds.
    ///
    /// # Errors
    /// When one has ended.
    pub fn cpu_seconds(&self) -> Result<f64> {
        self.running().into_iter().map(|id| Ok(self.usage(id)?.cpu_seconds)).sum()
    }

    /// The id of the active controller, as soon as a running node names one that runs.
    ///
    /// # Errors
    /// When none does within a minute.
    pub fn controller(&self) -> Result<i32> {
        let deadline = Instant::now() + CONTROLLER_LIMIT;
        loop {
            if let Some(id) = self.controller_now() {
                return Ok(id);
            }
            ensure!(Instant::now() < deadline, "no active controller within {CONTROLLER_LIMIT:?}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// The active controller, if a running node names a running one now. After a failure Apache Kafka's nodes may name
    /// one that has just lost its office; ours name only themselves.
    pub fn controller_now(&self) -> Option<i32> {
        let running = self.running();
        running.iter().find_map(|id| {
            let node = self.node(*id).ok()?;
            let named = match self.flavor {
                Flavor::Odradek => is_active_controller(loopback(node.http_port)).ok()?.then_some(*id),
                Flavor::ApacheKafka => by_hand::active_controller(loopback(node.port)).ok()?,
            };
            named.filter(|id| running.contains(id))
        })
    }

    /// Lets every partition be led by its preferred replica again; all nodes have to run and be in sync.
    ///
    /// # Errors
    /// No node answers, or the cluster refuses it for a partition.
    pub fn elect_preferred_leaders(&self) -> Result<()> {
        let node = self.members.iter().find(|node| node.process.is_some()).context("no node runs")?;
        by_hand::elect_preferred_leaders(loopback(node.port), ELECTION_LIMIT)?;
        Ok(())
    }

    /// Waits until clients are told that every replica of every partition is in sync, at most `limit`; gives back how
    /// long that took.
    ///
    /// # Errors
    /// When the time is up, naming a partition that is not whole.
    pub fn wait_until_in_sync(&self, limit: Duration) -> Result<Duration> {
        native::wait_until_in_sync(&self.bootstrap(), limit)
    }
}

impl Drop for Nodes {
    fn drop(&mut self) {
        let mut ended = false;
        for node in &mut self.members {
            if let Some(process) = &mut node.process {
                // One that ended without being asked to explains whatever its clients complain of.
                ended |= process.try_wait().is_ok_and(|status| status.is_some());
                // Failing means that it has ended already.
                let _ = process.kill();
                let _ = process.wait();
            }
        }
        let keep = std::env::var_os("ODRADEK_CHECK_KEEP").is_some();
        if keep {
            self.folder.disable_cleanup(true);
        }
        if keep || ended || std::thread::panicking() || std::env::var_os("ODRADEK_CHECK_LOGS").is_some() {
            for node in &self.members {
                #[expect(clippy::print_stderr, reason = "a failed check shows what its brokers said")]
                {
                    let (id, folder) = (node.id, self.folder.path().display());
                    eprintln!(
                        "--- node {id} of {:?}, in {folder}; its log ends:\n{}\n---",
                        self.flavor,
                        self.log_tail(id)
                    );
                }
            }
        }
    }
}

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

/// 16 bytes in Base64 of 22 characters, as Kafka writes its ids; the first is never a hyphen, which a tool would take
/// for an option, and the last carries only two bits.
fn directory_id(random: &mut Random) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut letter = |choices: u64| ALPHABET[random.between(0, choices) as usize] as char;
    let mut id: String = (0..21).map(|_| letter(52)).collect();
    id.push(['A', 'Q', 'g', 'w'][random.between(0, 4) as usize]);
    id
}

/// Whether the broker whose metrics are at `address` says that it is the active controller.
fn is_active_controller(address: SocketAddr) -> Result<bool> {
    const PATIENCE: Duration = Duration::from_millis(500);
    /// Far more than the series of ten thousand partitions.
    const ANSWER_BYTES_MAX: u64 = 64 << 20;
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    write!(stream, "GET /metrics HTTP/1.1\r\nHost: broker\r\nConnection: close\r\n\r\n")?;
    let mut text = String::new();
    stream.take(ANSWER_BYTES_MAX).read_to_string(&mut text)?;
    let series = "kafka_controller_kafkacontroller_activecontrollercount ";
    let value = text.lines().find_map(|line| line.strip_prefix(series)).context("the metrics do not say who leads")?;
    Ok(value.trim() == "1")
}
