// SPDX-License-Identifier: Apache-2.0
//! kill -9 under load, again and again: nothing acknowledged is lost or moved, nothing is there twice, each key keeps
//! its order, and a group goes on from what it committed.

use crate::numbered::{check_records, load, seed, topic};
use anyhow::{Context, Result, ensure};
use odradek_clients::native::{self, RecordingProducer};
use odradek_clients::{Broker, Random};
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::message::Message;
use rdkafka::{Offset, TopicPartitionList};
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const TOPIC: &str = "killed";
const GROUP: &str = "survivors";
const PARTITIONS: i32 = 3;
const KILLS: u32 = 10;

/// One member of the group after another: each is asked to go on where the last one's commit was.
#[derive(Debug, Default)]
struct GroupReader {
    /// The group's offsets that were acknowledged.
    committed: HashMap<i32, i64>,
    /// Where the present member goes on; nothing yet for a partition of which it has read nothing.
    next: HashMap<i32, i64>,
    commits: u32,
    records: u32,
}

impl GroupReader {
    /// Reads and commits until `until`; what fails while the broker is away is tried again.
    fn read(&mut self, consumer: &BaseConsumer, until: impl Fn() -> bool) -> Result<()> {
        let mut last_commit = Instant::now();
        while !until() {
            if let Some(Ok(message)) = consumer.poll(Duration::from_millis(20)) {
                let (partition, offset) = (message.partition(), message.offset());
                let expected = match self.next.get(&partition) {
                    Some(next) => *next,
                    None => self.committed.get(&partition).copied().unwrap_or(0),
                };
                ensure!(offset == expected, "partition {partition}: went on at offset {offset}, not at {expected}");
                self.next.insert(partition, offset + 1);
                self.records += 1;
            }
            if last_commit.elapsed() > Duration::from_millis(100) && !self.next.is_empty() {
                let mut list = TopicPartitionList::new();
                for (partition, offset) in &self.next {
                    list.add_partition_offset(TOPIC, *partition, Offset::Offset(*offset))?;
                }
                if consumer.commit(&list, CommitMode::Sync).is_ok() {
                    self.committed.extend(&self.next);
                    self.commits += 1;
                }
                last_commit = Instant::now();
            }
        }
        Ok(())
    }

    /// A new process that asks for the group's commits gets those that were acknowledged.
    ///
    /// A commit whose answer the kill swallowed may have been kept: so not less, rather than equal.
    fn check_commits(&mut self, bootstrap: &str) -> Result<()> {
        let consumer = native::consumer(bootstrap, GROUP, &[])?;
        let mut list = TopicPartitionList::new();
        for partition in 0..PARTITIONS {
            list.add_partition(TOPIC, partition);
        }
        // The coordinator may still be reading its journal.
        let deadline = Instant::now() + Duration::from_mins(1);
        let found = loop {
            match consumer.committed_offsets(list.clone(), Duration::from_secs(10)) {
                Ok(found) => break found,
                Err(error) => ensure!(Instant::now() < deadline, "asking for commits: {error}"),
            }
            std::thread::sleep(Duration::from_millis(50));
        };
        for element in found.elements() {
            let partition = element.partition();
            let acknowledged = self.committed.get(&partition).copied().unwrap_or(0);
            let kept = match element.offset() {
                Offset::Offset(offset) => offset,
                Offset::Invalid => 0,
                other => anyhow::bail!("partition {partition}: committed {other:?}"),
            };
            ensure!(
                kept >= acknowledged,
                "partition {partition}: the commit of {acknowledged} was acknowledged, {kept} is kept"
            );
            self.committed.insert(partition, kept);
        }
        Ok(())
    }
}

#[test]
fn nothing_acknowledged_is_lost_by_kills_at_random_instants() -> Result<()> {
    let seed = seed()?;
    #[expect(clippy::print_stdout, reason = "the seed repeats a failed run's instants")]
    {
        println!("ODRADEK_CHECK_SEED={seed}");
    }
    let mut random = Random::new(seed);
    let mut broker = Broker::start()?;
    let bootstrap = broker.bootstrap();
    native::create_topic(&bootstrap, TOPIC, PARTITIONS, &[])?;
    let written = topic(&bootstrap, TOPIC, PARTITIONS);
    let producer = RecordingProducer::new(&bootstrap, &[("linger.ms", "2")])?;
    let stop = AtomicBool::new(false);
    let mut reader = GroupReader::default();
    let sent = std::thread::scope(|scope| -> Result<u32> {
        let loader = scope.spawn(|| load(&producer, &written, &stop));
        let rounds = kill_again_and_again(&mut broker, &mut reader, &mut random);
        // Also when a round failed: the loader has to end before the scope does.
        stop.store(true, Ordering::Relaxed);
        let sent = loader.join().map_err(|_| anyhow::anyhow!("the load panicked"))?;
        rounds?;
        sent
    })
    .with_context(|| format!("seed {seed}"))?;
    producer.flush()?;
    let deliveries = producer.deliveries();
    ensure!(
        deliveries.failed.is_empty(),
        "seed {seed}: {} records failed for good, first {:?}",
        deliveries.failed.len(),
        deliveries.failed.first()
    );
    check_records(&written, &deliveries.acknowledged, sent).with_context(|| format!("seed {seed}"))?;
    ensure!(reader.commits > KILLS && reader.records > 0, "the group hardly read: {reader:?}");
    #[expect(clippy::print_stdout, reason = "what the run was worth")]
    {
        println!("{KILLS} kills, {sent} records acknowledged and there, {} commits", reader.commits);
    }
    Ok(())
}

fn kill_again_and_again(broker: &mut Broker, reader: &mut GroupReader, random: &mut Random) -> Result<()> {
    let bootstrap = broker.bootstrap();
    for round in 0..KILLS {
        let consumer = native::consumer(
            &bootstrap,
            GROUP,
            // A member that the kill takes away leaves no trace for longer than this.
            &[("session.timeout.ms", "6000"), ("heartbeat.interval.ms", "500")],
        )?;
        consumer.subscribe(&[TOPIC])?;
        reader.next.clear();
        // At least one commit in every round, so that the next one has something to go on from.
        let commits_before = reader.commits;
        let at_most = Instant::now() + Duration::from_mins(1);
        while reader.commits == commits_before {
            ensure!(Instant::now() < at_most, "round {round}: the group committed nothing within a minute");
            let some = Instant::now() + Duration::from_millis(300);
            reader.read(&consumer, || Instant::now() > some).with_context(|| format!("round {round}"))?;
        }
        let instant = Instant::now() + Duration::from_micros(random.between(50_000, 900_000));
        reader.read(&consumer, || Instant::now() > instant).with_context(|| format!("round {round}"))?;
        broker.kill()?;
        std::thread::sleep(Duration::from_micros(random.between(0, 200_000)));
        broker.launch().with_context(|| format!("round {round}"))?;
        // The member outlived its coordinator; it leaves at the next one, which has to know it from its journal.
        drop(consumer);
        reader.check_commits(&bootstrap).with_context(|| format!("round {round}"))?;
    }
    Ok(())
}
