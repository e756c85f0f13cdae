// SPDX-License-Identifier: Apache-2.0
//! What a log knows of idempotent producers: over restarts, after batches were removed, and when a log begins anew.

mod harness;

use harness::{DIR, NOW_MS, batch, new_log, open, options, produced, small_settings};
use odradek_disk::{Disk, OpenMode};
use odradek_log::{AppendError, LogSettings};
use std::path::Path;

#[test]
fn producers_of_removed_batches_are_known_after_a_crash_although_the_disk_was_full() {
    let (disk, mut log) = new_log(LogSettings { retention_ms: Some(1000), ..small_settings() });
    log.append(produced(1, 0, 0, 1, &[b'x'; 900]), 0, NOW_MS).expect("appended");
    disk.set_capacity(Some(1 << 30));
    let used = (1 << 30) - disk.free_bytes(Path::new("/")).expect("space");
    disk.set_capacity(Some(used));
    // The roll finds no room for the snapshot; once the segment is gone there is.
    assert_eq!(log.apply_retention(NOW_MS + 5000, 1).expect("retained").segments, 1);
    drop(log);
    let (mut log, _) = open(&disk, options(small_settings(), false, 0, 0));
    let again = log.append(produced(1, 0, 0, 1, b"x"), 0, NOW_MS).expect("known");
    assert_eq!((again.base_offset, again.duplicate), (0, true));
}

#[test]
fn a_snapshot_that_does_not_know_removed_batches_is_not_believed() {
    let (disk, mut log) = new_log(small_settings());
    log.append(produced(1, 0, 0, 1, &[b'x'; 900]), 0, NOW_MS).expect("appended");
    log.append(batch(NOW_MS, &[b'x'; 900]), 0, NOW_MS).expect("appended");
    let path = Path::new(DIR).join(format!("{:020}.snapshot", 1));
    let mut bytes = Vec::new();
    disk.open(&path, OpenMode::Read).expect("of the roll").read_append(&mut bytes, 1000, 0).expect("read");
    log.append(produced(1, 0, 1, 1, &[b'x'; 900]), 0, NOW_MS).expect("goes on");
    for _ in 0..3 {
        log.append(batch(NOW_MS, &[b'x'; 900]), 0, NOW_MS).expect("appended");
    }
    let end = log.log_end_offset();
    log.advance_log_start(end - 1).expect("advanced");
    drop(log);
    // As it is when later snapshots went after an unclean end.
    for entry in disk.list(Path::new(DIR)).expect("listed") {
        if entry.name.ends_with(".snapshot") {
            disk.remove_file(&Path::new(DIR).join(entry.name)).expect("removed");
        }
    }
    disk.open(&path, OpenMode::Create).expect("made").write_at(&bytes, 0).expect("written");
    let (mut log, _) = open(&disk, options(small_settings(), false, end, end - 1));
    log.append(produced(1, 0, 2, 1, b"x"), 0, NOW_MS).expect("it is not behind");
}

#[test]
fn a_log_that_begins_anew_knows_no_producer_of_what_was_there() {
    let (disk, mut log) = new_log(small_settings());
    for i in 0..12 {
        log.append(produced(3, 0, i, 1, &[b'x'; 300]), 0, NOW_MS).expect("appended");
    }
    assert!(log.segment_count() > 1, "there are snapshots");
    log.truncate_fully(100, NOW_MS).expect("begun anew");
    assert_eq!(log.producer_count(), 0);
    drop(log);
    let (mut log, _) = open(&disk, options(small_settings(), false, 100, 0));
    assert_eq!((log.log_end_offset(), log.producer_count()), (100, 0));
    // As leader: what lies between the two is below its log start.
    log.append(produced(3, 0, 60, 1, b"x"), 0, NOW_MS).expect("the first that it hears of");
}

#[test]
fn idempotence_holds_over_restarts_and_expires() {
    let (disk, mut log) = new_log(small_settings());
    for i in 0..4 {
        log.append(produced(1, 2, i * 3, 3, &[b'x'; 300]), 0, NOW_MS).expect("appended");
    }
    let recovery_point = log.recovery_point();
    drop(log);
    let (mut log, _) = open(&disk, options(small_settings(), false, recovery_point, 0));
    let duplicate = log.append(produced(1, 2, 9, 3, b"whatever"), 0, NOW_MS).expect("known");
    assert_eq!((duplicate.base_offset, duplicate.last_offset, duplicate.duplicate), (9, 11, true));
    let stale = log.append(produced(1, 1, 0, 1, b"x"), 0, NOW_MS);
    assert!(matches!(stale, Err(AppendError::InvalidProducerEpoch { found: 1, current: 2, .. })));
    assert_eq!(log.producer_count(), 1);
    log.apply_retention(NOW_MS + 24 * 3_600_000, log.log_end_offset()).expect("retained");
    assert_eq!(log.producer_count(), 0);
    log.append(produced(1, 0, 77, 1, b"x"), 0, NOW_MS).expect("unknown again: any sequence");
}
