// SPDX-License-Identifier: Apache-2.0
//! Removes what nodes leave on the machine: their processes, mounts, control groups, network, and the files that their
//! programs put into fixed places. It finds them by the fixed names of a test cluster and by its folder, so it does the
//! same after a run that was killed. Process ids are looked up anew each time, never remembered.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use rustix::mount::{UnmountFlags, unmount};
use rustix::process::{Pid, Signal, kill_process};

use crate::{cgroups, network};

/// Processes get this long to go after SIGKILL; only one that waits for a disk takes more than a moment.
const KILL_PATIENCE: Duration = Duration::from_secs(10);

/// Where the container network's library keeps a file for each pod's networks, the loopback among them.
const NETWORK_RESULTS: &str = "/var/lib/cni/results";
/// Where kubelet listens for device plugins, whatever its own folder is.
const DEVICE_PLUGINS: &str = "/var/lib/kubelet/device-plugins/kubelet.sock";
/// Where kubelet keeps a link to each container's log.
const LOG_LINKS: &str = "/var/log/containers";

/// Removes everything when it is dropped, that is also when whoever held it was interrupted.
#[derive(Debug)]
pub struct Remover(PathBuf);

impl Remover {
    /// For a cluster whose folder this is.
    pub fn new(folder: &Path) -> Self {
        Self(folder.to_owned())
    }
}

impl Drop for Remover {
    fn drop(&mut self) {
        remove(&self.0);
    }
}

/// Removes everything. `folder_prefix` is what paths of the cluster's files start with.
#[expect(clippy::disallowed_methods, reason = "tear-down runs in drop, where nothing can be awaited")]
pub fn remove(folder_prefix: &Path) {
    let deadline = Instant::now() + KILL_PATIENCE;
    loop {
        let left = processes();
        if left.is_empty() {
            break;
        }
        if Instant::now() > deadline {
            let states: Vec<String> = left.iter().map(|id| state(*id)).collect();
            tracing::warn!(?states, "processes of the cluster do not go");
            break;
        }
        for process in left.into_iter().filter_map(Pid::from_raw) {
            // An error means that it has just ended.
            let _ = kill_process(process, Signal::KILL);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    remove_files(folder_prefix);
    for mount in mounts_under(folder_prefix) {
        let _ = unmount(&mount, UnmountFlags::DETACH);
    }
    cgroups::remove();
    network::remove();
    let found = find(folder_prefix);
    if !found.is_empty() {
        tracing::warn!(?found, "parts of the test cluster cannot be removed");
    }
}

/// What of a test cluster is on the machine, each with what it is.
pub fn find(folder_prefix: &Path) -> Vec<String> {
    let mut found: Vec<String> = processes().into_iter().map(|id| format!("process {}", state(id))).collect();
    found.extend(mounts_under(folder_prefix).iter().map(|mount| format!("mount {}", mount.display())));
    found.extend(cgroups::groups().iter().map(|group| format!("control group {}", group.display())));
    found.extend(network::namespaces().iter().map(|name| format!("network namespace {name}")));
    found.extend(network::host_interface().map(|name| format!("network interface {name}")));
    found.extend(files(folder_prefix).iter().map(|file| format!("file {}", file.display())));
    found
}

/// Shims run in the namespace of their node, pods in the node's control group. This process is none of them, whatever
/// anybody has put it into.
fn processes() -> Vec<i32> {
    let mut found = in_namespaces();
    found.extend(cgroups::processes());
    found.sort_unstable();
    found.dedup();
    let own = i32::try_from(std::process::id()).unwrap_or(0);
    found.retain(|id| *id != own && *id > 1);
    found
}

/// The processes whose network namespace is a node's or the switch's.
pub fn in_namespaces() -> Vec<i32> {
    // The device tells a namespace from the plain file that a killed `ip netns add` leaves.
    let identity = |path: &Path| fs::metadata(path).ok().map(|metadata| (metadata.dev(), metadata.ino()));
    let own = identity(Path::new("/proc/self/ns/net"));
    let ours: Vec<_> = network::namespaces()
        .iter()
        .filter_map(|name| identity(&Path::new("/run/netns").join(name)))
        .filter(|namespace| Some(*namespace) != own)
        .collect();
    if ours.is_empty() {
        return Vec::new();
    }
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    processes
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|id: &i32| {
            identity(Path::new(&format!("/proc/{id}/ns/net"))).is_some_and(|namespace| ours.contains(&namespace))
        })
        .collect()
}

/// An error if a kubelet runs on this machine: a node's would take its socket for device plugins away.
pub fn ensure_no_kubelet() -> Result<()> {
    ensure!(
        UnixStream::connect(DEVICE_PLUGINS).is_err(),
        "this machine is a node of a Kubernetes, whose kubelet listens on {DEVICE_PLUGINS}, where a test node's would: \
         name a cluster with E2E_KUBECONFIG instead"
    );
    Ok(())
}

/// A process's name and state, as the kernel shows them.
fn state(process: i32) -> String {
    let text = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    text.split(' ').take(3).collect::<Vec<_>>().join(" ")
}

fn remove_files(folder_prefix: &Path) {
    for file in files(folder_prefix) {
        let _ = fs::remove_file(file);
    }
}

/// What the nodes' programs put outside the cluster's folder.
fn files(folder_prefix: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let prefix = folder_prefix.to_string_lossy();
    for link in entries(Path::new(LOG_LINKS)) {
        if fs::read_link(&link).is_ok_and(|target| target.to_string_lossy().starts_with(prefix.as_ref())) {
            found.push(link);
        }
    }
    let socket = PathBuf::from(DEVICE_PLUGINS);
    if socket.exists() && ensure_no_kubelet().is_ok() {
        found.push(socket);
    }
    // What is named after a container, the containers' own folders tell.
    let nodes = folders_with(folder_prefix).into_iter().flat_map(|folder| entries(&folder));
    let tasks = nodes.flat_map(|node| entries(&node.join("containerd/state/io.containerd.runtime.v2.task/k8s.io")));
    let tasks: Vec<PathBuf> = tasks.collect();
    let containers: Vec<String> = tasks.iter().filter_map(|task| name(task)).collect();
    for task in &tasks {
        // Each shim listens on a socket in a folder that all containerds share.
        let address = fs::read_to_string(task.join("address")).unwrap_or_default();
        let socket = PathBuf::from(address.trim().trim_start_matches("unix://"));
        if socket.starts_with("/run/containerd/s") && socket.exists() {
            found.push(socket);
        }
    }
    for result in entries(Path::new(NETWORK_RESULTS)) {
        let Some(name) = name(&result) else { continue };
        if name.starts_with(network::POD_NETWORK) || containers.iter().any(|container| name.contains(container)) {
            found.push(result);
        }
    }
    found
}

fn name(path: &Path) -> Option<String> {
    path.file_name()?.to_str().map(str::to_owned)
}

/// The folders whose path begins with `prefix`, which may end in the middle of a name.
fn folders_with(prefix: &Path) -> Vec<PathBuf> {
    let begin = prefix.to_string_lossy();
    let siblings = prefix.parent().map(entries).unwrap_or_default();
    siblings.into_iter().filter(|path| path.to_string_lossy().starts_with(begin.as_ref())).collect()
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}

/// The mount points whose path starts with `prefix`, those inside others first.
fn mounts_under(prefix: &Path) -> Vec<PathBuf> {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let prefix = prefix.to_string_lossy();
    let mut found: Vec<PathBuf> = table
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .filter(|point| point.starts_with(prefix.as_ref()))
        .map(PathBuf::from)
        .collect();
    found.reverse();
    found
}
