// SPDX-License-Identifier: Apache-2.0
//! What is measured of one broker that is alone: started anew for every run, the two in alternating order.

use crate::figures::{Goal, Measure};
use crate::load;
use anyhow::{Context, Result, ensure};
use odradek_clients::{Broker, Flavor, StartOptions};
use rustix::thread::{CpuSet, sched_setaffinity};
use serde::Serialize;
use std::time::{Duration, Instant};

/// Partitions of the measured topic.
const PARTITIONS: i32 = 4;

/// How much is measured.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Plan {
    pub(crate) runs: u32,
    pub(crate) megabytes: u32,
    /// Written and read before the measured part, so that a JVM has compiled its hot code.
    pub(crate) warm_up_megabytes: u32,
    /// How long a broker idles between the group read and the look at its memory.
    pub(crate) idle_seconds: u64,
    /// The processors of the broker, and those of the client; nothing when there is but one.
    pub(crate) pinning: Option<(String, String)>,
}

impl Plan {
    pub(crate) fn new(runs: u32, megabytes: u32, quick: bool) -> Self {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let half = processors / 2;
        Self {
            runs,
            megabytes,
            warm_up_megabytes: if quick { 50 } else { 300 },
            idle_seconds: if quick { 2 } else { 10 },
            pinning: (processors > 1).then(|| (range(0, half - 1), range(half, processors - 1))),
        }
    }

    fn records(megabytes: u32) -> u64 {
        u64::from(megabytes) * 1_000_000 / load::VALUE_BYTES as u64
    }
}

fn range(first: usize, last: usize) -> String {
    if first == last { first.to_string() } else { format!("{first}-{last}") }
}

/// The figures of one run of one broker.
#[derive(Clone, Copy, Debug)]
struct Run {
    /// From the start of the process to the acknowledgement of the first record of a topic created then.
    first_ack_seconds: f64,
    idle_megabytes: f64,
    /// The broker's processor time (user and system) for each 10^9 bytes of values.
    produce_cpu_seconds_per_gigabyte: f64,
    consume_cpu_seconds_per_gigabyte: f64,
    produce_megabytes_per_second: f64,
    consume_megabytes_per_second: f64,
    peak_megabytes: f64,
}

/// Measures everything.
pub(crate) fn measure(plan: &Plan) -> Result<Vec<Measure>> {
    // Whatever has to be built or downloaded is, before anything is pinned or measured.
    drop(Broker::prepare(Flavor::Odradek, StartOptions::default())?);
    odradek_clients::apache_kafka_classpath()?;
    if plan.pinning.is_some() {
        pin_this_process()?;
    }
    let (odradek, kafka) = crate::runs_of_both(plan.runs, |flavor| one(plan, flavor))?;
    Ok(measures(&odradek, &kafka))
}

fn measures(odradek: &[Run], kafka: &[Run]) -> Vec<Measure> {
    let measure = |name: &str, unit, figure: fn(&Run) -> f64| Measure::new(name, unit).of(odradek, kafka, figure);
    vec![
        measure("start to first acknowledged record of a created topic", "s", |run| run.first_ack_seconds)
            .with_goal(Goal::MedianAtMost(0.15)),
        measure("idle memory (RSS) after one group read", "MB", |run| run.idle_megabytes)
            .with_goal(Goal::MedianAtMost(25.0)),
        measure("broker CPU per GB produced", "s", |run| run.produce_cpu_seconds_per_gigabyte)
            .with_goal(Goal::MedianAtMostOfKafka(0.5)),
        measure("broker CPU per GB consumed", "s", |run| run.consume_cpu_seconds_per_gigabyte)
            .with_goal(Goal::MedianAtMostOfKafka(0.6)),
        measure("produced", "MB/s", |run| run.produce_megabytes_per_second),
        measure("consumed", "MB/s", |run| run.consume_megabytes_per_second),
        measure("peak memory (RSS)", "MB", |run| run.peak_megabytes),
    ]
}

pub(crate) fn settings(plan: &Plan) -> Vec<String> {
    let producer: Vec<String> = load::PRODUCER.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let pinning = match &plan.pinning {
        Some((broker, client)) => format!("broker pinned to processor {broker}, client to processor {client}"),
        None => "one processor for all".to_owned(),
    };
    vec![
        format!(
            "one broker: `odradek dev` and one combined node; {} runs of each, in alternating order, the broker started \
             anew and on an empty folder for each; {} MB written and read per run after a warm-up of {} MB; memory after \
             {} s idle; {pinning}",
            plan.runs, plan.megabytes, plan.warm_up_megabytes, plan.idle_seconds
        ),
        format!(
            "its load: values of {} bytes, {PARTITIONS} partitions, acks=all {}; consumer: its defaults, reading what has \
             just been written (from the page cache)",
            load::VALUE_BYTES,
            producer.join(" ")
        ),
    ]
}

/// The client gets the upper half of the processors. Done before any other thread exists: they all inherit it.
fn pin_this_process() -> Result<()> {
    let processors = std::thread::available_parallelism()?.get();
    ensure!(processors <= CpuSet::MAX_CPU, "more processors than a set holds");
    let mut own = CpuSet::new();
    for processor in processors / 2..processors {
        own.set(processor);
    }
    sched_setaffinity(None, &own)?;
    Ok(())
}

fn one(plan: &Plan, flavor: Flavor) -> Result<Run> {
    let mut broker = Broker::prepare(
        flavor,
        StartOptions { processors: plan.pinning.as_ref().map(|(broker, _)| broker.clone()), without_waiting: true },
    )?;
    let bootstrap = broker.bootstrap();
    broker.launch()?;
    let acknowledged = load::first_acknowledgement(&bootstrap, "first")
        .with_context(|| format!("the broker's log: {}", broker.log()))?;
    let first_ack_seconds = acknowledged.duration_since(broker.started_at()).as_secs_f64();

    load::one_group_read(&bootstrap, "group-read")?;
    std::thread::sleep(Duration::from_secs(plan.idle_seconds));
    let idle_megabytes = broker.usage()?.resident_bytes as f64 / 1e6;

    odradek_clients::native::create_topic(&bootstrap, "warm-up", PARTITIONS, &[])?;
    let warm_up = Plan::records(plan.warm_up_megabytes);
    load::produce(&bootstrap, "warm-up", PARTITIONS, warm_up)?;
    load::consume(&bootstrap, "warm-up", PARTITIONS, warm_up)?;

    odradek_clients::native::create_topic(&bootstrap, "measured", PARTITIONS, &[])?;
    let records = Plan::records(plan.megabytes);
    let gigabytes = records as f64 * load::VALUE_BYTES as f64 / 1e9;
    let (produce_cpu, produce_wall) = watch(&broker, || load::produce(&bootstrap, "measured", PARTITIONS, records))?;
    let (consume_cpu, consume_wall) = watch(&broker, || load::consume(&bootstrap, "measured", PARTITIONS, records))?;
    let run = Run {
        first_ack_seconds,
        idle_megabytes,
        produce_cpu_seconds_per_gigabyte: produce_cpu / gigabytes,
        consume_cpu_seconds_per_gigabyte: consume_cpu / gigabytes,
        produce_megabytes_per_second: gigabytes * 1e3 / produce_wall,
        consume_megabytes_per_second: gigabytes * 1e3 / consume_wall,
        peak_megabytes: broker.usage()?.peak_resident_bytes as f64 / 1e6,
    };
    broker.kill()?;
    Ok(run)
}

/// The broker's processor seconds that `work` took, and the seconds on the clock until the end that it names.
fn watch(broker: &Broker, work: impl FnOnce() -> Result<Instant>) -> Result<(f64, f64)> {
    let before = broker.usage()?.cpu_seconds;
    let start = Instant::now();
    let seconds = work()?.duration_since(start).as_secs_f64();
    Ok((broker.usage()?.cpu_seconds - before, seconds))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figures::Line;

    #[test]
    fn goals_of_one_broker_are_judged_by_medians() {
        let run = |scale: f64| Run {
            first_ack_seconds: 0.2 * scale,
            idle_megabytes: 20.0 * scale,
            produce_cpu_seconds_per_gigabyte: scale,
            consume_cpu_seconds_per_gigabyte: scale,
            produce_megabytes_per_second: 1.0,
            consume_megabytes_per_second: 1.0,
            peak_megabytes: 1.0,
        };
        let lines: Vec<Line> = measures(&[run(1.0)], &[run(1.8)]).into_iter().map(Line::new).collect();
        let met: Vec<bool> = lines.iter().map(Line::all_met).collect();
        assert_eq!(met, [false, true, false, true, true, true, true]);
        assert!(lines[0].row().contains("| ≤ 0.15 s | **no** |"));
    }
}
