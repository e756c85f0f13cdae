// SPDX-License-Identifier: Apache-2.0
//! Apache Kafka's `kafka-replica-verification`: reads every replica of partitions at the broker that has it, and compares
//! them batch by batch. A JVM of its own, because it never ends by itself.

use crate::jars::{apache_kafka_classpath, java};
use crate::tools::REPLICA_VERIFICATION;
use anyhow::{Context, Result, bail, ensure};
use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

/// The longest until everything was compared: a JVM starts and reads megabytes.
const LIMIT: Duration = Duration::from_mins(1);

/// Compares all replicas of the topics that match `topics`, from their first record to the high watermark; gives back
/// among how many partitions none is behind.
///
/// # Errors
/// When replicas differ, the tool ends, or it has not come to the end within a minute.
pub fn replica_verification(bootstrap: &str, topics: &str) -> Result<u32> {
    let mut process = java(&apache_kafka_classpath()?)?
        .args([REPLICA_VERIFICATION, "--broker-list", bootstrap, "--topics-include", topics])
        .args(["--time", "-2", "--report-interval-ms", "100", "--max-wait-ms", "100"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .context("starting java")?;
    let stdout = process.stdout.take().context("stdout is a pipe")?;
    let (sender, lines) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(stdout).lines() {
            let Ok(line) = line else { break };
            if sender.send(line).is_err() {
                break;
            }
        }
    });
    let deadline = Instant::now() + LIMIT;
    let mut said = Vec::new();
    let outcome = loop {
        let Ok(line) = lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) else {
            break Err(anyhow::anyhow!("the replicas were not all compared within {LIMIT:?}: {said:?}"));
        };
        said.push(line.clone());
        match judged(&line) {
            Ok(None) => {}
            Ok(Some(partitions)) => break Ok(partitions),
            Err(error) => break Err(error),
        }
    };
    // Failing means that it has ended already.
    let _ = process.kill();
    let _ = process.wait();
    outcome
}

/// Of how many partitions none is behind, if the line says that; an error if it says that replicas differ.
fn judged(line: &str) -> Result<Option<u32>> {
    if line.contains("doesn't match") || line.contains("unmatched") {
        bail!("replicas differ: {line}");
    }
    let Some((_, rest)) = line.split_once(": max lag is 0 for partition ") else { return Ok(None) };
    let partitions: u32 =
        rest.strip_suffix(" partitions").and_then(|rest| rest.rsplit(' ').next()?.parse().ok()).unwrap_or_default();
    ensure!(partitions > 0, "a report of another form: {line}");
    Ok(Some(partitions))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_judged() {
        let at = "2026-01-01 00:00:00,000: ";
        assert_eq!(judged(&format!("{at}verification process is started")).unwrap(), None);
        assert_eq!(
            judged(&format!("{at}max lag is 7 for partition t-0 at offset 3 among 4 partitions")).unwrap(),
            None
        );
        assert_eq!(
            judged(&format!("{at}max lag is 0 for partition t-0 at offset 3 among 4 partitions")).unwrap(),
            Some(4)
        );
        assert!(judged(&format!("{at}max lag is 0 for partition t-0 among none")).is_err());
        assert!(judged(&format!("{at}partition t-0 has unmatched checksum at offset 3")).is_err());
        assert!(
            judged(&format!("{at}partition t-0: replica 1's offset 3 doesn't match replica 2's offset 4")).is_err()
        );
    }
}
