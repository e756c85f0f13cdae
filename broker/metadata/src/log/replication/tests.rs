// SPDX-License-Identifier: Apache-2.0
//! One broker's batches and snapshots in another broker's log, on disks that crash and rot.

use odradek_disk::{Disk, Outage, SimulatedDisk};

use super::super::tests::{arc, dir, formatted, open, promise, records};
use super::*;

/// A log of batches of so many records under the epochs.
fn filled(seed: u64, batches: &[(i64, i64)]) -> (SimulatedDisk, MetadataLog) {
    let disk = formatted(seed);
    let (mut log, _, _) = open(&disk);
    for (epoch, count) in batches {
        assert!(log.promise(promise(*epoch)).expect("promises"));
        log.append(*epoch, &records(log.position().end, *count)).expect("appends");
    }
    (disk, log)
}

const BATCHES: [(i64, i64); 5] = [(1, 1), (1, 3), (2, 2), (5, 1), (5, 4)];

#[test]
fn batches_of_one_log_make_the_same_log_elsewhere() {
    let (disk, log) = filled(1, &BATCHES);
    let (again, _, _) = open(&disk);
    // From memory of the places and from the file alone.
    for source in [&log, &again] {
        for max_bytes in [1, 100, 150, 1 << 20] {
            let other = formatted(2);
            let (mut copy, _, _) = open(&other);
            copy.promise(promise(7)).expect("promises");
            while copy.position() < source.position() {
                let batches = source.read(copy.position().end, max_bytes).expect("reads");
                assert!(!batches.is_empty() && (max_bytes > 1 || batches.len() == 1));
                copy.append_batches(&batches).expect("appends");
            }
            assert_eq!(copy.position(), source.position());
            other.restart(Outage::PowerLossOfAllUnsynced);
            let (copy, image, _) = open(&other);
            assert_eq!(image.to_records(), source.image().expect("replays").to_records());
            for epoch in 0..9 {
                assert_eq!(copy.epoch_end(epoch), source.epoch_end(epoch), "epoch {epoch}");
            }
        }
    }
    assert_eq!(log.read(11, 100).expect("reads"), [], "nothing follows the end");
    let error = log.read(2, 100).expect_err("in the middle of a batch");
    assert!(matches!(error, MetadataLogError::Received(_)) && !error.is_fatal(), "a peer's word stops nobody: {error}");
}

#[test]
fn a_torn_write_of_several_batches_is_cut_and_later_damage_is_corruption() {
    let (_, source) = filled(1, &BATCHES);
    let batches = source.read(0, 1 << 20).expect("reads");
    for cut in 0..1000 {
        let disk = formatted(cut);
        let (mut log, _, _) = open(&disk);
        log.promise(promise(9)).expect("promises");
        disk.crash_at(Some(cut % 3));
        let done = log.append_batches(&batches).is_ok();
        disk.restart(Outage::PowerLoss);
        let (log, image, _) = open(&disk);
        assert!(!done || log.position() == source.position());
        assert_eq!(image.end_offset(), log.position().end);
    }
    // A byte of any batch rots after a second write has proved the first: the log says so and opens no more.
    let disk = formatted(3);
    let (mut log, _, _) = open(&disk);
    log.promise(promise(9)).expect("promises");
    log.append_batches(&batches).expect("appends");
    let first_write = log.file_len;
    log.append(9, &records(11, 1)).expect("appends");
    for at in 0..first_write {
        disk.corrupt(&segment_path(dir(), 0), at, 0x10);
        let error = MetadataLog::open(arc(&disk), dir()).expect_err("corrupt");
        assert!(matches!(error, MetadataLogError::Corrupt { .. }), "byte {at}: {error}");
        disk.corrupt(&segment_path(dir(), 0), at, 0x10);
    }
    open(&disk);
}

#[test]
fn what_does_not_fit_is_refused_and_changes_nothing() {
    let (_, source) = filled(1, &BATCHES);
    let batches = source.read(0, 1 << 20).expect("reads");
    let (disk, mut log) = filled(2, &[(1, 1)]);
    log.promise(promise(4)).expect("promises");
    let damaged = |at: usize| {
        let mut bytes = batches[1].bytes.to_vec();
        bytes[at] ^= 1;
        MetadataBatch { bytes: Bytes::from(bytes), ..batches[1].clone() }
    };
    let mut bad: Vec<Vec<MetadataBatch>> = (0..batches[1].bytes.len()).map(|at| vec![damaged(at)]).collect();
    bad.push(vec![batches[0].clone()]);
    bad.push(vec![batches[2].clone()]);
    bad.push(vec![batches[1].clone(), batches[3].clone()]);
    bad.push(batches[1..4].to_vec()); // epoch 5 was not promised
    bad.push(vec![MetadataBatch { end_offset: 5, ..batches[1].clone() }]);
    for bad in bad {
        let error = log.append_batches(&bad).expect_err("refused");
        assert!(!error.is_fatal(), "{error}");
        assert_eq!(log.position().end, 1);
    }
    log.append_batches(&batches[1..3]).expect("what fits is taken");
    disk.restart(Outage::PowerLossOfAllUnsynced);
    assert_eq!(open(&disk).0.position(), LogPosition { epoch: 2, end: 6 });
    for at in 0..batches[1].bytes.len() {
        assert!(MetadataBatch::parse(damaged(at).bytes).is_err());
    }
    assert_eq!(MetadataBatch::parse(batches[1].bytes.clone()).expect("one batch"), batches[1]);
}

#[test]
fn a_snapshot_goes_over_in_parts_and_the_rest_of_the_log_follows_it() {
    let (_, mut source) = filled(1, &BATCHES);
    let mut committed = Image::empty();
    for batch in source.read(0, 1 << 20).expect("reads").iter().take(3) {
        for record in batch.records().expect("records") {
            committed.apply_mut(batch.epoch, &record).expect("fits");
        }
    }
    source.write_snapshot(&committed).expect("written");
    assert_eq!(source.start(), LogPosition { epoch: 2, end: 6 });
    assert_eq!(source.committed_image().expect("reads").to_records(), committed.to_records());
    let mut bytes = Vec::new();
    while (bytes.len() as u64) < source.snapshot_bytes() {
        bytes.extend_from_slice(&source.read_snapshot(bytes.len() as u64, 7).expect("reads"));
    }
    let (disk, mut copy) = filled(2, &[(1, 1), (3, 8)]);
    assert!(matches!(copy.install_snapshot(&bytes[1..]), Err(MetadataLogError::Received(_))));
    copy.install_snapshot(&bytes).expect("installs");
    assert_eq!((copy.position(), copy.start()), (source.start(), source.start()));
    copy.promise(promise(5)).expect("promises");
    copy.append_batches(&source.read(6, 1 << 20).expect("reads")).expect("appends");
    disk.restart(Outage::PowerLossOfAllUnsynced);
    let (copy, image, _) = open(&disk);
    assert_eq!((copy.position(), copy.start()), (source.position(), source.start()));
    assert_eq!(image.to_records(), source.image().expect("replays").to_records());
}

#[test]
fn the_voters_are_kept_with_the_promise() {
    let (disk, mut log) = filled(1, &[(1, 1)]);
    log.store_voters(b"somebody").expect("stored");
    assert!(log.promise(promise(2)).expect("promises"));
    disk.restart(Outage::PowerLossOfAllUnsynced);
    let (log, _, _) = open(&disk);
    assert_eq!((log.promised().epoch, log.promised().voters.as_slice()), (2, &b"somebody"[..]));
    // The file of a broker that knew no voters.
    let mut bytes = b"ODP1\0\0\0\0".to_vec();
    bytes.extend_from_slice(&7_i64.to_be_bytes());
    bytes.extend_from_slice(b"1/x");
    let crc = super::super::batch::checksum(&[], &bytes[8..]);
    bytes[4..8].copy_from_slice(&crc.to_be_bytes());
    odradek_disk::write_file_durably(&disk, &dir().join("promise"), &bytes).expect("written");
    let (log, _, _) = open(&disk);
    assert_eq!((log.promised().epoch, log.promised().holder.as_str()), (7, "1/x"));
    assert!(log.promised().voters.is_empty());
    assert!(disk.exists(dir()).expect("there"));
}
