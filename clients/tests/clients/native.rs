// SPDX-License-Identifier: Apache-2.0
//! librdkafka of today, through the rdkafka crate.

use anyhow::{Context, Result, ensure};
use odradek_clients::native::{self, RecordingProducer};
use odradek_clients::{Broker, CODECS, Flavor, Plan, Tally, round_trip_records};
use rdkafka::consumer::{CommitMode, Consumer};
use rdkafka::message::Message;
use std::collections::HashMap;
use std::time::{Duration, Instant};

const PARTITIONS: i32 = 3;

/// Reads `count` records of `topic` as a member of its group, and commits where it stopped.
fn read_in_group(
    bootstrap: &str,
    topic: &str,
    count: u32,
    tally: &mut Tally<'_>,
    places: &HashMap<u32, (i32, i64)>,
) -> Result<()> {
    let consumer = native::consumer(bootstrap, topic, &[])?;
    consumer.subscribe(&[topic])?;
    let deadline = Instant::now() + Duration::from_secs(90);
    for done in 0..count {
        let message = loop {
            ensure!(Instant::now() < deadline, "{topic}: {done} of {count} records read in time");
            if let Some(message) = consumer.poll(Duration::from_millis(100)) {
                break message?;
            }
        };
        let key = message.key().context("a key")?;
        tally.observe(
            usize::try_from(message.partition())?,
            message.offset(),
            key,
            message.payload().context("a value")?,
        )?;
        let number: u32 = std::str::from_utf8(&key[1..])?.parse()?;
        ensure!(
            places.get(&number) == Some(&(message.partition(), message.offset())),
            "{topic}: record {number} was acknowledged at {:?}, and read at partition {}, offset {}",
            places.get(&number),
            message.partition(),
            message.offset()
        );
        consumer.store_offset_from_message(&message)?;
    }
    consumer.commit_consumer_state(CommitMode::Sync)?;
    Ok(())
}

#[test]
fn librdkafka_round_trips_with_every_codec_and_a_clean_restart_between() -> Result<()> {
    let mut broker = Broker::start()?;
    let bootstrap = broker.bootstrap();
    let count = round_trip_records();
    let plans: Vec<Plan> = (200..).map(|seed| Plan::new(seed, count)).take(5).collect();
    let mut rounds = Vec::new();
    for (codec, plan) in CODECS.iter().zip(&plans) {
        let topic = format!("native-{codec}");
        native::create_topic(&bootstrap, &topic, PARTITIONS, &[])?;
        let producer = RecordingProducer::new(&bootstrap, &[("compression.type", codec), ("linger.ms", "5")])?;
        for index in 0..count {
            producer.send(&topic, index, Plan::key(index).as_bytes(), plan.value(index).as_bytes())?;
        }
        producer.flush()?;
        let deliveries = producer.deliveries();
        ensure!(
            deliveries.failed.is_empty() && deliveries.acknowledged.len() == count as usize,
            "{topic}: {} acknowledged, failed: {:?}",
            deliveries.acknowledged.len(),
            deliveries.failed.first()
        );
        let places: HashMap<u32, (i32, i64)> = deliveries
            .acknowledged
            .iter()
            .map(|acknowledged| (acknowledged.number, (acknowledged.partition, acknowledged.offset)))
            .collect();
        drop(deliveries);
        let mut tally = Tally::new(plan, PARTITIONS as usize);
        read_in_group(&bootstrap, &topic, count / 2, &mut tally, &places)?;
        rounds.push((topic, tally, places));
    }
    let topics = native::topics(&bootstrap)?;
    ensure!(rounds.iter().all(|(topic, ..)| topics.contains(topic)), "topics are {topics:?}");
    let (status, took) = broker.terminate()?;
    // A JVM that a signal ends says so in its status; ours ends as asked.
    ensure!(status.success() || broker.flavor() == Flavor::ApacheKafka, "after SIGTERM the broker ended with {status}");
    ensure!(took < Duration::from_secs(10), "stopping took {took:?}");
    broker.launch()?;
    for (topic, tally, places) in &mut rounds {
        read_in_group(&bootstrap, topic, count - count / 2, tally, places)?;
        tally.finish()?;
    }
    Ok(())
}

#[test]
fn a_producer_and_a_member_of_a_group_live_through_a_clean_restart() -> Result<()> {
    let mut broker = Broker::start()?;
    let bootstrap = broker.bootstrap();
    native::create_topic(&bootstrap, "restart", 1, &[])?;
    let producer = RecordingProducer::new(&bootstrap, &[])?;
    let plan = Plan::new(300, 300);
    let consumer = native::consumer(&bootstrap, "restart", &[])?;
    consumer.subscribe(&["restart"])?;
    let mut tally = Tally::new(&plan, 1);
    for third in 0..3 {
        if third > 0 {
            broker.terminate()?;
            broker.launch()?;
        }
        for index in third * 100..(third + 1) * 100 {
            producer.send("restart", index, Plan::key(index).as_bytes(), plan.value(index).as_bytes())?;
        }
        let deadline = Instant::now() + Duration::from_mins(1);
        while tally.count() < (third + 1) * 100 {
            ensure!(Instant::now() < deadline, "{} records read", tally.count());
            // What the client says while the broker is away is no failure: it tries again.
            let Some(Ok(message)) = consumer.poll(Duration::from_millis(100)) else {
                continue;
            };
            let partition = usize::try_from(message.partition())?;
            let (key, value) = (message.key().unwrap_or(b""), message.payload().unwrap_or(b""));
            tally.observe(partition, message.offset(), key, value)?;
            consumer.store_offset_from_message(&message)?;
        }
        consumer.commit_consumer_state(CommitMode::Sync)?;
    }
    producer.flush()?;
    ensure!(producer.deliveries().failed.is_empty(), "{:?}", producer.deliveries().failed);
    tally.finish()
}
