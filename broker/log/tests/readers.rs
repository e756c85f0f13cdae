// SPDX-License-Identifier: Apache-2.0
//! Readers at the worst moment: between two of the writer's calls to the disk, or with the writer between two of theirs.

mod harness;

use harness::{DIR, NOW_MS, batch, new_disk, options, small_settings};
use odradek_disk::{DirEntry, Disk, DiskError, DiskFile, DiskLock, OpenMode, SimulatedDisk};
use odradek_log::{Log, LogOptions, LogSettings, SegmentCache};
use std::fmt::{Debug, Formatter};
use std::path::Path;
use std::sync::{Arc, Mutex};

/// What to do before a file is opened.
type Hook = Box<dyn FnMut(&Path, OpenMode) + Send>;

/// A disk that says beforehand which file is to be opened.
#[derive(Clone)]
struct Watched {
    disk: SimulatedDisk,
    hook: Arc<Mutex<Option<Hook>>>,
}

impl Debug for Watched {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        self.disk.fmt(f)
    }
}

impl Watched {
    fn new() -> Self {
        Self { disk: new_disk(1), hook: Arc::default() }
    }

    /// Runs `work` once, before the first file is opened whose name ends so, in that mode.
    fn before_open(&self, suffix: &'static str, mode: OpenMode, work: impl FnOnce() + Send + 'static) {
        let mut work = Some(work);
        *self.hook.lock().expect("free") = Some(Box::new(move |path, opened| {
            if opened == mode
                && path.to_string_lossy().ends_with(suffix)
                && let Some(work) = work.take()
            {
                work();
            }
        }));
    }
}

impl Disk for Watched {
    fn create_dir_all(&self, path: &Path) -> Result<(), DiskError> {
        self.disk.create_dir_all(path)
    }
    fn list(&self, dir: &Path) -> Result<Vec<DirEntry>, DiskError> {
        self.disk.list(dir)
    }
    fn open(&self, path: &Path, mode: OpenMode) -> Result<Arc<dyn DiskFile>, DiskError> {
        // Taken out while it runs: what it does opens files too.
        let hook = self.hook.lock().expect("free").take();
        if let Some(mut hook) = hook {
            hook(path, mode);
            self.hook.lock().expect("free").get_or_insert(hook);
        }
        self.disk.open(path, mode)
    }
    fn rename(&self, from: &Path, to: &Path) -> Result<(), DiskError> {
        self.disk.rename(from, to)
    }
    fn remove_file(&self, path: &Path) -> Result<(), DiskError> {
        self.disk.remove_file(path)
    }
    fn remove_dir_all(&self, path: &Path) -> Result<(), DiskError> {
        self.disk.remove_dir_all(path)
    }
    fn sync_dir(&self, dir: &Path) -> Result<(), DiskError> {
        self.disk.sync_dir(dir)
    }
    fn file_len(&self, path: &Path) -> Result<Option<u64>, DiskError> {
        self.disk.file_len(path)
    }
    fn exists(&self, path: &Path) -> Result<bool, DiskError> {
        self.disk.exists(path)
    }
    fn free_bytes(&self, path: &Path) -> Result<u64, DiskError> {
        self.disk.free_bytes(path)
    }
    fn lock(&self, path: &Path) -> Result<Box<dyn DiskLock>, DiskError> {
        self.disk.lock(path)
    }
}

fn open(disk: &Watched, cache: &Arc<SegmentCache>, options: LogOptions) -> Log {
    Log::open(Arc::new(disk.clone()), cache.clone(), options, NOW_MS, &mut |_| {}).expect("opened").0
}

/// Four segments of two records each, a second apart, and the active one.
fn four_segments(disk: &Watched, cache: &Arc<SegmentCache>) -> Log {
    let mut log = open(disk, cache, options(small_settings(), false, 0, 0));
    for i in 0..9 {
        log.append(batch(NOW_MS + i * 1000, &[b'x'; 600]), 0, NOW_MS).expect("appended");
    }
    assert_eq!(log.segment_count(), 5);
    log
}

#[test]
fn a_reader_during_a_roll_does_not_keep_the_indexes_of_an_earlier_stop() {
    let (disk, cache) = (Watched::new(), Arc::<SegmentCache>::default());
    let mut log = open(&disk, &cache, options(small_settings(), false, 0, 0));
    log.append(batch(NOW_MS, &[b'x'; 600]), 0, NOW_MS).expect("appended");
    log.close_clean().expect("closed");
    drop(log);
    // The index files say now that the newest record is of NOW_MS.
    let mut log = open(&disk, &cache, options(small_settings(), true, 1, 0));
    log.append(batch(NOW_MS + 5000, &[b'x'; 600]), 0, NOW_MS).expect("appended");
    for suffix in [".index", ".timeindex"] {
        let reader = log.reader();
        disk.before_open(suffix, OpenMode::Create, move || {
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
    let (disk, cache) = (Watched::new(), Arc::<SegmentCache>::default());
    let log = Arc::new(Mutex::new(four_segments(&disk, &cache)));
    let reader = log.lock().expect("free").reader();
    // Its batches are open by then, its indexes are not.
    disk.before_open(".index", OpenMode::Read, {
        let log = log.clone();
        move || assert_eq!(log.lock().expect("free").advance_log_start(8).expect("advanced").segments, 4)
    });
    let slice = reader.read(0, 100, 9, true).expect("what is open can still be read");
    assert_eq!(slice.next_offset, 1);
    assert_eq!(cache.open_segments(), 0, "nothing holds the space of the removed file");
}

#[test]
fn the_newest_record_is_found_although_retention_takes_segments_meanwhile() {
    let (disk, cache) = (Watched::new(), Arc::<SegmentCache>::default());
    let log = Arc::new(Mutex::new(four_segments(&disk, &cache)));
    let reader = log.lock().expect("free").reader();
    disk.before_open(".log", OpenMode::Read, {
        let log = log.clone();
        move || assert_eq!(log.lock().expect("free").advance_log_start(4).expect("advanced").segments, 2)
    });
    let newest = reader.max_timestamp(9).expect("not an error of the disk").expect("there");
    assert_eq!((newest.offset, newest.timestamp), (8, NOW_MS + 8000));
    assert!(disk.exists(&Path::new(DIR).join("00000000000000000004.log")).expect("looked"));
}
