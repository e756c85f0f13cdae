// SPDX-License-Identifier: Apache-2.0
//! Brokers that die and brokers that stop, while a producer writes to every partition: how long the worst partition goes
//! without an acknowledgement.

use super::{Watch, balance, bring_back, create, start};
use crate::figures::{Goal, Measure};
use crate::say;
use crate::steady::{self, Rhythm, SteadyProducer, Window};
use anyhow::{Context, Result, ensure};
use odradek_clients::{Flavor, Nodes};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{Offset, TopicPartitionList};
use serde::Serialize;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const TOPIC: &str = "written-all-the-time";
const PARTITIONS: i32 = 12;
/// Each partition gets a record every 6 ms, so a gap is known to so much.
const INTERVAL: Duration = Duration::from_micros(500);
const VALUE_BYTES: usize = 100;
/// Between two events: what the last one left behind is over.
const REST: Duration = Duration::from_millis(1_500);
/// How long it is watched after the last partition was acknowledged again.
const AFTERWARDS: Duration = Duration::from_millis(300);
/// The longest that a partition may be without a leader; Apache Kafka's session alone is 9 s.
const FAILOVER_LIMIT: Duration = Duration::from_mins(2);

/// How often what is done.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Plan {
    /// Of a leader that is not the controller, and as many of the controller.
    pub(crate) odradek_kills: u32,
    /// A kill of Apache Kafka's takes half a minute.
    pub(crate) kafka_kills: u32,
    /// How often each of the three brokers is stopped.
    pub(crate) odradek_stops: u32,
    pub(crate) kafka_stops: u32,
}

impl Plan {
    pub(crate) fn new(quick: bool) -> Self {
        if quick {
            Self { odradek_kills: 2, kafka_kills: 1, odradek_stops: 1, kafka_stops: 1 }
        } else {
            Self { odradek_kills: 10, kafka_kills: 3, odradek_stops: 2, kafka_stops: 1 }
        }
    }
}

/// Seconds, one value for each run.
#[derive(Debug, Default)]
struct Gaps {
    leader_killed: Vec<f64>,
    /// Partitions that other brokers lead.
    controller_killed: Vec<f64>,
    /// Partitions that the controller led itself.
    both_killed: Vec<f64>,
    /// Only Odradek has a Lease.
    lease_taken: Vec<f64>,
    controller_again: Vec<f64>,
    stopped: Vec<f64>,
    failed_records: Vec<f64>,
    read_errors: Vec<f64>,
}

pub(crate) fn settings(plan: &Plan) -> Vec<String> {
    let client: Vec<String> = steady::SETTINGS.iter().map(|(name, value)| format!("{name}={value}")).collect();
    vec![format!(
        "failover: {PARTITIONS} partitions of 3 replicas, min.insync.replicas=2; a record of {VALUE_BYTES} bytes to each \
         every {} ms with acks=all {}; a gap is the longest time that any of the partitions went without an \
         acknowledgement; each event meets the preferred leaders; kills of each kind: {} of Odradek's brokers, {} of Apache Kafka's; clean stops of each broker: \
         {} and {}",
        (INTERVAL * PARTITIONS as u32).as_millis(),
        client.join(" "),
        plan.odradek_kills,
        plan.kafka_kills,
        plan.odradek_stops,
        plan.kafka_stops
    )]
}

pub(crate) fn measure(plan: &Plan) -> Result<Vec<Measure>> {
    let kafka = one(Flavor::ApacheKafka, plan.kafka_kills, plan.kafka_stops).context("Apache Kafka")?;
    let odradek = one(Flavor::Odradek, plan.odradek_kills, plan.odradek_stops).context("Odradek")?;
    let measure = |name: &str, unit, figure: fn(&Gaps) -> &[f64]| {
        Measure::new(name, unit).of(figure(&odradek), figure(&kafka), |value| *value)
    };
    let about_a_second =
        |measure: Measure| measure.with_goal(Goal::MedianAtMost(1.0)).with_goal(Goal::NinetiethAtMost(2.0));
    Ok(vec![
        about_a_second(measure("kill -9 of a leader, not the controller: longest gap", "s", |gaps| {
            &gaps.leader_killed
        })),
        about_a_second(measure("kill -9 of the controller: longest gap of what others lead", "s", |gaps| {
            &gaps.controller_killed
        })),
        about_a_second(measure("the same kill: longest gap of what it led itself", "s", |gaps| &gaps.both_killed)),
        measure("of that, from the kill until the Lease is taken", "s", |gaps| &gaps.lease_taken),
        measure("of that, from the kill until there is another controller", "s", |gaps| &gaps.controller_again),
        measure("clean stop of each broker in turn: longest gap", "s", |gaps| &gaps.stopped)
            .with_goal(Goal::EveryAtMost(0.3)),
        measure("the same stop: records that failed", "", |gaps| &gaps.failed_records)
            .with_goal(Goal::EveryAtMost(0.0)),
        measure("the same stop: errors that a consumer was given, ended connections aside", "", |gaps| {
            &gaps.read_errors
        })
        .with_goal(Goal::EveryAtMost(0.0)),
    ])
}

fn one(flavor: Flavor, kills: u32, stops: u32) -> Result<Gaps> {
    if kills + stops == 0 {
        return Ok(Gaps::default());
    }
    let mut nodes = start(flavor)?;
    create(&nodes, TOPIC, PARTITIONS)?;
    let rhythm =
        Rhythm { topic: TOPIC.to_owned(), partitions: PARTITIONS, interval: INTERVAL, value_bytes: VALUE_BYTES };
    let producer = SteadyProducer::start(&nodes.bootstrap(), rhythm)?;
    let mut gaps = Gaps::default();
    // Stops first: a cluster that nothing has happened to yet is what an upgrade meets.
    for round in 0..stops {
        for id in nodes.ids() {
            stop(&mut nodes, &producer, id, &mut gaps).with_context(|| format!("stop of {id}, round {round}"))?;
        }
    }
    for round in 0..kills {
        kill_leader(&mut nodes, &producer, &mut gaps).with_context(|| format!("kill {round} of a leader"))?;
        kill_controller(&mut nodes, &producer, &mut gaps).with_context(|| format!("kill {round} of the controller"))?;
    }
    let acknowledged = producer.end()?;
    say(&format!(
        "{flavor:?}: {acknowledged} records acknowledged through {stops} rounds of stops and {kills} of kills"
    ));
    Ok(gaps)
}

fn kill_leader(nodes: &mut Nodes, producer: &SteadyProducer, gaps: &mut Gaps) -> Result<()> {
    balance(nodes, TOPIC)?;
    std::thread::sleep(REST);
    let watch = Watch::new(&nodes.bootstrap())?;
    let controller = nodes.controller()?;
    let before = watch.partitions(TOPIC)?;
    let led = |id: i32| before.iter().filter(|partition| partition.leader == id).count();
    let victim = nodes.ids().into_iter().filter(|id| *id != controller).max_by_key(|id| led(*id)).context("brokers")?;
    if led(victim) == 0 && nodes.flavor() == Flavor::ApacheKafka {
        say(&format!("{:?}: only the controller leads, no leader is killed", nodes.flavor()));
        return Ok(());
    }
    ensure!(led(victim) > 0, "only the controller leads: {before:?}");
    producer.begin_window();
    let killed = Instant::now();
    nodes.kill(victim)?;
    watch_failover(&watch, producer, victim, killed + FAILOVER_LIMIT)?;
    let gap = longest(&producer.window(), |_| true);
    say(&format!("{:?}: leader {victim} of {} partitions killed, longest gap {gap:.3} s", nodes.flavor(), led(victim)));
    gaps.leader_killed.push(gap);
    bring_back(nodes, victim)
}

fn kill_controller(nodes: &mut Nodes, producer: &SteadyProducer, gaps: &mut Gaps) -> Result<()> {
    balance(nodes, TOPIC)?;
    std::thread::sleep(REST);
    let watch = Watch::new(&nodes.bootstrap())?;
    let victim = nodes.controller()?;
    let before = watch.partitions(TOPIC)?;
    let led = before.iter().filter(|partition| partition.leader == victim).count();
    ensure!(led > 0 || nodes.flavor() == Flavor::ApacheKafka, "the controller leads nothing: {before:?}");
    let lease_before = lease_transitions(&nodes.lease_file());
    producer.begin_window();
    let killed = Instant::now();
    nodes.kill(victim)?;
    let deadline = killed + FAILOVER_LIMIT;
    let (mut lease_taken, mut controller_again) = (None, None);
    while controller_again.is_none() {
        ensure!(Instant::now() < deadline, "no other controller within {FAILOVER_LIMIT:?}");
        if lease_taken.is_none() && lease_before.is_some() && lease_transitions(&nodes.lease_file()) != lease_before {
            lease_taken = Some(killed.elapsed().as_secs_f64());
        }
        // A killed node is never named: it does not run.
        controller_again = nodes.controller_now().map(|_| killed.elapsed().as_secs_f64());
        std::thread::sleep(Duration::from_millis(1));
    }
    watch_failover(&watch, producer, victim, deadline)?;
    let window = producer.window();
    let others = longest(&window, |partition| before[partition].leader != victim);
    let own = longest(&window, |partition| before[partition].leader == victim);
    let controller = controller_again.unwrap_or_default();
    say(&format!(
        "{:?}: controller {victim} killed, it led {led} partitions: longest gap {own:.3} s of those, {others:.3} s of the \
         others; Lease taken after {lease_taken:.3?} s, another controller after {controller:.3} s",
        nodes.flavor(),
    ));
    gaps.controller_killed.push(others);
    if led > 0 {
        gaps.both_killed.push(own);
    }
    gaps.lease_taken.extend(lease_taken);
    gaps.controller_again.push(controller);
    bring_back(nodes, victim)
}

/// Waits until nothing depends on the broker any more and every partition is acknowledged again, and a little longer.
fn watch_failover(watch: &Watch, producer: &SteadyProducer, victim: i32, deadline: Instant) -> Result<()> {
    watch.wait_until_without(TOPIC, PARTITIONS, victim, deadline)?;
    let healed = Instant::now();
    while !producer.all_acknowledged_after(healed) {
        ensure!(Instant::now() < deadline, "a partition is not acknowledged within {FAILOVER_LIMIT:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
    std::thread::sleep(AFTERWARDS);
    Ok(())
}

fn stop(nodes: &mut Nodes, producer: &SteadyProducer, id: i32, gaps: &mut Gaps) -> Result<()> {
    balance(nodes, TOPIC)?;
    std::thread::sleep(REST);
    let watch = Watch::new(&nodes.bootstrap())?;
    let led = watch.partitions(TOPIC)?.iter().filter(|partition| partition.leader == id).count();
    let controller = nodes.controller()?;
    let reader = Reader::start(nodes)?;
    producer.begin_window();
    let (status, took) = nodes.terminate(id)?;
    // A JVM that was asked to end ends with 128 and the signal's number.
    ensure!(status.success() || status.code() == Some(143), "broker {id} ended with {status}");
    // The window goes on until it is back: coming back is a part of a rolling restart.
    bring_back(nodes, id)?;
    std::thread::sleep(AFTERWARDS);
    let window = producer.window();
    let (gap, failed) = (longest(&window, |_| true), window.failed.len());
    let (read, errors) = reader.end()?;
    ensure!(read > 0, "the consumer read nothing");
    say(&format!(
        "{:?}: broker {id}{} of {led} partitions stopped within {:.1} s, longest gap {gap:.3} s, {failed} records failed, \
         {read} records read with {errors} errors",
        nodes.flavor(),
        if id == controller { " (controller)" } else { "" },
        took.as_secs_f64(),
    ));
    gaps.stopped.push(gap);
    gaps.failed_records.push(failed as f64);
    gaps.read_errors.push(errors as f64);
    Ok(())
}

/// Seconds without an acknowledgement, of the worst of the partitions.
fn longest(window: &Window, is_meant: impl Fn(usize) -> bool) -> f64 {
    let meant = window.gaps.iter().enumerate().filter(|(partition, _)| is_meant(*partition));
    meant.map(|(_, gap)| gap.as_secs_f64()).fold(0.0, f64::max)
}

/// How often the Lease was taken; `None` while it cannot be read, or if there is none.
fn lease_transitions(file: &Path) -> Option<i64> {
    let lease: serde_json::Value = serde_json::from_slice(&std::fs::read(file).ok()?).ok()?;
    lease.get("leaseTransitions")?.as_i64()
}

/// Reads the topic all the time.
struct Reader {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<(u64, u64)>,
}

impl Reader {
    fn start(nodes: &Nodes) -> Result<Self> {
        let mut configuration = crate::load::configuration(&nodes.bootstrap());
        configuration.set("group.id", "bench").set("enable.auto.commit", "false");
        let consumer: BaseConsumer = configuration.create()?;
        let mut assignment = TopicPartitionList::new();
        for partition in 0..PARTITIONS {
            assignment.add_partition_offset(TOPIC, partition, Offset::End)?;
        }
        consumer.assign(&assignment)?;
        let stop = Arc::<AtomicBool>::default();
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let (mut read, mut errors) = (0, 0);
            while !stopped.load(Ordering::Relaxed) {
                match consumer.poll(Duration::from_millis(50)) {
                    Some(Ok(_)) => read += 1,
                    // The client says so of every connection that ends, as one does when a broker stops, and goes on.
                    Some(Err(error))
                        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::BrokerTransportFailure) => {}
                    Some(Err(error)) => {
                        say(&format!("the consumer is given {error}"));
                        errors += 1;
                    }
                    None => {}
                }
            }
            (read, errors)
        });
        Ok(Self { stop, thread })
    }

    /// How many records were read, and how often the client gave an error instead.
    fn end(self) -> Result<(u64, u64)> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| anyhow::anyhow!("the consumer's thread panicked"))
    }
}
