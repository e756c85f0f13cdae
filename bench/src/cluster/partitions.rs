// SPDX-License-Identifier: Apache-2.0
//! Ten thousand partitions over three brokers, one of which is killed: how long until every partition that it led
//! acknowledges a record again. Once by writing to those alone, and once by writing to all: then much of the time is the
//! client's, which sends one partition's record in each of five requests.

use super::{REPLICAS, TOPIC_SETTINGS, Watch, bring_back, start};
use crate::figures::{Goal, Measure};
use crate::{load, say};
use anyhow::{Context, Result, ensure};
use odradek_clients::{Flavor, Nodes, native};
use rdkafka::ClientContext;
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseRecord, Producer, ProducerContext, ThreadedProducer};
use serde::Serialize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The longest until ten thousand partitions, of three replicas each, are there and have acknowledged a record.
const CREATION_LIMIT: Duration = Duration::from_mins(5);
/// The longest until one record of each partition is acknowledged.
const ROUND_LIMIT: Duration = Duration::from_mins(2);
/// The longest until the leaderships are where they belong again.
const BALANCE_LIMIT: Duration = Duration::from_mins(1);
/// How long an election may take to be seen before another one is asked for.
const BALANCE_PAUSE: Duration = Duration::from_secs(2);

/// How much is measured.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Plan {
    pub(crate) topics: u32,
    pub(crate) partitions_of_each: i32,
    pub(crate) odradek_kills: u32,
    pub(crate) kafka_kills: u32,
}

impl Plan {
    pub(crate) fn new(quick: bool) -> Self {
        if quick {
            Self { topics: 2, partitions_of_each: 100, odradek_kills: 1, kafka_kills: 1 }
        } else {
            Self { topics: 10, partitions_of_each: 1_000, odradek_kills: 3, kafka_kills: 1 }
        }
    }

    fn partitions(&self) -> usize {
        self.topics as usize * self.partitions_of_each as usize
    }
}

/// Seconds.
#[derive(Debug, Default)]
struct Times {
    creation: Vec<f64>,
    /// From the kill to the last acknowledgement of the partitions that the broker led, which alone were written.
    failover: Vec<f64>,
    /// From the kill to the last acknowledgement of all.
    all: Vec<f64>,
    /// A round of all before such a kill.
    whole: Vec<f64>,
    /// From the start of the killed broker until all of its replicas are in sync.
    back: Vec<f64>,
}

fn settings(plan: &Plan) -> String {
    format!(
        "many partitions: {} topics of {} partitions with {REPLICAS} replicas; right after the kill of a broker a record to \
         each partition that it led, and after another kill to each of all; kills of each kind: {} of Odradek's, {} of \
         Apache Kafka's",
        plan.topics, plan.partitions_of_each, plan.odradek_kills, plan.kafka_kills
    )
}

/// The settings, and what was measured. The goals are seconds, so that Odradek is measured also where Apache Kafka does
/// not get so far.
pub(crate) fn measure(plan: &Plan) -> Result<(Vec<String>, Vec<Measure>)> {
    let mut settings = vec![settings(plan)];
    let kafka = one(plan, Flavor::ApacheKafka, plan.kafka_kills).unwrap_or_else(|error| {
        let given_up = format!("**Apache Kafka has no figures of many partitions: {error:#}**");
        say(&given_up);
        settings.push(given_up);
        Times::default()
    });
    let odradek = one(plan, Flavor::Odradek, plan.odradek_kills).context("Odradek")?;
    let count = plan.partitions();
    let measure = |name: &str, figure: fn(&Times) -> &[f64]| {
        let name = format!("{count} partitions{name}");
        Measure::new(name, "s").of(figure(&odradek), figure(&kafka), |value| *value)
    };
    let measures = vec![
        measure(" over 3 brokers, one killed: until all that it led acknowledge again", |times| &times.failover)
            .with_goal(Goal::MedianAtMost(2.0)),
        measure(", another kill: until all have acknowledged, written at once", |times| &times.all),
        measure(", that without a kill", |times| &times.whole),
        measure(": from the first request until each has acknowledged a record", |times| &times.creation),
        measure(": from the start of the killed broker until it is in sync", |times| &times.back),
    ];
    Ok((settings, measures))
}

fn topic(number: u32) -> String {
    format!("many-{number}")
}

fn one(plan: &Plan, flavor: Flavor, kills: u32) -> Result<Times> {
    let mut times = Times::default();
    if kills == 0 {
        return Ok(times);
    }
    let mut nodes = start(flavor)?;
    let begun = Instant::now();
    let topics: Vec<String> = (0..plan.topics).map(topic).collect();
    for topic in &topics {
        let (bootstrap, partitions) = (nodes.bootstrap(), plan.partitions_of_each);
        native::create_replicated_topic(&bootstrap, topic, partitions, REPLICAS, &TOPIC_SETTINGS)?;
    }
    nodes.wait_until_in_sync(CREATION_LIMIT)?;
    say(&format!("{flavor:?}: the metadata name {} partitions", plan.partitions()));
    let writer = Writer::new(&nodes.bootstrap(), topics, plan.partitions_of_each)?;
    // Only what acknowledges is really there. Afterwards the client has its connections, and knows every leader.
    writer.round(CREATION_LIMIT, |_| true)?;
    times.creation.push(begun.elapsed().as_secs_f64());
    say(&format!("{flavor:?}: all of them acknowledge {:.1} s after their creation began", times.creation[0]));
    for number in 0..kills {
        for written in [Written::WhatItLed, Written::All] {
            kill(plan, &mut nodes, &writer, (number, written), &mut times)
                .with_context(|| format!("kill {number}, then {written:?} is written"))?;
        }
    }
    Ok(times)
}

/// Which partitions get a record after a kill.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Written {
    WhatItLed,
    All,
}

fn kill(
    plan: &Plan,
    nodes: &mut Nodes,
    writer: &Writer,
    (number, written): (u32, Written),
    times: &mut Times,
) -> Result<()> {
    let ids = nodes.ids();
    let victim = ids[number as usize % ids.len()];
    let leaders = wait_for_balance(plan, nodes, victim)?;
    let begun = Instant::now();
    writer.round(ROUND_LIMIT, |_| true)?;
    let whole = begun.elapsed().as_secs_f64();
    let led = leaders.iter().filter(|leader| **leader == victim).count();
    let controller = nodes.controller()?;
    let killed = Instant::now();
    nodes.kill(victim)?;
    let last = writer.round(ROUND_LIMIT, |place| written == Written::All || leaders[place] == victim)?;
    let acknowledged = last.duration_since(killed).as_secs_f64();
    let begun = Instant::now();
    bring_back(nodes, victim)?;
    let back = begun.elapsed().as_secs_f64();
    say(&format!(
        "{:?}: broker {victim}{} of {led} leaderships killed: {written:?} is acknowledged after {acknowledged:.3} s, where a \
         round of all before the kill took {whole:.3} s; back in sync {back:.1} s after its start",
        nodes.flavor(),
        if victim == controller { " (controller)" } else { "" },
    ));
    match written {
        Written::WhatItLed => times.failover.push(acknowledged),
        Written::All => {
            times.all.push(acknowledged);
            times.whole.push(whole);
        }
    }
    times.back.push(back);
    Ok(())
}

/// The leader of each partition, once the broker leads its third or nearly so: a kill is measured by what it takes with it.
fn wait_for_balance(plan: &Plan, nodes: &Nodes, broker: i32) -> Result<Vec<i32>> {
    let watch = Watch::new(&nodes.bootstrap())?;
    let deadline = Instant::now() + BALANCE_LIMIT;
    let mut asked = None::<Instant>;
    loop {
        if asked.is_none_or(|asked| asked.elapsed() >= BALANCE_PAUSE) {
            nodes.elect_preferred_leaders()?;
            asked = Some(Instant::now());
        }
        let mut leaders = Vec::new();
        for number in 0..plan.topics {
            leaders.extend(watch.partitions(&topic(number))?.iter().map(|partition| partition.leader));
        }
        ensure!(leaders.len() == plan.partitions(), "{} partitions", leaders.len());
        let led = leaders.iter().filter(|leader| **leader == broker).count();
        if (leaders.len() * 3 / 10..=leaders.len() * 37 / 100).contains(&led) {
            return Ok(leaders);
        }
        ensure!(Instant::now() < deadline, "broker {broker} leads only {led} of {}", leaders.len());
        std::thread::sleep(Duration::from_millis(500));
    }
}

/// When a record was acknowledged, or why it was not; nothing while neither is known.
type Entry = Option<Result<Instant, String>>;

/// The entries of a round's records.
#[derive(Clone, Debug, Default)]
struct Round(Arc<Mutex<Vec<Entry>>>);

impl Round {
    fn entries(&self) -> MutexGuard<'_, Vec<Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ClientContext for Round {}

impl ProducerContext for Round {
    /// The partition's place in the round.
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, place: usize) {
        let outcome = match result {
            Ok(_) => Ok(Instant::now()),
            Err((error, _)) => Err(error.to_string()),
        };
        self.entries()[place] = Some(outcome);
    }
}

/// Writes a record to each partition at once.
struct Writer {
    producer: ThreadedProducer<Round>,
    round: Round,
    topics: Vec<String>,
    partitions: i32,
}

impl Writer {
    fn new(bootstrap: &str, topics: Vec<String>, partitions: i32) -> Result<Self> {
        let round = Round::default();
        let mut configuration = load::configuration(bootstrap);
        configuration.set("acks", "all").set("enable.idempotence", "true").set("linger.ms", "0");
        let producer = configuration.create_with_context(round.clone())?;
        Ok(Self { producer, round, topics, partitions })
    }

    /// Writes to each partition at a wanted place; when the last record was acknowledged.
    fn round(&self, limit: Duration, wanted: impl Fn(usize) -> bool) -> Result<Instant> {
        let places: Vec<usize> =
            (0..self.topics.len() * self.partitions as usize).filter(|place| wanted(*place)).collect();
        *self.round.entries() = vec![None; self.topics.len() * self.partitions as usize];
        for place in &places {
            let topic = &self.topics[place / self.partitions as usize];
            let partition = (place % self.partitions as usize) as i32;
            let record: BaseRecord<'_, (), [u8], usize> =
                BaseRecord::with_opaque_to(topic, *place).partition(partition).payload(b"one of each".as_slice());
            // The queue holds 100,000 records.
            self.producer.send(record).map_err(|(error, _)| error)?;
        }
        self.producer.flush(limit)?;
        let mut entries = self.round.entries().clone();
        let mut last = None::<Instant>;
        for place in places {
            let at = entries[place].take().context("no acknowledgement")?.map_err(anyhow::Error::msg)?;
            last = last.max(Some(at));
        }
        last.context("nothing was to be written")
    }
}
