// SPDX-License-Identifier: Apache-2.0
//! Compare-and-set, the same for both local Leases.

use std::path::Path;
use std::sync::Arc;

use odradek_disk::{Disk, DiskOperation, Fault, OpenMode, Outage, SimulatedDisk};
use odradek_model::{BrokerId, DirectoryId};
use uuid::Uuid;

use super::*;

fn cluster() -> ClusterId {
    ClusterId::new("c").expect("an id")
}

fn holder(id: i32) -> Holder {
    Holder { broker_id: BrokerId(id), incarnation: "x".into() }
}

fn change(epoch: i64, id: i32) -> LeaseChange {
    let voter = Voter { broker_id: BrokerId(id), directory_id: DirectoryId(Uuid::from_u128(1)) };
    LeaseChange { epoch, holder: Some(holder(id)), voters: vec![voter] }
}

fn file(disk: &SimulatedDisk) -> FileLease {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    FileLease::at(disk, Path::new("/leases/controller.json"))
}

fn file_disk() -> SimulatedDisk {
    let disk = SimulatedDisk::new(1);
    disk.create_dir_all(Path::new("/leases")).expect("a folder");
    disk.sync_dir(Path::new("/")).expect("synced");
    disk
}

fn written(outcome: Result<WriteOutcome, LeaseError>) -> LeaseView {
    match outcome {
        Ok(WriteOutcome::Written(view)) => view,
        other => panic!("{other:?}"),
    }
}

fn behaves(lease: &dyn ControllerLease) {
    let first = lease.read().expect("reads").expect("there");
    assert_eq!((first.epoch, first.sequence, &first.holder, first.voters.len()), (0, 0, &None, 0));
    let taken = written(lease.compare_and_set(&first, &change(1, 1)));
    assert_eq!((taken.epoch, taken.sequence, &taken.holder), (1, 1, &Some(holder(1))));
    // A change based on an older view is refused, whatever it says.
    assert_eq!(lease.compare_and_set(&first, &change(9, 2)).expect("answers"), WriteOutcome::Refused);
    assert_eq!(lease.read().expect("reads"), Some(taken.clone()));
    let renewed = written(lease.compare_and_set(&taken, &change(1, 1)));
    assert_eq!(renewed.order(&taken), ViewOrder::Newer);
    assert_eq!(taken.order(&renewed), ViewOrder::Older);
    assert_eq!(taken.order(&taken), ViewOrder::Same);
    let again = LeaseView { uid: "other".into(), ..renewed.clone() };
    assert_eq!(again.order(&renewed), ViewOrder::OtherLease);
    assert_eq!(lease.compare_and_set(&again, &change(2, 1)).expect("answers"), WriteOutcome::Refused);
    // The epoch counts before the sequence.
    let ahead = LeaseView { epoch: 2, sequence: 0, ..renewed.clone() };
    assert_eq!(ahead.order(&renewed), ViewOrder::Newer);
    let released = LeaseChange { holder: None, ..change(1, 1) };
    assert_eq!(written(lease.compare_and_set(&renewed, &released)).holder, None);
}

#[test]
fn both_leases_behave_the_same() {
    behaves(&InProcessLease::new("uid", &cluster()));
    let lease = file(&file_disk());
    assert_eq!(lease.read().expect("reads"), None);
    lease.format("uid", &cluster()).expect("created");
    assert!(matches!(lease.format("uid", &cluster()), Err(LeaseError::Exists)));
    behaves(&lease);
}

#[test]
fn what_was_written_survives_a_loss_of_power_at_any_call() {
    for at in 0.. {
        let disk = file_disk();
        let lease = file(&disk);
        lease.format("uid", &cluster()).expect("created");
        let first = lease.read().expect("reads").expect("there");
        disk.crash_at(Some(at));
        let outcome = lease.compare_and_set(&first, &change(1, 1));
        let finished = !disk.is_crashed();
        disk.restart(Outage::PowerLoss);
        let found = file(&disk).read().expect("reads").expect("there");
        match outcome {
            Ok(WriteOutcome::Written(view)) => assert_eq!(found, view),
            Ok(WriteOutcome::Refused) => panic!("nobody else wrote"),
            Ok(WriteOutcome::Unknown(_)) => assert!(found.epoch <= 1),
            Err(_) => assert_eq!(found, first, "at {at}: an error means not written"),
        }
        if finished {
            assert!(at > 3);
            break;
        }
    }
}

#[test]
fn a_write_without_a_clear_end_is_unknown() {
    let disk = file_disk();
    let lease = file(&disk);
    let first = lease.format("uid", &cluster()).expect("created");
    disk.inject(Fault { operation: DiskOperation::SyncDir, path_suffix: String::new(), after: 0, times: 1 });
    assert!(matches!(lease.compare_and_set(&first, &change(1, 1)), Ok(WriteOutcome::Unknown(_))));
}

#[test]
fn a_lease_that_is_none_of_ours_is_malformed() {
    let whole = r#"{"uid":"u","clusterId":"c","leaseTransitions":1,"sequence":1,"holderIdentity":"1/x","voters":[]}"#;
    for (from, to) in [
        ("1/x", "me"),
        ("\"voters\":[]", "\"voters\":[\"1\"]"),
        ("\"c\"", "\"\""),
        ("Transitions\":1", "Transitions\":-1"),
        ("{", ""),
        ("\"uid\":\"u\",", ""),
    ] {
        let disk = file_disk();
        let opened = disk.open(Path::new("/leases/controller.json"), OpenMode::Create).expect("opens");
        opened.write_at(whole.replace(from, to).as_bytes(), 0).expect("written");
        let error = file(&disk).read().expect_err("malformed");
        assert!(matches!(error, LeaseError::Malformed(_)), "{to}: {error}");
    }
}
