// SPDX-License-Identifier: Apache-2.0
//! One node: containerd, kubelet and kube-proxy in a network namespace of their own. It must not know
//! what runs in the pods.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;
use serde_json::json;
use tokio::process::Command;

use crate::command::output;
use crate::control_plane::ControlPlane;
use crate::daemon::{Daemon, DaemonCommand};
use crate::{cgroups, network, tools};

/// The image that holds a pod's namespaces, as `setup/tool pause-image` names it.
pub const PAUSE_IMAGE: &str = "localhost/odradek-pause:1";

/// Reading an image of 100 MB into containerd takes a second; the disk may be busy with a build.
const IMPORT_PATIENCE: Duration = Duration::from_mins(2);

/// A running node.
pub struct Node {
    // Fields are dropped in this order: kubelet must not restart what containerd loses.
    pub(crate) kubelet: Daemon,
    pub(crate) proxy: Daemon,
    pub(crate) containerd: Daemon,
    number: u8,
    socket: PathBuf,
}

impl Node {
    /// Starts the daemons of node `number` (counted from 1) in `zone`. The network must be there.
    pub async fn start(plane: &ControlPlane, folder: &Path, number: u8, zone: &str) -> Result<Self> {
        let name = network::node_name(number);
        let folder = folder.join(&name);
        for part in ["cni", "containerd", "kubelet", "pods", "plugins"] {
            std::fs::create_dir_all(folder.join(part))?;
        }
        cgroups::create(number)?;
        let namespace = network::node_namespace(number);

        let socket = folder.join("containerd.sock");
        let containerd = containerd(&folder, &socket, number)?.in_network(&namespace).start(plane.logs())?;
        wait_for_socket(&socket, &containerd).await?;
        import(&socket, &tools::built("pause-image")?).await?;

        let kubelet = kubelet(plane, &folder, &socket, number, zone)?.in_network(&namespace).start(plane.logs())?;
        let proxy = proxy(plane, &folder, number)?.in_network(&namespace).start(plane.logs())?;
        Ok(Self { kubelet, proxy, containerd, number, socket })
    }

    pub fn name(&self) -> String {
        network::node_name(self.number)
    }

    /// The path of its network namespace.
    pub fn namespace(&self) -> PathBuf {
        network::node_namespace(self.number)
    }

    /// Makes the images of a docker archive available to pods on this node.
    pub async fn import(&self, archive: &Path) -> Result<()> {
        import(&self.socket, archive).await
    }

    /// An error if one of its daemons has ended.
    pub fn check_running(&mut self) -> Result<()> {
        self.containerd.check_running()?;
        self.kubelet.check_running()?;
        self.proxy.check_running()
    }
}

async fn import(socket: &Path, archive: &Path) -> Result<()> {
    let mut command = Command::new(tools::system("ctr")?);
    command.arg("--address").arg(socket).args(["--namespace", "k8s.io", "images", "import"]).arg(archive);
    output(command, IMPORT_PATIENCE).await?;
    Ok(())
}

async fn wait_for_socket(socket: &Path, containerd: &Daemon) -> Result<()> {
    let deadline = tokio::time::Instant::now() + crate::certificates::START_PATIENCE;
    loop {
        let mut command = Command::new(tools::system("ctr")?);
        command.arg("--address").arg(socket).args(["--namespace", "k8s.io", "images", "list", "-q"]);
        match output(command, IMPORT_PATIENCE).await {
            Ok(_) => return Ok(()),
            Err(error) if tokio::time::Instant::now() > deadline => {
                return Err(error.context(format!("containerd does not answer\n{}", containerd.log_tail(20))));
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

fn containerd(folder: &Path, socket: &Path, number: u8) -> Result<DaemonCommand> {
    let plugins = ["/opt/cni/bin", "/usr/lib/cni"]
        .into_iter()
        .find(|folder| Path::new(folder).join("bridge").exists())
        .unwrap_or("/usr/lib/cni");
    let network = json!({
        "cniVersion": "0.4.0",
        "name": network::POD_NETWORK,
        "plugins": [
            {
                "type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": false, "hairpinMode": true,
                "ipam": {
                    "type": "host-local",
                    "dataDir": folder.join("addresses"),
                    "ranges": [[{"subnet": network::pod_subnet(number)}]],
                    "routes": [{"dst": "0.0.0.0/0"}],
                },
            },
            {"type": "portmap", "capabilities": {"portMappings": true}},
        ],
    });
    std::fs::write(folder.join("cni/10-pods.conflist"), network.to_string())?;

    let data = folder.join("containerd");
    let data = data.display();
    // restrict_oom_score_adj: without CAP_SYS_RESOURCE runc could not lower the score, and would fail.
    let config = format!(
        r#"version = 2
root = "{data}/root"
state = "{data}/state"
disabled_plugins = ["io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs"]
[grpc]
address = "{socket}"
[plugins."io.containerd.internal.v1.opt"]
path = "{data}/opt"
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{PAUSE_IMAGE}"
restrict_oom_score_adj = true
netns_mounts_under_state_dir = true
stream_server_address = "127.0.0.1"
[plugins."io.containerd.grpc.v1.cri".containerd]
snapshotter = "overlayfs"
default_runtime_name = "runc"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
Root = "{data}/runc"
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "{plugins}"
conf_dir = "{cni}"
"#,
        socket = socket.display(),
        cni = folder.join("cni").display(),
    );
    let file = folder.join("containerd.toml");
    std::fs::write(&file, config)?;
    let file = file.display().to_string();
    let name = format!("containerd-{}", network::node_name(number));
    Ok(DaemonCommand::new(&name, tools::system("containerd")?, ["--config", &file]))
}

fn kubelet(plane: &ControlPlane, folder: &Path, socket: &Path, number: u8, zone: &str) -> Result<DaemonCommand> {
    let name = network::node_name(number);
    let kubeconfig = plane.kubeconfig_for(&format!("system:node:{name}"), Some("system:nodes"))?;
    let resolver = folder.join("resolv.conf");
    std::fs::write(&resolver, "")?;
    let authority = folder.join("ca.crt");
    std::fs::write(&authority, plane.authority().certificate())?;
    let config = json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {
            "anonymous": {"enabled": false},
            "webhook": {"enabled": false},
            "x509": {"clientCAFile": authority},
        },
        "authorization": {"mode": "AlwaysAllow"},
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": cgroups::name(number),
        "clusterDNS": [network::DNS],
        "clusterDomain": "cluster.local",
        "containerRuntimeEndpoint": format!("unix://{}", socket.display()),
        "enforceNodeAllocatable": [],
        // The machine's disk and memory are shared with other work: a node gives up only at the very end.
        "evictionHard": {
            "memory.available": "50Mi", "nodefs.available": "500Mi", "nodefs.inodesFree": "1%",
            "imagefs.available": "500Mi",
        },
        "failSwapOn": false,
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
        "nodeStatusUpdateFrequency": "2s",
        "oomScoreAdj": 0,
        "podLogsDir": folder.join("pods"),
        "readOnlyPort": 0,
        "resolvConf": resolver,
        "serializeImagePulls": false,
        "volumePluginDir": folder.join("plugins"),
    });
    let file = folder.join("kubelet.json");
    std::fs::write(&file, config.to_string())?;
    Ok(DaemonCommand::new(
        &format!("kubelet-{name}"),
        tools::kubernetes("kubelet")?,
        [
            format!("--config={}", file.display()),
            format!("--kubeconfig={}", kubeconfig.display()),
            format!("--root-dir={}", folder.join("kubelet").display()),
            format!("--cert-dir={}", folder.join("certificates").display()),
            format!("--hostname-override={name}"),
            format!("--node-ip={}", network::node_address(number)),
            format!("--node-labels=topology.kubernetes.io/zone={zone}"),
        ],
    ))
}

fn proxy(plane: &ControlPlane, folder: &Path, number: u8) -> Result<DaemonCommand> {
    let name = network::node_name(number);
    let config = json!({
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "iptables",
        "hostnameOverride": name,
        "clusterCIDR": network::POD_RANGE,
        "clientConnection": {"kubeconfig": plane.kubeconfig_for("system:kube-proxy", None)?},
        "conntrack": {"maxPerCore": 0},
        "iptables": {"minSyncPeriod": "100ms"},
        "metricsBindAddress": "127.0.0.1:10249",
    });
    let file = folder.join("kube-proxy.json");
    std::fs::write(&file, config.to_string())?;
    Ok(DaemonCommand::new(
        &format!("kube-proxy-{name}"),
        tools::kubernetes("kube-proxy")?,
        [format!("--config={}", file.display())],
    ))
}
