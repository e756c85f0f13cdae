// SPDX-License-Identifier: Apache-2.0
//! Both adapters keep the port's contract; the simulated one loses exactly what it may.

use odradek_disk::{
    Disk, DiskErrorKind, DiskOperation, Fault, FileRegion, OpenMode, Outage, RealDisk, SimulatedDisk, read_small_file,
    write_file_durably,
};
use std::path::{Path, PathBuf};

fn contract(disk: &dyn Disk, root: &Path) {
    let dir = root.join("a/b");
    disk.create_dir_all(&dir).expect("made");
    disk.create_dir_all(&dir).expect("made again");
    let path = dir.join("file");
    assert_eq!(disk.open(&path, OpenMode::Read).expect_err("missing").kind, DiskErrorKind::NotFound);
    let file = disk.open(&path, OpenMode::CreateNew).expect("new");
    assert_eq!(disk.open(&path, OpenMode::CreateNew).expect_err("taken").kind, DiskErrorKind::AlreadyExists);
    file.write_at(b"hello", 3).expect("written");
    file.write_pair_at(b" wo", b"rld", 8).expect("written");
    file.write_pair_at(b"", b"!", 14).expect("written");
    file.write_pair_at(b"?", b"", 15).expect("written");
    file.sync().expect("synced");
    disk.sync_dir(&dir).expect("synced");
    assert_eq!(file.len().expect("len"), 16);
    let mut buffer = [1; 20];
    assert_eq!(file.read_at(&mut buffer, 0).expect("read"), 16);
    assert_eq!(&buffer[..16], b"\0\0\0hello world!?");
    for spare in [0, 100] {
        let mut appended = Vec::with_capacity(spare);
        appended.extend_from_slice(b"> ");
        assert_eq!(file.read_append(&mut appended, 5, 3).expect("read"), 5);
        assert_eq!(file.read_append(&mut appended, 50, 14).expect("read"), 2);
        assert_eq!(appended, b"> hello!?");
    }
    let mut cached = b"> ".to_vec();
    if let Some(read) = file.read_cached(&mut cached, 50, 14).expect("read") {
        assert_eq!((read, &cached[..]), (2, &b"> !?"[..]));
    } else {
        assert_eq!(cached, b"> ");
    }
    let mut region = FileRegion::new(file.clone(), 3, 20);
    assert_eq!(region.read(5).expect("read"), b"hello");
    assert_eq!(region.read(50).expect("read"), b" world!?");
    assert_eq!((region.len(), region.read(50).expect("nothing is left")), (7, Vec::new()));
    let reader = disk.open(&path, OpenMode::Read).expect("there");
    assert!(reader.write_at(b"x", 0).is_err());
    file.truncate(5).expect("cut");
    assert_eq!(reader.len().expect("len"), 5);

    let other = dir.join("other");
    disk.rename(&path, &other).expect("renamed");
    assert_eq!(disk.file_len(&path).expect("looked"), None);
    assert_eq!(disk.file_len(&other).expect("looked"), Some(5));
    assert_eq!(disk.file_len(&dir).expect("looked"), None);
    disk.remove_file(&other).expect("removed");
    assert_eq!(disk.remove_file(&other).expect_err("gone").kind, DiskErrorKind::NotFound);
    assert_eq!(reader.len().expect("handles stay"), 5);

    write_file_durably(disk, &other, b"one").expect("stored");
    write_file_durably(disk, &other, b"two").expect("replaced");
    assert_eq!(read_small_file(disk, &other, 3).expect("read").as_deref(), Some(&b"two"[..]));
    assert_eq!(read_small_file(disk, &other, 2).expect_err("bounded").kind, DiskErrorKind::TooLarge);
    assert_eq!(read_small_file(disk, &path, 2).expect("missing is no error"), None);
    let names: Vec<String> = disk.list(&dir).expect("listed").into_iter().map(|entry| entry.name).collect();
    assert_eq!(names, ["other"]);
    assert!(disk.free_bytes(&dir).expect("space") > 0);
    assert!(disk.total_bytes(&dir).expect("space") >= disk.free_bytes(&dir).expect("space"));

    let held = disk.lock(&dir.join("lock")).expect("free");
    assert_eq!(disk.lock(&dir.join("lock")).expect_err("held").kind, DiskErrorKind::Locked);
    drop(held);
    disk.lock(&dir.join("lock")).expect("free again");
    disk.remove_dir_all(&root.join("a")).expect("removed");
    assert!(!disk.exists(&dir).expect("looked"));
    assert_eq!(disk.list(&dir).expect_err("gone").kind, DiskErrorKind::NotFound);
}

#[test]
fn the_real_disk_keeps_the_contract() {
    let dir = tempfile::tempdir().expect("a folder");
    contract(&RealDisk, dir.path());
}

#[test]
fn the_simulated_disk_keeps_the_contract() {
    contract(&SimulatedDisk::new(1), Path::new("/data"));
}

#[test]
fn what_was_not_synced_in_a_folder_that_was_renamed_is_not_in_another_of_its_name() {
    let disk = SimulatedDisk::new(1);
    let (root, folder, aside) = (Path::new("/"), Path::new("/d"), Path::new("/aside"));
    disk.create_dir_all(folder).expect("made");
    disk.sync_dir(root).expect("synced");
    disk.open(&folder.join("old"), OpenMode::CreateNew).expect("new");
    disk.rename(folder, aside).expect("renamed");
    disk.sync_dir(root).expect("synced");
    disk.create_dir_all(folder).expect("made anew");
    disk.sync_dir(root).expect("synced");
    disk.open(&folder.join("new"), OpenMode::CreateNew).expect("new");
    disk.sync_dir(folder).expect("synced");
    disk.sync_dir(aside).expect("synced");
    disk.restart(Outage::PowerLossOfAllUnsynced);
    let names = |dir| disk.list(dir).expect("listed").into_iter().map(|entry| entry.name).collect::<Vec<_>>();
    assert_eq!((names(folder), names(aside)), (vec!["new".to_owned()], vec!["old".to_owned()]));
}

#[test]
fn a_power_loss_keeps_what_was_synced_and_may_take_the_rest() {
    let mut lengths = std::collections::BTreeSet::new();
    for seed in 0..200 {
        let disk = SimulatedDisk::new(seed);
        let path = PathBuf::from("/d/f");
        disk.create_dir_all(Path::new("/d")).expect("made");
        disk.sync_dir(Path::new("/")).expect("synced");
        let file = disk.open(&path, OpenMode::CreateNew).expect("new");
        file.write_at(&[7; 1000], 0).expect("written");
        file.sync().expect("synced");
        disk.sync_dir(Path::new("/d")).expect("synced");
        file.write_at(&[8; 1000], 1000).expect("written");
        disk.restart(Outage::PowerLoss);
        assert!(file.len().is_err(), "handles of the process that died are dead");
        let bytes = read_small_file(&disk, &path, 5000).expect("read").expect("the name was synced");
        assert!(bytes[..1000].iter().all(|byte| *byte == 7), "seed {seed}");
        assert!(bytes[1000..].iter().all(|byte| *byte == 8 || *byte == 0), "seed {seed}");
        lengths.insert((bytes.len(), bytes.iter().map(|byte| u32::from(*byte == 8)).sum::<u32>()));
    }
    assert!(lengths.len() > 20, "losses differ by seed: {lengths:?}");
}

#[test]
fn unsynced_names_may_go_and_a_process_death_loses_nothing() {
    let mut found = [0; 2];
    for seed in 0..50 {
        for (at, outage) in [Outage::PowerLoss, Outage::ProcessDeath].into_iter().enumerate() {
            let disk = SimulatedDisk::new(seed);
            disk.open(Path::new("/f"), OpenMode::CreateNew).expect("new").write_at(b"x", 0).expect("written");
            disk.restart(outage);
            found[at] += u32::from(disk.exists(Path::new("/f")).expect("looked"));
        }
    }
    assert!(found[0] > 5 && found[0] < 45, "{found:?}");
    assert_eq!(found[1], 50);
}

#[test]
fn a_failed_sync_loses_the_bytes_even_if_a_later_one_succeeds() {
    let disk = SimulatedDisk::new(3);
    let file = disk.open(Path::new("/f"), OpenMode::CreateNew).expect("new");
    disk.sync_dir(Path::new("/")).expect("synced");
    file.write_at(b"first", 0).expect("written");
    file.sync().expect("synced");
    file.write_at(b"second", 5).expect("written");
    disk.inject(Fault { operation: DiskOperation::Sync, path_suffix: "f".to_owned(), after: 0, times: 1 });
    assert!(file.sync().is_err());
    file.sync().expect("the lie");
    disk.restart(Outage::PowerLossOfAllUnsynced);
    let bytes = read_small_file(&disk, Path::new("/f"), 100).expect("read").expect("there");
    assert_eq!(bytes, b"first");
}

#[test]
fn a_small_file_whose_sync_failed_is_not_used_again() {
    let disk = SimulatedDisk::new(3);
    let path = Path::new("/f");
    write_file_durably(&disk, path, b"old").expect("stored");
    disk.inject(Fault { operation: DiskOperation::Sync, path_suffix: "f.tmp".to_owned(), after: 0, times: 1 });
    assert!(write_file_durably(&disk, path, b"new").is_err());
    assert_eq!(read_small_file(&disk, path, 100).expect("read").as_deref(), Some(&b"old"[..]));
    write_file_durably(&disk, path, b"newer").expect("stored");
    disk.restart(Outage::PowerLossOfAllUnsynced);
    assert_eq!(read_small_file(&disk, path, 100).expect("read").as_deref(), Some(&b"newer"[..]));
}

#[test]
fn a_crash_in_any_call_is_torn_and_the_same_each_time() {
    let run = |seed: u64, at: u64| {
        let disk = SimulatedDisk::new(seed);
        disk.crash_at(Some(at));
        let result = (|| {
            let file = disk.open(Path::new("/f"), OpenMode::Create)?;
            file.write_at(&[1; 100], 0)?;
            file.sync()?;
            write_file_durably(&disk, Path::new("/g"), b"new")
        })();
        let crashed = disk.is_crashed();
        assert_eq!(result.is_err(), crashed);
        disk.restart(Outage::PowerLoss);
        (crashed, disk.list(Path::new("/")).expect("listed"))
    };
    let mut calls = 0;
    while run(9, calls).0 {
        assert_eq!(run(9, calls), run(9, calls));
        calls += 1;
    }
    assert_eq!(calls, 8, "open, write, sync; then open, write, sync, rename, sync of the folder");
}

#[test]
fn a_full_disk_takes_what_fits_and_says_so() {
    let disk = SimulatedDisk::new(1);
    disk.set_capacity(Some(10));
    let file = disk.open(Path::new("/f"), OpenMode::CreateNew).expect("new");
    file.write_at(b"12345678", 0).expect("fits");
    assert_eq!(disk.free_bytes(Path::new("/")).expect("space"), 2);
    assert!(file.write_at(b"abcd", 8).expect_err("full").is_no_space());
    assert_eq!(file.len().expect("len"), 10);
    file.write_at(b"zz", 0).expect("overwriting needs no room");
    file.truncate(0).expect("cut");
    file.write_at(b"abcd", 0).expect("fits again");
    file.write_at(b"0123456789", 0).expect("fits");
    disk.remove_file(Path::new("/f")).expect("removed");
    assert_eq!(disk.free_bytes(Path::new("/")).expect("space"), 0, "the handle still reads it");
    drop(file);
    assert_eq!(disk.free_bytes(Path::new("/")).expect("space"), 10);
    assert_eq!(disk.total_bytes(Path::new("/")).expect("space"), 10);
}

/// Whatever the socket takes at a time, it gets every byte once and in order.
#[cfg(target_os = "linux")]
#[test]
fn a_part_of_a_real_file_goes_into_a_socket() {
    use std::io::{ErrorKind, Read};
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    let root = tempfile::tempdir().expect("a folder");
    let file = RealDisk.open(&root.path().join("file"), OpenMode::Create).expect("opened");
    let bytes: Vec<u8> = (0..1_000_000u32).map(|at| (at % 251) as u8).collect();
    file.write_at(&bytes, 0).expect("written");
    assert!(file.is_cached(0, bytes.len()), "what was just written is in memory");

    let (sender, mut receiver) = UnixStream::pair().expect("a pair");
    sender.set_nonblocking(true).expect("set");
    let mut region = FileRegion::new(file.clone(), 10, 900_000);
    let mut received = Vec::new();
    let mut buffer = vec![0; 70_000];
    while received.len() < 900_000 {
        match region.send(sender.as_fd(), 300_000) {
            Ok(()) => {}
            Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
        }
        let read = receiver.read(&mut buffer).expect("received");
        received.extend_from_slice(&buffer[..read]);
    }
    assert!(region.is_empty());
    assert!(received == bytes[10..900_010], "every byte once and in order");

    let mut region = FileRegion::new(file.clone(), 999_990, 20);
    file.truncate(999_000).expect("cut");
    assert_eq!(region.send(sender.as_fd(), 20).expect_err("nothing is there").kind(), ErrorKind::UnexpectedEof);
}
