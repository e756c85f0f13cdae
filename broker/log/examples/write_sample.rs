// SPDX-License-Identifier: Apache-2.0
//! Writes a sample log into `DIR/sample-0`, for Kafka's DumpLogSegments to read: several segments, every codec, two
//! idempotent producers, two leader epochs, gaps in time. Prints the folder.

use odradek_disk::{Disk, RealDisk};
use odradek_log::{Log, LogOptions, LogSettings};
use odradek_records::{BatchBuilder, BatchOptions, Compression};
use std::path::PathBuf;
use std::sync::Arc;

#[allow(clippy::print_stdout, reason = "the folder is this program's output")]
fn main() {
    let root: PathBuf = std::env::args_os().nth(1).expect("usage: write_sample DIR").into();
    let dir = root.join("sample-0");
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let options = LogOptions {
        dir: dir.clone(),
        topic_id: "c2FtcGxlLXRvcGljLWlkLQ".parse().expect("an id"),
        settings: LogSettings { segment_bytes: 60_000, ..LogSettings::default() },
        clean: false,
        recovery_point: 0,
        log_start_offset: 0,
        expected: None,
    };
    let now_ms = 1_700_000_000_000;
    let (mut log, _) = Log::open(disk, Arc::default(), options, now_ms, &mut |_| {}).expect("opened");
    let mut sequences = [0; 2];
    for i in 0..400_i64 {
        let producer = (i % 3 < 2).then_some((i % 3) as usize);
        let mut builder = BatchBuilder::new(BatchOptions {
            compression: Compression::ALL[(i % 5) as usize],
            producer_id: producer.map_or(-1, |producer| 1000 + producer as i64),
            producer_epoch: producer.map_or(-1, |_| 0),
            base_sequence: producer.map_or(-1, |producer| sequences[producer]),
            ..BatchOptions::default()
        });
        let count = 1 + i % 17;
        for record in 0..count {
            // Times that go back now and then, so that the time index shows that it follows the maximum.
            let timestamp = now_ms + i * 1000 - if i % 7 == 0 { 50_000 } else { 0 } + record;
            let value = format!("record {record} of batch {i} {}", "payload ".repeat((i % 50) as usize));
            builder.append(timestamp, Some(format!("key-{i}").as_bytes()), Some(value.as_bytes()), &[]);
        }
        if let Some(producer) = producer {
            sequences[producer] += count as i32;
        }
        log.append(builder.build_validated(), if i < 200 { 0 } else { 4 }, now_ms).expect("appended");
    }
    assert!(log.segment_count() >= 3, "several segments");
    log.close_clean().expect("closed");
    println!("{}", dir.display());
}
