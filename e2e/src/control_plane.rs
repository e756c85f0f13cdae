// SPDX-License-Identifier: Apache-2.0
//! A kube-apiserver and its etcd, as a test's own: nothing runs pods, but resources, their validation,
//! server-side apply, RBAC and watches are the real ones. Ready in a few seconds; all of it ends on
//! drop, and with the test process.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use kube::Client;
use kube::api::GetParams;
use rustix::process::Signal;

use crate::certificates::{Authority, Identity, START_PATIENCE, token_keys};
use crate::daemon::{Daemon, DaemonCommand};
use crate::workspace::Workspace;
use crate::{kubeconfig, ports, tools};

/// What a control plane is made of.
#[derive(Debug, Clone)]
pub struct ControlPlaneOptions {
    /// Which of kube-controller-manager's controllers run; none of them needs the process at all.
    pub controllers: Vec<String>,
    /// Run kube-scheduler, and admit pods only with their service account, as a cluster with nodes does.
    pub nodes: bool,
    /// The address that kube-apiserver listens on.
    pub address: IpAddr,
    /// The network namespace (a path) that all of it runs in, if not the test's own. The test has to reach `address`.
    pub network: Option<PathBuf>,
}

impl Default for ControlPlaneOptions {
    fn default() -> Self {
        Self { controllers: Vec::new(), nodes: false, address: IpAddr::V4(Ipv4Addr::LOCALHOST), network: None }
    }
}

impl ControlPlaneOptions {
    /// Objects go when their owner goes, and namespaces can be deleted; nothing else acts by itself.
    #[must_use]
    pub fn with_garbage_collection(mut self) -> Self {
        self.controllers = ["garbage-collector-controller", "namespace-controller"].map(str::to_owned).to_vec();
        self
    }
}

/// The addresses of Services in a test cluster.
pub const SERVICE_RANGE: &str = "10.43.0.0/16";
/// The address of the Service `kubernetes`: the first of [`SERVICE_RANGE`].
pub const SERVICE_ADDRESS: &str = "10.43.0.1";

/// The running control plane.
pub struct ControlPlane {
    // Fields are dropped in this order: processes before the folder that they write to.
    api_server: Option<Daemon>,
    others: Vec<Daemon>,
    etcd: Option<Daemon>,
    etcd_command: DaemonCommand,
    api_server_command: DaemonCommand,
    authority: Authority,
    server: String,
    admin: Identity,
    kubeconfig: PathBuf,
    logs: PathBuf,
    workspace: Workspace,
}

impl ControlPlane {
    /// Only kube-apiserver and etcd. Without the namespace controller a deleted namespace stays
    /// `Terminating`: see [`ControlPlaneOptions::with_garbage_collection`].
    pub async fn start() -> Result<Self> {
        Self::start_with(ControlPlaneOptions::default()).await
    }

    pub async fn start_with(options: ControlPlaneOptions) -> Result<Self> {
        let workspace = Workspace::create("control-plane")?;
        let logs = workspace.folder("logs")?;
        let [client_port, peer_port, secure_port] = ports::free()?;

        let etcd_url = format!("http://127.0.0.1:{client_port}");
        let etcd_command = etcd_command(&workspace, &options, &etcd_url, peer_port)?;
        let etcd = Some(etcd_command.start(&logs)?);

        let authority = Authority::generate()?;
        let admin = authority.client("e2e-admin", Some("system:masters"))?;
        let server = format!("https://{}:{secure_port}", options.address);
        let kubeconfig =
            workspace.write("kubeconfig", kubeconfig::render(&server, &authority.certificate(), &admin))?;
        let api_server_command = api_server_command(&workspace, &authority, &options, &etcd_url, secure_port)?;

        let mut plane = Self {
            api_server: None,
            others: Vec::new(),
            etcd,
            etcd_command,
            api_server_command,
            authority,
            server,
            admin,
            kubeconfig,
            logs,
            workspace,
        };
        plane.start_api_server().await?;
        if !options.controllers.is_empty() {
            plane.start_controller_manager(&options)?;
        }
        if options.nodes {
            plane.start_scheduler()?;
        }
        Ok(plane)
    }

    /// A client with every right.
    pub async fn client(&self) -> Result<Client> {
        kubeconfig::client(&self.kubeconfig).await
    }

    /// The admin's kubeconfig file; it is gone with the control plane.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// The URL of kube-apiserver.
    pub fn server(&self) -> &str {
        &self.server
    }

    /// Who signs this cluster's certificates.
    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// The folder with one log per process.
    pub fn logs(&self) -> &Path {
        &self.logs
    }

    /// A kubeconfig file for the user `name` in `group`, to test what a role may do.
    pub fn kubeconfig_for(&self, name: &str, group: Option<&str>) -> Result<PathBuf> {
        let identity = self.authority.client(name, group)?;
        let file = format!("{}.kubeconfig", name.replace([':', '/'], "-"));
        self.workspace.write(&file, kubeconfig::render(&self.server, &self.authority.certificate(), &identity))
    }

    /// Ends kube-apiserver, as an outage does: every connection to it breaks.
    pub fn stop_api_server(&mut self) {
        if let Some(mut daemon) = self.api_server.take() {
            daemon.kill();
        }
    }

    /// Starts kube-apiserver (again), at the same address and with the same data, and waits until it is ready.
    pub async fn start_api_server(&mut self) -> Result<()> {
        if self.api_server.is_some() {
            bail!("kube-apiserver runs already");
        }
        let client = self.client().await?;
        let mut daemon = self.api_server_command.start(&self.logs)?;
        let deadline = Instant::now() + START_PATIENCE;
        loop {
            daemon.check_running()?;
            self.etcd.as_mut().context("etcd does not run")?.check_running()?;
            if is_ready(&client).await {
                break;
            }
            if Instant::now() > deadline {
                bail!("kube-apiserver is not ready after {START_PATIENCE:?}\n{}", daemon.log_tail(20));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        self.api_server = Some(daemon);
        Ok(())
    }

    /// The state of etcd now, as a backup would have it.
    pub fn snapshot_etcd(&self) -> Result<EtcdSnapshot> {
        let etcd = self.etcd.as_ref().context("etcd does not run")?;
        let copy = self.workspace.folder(&format!("etcd-snapshot-{}", ports::free::<1>()?[0]))?;
        // What it writes is in the files in the order in which it wrote it, so a copy made while it stands still is
        // what a kill at this moment would have left, and it starts from that.
        etcd.signal(Signal::STOP)?;
        let copied = copy_folder(&self.etcd_data(), &copy);
        etcd.signal(Signal::CONT)?;
        copied?;
        Ok(EtcdSnapshot(copy))
    }

    /// Puts etcd back to what it was: kube-apiserver and etcd end, and start again with the old data. Everything that
    /// was written since is gone, and versions of resources begin again below those that clients have seen.
    pub async fn restore_etcd(&mut self, snapshot: &EtcdSnapshot) -> Result<()> {
        self.stop_api_server();
        if let Some(mut etcd) = self.etcd.take() {
            etcd.kill();
        }
        let data = self.etcd_data();
        fs::remove_dir_all(&data)?;
        copy_folder(&snapshot.0, &data)?;
        self.etcd = Some(self.etcd_command.start(&self.logs)?);
        self.start_api_server().await
    }

    /// Whether kube-apiserver runs, that is was not stopped.
    pub fn api_server_runs(&self) -> bool {
        self.api_server.is_some()
    }

    fn etcd_data(&self) -> PathBuf {
        self.workspace.path().join(ETCD_DATA)
    }

    fn start_controller_manager(&mut self, options: &ControlPlaneOptions) -> Result<()> {
        let folder = self.workspace.path();
        let command = DaemonCommand::new(
            "kube-controller-manager",
            tools::kubernetes("kube-controller-manager")?,
            [
                format!("--kubeconfig={}", self.kubeconfig.display()),
                format!("--controllers={}", options.controllers.join(",")),
                format!("--service-account-private-key-file={}", folder.join("token.key").display()),
                format!("--root-ca-file={}", folder.join("ca.crt").display()),
                "--leader-elect=false".to_owned(),
                "--secure-port=0".to_owned(),
                "--kube-api-qps=200".to_owned(),
                "--kube-api-burst=400".to_owned(),
            ],
        );
        self.others.push(command.start(&self.logs)?);
        Ok(())
    }

    fn start_scheduler(&mut self) -> Result<()> {
        let command = DaemonCommand::new(
            "kube-scheduler",
            tools::kubernetes("kube-scheduler")?,
            [
                format!("--kubeconfig={}", self.kubeconfig.display()),
                "--leader-elect=false".to_owned(),
                "--secure-port=0".to_owned(),
                "--kube-api-qps=200".to_owned(),
                "--kube-api-burst=400".to_owned(),
            ],
        );
        self.others.push(command.start(&self.logs)?);
        Ok(())
    }

    /// The admin's certificate and key.
    pub fn admin(&self) -> &Identity {
        &self.admin
    }
}

async fn is_ready(client: &Client) -> bool {
    // kube puts a slash between a path and a name: "" and "readyz" make "/readyz".
    let Ok(request) = kube::core::Request::new("").get("readyz", &GetParams::default()) else { return false };
    let answer = tokio::time::timeout(Duration::from_secs(5), client.request_text(request)).await;
    matches!(answer, Ok(Ok(_)))
}

/// What etcd held at some moment.
#[derive(Debug)]
pub struct EtcdSnapshot(PathBuf);

const ETCD_DATA: &str = "etcd";

fn etcd_command(
    workspace: &Workspace,
    options: &ControlPlaneOptions,
    client_url: &str,
    peer_port: u16,
) -> Result<DaemonCommand> {
    let peer_url = format!("http://127.0.0.1:{peer_port}");
    let data = workspace.path().join(ETCD_DATA);
    let command = DaemonCommand::new(
        "etcd",
        tools::system("etcd")?,
        [
            format!("--data-dir={}", data.display()),
            format!("--listen-client-urls={client_url}"),
            format!("--advertise-client-urls={client_url}"),
            format!("--listen-peer-urls={peer_url}"),
            format!("--initial-advertise-peer-urls={peer_url}"),
            format!("--initial-cluster=default={peer_url}"),
            // The data goes with the test: losing it to a power failure is no loss.
            "--unsafe-no-fsync".to_owned(),
            "--logger=zap".to_owned(),
            "--log-level=warn".to_owned(),
        ],
    );
    Ok(in_network_of(options, command))
}

fn in_network_of(options: &ControlPlaneOptions, command: DaemonCommand) -> DaemonCommand {
    match &options.network {
        None => command,
        Some(network) => command.in_network(network),
    }
}

/// Copies a folder with everything in it; `to` may be there.
fn copy_folder(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from).with_context(|| format!("{} cannot be read", from.display()))? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_folder(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

fn api_server_command(
    workspace: &Workspace,
    authority: &Authority,
    options: &ControlPlaneOptions,
    etcd_url: &str,
    secure_port: u16,
) -> Result<DaemonCommand> {
    let hosts = [
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
        "kubernetes.default.svc.cluster.local",
        "localhost",
        "127.0.0.1",
        SERVICE_ADDRESS,
        &options.address.to_string(),
    ]
    .map(str::to_owned);
    let serving = authority.server("kube-apiserver", &hosts)?;
    let kubelet_client = authority.client("kube-apiserver", Some("system:masters"))?;
    let (token_key, token_public) = token_keys()?;
    let file =
        |name: &str, content: &str| -> Result<String> { Ok(workspace.write(name, content)?.display().to_string()) };
    let token_key = file("token.key", &token_key)?;

    let mut arguments = vec![
        format!("--etcd-servers={etcd_url}"),
        format!("--secure-port={secure_port}"),
        format!("--bind-address={}", options.address),
        format!("--advertise-address={}", options.address),
        format!("--tls-cert-file={}", file("serving.crt", &serving.certificate)?),
        format!("--tls-private-key-file={}", file("serving.key", &serving.key)?),
        format!("--client-ca-file={}", file("ca.crt", &authority.certificate())?),
        format!("--kubelet-client-certificate={}", file("kubelet-client.crt", &kubelet_client.certificate)?),
        format!("--kubelet-client-key={}", file("kubelet-client.key", &kubelet_client.key)?),
        "--kubelet-preferred-address-types=InternalIP,Hostname".to_owned(),
        "--service-account-issuer=https://kubernetes.default.svc.cluster.local".to_owned(),
        format!("--service-account-signing-key-file={token_key}"),
        format!("--service-account-key-file={}", file("token.pub", &token_public)?),
        format!("--service-cluster-ip-range={SERVICE_RANGE}"),
        "--authorization-mode=Node,RBAC".to_owned(),
        "--allow-privileged=true".to_owned(),
        format!("--cert-dir={}", workspace.folder("certificates")?.display()),
        "--profiling=false".to_owned(),
    ];
    if !options.nodes {
        // Nobody makes the default service accounts, and no pod runs that could use one.
        arguments.push("--disable-admission-plugins=ServiceAccount".to_owned());
        arguments.push("--endpoint-reconciler-type=none".to_owned());
    }
    let command = DaemonCommand::new("kube-apiserver", tools::kubernetes("kube-apiserver")?, arguments);
    Ok(in_network_of(options, command))
}
