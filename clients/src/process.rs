// SPDX-License-Identifier: Apache-2.0
//! Processes under test: waiting with a deadline, and what the kernel says they use. Knows nothing of Kafka.

use anyhow::{Context, Result, bail};
use std::process::{Child, ExitStatus};
use std::time::{Duration, Instant};

/// Waits for `child` to end by itself, at most `limit`; kills it when it does not.
///
/// # Errors
/// When the time was up, naming `what`.
pub fn wait_with_deadline(child: &mut Child, limit: Duration, what: &str) -> Result<ExitStatus> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        if Instant::now() > deadline {
            child.kill()?;
            child.wait()?;
            bail!("{what} did not end within {limit:?}");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// What a process used, by /proc.
#[derive(Clone, Copy, Debug)]
pub struct ProcessUsage {
    /// User and system time of all its threads, in seconds; one clock tick (10 ms) exact.
    pub cpu_seconds: f64,
    /// Memory resident now, in bytes.
    pub resident_bytes: u64,
    /// The most memory that was resident at once, in bytes.
    pub peak_resident_bytes: u64,
}

impl ProcessUsage {
    /// Reads the usage of process `pid`.
    ///
    /// # Errors
    /// When there is no such process, or /proc is not Linux's.
    pub fn of(pid: u32) -> Result<Self> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
        // The command's name, in parentheses, may hold blanks: fields are counted from behind it (proc(5)).
        let fields: Vec<&str> =
            stat.rsplit(')').next().context("no fields in /proc/PID/stat")?.split_whitespace().collect();
        let ticks = |index: usize| -> Result<u64> {
            Ok(fields.get(index).context("too few fields in /proc/PID/stat")?.parse()?)
        };
        let (user, system) = (ticks(11)?, ticks(12)?);
        let per_second = rustix::param::clock_ticks_per_second();
        let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
        let kilobytes = |name: &str| -> Result<u64> {
            let line = status
                .lines()
                .find_map(|line| line.strip_prefix(name))
                .with_context(|| format!("no {name} in /proc/PID/status"))?;
            Ok(line.trim().trim_end_matches("kB").trim().parse()?)
        };
        Ok(Self {
            cpu_seconds: (user + system) as f64 / per_second as f64,
            resident_bytes: kilobytes("VmRSS:")? * 1024,
            peak_resident_bytes: kilobytes("VmHWM:")? * 1024,
        })
    }
}
