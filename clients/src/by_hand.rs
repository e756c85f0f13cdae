// SPDX-License-Identifier: Apache-2.0
//! Requests that neither librdkafka nor a quick tool offers, written by hand: a check of our codec must not use it.
//! Knows nothing of who answers.

use anyhow::{Context, Result, ensure};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// Which node leads the quorum of the metadata, by what the node at `address` says; `None` while it knows of none.
///
/// By a DescribeQuorum of its own: librdkafka has none, Kafka's tool needs a JVM for each question, and the controller
/// in Metadata is any broker (KIP-500 hides the controllers from clients).
pub(crate) fn active_controller(address: SocketAddr) -> Result<Option<i32>> {
    leader_of_quorum(&exchange(address, &describe_quorum_request(), Duration::from_secs(1))?)
}

/// Asks the cluster to let every partition be led by the first of its replicas, where that is in sync; gives back how
/// many partitions another led.
///
/// By an ElectLeaders of its own: rdkafka offers none, and Kafka's tool needs a JVM.
pub(crate) fn elect_preferred_leaders(address: SocketAddr, deadline: Duration) -> Result<usize> {
    elected(&exchange(address, &elect_leaders_request(deadline), deadline)?)
}

/// One request on a connection of its own, and what comes back.
fn exchange(address: SocketAddr, body: &[u8], deadline: Duration) -> Result<Vec<u8>> {
    /// Far more than an answer about some thousand partitions has.
    const ANSWER_BYTES_MAX: u32 = 4 * 1024 * 1024;
    let mut stream = TcpStream::connect_timeout(&address, deadline)?;
    stream.set_read_timeout(Some(deadline))?;
    stream.set_write_timeout(Some(deadline))?;
    let mut frame = (body.len() as u32).to_be_bytes().to_vec();
    frame.extend(body);
    stream.write_all(&frame)?;
    let mut size = [0; 4];
    stream.read_exact(&mut size)?;
    let size = u32::from_be_bytes(size);
    ensure!(size <= ANSWER_BYTES_MAX, "an answer of {size} bytes");
    let mut answer = vec![0; size as usize];
    stream.read_exact(&mut answer)?;
    Ok(answer)
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
    body
}

/// ElectLeaders, version 0, which knows preferred leaders only, for all partitions (ElectLeadersRequest.json).
fn elect_leaders_request(deadline: Duration) -> Vec<u8> {
    let mut body = Vec::new();
    body.extend(43_i16.to_be_bytes());
    body.extend(0_i16.to_be_bytes());
    body.extend(1_i32.to_be_bytes());
    // No client id.
    body.extend((-1_i16).to_be_bytes());
    // Null: all topics.
    body.extend((-1_i32).to_be_bytes());
    body.extend((deadline.as_millis() as i32).to_be_bytes());
    body
}

/// How many partitions the answer names: those that have been led by another. What went wrong with one is told.
fn elected(answer: &[u8]) -> Result<usize> {
    let mut rest = answer;
    let mut take = |count: usize| -> Result<&[u8]> { rest.split_off(..count).context("the answer ends early") };
    // Correlation id and throttle time.
    take(8)?;
    let mut partitions = 0;
    for _ in 0..i32::from_be_bytes(take(4)?.try_into()?) {
        let name = i16::from_be_bytes(take(2)?.try_into()?);
        take(name.max(0) as usize)?;
        for _ in 0..i32::from_be_bytes(take(4)?.try_into()?) {
            take(4)?;
            let error = i16::from_be_bytes(take(2)?.try_into()?);
            let message = i16::from_be_bytes(take(2)?.try_into()?);
            let message = String::from_utf8_lossy(take(message.max(0) as usize)?).into_owned();
            ensure!(error == 0, "ElectLeaders failed with error {error}: {message}");
            partitions += 1;
        }
    }
    Ok(partitions)
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

    #[test]
    fn partitions_are_counted_in_a_whole_answer_only() {
        let of = |error: i16| {
            let mut answer = vec![0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 1, b't', 0, 0, 0, 2];
            answer.extend([0, 0, 0, 0, 0, 0, 255, 255]);
            answer.extend([0, 0, 0, 1]);
            answer.extend(error.to_be_bytes());
            answer.extend([0, 2, b'n', b'o']);
            answer
        };
        assert_eq!(elected(&of(0)).unwrap(), 2);
        assert_eq!(elected(&[0; 12]).unwrap(), 0);
        assert!(elected(&of(80)).unwrap_err().to_string().contains("80: no"));
        for end in 0..of(0).len() {
            assert!(elected(&of(0)[..end]).is_err(), "{end} bytes");
        }
    }
}
