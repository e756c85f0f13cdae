// SPDX-License-Identifier: Apache-2.0
//! The log on a disk that crashes at every call, loses what was not synced, rots and fills up.

mod positions;

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use odradek_disk::{Disk, DiskOperation, Fault, OpenMode, Outage, SimulatedDisk};

use super::*;
use crate::records::TopicRecord;

const DIR: &str = "/data/metadata";

pub(super) fn dir() -> &'static Path {
    Path::new(DIR)
}

pub(super) fn arc(disk: &SimulatedDisk) -> Arc<dyn Disk> {
    Arc::new(disk.clone())
}

/// The record that stands at an offset; any other would be told apart.
fn record(offset: i64) -> Record {
    let id = Bytes::copy_from_slice(&(offset as u128 + 1).to_be_bytes());
    TopicRecord { id, name: format!("topic-{offset}"), ..TopicRecord::default() }.into()
}

pub(super) fn records(from: i64, count: i64) -> Vec<Record> {
    (from..from + count).map(record).collect()
}

/// The image of the first `end` records.
fn expected(end: i64) -> Vec<Record> {
    let mut image = Image::empty();
    for record in records(0, end) {
        image.apply_mut(1, &record).expect("fits");
    }
    image.to_records()
}

pub(super) fn promise(epoch: i64) -> Promise {
    Promise { epoch, holder: format!("1/{epoch}"), voters: Vec::new() }
}

pub(super) fn formatted(seed: u64) -> SimulatedDisk {
    let disk = SimulatedDisk::new(seed);
    disk.create_dir_all(Path::new("/data")).expect("a folder");
    disk.sync_dir(Path::new("/")).expect("synced");
    MetadataLog::format(&disk, dir()).expect("formats");
    disk
}

pub(super) fn open(disk: &SimulatedDisk) -> (MetadataLog, Image, RecoveryReport) {
    MetadataLog::open(arc(disk), dir()).expect("opens")
}

/// How far a script came, as its caller knows it.
#[derive(Debug, Default)]
struct Known {
    formatted: bool,
    acknowledged: i64,
    attempted: i64,
    promised: i64,
    promise_attempted: i64,
}

fn script(disk: &SimulatedDisk, known: &mut Known) -> Result<(), MetadataLogError> {
    disk.create_dir_all(Path::new("/data"))?;
    disk.sync_dir(Path::new("/"))?;
    MetadataLog::format(disk, dir())?;
    known.formatted = true;
    for round in 0..3 {
        let (mut log, mut image, _) = MetadataLog::open(arc(disk), dir())?;
        let epoch = round + 1;
        known.promise_attempted = epoch;
        assert!(log.promise(promise(epoch))?);
        known.promised = epoch;
        for count in [1, 3, 2] {
            let batch = records(known.acknowledged, count);
            known.attempted = known.acknowledged + count;
            log.append(epoch, &batch)?;
            known.acknowledged += count;
            for record in &batch {
                image.apply_mut(epoch, record).expect("fits");
            }
            if count == 3 {
                log.write_snapshot(&image)?;
            }
        }
    }
    Ok(())
}

#[test]
fn a_crash_at_any_call_loses_nothing_that_was_acknowledged() {
    for outage in [Outage::ProcessDeath, Outage::PowerLoss, Outage::PowerLossOfAllUnsynced] {
        let mut torn = 0;
        for seed in 0..8 {
            let mut at = 0;
            loop {
                let disk = SimulatedDisk::new(seed * 1000 + at);
                disk.crash_at(Some(at));
                let mut known = Known::default();
                let outcome = script(&disk, &mut known);
                if outcome.is_ok() && !disk.is_crashed() {
                    assert_eq!(known.acknowledged, 18);
                    break;
                }
                disk.restart(outage);
                let opened = MetadataLog::open(arc(&disk), dir());
                if !known.formatted {
                    at += 1;
                    continue;
                }
                let (mut log, image, report) = opened.unwrap_or_else(|e| panic!("{outage:?} at {at}: {e}; {known:?}"));
                let end = image.end_offset();
                assert!(known.acknowledged <= end && end <= known.attempted, "{outage:?} at {at}: {end}, {known:?}");
                assert_eq!(image.to_records(), expected(end), "{outage:?} at {at}");
                let promised = log.promised().epoch;
                assert!(known.promised <= promised && promised <= known.promise_attempted, "{outage:?} at {at}");
                torn += report.torn_bytes;
                // And it goes on: what is appended now is there after one more loss of power.
                assert!(log.promise(promise(9)).expect("promises"));
                log.append(9, &records(end, 2)).expect("appends");
                disk.restart(Outage::PowerLossOfAllUnsynced);
                let (log, image, _) = open(&disk);
                assert_eq!(
                    (log.position(), image.to_records()),
                    (LogPosition { epoch: 9, end: end + 2 }, expected(end + 2))
                );
                at += 1;
            }
            assert!(at > 60, "the script has {at} mutating calls");
        }
        assert_eq!(torn > 0, outage != Outage::PowerLossOfAllUnsynced, "{outage:?}: some write is torn");
    }
}

/// A log of three batches of one record, and where each begins in its file.
fn three_batches() -> (SimulatedDisk, Vec<usize>, Vec<u8>) {
    let disk = formatted(1);
    let (mut log, _, _) = open(&disk);
    log.promise(promise(1)).expect("promises");
    let mut starts = Vec::new();
    for offset in 0..3 {
        starts.push(log.file_len as usize);
        log.append(1, &records(offset, 1)).expect("appends");
    }
    let file = disk.open(&segment_path(dir(), 0), OpenMode::Read).expect("there");
    let bytes = read_all(&file).expect("reads");
    (disk, starts, bytes)
}

fn put(disk: &SimulatedDisk, bytes: &[u8]) {
    let file = disk.open(&segment_path(dir(), 0), OpenMode::ReadWrite).expect("there");
    file.truncate(0).expect("cut");
    file.write_at(bytes, 0).expect("written");
    file.sync().expect("synced");
}

#[test]
fn a_log_cut_at_any_byte_of_its_last_write_opens_without_it() {
    let (disk, starts, bytes) = three_batches();
    for cut in starts[2]..bytes.len() {
        put(&disk, &bytes[..cut]);
        let (log, image, report) = open(&disk);
        assert_eq!((log.position().end, report.torn_bytes), (2, (cut - starts[2]) as u64));
        assert_eq!(image.to_records(), expected(2));
        // The torn bytes are gone for good.
        assert_eq!(open(&disk).2.torn_bytes, 0);
    }
}

#[test]
fn damage_before_the_last_write_is_corruption_and_changes_nothing() {
    let (disk, starts, bytes) = three_batches();
    for at in 0..starts[2] {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x10;
        put(&disk, &damaged);
        let error = MetadataLog::open(arc(&disk), dir()).expect_err("corrupt");
        assert!(matches!(error, MetadataLogError::Corrupt { .. }), "byte {at}: {error}");
        assert!(error.is_fatal());
        let file = disk.open(&segment_path(dir(), 0), OpenMode::Read).expect("there");
        assert_eq!(read_all(&file).expect("reads"), damaged);
    }
}

#[test]
fn garbage_longer_than_any_write_is_corruption() {
    let (disk, _, mut bytes) = three_batches();
    bytes.resize(bytes.len() + MAX_BATCH_BYTES + 1, 0);
    put(&disk, &bytes);
    assert!(matches!(MetadataLog::open(arc(&disk), dir()), Err(MetadataLogError::Corrupt { .. })));
}

#[test]
fn a_folder_that_lost_a_part_is_no_log_any_more() {
    for name in ["promise", "00000000000000000000.log"] {
        let (disk, ..) = three_batches();
        disk.remove_file(&dir().join(name)).expect("removed");
        let error = MetadataLog::open(arc(&disk), dir()).expect_err("lost");
        assert!(matches!(error, MetadataLogError::Lost { .. }), "{name}: {error}");
    }
    let (disk, ..) = three_batches();
    disk.corrupt(&dir().join("promise"), 9, 1);
    assert!(matches!(MetadataLog::open(arc(&disk), dir()), Err(MetadataLogError::Corrupt { .. })));
    assert!(matches!(MetadataLog::format(&disk, dir()), Err(MetadataLogError::NotEmpty(_))));
}

#[test]
fn a_full_disk_refuses_and_works_on_when_there_is_room() {
    let disk = formatted(3);
    let (mut log, _, _) = open(&disk);
    log.promise(promise(1)).expect("promises");
    disk.set_capacity(Some(200));
    let error = log.append(1, &records(0, 50)).expect_err("full");
    assert!(!error.is_fatal(), "{error}");
    disk.set_capacity(None);
    log.append(1, &records(0, 2)).expect("appends");
    disk.restart(Outage::PowerLossOfAllUnsynced);
    assert_eq!(open(&disk).1.to_records(), expected(2));
}

#[test]
fn after_a_failed_fsync_nothing_is_appended_any_more() {
    let disk = formatted(4);
    let (mut log, _, _) = open(&disk);
    log.promise(promise(1)).expect("promises");
    disk.inject(Fault { operation: DiskOperation::Sync, path_suffix: ".log".into(), after: 0, times: 1 });
    assert!(log.append(1, &records(0, 1)).expect_err("not synced").is_fatal());
    assert!(matches!(log.append(1, &records(0, 1)), Err(MetadataLogError::Stopped)));
    assert!(matches!(log.promise(promise(2)), Err(MetadataLogError::Stopped)));
}

#[test]
fn promises_go_up_and_to_one_holder() {
    let disk = formatted(5);
    let (mut log, _, _) = open(&disk);
    let to = |epoch, holder: &str| Promise { epoch, holder: holder.into(), voters: Vec::new() };
    assert!(log.promise(to(3, "1/a")).expect("kept"));
    assert!(log.promise(to(3, "1/a")).expect("the same again"));
    assert!(!log.promise(to(3, "2/b")).expect("refused"));
    assert!(!log.promise(to(2, "1/a")).expect("refused"));
    disk.restart(Outage::PowerLossOfAllUnsynced);
    let (mut log, _, _) = open(&disk);
    assert_eq!(*log.promised(), to(3, "1/a"));
    assert!(log.promise(to(4, "2/b")).expect("kept"));
}

#[test]
fn epochs_end_where_the_next_begins_and_a_tail_can_be_cut() {
    let disk = formatted(6);
    let (mut log, _, _) = open(&disk);
    for (epoch, from, count) in [(2, 0, 2), (2, 2, 1), (5, 3, 4), (6, 7, 1)] {
        log.promise(promise(epoch)).expect("promises");
        log.append(epoch, &records(from, count)).expect("appends");
    }
    let at = |epoch, end| LogPosition { epoch, end };
    for (asked, answer) in [(1, at(0, 0)), (2, at(2, 3)), (4, at(2, 3)), (5, at(5, 7)), (9, at(6, 8))] {
        assert_eq!(log.epoch_end(asked), answer, "epoch {asked}");
    }
    // In the middle of a batch: the whole batch goes.
    assert_eq!(log.truncate_to(5).expect("cut"), 3);
    assert_eq!(log.position(), at(2, 3));
    assert_eq!(log.image().expect("replays").to_records(), expected(3));
    disk.restart(Outage::PowerLossOfAllUnsynced);
    let (mut log, image, _) = open(&disk);
    assert_eq!((log.position(), image.to_records()), (at(2, 3), expected(3)));
    log.promise(promise(7)).expect("promises");
    log.append(7, &records(3, 1)).expect("appends");
    assert_eq!(log.epoch_end(5), at(2, 3));
}

#[test]
fn replay_is_bounded_by_snapshots() {
    let disk = formatted(7);
    let (mut log, mut image, _) = open(&disk);
    log.promise(promise(1)).expect("promises");
    let mut snapshots = 0;
    for batch in 0..400 {
        let batch = records(batch * 100, 100);
        log.append(1, &batch).expect("appends");
        for record in &batch {
            image.apply_mut(1, record).expect("fits");
        }
        if log.snapshot_due() {
            log.write_snapshot(&image).expect("written");
            snapshots += 1;
        }
    }
    assert!(snapshots > 0);
    let bytes: u64 = disk.list(dir()).expect("lists").iter().map(|entry| entry.len).sum();
    let bound = 2 * log.snapshot_bytes.max(MIN_BYTES_BETWEEN_SNAPSHOTS) + (1 << 20);
    assert!(bytes < bound, "{bytes} bytes are read at a start, at most {bound} may be");
    let (_, again, report) = open(&disk);
    assert_eq!(again.to_records(), image.to_records());
    assert!(report.snapshot_end > 0 && report.snapshot_end + report.replayed_records as i64 == 40_000);
}

#[test]
fn another_brokers_snapshot_replaces_the_log_in_one_step() {
    let mut other = Image::empty();
    for record in records(0, 30) {
        other.apply_mut(8, &record).expect("fits");
    }
    let received = snapshot::encode(&other, false);
    for at in 0..60 {
        let disk = formatted(at);
        let (mut log, _, _) = open(&disk);
        log.promise(promise(1)).expect("promises");
        log.append(1, &records(0, 4)).expect("appends");
        disk.crash_at(Some(at));
        let done = log.install_snapshot(&received).is_ok();
        drop(log);
        disk.restart(Outage::PowerLoss);
        let (mut log, image, _) = open(&disk);
        let end = image.end_offset();
        assert!(end == 30 || (end == 4 && !done), "at {at}: {end}");
        assert_eq!(image.to_records(), expected(end));
        log.promise(promise(9)).expect("promises");
        log.append(9, &records(end, 1)).expect("appends");
        assert_eq!(open(&disk).1.to_records(), expected(end + 1));
        if done {
            return;
        }
    }
    panic!("the installation never ended");
}

#[test]
fn a_record_of_a_newer_version_is_refused_by_name_and_nothing_is_lost() {
    let (disk, _, mut bytes) = three_batches();
    // A batch with one record of kind 99, made by hand.
    let mut batch = batch::encode(1, 3, &records(3, 1));
    batch[40] = 99;
    let crc = batch::checksum(&batch[4..8], &batch[12..]);
    batch[8..12].copy_from_slice(&crc.to_be_bytes());
    bytes.extend_from_slice(&batch);
    put(&disk, &bytes);
    let error = MetadataLog::open(arc(&disk), dir()).expect_err("newer");
    assert!(matches!(error, MetadataLogError::Newer(_)) && error.to_string().contains("99"), "{error}");
    let file = disk.open(&segment_path(dir(), 0), OpenMode::Read).expect("there");
    assert_eq!(read_all(&file).expect("reads"), bytes);
}
