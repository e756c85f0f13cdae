// SPDX-License-Identifier: Apache-2.0
//! A producer that writes to every partition of a topic all the time, at a fixed rate, whatever the brokers do: how long
//! partitions go without an acknowledgement, and how long acknowledgements take. Knows nothing of what happens meanwhile.

use crate::load;
use anyhow::{Result, ensure};
use odradek_clients::Random;
use rdkafka::ClientContext;
use rdkafka::message::{DeliveryResult, Message};
use rdkafka::producer::{BaseRecord, Producer, ProducerContext, ThreadedProducer};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Settings beside those of every producer here: a record is sent at once, as what is measured is time.
pub(crate) const SETTINGS: [(&str, &str); 2] = [("enable.idempotence", "true"), ("linger.ms", "0")];
/// The longest until what was sent is acknowledged at the end.
const FLUSH_LIMIT: Duration = Duration::from_mins(2);

/// What is written.
#[derive(Clone, Debug)]
pub(crate) struct Rhythm {
    pub(crate) topic: String,
    pub(crate) partitions: i32,
    /// From one record to the next; the partitions have their turns.
    pub(crate) interval: Duration,
    pub(crate) value_bytes: usize,
}

#[derive(Debug)]
struct Seen {
    /// When each partition had its last acknowledgement.
    last: Vec<Instant>,
    /// The longest time between two of a partition since the window began.
    longest: Vec<Duration>,
    /// From the moment at which each record was due to its acknowledgement.
    latencies: Vec<Duration>,
    acknowledged: u64,
    failed: Vec<String>,
    /// Records that were not sent as the client's queue was full.
    left_out: u64,
}

#[derive(Clone, Debug)]
struct Watcher {
    begun: Instant,
    seen: Arc<Mutex<Seen>>,
}

impl Watcher {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ClientContext for Watcher {}

impl ProducerContext for Watcher {
    /// Microseconds from the beginning until the record was due.
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, due: usize) {
        let now = Instant::now();
        let mut seen = self.seen();
        match result {
            Ok(message) => {
                let partition = message.partition() as usize;
                let gap = now.duration_since(seen.last[partition]);
                seen.longest[partition] = seen.longest[partition].max(gap);
                seen.last[partition] = now;
                seen.acknowledged += 1;
                let due = self.begun + Duration::from_micros(due as u64);
                seen.latencies.push(now.saturating_duration_since(due));
            }
            Err((error, message)) => {
                let partition = message.partition();
                seen.failed.push(format!("partition {partition}: {error}"));
            }
        }
    }
}

/// Writes until it is ended.
pub(crate) struct SteadyProducer {
    producer: Arc<ThreadedProducer<Watcher>>,
    watcher: Watcher,
    stop: Arc<AtomicBool>,
    sender: Option<JoinHandle<()>>,
}

/// What was seen from the beginning of a window until now.
#[derive(Debug)]
pub(crate) struct Window {
    /// By partition: the longest time without an acknowledgement, one that has not ended included.
    pub(crate) gaps: Vec<Duration>,
    /// Sorted.
    pub(crate) latencies: Vec<Duration>,
    pub(crate) failed: Vec<String>,
}

impl Window {
    /// The latency that such a share of the records stays below.
    pub(crate) fn latency(&self, share: f64) -> Result<Duration> {
        ensure!(!self.latencies.is_empty(), "nothing was acknowledged");
        let rank = (self.latencies.len() as f64 * share).ceil() as usize;
        Ok(self.latencies[rank.clamp(1, self.latencies.len()) - 1])
    }
}

impl SteadyProducer {
    /// Begins to write, with `acks=all`.
    pub(crate) fn start(bootstrap: &str, rhythm: Rhythm) -> Result<Self> {
        let begun = Instant::now();
        let partitions = rhythm.partitions as usize;
        let seen = Seen {
            last: vec![begun; partitions],
            longest: vec![Duration::ZERO; partitions],
            latencies: Vec::new(),
            acknowledged: 0,
            failed: Vec::new(),
            left_out: 0,
        };
        let watcher = Watcher { begun, seen: Arc::new(Mutex::new(seen)) };
        let mut configuration = load::configuration(bootstrap);
        configuration.set("acks", "all");
        for (name, value) in SETTINGS {
            configuration.set(name, value);
        }
        let producer: Arc<ThreadedProducer<Watcher>> = Arc::new(configuration.create_with_context(watcher.clone())?);
        let stop = Arc::new(AtomicBool::new(false));
        let sender = {
            let (producer, watcher, stop) = (Arc::clone(&producer), watcher.clone(), Arc::clone(&stop));
            std::thread::spawn(move || send(&producer, &watcher, &stop, &rhythm))
        };
        Ok(Self { producer, watcher, stop, sender: Some(sender) })
    }

    /// Forgets what was seen; a gap that has begun is not forgotten.
    pub(crate) fn begin_window(&self) {
        let mut seen = self.watcher.seen();
        seen.longest.fill(Duration::ZERO);
        seen.latencies.clear();
        seen.failed.clear();
    }

    /// Since the window began.
    pub(crate) fn window(&self) -> Window {
        let now = Instant::now();
        let seen = self.watcher.seen();
        let gaps = seen.last.iter().zip(&seen.longest).map(|(last, longest)| longest.max(&(now - *last)).to_owned());
        let mut latencies = seen.latencies.clone();
        latencies.sort_unstable();
        Window { gaps: gaps.collect(), latencies, failed: seen.failed.clone() }
    }

    /// Whether every partition has had an acknowledgement after that moment.
    pub(crate) fn all_acknowledged_after(&self, moment: Instant) -> bool {
        self.watcher.seen().last.iter().all(|last| *last > moment)
    }

    /// Stops writing, waits for what is under way, and says how many records were acknowledged.
    ///
    /// # Errors
    /// When a record failed or could not be handed over, or acknowledgements stay out.
    pub(crate) fn end(mut self) -> Result<u64> {
        self.stop_sending();
        self.producer.flush(FLUSH_LIMIT)?;
        let seen = self.watcher.seen();
        ensure!(seen.failed.is_empty(), "{} records failed, the first: {}", seen.failed.len(), seen.failed[0]);
        ensure!(seen.left_out == 0, "{} records were not sent: the client's queue was full", seen.left_out);
        Ok(seen.acknowledged)
    }

    fn stop_sending(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(sender) = self.sender.take() {
            // It ends after its present pause; it panics only where this thread would too.
            let _ = sender.join();
        }
    }
}

impl Drop for SteadyProducer {
    fn drop(&mut self) {
        self.stop_sending();
    }
}

fn send(producer: &ThreadedProducer<Watcher>, watcher: &Watcher, stop: &AtomicBool, rhythm: &Rhythm) {
    let mut random = Random::new(2);
    let value: Vec<u8> = (0..rhythm.value_bytes).map(|_| random.next_u64() as u8).collect();
    let mut due = watcher.begun;
    let mut partition = 0;
    while !stop.load(Ordering::Relaxed) {
        due += rhythm.interval;
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        let microseconds = due.duration_since(watcher.begun).as_micros() as usize;
        let record: BaseRecord<'_, (), [u8], usize> =
            BaseRecord::with_opaque_to(&rhythm.topic, microseconds).partition(partition).payload(&value);
        if producer.send(record).is_err() {
            // Its queue is full: the time without acknowledgements is counted all the same.
            watcher.seen().left_out += 1;
        }
        partition = (partition + 1) % rhythm.partitions;
    }
}
