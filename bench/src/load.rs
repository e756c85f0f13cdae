// SPDX-License-Identifier: Apache-2.0
//! The client's side: librdkafka with the same settings for every broker. Knows nothing of what is measured.

use anyhow::{Result, ensure};
use odradek_clients::{Random, native};
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseRecord, ProducerContext, ThreadedProducer};
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{ClientContext, Offset, TopicPartitionList};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::Thread;
use std::time::{Duration, Instant};

/// Bytes of a record's value.
pub(crate) const VALUE_BYTES: usize = 1_024;
/// The producer's settings beside `acks=all`.
pub(crate) const PRODUCER: [(&str, &str); 5] = [
    ("enable.idempotence", "true"),
    ("batch.size", "65536"),
    ("linger.ms", "5"),
    ("compression.type", "none"),
    ("queue.buffering.max.kbytes", "65536"),
];
/// Settings of every client here, which every broker meets: one that is gone or has come back is noticed soon.
pub(crate) const CLIENT: [(&str, &str); 3] = [
    ("reconnect.backoff.ms", "10"),
    ("reconnect.backoff.max.ms", "100"),
    ("topic.metadata.refresh.fast.interval.ms", "10"),
];
const LIMIT: Duration = Duration::from_mins(2);

/// Counts what became of records, and wakes who waits for the last of them.
#[derive(Clone, Debug)]
struct Counter {
    acknowledged: Arc<AtomicU64>,
    failed: Arc<AtomicU64>,
    expected: u64,
    waiter: Thread,
}

impl Counter {
    /// Expects `expected` records; the calling thread will wait.
    fn new(expected: u64) -> Self {
        Self { acknowledged: Arc::default(), failed: Arc::default(), expected, waiter: std::thread::current() }
    }

    fn done(&self) -> u64 {
        self.acknowledged.load(Ordering::Relaxed) + self.failed.load(Ordering::Relaxed)
    }

    /// Waits for the last acknowledgement, and says when that was. The producer's own flush would do it in steps of
    /// 100 ms.
    fn wait(&self) -> Result<Instant> {
        let deadline = Instant::now() + LIMIT;
        while self.done() < self.expected {
            let left = deadline.saturating_duration_since(Instant::now());
            ensure!(!left.is_zero(), "{} of {} records acknowledged within {LIMIT:?}", self.done(), self.expected);
            std::thread::park_timeout(left);
        }
        let (end, failed) = (Instant::now(), self.failed.load(Ordering::Relaxed));
        ensure!(failed == 0, "{failed} of {} records were not acknowledged", self.expected);
        Ok(end)
    }
}

impl ClientContext for Counter {}

impl ProducerContext for Counter {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        let counter = match result {
            Ok(_) => &self.acknowledged,
            Err(_) => &self.failed,
        };
        counter.fetch_add(1, Ordering::Relaxed);
        if self.done() == self.expected {
            self.waiter.unpark();
        }
    }
}

/// The settings of every client here.
pub(crate) fn configuration(bootstrap: &str) -> ClientConfig {
    let mut configuration = native::configuration(bootstrap);
    for (name, value) in CLIENT {
        configuration.set(name, value);
    }
    configuration
}

fn producer(bootstrap: &str, settings: &[(&str, &str)], records: u64) -> Result<(ThreadedProducer<Counter>, Counter)> {
    let counter = Counter::new(records);
    let mut configuration = configuration(bootstrap);
    configuration.set("acks", "all");
    for (name, value) in settings {
        configuration.set(*name, *value);
    }
    Ok((configuration.create_with_context(counter.clone())?, counter))
}

/// Creates a topic and writes one record to it: what a user waits for after a start. Gives the time of the
/// acknowledgement; ending the clients takes longer, and nobody waits for that.
///
/// # Errors
/// When that does not work within two minutes.
pub(crate) fn first_acknowledgement(bootstrap: &str, topic: &str) -> Result<Instant> {
    let deadline = Instant::now() + LIMIT;
    // A client that was refused once waits before it tries again, so the port is asked first.
    while std::net::TcpStream::connect(bootstrap).is_err() {
        ensure!(Instant::now() < deadline, "the port stays closed");
        std::thread::sleep(Duration::from_millis(1));
    }
    let admin = native::Admin::new(bootstrap)?;
    while let Err(error) = admin.create_topic(topic, 1, &[]) {
        // A broker that has just opened its port may not be ready to decide.
        ensure!(Instant::now() < deadline, "{error:#}");
        std::thread::sleep(Duration::from_millis(1));
    }
    let (producer, counter) = producer(bootstrap, &[("linger.ms", "0")], 1)?;
    send(&producer, topic, None, b"first")?;
    counter.wait()
}

fn send(producer: &ThreadedProducer<Counter>, topic: &str, partition: Option<i32>, value: &[u8]) -> Result<()> {
    let mut record = BaseRecord::<(), [u8]>::to(topic).payload(value);
    record.partition = partition;
    loop {
        match producer.send(record) {
            Ok(()) => return Ok(()),
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), returned)) => {
                record = returned;
                std::thread::sleep(Duration::from_micros(500));
            }
            Err((error, _)) => return Err(error.into()),
        }
    }
}

/// Writes `records` of [`VALUE_BYTES`] incompressible bytes, in turn to each of `partitions`, and waits for all
/// acknowledgements; gives the time of the last.
///
/// # Errors
/// When a record fails.
pub(crate) fn produce(bootstrap: &str, topic: &str, partitions: i32, records: u64) -> Result<Instant> {
    let (producer, counter) = producer(bootstrap, &PRODUCER, records)?;
    let mut random = Random::new(1);
    let values: Vec<Vec<u8>> =
        (0..64).map(|_| (0..VALUE_BYTES / 8).flat_map(|_| random.next_u64().to_le_bytes()).collect()).collect();
    for number in 0..records {
        // Runs of 32 records to one partition, so that batches fill however many partitions there are.
        let partition = i32::try_from(number / 32 % u64::try_from(partitions)?)?;
        let value = &values[(number % 64) as usize];
        send(&producer, topic, Some(partition), value)?;
    }
    counter.wait()
}

/// Reads `records` of `topic` from its beginning, with librdkafka's default settings; gives the time of the last.
///
/// # Errors
/// When they do not arrive.
pub(crate) fn consume(bootstrap: &str, topic: &str, partitions: i32, records: u64) -> Result<Instant> {
    let consumer: BaseConsumer =
        configuration(bootstrap).set("group.id", "bench").set("enable.auto.commit", "false").create()?;
    let mut assignment = TopicPartitionList::new();
    for partition in 0..partitions {
        assignment.add_partition_offset(topic, partition, Offset::Beginning)?;
    }
    consumer.assign(&assignment)?;
    read(&consumer, records)
}

fn read(consumer: &BaseConsumer, records: u64) -> Result<Instant> {
    let mut last = Instant::now();
    let mut done = 0;
    while done < records {
        match consumer.poll(Duration::from_millis(100)) {
            Some(message) => {
                ensure!(message?.payload_len() > 0, "an empty record");
                done += 1;
                last = Instant::now();
            }
            None => ensure!(last.elapsed() < LIMIT, "{done} of {records} records read, then nothing for {LIMIT:?}"),
        }
    }
    Ok(Instant::now())
}

/// Writes a thousand records, reads them as the only member of a group, commits and leaves.
///
/// # Errors
/// When any of it fails.
pub(crate) fn one_group_read(bootstrap: &str, topic: &str) -> Result<()> {
    native::create_topic(bootstrap, topic, 1, &[])?;
    produce(bootstrap, topic, 1, 1_000)?;
    let consumer = native::consumer(bootstrap, "bench-group", &[])?;
    consumer.subscribe(&[topic])?;
    read(&consumer, 1_000)?;
    consumer.commit_consumer_state(CommitMode::Sync)?;
    Ok(())
}
