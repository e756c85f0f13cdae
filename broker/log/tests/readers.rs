// SPDX-License-Identifier: Apache-2.0
//! Readers at the worst moment: between two of the writer's calls to the disk, or with the writer between two of theirs.

mod harness;

use harness::{DIR, NOW_MS, batch, new_disk, options, small_settings};
use odradek_disk::{BeginningCall, Disk, OpenMode, SimulatedDisk};
use odradek_log::{Log, LogOptions, LogSettings, SegmentCache};
use std::path::Path;
use std::sync::{Arc, Mutex};

/// Runs `work` once, before the first file is opened whose name ends so, in that mode.
fn before_open(disk: &SimulatedDisk, suffix: &'static str, mode: OpenMode, work: impl FnOnce() + Send + 'static) {
    let work = Mutex::new(Some(work));
    disk.before_calls(move |call| {
        if let BeginningCall::Open(path, opened) = call
            && opened == mode
            && path.to_string_lossy().ends_with(suffix)
        {
            // Taken out before it runs: what it does opens files too.
            let work = work.lock().expect("free").take();
            if let Some(work) = work {
                work();
            }
        }
    });
}

fn open(disk: &SimulatedDisk, cache: &Arc<SegmentCache>, options: LogOptions) -> Log {
    Log::open(Arc::new(disk.clone()), cache.clone(), options, NOW_MS, &mut |_| {}).expect("opened").0
}

/// Four segments of two records each, a second apart, and the active one.
fn four_segments(disk: &SimulatedDisk, cache: &Arc<SegmentCache>) -> Log {
    let mut log = open(disk, cache, options(small_settings(), false, 0, 0));
    for i in 0..9 {
        log.append(batch(NOW_MS + i * 1000, &[b'x'; 600]), 0, NOW_MS).expect("appended");
    }
    assert_eq!(log.segment_count(), 5);
    log
}

#[test]
fn a_reader_during_a_roll_does_not_keep_the_indexes_of_an_earlier_stop() {
    let (disk, cache) = (new_disk(1), Arc::<SegmentCache>::default());
    let mut log = open(&disk, &cache, options(small_settings(), false, 0, 0));
    log.append(batch(NOW_MS, &[b'x'; 600]), 0, NOW_MS).expect("appended");
    log.close_clean().expect("closed");
    drop(log);
    // The index files say now that the newest record is of NOW_MS.
    let mut log = open(&disk, &cache, options(small_settings(), true, 1, 0));
    log.append(batch(NOW_MS + 5000, &[b'x'; 600]), 0, NOW_MS).expect("appended");
    for suffix in [".index", ".timeindex"] {
        let reader = log.reader();
        before_open(&disk, suffix, OpenMode::Create, move || {
            let newest = reader.max_timestamp(2).expect("looked up").expect("there");
            assert_eq!((newest.offset, newest.timestamp), (1, NOW_MS + 5000), "before {suffix} is written");
        });
        let segments = log.segment_count();
        log.append(batch(NOW_MS + 1, &[b'x'; 1200]), 0, NOW_MS).expect("appended");
        assert_eq!(log.segment_count(), segments + 1, "it rolls");
        let found = log.reader().offset_for_time(NOW_MS + 5000, log.log_end_offset()).expect("looked up");
        assert_eq!(found.map(|found| found.offset), Some(1), "after {suffix} was written");
    }
    log.set_settings(LogSettings { retention_ms: Some(3000), ..small_settings() });
    let deleted = log.apply_retention(NOW_MS + 4000, log.log_end_offset()).expect("retained");
    assert_eq!(deleted.segments, 0, "the first segment holds a record of the future");
}

#[test]
fn a_segment_that_goes_while_it_is_loaded_does_not_stay_open() {
    let (disk, cache) = (new_disk(1), Arc::<SegmentCache>::default());
    let log = Arc::new(Mutex::new(four_segments(&disk, &cache)));
    let reader = log.lock().expect("free").reader();
    // Its batches are open by then, its indexes are not.
    before_open(&disk, ".index", OpenMode::Read, {
        let log = log.clone();
        move || assert_eq!(log.lock().expect("free").advance_log_start(8).expect("advanced").segments, 4)
    });
    let slice = reader.read(0, 100, 9, true).expect("what is open can still be read");
    assert_eq!(slice.next_offset, 1);
    assert_eq!(cache.open_segments(), 0, "nothing holds the space of the removed file");
}

#[test]
fn the_newest_record_is_found_although_retention_takes_segments_meanwhile() {
    let (disk, cache) = (new_disk(1), Arc::<SegmentCache>::default());
    let log = Arc::new(Mutex::new(four_segments(&disk, &cache)));
    let reader = log.lock().expect("free").reader();
    before_open(&disk, ".log", OpenMode::Read, {
        let log = log.clone();
        move || assert_eq!(log.lock().expect("free").advance_log_start(4).expect("advanced").segments, 2)
    });
    let newest = reader.max_timestamp(9).expect("not an error of the disk").expect("there");
    assert_eq!((newest.offset, newest.timestamp), (8, NOW_MS + 8000));
    assert!(disk.exists(&Path::new(DIR).join("00000000000000000004.log")).expect("looked"));
}
