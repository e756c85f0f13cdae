// SPDX-License-Identifier: Apache-2.0
//! A Kubernetes that runs pods: the one that `E2E_KUBECONFIG` names, else kind's where a container engine
//! works, else three nodes in three zones made of real components on this machine. What was made is
//! removed at the end, also of a run that was interrupted; what a killed run left is removed before the next start.

use std::env;
use std::ffi::{OsStr, OsString};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use futures::future::try_join_all;
use k8s_openapi::api::core::v1::Node as NodeObject;
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt};
use tokio::process::Command;
use tokio::task::JoinSet;

use crate::certificates::START_PATIENCE;
use crate::command::output;
use crate::control_plane::{ControlPlane, ControlPlaneOptions};
use crate::daemon::{Daemon, DaemonCommand};
use crate::given::GivenCluster;
use crate::kind::{self, KindCluster};
use crate::leftovers::Remover;
use crate::machine::Machine;
use crate::node::Node;
use crate::wait::until;
use crate::workspace::Workspace;
use crate::{diagnosis, kubeconfig, leftovers, network, provisioner, tools};

/// kubectl and helm are asked for single answers; one that waits brings its own patience.
const TOOL_PATIENCE: Duration = Duration::from_mins(1);

/// The zones of the nodes, in their order.
pub const ZONES: [&str; 3] = ["a", "b", "c"];

/// What of a cluster this machine can reach; each includes the ones before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reach {
    /// The API server.
    Api,
    /// Also the network of its pods and their processes.
    Pods,
    /// Also the nodes, which are ours, with their names, zones and images.
    Nodes,
}

/// A running cluster.
pub struct Cluster {
    made: Made,
    kubeconfig: PathBuf,
    client: Client,
}

/// Where the cluster comes from.
enum Made {
    Given(GivenCluster),
    Kind(KindCluster, Workspace),
    Own(Box<OwnCluster>),
}

/// What was started on this machine.
struct OwnCluster {
    // Dropped in this order: what the daemons would start again goes after them, folders after who writes to them, and
    // the next run may begin only then.
    provisioner: JoinSet<()>,
    nodes: Vec<Node>,
    dns: Option<Daemon>,
    _remover: Remover,
    plane: ControlPlane,
    workspace: Workspace,
    _machine: Machine,
}

impl Cluster {
    /// The cluster of `E2E_KUBECONFIG` if that is set, else one made here. `E2E_CLUSTER=own` does not
    /// look for kind.
    pub async fn start() -> Result<Self> {
        let given = env::var_os("E2E_KUBECONFIG").filter(|given| !given.is_empty());
        let (made, kubeconfig) = if let Some(given) = given {
            let given = GivenCluster::prepare(Path::new(&given)).await?;
            let kubeconfig = given.kubeconfig().to_owned();
            (Made::Given(given), kubeconfig)
        } else if env::var_os("E2E_CLUSTER").is_none_or(|choice| choice != "own") && kind::works().await {
            let machine = Machine::take().await?;
            let workspace = Workspace::create("kind")?;
            let cluster = KindCluster::create(workspace.path(), machine).await?;
            resolver(workspace.path(), cluster.dns())?;
            let kubeconfig = cluster.kubeconfig().to_owned();
            (Made::Kind(cluster, workspace), kubeconfig)
        } else {
            let own = OwnCluster::start().await?;
            let kubeconfig = own.plane.kubeconfig().to_owned();
            (Made::Own(Box::new(own)), kubeconfig)
        };
        let client = kubeconfig::client(&kubeconfig).await?;
        Ok(Self { made, kubeconfig, client })
    }

    /// What of it this machine can reach.
    pub fn reach(&self) -> Reach {
        match &self.made {
            Made::Given(_) => Reach::Api,
            Made::Kind(..) => Reach::Pods,
            Made::Own(_) => Reach::Nodes,
        }
    }

    /// Removes it, or from a given one what was made there. Dropping it does the same but for a given one, where the
    /// next run then does.
    pub async fn remove(self) -> Result<()> {
        match self.made {
            Made::Given(given) => given.clean().await,
            Made::Kind(..) => Ok(()),
            Made::Own(own) => {
                let folder = own.workspace.path().to_owned();
                drop(own);
                let left = leftovers::find(&folder);
                ensure!(left.is_empty(), "of the cluster are left:\n{}", left.join("\n"));
                Ok(())
            }
        }
    }

    /// What was made of our own components, if that is so.
    fn own(&self) -> Option<&OwnCluster> {
        match &self.made {
            Made::Own(own) => Some(own),
            Made::Given(_) | Made::Kind(..) => None,
        }
    }

    /// A client with every right.
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// Makes the images of a docker archive available on every node. In a given cluster they have to be
    /// there already.
    pub async fn import(&self, archive: &Path) -> Result<()> {
        match &self.made {
            Made::Given(_) => Ok(()),
            Made::Kind(cluster, _) => cluster.import(archive).await,
            Made::Own(own) => try_join_all(own.nodes.iter().map(|node| node.import(archive))).await.map(drop),
        }
    }

    /// A kubectl command for this cluster.
    pub fn kubectl_command<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Result<Command> {
        let mut command = Command::new(tools::kubernetes("kubectl")?);
        command.env("KUBECONFIG", &self.kubeconfig).args(arguments);
        Ok(command)
    }

    /// What a kubectl command printed.
    pub async fn kubectl<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Result<String> {
        output(self.kubectl_command(arguments)?, TOOL_PATIENCE).await
    }

    /// Applies a manifest.
    pub async fn apply(&self, manifest: &str) -> Result<()> {
        let file = tempfile::NamedTempFile::new()?;
        std::fs::write(file.path(), manifest)?;
        self.kubectl([OsStr::new("apply"), OsStr::new("-f"), file.path().as_os_str()]).await?;
        Ok(())
    }

    /// A helm command for this cluster.
    pub fn helm_command<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Result<Command> {
        let mut command = Command::new(tools::built("helm")?);
        command.env("KUBECONFIG", &self.kubeconfig).args(arguments);
        Ok(command)
    }

    /// What a helm command printed.
    pub async fn helm<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Result<String> {
        output(self.helm_command(arguments)?, 2 * TOOL_PATIENCE).await
    }

    /// A command on this machine that sees the cluster's network and DNS as a pod does, so that clients
    /// need no image. Not for a given cluster, whose nodes are elsewhere.
    pub fn client_command(&self, program: impl AsRef<OsStr>) -> Result<Command> {
        let (namespace, folder) = match &self.made {
            Made::Given(_) => bail!("clients of a given cluster need a network that this machine does not have"),
            Made::Kind(cluster, workspace) => (cluster.network(), workspace.path()),
            Made::Own(own) => {
                let node = own.nodes.first().context("a cluster has nodes")?;
                (node.namespace().into_os_string(), own.workspace.path())
            }
        };
        let mut network = OsString::from("--net=");
        network.push(namespace);
        // Each replaces itself by the next, so the client is our child, and dies with us.
        let mut command = Command::new(tools::system("setpriv")?);
        command.args(["--pdeathsig", "KILL", "--"]).arg(tools::system("nsenter")?).arg(network).arg("--");
        command.arg(tools::system("unshare")?).args(["--mount", "--", "/bin/sh", "-ec"]);
        // The machine may ask another service than a name server for names.
        command.arg(
            "mount --bind \"$0\" /etc/resolv.conf; \
             if [ -e /etc/nsswitch.conf ]; then mount --bind \"${0%/*}/nsswitch.conf\" /etc/nsswitch.conf; fi; \
             exec \"$@\"",
        );
        command.arg(folder.join(RESOLVER)).arg(program.as_ref());
        Ok(command)
    }

    /// The processes of this machine that run `program` (the last part of its path) in the pod with this uid.
    pub fn processes_in_pod(&self, uid: &str, program: &str) -> Vec<i32> {
        let named = |id: &i32| {
            let path = std::fs::read_link(format!("/proc/{id}/exe")).unwrap_or_default();
            path.file_name() == Some(OsStr::new(program))
        };
        // kubelet writes it with underscores where systemd manages the groups.
        let other = uid.replace('-', "_");
        let in_pod = |id: &i32| {
            let groups = std::fs::read_to_string(format!("/proc/{id}/cgroup")).unwrap_or_default();
            !uid.is_empty() && (groups.contains(uid) || groups.contains(&other))
        };
        let all = std::fs::read_dir("/proc").into_iter().flatten().flatten();
        all.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).filter(named).filter(in_pod).collect()
    }

    /// The folder with the logs of the components and the pods, if the cluster is our own.
    pub fn folder(&self) -> Option<&Path> {
        self.own().map(|own| own.workspace.path())
    }

    /// The folder with one log per component, if the cluster is our own.
    pub fn component_logs(&self) -> Option<&Path> {
        self.own().map(|own| own.plane.logs())
    }
}

impl OwnCluster {
    async fn start() -> Result<Self> {
        let machine = Machine::take().await?;
        if let Some(left) = machine.left_by_a_killed_run() {
            leftovers::remove(left);
        }
        leftovers::remove(&env::temp_dir().join("odradek-cluster-"));
        leftovers::ensure_no_kubelet()?;
        let workspace = Workspace::create("cluster")?;
        machine.note_folder(workspace.path())?;
        // From here on whatever ends this early, also an interruption, drops it, and so removes everything.
        let remover = Remover::new(workspace.path());
        let nodes = u8::try_from(ZONES.len())?;
        network::create(nodes).await?;

        let options = ControlPlaneOptions {
            controllers: vec!["*".to_owned()],
            nodes: true,
            address: IpAddr::V4(network::HOST),
            network: None,
        };
        let plane = ControlPlane::start_with(options).await?;
        let mut own = Self {
            provisioner: JoinSet::new(),
            nodes: Vec::new(),
            dns: None,
            _remover: remover,
            plane,
            workspace,
            _machine: machine,
        };
        if let Err(error) = own.start_nodes().await {
            let folder = diagnosis::save_of_failed_start(own.workspace.path(), own.plane.logs())?;
            return Err(error.context(format!("no cluster; its logs: {}", folder.display())));
        }
        Ok(own)
    }

    async fn start_nodes(&mut self) -> Result<()> {
        let client = self.plane.client().await?;
        let folder = self.workspace.path();
        resolver(folder, &network::DNS.to_string())?;
        self.dns = Some(dns(&self.plane, folder)?.start(self.plane.logs())?);
        let starts = (1..).zip(ZONES).map(|(number, zone)| Node::start(&self.plane, folder, number, zone));
        self.nodes = try_join_all(starts).await?;
        provisioner::create_storage_class(&client).await?;
        let volumes = folder.join("volumes");
        std::fs::create_dir_all(&volumes)?;
        self.provisioner.spawn(provisioner::run(client.clone(), volumes));
        self.wait_until_ready(&client).await
    }

    async fn wait_until_ready(&mut self, client: &Client) -> Result<()> {
        let objects: Api<NodeObject> = Api::all(client.clone());
        let nodes = &mut self.nodes;
        until("every node is Ready", START_PATIENCE, async || {
            for node in nodes.iter_mut() {
                node.check_running()?;
            }
            let ready = objects.list(&ListParams::default()).await?.iter().filter(|node| is_ready(node)).count();
            ensure!(ready == nodes.len(), "{ready} of {} nodes are", nodes.len());
            Ok(())
        })
        .await
    }
}

const RESOLVER: &str = "resolv.conf";

/// Writes the resolver's configuration that a pod in the namespace `default` has, and who is asked for names.
fn resolver(folder: &Path, dns: &str) -> Result<()> {
    let search = "default.svc.cluster.local svc.cluster.local cluster.local";
    std::fs::write(folder.join(RESOLVER), format!("nameserver {dns}\nsearch {search}\noptions ndots:5\n"))?;
    std::fs::write(folder.join("nsswitch.conf"), "hosts: files dns\n")?;
    Ok(())
}

fn is_ready(node: &NodeObject) -> bool {
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions.into_iter().flatten().any(|condition| condition.type_ == "Ready" && condition.status == "True")
        && !node.name_any().is_empty()
}

fn dns(plane: &ControlPlane, folder: &Path) -> Result<DaemonCommand> {
    let config = format!(
        r"cluster.local:53 in-addr.arpa:53 {{
  errors
  bind {address}
  kubernetes cluster.local in-addr.arpa {{
    kubeconfig {kubeconfig}
    pods insecure
  }}
}}
.:53 {{
  bind {address}
  template ANY ANY {{
    rcode NXDOMAIN
  }}
}}
",
        address = network::DNS,
        kubeconfig = plane.kubeconfig().display(),
    );
    let file = folder.join("Corefile");
    std::fs::write(&file, config)?;
    let arguments = ["-conf".to_owned(), file.display().to_string()];
    Ok(DaemonCommand::new("coredns", tools::built("coredns")?, arguments).in_network(&network::switch_namespace()))
}
