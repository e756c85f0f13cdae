// SPDX-License-Identifier: Apache-2.0
//! Apache Kafka as processes: its storage formatted, its command line, and which of its nodes is the active controller.
//! Knows neither which settings a node has nor when it is to run.

use crate::jars::{apache_kafka_classpath, java};
use anyhow::{Context, Result, ensure};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

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

/// Which node leads the quorum of the metadata, by what the node at `address` says; `None` while it knows of none.
///
/// By a DescribeQuorum of its own: librdkafka has none, Kafka's tool needs a JVM for each question, and the controller
/// in Metadata is any broker (KIP-500 hides the controllers from clients).
pub(crate) fn active_controller(address: SocketAddr) -> Result<Option<i32>> {
    const PATIENCE: Duration = Duration::from_secs(1);
    /// Far more than the answer about one partition with a few voters.
    const ANSWER_BYTES_MAX: u32 = 64 * 1024;
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.write_all(&describe_quorum_request())?;
    let mut size = [0; 4];
    stream.read_exact(&mut size)?;
    let size = u32::from_be_bytes(size);
    ensure!(size <= ANSWER_BYTES_MAX, "an answer of {size} bytes");
    let mut answer = vec![0; size as usize];
    stream.read_exact(&mut answer)?;
    leader_of_quorum(&answer)
}

const QUORUM_TOPIC: &[u8] = b"__cluster_metadata";

/// DescribeQuorum, version 0, for the only partition there is (DescribeQuorumRequest.json).
fn describe_quorum_request() -> Vec<u8> {
    let mut body = Vec::new();
    body.extend(55_i16.to_be_bytes());
    body.extend(0_i16.to_be_bytes());
    body.extend(1_i32.to_be_bytes());
    // No client id, no tagged fields.
    body.extend((-1_i16).to_be_bytes());
    body.push(0);
    // Compact arrays and strings: the length and one more.
    body.push(2);
    body.push(QUORUM_TOPIC.len() as u8 + 1);
    body.extend(QUORUM_TOPIC);
    body.push(2);
    body.extend(0_i32.to_be_bytes());
    body.extend([0, 0, 0]);
    let mut frame = (body.len() as u32).to_be_bytes().to_vec();
    frame.extend(body);
    frame
}

/// The leader in the answer, which stands at a fixed place as there is one topic with one partition.
fn leader_of_quorum(answer: &[u8]) -> Result<Option<i32>> {
    let two = |at: usize| -> Result<i16> {
        let bytes = answer.get(at..at + 2).context("the answer ends early")?;
        Ok(i16::from_be_bytes(bytes.try_into()?))
    };
    let four = |at: usize| -> Result<i32> {
        let bytes = answer.get(at..at + 4).context("the answer ends early")?;
        Ok(i32::from_be_bytes(bytes.try_into()?))
    };
    // Correlation id and tagged fields come first.
    let error = two(5)?;
    ensure!(error == 0, "DescribeQuorum failed with error {error}");
    let name = 7 + 2;
    ensure!(answer.get(name..name + QUORUM_TOPIC.len()) == Some(QUORUM_TOPIC), "the answer is about something else");
    let partition = name + QUORUM_TOPIC.len() + 1;
    let error = two(partition + 4)?;
    ensure!(error == 0, "DescribeQuorum failed with error {error} for the partition");
    Ok(Some(four(partition + 6)?).filter(|leader| *leader >= 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(error: i16, leader: i32) -> Vec<u8> {
        let mut answer = vec![0, 0, 0, 1, 0];
        answer.extend(error.to_be_bytes());
        answer.extend([2, QUORUM_TOPIC.len() as u8 + 1]);
        answer.extend(QUORUM_TOPIC);
        answer.extend([2, 0, 0, 0, 0, 0, 0]);
        answer.extend(leader.to_be_bytes());
        answer.extend([0; 32]);
        answer
    }

    #[test]
    fn the_leader_is_read_from_a_whole_answer_only() {
        assert_eq!(leader_of_quorum(&answer(0, 3)).unwrap(), Some(3));
        assert_eq!(leader_of_quorum(&answer(0, -1)).unwrap(), None);
        assert!(leader_of_quorum(&answer(41, 3)).unwrap_err().to_string().contains("41"));
        let whole = answer(0, 3);
        for end in 0..whole.len() - 32 {
            assert!(leader_of_quorum(&whole[..end]).is_err(), "{end} bytes");
        }
    }
}
