// SPDX-License-Identifier: Apache-2.0
//! librdkafka through the rdkafka crate: producing with what was acknowledged where, reading in a group or from a
//! place, creating topics. Knows no broker's internals.

use anyhow::{Context, Result, ensure};
use rdkafka::ClientContext;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::DeliveryResult;
use rdkafka::message::Message;
use rdkafka::metadata::MetadataPartition;
use rdkafka::producer::{BaseRecord, Producer, ProducerContext, ThreadedProducer};
use rdkafka::types::RDKafkaErrorCode;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::history::Acknowledged;

/// The longest a client waits for one answer here; a broker that was killed may be away for a while.
const LIMIT: Duration = Duration::from_mins(2);

/// The settings that all native clients share: a broker that comes back is found at once.
pub fn configuration(bootstrap: &str) -> ClientConfig {
    let mut configuration = ClientConfig::new();
    configuration
        .set("bootstrap.servers", bootstrap)
        .set("reconnect.backoff.ms", "10")
        .set("reconnect.backoff.max.ms", "100")
        .set("broker.address.family", "v4")
        // Errors reach us as results; on its own librdkafka would print every refused connection.
        .set("log_level", "0");
    configuration
}

/// Whether `bootstrap` answers a request for metadata with at least one broker within a second.
pub(crate) fn answers_metadata(bootstrap: &str) -> bool {
    brokers_known_to(bootstrap) > 0
}

/// How many brokers `bootstrap` names when it is asked for metadata; none if it does not answer within a second.
pub(crate) fn brokers_known_to(bootstrap: &str) -> usize {
    let client: Result<BaseConsumer, _> = configuration(bootstrap).create();
    let metadata = client.and_then(|client| client.fetch_metadata(Some("__no_such_topic"), Duration::from_secs(1)));
    metadata.map_or(0, |metadata| metadata.brokers().len())
}

/// Creates `topic` with `partitions` and `settings`.
///
/// # Errors
/// When the broker refuses, or does not answer.
pub fn create_topic(bootstrap: &str, topic: &str, partitions: i32, settings: &[(&str, &str)]) -> Result<()> {
    create_replicated_topic(bootstrap, topic, partitions, 1, settings)
}

/// Creates `topic` with `replicas` of each of its `partitions`.
///
/// # Errors
/// When the broker refuses, or does not answer. A refusal is an [`rdkafka::error::KafkaError`] inside.
pub fn create_replicated_topic(
    bootstrap: &str,
    topic: &str,
    partitions: i32,
    replicas: i32,
    settings: &[(&str, &str)],
) -> Result<()> {
    Admin::new(bootstrap)?.create_replicated_topic(topic, partitions, replicas, settings)
}

/// A client that creates topics. Dropping it takes up to 100 ms: the crate's thread ends only after its poll.
pub struct Admin(AdminClient<DefaultClientContext>);

impl std::fmt::Debug for Admin {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Admin").finish_non_exhaustive()
    }
}

impl Admin {
    /// A client of `bootstrap`; nothing is sent yet.
    ///
    /// # Errors
    /// When a setting is refused.
    pub fn new(bootstrap: &str) -> Result<Self> {
        Ok(Self(configuration(bootstrap).create()?))
    }

    /// As [`create_topic`].
    ///
    /// # Errors
    /// As [`create_topic`].
    pub fn create_topic(&self, topic: &str, partitions: i32, settings: &[(&str, &str)]) -> Result<()> {
        self.create_replicated_topic(topic, partitions, 1, settings)
    }

    fn create_replicated_topic(
        &self,
        topic: &str,
        partitions: i32,
        replicas: i32,
        settings: &[(&str, &str)],
    ) -> Result<()> {
        let mut new = NewTopic::new(topic, partitions, TopicReplication::Fixed(replicas));
        for (name, value) in settings {
            new = new.set(name, value);
        }
        let options = AdminOptions::new().request_timeout(Some(LIMIT)).operation_timeout(Some(LIMIT));
        let results = block_on(self.0.create_topics([&new], &options))?;
        for result in results {
            result.map_err(|(name, code)| {
                anyhow::Error::new(KafkaError::AdminOp(code)).context(format!("creating {name}: {code}"))
            })?;
        }
        Ok(())
    }
}

/// Waits for an operation that another thread completes.
fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(std::thread::Thread);
    impl std::task::Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Arc::new(Unpark(std::thread::current())).into();
    let mut context = std::task::Context::from_waker(&waker);
    let mut future = std::pin::pin!(future);
    loop {
        match future.as_mut().poll(&mut context) {
            std::task::Poll::Ready(output) => return output,
            std::task::Poll::Pending => std::thread::park(),
        }
    }
}

/// What became of the records a [`RecordingProducer`] sent.
#[derive(Debug, Default)]
pub struct Deliveries {
    /// In the order in which they were acknowledged.
    pub acknowledged: Vec<Acknowledged>,
    /// What failed for good, by the records' numbers.
    pub failed: Vec<(u32, String)>,
    gaps: Gaps,
}

/// How long partitions went without an acknowledgement.
#[derive(Debug, Default)]
struct Gaps {
    /// When each partition had its last one.
    last: HashMap<i32, Instant>,
    longest: Duration,
}

impl Gaps {
    fn acknowledged(&mut self, partition: i32) {
        let now = Instant::now();
        if let Some(before) = self.last.insert(partition, now) {
            self.longest = self.longest.max(now - before);
        }
    }
}

impl Deliveries {
    /// The longest time that any partition went without an acknowledgement since this was asked last (or since its first
    /// one), what is still without one included. Says something only while every partition is written to all the time.
    pub fn take_longest_gap(&mut self) -> Duration {
        let now = Instant::now();
        let open = self.gaps.last.values().map(|last| now - *last).max().unwrap_or_default();
        std::mem::take(&mut self.gaps.longest).max(open)
    }
}

/// Collects delivery reports.
#[derive(Clone, Debug, Default)]
struct Recorder(Arc<Mutex<Deliveries>>);

impl ClientContext for Recorder {}

impl ProducerContext for Recorder {
    type DeliveryOpaque = Box<u32>;

    fn delivery(&self, result: &DeliveryResult<'_>, number: Box<u32>) {
        let mut deliveries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match result {
            Ok(message) => {
                let (partition, offset) = (message.partition(), message.offset());
                deliveries.acknowledged.push(Acknowledged { number: *number, partition, offset, at: Instant::now() });
                deliveries.gaps.acknowledged(partition);
            }
            Err((error, _)) => deliveries.failed.push((*number, error.to_string())),
        }
    }
}

/// A producer that remembers each acknowledgement.
pub struct RecordingProducer {
    producer: ThreadedProducer<Recorder>,
    recorder: Recorder,
}

impl std::fmt::Debug for RecordingProducer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("RecordingProducer").finish_non_exhaustive()
    }
}

impl RecordingProducer {
    /// An idempotent producer with `acks=all` and `settings`.
    ///
    /// # Errors
    /// When a setting is refused.
    pub fn new(bootstrap: &str, settings: &[(&str, &str)]) -> Result<Self> {
        let recorder = Recorder::default();
        let mut configuration = configuration(bootstrap);
        configuration.set("acks", "all").set("enable.idempotence", "true").set("delivery.timeout.ms", "120000");
        for (name, value) in settings {
            configuration.set(*name, *value);
        }
        Ok(Self { producer: configuration.create_with_context(recorder.clone())?, recorder })
    }

    /// Hands a record over; waits while the producer's own queue is full.
    ///
    /// # Errors
    /// When the producer refuses it, or its queue stays full for two minutes.
    pub fn send(&self, topic: &str, number: u32, key: &[u8], value: &[u8]) -> Result<()> {
        let deadline = Instant::now() + LIMIT;
        let mut record = BaseRecord::with_opaque_to(topic, Box::new(number)).key(key).payload(value);
        loop {
            match self.producer.send(record) {
                Ok(()) => return Ok(()),
                Err((error, returned)) => {
                    let full = error.rdkafka_error_code() == Some(RDKafkaErrorCode::QueueFull);
                    ensure!(full && Instant::now() < deadline, "sending {number}: {error}");
                    record = returned;
                    std::thread::sleep(Duration::from_millis(1));
                }
            }
        }
    }

    /// Waits until every record is acknowledged or failed.
    ///
    /// # Errors
    /// When that takes longer than two minutes.
    pub fn flush(&self) -> Result<()> {
        self.producer.flush(LIMIT).context("waiting for acknowledgements")
    }

    /// The acknowledgements and failures so far.
    pub fn deliveries(&self) -> std::sync::MutexGuard<'_, Deliveries> {
        self.recorder.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A consumer with `settings`, reading from the beginning where its group has committed nothing.
///
/// # Errors
/// When a setting is refused.
pub fn consumer(bootstrap: &str, group: &str, settings: &[(&str, &str)]) -> Result<BaseConsumer> {
    let mut configuration = configuration(bootstrap);
    configuration.set("group.id", group).set("auto.offset.reset", "earliest").set("enable.auto.commit", "false");
    for (name, value) in settings {
        configuration.set(*name, *value);
    }
    Ok(configuration.create()?)
}

/// The names of all topics. librdkafka 2.12 appends three bytes to this request, which Kafka lets pass.
///
/// # Errors
/// When the broker does not answer.
pub fn topics(bootstrap: &str) -> Result<Vec<String>> {
    let client: BaseConsumer = configuration(bootstrap).create()?;
    let metadata = client.fetch_metadata(None, LIMIT)?;
    Ok(metadata.topics().iter().map(|topic| topic.name().to_owned()).collect())
}

/// The first and the next offset of a partition.
///
/// # Errors
/// When the broker does not answer.
pub fn offsets(bootstrap: &str, topic: &str, partition: i32) -> Result<(i64, i64)> {
    let client: BaseConsumer = configuration(bootstrap).create()?;
    Ok(client.fetch_watermarks(topic, partition, LIMIT)?)
}

/// The replicas of each partition, and how many of them are in sync, by the metadata of each broker in turn: one that has
/// not heard yet that a replica has left says that all is well.
///
/// # Errors
/// When a broker does not answer, or a partition is missing or has no leader.
pub fn replicas_in_sync(brokers: &str, topic: &str, partitions: i32) -> Result<Vec<(usize, usize)>> {
    let each = brokers.split(',').map(|broker| replicas_in_sync_by(broker, topic, partitions));
    Ok(each.collect::<Result<Vec<_>>>()?.concat())
}

fn replicas_in_sync_by(broker: &str, topic: &str, partitions: i32) -> Result<Vec<(usize, usize)>> {
    // A client that has just been made knows no other broker.
    let client: BaseConsumer = configuration(broker).create()?;
    let metadata = client.fetch_metadata(Some(topic), Duration::from_secs(5))?;
    let described = metadata.topics().iter().find(|described| described.name() == topic).context("no such topic")?;
    ensure!(described.partitions().len() == partitions as usize, "{} partitions", described.partitions().len());
    described
        .partitions()
        .iter()
        .map(|partition| {
            ensure!(partition.leader() >= 0, "partition {} has no leader", partition.id());
            Ok((partition.replicas().len(), partition.isr().len()))
        })
        .collect()
}

/// Waits until each broker of the list tells clients that every replica of every partition is in sync, at most `limit`;
/// gives back how long that took. All are asked, as one may not have heard yet that another has left the ISR.
///
/// # Errors
/// When the time is up, naming a broker and a partition that is not whole.
pub fn wait_until_in_sync(bootstrap: &str, limit: Duration) -> Result<Duration> {
    let begun = Instant::now();
    for broker in bootstrap.split(',') {
        while let Some(lacking) = lacking_replicas(broker) {
            ensure!(begun.elapsed() < limit, "not in sync within {limit:?} by {broker}: {lacking}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
    Ok(begun.elapsed())
}

/// Why a broker does not say that all replicas are in sync.
fn lacking_replicas(broker: &str) -> Option<String> {
    let metadata = (configuration(broker).create::<BaseConsumer>())
        // A client that has just been made knows no other broker.
        .and_then(|client| client.fetch_metadata(None, Duration::from_secs(5)));
    let metadata = match metadata {
        Ok(metadata) => metadata,
        Err(error) => return Some(format!("no metadata: {error}")),
    };
    let topics = metadata.topics().iter();
    let mut partitions = topics.flat_map(|topic| topic.partitions().iter().map(|partition| (topic.name(), partition)));
    let lacking = |(_, partition): &(&str, &MetadataPartition)| {
        partition.leader() < 0 || partition.isr().len() < partition.replicas().len()
    };
    let (topic, partition) = partitions.find(lacking)?;
    let (id, leader, replicas, isr) = (partition.id(), partition.leader(), partition.replicas(), partition.isr());
    Some(format!("{topic}-{id}: leader {leader}, replicas {replicas:?}, in sync {isr:?}"))
}
