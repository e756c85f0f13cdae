// SPDX-License-Identifier: Apache-2.0
//! The controller of one voter across restarts.

use odradek_disk::{Outage, SimulatedDisk};
use odradek_model::DirectoryId;
use uuid::Uuid;

use super::*;
use crate::{AllocateProducerIds, CreateTopics, Endpoint, NewTopic, ProducerIdBlock, RegisterBroker};

fn dir() -> &'static Path {
    Path::new("/data/metadata")
}

fn start(disk: &SimulatedDisk, epoch: ControllerEpoch) -> Controller {
    let (mut controller, _) =
        Controller::open(Arc::new(disk.clone()), dir(), ControllerSettings::default()).expect("opens");
    assert!(controller.promise(epoch, "1/x").expect("promises"));
    controller.lead(epoch, BrokerId(1), "x", &cluster()).expect("leads");
    controller
}

fn cluster() -> ClusterId {
    ClusterId::new("c").expect("an id")
}

fn register(controller: &mut Controller, incarnation: u128) -> i64 {
    let command = Command::RegisterBroker(RegisterBroker {
        broker_id: BrokerId(1),
        cluster_id: cluster(),
        incarnation: Uuid::from_u128(incarnation),
        directory_id: DirectoryId(Uuid::from_u128(1)),
        endpoints: vec![Endpoint { listener: "PLAIN".into(), host: "h".into(), port: 1, security_protocol: 0 }],
        rack: None,
        boot_id: String::new(),
        clean_shutdown_of: None,
        damaged_logs: vec![],
        supported_feature_level: 2,
    });
    match controller.execute(&command, 0) {
        Ok(Reply::RegisterBroker(Ok(epoch))) => epoch,
        other => panic!("{other:?}"),
    }
}

fn create(name: &str) -> Command {
    let topic = NewTopic {
        name: name.into(),
        id: odradek_model::TopicId(Uuid::from_u128(name.len() as u128)),
        partitions: 2,
        replication_factor: 1,
        assignments: vec![],
        settings: vec![],
    };
    Command::CreateTopics(CreateTopics { topics: vec![topic], validate_only: false, placement_seed: 0 })
}

#[test]
fn what_was_answered_is_there_after_a_loss_of_power() {
    let disk = SimulatedDisk::new(1);
    disk.create_dir_all(Path::new("/data")).expect("a folder");
    disk.sync_dir(Path::new("/")).expect("synced");
    MetadataLog::format(&disk, dir()).expect("formats");
    let mut first_ids = Vec::new();
    let mut epochs = Vec::new();
    for start_number in 1..4 {
        let mut controller = start(&disk, start_number);
        let epoch = register(&mut controller, start_number as u128);
        epochs.push(epoch);
        let name = "t".repeat(start_number as usize);
        assert!(matches!(controller.execute(&create(&name), 0), Ok(Reply::CreateTopics(r)) if r[0].1.is_ok()));
        let ids = Command::AllocateProducerIds(AllocateProducerIds { broker_id: BrokerId(1), broker_epoch: epoch });
        match controller.execute(&ids, 0) {
            Ok(Reply::AllocateProducerIds(Ok(ProducerIdBlock { first, .. }))) => first_ids.push(first),
            other => panic!("{other:?}"),
        }
        assert_eq!(controller.image().topic_count(), start_number as usize);
        assert_eq!(controller.image().controller().map(|c| c.epoch), Some(start_number));
        disk.restart(Outage::PowerLossOfAllUnsynced);
    }
    assert_eq!(first_ids, [0, 1000, 2000]);
    assert!(epochs.is_sorted_by(|a, b| a < b), "{epochs:?}");
}

#[test]
fn only_the_leader_decides_and_a_higher_promise_ends_it() {
    let disk = SimulatedDisk::new(2);
    disk.create_dir_all(Path::new("/data")).expect("a folder");
    MetadataLog::format(&disk, dir()).expect("formats");
    let mut controller = start(&disk, 1);
    register(&mut controller, 1);
    assert!(controller.promise(2, "2/y").expect("promises"));
    assert!(matches!(controller.execute(&create("a"), 0), Err(ControllerError::NotController)));
    // Refusals need no write.
    drop(controller);
    let (mut controller, _) =
        Controller::open(Arc::new(disk.clone()), dir(), ControllerSettings::default()).expect("opens");
    assert!(controller.promise(3, "1/z").expect("promises"));
    let other = ClusterId::new("other").expect("an id");
    let error = controller.lead(3, BrokerId(1), "z", &other).expect_err("another cluster");
    assert!(error.to_string().contains("belongs to cluster c"), "{error}");
}
