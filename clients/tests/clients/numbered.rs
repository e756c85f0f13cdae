// SPDX-License-Identifier: Apache-2.0
//! Numbered records under load: sending them at a pace until told to stop, and comparing what a topic holds with what was
//! acknowledged. Must not know what is done to the brokers meanwhile.

use anyhow::{Context, Result, ensure};
use odradek_clients::history::{self, Acknowledged};
use odradek_clients::keyed::KeyedTopic;
use odradek_clients::native::RecordingProducer;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

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

/// A topic of numbered records.
pub(crate) fn topic(bootstrap: &str, name: &str, partitions: i32) -> KeyedTopic {
    KeyedTopic { bootstrap: bootstrap.to_owned(), name: name.to_owned(), partitions, keys: KEYS }
}

/// Sends to `topic` until told to stop; gives back how many records were handed over.
pub(crate) fn load(producer: &RecordingProducer, topic: &KeyedTopic, stop: &AtomicBool) -> Result<u32> {
    let mut number = 0;
    while !stop.load(Ordering::Relaxed) {
        for _ in 0..BURST {
            let value = KeyedTopic::value(number);
            producer.send(&topic.name, number, topic.key(number).as_bytes(), value.as_bytes())?;
            number += 1;
        }
        std::thread::sleep(PAUSE);
    }
    Ok(number)
}

/// Reads the whole of `topic` and compares it with what was acknowledged: everything that was sent, each once, where its
/// acknowledgement said, each key in order.
pub(crate) fn check_records(topic: &KeyedTopic, acknowledged: &[Acknowledged], sent: u32) -> Result<()> {
    let log = topic.read_log(Duration::from_mins(2))?;
    history::check_log(&log, acknowledged)?;
    ensure!(
        log.len() == sent as usize && acknowledged.len() == sent as usize,
        "{sent} sent, {} acknowledged, {} there",
        acknowledged.len(),
        log.len()
    );
    Ok(())
}
