// SPDX-License-Identifier: Apache-2.0
//! Crashes: cut at every byte of every kind of file, and at every mutating call of a scripted run. After each the log
//! opens, holds everything that was flushed, holds nothing that was not appended, in order, and its producers agree.

mod harness;

use harness::{DIR, NOW_MS, batch, new_disk, new_log, open, options, produced, read_all, small_settings, try_open};
use odradek_disk::{Disk, OpenMode, Outage, SimulatedDisk};
use odradek_log::{AppendError, LogSettings};
use odradek_model::Offset;
use std::path::{Path, PathBuf};

fn path(name: &str) -> PathBuf {
    Path::new(DIR).join(name)
}

fn file_bytes(disk: &SimulatedDisk, name: &str) -> Vec<u8> {
    odradek_disk::read_small_file(disk, &path(name), 1 << 20).expect("read").expect("there")
}

fn put(disk: &SimulatedDisk, name: &str, bytes: &[u8]) {
    let file = disk.open(&path(name), OpenMode::Create).expect("opened");
    file.truncate(0).expect("cut");
    file.write_at(bytes, 0).expect("written");
}

#[test]
fn a_log_cut_at_every_byte_of_its_last_batch_keeps_all_batches_before() {
    let (disk, mut log) = new_log(LogSettings::default());
    for value in [&b"first"[..], b"second"] {
        log.append(batch(NOW_MS, value), 3, NOW_MS).expect("appended");
    }
    let before = log.size_bytes() as usize;
    log.append(produced(5, 0, 0, 3, b"last one"), 3, NOW_MS).expect("appended");
    let expected = read_all(&log.reader());
    drop(log);
    let name = "00000000000000000000.log";
    let whole = file_bytes(&disk, name);
    for cut in before..=whole.len() {
        put(&disk, name, &whole[..cut]);
        let (mut log, report) = open(&disk, options(LogSettings::default(), false, 0, 0));
        let kept = if cut == whole.len() { 5 } else { 2 };
        assert_eq!(read_all(&log.reader()), expected[..kept], "cut at {cut}");
        assert_eq!(report.bytes_cut as usize, if kept == 5 { 0 } else { cut - before }, "cut at {cut}");
        assert_eq!(report.cut.is_some(), cut != before && cut != whole.len(), "cut at {cut}: {report:?}");
        let again = log.append(produced(5, 0, 0, 3, b"last one"), 3, NOW_MS).expect("a retry");
        assert_eq!((again.base_offset, again.duplicate), (2, kept == 5), "cut at {cut}");
        assert_eq!(read_all(&log.reader()), expected, "cut at {cut}");
    }
    for at in before..whole.len() {
        let mut damaged = whole.clone();
        damaged[at] ^= 0x10;
        put(&disk, name, &damaged);
        let (log, _) = open(&disk, options(LogSettings::default(), false, 0, 0));
        let kept = read_all(&log.reader());
        // Base offset and leader epoch lie outside the checksum: a flip there may pass as a gap or another epoch.
        let unchecked = at - before < 8 || (12..16).contains(&(at - before));
        assert!(kept == expected[..2] || unchecked && kept.len() == 5, "damaged at {at}");
    }
}

#[test]
fn a_damaged_batch_in_the_middle_of_unflushed_data_ends_the_log_there() {
    let (disk, mut log) = new_log(small_settings());
    for i in 0..60 {
        log.append(batch(NOW_MS, format!("value {i}").as_bytes()), 0, NOW_MS).expect("appended");
    }
    let expected = read_all(&log.reader());
    assert!(log.segment_count() > 3);
    drop(log);
    disk.corrupt(&path("00000000000000000000.log"), 700, 0xff);
    let (log, report) = open(&disk, options(small_settings(), false, 0, 0));
    let kept = read_all(&log.reader());
    assert!(!kept.is_empty() && kept.len() < 20 && kept == expected[..kept.len()]);
    assert!(report.segments_removed >= 3 && report.cut.is_some_and(|cut| cut.contains(".log at byte")));
}

#[test]
fn indexes_snapshots_and_epochs_cut_at_every_byte_are_made_anew() {
    let (disk, mut log) = new_log(small_settings());
    for i in 0..30 {
        log.append(produced(1, 0, i, 1, b"some value to fill the segments"), i / 10, NOW_MS).expect("appended");
    }
    log.close_clean().expect("closed");
    let expected = read_all(&log.reader());
    let (end, epochs) = (log.log_end_offset(), log.epochs().to_vec());
    assert!(log.segment_count() > 1 && epochs.len() == 3);
    drop(log);
    let names: Vec<String> = disk.list(Path::new(DIR)).expect("listed").into_iter().map(|entry| entry.name).collect();
    let side_files: Vec<&String> =
        names.iter().filter(|name| !name.ends_with("log") && *name != "partition.metadata").collect();
    assert!(side_files.len() >= 6, "{side_files:?}");
    let stored: Vec<(&String, Vec<u8>)> = names.iter().map(|name| (name, file_bytes(&disk, name))).collect();
    for name in side_files {
        let whole = &stored.iter().find(|(stored, _)| *stored == name).expect("stored").1;
        for cut in (0..=whole.len()).map(Some).chain([None]) {
            for clean in [true, false] {
                for (name, bytes) in &stored {
                    put(&disk, name, bytes);
                }
                match cut {
                    Some(cut) => put(&disk, name, &whole[..cut]),
                    None => disk.remove_file(&path(name)).expect("removed"),
                }
                let (mut log, report) = open(&disk, options(small_settings(), clean, end, 0));
                let what = format!("{name} cut at {cut:?}, clean: {clean}: {report:?}");
                assert_eq!(read_all(&log.reader()), expected, "{what}");
                assert_eq!(log.epochs(), epochs, "{what}");
                assert!(report.cut.is_none(), "{what}");
                let duplicate = log.append(produced(1, 0, 29, 1, b"x"), 2, NOW_MS).expect("known");
                assert!(duplicate.duplicate && duplicate.base_offset == 29, "{what}");
                let gap = log.append(produced(1, 0, 31, 1, b"x"), 2, NOW_MS);
                assert!(matches!(gap, Err(AppendError::OutOfOrderSequence { expected: 30, .. })), "{what}");
            }
        }
    }
}

/// What a run knows when it dies.
#[derive(Debug, Default, Clone)]
struct Known {
    /// Values in the order of their offsets, the one in flight last.
    appended: Vec<Vec<u8>>,
    /// Records that may be missing at the end although appended: the one in flight.
    in_flight: bool,
    flushed: Offset,
    start: Offset,
    start_asked: Offset,
}

/// Appends, rolls, flushes, advances the start, closes and reopens; stops at the first error.
fn script(disk: &SimulatedDisk, known: &mut Known) -> Result<(), ()> {
    let mut clean = false;
    for round in 0..3 {
        let (mut log, _) =
            try_open(disk, options(small_settings(), clean, known.flushed, known.start)).map_err(drop)?;
        for i in 0..8 {
            let sequence = round * 8 + i;
            known.appended.push(format!("value {sequence} {}", "x".repeat(100 + sequence as usize * 7)).into_bytes());
            known.in_flight = true;
            let value = known.appended.last().expect("pushed").clone();
            log.append(produced(7, 0, sequence, 1, &value), round, NOW_MS).map_err(drop)?;
            known.in_flight = false;
            if i == 3 {
                log.flush().map_err(drop)?;
                known.flushed = log.recovery_point();
            }
        }
        known.start_asked = i64::from(round) * 5;
        log.advance_log_start(known.start_asked).map_err(drop)?;
        known.start = known.start_asked;
        clean = false;
        if round == 1 {
            log.close_clean().map_err(drop)?;
            known.flushed = log.log_end_offset();
            clean = true;
        }
    }
    Ok(())
}

#[test]
fn a_crash_at_every_mutating_call_of_a_run_loses_nothing_flushed_and_invents_nothing() {
    let calls = {
        let disk = new_disk(0);
        let before = disk.counts().mutations;
        script(&disk, &mut Known::default()).expect("no crash");
        disk.counts().mutations - before
    };
    assert!(calls > 100, "the script does something: {calls} calls");
    for outage in [Outage::PowerLoss, Outage::PowerLossOfAllUnsynced, Outage::ProcessDeath] {
        for at in 0..calls {
            for seed in 0..4 {
                let disk = new_disk(seed * 1000 + at);
                let mut known = Known::default();
                disk.crash_at(Some(at));
                script(&disk, &mut known).expect_err("it crashes");
                disk.restart(outage);
                check_after_crash(&disk, &known, outage, &format!("call {at}, seed {seed}, {outage:?}"));
            }
        }
    }
}

fn check_after_crash(disk: &SimulatedDisk, known: &Known, outage: Outage, what: &str) {
    let (mut log, report) = open(disk, options(small_settings(), false, known.flushed, known.start));
    let end = log.log_end_offset();
    assert!(end >= known.flushed, "{what}: flushed to {} but the end is {end}: {report:?}", known.flushed);
    assert!(end as usize <= known.appended.len(), "{what}: more than was appended");
    if outage == Outage::ProcessDeath {
        let sure = known.appended.len() - usize::from(known.in_flight);
        assert!(end as usize >= sure, "{what}: the kernel still had it: {report:?}");
    }
    let start = log.log_start_offset();
    assert!(start >= known.start && start <= known.start_asked.max(known.start), "{what}: starts at {start}");
    let expected: Vec<(Offset, Vec<u8>)> =
        (start..end).map(|offset| (offset, known.appended[offset as usize].clone())).collect();
    assert_eq!(read_all(&log.reader()), expected, "{what}");
    // Each round wrote its eight values in an epoch of its own.
    for offset in start.max(known.start_asked)..end {
        assert_eq!(log.epoch_at(offset), Some((offset / 8) as i32), "{what}: epoch at {offset}");
    }
    // The producer goes on where the log ends; what is in the log is known as a duplicate.
    if end > start {
        let last = log.append(produced(7, 0, end as i32 - 1, 1, b"again"), 9, NOW_MS).expect("a retry");
        assert!(last.duplicate && last.base_offset == end - 1, "{what}: {last:?}");
        let gap = log.append(produced(7, 0, end as i32 + 1, 1, b"gap"), 9, NOW_MS);
        assert!(matches!(gap, Err(AppendError::OutOfOrderSequence { .. })), "{what}: {gap:?}");
    }
    let next = log.append(produced(7, 0, end as i32, 1, b"next"), 9, NOW_MS).expect("goes on");
    assert_eq!((next.base_offset, next.duplicate), (end, false), "{what}");
    // And a second start after that finds the same again.
    drop(log);
    let (log, report) = open(disk, options(small_settings(), false, known.flushed, known.start));
    assert!(report.cut.is_none(), "{what}: {report:?}");
    assert_eq!(log.log_end_offset(), end + 1, "{what}");
}

#[test]
fn a_crash_at_every_mutating_call_of_a_retention_leaves_a_log_that_begins_later_and_has_no_hole() {
    let mut starts = std::collections::BTreeSet::new();
    for outage in [Outage::PowerLoss, Outage::PowerLossOfAllUnsynced, Outage::ProcessDeath] {
        for at in 0.. {
            let disk = new_disk(at);
            let (mut log, _) = open(&disk, options(small_settings(), false, 0, 0));
            for i in 0..16 {
                let value = format!("value {i} {}", "x".repeat(400));
                log.append(produced(7, 0, i, 1, value.as_bytes()), i / 4, NOW_MS).expect("appended");
            }
            log.flush().expect("flushed");
            log.set_settings(LogSettings { retention_bytes: Some(1500), ..small_settings() });
            disk.crash_at(Some(at));
            let done = log.apply_retention(NOW_MS, 16).is_ok();
            disk.restart(outage);
            let what = format!("call {at}, {outage:?}");
            let (mut log, report) = open(&disk, options(small_settings(), false, 16, 0));
            let start = log.log_start_offset();
            starts.insert(start);
            assert_eq!((log.log_end_offset(), &report.cut), (16, &None), "{what}");
            let offsets: Vec<Offset> = read_all(&log.reader()).into_iter().map(|(offset, _)| offset).collect();
            assert_eq!(offsets, (start..16).collect::<Vec<_>>(), "{what}");
            for offset in start..16 {
                assert_eq!(log.epoch_at(offset), Some((offset / 4) as i32), "{what}: epoch at {offset}");
            }
            let last = log.append(produced(7, 0, 15, 1, b"again"), 9, NOW_MS).expect("a retry");
            assert!(last.duplicate && last.base_offset == 15, "{what}: {last:?}");
            if done {
                assert!(at > 10, "retention does something: {at} calls");
                break;
            }
        }
    }
    assert!(starts.len() > 2, "crashes hit different segments: {starts:?}");
}

#[test]
fn what_is_flushed_after_a_crash_in_the_making_of_the_folder_survives_a_loss_of_power() {
    let calls = {
        let disk = new_disk(0);
        let before = disk.counts().mutations;
        open(&disk, options(LogSettings::default(), false, 0, 0));
        disk.counts().mutations - before
    };
    for at in 0..calls {
        let disk = new_disk(at);
        disk.crash_at(Some(at));
        assert!(try_open(&disk, options(LogSettings::default(), false, 0, 0)).is_err());
        disk.restart(Outage::ProcessDeath);
        let (mut log, _) = open(&disk, options(LogSettings::default(), false, 0, 0));
        log.append(batch(NOW_MS, b"kept"), 0, NOW_MS).expect("appended");
        log.flush().expect("flushed");
        disk.restart(Outage::PowerLossOfAllUnsynced);
        let (log, _) = open(&disk, options(LogSettings::default(), false, 1, 0));
        assert_eq!(read_all(&log.reader()), [(0, b"kept".to_vec())], "crash at call {at}");
    }
}
