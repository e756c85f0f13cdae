// SPDX-License-Identifier: Apache-2.0
//! A Kubernetes that runs pods: the one that `E2E_KUBECONFIG` names, else kind's where a container engine
//! works, else three nodes in three zones made of real components on this machine. What was made is
//! removed on drop; what a killed run left is removed before the next start.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use futures::future::try_join_all;
use k8s_openapi::api::core::v1::Node as NodeObject;
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt};
use rustix::fs::{FlockOperation, flock};
use tokio::process::Command;
use tokio::task::JoinHandle;

use crate::certificates::START_PATIENCE;
use crate::command::output;
use crate::control_plane::{ControlPlane, ControlPlaneOptions};
use crate::daemon::{Daemon, DaemonCommand};
use crate::kind::{self, KindCluster};
use crate::node::Node;
use crate::wait::until;
use crate::workspace::Workspace;
use crate::{kubeconfig, leftovers, network, provisioner, tools};

/// kubectl and helm are asked for single answers; one that waits brings its own patience.
const TOOL_PATIENCE: Duration = Duration::from_mins(1);

/// The zones of the nodes, in their order.
pub const ZONES: [&str; 3] = ["a", "b", "c"];

/// A running cluster.
pub struct Cluster {
    made: Made,
    kubeconfig: PathBuf,
    client: Client,
}

/// Where the cluster comes from.
enum Made {
    Given,
    Kind(KindCluster, Workspace),
    Own(Box<OwnCluster>),
}

/// What was started on this machine.
struct OwnCluster {
    nodes: Vec<Node>,
    dns: Option<Daemon>,
    provisioner: Option<JoinHandle<()>>,
    // Dropped in this order, after the nodes' leftovers are removed.
    plane: ControlPlane,
    workspace: Workspace,
    _only_one: File,
}

impl Cluster {
    /// The cluster of `E2E_KUBECONFIG` if that is set, else one made here. `E2E_CLUSTER=own` does not
    /// look for kind.
    pub async fn start() -> Result<Self> {
        let (made, kubeconfig) = if let Some(given) = env::var_os("E2E_KUBECONFIG") {
            (Made::Given, PathBuf::from(given))
        } else if env::var_os("E2E_CLUSTER").is_none_or(|choice| choice != "own") && kind::works().await {
            let workspace = Workspace::create("kind")?;
            let cluster = KindCluster::create(workspace.path()).await?;
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

    /// What was made of our own components, if that is so.
    fn own(&self) -> Option<&OwnCluster> {
        match &self.made {
            Made::Own(own) => Some(own),
            Made::Given | Made::Kind(..) => None,
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
            Made::Given => Ok(()),
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
            Made::Given => bail!("clients of a given cluster need a network that this machine does not have"),
            Made::Kind(cluster, workspace) => (cluster.network(), workspace.path()),
            Made::Own(own) => {
                let node = own.nodes.first().context("a cluster has nodes")?;
                (node.namespace().into_os_string(), own.workspace.path())
            }
        };
        let mut network = OsString::from("--net=");
        network.push(namespace);
        let mut command = Command::new(tools::system("nsenter")?);
        command.arg(network).arg("--").arg(tools::system("unshare")?).args(["--mount", "--", "/bin/sh", "-ec"]);
        command.arg("mount --bind \"$0\" /etc/resolv.conf; exec \"$@\"");
        command.arg(folder.join(RESOLVER)).arg(program.as_ref());
        Ok(command)
    }

    /// The processes on a node of our own that run `program` (the last part of its path), by the machine's ids.
    pub fn processes_named(&self, program: &str) -> Vec<i32> {
        let named = |id: &i32| {
            let path = std::fs::read_link(format!("/proc/{id}/exe")).unwrap_or_default();
            path.file_name() == Some(OsStr::new(program))
        };
        crate::cgroups::processes().into_iter().filter(named).collect()
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
        let only_one = lock().await?;
        leftovers::remove(&env::temp_dir().join("odradek-cluster-"));
        let workspace = Workspace::create("cluster")?;
        let nodes = u8::try_from(ZONES.len())?;
        network::create(nodes).await.inspect_err(|_| network::remove())?;

        let options =
            ControlPlaneOptions { controllers: vec!["*".to_owned()], nodes: true, address: IpAddr::V4(network::HOST) };
        let plane = ControlPlane::start_with(options).await.inspect_err(|_| network::remove())?;
        // From here on an early return drops it, and so removes everything.
        let mut own = Self { nodes: Vec::new(), dns: None, provisioner: None, plane, workspace, _only_one: only_one };
        own.start_nodes().await?;
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
        self.provisioner = Some(tokio::spawn(provisioner::run(client.clone(), volumes)));
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

impl Drop for OwnCluster {
    fn drop(&mut self) {
        if let Some(provisioner) = self.provisioner.take() {
            provisioner.abort();
        }
        self.nodes.clear();
        self.dns = None;
        leftovers::remove(self.workspace.path());
    }
}

const RESOLVER: &str = "resolv.conf";

/// Writes the resolver's configuration that a pod in the namespace `default` has.
fn resolver(folder: &Path, dns: &str) -> Result<()> {
    let search = "default.svc.cluster.local svc.cluster.local cluster.local";
    std::fs::write(folder.join(RESOLVER), format!("nameserver {dns}\nsearch {search}\noptions ndots:5\n"))?;
    Ok(())
}

fn is_ready(node: &NodeObject) -> bool {
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions.into_iter().flatten().any(|condition| condition.type_ == "Ready" && condition.status == "True")
        && !node.name_any().is_empty()
}

/// One cluster at a time runs on a machine, since its network's names and addresses are fixed.
async fn lock() -> Result<File> {
    let file = File::create(env::temp_dir().join("odradek-e2e.lock"))?;
    until("no other test cluster runs on this machine", Duration::from_mins(10), async || {
        flock(&file, FlockOperation::NonBlockingLockExclusive).context("another one holds the lock")
    })
    .await?;
    Ok(file)
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
