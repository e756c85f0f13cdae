// SPDX-License-Identifier: Apache-2.0
//! The brokers of one cluster as processes, each on a machine of its own of a [`crate::site::Site`], with what a pod
//! would give them: an address, a volume, a service account. Knows what a user knows: the configuration file, signals.

use std::env;
use std::net::{SocketAddr, SocketAddrV4};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use serde_json::json;

use crate::daemon::{Daemon, DaemonCommand};
use crate::pod_identity::PodIdentity;
use crate::{network, tools};

const CLIENT_PORT: u16 = 9092;
const PRIVATE_PORT: u16 = 9090;
const HTTP_PORT: u16 = 9404;
/// Partitions of the journal of the groups, `__consumer_offsets`.
pub const JOURNAL_PARTITIONS: usize = 4;
const RACKS: [&str; 3] = ["a", "b", "c"];

/// A broker stops within its own bound for handing its leaderships over, 20 s, and for what its clients still wait for.
const STOP_PATIENCE: Duration = Duration::from_mins(1);

/// Gives a process the service account's folder where every pod has it: in a mount namespace of its own, so that
/// nothing of it is seen or left on this machine.
const AS_IN_A_POD: &str = "\
mount -t tmpfs tmpfs /run
mkdir -p /run/secrets/kubernetes.io/serviceaccount
mount --bind \"$1\" /run/secrets/kubernetes.io/serviceaccount
shift
exec \"$@\"";

/// The brokers of one cluster, counted from 0.
#[derive(Debug)]
pub struct BrokerProcesses {
    brokers: Vec<BrokerProcess>,
    folder: PathBuf,
    logs: PathBuf,
}

#[derive(Debug)]
struct BrokerProcess {
    command: DaemonCommand,
    daemon: Option<Daemon>,
}

/// The broker's binary: `ODRADEK_BROKER_BIN`, or the one that `make check-outages` builds.
pub fn binary() -> Result<PathBuf> {
    let target = env::var_os("CARGO_TARGET_DIR").map_or_else(|| tools::project_root().join("target"), PathBuf::from);
    let binary = env::var_os("ODRADEK_BROKER_BIN").map_or_else(|| target.join("release/odradek-broker"), PathBuf::from);
    ensure!(binary.is_file(), "{} is missing: run make check-outages", binary.display());
    Ok(binary)
}

/// Where clients reach a broker.
pub fn client_address(broker: u8) -> SocketAddr {
    address(broker, CLIENT_PORT)
}

/// Where a broker's probes and metrics are.
pub fn http_address(broker: u8) -> SocketAddr {
    address(broker, HTTP_PORT)
}

fn address(broker: u8, port: u16) -> SocketAddr {
    SocketAddrV4::new(network::node_address(broker + 1), port).into()
}

fn listener(machine: u8, name: &str, port: u16) -> serde_json::Value {
    let advertised = address(machine, port).to_string();
    json!({"name": name, "bind": format!("0.0.0.0:{port}"), "advertised": advertised})
}

impl BrokerProcesses {
    /// Prepares so many brokers of a cluster, whose files are in `folder`. With an identity, that cluster's Leases
    /// coordinate them; without one, which only a single broker can be, nothing does.
    pub fn prepare(
        folder: &Path,
        cluster: &str,
        cluster_id: &str,
        count: u8,
        identity: Option<&PodIdentity>,
    ) -> Result<Self> {
        let binary = binary()?;
        let logs = folder.join("logs");
        std::fs::create_dir_all(&logs)?;
        let secret = folder.join("cluster-secret");
        std::fs::write(&secret, "the secret of a cluster that only tests know\n")?;
        let known: Vec<_> = (0..count)
            .map(|id| {
                let host = network::node_address(id + 1).to_string();
                json!({"id": id, "host": host, "port": PRIVATE_PORT, "rack": RACKS[usize::from(id)]})
            })
            .collect();
        let mut brokers = Vec::new();
        for id in 0..count {
            let mut config = json!({
                "clusterId": cluster_id,
                "brokerId": id,
                "dataFolder": folder.join(format!("broker-{id}")),
                "listeners": [listener(id, "plain", CLIENT_PORT), listener(id, "private", PRIVATE_PORT)],
                "http": format!("0.0.0.0:{HTTP_PORT}"),
                "log": {"format": "text", "level": env::var("ODRADEK_BROKER_LOG").unwrap_or_else(|_| "info".to_owned())},
                "config": {"offsets.topic.num.partitions": JOURNAL_PARTITIONS, "group.initial.rebalance.delay.ms": 0},
            });
            if identity.is_some() {
                config["rack"] = json!(RACKS[usize::from(id)]);
                config["brokers"] = json!(known);
                config["clusterSecretFile"] = json!(secret);
                config["coordination"] = json!({"kubernetes": {"clusterName": cluster}});
            }
            // JSON is YAML.
            let file = folder.join(format!("broker-{id}.yaml"));
            std::fs::write(&file, serde_json::to_string_pretty(&config)?)?;
            let name = format!("broker-{id}");
            let run = [binary.as_os_str(), "run".as_ref(), "--config".as_ref(), file.as_os_str()];
            let mut command = match identity {
                None => DaemonCommand::new(&name, run[0], &run[1..]),
                Some(identity) => {
                    let inside = ["--mount", "--propagation", "private", "--", "sh", "-ec", AS_IN_A_POD, "in-a-pod"];
                    let inside = inside.iter().map(AsRef::as_ref).chain([identity.folder().as_os_str()]).chain(run);
                    DaemonCommand::new(&name, tools::system("unshare")?, inside)
                }
            };
            command = command.in_network(&network::node_namespace(id + 1));
            for (name, value) in identity.map(PodIdentity::environment).unwrap_or_default() {
                command = command.environment(name, value);
            }
            command = command.environment("POD_NAME", format!("{cluster}-{id}-0"));
            // A restart is one of the container, in the same pod.
            command = command.environment("POD_UID", format!("{cluster}-{id}-0-first-pod"));
            brokers.push(BrokerProcess { command, daemon: None });
        }
        Ok(Self { brokers, folder: folder.to_owned(), logs })
    }

    /// How many there are, whether they run or not.
    pub fn count(&self) -> u8 {
        self.brokers.len() as u8
    }

    /// The folder with each broker's log.
    pub fn logs(&self) -> &Path {
        &self.logs
    }

    /// What a broker has printed, in all of its processes so far.
    pub fn log(&self, broker: u8) -> Result<String> {
        Ok(String::from_utf8_lossy(&std::fs::read(self.logs.join(format!("broker-{broker}.log")))?).into_owned())
    }

    /// A broker's data folder: its volume.
    pub fn data_folder(&self, broker: u8) -> PathBuf {
        self.folder.join(format!("broker-{broker}"))
    }

    /// A broker's data folder as a voter, `<broker id>:<directory id>`, as it stands in the controller Lease.
    pub fn voter(&self, broker: u8) -> Result<String> {
        let file = self.data_folder(broker).join("odradek-meta.json");
        let text = std::fs::read_to_string(&file).with_context(|| format!("{} cannot be read", file.display()))?;
        let identity: serde_json::Value = serde_json::from_str(&text)?;
        let directory = identity["directoryId"].as_str().with_context(|| format!("no directory id in {identity}"))?;
        Ok(format!("{broker}:{directory}"))
    }

    /// Starts a second process with the id of a broker that runs: on another machine, in another pod, with a volume of
    /// its own that is empty.
    pub fn start_second(&self, broker: u8, machine: u8) -> Result<Daemon> {
        let first = &self.brokers[usize::from(broker)];
        ensure!(first.daemon.is_some(), "broker {broker} does not run");
        let name = format!("broker-{broker}-second");
        let text = std::fs::read_to_string(self.folder.join(format!("broker-{broker}.yaml")))?;
        let mut config: serde_json::Value = serde_json::from_str(&text)?;
        config["dataFolder"] = json!(self.folder.join(&name));
        config["listeners"] =
            json!([listener(machine, "plain", CLIENT_PORT), listener(machine, "private", PRIVATE_PORT),]);
        let file = self.folder.join(format!("{name}.yaml"));
        std::fs::write(&file, serde_json::to_string_pretty(&config)?)?;
        let mut command = first.command.clone().in_network(&network::node_namespace(machine + 1));
        command.name = name;
        *command.arguments.last_mut().context("a broker's command ends with its configuration file")? = file.into();
        command.environment("POD_UID", "second-pod").start(&self.logs)
    }

    /// Where clients may begin: all brokers.
    pub fn bootstrap(&self) -> String {
        (0..self.count()).map(|broker| client_address(broker).to_string()).collect::<Vec<_>>().join(",")
    }

    /// Starts a broker, again with the data that it had. It does not wait for it.
    pub fn start(&mut self, broker: u8) -> Result<()> {
        let process = &mut self.brokers[usize::from(broker)];
        ensure!(process.daemon.is_none(), "broker {broker} runs already");
        process.daemon = Some(process.command.start(&self.logs)?);
        Ok(())
    }

    /// Has its next start be in another pod, as after an eviction: the same volume, another pod uid.
    pub fn move_to_another_pod(&mut self, broker: u8, uid: &str) {
        let process = &mut self.brokers[usize::from(broker)];
        process.command = process.command.clone().environment("POD_UID", uid);
    }

    /// Ends it at once (SIGKILL). Its sockets are closed by the kernel, which its peers notice.
    pub fn kill(&mut self, broker: u8) -> Result<()> {
        let mut daemon = self.take(broker)?;
        daemon.check_running()?;
        daemon.kill();
        Ok(())
    }

    /// Freezes it (SIGSTOP): its connections stay open and nothing answers.
    pub fn freeze(&self, broker: u8) -> Result<()> {
        self.signal(broker, Signal::STOP)
    }

    /// Lets it go on (SIGCONT), as if no time had passed.
    pub fn thaw(&self, broker: u8) -> Result<()> {
        self.signal(broker, Signal::CONT)
    }

    /// Asks it to stop (SIGTERM), as kubelet does, waits for its end, and says how long that took.
    pub async fn stop(&mut self, broker: u8) -> Result<Duration> {
        let mut daemon = self.take(broker)?;
        daemon.check_running()?;
        let asked = Instant::now();
        daemon.signal(Signal::TERM)?;
        let status = crate::wait::until(&format!("broker {broker} ends"), STOP_PATIENCE, async || {
            daemon.exited()?.with_context(|| format!("it runs; its log ends:\n{}", daemon.log_tail(20)))
        })
        .await?;
        ensure!(status.success(), "broker {broker} ended: {status}\n{}", daemon.log_tail(20));
        Ok(asked.elapsed())
    }

    /// An error if a broker that was started has ended by itself.
    pub fn check_running(&mut self) -> Result<()> {
        for process in &mut self.brokers {
            if let Some(daemon) = &mut process.daemon {
                daemon.check_running()?;
            }
        }
        Ok(())
    }

    fn signal(&self, broker: u8, signal: Signal) -> Result<()> {
        let daemon = self.brokers[usize::from(broker)].daemon.as_ref();
        daemon.with_context(|| format!("broker {broker} does not run"))?.signal(signal)
    }

    fn take(&mut self, broker: u8) -> Result<Daemon> {
        self.brokers[usize::from(broker)].daemon.take().with_context(|| format!("broker {broker} does not run"))
    }
}
