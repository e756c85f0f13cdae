// SPDX-License-Identifier: Apache-2.0
//! What is measured of three brokers: `odradek-broker run` three times, or three combined nodes of Apache Kafka, each with
//! its default settings. Here is what the parts share; each part is a module.

pub(crate) mod catch_up;
pub(crate) mod failover;
pub(crate) mod partitions;
pub(crate) mod replication;

use crate::{load, say};
use anyhow::{Context, Result, ensure};
use odradek_clients::{Flavor, Nodes, NodesPlan, native};
use rdkafka::consumer::{BaseConsumer, Consumer};
use std::time::{Duration, Instant};

/// Replicas of every measured partition, and how many of them have to be in sync for a write.
pub(crate) const REPLICAS: i32 = 3;
pub(crate) const TOPIC_SETTINGS: [(&str, &str); 1] = [("min.insync.replicas", "2")];
/// The longest until replicas that were away are in sync again; ten thousand of Apache Kafka take a while.
const IN_SYNC_LIMIT: Duration = Duration::from_mins(3);

/// The longest until clients are told of the preferred leaders.
const BALANCE_LIMIT: Duration = Duration::from_secs(30);

/// How long clients may take to learn of an election before another one is asked for.
const BALANCE_PAUSE: Duration = Duration::from_secs(1);

/// Three brokers of the flavor, started anew.
fn start(flavor: Flavor) -> Result<Nodes> {
    Nodes::start(flavor, NodesPlan::default())
}

/// Makes a topic with three replicas of each partition, and waits until they are in sync.
fn create(nodes: &Nodes, topic: &str, partitions: i32) -> Result<()> {
    native::create_replicated_topic(&nodes.bootstrap(), topic, partitions, REPLICAS, &TOPIC_SETTINGS)?;
    nodes.wait_until_in_sync(IN_SYNC_LIMIT)?;
    Ok(())
}

/// Starts a broker that was down, and waits until it is in sync.
fn bring_back(nodes: &mut Nodes, id: i32) -> Result<()> {
    nodes.launch(id)?;
    nodes.wait_until_ready()?;
    nodes.wait_until_in_sync(IN_SYNC_LIMIT)?;
    Ok(())
}

/// Lets each partition be led by its preferred replica, so that every event meets the same leaders; all brokers are there.
/// Apache Kafka does not always elect a broker that has come back: there the event meets the leaders that there are.
fn balance(nodes: &Nodes, topic: &str) -> Result<()> {
    let watch = Watch::new(&nodes.bootstrap())?;
    let begun = Instant::now();
    loop {
        // Whoever is asked may not know yet that all are in sync: a broker that has come back is asked for again.
        nodes.elect_preferred_leaders()?;
        let asked = Instant::now();
        while asked.elapsed() < BALANCE_PAUSE {
            let partitions = watch.partitions(topic)?;
            if partitions.iter().all(|partition| partition.leader == partition.preferred) {
                return Ok(());
            }
            if begun.elapsed() >= BALANCE_LIMIT {
                let missed = format!("not the preferred leaders within {BALANCE_LIMIT:?}: {partitions:?}");
                ensure!(nodes.flavor() == Flavor::ApacheKafka, missed);
                say(&format!("{:?}: {missed}", nodes.flavor()));
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// One partition as the metadata shows it.
#[derive(Clone, Debug)]
struct PartitionState {
    leader: i32,
    preferred: i32,
    in_sync: Vec<i32>,
}

/// Asks for metadata again and again without a new client each time.
struct Watch {
    client: BaseConsumer,
}

impl Watch {
    fn new(bootstrap: &str) -> Result<Self> {
        Ok(Self { client: load::configuration(bootstrap).create()? })
    }

    /// The partitions of a topic, by index.
    fn partitions(&self, topic: &str) -> Result<Vec<PartitionState>> {
        let metadata = self.client.fetch_metadata(Some(topic), Duration::from_secs(5))?;
        let topic = metadata.topics().iter().find(|found| found.name() == topic).context("no such topic")?;
        let mut partitions: Vec<_> = topic.partitions().iter().collect();
        partitions.sort_by_key(|partition| partition.id());
        let state = |partition: &&rdkafka::metadata::MetadataPartition| PartitionState {
            leader: partition.leader(),
            preferred: partition.replicas().first().copied().unwrap_or(-1),
            in_sync: partition.isr().to_vec(),
        };
        Ok(partitions.iter().map(state).collect())
    }

    /// Waits until `topic` has `count` partitions, each with a leader, and none with the broker in its ISR.
    fn wait_until_without(&self, topic: &str, count: i32, broker: i32, deadline: Instant) -> Result<()> {
        loop {
            let is_without = |partition: &PartitionState| {
                partition.leader >= 0 && partition.leader != broker && !partition.in_sync.contains(&broker)
            };
            let states = self.partitions(topic).unwrap_or_default();
            if states.len() == count as usize && states.iter().all(is_without) {
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "broker {broker} still leads or is in sync");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}
