// SPDX-License-Identifier: Apache-2.0
//! Removes what nodes leave on the machine: their processes, mounts, control groups and network. It
//! finds them by the fixed names of a test cluster, so it does the same after a run that was killed.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::mount::{UnmountFlags, unmount};
use rustix::process::{Pid, Signal, kill_process};

use crate::{cgroups, network};

/// Processes get this long to go after SIGKILL; only one that waits for a disk takes more than a moment.
const KILL_PATIENCE: Duration = Duration::from_secs(10);

/// Removes everything. `folder_prefix` is what paths of mounts start with.
#[expect(clippy::disallowed_methods, reason = "tear-down runs in drop, where nothing can be awaited")]
pub fn remove(folder_prefix: &Path) {
    let deadline = Instant::now() + KILL_PATIENCE;
    loop {
        // Shims run in the namespace of their node, pods in the node's control group.
        let mut left = in_namespaces();
        left.extend(cgroups::processes());
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
    for mount in mounts_under(folder_prefix) {
        let _ = unmount(&mount, UnmountFlags::DETACH);
    }
    cgroups::remove();
    network::remove();
}

/// The processes whose network namespace is a node's or the switch's.
pub fn in_namespaces() -> Vec<i32> {
    let ours: Vec<u64> = network::namespaces()
        .iter()
        .filter_map(|name| fs::metadata(Path::new("/run/netns").join(name)).ok())
        .map(|metadata| metadata.ino())
        .collect();
    if ours.is_empty() {
        return Vec::new();
    }
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    processes
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|id: &i32| {
            fs::metadata(format!("/proc/{id}/ns/net")).is_ok_and(|metadata| ours.contains(&metadata.ino()))
        })
        .collect()
}

/// A process's name and state, as the kernel shows them.
fn state(process: i32) -> String {
    let text = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    text.split(' ').take(3).collect::<Vec<_>>().join(" ")
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
