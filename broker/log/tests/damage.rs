// SPDX-License-Identifier: Apache-2.0
//! A damaged log is told from a whole one by every start until that was told, wherever an earlier start was interrupted.

mod harness;

use harness::{DIR, NOW_MS, batch, new_log, open, options, small_settings, try_open};
use odradek_disk::{Disk, OpenMode, Outage, SimulatedDisk};
use odradek_log::{ExpectedLog, LogOptions, remove_damage_mark};
use odradek_model::Offset;
use std::path::{Path, PathBuf};

/// Records in each log.
const END: Offset = 80;
const OUTAGES: [Outage; 3] = [Outage::ProcessDeath, Outage::PowerLoss, Outage::PowerLossOfAllUnsynced];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Harm {
    /// A bit of a batch in the middle.
    Flipped,
    /// A bit of the length of a batch of the last segment, so that it seems to reach beyond the end.
    Lengthened,
    /// The second segment is not there.
    Hole,
    /// The last records are not there, and the log ends with a whole batch.
    Short,
    /// Nothing is there.
    Gone,
}

impl Harm {
    const ALL: [Self; 5] = [Self::Flipped, Self::Lengthened, Self::Hole, Self::Short, Self::Gone];
}

fn path(name: &str) -> PathBuf {
    Path::new(DIR).join(name)
}

fn expecting(end_offset: Offset, is_kept: bool) -> LogOptions {
    let expected = ExpectedLog { was_there: true, end_offset, is_kept, is_forced: false };
    LogOptions { expected: Some(expected), ..options(small_settings(), false, 0, 0) }
}

/// Names and lengths of the segments.
fn segments(disk: &SimulatedDisk) -> Vec<(String, u64)> {
    let entries = disk.list(Path::new(DIR)).unwrap_or_default();
    let is_segment = |name: &str| Path::new(name).extension().is_some_and(|extension| extension == "log");
    entries.into_iter().filter(|entry| is_segment(&entry.name)).map(|entry| (entry.name, entry.len)).collect()
}

/// A log of which everything was synced.
fn whole() -> SimulatedDisk {
    let (disk, mut log) = new_log(small_settings());
    for i in 0..END {
        log.append(batch(NOW_MS, format!("value {i}").as_bytes()), 0, NOW_MS).expect("appended");
    }
    log.flush().expect("flushed");
    assert!(log.segment_count() > 3);
    disk
}

/// The same, and harmed then.
fn harmed(harm: Harm) -> SimulatedDisk {
    let disk = whole();
    let names: Vec<_> = segments(&disk).into_iter().map(|(name, _)| name).collect();
    match harm {
        Harm::Flipped => disk.corrupt(&path(&names[0]), 700, 0xff),
        Harm::Lengthened => disk.corrupt(&path(&names[names.len() - 1]), 9, 0x10),
        Harm::Hole => disk.remove_file(&path(&names[1])).expect("removed"),
        Harm::Short => {
            let file = disk.open(&path(&names[names.len() - 1]), OpenMode::ReadWrite).expect("opened");
            file.truncate(0).expect("cut");
            file.sync().expect("synced");
        }
        Harm::Gone => {
            for entry in disk.list(Path::new(DIR)).expect("listed") {
                disk.remove_file(&path(&entry.name)).expect("removed");
            }
        }
    }
    disk.sync_dir(Path::new(DIR)).expect("synced");
    if harm == Harm::Gone {
        disk.remove_dir_all(Path::new(DIR)).expect("removed");
    }
    disk.sync_dir(Path::new("/data")).expect("synced");
    disk
}

#[test]
fn damage_is_found_again_wherever_the_start_that_found_it_was_interrupted() {
    for harm in Harm::ALL {
        // Only the one that ends with a whole batch needs a checkpoint to be found out.
        let end = if harm == Harm::Short { END } else { 0 };
        for outage in OUTAGES {
            let mut call = 0;
            loop {
                let disk = harmed(harm);
                let before = segments(&disk);
                disk.crash_at(Some(call));
                let first = try_open(&disk, expecting(end, true));
                let is_over = !disk.is_crashed();
                assert!(!is_over || first.is_ok_and(|(_, report)| report.damage.is_some()), "{harm:?}");
                disk.crash_at(None);
                disk.restart(outage);
                let is_as_before = segments(&disk) == before;

                // Once the first start was over, the checkpoints may have followed it.
                let is_kept = outage == Outage::ProcessDeath;
                let (log, second) = open(&disk, expecting(if is_over { 0 } else { end }, is_kept));
                // After a loss of power the log is not trusted anyway; only what recovery did must not look like its end.
                let must_be_found = is_kept || is_over || !is_as_before || harm == Harm::Gone;
                let what = format!("{harm:?}, {outage:?} in call {call}: {second:?}");
                assert!(second.damage.is_some() || !must_be_found, "{what}");
                drop(log);

                remove_damage_mark(&disk, Path::new(DIR)).expect("removed");
                disk.restart(Outage::PowerLossOfAllUnsynced);
                let (_, third) = open(&disk, expecting(0, false));
                assert_eq!(third.damage, None, "it was told; {what}");
                if is_over {
                    break;
                }
                call += 1;
            }
            assert!(call > 2, "{harm:?}: {call} calls");
        }
    }
}

#[test]
fn a_batch_that_a_killed_process_has_torn_is_no_damage() {
    let (name, len) = segments(&whole()).pop().expect("segments");
    for cut in 1..len {
        let disk = whole();
        disk.open(&path(&name), OpenMode::ReadWrite).expect("opened").truncate(cut).expect("cut");
        let (_, report) = open(&disk, expecting(0, true));
        assert_eq!(report.damage, None, "cut at {cut}: {report:?}");
    }
}

#[test]
fn without_an_expectation_nothing_is_damaged() {
    for harm in Harm::ALL {
        let disk = harmed(harm);
        let (_, report) = open(&disk, options(small_settings(), false, 0, 0));
        assert_eq!(report.damage, None, "{harm:?}");
        let (_, report) = open(&disk, expecting(0, true));
        assert_eq!(report.damage, None, "{harm:?}: nothing was marked");
    }
}

#[test]
fn a_log_that_is_forced_with_each_batch_shows_damage_also_after_a_loss_of_power() {
    for harm in [Harm::Flipped, Harm::Lengthened, Harm::Hole] {
        for is_forced in [true, false] {
            let disk = harmed(harm);
            let expected = ExpectedLog { was_there: true, end_offset: 0, is_kept: false, is_forced };
            let (_, report) = open(&disk, LogOptions { expected: Some(expected), ..expecting(0, false) });
            assert!(report.cut.is_some(), "{harm:?}");
            assert_eq!(report.damage.is_some(), is_forced, "{harm:?}, forced: {is_forced}");
        }
    }
}
