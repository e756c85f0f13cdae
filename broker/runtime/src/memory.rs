// SPDX-License-Identifier: Apache-2.0
//! How much memory this process may use, and how it is divided. It reads the kernel's files about the process;
//! it must not know what the budgets are spent on.
use std::path::{Path, PathBuf};

/// Bytes for requests and for answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryPlan {
    /// For frames being received and requests being served.
    pub requests: usize,
    /// For records read for Fetch answers.
    pub reads: usize,
}

impl MemoryPlan {
    /// Divides a limit: a quarter for requests, a quarter for reads. The other half is the broker itself (20 MB),
    /// what one request may overdraw, indexes, producer states, groups, and the page cache, which the cgroup charges
    /// to the same limit. Above 4 GiB more would not be faster: 1 GiB each is ten largest requests.
    pub fn from_limit(limit: u64) -> Self {
        const LEAST: u64 = 8 << 20;
        const MOST: u64 = 1 << 30;
        let part = (limit / 4).clamp(LEAST, MOST) as usize;
        Self { requests: part, reads: part }
    }
}

/// The memory limit of this process: the smallest limit of its cgroups (v1 or v2), else the machine's memory.
pub fn limit() -> u64 {
    let machine = machine_memory().unwrap_or(1 << 30);
    cgroup_limit(Path::new("/proc/self/cgroup"), Path::new("/sys/fs/cgroup")).map_or(machine, |l| l.min(machine))
}

fn machine_memory() -> Option<u64> {
    let text = read(Path::new("/proc/meminfo"))?;
    let line = text.lines().find(|line| line.starts_with("MemTotal:"))?;
    let kilobytes: u64 = line.split_ascii_whitespace().nth(1)?.parse().ok()?;
    Some(kilobytes * 1024)
}

/// Smallest limit on the way from the process's cgroup to the root. Inside a container the path may not exist
/// below the mount (it is the host's), then the mount's own files count.
fn cgroup_limit(membership: &Path, mount: &Path) -> Option<u64> {
    let text = read(membership)?;
    let mut limits = Vec::new();
    for line in text.lines() {
        let mut parts = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(path)) = (parts.next(), parts.next(), parts.next()) else {
            continue;
        };
        let (root, file) = if controllers.is_empty() {
            (mount.to_path_buf(), "memory.max")
        } else if controllers.split(',').any(|c| c == "memory") {
            (mount.join("memory"), "memory.limit_in_bytes")
        } else {
            continue;
        };
        let mut folder: PathBuf = root.join(path.trim_start_matches('/'));
        loop {
            let number = read(&folder.join(file)).and_then(|text| text.trim().parse::<u64>().ok());
            // v1 writes "no limit" as a number near i64::MAX, v2 as "max".
            limits.extend(number.filter(|n| *n < 1 << 60));
            if folder == root || !folder.pop() {
                break;
            }
        }
    }
    limits.into_iter().min()
}

/// A file of the kernel's about this process or machine, if it is there.
pub(crate) fn read(path: &Path) -> Option<String> {
    #[expect(clippy::disallowed_methods, reason = "the kernel's files about this process, not data of ours")]
    std::fs::read_to_string(path).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        root
    }

    #[test]
    fn the_smallest_limit_on_the_way_up_counts_in_v2() {
        let root = tree(&[
            ("self", "0::/pod/container\n"),
            ("fs/pod/memory.max", "536870912\n"),
            ("fs/pod/container/memory.max", "max\n"),
        ]);
        assert_eq!(cgroup_limit(&root.path().join("self"), &root.path().join("fs")), Some(512 << 20));
    }

    #[test]
    fn v1_and_a_path_that_is_the_hosts() {
        let root =
            tree(&[("self", "5:cpu:/x\n4:memory:/kubepods/abc\n"), ("fs/memory/memory.limit_in_bytes", "268435456\n")]);
        assert_eq!(cgroup_limit(&root.path().join("self"), &root.path().join("fs")), Some(256 << 20));
    }

    #[test]
    fn no_limit_is_none_and_the_machine_is_asked() {
        let root = tree(&[("self", "4:memory:/\n"), ("fs/memory/memory.limit_in_bytes", "9223372036854771712\n")]);
        assert_eq!(cgroup_limit(&root.path().join("self"), &root.path().join("fs")), None);
        assert!(limit() > 16 << 20);
    }

    #[test]
    fn small_and_large_limits_are_bounded() {
        assert_eq!(MemoryPlan::from_limit(1).requests, 8 << 20);
        assert_eq!(MemoryPlan::from_limit(512 << 20).requests, 128 << 20);
        assert_eq!(MemoryPlan::from_limit(1 << 40).reads, 1 << 30);
    }
}
