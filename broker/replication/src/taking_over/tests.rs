// SPDX-License-Identifier: Apache-2.0
//! Images that follow each other, and what they ask of broker 1.

use bytes::Bytes;
use odradek_metadata::records::{PartitionRecord, RemoveTopicRecord, TopicRecord, TopicSettingRecord};
use odradek_metadata::{Record, apply};
use odradek_model::TopicId;

use super::*;
use crate::Lane;

const OWN: BrokerId = BrokerId(1);

fn changed(image: &Image, records: impl IntoIterator<Item = Record>) -> Image {
    records.into_iter().fold(image.clone(), |image, record| apply(&image, 1, &record).expect("a good record"))
}

fn topic_id(topic: u8) -> Bytes {
    vec![topic; 16].into()
}

fn topic(topic: u8, name: &str) -> Record {
    TopicRecord { id: topic_id(topic), name: name.to_owned(), ..TopicRecord::default() }.into()
}

fn partition(topic: u8, partition: i32, replicas: &[i32], leader: i32, epoch: i32) -> PartitionRecord {
    PartitionRecord {
        topic_id: topic_id(topic),
        partition,
        replicas: replicas.to_vec(),
        isr: replicas.to_vec(),
        leader,
        leader_epoch: epoch,
        partition_epoch: epoch,
        ..PartitionRecord::default()
    }
}

fn setting(topic: u8, name: &str, value: &str) -> Record {
    let (name, value) = (name.to_owned(), Some(value.to_owned()));
    TopicSettingRecord { topic_id: topic_id(topic), name, value }.into()
}

fn defaults() -> TopicDefaults {
    TopicDefaults { overrides: odradek_model::TopicOverrides::new() }
}

/// A topic of two partitions, led by brokers 1 and 2.
fn orders() -> Image {
    let partitions = [partition(7, 0, &[1, 2, 3], 1, 0), partition(7, 1, &[2, 3], 2, 0)].map(Record::from);
    changed(&changed(&Image::empty(), [topic(7, "orders")]), partitions)
}

#[test]
fn a_new_topic_opens_what_is_this_brokers() {
    let (before, after) = (Image::empty(), orders());
    let taking = TakingOver::new(OWN, &before, &after, &defaults());
    assert!(taking.gone.is_empty() && !taking.brokers_changed);
    let tasks: Vec<_> = taking.changes.iter().map(|change| change.task(Present::Absent)).collect();
    assert_eq!(tasks, [Task::Open, Task::Keep], "the second is of others");
    let first = &taking.changes[0];
    assert_eq!((first.key.partition, first.is_changed, first.settings.min_insync_replicas), (0, true, 2));
    assert!(matches!(first.decided(), Decided::Leads(leadership) if leadership.in_sync.len() == 3));
    assert_eq!(first.task(Present::Offline), Task::Keep, "a start tries again");
    assert!(TakingOver::new(OWN, &after, &after.clone(), &defaults()).changes.is_empty());
}

#[test]
fn a_replica_is_told_of_its_own_changes_and_of_settings_alone() {
    let before = orders();
    let neighbour = changed(&before, [partition(7, 1, &[2, 3], 3, 1).into()]);
    let taking = TakingOver::new(OWN, &before, &neighbour, &defaults());
    let [first, second] = &taking.changes[..] else { panic!("the topic has changed: {taking:?}") };
    let obeyed = first.settings.clone();
    assert_eq!((first.task(Present::Open(&obeyed)), second.task(Present::Absent)), (Task::Keep, Task::Keep));

    let strict = changed(&before, [setting(7, "min.insync.replicas", "3")]);
    let taking = TakingOver::new(OWN, &before, &strict, &defaults());
    let first = &taking.changes[0];
    assert_eq!((first.task(Present::Open(&obeyed)), first.is_changed), (Task::Tell, false));
    assert_eq!(first.settings.min_insync_replicas, 3);

    let elected = changed(&before, [partition(7, 0, &[1, 2, 3], 2, 1).into()]);
    let taking = TakingOver::new(OWN, &before, &elected, &defaults());
    let first = &taking.changes[0];
    assert_eq!(first.task(Present::Open(&obeyed)), Task::Tell);
    let following = Followership { leader: BrokerId(2), leader_epoch: 1, partition_epoch: 1 };
    assert_eq!(first.decided(), Decided::Follows(following));
    let leaderless = changed(&before, [partition(7, 0, &[1, 2, 3], -1, 1).into()]);
    let taking = TakingOver::new(OWN, &before, &leaderless, &defaults());
    assert_eq!((taking.changes[0].decided(), taking.changes[0].fetcher(1)), (Decided::Leaderless, None));
}

#[test]
fn what_is_of_others_now_or_of_nobody_goes() {
    let before = orders();
    let moved = changed(&before, [partition(7, 0, &[2, 3], 2, 1).into()]);
    let taking = TakingOver::new(OWN, &before, &moved, &defaults());
    let first = &taking.changes[0];
    assert_eq!((first.task(Present::Open(&first.settings)), first.task(Present::Absent)), (Task::Delete, Task::Keep));
    assert_eq!((first.task(Present::Offline), first.fetcher(1)), (Task::Delete, None));

    let anew = changed(&before, [RemoveTopicRecord { id: topic_id(7) }.into(), topic(8, "orders")]);
    let anew = changed(&anew, [partition(8, 0, &[1], 1, 0).into()]);
    let taking = TakingOver::new(OWN, &before, &anew, &defaults());
    assert_eq!(taking.gone.iter().map(|topic| topic.id).collect::<Vec<_>>(), [before_id(&before)]);
    let first = &taking.changes[0];
    assert_eq!((first.task(Present::Absent), first.is_changed), (Task::Open, true), "one name, two topics");
}

fn before_id(image: &Image) -> TopicId {
    image.topic("orders").expect("it is there").id
}

#[test]
fn what_is_added_or_throttled_and_not_in_sync_has_a_lane_of_its_own() {
    let lane = |image: &Image| {
        let before = Image::empty();
        TakingOver::new(OWN, &before, image, &defaults()).changes[0].fetcher(1).map(|id| (id.leader.0, id.lane))
    };
    let followed = PartitionRecord { leader: 2, ..partition(7, 0, &[1, 2, 3], 2, 0) };
    let image = changed(&changed(&Image::empty(), [topic(7, "orders")]), [followed.clone().into()]);
    assert_eq!(lane(&image), Some((2, Lane::Ordinary(0))));
    let behind = PartitionRecord { isr: vec![2, 3], ..followed.clone() };
    let added = PartitionRecord { adding: vec![1], ..behind.clone() };
    assert_eq!(lane(&changed(&image, [added.into()])), Some((2, Lane::Reassignment)));
    let slowed = setting(7, "follower.replication.throttled.replicas", "*");
    assert_eq!(lane(&changed(&image, [slowed.clone()])), Some((2, Lane::Ordinary(0))), "in sync, it holds others back");
    assert_eq!(lane(&changed(&image, [behind.into(), slowed])), Some((2, Lane::Reassignment)));
}
