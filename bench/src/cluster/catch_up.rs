// SPDX-License-Identifier: Apache-2.0
//! How fast a follower that was away gets what it missed, beside what the disk and the loopback device can do in the same
//! run.

use super::{create, start};
use crate::figures::{Goal, Measure};
use crate::{load, say};
use anyhow::{Context, Result, ensure};
use odradek_clients::{Flavor, Nodes};
use serde::Serialize;
use std::fs::File;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

const TOPIC: &str = "missed";
const PARTITIONS: i32 = 6;
/// The longest from its start until the follower has everything.
const LIMIT: Duration = Duration::from_mins(3);
/// Between two looks at the follower's files.
const LOOK: Duration = Duration::from_millis(2);
/// What the limits are measured with, at a time.
const BLOCK: usize = 1 << 20;

/// How much is measured.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Plan {
    pub(crate) megabytes: u32,
    pub(crate) odradek_runs: u32,
    pub(crate) kafka_runs: u32,
}

impl Plan {
    pub(crate) fn new(quick: bool) -> Self {
        if quick {
            Self { megabytes: 200, odradek_runs: 1, kafka_runs: 1 }
        } else {
            Self { megabytes: 1_500, odradek_runs: 3, kafka_runs: 2 }
        }
    }
}

/// Everything in megabytes a second.
#[derive(Debug)]
struct Run {
    caught_up: f64,
    /// Writing to a file, without a sync: as a follower does.
    disk: f64,
    /// Writing to a file, and one sync at the end.
    disk_with_sync: f64,
    loopback: f64,
    /// From the start of the process, in seconds.
    seconds_until_in_sync: f64,
}

impl Run {
    /// Of the lower of the two limits.
    fn share(&self) -> f64 {
        self.caught_up / self.disk.min(self.loopback)
    }
}

pub(crate) fn settings(plan: &Plan) -> Vec<String> {
    vec![format!(
        "catch-up: one of three brokers is stopped, {} MB are written to {PARTITIONS} partitions, it is started again; \
         measured from its first new byte to its last; limits: as many bytes in blocks of 1 MiB, written to a file in the \
         same folder (no sync, as a follower), and sent through one loopback connection; {} runs of Odradek, {} of Apache \
         Kafka",
        plan.megabytes, plan.odradek_runs, plan.kafka_runs
    )]
}

pub(crate) fn measure(plan: &Plan) -> Result<Vec<Measure>> {
    let kafka = all(plan, Flavor::ApacheKafka, plan.kafka_runs).context("Apache Kafka")?;
    let odradek = all(plan, Flavor::Odradek, plan.odradek_runs).context("Odradek")?;
    let measure = |name: &str, unit, figure: fn(&Run) -> f64| Measure::new(name, unit).of(&odradek, &kafka, figure);
    Ok(vec![
        measure("a follower catches up: share of the limit", "×", Run::share).with_goal(Goal::MedianAtLeast(0.6)),
        measure("a follower catches up", "MB/s", |run| run.caught_up),
        measure("from the start of its process until it is in sync", "s", |run| run.seconds_until_in_sync),
        measure("limit: the disk, without a sync", "MB/s", |run| run.disk),
        measure("limit: the loopback device", "MB/s", |run| run.loopback),
        measure("for comparison: the disk, with a sync at the end", "MB/s", |run| run.disk_with_sync),
    ])
}

fn all(plan: &Plan, flavor: Flavor, runs: u32) -> Result<Vec<Run>> {
    let mut nodes = start(flavor)?;
    create(&nodes, TOPIC, PARTITIONS)?;
    // Warm: each broker has led and followed.
    load::produce(&nodes.bootstrap(), TOPIC, PARTITIONS, 100_000)?;
    (0..runs)
        .map(|number| {
            let run = one(plan, &mut nodes).with_context(|| format!("run {number}"))?;
            say(&format!("catch-up {} of {runs}, {flavor:?}: {run:?}", number + 1));
            Ok(run)
        })
        .collect()
}

fn one(plan: &Plan, nodes: &mut Nodes) -> Result<Run> {
    let follower = nodes.ids()[0];
    let other = nodes.ids()[1];
    let (status, _) = nodes.terminate(follower)?;
    ensure!(status.success() || status.code() == Some(143), "broker {follower} ended with {status}");
    let records = u64::from(plan.megabytes) * 1_000_000 / load::VALUE_BYTES as u64;
    load::produce(&nodes.bootstrap(), TOPIC, PARTITIONS, records)?;
    let (had, wanted) = (bytes_of(&nodes.data_dir(follower))?, bytes_of(&nodes.data_dir(other))?);
    ensure!(wanted > had, "the follower had {had} bytes already, of {wanted}");
    let missed = wanted - had;
    let disk = disk(&nodes.data_dir(follower).with_extension("limit"), missed)?;
    let loopback = loopback(missed)?;

    let begun = Instant::now();
    nodes.launch(follower)?;
    let (mut first, mut at_first) = (None, 0);
    let seconds = loop {
        let has = bytes_of(&nodes.data_dir(follower))?;
        if first.is_none() && has > had {
            (first, at_first) = (Some(Instant::now()), has);
        }
        if has >= wanted {
            let first = first.context("a first byte comes before the last")?;
            break first.elapsed().as_secs_f64();
        }
        nodes.check_running()?;
        ensure!(begun.elapsed() < LIMIT, "{has} of {wanted} bytes within {LIMIT:?}");
        std::thread::sleep(LOOK);
    };
    nodes.wait_until_ready()?;
    nodes.wait_until_in_sync(LIMIT)?;
    let caught_up = wanted.saturating_sub(at_first) as f64 / 1e6 / seconds;
    Ok(Run {
        caught_up,
        disk: disk.0,
        disk_with_sync: disk.1,
        loopback,
        seconds_until_in_sync: begun.elapsed().as_secs_f64(),
    })
}

/// The bytes of the topic's records in a broker's data folder.
fn bytes_of(data: &Path) -> Result<u64> {
    let mut bytes = 0;
    for partition in 0..PARTITIONS {
        let folder = data.join(format!("{TOPIC}-{partition}"));
        for entry in std::fs::read_dir(&folder).with_context(|| format!("reading {}", folder.display()))? {
            let entry = entry?;
            // A file that is renamed meanwhile is not one of records.
            if entry.path().extension().is_some_and(|extension| extension == "log") {
                bytes += entry.metadata()?.len();
            }
        }
    }
    Ok(bytes)
}

/// Megabytes a second to a file, without a sync and with one.
fn disk(file: &Path, bytes: u64) -> Result<(f64, f64)> {
    let block = vec![7; BLOCK];
    let begun = Instant::now();
    let mut written = File::create(file)?;
    let blocks = bytes.div_ceil(BLOCK as u64);
    for _ in 0..blocks {
        written.write_all(&block)?;
    }
    let rate = |begun: Instant| (blocks * BLOCK as u64) as f64 / 1e6 / begun.elapsed().as_secs_f64();
    let without = rate(begun);
    written.sync_data()?;
    let with = rate(begun);
    std::fs::remove_file(file)?;
    Ok((without, with))
}

/// Megabytes a second through one connection.
fn loopback(bytes: u64) -> Result<f64> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?;
    let blocks = bytes.div_ceil(BLOCK as u64);
    let sender = std::thread::spawn(move || -> Result<()> {
        let mut stream = TcpStream::connect(address)?;
        let block = vec![7; BLOCK];
        for _ in 0..blocks {
            stream.write_all(&block)?;
        }
        Ok(())
    });
    let (mut stream, _) = listener.accept()?;
    let begun = Instant::now();
    let mut block = vec![0; BLOCK];
    let mut read = 0;
    loop {
        match stream.read(&mut block)? {
            0 => break,
            some => read += some as u64,
        }
    }
    let seconds = begun.elapsed().as_secs_f64();
    sender.join().map_err(|_| anyhow::anyhow!("the sender panicked"))??;
    ensure!(read == blocks * BLOCK as u64, "{read} bytes came");
    Ok(read as f64 / 1e6 / seconds)
}
