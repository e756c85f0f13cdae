// SPDX-License-Identifier: Apache-2.0
//! What callers see of a log: each setting's effect, look-ups, flushes, failing disks, readers beside the
//! writer.

mod harness;

use harness::{DIR, NOW_MS, batch, new_disk, new_log, open, options, produced, read_all, records, small_settings};
use odradek_disk::{Disk, DiskOperation, Fault, Outage, SimulatedDisk};
use odradek_log::{AppendError, Log, LogError, LogSettings, ReadError, SegmentCache};
use odradek_model::TimestampType;
use odradek_records::{BatchBuilder, BatchOptions, Batches, Compression};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

fn append(log: &mut Log, timestamp_ms: i64, value: &[u8]) -> i64 {
    log.append(batch(timestamp_ms, value), 0, NOW_MS).expect("appended").base_offset
}

#[test]
fn segment_bytes_closes_a_segment_before_it_would_grow_larger() {
    let (_, mut log) = new_log(LogSettings { segment_bytes: 1000, ..LogSettings::default() });
    for _ in 0..20 {
        append(&mut log, NOW_MS, &[b'x'; 200]);
    }
    assert_eq!(log.segment_count(), 7, "three batches of 270 bytes each");
    assert_eq!(read_all(&log.reader()).len(), 20);
}

#[test]
fn segment_ms_goes_by_the_timestamps_in_the_segment() {
    let (_, mut log) = new_log(LogSettings { segment_ms: 1000, ..LogSettings::default() });
    append(&mut log, NOW_MS, b"a");
    append(&mut log, NOW_MS + 1000, b"b");
    assert_eq!(log.segment_count(), 1);
    append(&mut log, NOW_MS + 1001, b"c");
    assert_eq!(log.segment_count(), 2);
    // Without timestamps the age of the segment counts.
    let (_, mut log) = new_log(LogSettings { segment_ms: 1000, ..LogSettings::default() });
    log.append(batch(-1, b"a"), 0, NOW_MS + 5000).expect("an empty segment is not rolled");
    assert_eq!(log.segment_count(), 1);
    log.append(batch(-1, b"b"), 0, NOW_MS + 5000).expect("appended");
    assert_eq!(log.segment_count(), 2);
}

#[test]
fn a_full_index_closes_a_segment() {
    let settings = LogSettings { index_interval_bytes: 100, segment_index_bytes: 40, ..LogSettings::default() };
    let (_, mut log) = new_log(settings);
    for i in 0..30 {
        append(&mut log, NOW_MS + i, &[b'x'; 200]);
    }
    assert!(log.segment_count() > 5, "{}", log.segment_count());
    assert_eq!(read_all(&log.reader()).len(), 30);
}

#[test]
fn retention_ms_goes_by_the_newest_record_of_a_segment() {
    let (disk, mut log) = new_log(LogSettings { retention_ms: Some(1000), ..small_settings() });
    // A record of the future in the first segment keeps it, and with it everything after it.
    append(&mut log, NOW_MS + 10_000, &[b'x'; 600]);
    while log.segment_count() < 3 {
        append(&mut log, NOW_MS, &[b'x'; 600]);
    }
    let end = log.log_end_offset();
    assert_eq!(log.apply_retention(NOW_MS + 5000, end).expect("retained").segments, 0);
    let held = log.apply_retention(NOW_MS + 20_000, 1).expect("nothing above the high watermark goes");
    assert_eq!(held.segments, 0);
    let deleted = log.apply_retention(NOW_MS + 20_000, end).expect("retained");
    assert_eq!((deleted.segments, log.segment_count()), (3, 1), "even the active segment is rolled and goes");
    assert_eq!((log.log_start_offset(), log.log_end_offset(), log.size_bytes()), (end, end, 0));
    let names: Vec<_> = disk.list(Path::new(DIR)).expect("listed").into_iter().map(|entry| entry.name).collect();
    assert_eq!(names.iter().filter(|name| name.ends_with("log") || name.ends_with("index")).count(), 1, "{names:?}");
    assert!(matches!(log.reader().read(0, 100, end, true), Err(ReadError::OffsetOutOfRange { .. })));
    assert_eq!(append(&mut log, NOW_MS, b"on"), end);
}

#[test]
fn retention_bytes_keeps_at_least_that_much() {
    let (_, mut log) = new_log(LogSettings { retention_bytes: Some(3000), ..small_settings() });
    for _ in 0..20 {
        append(&mut log, NOW_MS, &[b'x'; 600]);
    }
    let end = log.log_end_offset();
    log.apply_retention(NOW_MS, end).expect("retained");
    assert!((3000..4500).contains(&log.size_bytes()), "{}", log.size_bytes());
    assert!(log.log_start_offset() > 0);
    assert_eq!(log.apply_retention(NOW_MS, end).expect("retained").segments, 0, "converged");
}

#[test]
fn log_append_time_stamps_batches_and_create_time_does_not() {
    for timestamp_type in [TimestampType::LogAppendTime, TimestampType::CreateTime] {
        let (_, mut log) = new_log(LogSettings { timestamp_type, ..LogSettings::default() });
        let appended = log.append(batch(5, b"x"), 0, NOW_MS).expect("appended");
        let slice = log.reader().read(0, 1000, 1, true).expect("read");
        let stored = Batches::new(&slice.bytes).next().expect("one").expect("whole");
        stored.verify().expect("the checksum fits the stamp");
        let stamped = timestamp_type == TimestampType::LogAppendTime;
        assert_eq!(appended.log_append_time_ms, stamped.then_some(NOW_MS));
        assert_eq!(stored.header.max_timestamp, if stamped { NOW_MS } else { 5 });
        assert_eq!(stored.header.timestamp_type(), timestamp_type);
    }
}

#[test]
fn flush_messages_says_when_to_flush_and_nothing_is_synced_without_it() {
    let (disk, mut log) = new_log(LogSettings { flush_messages: Some(3), ..LogSettings::default() });
    append(&mut log, NOW_MS, b"warm up: the epoch is stored");
    log.flush().expect("flushed");
    let before = disk.counts();
    for i in 0..3 {
        assert!(!log.needs_flush(), "{i} unflushed");
        append(&mut log, NOW_MS, b"x");
    }
    let after = disk.counts();
    assert_eq!(
        (after.writes - before.writes, after.file_syncs - before.file_syncs, after.opens - before.opens),
        (3, 0, 0)
    );
    assert_eq!(after.mutations - before.mutations, 3, "one call per append and no other");
    assert!(log.needs_flush());
    let handle = log.flush_handle();
    append(&mut log, NOW_MS, b"meanwhile");
    let flushed = handle.run().expect("synced");
    log.flushed_up_to(flushed);
    assert_eq!((log.recovery_point(), log.needs_flush()), (4, false));
    disk.restart(Outage::PowerLossOfAllUnsynced);
    let (log, _) = open(&disk, options(LogSettings::default(), false, 4, 0));
    assert_eq!(log.log_end_offset(), 5, "the sync came after the last append, so it is there too");
}

#[test]
fn a_failed_sync_stops_the_log_for_good() {
    let (disk, mut log) = new_log(LogSettings::default());
    append(&mut log, NOW_MS, b"x");
    disk.inject(Fault { operation: DiskOperation::Sync, path_suffix: ".log".to_owned(), after: 0, times: 1 });
    assert!(log.flush_handle().run().is_err());
    assert!(matches!(log.append(batch(NOW_MS, b"y"), 0, NOW_MS), Err(AppendError::Failed { .. })));
    assert!(matches!(log.close_clean(), Err(LogError::Failed { .. })));
    assert_eq!(read_all(&log.reader()).len(), 1, "readers go on");
}

#[test]
fn a_full_disk_refuses_the_batch_and_takes_the_next_when_there_is_room() {
    let (disk, mut log) = new_log(LogSettings::default());
    append(&mut log, NOW_MS, b"x");
    disk.set_capacity(Some(log.size_bytes() + 150));
    let error = log.append(produced(1, 0, 0, 1, &[b'y'; 300]), 0, NOW_MS).expect_err("full");
    assert!(matches!(&error, AppendError::Disk(disk) if disk.is_no_space()), "{error}");
    disk.set_capacity(None);
    let appended = log.append(produced(1, 0, 0, 1, &[b'y'; 300]), 0, NOW_MS).expect("room again");
    assert_eq!((appended.base_offset, appended.duplicate), (1, false), "the refused one left no trace");
    drop(log);
    let (log, report) = open(&disk, options(LogSettings::default(), false, 0, 0));
    assert_eq!((log.log_end_offset(), report.bytes_cut), (2, 0));
}

#[test]
fn retention_gives_space_back_on_a_full_disk() {
    // With room for nothing at all, and with room for what it frees itself.
    for room_for_freed in [false, true] {
        let (disk, mut log) = new_log(LogSettings { retention_ms: Some(1000), ..small_settings() });
        for i in 0..12 {
            log.append(produced(1, 0, i, 1, &[b'x'; 600]), i / 4, NOW_MS).expect("appended");
        }
        let (end, segments) = (log.log_end_offset(), log.segment_count());
        disk.set_capacity(Some(1 << 30));
        let used = (1 << 30) - disk.free_bytes(Path::new("/")).expect("space");
        disk.set_capacity(Some(if room_for_freed { used } else { 0 }));
        let error = log.append(produced(1, 0, 12, 1, b"x"), 3, NOW_MS).expect_err("full");
        assert!(matches!(&error, AppendError::Disk(disk) if disk.is_no_space()), "{error}");
        let deleted = log.apply_retention(NOW_MS + 5000, end).expect("deleting needs no room");
        assert_eq!((deleted.segments, log.segment_count()), (segments, 1));
        let left: u64 = disk.list(Path::new(DIR)).expect("listed").iter().map(|entry| entry.len).sum();
        assert!(left < 600, "only small files are left: {left}");
        disk.set_capacity(Some(4000));
        log.append(produced(1, 0, 12, 1, &[b'x'; 600]), 3, NOW_MS).expect("there is room again");
        let recovery_point = log.recovery_point();
        drop(log);
        let (mut log, report) = open(&disk, options(small_settings(), false, recovery_point, 0));
        assert_eq!((log.log_start_offset(), log.log_end_offset(), report.cut), (end, end + 1, None));
        assert_eq!(log.epoch_at(end), Some(3));
        let last = log.append(produced(1, 0, 12, 1, b"x"), 3, NOW_MS).expect("known");
        assert!(last.duplicate);
    }
}

#[test]
fn a_segment_that_cannot_be_removed_is_removed_by_the_next_retention() {
    let (disk, mut log) = new_log(LogSettings { retention_bytes: Some(1500), ..small_settings() });
    for _ in 0..12 {
        append(&mut log, NOW_MS, &[b'x'; 600]);
    }
    let (end, segments) = (log.log_end_offset(), log.segment_count());
    disk.inject(Fault { operation: DiskOperation::Remove, path_suffix: ".log".to_owned(), after: 1, times: 1 });
    log.apply_retention(NOW_MS, end).expect_err("the second segment stays");
    assert_eq!(log.segment_count(), segments - 1);
    let start = log.log_start_offset();
    assert!(matches!(log.reader().read(start - 1, 100, end, true), Err(ReadError::OffsetOutOfRange { .. })));
    assert_eq!(read_all(&log.reader()).len(), (end - start) as usize);
    log.apply_retention(NOW_MS, end).expect("retained");
    assert_eq!(log.log_start_offset(), start);
    let names: Vec<_> = disk.list(Path::new(DIR)).expect("listed").into_iter().map(|entry| entry.name).collect();
    let logs = names.iter().filter(|name| name.split('.').nth(1) == Some("log")).count();
    assert_eq!(logs, log.segment_count(), "nothing is forgotten");
    assert!(logs < segments - 1);
}

#[test]
fn a_full_disk_does_not_keep_a_log_from_opening() {
    let (disk, mut log) = new_log(LogSettings { retention_ms: Some(1000), ..small_settings() });
    for i in 0..8 {
        log.append(produced(1, 0, i, 1, &[b'x'; 600]), i / 4, NOW_MS).expect("appended");
    }
    let expected = read_all(&log.reader());
    drop(log);
    for entry in disk.list(Path::new(DIR)).expect("listed") {
        if entry.name.ends_with("index") || entry.name == "leader-epoch-checkpoint" {
            disk.remove_file(&Path::new(DIR).join(entry.name)).expect("removed");
        }
    }
    disk.set_capacity(Some(0));
    let (mut log, report) = open(&disk, options(small_settings(), false, 0, 0));
    assert_eq!(report.cut, None);
    assert_eq!(read_all(&log.reader()), expected);
    assert_eq!((log.epoch_at(3), log.epoch_at(4)), (Some(0), Some(1)));
    let error = log.append(produced(1, 0, 8, 1, b"x"), 1, NOW_MS).expect_err("full");
    assert!(matches!(&error, AppendError::Disk(disk) if disk.is_no_space()), "{error}");
    disk.set_capacity(None);
    log.append(produced(1, 0, 8, 1, b"x"), 1, NOW_MS).expect("room again");
    drop(log);
    let (_, report) = open(&disk, options(small_settings(), false, 0, 0));
    assert!(report.rebuilt.is_empty(), "the epochs were stored before the append: {report:?}");
}

#[test]
fn damage_below_the_log_start_does_not_end_the_log() {
    let (disk, mut log) = new_log(small_settings());
    for _ in 0..8 {
        append(&mut log, NOW_MS, &[b'x'; 600]);
    }
    drop(log);
    // Deleted up to 4, but the files came back with a loss of power, and not all of their bytes.
    disk.corrupt(&Path::new(DIR).join("00000000000000000000.log"), 200, 0xff);
    let (log, report) = open(&disk, options(small_settings(), false, 0, 4));
    assert_eq!((log.log_start_offset(), log.log_end_offset(), report.cut), (4, 8, None));
    assert_eq!(read_all(&log.reader()).len(), 4);
    assert!(!disk.exists(&Path::new(DIR).join("00000000000000000000.log")).expect("looked"));
}

#[test]
fn a_gap_between_segments_of_a_follower_is_no_loss() {
    let (disk, mut log) = new_log(small_settings());
    let replicated = |base_offset: i64| {
        let options = BatchOptions { base_offset, partition_leader_epoch: 3, ..BatchOptions::default() };
        let mut batch = BatchBuilder::new(options);
        batch.append(NOW_MS, None, Some(&[b'x'; 1000]), &[]);
        batch.build()
    };
    // The last one is too far from the segment before for its indexes.
    let offsets = [0, 10, 11, 1000, 1 << 33];
    for offset in offsets {
        log.append_replicated(&replicated(offset), NOW_MS).expect("appended");
    }
    assert_eq!(log.segment_count(), 5);
    assert_eq!(read_all(&log.reader()).iter().map(|(offset, _)| *offset).collect::<Vec<_>>(), offsets);
    drop(log);
    let (log, report) = open(&disk, options(small_settings(), false, 0, 0));
    let kept: Vec<i64> = read_all(&log.reader()).iter().map(|(offset, _)| *offset).collect();
    assert_eq!(kept[..4], offsets[..4], "{report:?}");
}

#[test]
fn cutting_forgets_an_epoch_in_which_nothing_is_left() {
    let (_, mut log) = new_log(small_settings());
    for i in 0..6 {
        log.append(batch(NOW_MS, b"x"), i / 3, NOW_MS).expect("appended");
    }
    log.assign_epoch(7, 6).expect("assigned");
    assert_eq!(log.truncate_to(6, NOW_MS).expect("nothing to cut"), 6);
    assert_eq!(log.latest_epoch(), Some(1), "a leader that wrote nothing leaves no epoch");
    assert_eq!(log.truncate_to(3, NOW_MS).expect("cut"), 3);
    assert_eq!(log.latest_epoch(), Some(0));
    log.truncate_fully(100, NOW_MS).expect("begun anew");
    assert_eq!((log.latest_epoch(), log.log_start_offset(), log.log_end_offset()), (None, 100, 100));
}

#[test]
fn a_log_that_could_not_be_cut_takes_no_more_writes() {
    for fully in [false, true] {
        let (disk, mut log) = new_log(small_settings());
        for _ in 0..8 {
            append(&mut log, NOW_MS, &[b'x'; 600]);
        }
        disk.inject(Fault { operation: DiskOperation::Remove, path_suffix: ".log".to_owned(), after: 1, times: 1 });
        let cut = if fully { log.truncate_fully(50, NOW_MS) } else { log.truncate_to(1, NOW_MS).map(|_| ()) };
        cut.expect_err("a file stays");
        assert!(log.has_failed());
        assert!(matches!(log.append(batch(NOW_MS, b"y"), 0, NOW_MS), Err(AppendError::Failed { .. })));
        assert!(matches!(log.apply_retention(NOW_MS, 8), Err(LogError::Failed { .. })));
        assert!(matches!(log.close_clean(), Err(LogError::Failed { .. })));
    }
}

#[test]
fn look_ups_by_time_look_inside_batches_of_every_codec() {
    for compression in Compression::ALL {
        let (_, mut log) = new_log(small_settings());
        for i in 0..40_i64 {
            let values: [&[u8]; 3] = [b"one", b"two", &[b'x'; 90]];
            // Every fourth batch is out of order.
            let at = NOW_MS + i * 10 - if i % 4 == 3 { 35 } else { 0 };
            log.append(records(at, &values, compression), 7, NOW_MS).expect("appended");
        }
        assert!(log.segment_count() > 2);
        let reader = log.reader();
        let end = log.log_end_offset();
        let time_of = |offset: i64| {
            let i = offset / 3;
            NOW_MS + i * 10 - if i % 4 == 3 { 35 } else { 0 } + offset % 3
        };
        for wanted in (NOW_MS - 50)..(NOW_MS + 420) {
            let expected = (0..end).find(|offset| time_of(*offset) >= wanted);
            let found = reader.offset_for_time(wanted, end).expect("looked up");
            assert_eq!(found.map(|found| found.offset), expected, "{compression:?} at {wanted}");
            assert!(found.is_none_or(|found| found.leader_epoch == 7 && found.timestamp == time_of(found.offset)));
        }
        for up_to in [0, 3, 12, 60, end] {
            let expected = (0..up_to).max_by_key(|offset| (time_of(*offset), -offset));
            let found = reader.max_timestamp(up_to).expect("looked up");
            assert_eq!(found.map(|found| found.offset), expected, "up to {up_to}");
        }
    }
}

#[test]
fn reads_keep_to_bytes_and_limit_and_begin_with_the_batch_that_holds_the_offset() {
    let (_, mut log) = new_log(small_settings());
    for _ in 0..10 {
        log.append(records(NOW_MS, &[b"aaaa", b"bbbb", b"cccc"], Compression::None), 0, NOW_MS).expect("appended");
    }
    let reader = log.reader();
    let one = reader.read(0, 1, 30, true).expect("read");
    assert_eq!((one.base_offset, one.next_offset), (0, 3));
    let size = one.bytes.len();
    assert!(reader.read(0, size - 1, 30, false).expect("read").bytes.is_empty());
    let inside = reader.read(4, size * 2, 30, true).expect("read");
    assert_eq!((inside.base_offset, inside.next_offset, inside.bytes.len()), (3, 9, size * 2));
    let limited = reader.read(0, 10_000, 8, true).expect("read");
    assert_eq!(limited.next_offset, 6, "a batch that reaches over the limit is left out");
    assert!(reader.read(7, 10_000, 8, true).expect("read").bytes.is_empty());
    assert!(reader.read(30, 10_000, 30, true).expect("at the end").bytes.is_empty());
    for outside in [-1, 31] {
        assert!(matches!(reader.read(outside, 10, 30, true), Err(ReadError::OffsetOutOfRange { .. })));
    }
}

#[test]
fn what_is_located_is_what_is_read() {
    let settings = LogSettings { segment_bytes: 60_000, ..small_settings() };
    let (_, mut log) = new_log(settings);
    // Headers that share a read, and such that are read alone.
    for number in 0..60usize {
        let value = vec![number as u8; if number % 3 == 0 { 9_000 } else { 150 }];
        log.append(records(NOW_MS, &[&value, b"second"], Compression::None), 0, NOW_MS).expect("appended");
    }
    assert!(log.segment_count() > 2);
    let (reader, end) = (log.reader(), log.log_end_offset());
    let mut located = 0;
    for from in 0..end {
        for up_to in [from, from + 1, from + 5, end] {
            for max_bytes in [0, 400, 10_000, 100_000] {
                let read = reader.read(from, max_bytes, up_to, false).expect("read");
                for least in [1, 300, 20_000] {
                    let region = reader.locate(from, max_bytes, up_to, least);
                    assert_eq!(region.is_some(), read.bytes.len() >= least, "{from} {up_to} {max_bytes} {least}");
                    if let Some(mut region) = region {
                        located += 1;
                        assert_eq!(region.read(max_bytes).expect("read"), read.bytes);
                        assert!(region.is_empty());
                    }
                }
            }
        }
    }
    assert!(located > 500, "{located}");
    for outside in [-1, end, end + 1] {
        assert!(reader.locate(outside, 10_000, end, 1).is_none());
    }
}

#[test]
fn deleting_up_to_an_offset_hides_records_and_removes_whole_segments() {
    let (disk, mut log) = new_log(small_settings());
    for _ in 0..12 {
        append(&mut log, NOW_MS, &[b'x'; 400]);
    }
    let segments = log.segment_count();
    let deleted = log.advance_log_start(5).expect("advanced");
    assert!(deleted.segments > 0 && log.segment_count() == segments - deleted.segments);
    assert_eq!(read_all(&log.reader()).first().map(|first| first.0), Some(5));
    assert!(matches!(log.advance_log_start(13), Err(LogError::OffsetOutOfRange { end: 12, .. })));
    assert_eq!(log.advance_log_start(3).expect("no way back").segments, 0);
    assert_eq!(log.epochs()[0].start_offset, 5);
    drop(log);
    let (log, _) = open(&disk, options(small_settings(), false, 0, 5));
    assert_eq!((log.log_start_offset(), log.log_end_offset()), (5, 12));
}

#[test]
fn leader_epochs_are_durable_before_they_are_used() {
    let (disk, mut log) = new_log(LogSettings::default());
    log.append(batch(NOW_MS, b"a"), 2, NOW_MS).expect("appended");
    log.assign_epoch(5, log.log_end_offset()).expect("assigned");
    assert_eq!(
        [1, 2, 4, 5, 6].map(|epoch| log.epoch_end_offset(epoch)),
        [Some((1, 0)), Some((2, 1)), Some((2, 1)), Some((5, 1)), None]
    );
    log.flush().expect("flushed");
    disk.restart(Outage::PowerLossOfAllUnsynced);
    let (log, _) = open(&disk, options(LogSettings::default(), false, 1, 0));
    assert_eq!((log.latest_epoch(), log.epoch_at(0)), (Some(5), Some(2)));
}

#[test]
fn an_epoch_that_could_not_be_stored_is_stored_by_the_next_append() {
    use DiskOperation::{Open, Rename, Sync, Write};
    let fail = |disk: &SimulatedDisk, operation, path_suffix: &str, times| {
        disk.inject(Fault { operation, path_suffix: path_suffix.to_owned(), after: 0, times });
    };
    for (operation, is_in_place) in
        [(Open, true), (Write, true), (Sync, true), (Open, false), (Write, false), (Sync, false), (Rename, false)]
    {
        let case = format!("{operation:?}, in place: {is_in_place}");
        let (disk, mut log) = new_log(LogSettings::default());
        log.append(batch(NOW_MS, b"a"), 2, NOW_MS).expect("appended");
        let latest = if is_in_place {
            // What cannot be written in place is written anew the next time.
            fail(&disk, operation, "leader-epoch-checkpoint", 1);
            fail(&disk, Open, "leader-epoch-checkpoint.tmp", 1);
            2
        } else {
            // Nothing is written in it, so 5 takes its line.
            log.assign_epoch(3, 1).expect("assigned");
            fail(&disk, operation, "leader-epoch-checkpoint.tmp", 2);
            3
        };
        assert!(log.assign_epoch(5, 1).is_err(), "{case}");
        assert_eq!((log.latest_epoch(), log.epoch_end_offset(2)), (Some(latest), Some((2, 1))), "{case}");
        assert!(log.append(batch(NOW_MS, b"b"), 5, NOW_MS).is_err(), "{case}: not before the epoch is stored");
        log.append(batch(NOW_MS, b"b"), 5, NOW_MS).expect("the disk is well again");
        log.flush().expect("flushed");
        disk.restart(Outage::PowerLossOfAllUnsynced);
        let (log, report) = open(&disk, options(LogSettings::default(), false, 2, 0));
        assert_eq!(log.epochs().iter().map(|entry| entry.epoch).collect::<Vec<_>>(), [2, 5], "{case}");
        assert!(report.rebuilt.is_empty(), "{case}: {report:?}");
    }
}

#[test]
fn a_follower_keeps_bytes_epochs_and_producers_and_cuts_back() {
    let (_, mut leader) = new_log(small_settings());
    for i in 0..12 {
        leader.append(produced(3, 0, i, 1, &[b'x'; 300]), i / 4, NOW_MS).expect("appended");
    }
    let (disk, mut follower) = new_log(small_settings());
    let mut from = 0;
    while from < 12 {
        let slice = leader.reader().read(from, 1000, 12, true).expect("read");
        // A fetch may end inside a batch.
        let torn = [&slice.bytes[..], &[0; 30]].concat();
        assert_eq!(follower.append_replicated(&torn, NOW_MS).expect("appended"), slice.next_offset);
        from = slice.next_offset;
    }
    assert_eq!(read_all(&follower.reader()), read_all(&leader.reader()));
    assert_eq!(follower.epochs(), leader.epochs());
    let again = leader.reader().read(0, 100, 12, true).expect("read");
    let refused = follower.append_replicated(&again.bytes, NOW_MS);
    assert!(matches!(refused, Err(AppendError::NotNext { found: 0, end: 12 })));
    assert_eq!(follower.truncate_to(6, NOW_MS).expect("cut"), 6);
    assert_eq!((follower.latest_epoch(), read_all(&follower.reader()).len()), (Some(1), 6));
    let next = follower.append(produced(3, 0, 6, 1, b"other"), 9, NOW_MS).expect("the producer went back too");
    assert_eq!((next.base_offset, next.duplicate), (6, false));
    let recovery_point = follower.recovery_point();
    drop(follower);
    let (follower, _) = open(&disk, options(small_settings(), false, recovery_point, 0));
    assert_eq!(follower.log_end_offset(), 7);
}

#[test]
fn a_folder_of_another_topic_id_is_refused_and_untouched() {
    let (disk, log) = new_log(LogSettings::default());
    drop(log);
    let mut options = options(LogSettings::default(), false, 0, 0);
    options.topic_id = "AAAAAAAAAAAAAAAAAAAAAg".parse().expect("an id");
    let before = disk.counts().mutations;
    assert!(matches!(harness::try_open(&disk, options), Err(LogError::TopicIdMismatch { .. })));
    assert_eq!(disk.counts().mutations, before);
}

#[test]
fn sealed_segments_are_opened_on_demand_and_bounded() {
    let disk = new_disk(1);
    let cache = Arc::new(SegmentCache::new(2, 1 << 20));
    let shared: Arc<dyn Disk> = Arc::new(disk);
    let options = options(small_settings(), false, 0, 0);
    let (mut log, _) = Log::open(shared, cache.clone(), options, NOW_MS, &mut |_| {}).expect("opened");
    for _ in 0..20 {
        append(&mut log, NOW_MS, &[b'x'; 600]);
    }
    assert!(log.segment_count() >= 10);
    assert_eq!(cache.open_segments(), 0);
    assert_eq!(read_all(&log.reader()).len(), 20);
    assert_eq!(cache.open_segments(), 2);
}

#[test]
fn progress_is_reported_to_its_end() {
    let (disk, mut log) = new_log(small_settings());
    for _ in 0..20 {
        append(&mut log, NOW_MS, &[b'x'; 300]);
    }
    let size = log.size_bytes();
    drop(log);
    let mut seen = Vec::new();
    let shared: Arc<dyn Disk> = Arc::new(disk);
    let options = options(small_settings(), false, 0, 0);
    Log::open(shared, Arc::default(), options, NOW_MS, &mut |progress| seen.push(progress)).expect("opened");
    assert!(seen.len() > 10 && seen.is_sorted_by_key(|progress| progress.done));
    assert!(seen.iter().all(|progress| progress.total == size));
    assert_eq!(seen.last().map(|last| last.done), Some(size));
}

#[test]
fn readers_see_a_growing_prefix_while_the_writer_rolls_and_deletes() {
    let (_, mut log) = new_log(small_settings());
    let done = AtomicBool::new(false);
    let reader = log.reader();
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..2)
            .map(|_| {
                let reader = reader.clone();
                let done = &done;
                scope.spawn(move || {
                    let (mut from, mut seen) = (0, 0_u64);
                    loop {
                        let last_round = done.load(Ordering::Acquire);
                        let end = reader.log_end_offset();
                        match reader.read(from, 900, end, true) {
                            Ok(slice) => {
                                for batch in Batches::new(&slice.bytes) {
                                    let batch = batch.expect("whole");
                                    batch.verify().expect("unharmed");
                                    assert!(batch.header.next_offset() <= end);
                                    seen += 1;
                                }
                                from = slice.next_offset;
                            }
                            Err(ReadError::OffsetOutOfRange { start, .. }) => from = start,
                            Err(error) => panic!("{error}"),
                        }
                        if last_round && from >= reader.log_end_offset() {
                            return seen;
                        }
                    }
                })
            })
            .collect();
        for i in 0..3000_i64 {
            append(&mut log, NOW_MS, format!("value {i} {}", "x".repeat(i as usize % 300)).as_bytes());
            if i % 100 == 99 {
                log.advance_log_start(i - 50).expect("advanced");
            }
        }
        done.store(true, Ordering::Release);
        for reader in readers {
            assert!(reader.join().expect("no panic") > 0);
        }
    });
}
