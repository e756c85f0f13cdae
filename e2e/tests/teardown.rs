// SPDX-License-Identifier: Apache-2.0
//! What a run that was killed with -9 leaves, and what removes it. Needs root; no cluster is started.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use odradek_e2e::machine::Machine;
use odradek_e2e::{cgroups, leftovers, network};
use rustix::mount::{MountFlags, mount};

/// Sets the test program going again as the run that is killed: it makes this folder its own.
const VICTIM: &str = "ODRADEK_TEARDOWN_VICTIM";

/// The part that is killed: a network, a node's control group, a mount, files in fixed places, processes that ignore
/// every polite signal.
#[tokio::test]
#[allow(clippy::zombie_processes, reason = "this process is killed; that they outlive it is what is tested")]
async fn victim() {
    let Some(folder) = std::env::var_os(VICTIM) else { return };
    let folder = Path::new(&folder);
    network::create(1).await.unwrap();
    cgroups::create(1).unwrap();
    let task = folder.join("node-1/containerd/state/io.containerd.runtime.v2.task/k8s.io/0123abcd");
    fs::create_dir_all(&task).unwrap();
    fs::create_dir_all("/run/containerd/s").unwrap();
    let socket = format!("/run/containerd/s/odradek-test-{}", std::process::id());
    drop(UnixListener::bind(&socket).unwrap());
    fs::write(task.join("address"), format!("unix://{socket}")).unwrap();
    fs::create_dir_all("/var/lib/cni/results").unwrap();
    fs::write("/var/lib/cni/results/cni-loopback-0123abcd-lo", "").unwrap();
    fs::create_dir_all("/var/log/containers").unwrap();
    let link = format!("/var/log/containers/odradek-test-{}.log", std::process::id());
    std::os::unix::fs::symlink(folder.join("node-1/pods/0.log"), link).unwrap();
    let inner = folder.join("node-1/mounted");
    fs::create_dir_all(&inner).unwrap();
    mount("tmpfs", &inner, "tmpfs", MountFlags::empty(), None).unwrap();

    let stubborn = "trap '' TERM INT HUP; while true; do sleep 1; done";
    let mut in_namespace = Command::new("nsenter");
    in_namespace.arg(format!("--net={}", network::node_namespace(1).display())).args(["sh", "-c", stubborn]);
    start(in_namespace);
    let mut in_group = Command::new("sh");
    in_group.args(["-c", stubborn]);
    let id = start(in_group).id();
    fs::write(cgroups::groups()[0].join("cgroup.procs"), id.to_string()).unwrap();
    fs::write(folder.join("ready"), "").unwrap();
    std::future::pending::<()>().await;
}

fn start(mut command: Command) -> Child {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

#[tokio::test]
async fn all_that_a_killed_run_left_is_found_and_removed() {
    if std::env::var_os(VICTIM).is_some() {
        return;
    }
    // A cluster that runs on this machine has the same names.
    let _machine = Machine::take().await.unwrap();
    let folder = tempfile::Builder::new().prefix("odradek-cluster-").tempdir().unwrap();
    leftovers::remove(folder.path());
    assert_eq!(leftovers::find(folder.path()), Vec::<String>::new());

    let mut run = Command::new(std::env::current_exe().unwrap());
    run.args(["--exact", "victim"]).env(VICTIM, folder.path());
    let mut run = start(run);
    odradek_e2e::wait::until("the run is in the middle", Duration::from_mins(1), async || {
        anyhow::ensure!(folder.path().join("ready").exists(), "not yet; it has ended: {:?}", run.try_wait());
        Ok(())
    })
    .await
    .unwrap();
    run.kill().unwrap();
    run.wait().unwrap();

    let left = leftovers::find(folder.path());
    for kind in [
        "process ",
        "mount ",
        "control group ",
        "network namespace ",
        "network interface ",
        "file /run/cont",
        "file /var/lib/cni",
        "file /var/log",
    ] {
        assert!(left.iter().any(|found| found.starts_with(kind)), "no {kind}among {left:#?}");
    }
    leftovers::remove(folder.path());
    assert_eq!(leftovers::find(folder.path()), Vec::<String>::new());
    // The container's folder is still there, so its files would still be found.
    assert!(!Path::new("/var/lib/cni/results/cni-loopback-0123abcd-lo").exists());
}
