// SPDX-License-Identifier: Apache-2.0
//! What three replicas of every record cost: processor time of all brokers for each gigabyte, and how long an
//! acknowledgement takes at a rate far from the limit.

use super::{REPLICAS, create, start};
use crate::figures::{Goal, Measure};
use crate::load;
use crate::steady::{Rhythm, SteadyProducer};
use anyhow::Result;
use odradek_clients::Flavor;
use serde::Serialize;
use std::time::{Duration, Instant};

const PARTITIONS: i32 = 12;
/// 1 MB/s: every broker has time for each record, so what is measured is the way of one record and not a queue.
const INTERVAL: Duration = Duration::from_millis(1);
/// Latencies are counted from here on: connections are there, and a JVM has compiled what this load makes hot.
const LATENCY_WARM_UP: Duration = Duration::from_secs(5);

/// How much is measured.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Plan {
    pub(crate) runs: u32,
    pub(crate) megabytes: u32,
    pub(crate) warm_up_megabytes: u32,
    pub(crate) latency_seconds: u64,
}

impl Plan {
    pub(crate) fn new(quick: bool) -> Self {
        if quick {
            Self { runs: 1, megabytes: 100, warm_up_megabytes: 50, latency_seconds: 3 }
        } else {
            Self { runs: 3, megabytes: 1_000, warm_up_megabytes: 300, latency_seconds: 10 }
        }
    }
}

#[derive(Debug)]
struct Run {
    cpu_seconds_per_gigabyte: f64,
    megabytes_per_second: f64,
    p50_milliseconds: f64,
    p99_milliseconds: f64,
    resident_megabytes: f64,
}

pub(crate) fn settings(plan: &Plan) -> Vec<String> {
    let producer: Vec<String> = load::PRODUCER.iter().map(|(name, value)| format!("{name}={value}")).collect();
    vec![format!(
        "replication: {PARTITIONS} partitions of {REPLICAS} replicas, min.insync.replicas=2, values of {} bytes; {} runs of \
         each in alternating order, {} MB written after a warm-up of {} MB with acks=all {}; latencies of {} s at {} \
         records a second with linger.ms=0, from the moment at which a record was due",
        load::VALUE_BYTES,
        plan.runs,
        plan.megabytes,
        plan.warm_up_megabytes,
        producer.join(" "),
        plan.latency_seconds,
        (1.0 / INTERVAL.as_secs_f64()).round(),
    )]
}

pub(crate) fn measure(plan: &Plan) -> Result<Vec<Measure>> {
    let (odradek, kafka) = crate::runs_of_both(plan.runs, |flavor| one(plan, flavor))?;
    let measure = |name: &str, unit, figure: fn(&Run) -> f64| Measure::new(name, unit).of(&odradek, &kafka, figure);
    Ok(vec![
        measure("3 replicas, acks=all: CPU of all brokers per GB produced", "s", |run| run.cpu_seconds_per_gigabyte)
            .with_goal(Goal::MedianAtMostOfKafka(0.35)),
        measure("3 replicas, acks=all: produced", "MB/s", |run| run.megabytes_per_second),
        measure("3 replicas, acks=all: latency, median", "ms", |run| run.p50_milliseconds),
        measure("3 replicas, acks=all: latency, 99th percentile", "ms", |run| run.p99_milliseconds)
            .with_goal(Goal::MedianAtMostOfKafka(0.4)),
        measure("3 replicas: memory (RSS) of all brokers afterwards", "MB", |run| run.resident_megabytes),
    ])
}

fn one(plan: &Plan, flavor: Flavor) -> Result<Run> {
    let nodes = start(flavor)?;
    let bootstrap = nodes.bootstrap();
    let records = |megabytes: u32| u64::from(megabytes) * 1_000_000 / load::VALUE_BYTES as u64;
    create(&nodes, "warm-up", PARTITIONS)?;
    load::produce(&bootstrap, "warm-up", PARTITIONS, records(plan.warm_up_megabytes))?;

    create(&nodes, "measured", PARTITIONS)?;
    let records = records(plan.megabytes);
    let gigabytes = records as f64 * load::VALUE_BYTES as f64 / 1e9;
    let (before, begun) = (nodes.cpu_seconds()?, Instant::now());
    let end = load::produce(&bootstrap, "measured", PARTITIONS, records)?;
    let cpu = nodes.cpu_seconds()? - before;

    create(&nodes, "latency", PARTITIONS)?;
    let rhythm = Rhythm {
        topic: "latency".to_owned(),
        partitions: PARTITIONS,
        interval: INTERVAL,
        value_bytes: load::VALUE_BYTES,
    };
    let producer = SteadyProducer::start(&bootstrap, rhythm)?;
    std::thread::sleep(LATENCY_WARM_UP);
    producer.begin_window();
    std::thread::sleep(Duration::from_secs(plan.latency_seconds));
    let window = producer.window();
    producer.end()?;
    let resident: u64 = nodes.ids().into_iter().map(|id| Ok(nodes.usage(id)?.resident_bytes)).sum::<Result<u64>>()?;
    Ok(Run {
        cpu_seconds_per_gigabyte: cpu / gigabytes,
        megabytes_per_second: gigabytes * 1e3 / end.duration_since(begun).as_secs_f64(),
        p50_milliseconds: window.latency(0.5)?.as_secs_f64() * 1e3,
        p99_milliseconds: window.latency(0.99)?.as_secs_f64() * 1e3,
        resident_megabytes: resident as f64 / 1e6,
    })
}
