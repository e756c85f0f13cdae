// SPDX-License-Identifier: Apache-2.0
//! Numbered records under load: sending them at a pace until told to stop, and comparing what a topic holds with what was
//! acknowledged. Must not know what is done to the brokers meanwhile.

use anyhow::{Context, Result, bail, ensure};
use odradek_clients::native::{self, Acknowledged, RecordingProducer};
use rdkafka::consumer::Consumer;
use rdkafka::message::Message;
use rdkafka::{Offset, TopicPartitionList};
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Keys whose records have to keep their order.
const KEYS: u32 = 17;
/// The pace of the load, 10 records every 5 ms: enough that each kill hits requests in flight, and little enough that
/// reading all of it back stays quick.
const BURST: u32 = 10;
const PAUSE: Duration = Duration::from_millis(5);

/// The seed of a random schedule: `ODRADEK_CHECK_SEED`, else another one each time.
pub(crate) fn seed() -> Result<u64> {
    match std::env::var("ODRADEK_CHECK_SEED") {
        Ok(text) => text.parse().context("ODRADEK_CHECK_SEED"),
        Err(_) => Ok(std::time::UNIX_EPOCH.elapsed()?.as_nanos() as u64),
    }
}

fn value(number: u32) -> String {
    let size = (number.wrapping_mul(2_654_435_761) >> 22) as usize;
    format!("{number} {}", "x".repeat(size))
}

fn number_of(value: &[u8]) -> Result<u32> {
    let text = std::str::from_utf8(value)?;
    let number = text.split(' ').next().context("a number")?.parse().context("a number")?;
    ensure!(text == self::value(number), "the value of {number} changed");
    Ok(number)
}

/// Sends to `topic` until told to stop; gives back how many records were handed over.
pub(crate) fn load(producer: &RecordingProducer, topic: &str, stop: &AtomicBool) -> Result<u32> {
    let mut number = 0;
    while !stop.load(Ordering::Relaxed) {
        for _ in 0..BURST {
            let key = format!("key-{}", number % KEYS);
            producer.send(topic, number, key.as_bytes(), value(number).as_bytes())?;
            number += 1;
        }
        std::thread::sleep(PAUSE);
    }
    Ok(number)
}

/// Reads the whole of `topic` and compares it with what was acknowledged: everything that was sent, each once, where its
/// acknowledgement said, each key in order.
pub(crate) fn check_records(
    bootstrap: &str,
    topic: &str,
    partitions: i32,
    acknowledged: &[Acknowledged],
    sent: u32,
) -> Result<()> {
    let consumer = native::consumer(bootstrap, "checker", &[])?;
    let mut assignment = TopicPartitionList::new();
    let mut total = 0;
    for partition in 0..partitions {
        let (first, next) = native::offsets(bootstrap, topic, partition)?;
        ensure!(first == 0, "partition {partition} begins at offset {first}");
        total += next;
        assignment.add_partition_offset(topic, partition, Offset::Beginning)?;
    }
    consumer.assign(&assignment)?;
    let mut places: HashMap<u32, (i32, i64)> = HashMap::new();
    let mut last_of_key: HashMap<Vec<u8>, u32> = HashMap::new();
    let deadline = Instant::now() + Duration::from_mins(2);
    for done in 0..total {
        let message = loop {
            ensure!(Instant::now() < deadline, "{done} of {total} records read in time");
            if let Some(message) = consumer.poll(Duration::from_millis(100)) {
                break message?;
            }
        };
        let number = number_of(message.payload().context("a value")?)?;
        let key = message.key().context("a key")?;
        ensure!(key == format!("key-{}", number % KEYS).as_bytes(), "the key of {number} changed");
        let place = (message.partition(), message.offset());
        if let Some(before) = places.insert(number, place) {
            bail!("record {number} is there twice: at {before:?} and {place:?}");
        }
        if let Some(last) = last_of_key.insert(key.to_vec(), number) {
            ensure!(last < number, "record {number} came after {last}");
        }
    }
    for one in acknowledged {
        let found = places.get(&one.number);
        ensure!(
            found == Some(&(one.partition, one.offset)),
            "record {} was acknowledged at partition {}, offset {}; it is at {found:?}",
            one.number,
            one.partition,
            one.offset
        );
    }
    ensure!(
        places.len() == sent as usize && acknowledged.len() == sent as usize,
        "{sent} sent, {} acknowledged, {} there",
        acknowledged.len(),
        places.len()
    );
    Ok(())
}
