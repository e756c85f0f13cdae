// SPDX-License-Identifier: Apache-2.0
//! A workload for runs with faults: one writer of numbered records over a few keys, members of a group that read and
//! commit, and somebody who asks what the group has committed, all at the same time and through librdkafka. It only
//! writes down what happened; [`crate::history`] judges. It must not know which faults there are.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::Message;
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{Offset, TopicPartitionList};

use crate::history::{Acknowledged, CommitSeen, Committed, Found};
use crate::native::{self, RecordingProducer};

/// A topic and what is written to it.
#[derive(Clone, Debug)]
pub struct KeyedTopic {
    /// Where to begin to look for brokers.
    pub bootstrap: String,
    /// Its name.
    pub name: String,
    /// How many partitions it has.
    pub partitions: i32,
    /// How many keys there are; record `number` has the key `number % keys`.
    pub keys: u32,
}

impl KeyedTopic {
    /// The key of a record.
    pub fn key(&self, number: u32) -> String {
        format!("key-{}", number % self.keys)
    }

    /// The value of a record: its number and up to 1 KB that depends on it.
    pub fn value(number: u32) -> String {
        let size = (number.wrapping_mul(2_654_435_761) >> 22) as usize;
        format!("{number} {}", "x".repeat(size))
    }

    /// A record that was read.
    ///
    /// # Errors
    /// When it is not one that is written here, or was changed.
    pub fn recognise<M: Message>(&self, message: &M) -> Result<Found> {
        let text = std::str::from_utf8(message.payload().context("no value")?)?;
        let number: u32 = text.split(' ').next().unwrap_or_default().parse().context("a value without number")?;
        ensure!(text == Self::value(number), "the value of {number} changed");
        ensure!(message.key() == Some(self.key(number).as_bytes()), "the key of {number} changed");
        Ok(Found { partition: message.partition(), offset: message.offset(), key: number % self.keys, number })
    }

    /// The whole log, partition by partition, up to where readers may read now.
    ///
    /// # Errors
    /// When it cannot be read within `limit`, or has records that are not written here.
    pub fn read_log(&self, limit: Duration) -> Result<Vec<Found>> {
        let deadline = Instant::now() + limit;
        let consumer = native::consumer(&self.bootstrap, "odradek-checker", &[])?;
        let mut log = Vec::new();
        for partition in 0..self.partitions {
            let (first, next) = self.ends(&consumer, partition, deadline)?;
            ensure!(first == 0, "partition {partition} begins at offset {first}");
            let mut assignment = TopicPartitionList::new();
            assignment.add_partition_offset(&self.name, partition, Offset::Beginning)?;
            consumer.assign(&assignment)?;
            let mut position = 0;
            while position < next {
                ensure!(Instant::now() < deadline, "partition {partition}: {position} of {next} read within {limit:?}");
                // Errors of a broker that has just come back are tried again by the client.
                let Some(Ok(message)) = consumer.poll(Duration::from_millis(100)) else { continue };
                let place = || format!("partition {partition}, offset {}", message.offset());
                let found = self.recognise(&message).with_context(place)?;
                ensure!(found.partition == partition && found.offset == position, "{}, not {position}", place());
                position += 1;
                log.push(found);
            }
        }
        Ok(log)
    }

    fn ends(&self, consumer: &BaseConsumer, partition: i32, deadline: Instant) -> Result<(i64, i64)> {
        loop {
            match consumer.fetch_watermarks(&self.name, partition, Duration::from_secs(5)) {
                Ok(ends) => return Ok(ends),
                Err(error) => ensure!(Instant::now() < deadline, "the ends of partition {partition}: {error}"),
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

/// Times of the clients, so that what is measured is how long the brokers take: with the clients' own, which are made
/// for slow networks, a request to a broker that is frozen or cut off waits for up to a minute, and a broker that was away
/// is not tried again for up to ten seconds.
const TIMES: &[(&str, &str)] = &[
    ("socket.timeout.ms", "3000"),
    ("socket.connection.setup.timeout.ms", "1000"),
    ("reconnect.backoff.max.ms", "500"),
    ("topic.metadata.refresh.interval.ms", "1000"),
    ("topic.metadata.refresh.fast.interval.ms", "50"),
];

/// A thread that runs until it is told to stop.
#[derive(Debug)]
struct Worker<T> {
    thread: Option<JoinHandle<T>>,
    stop: Arc<AtomicBool>,
}

impl<T: Send + 'static> Worker<T> {
    fn start(name: &str, work: impl FnOnce(&AtomicBool) -> T + Send + 'static) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&stop);
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(move || work(&told))?;
        Ok(Self { thread: Some(thread), stop })
    }

    fn finish(mut self) -> Result<T> {
        self.stop.store(true, Ordering::Relaxed);
        let thread = self.thread.take().context("it was finished before")?;
        thread.join().map_err(|_| anyhow!("a thread of the workload panicked"))
    }
}

impl<T> Drop for Worker<T> {
    fn drop(&mut self) {
        // Whoever drops it without finishing it wants no result; the thread ends by itself.
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// The time between two bursts of the writer.
const PAUSE: Duration = Duration::from_millis(10);

/// A writer at a steady pace, `acks=all`, idempotent.
#[derive(Debug)]
pub struct KeyedWriter {
    producer: Arc<RecordingProducer>,
    worker: Worker<Result<u32>>,
}

/// What a writer did.
#[derive(Debug)]
pub struct Written {
    /// How many records it handed over.
    pub sent: u32,
    /// In the order in which they were acknowledged.
    pub acknowledged: Vec<Acknowledged>,
    /// What the client gave up, by number.
    pub failed: Vec<(u32, String)>,
}

impl KeyedWriter {
    /// Begins to write about `per_second` records a second. A record is given up only after `patience`.
    ///
    /// # Errors
    /// When the client cannot be made.
    pub fn start(topic: &KeyedTopic, per_second: u32, patience: Duration) -> Result<Self> {
        let patience = patience.as_millis().to_string();
        let mut settings = TIMES.to_vec();
        settings.extend([("linger.ms", "2"), ("delivery.timeout.ms", &patience), ("request.timeout.ms", "3000")]);
        let producer = Arc::new(RecordingProducer::new(&topic.bootstrap, &settings)?);
        let (writer, topic) = (Arc::clone(&producer), topic.clone());
        let burst = (per_second / 100).max(1);
        let worker = Worker::start("keyed-writer", move |stop| {
            let mut number = 0;
            while !stop.load(Ordering::Relaxed) {
                for _ in 0..burst {
                    let value = KeyedTopic::value(number);
                    writer.send(&topic.name, number, topic.key(number).as_bytes(), value.as_bytes())?;
                    number += 1;
                }
                std::thread::sleep(PAUSE);
            }
            Ok(number)
        })?;
        Ok(Self { producer, worker })
    }

    /// How many records are acknowledged so far, and when the last one was.
    pub fn progress(&self) -> (usize, Option<Instant>) {
        let deliveries = self.producer.deliveries();
        (deliveries.acknowledged.len(), deliveries.acknowledged.last().map(|one| one.at))
    }

    /// The acknowledgements so far, in their order.
    pub fn acknowledged(&self) -> Vec<Acknowledged> {
        self.producer.deliveries().acknowledged.clone()
    }

    /// What the client has given up so far.
    pub fn failed(&self) -> Vec<(u32, String)> {
        self.producer.deliveries().failed.clone()
    }

    /// Stops, and waits until every record is acknowledged or given up.
    ///
    /// # Errors
    /// When the client refused a record, or has not heard of all of them within two minutes.
    pub fn finish(self) -> Result<Written> {
        let sent = self.worker.finish()??;
        self.producer.flush()?;
        let mut deliveries = self.producer.deliveries();
        let (acknowledged, failed) =
            (std::mem::take(&mut deliveries.acknowledged), std::mem::take(&mut deliveries.failed));
        Ok(Written { sent, acknowledged, failed })
    }
}

/// What a group did.
#[derive(Clone, Debug, Default)]
pub struct GroupHistory {
    /// Every record that a member was given, in the order in which members were given them.
    pub given: Vec<Found>,
    /// Every commit that was confirmed.
    pub committed: Vec<Committed>,
    /// Every answer to the question what is committed.
    pub seen: Vec<CommitSeen>,
    /// Questions that nobody answered, and commits that were not confirmed.
    pub unanswered: u32,
}

impl GroupHistory {
    /// Commits and answers as lines with the seconds since `begun`, in the order of their times, for people.
    pub fn lines(&self, begun: Instant) -> String {
        let seconds = |at: Instant| at.saturating_duration_since(begun).as_secs_f64();
        let committed = self.committed.iter().map(|commit| {
            (commit.at, format!("{:.3} partition {} committed {}", seconds(commit.at), commit.partition, commit.offset))
        });
        let seen = self.seen.iter().map(|answer| {
            let (asked, answered) = (seconds(answer.asked), seconds(answer.answered));
            let line = format!("{answered:.3} partition {} seen {}, asked {asked:.3}", answer.partition, answer.offset);
            (answer.answered, line)
        });
        let mut lines: Vec<_> = committed.chain(seen).collect();
        lines.sort();
        lines.into_iter().map(|(_, line)| line + "\n").collect()
    }
}

/// Members of a group, and somebody who asks what it has committed.
#[derive(Debug)]
pub struct KeyedGroup {
    history: Arc<Mutex<GroupHistory>>,
    workers: Vec<Worker<Result<()>>>,
}

/// How often a member commits.
const COMMIT_INTERVAL: Duration = Duration::from_millis(200);
/// How often it is asked what is committed.
const ASK_INTERVAL: Duration = Duration::from_millis(500);
/// The longest that one question may take: longer than a broker takes to load a coordinator.
const ASK_LIMIT: Duration = Duration::from_secs(3);

impl KeyedGroup {
    /// Begins to read the topic from its beginning with so many members.
    ///
    /// # Errors
    /// When a client cannot be made.
    pub fn start(topic: &KeyedTopic, group: &str, members: usize) -> Result<Self> {
        let history = Arc::<Mutex<GroupHistory>>::default();
        let mut workers = Vec::new();
        for member in 0..members {
            let mut settings = TIMES.to_vec();
            settings.extend([("session.timeout.ms", "6000"), ("heartbeat.interval.ms", "500")]);
            let consumer = native::consumer(&topic.bootstrap, group, &settings)?;
            consumer.subscribe(&[&topic.name])?;
            let (topic, history) = (topic.clone(), Arc::clone(&history));
            let name = format!("group-member-{member}");
            workers.push(Worker::start(&name, move |stop| read(&consumer, &topic, &history, stop))?);
        }
        let asker = native::consumer(&topic.bootstrap, group, TIMES)?;
        let (topic, kept) = (topic.clone(), Arc::clone(&history));
        workers.push(Worker::start("group-asker", move |stop| {
            while !stop.load(Ordering::Relaxed) {
                ask(&asker, &topic, &kept)?;
                std::thread::sleep(ASK_INTERVAL);
            }
            Ok(())
        })?);
        Ok(Self { history, workers })
    }

    /// What happened so far.
    pub fn history(&self) -> GroupHistory {
        lock(&self.history).clone()
    }

    /// Up to which offsets the group has committed, confirmed, of all partitions together.
    pub fn committed_total(&self, partitions: i32) -> i64 {
        let history = lock(&self.history);
        let of = |partition| history.committed.iter().filter(move |commit| commit.partition == partition);
        (0..partitions).filter_map(|partition| of(partition).map(|commit| commit.offset).max()).sum()
    }

    /// Stops the members and gives back what happened.
    ///
    /// # Errors
    /// When a member was given something that is not written here.
    pub fn finish(self) -> Result<GroupHistory> {
        for worker in &self.workers {
            worker.stop.store(true, Ordering::Relaxed);
        }
        for worker in self.workers {
            worker.finish()??;
        }
        Ok(lock(&self.history).clone())
    }
}

fn lock(history: &Mutex<GroupHistory>) -> MutexGuard<'_, GroupHistory> {
    history.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One member's life.
fn read(consumer: &BaseConsumer, topic: &KeyedTopic, history: &Mutex<GroupHistory>, stop: &AtomicBool) -> Result<()> {
    let mut last_commit = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        if let Some(Ok(message)) = consumer.poll(Duration::from_millis(20)) {
            let found = topic.recognise(&message)?;
            lock(history).given.push(found);
        }
        if last_commit.elapsed() > COMMIT_INTERVAL {
            commit(consumer, topic, history)?;
            last_commit = Instant::now();
        }
    }
    commit(consumer, topic, history)
}

/// Commits the places up to which this member has been given records.
fn commit(consumer: &BaseConsumer, topic: &KeyedTopic, history: &Mutex<GroupHistory>) -> Result<()> {
    let mut list = TopicPartitionList::new();
    for element in consumer.position()?.elements_for_topic(&topic.name) {
        // A partition that was assigned and of which nothing was given yet has no position.
        if let Offset::Offset(offset) = element.offset() {
            list.add_partition_offset(&topic.name, element.partition(), Offset::Offset(offset))?;
        }
    }
    if list.count() == 0 {
        return Ok(());
    }
    let outcome = consumer.commit(&list, CommitMode::Sync);
    let at = Instant::now();
    let mut history = lock(history);
    match outcome {
        Ok(()) => {
            for element in list.elements() {
                if let Offset::Offset(offset) = element.offset() {
                    history.committed.push(Committed { partition: element.partition(), offset, at });
                }
            }
        }
        Err(_) => history.unanswered += 1,
    }
    Ok(())
}

/// Asks once what the group has committed.
fn ask(consumer: &BaseConsumer, topic: &KeyedTopic, history: &Mutex<GroupHistory>) -> Result<()> {
    let mut list = TopicPartitionList::new();
    for partition in 0..topic.partitions {
        list.add_partition(&topic.name, partition);
    }
    let asked = Instant::now();
    let answer = consumer.committed_offsets(list, ASK_LIMIT);
    let answered = Instant::now();
    let mut history = lock(history);
    let Ok(answer) = answer else {
        history.unanswered += 1;
        return Ok(());
    };
    for element in answer.elements() {
        // A partition with an error of its own says nothing.
        if element.error().is_err() {
            continue;
        }
        let offset = match element.offset() {
            Offset::Offset(offset) => offset,
            Offset::Invalid => 0,
            other => return Err(anyhow!("partition {}: committed {other:?}", element.partition())),
        };
        history.seen.push(CommitSeen { partition: element.partition(), offset, asked, answered });
    }
    Ok(())
}

/// Creates the topic with so many replicas, trying again until `deadline`: a cluster that has just begun may still
/// have fewer brokers.
///
/// # Errors
/// The last refusal.
pub fn create(topic: &KeyedTopic, replicas: i32, settings: &[(&str, &str)], deadline: Instant) -> Result<()> {
    loop {
        match native::create_replicated_topic(&topic.bootstrap, &topic.name, topic.partitions, replicas, settings) {
            Ok(()) => return Ok(()),
            Err(error) => {
                // An attempt whose answer was lost may have made it.
                let there = error.downcast_ref::<KafkaError>().and_then(KafkaError::rdkafka_error_code);
                if there == Some(RDKafkaErrorCode::TopicAlreadyExists) {
                    return Ok(());
                }
                if Instant::now() > deadline {
                    return Err(error);
                }
            }
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}
