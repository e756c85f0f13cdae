// SPDX-License-Identifier: Apache-2.0
//! What a figure depends on beside the brokers: the machine, its programs, and what else it was doing. Knows nothing of
//! what is measured.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde::Serialize;

/// The machine, as the report names it.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Machine {
    pub(crate) processors: usize,
    pub(crate) processor: String,
    pub(crate) memory_gigabytes: f64,
    pub(crate) kernel: String,
    /// Of the folder that the brokers' data is in.
    pub(crate) file_system: String,
    pub(crate) java: String,
    /// The version of Apache Kafka whose jars are measured.
    pub(crate) kafka: String,
    /// The build profile of the measured `odradek`.
    pub(crate) profile: String,
    /// Processes that wanted to run, on average over the minute before the measurement.
    pub(crate) load_before: f64,
    /// What each process may have open; brokers inherit it.
    pub(crate) open_files: u64,
}

impl Machine {
    pub(crate) fn describe() -> Result<Self> {
        // Not what this process may use: it may be pinned.
        let cpuinfo = read("/proc/cpuinfo");
        let field = |text: &str, name: &str| {
            let line = text.lines().find(|line| line.starts_with(name))?;
            Some(line.split(':').nth(1)?.trim().to_owned())
        };
        let memory = field(&read("/proc/meminfo"), "MemTotal").unwrap_or_default();
        let kilobytes: f64 = memory.trim_end_matches("kB").trim().parse().unwrap_or(0.0);
        let load = read("/proc/loadavg");
        Ok(Self {
            processors: cpuinfo.lines().filter(|line| line.starts_with("processor")).count(),
            processor: field(&cpuinfo, "model name").unwrap_or_else(|| "unknown processor".to_owned()),
            memory_gigabytes: kilobytes * 1024.0 / 1e9,
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            file_system: file_system(&read("/proc/self/mountinfo"), &std::env::temp_dir()),
            java: java()?,
            kafka: kafka_version()?,
            profile: profile(),
            load_before: load.split(' ').next().and_then(|load| load.parse().ok()).unwrap_or(0.0),
            open_files: raise_open_files(),
        })
    }

    /// Whether so much else ran that the figures say little.
    pub(crate) fn is_busy(&self) -> bool {
        self.load_before > 0.25 * self.processors as f64
    }
}

/// Takes as many open files as a container gets, or else as many as are allowed: ten thousand replicas need more than a
/// shell's usual limit. Gives back how many there are.
fn raise_open_files() -> u64 {
    const WANTED: u64 = 1 << 20;
    let present = getrlimit(Resource::Nofile);
    let limits = |most: u64| Rlimit { current: Some(most), maximum: Some(most) };
    let allowed = present.maximum.unwrap_or(WANTED);
    let raised =
        [WANTED.max(allowed), allowed].into_iter().find(|most| setrlimit(Resource::Nofile, limits(*most)).is_ok());
    raised.or(present.current).unwrap_or(WANTED)
}

/// A file of the kernel; empty where there is none.
fn read(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

/// The type of the file system that holds `folder`.
fn file_system(mountinfo: &str, folder: &Path) -> String {
    // proc(5): the mount point is the fifth field, the type the first after a lone dash.
    let mounts = mountinfo.lines().filter_map(|line| {
        let (before, after) = line.split_once(" - ")?;
        Some((before.split(' ').nth(4)?, after.split(' ').next()?))
    });
    let holding = mounts.filter(|(point, _)| folder.starts_with(point));
    holding.max_by_key(|(point, _)| point.len()).map_or("unknown", |(_, kind)| kind).to_owned()
}

fn java() -> Result<String> {
    let output = Command::new("java").arg("-version").output().context("running java (`setup/install clients`)")?;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    Ok(text.lines().find(|line| line.contains(" version ")).unwrap_or("unknown Java").to_owned())
}

/// From the name of the broker's jar.
fn kafka_version() -> Result<String> {
    let jars = odradek_clients::apache_kafka_classpath()?;
    let mut names = jars.iter().filter_map(|jar| jar.file_stem()?.to_str());
    let version = names.find_map(|name| name.strip_prefix("kafka_")?.split('-').nth(1));
    Ok(version.context("no jar of Apache Kafka's broker")?.to_owned())
}

/// The folder of the binary that `ODRADEK_BIN` names, or else of this program: cargo names it after the profile.
fn profile() -> String {
    let program = std::env::var_os("ODRADEK_BIN").map(Into::into).or_else(|| std::env::current_exe().ok());
    let folder = program.as_deref().and_then(|path| Some(path.parent()?.file_name()?.to_string_lossy().into_owned()));
    folder.unwrap_or_else(|| "unknown".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_innermost_mount_tells_the_file_system() {
        let table = "1 0 8:1 / / rw - ext4 /dev/vda rw\n2 1 0:5 / /tmp rw shared:3 - tmpfs tmpfs rw\n\
                     3 1 0:6 / /tmp/inner rw - xfs /dev/vdb rw\n";
        assert_eq!(file_system(table, Path::new("/tmp")), "tmpfs");
        assert_eq!(file_system(table, Path::new("/var/tmp")), "ext4");
        assert_eq!(file_system("", Path::new("/")), "unknown");
    }
}
