// SPDX-License-Identifier: Apache-2.0
//! Whose folder, and that a folder of somebody else is not touched.

use odradek_disk::{DirEntry, OpenMode, Outage, RealDisk, SimulatedDisk};
use uuid::Uuid;

use super::*;

const PATH: &str = "/data";

fn path() -> &'static Path {
    Path::new(PATH)
}

fn identity() -> Identity {
    Identity {
        cluster_id: ClusterId::new("ours").expect("an id"),
        broker_id: BrokerId(3),
        directory_id: DirectoryId(Uuid::from_u128(7)),
        last_holder: None,
    }
}

fn disk() -> Arc<dyn Disk> {
    Arc::new(SimulatedDisk::new(1))
}

fn format(disk: &Arc<dyn Disk>) -> Result<(), DataFolderError> {
    DataFolder::format(disk, path(), &identity(), |_, _| Ok(()))
}

fn open(disk: &Arc<dyn Disk>) -> Result<DataFolder, DataFolderError> {
    DataFolder::open(Arc::clone(disk), path(), Some(&identity().cluster_id), Some(BrokerId(3)))
}

fn put(disk: &Arc<dyn Disk>, name: &str, text: &str) {
    disk.create_dir_all(path()).expect("a folder");
    let file = disk.open(&path().join(name), OpenMode::Create).expect("opens");
    file.truncate(0).expect("cut");
    file.write_at(text.as_bytes(), 0).expect("written");
}

/// Refused by opening and by formatting, with the same text, and the folder stays as it is.
fn refused(disk: &Arc<dyn Disk>, text: &str) {
    let entries = || -> Vec<DirEntry> { disk.list(path()).expect("lists") };
    let before = entries();
    let error = open(disk).expect_err("refused").to_string();
    assert!(error.contains(text) && error.contains(PATH), "{error}");
    assert!(format(disk).is_err());
    assert_eq!(entries(), before);
}

#[test]
fn a_formatted_folder_opens_with_its_identity_and_remembers_its_holder() {
    let disk = disk();
    assert!(matches!(open(&disk), Err(DataFolderError::NotFormatted(_))));
    assert_eq!(DataFolder::identity_at(disk.as_ref(), path()).expect("reads"), None);
    assert!(!disk.exists(path()).expect("looks"), "looking makes no folder");
    format(&disk).expect("formats");
    let mut folder = open(&disk).expect("opens");
    assert_eq!(*folder.identity(), identity());
    folder.set_last_holder("pod-1").expect("written");
    drop(folder);
    let folder = open(&disk).expect("opens again");
    assert_eq!(folder.identity().last_holder.as_deref(), Some("pod-1"));
    assert!(matches!(format(&disk), Err(DataFolderError::Formatted { .. })));
}

#[test]
fn a_folder_in_use_is_refused() {
    let disk = disk();
    format(&disk).expect("formats");
    let folder = open(&disk).expect("opens");
    let error = open(&disk).expect_err("in use");
    assert!(matches!(error, DataFolderError::InUse(_)));
    assert_eq!(error.to_string(), "the data folder /data is in use by another process");
    drop(folder);
    open(&disk).expect("opens");
}

#[test]
fn a_real_folder_in_use_is_refused() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("data");
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    DataFolder::format(&disk, &path, &identity(), |_, _| Ok(())).expect("formats");
    let folder = DataFolder::open(Arc::clone(&disk), &path, None, None).expect("opens");
    let again = DataFolder::open(Arc::clone(&disk), &path, None, None);
    assert!(matches!(again, Err(DataFolderError::InUse(_))));
    drop(folder);
    DataFolder::open(disk, &path, None, None).expect("opens");
}

#[test]
fn folders_of_others_are_refused_by_name_and_not_touched() {
    let disk_ = disk();
    format(&disk_).expect("formats");
    let other = ClusterId::new("other").expect("an id");
    let error = DataFolder::open(Arc::clone(&disk_), path(), Some(&other), None).expect_err("another cluster");
    assert_eq!(error.to_string(), "the data folder /data belongs to cluster ours, not to other");
    let error = DataFolder::open(disk_, path(), None, Some(BrokerId(4))).expect_err("another broker");
    assert_eq!(error.to_string(), "the data folder /data belongs to broker 3, not to broker 4");

    let newer = disk();
    put(&newer, IDENTITY_FILE, r#"{"formatVersion": 2, "whatever": true}"#);
    refused(&newer, "format version 2");

    for (bad, reason) in [
        ("", "unreadable"),
        ("{", "unreadable"),
        ("{}", "formatVersion"),
        (
            r#"{"formatVersion":1,"clusterId":"c","brokerId":-1,"directoryId":"AAAAAAAAAAAAAAAAAAAAAA","complete":true}"#,
            "-1",
        ),
        (
            r#"{"formatVersion":1,"clusterId":"","brokerId":1,"directoryId":"AAAAAAAAAAAAAAAAAAAAAA","complete":true}"#,
            "cluster id",
        ),
        (r#"{"formatVersion":1,"clusterId":"c","brokerId":1,"directoryId":"x","complete":true}"#, "directory id"),
    ] {
        let disk = disk();
        put(&disk, IDENTITY_FILE, bad);
        put(&disk, "t-0.log", "data");
        refused(&disk, reason);
    }
    let huge = disk();
    put(&huge, IDENTITY_FILE, &" ".repeat(MAX_BYTES + 1));
    refused(&huge, "unreadable");

    let foreign = disk();
    put(&foreign, "holiday.jpg", "picture");
    refused(&foreign, "holiday.jpg");
}

#[test]
fn a_new_file_system_counts_as_empty() {
    let disk = disk();
    disk.create_dir_all(&path().join("lost+found")).expect("a folder");
    format(&disk).expect("formats");
    open(&disk).expect("opens");
}

#[test]
fn fields_of_a_later_version_are_written_back() {
    let disk = disk();
    let text = r#"{"formatVersion":1,"clusterId":"ours","brokerId":3,"directoryId":"AAAAAAAAAAAAAAAAAAAABw","complete":true,"colour":"blue"}"#;
    put(&disk, IDENTITY_FILE, text);
    open(&disk).expect("opens").set_last_holder("x").expect("written");
    let bytes = read_small_file(disk.as_ref(), &path().join(IDENTITY_FILE), MAX_BYTES).expect("reads").expect("there");
    assert!(String::from_utf8_lossy(&bytes).contains("blue"));
}

#[test]
fn a_format_cut_short_anywhere_can_be_done_again() {
    for outage in [Outage::ProcessDeath, Outage::PowerLoss, Outage::PowerLossOfAllUnsynced] {
        for at in 0.. {
            let simulated = SimulatedDisk::new(at);
            simulated.crash_at(Some(at));
            let disk: Arc<dyn Disk> = Arc::new(simulated.clone());
            // What the caller prepares is made anew if an earlier attempt may have left some.
            let prepare = |path: &Path, again: bool| {
                let file = path.join("prepared");
                let make = || -> Result<(), DiskError> {
                    if again && disk.exists(&file)? {
                        disk.remove_file(&file)?;
                    }
                    disk.open(&file, OpenMode::CreateNew)?.sync()?;
                    disk.sync_dir(path)
                };
                make().map_err(|error| error.to_string())
            };
            let done = DataFolder::format(&disk, path(), &identity(), prepare).is_ok();
            let finished = done && !simulated.is_crashed();
            simulated.restart(outage);
            let found =
                DataFolder::identity_at(disk.as_ref(), path()).unwrap_or_else(|e| panic!("{outage:?} {at}: {e}"));
            if done {
                assert_eq!(found, Some(identity()), "{outage:?} at {at}");
            }
            if found.is_none() {
                DataFolder::format(&disk, path(), &identity(), prepare)
                    .unwrap_or_else(|e| panic!("{outage:?} {at}: {e}"));
            }
            open(&disk).unwrap_or_else(|e| panic!("{outage:?} {at}: {e}"));
            assert!(disk.exists(&path().join("prepared")).expect("looks"), "{outage:?} at {at}");
            if finished {
                assert!(at > 10);
                break;
            }
        }
    }
}
