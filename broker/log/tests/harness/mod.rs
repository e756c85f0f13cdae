// SPDX-License-Identifier: Apache-2.0
//! What the log's tests share: opening logs on a simulated disk, making batches, reading everything back.
#![allow(dead_code, unreachable_pub, reason = "each test file uses its part")]

use odradek_disk::{Disk, SimulatedDisk};
use odradek_log::{Log, LogError, LogOptions, LogReader, LogSettings, RecoveryReport, SegmentCache};
use odradek_model::{Offset, TopicId};
use odradek_records::{BatchBuilder, BatchOptions, Batches, Compression, ValidatedBatch};
use std::path::Path;
use std::sync::Arc;

pub const DIR: &str = "/data/topic-0";
/// Tests begin at this time.
pub const NOW_MS: i64 = 1_700_000_000_000;

pub fn topic_id() -> TopicId {
    "AAAAAAAAAAAAAAAAAAAAAQ".parse().expect("an id")
}

/// Small segments and dense indexes, so that little data goes through everything.
pub fn small_settings() -> LogSettings {
    LogSettings { segment_bytes: 1500, index_interval_bytes: 200, ..LogSettings::default() }
}

pub fn options(settings: LogSettings, clean: bool, recovery_point: Offset, log_start_offset: Offset) -> LogOptions {
    let (dir, topic_id, expected) = (DIR.into(), topic_id(), None);
    LogOptions { dir, topic_id, settings, clean, recovery_point, log_start_offset, expected }
}

pub fn try_open(disk: &SimulatedDisk, options: LogOptions) -> Result<(Log, RecoveryReport), LogError> {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    Log::open(disk, Arc::default(), options, NOW_MS, &mut |_| {})
}

pub fn open(disk: &SimulatedDisk, options: LogOptions) -> (Log, RecoveryReport) {
    try_open(disk, options).expect("damage never stops a start")
}

/// A log on an empty disk that has its data folder.
pub fn new_log(settings: LogSettings) -> (SimulatedDisk, Log) {
    let disk = new_disk(1);
    let (log, _) = open(&disk, options(settings, false, 0, 0));
    (disk, log)
}

pub fn new_disk(seed: u64) -> SimulatedDisk {
    let disk = SimulatedDisk::new(seed);
    disk.create_dir_all(Path::new("/data")).expect("made");
    disk.sync_dir(Path::new("/")).expect("synced");
    disk
}

pub fn cache() -> Arc<SegmentCache> {
    Arc::default()
}

/// A batch of one record.
pub fn batch(timestamp_ms: i64, value: &[u8]) -> ValidatedBatch {
    records(timestamp_ms, &[value], Compression::None)
}

/// A batch with a record per value, one millisecond apart.
pub fn records(timestamp_ms: i64, values: &[&[u8]], compression: Compression) -> ValidatedBatch {
    let mut builder = BatchBuilder::new(BatchOptions { compression, ..BatchOptions::default() });
    for (at, value) in values.iter().enumerate() {
        builder.append(timestamp_ms + at as i64, Some(b"k"), Some(value), &[]);
    }
    builder.build_validated()
}

/// An idempotent producer's batch of `count` records.
pub fn produced(producer_id: i64, epoch: i16, base_sequence: i32, count: usize, value: &[u8]) -> ValidatedBatch {
    let mut builder = BatchBuilder::new(BatchOptions {
        producer_id,
        producer_epoch: epoch,
        base_sequence,
        ..BatchOptions::default()
    });
    for _ in 0..count {
        builder.append(NOW_MS, None, Some(value), &[]);
    }
    builder.build_validated()
}

/// Offset and value of every record that the log holds.
pub fn read_all(reader: &LogReader) -> Vec<(Offset, Vec<u8>)> {
    let (start, end) = (reader.log_start_offset(), reader.log_end_offset());
    let mut from = start;
    let mut all = Vec::new();
    while from < end {
        let slice = reader.read(from, 700, end, true).expect("readable");
        assert!(slice.next_offset > from, "a read below the end makes progress");
        for batch in Batches::new(&slice.bytes) {
            let batch = batch.expect("whole batches only");
            batch.verify().expect("bytes as they were appended");
            for record in batch.records().expect("records").iter() {
                let record = record.expect("a record");
                let offset = batch.header.base_offset + i64::from(record.offset_delta);
                if offset >= start {
                    all.push((offset, record.value.expect("a value").to_vec()));
                }
            }
        }
        from = slice.next_offset;
    }
    all
}
