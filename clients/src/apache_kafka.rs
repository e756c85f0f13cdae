// SPDX-License-Identifier: Apache-2.0
//! Apache Kafka as processes: its storage formatted, its command line. Knows neither which settings a node has nor when
//! it is to run.

use crate::jars::{apache_kafka_classpath, java};
use anyhow::{Context, Result, ensure};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The id of every cluster here; each is in folders of its own.
pub(crate) const CLUSTER_ID: &str = "QVY0ZmRzZmRzZmRzZmRzZg";

/// Formats the storage of nodes, several at a time; `how` says who the controllers are.
pub(crate) fn format(properties: &[PathBuf], how: &[&str]) -> Result<()> {
    let mut running = Vec::new();
    for file in properties {
        let mut command = java(&apache_kafka_classpath()?)?;
        command.args(["kafka.tools.StorageTool", "format", "-t", CLUSTER_ID]).args(how).arg("-c").arg(file);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        running.push(command.spawn().context("running java (`setup/install clients` installs it)")?);
    }
    for process in running {
        let output = process.wait_with_output()?;
        ensure!(
            output.status.success(),
            "formatting Apache Kafka's storage: {}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(())
}

/// The command that runs a node, with the heap and collector that Apache Kafka's own start script sets.
pub(crate) fn command(properties: &Path) -> Result<Command> {
    let mut command = java(&apache_kafka_classpath()?)?;
    command
        .args([
            "-Xms1g",
            "-Xmx1g",
            "-server",
            "-XX:+UseG1GC",
            "-XX:MaxGCPauseMillis=20",
            "-XX:InitiatingHeapOccupancyPercent=35",
            "-XX:+ExplicitGCInvokesConcurrent",
            "-Djava.awt.headless=true",
            "kafka.Kafka",
        ])
        .arg(properties);
    Ok(command)
}
