// SPDX-License-Identifier: Apache-2.0
//! Records make images; images make the records that make them again.

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::Record;
use crate::records::{
    ClusterRecord, ControllerChangeRecord, EndpointRecord, FeatureLevelRecord, PartitionRecord, ProducerIdsRecord,
    RegisterBrokerRecord, RemoveTopicRecord, TopicRecord, TopicSettingRecord,
};

fn id(byte: u8) -> Bytes {
    Bytes::from(vec![byte; 16])
}

fn topic_id(byte: u8) -> TopicId {
    TopicId(Uuid::from_bytes([byte; 16]))
}

fn topic(byte: u8, name: &str) -> Record {
    TopicRecord { id: id(byte), name: name.into() }.into()
}

fn partition(topic: u8, partition: i32, leader_epoch: i32) -> Record {
    let record = PartitionRecord {
        topic_id: id(topic),
        partition,
        replicas: vec![1],
        isr: vec![1],
        leader: 1,
        leader_epoch,
        partition_epoch: leader_epoch,
    };
    record.into()
}

fn setting(topic: u8, name: &str, value: Option<&str>) -> Record {
    TopicSettingRecord { topic_id: id(topic), name: name.into(), value: value.map(Into::into) }.into()
}

fn broker(id_: i32, epoch: i64) -> Record {
    let endpoint = EndpointRecord { listener: "PLAIN".into(), host: "h".into(), port: 9092, security_protocol: 0 };
    let record = RegisterBrokerRecord {
        broker_id: id_,
        broker_epoch: epoch,
        incarnation: id(9),
        directory_id: id(8),
        endpoints: vec![endpoint],
        rack: None,
        boot_id: String::new(),
        fenced: false,
    };
    record.into()
}

fn image(records: &[Record]) -> Image {
    let mut image = Image::empty();
    for record in records {
        image.apply_mut(1, record).expect("fits");
    }
    image
}

#[test]
fn a_topic_is_found_by_name_and_id_until_it_is_removed() {
    let before =
        image(&[topic(1, "a.b"), setting(1, "retention.ms", Some("5")), partition(1, 0, 0), partition(1, 1, 0)]);
    let found = before.topic("a.b").expect("by name");
    assert_eq!(found.id, topic_id(1));
    assert_eq!(before.topic_by_id(topic_id(1)), Some(found));
    assert_eq!(found.overrides.get("retention.ms").map(String::as_str), Some("5"));
    assert_eq!((found.partitions.len(), before.partition_count(), before.topic_count()), (2, 2, 1));
    let collision = TopicName::new("a_b").expect("a name");
    assert_eq!(before.colliding_topic(&collision).map(TopicName::as_str), Some("a.b"));
    let after = apply(&before, 2, &RemoveTopicRecord { id: id(1) }.into()).expect("fits");
    assert!(after.topic("a.b").is_none() && after.topic_by_id(topic_id(1)).is_none());
    assert!(after.colliding_topic(&collision).is_none());
    assert_eq!((after.partition_count(), after.topic_count(), after.end_offset(), after.epoch()), (0, 0, 5, 2));
    // The older image is as it was.
    assert_eq!((before.partition_count(), before.end_offset(), before.epoch()), (2, 4, 1));
}

#[test]
fn clones_share_what_did_not_change() {
    let before = image(&[topic(1, "a"), partition(1, 0, 0), topic(2, "b"), partition(2, 0, 0)]);
    let after = apply(&before, 1, &partition(2, 0, 1)).expect("fits");
    let same = |name| Arc::ptr_eq(before.topic(name).expect("there"), after.topic(name).expect("there"));
    assert!(same("a") && !same("b"));
    assert_eq!(before.topic("b").expect("there").partitions[0].leader_epoch, 0);
    assert_eq!(after.topic("b").expect("there").partitions[0].leader_epoch, 1);
}

#[test]
fn records_that_do_not_fit_change_nothing() {
    let before = image(&[
        topic(1, "a"),
        partition(1, 0, 3),
        broker(1, 7),
        ProducerIdsRecord { broker_id: 1, broker_epoch: 7, next_producer_id: 1000 }.into(),
    ]);
    let misfits = [
        topic(1, "other"),
        topic(2, "a"),
        topic(3, "bad name"),
        TopicRecord { id: Bytes::from_static(b"short"), name: "c".into() }.into(),
        partition(1, 2, 3),
        partition(1, -1, 3),
        partition(1, 0, 2),
        partition(5, 0, 0),
        RemoveTopicRecord { id: id(5) }.into(),
        setting(5, "retention.ms", None),
        broker(2, 7),
        ProducerIdsRecord { broker_id: 1, broker_epoch: 7, next_producer_id: 999 }.into(),
        ClusterRecord { cluster_id: String::new() }.into(),
    ];
    for record in misfits {
        let mut image = before.clone();
        let error = image.apply_mut(2, &record).expect_err("does not fit");
        let ApplyError::DoesNotFit { kind, .. } = &error else { panic!("{error}") };
        assert_eq!(*kind, record.body.name());
        assert_eq!(image.to_records(), before.to_records());
        assert_eq!((image.end_offset(), image.epoch()), (before.end_offset(), before.epoch()));
    }
}

#[test]
fn a_newer_feature_level_is_refused_by_name() {
    let record = FeatureLevelRecord { level: SUPPORTED_FEATURE_LEVEL + 1 }.into();
    let error = apply(&Image::empty(), 1, &record).expect_err("newer");
    assert_eq!(error, ApplyError::NewerFeatureLevel { found: SUPPORTED_FEATURE_LEVEL + 1 });
    assert!(error.to_string().contains("feature level is 2"), "{error}");
}

#[test]
fn unknown_fields_survive_a_snapshot() {
    let unknown = Bytes::from_static(&[0xf8, 0x06, 0x05]);
    let with = |record: Record| Record { unknown: unknown.clone(), ..record };
    let records = [
        with(ControllerChangeRecord { controller_epoch: 3, broker_id: 1, incarnation: "x".into() }.into()),
        with(ClusterRecord { cluster_id: "c".into() }.into()),
        with(FeatureLevelRecord { level: 1 }.into()),
        with(broker(1, 7)),
        with(topic(1, "a")),
        with(setting(1, "retention.ms", Some("5"))),
        with(partition(1, 0, 0)),
        with(ProducerIdsRecord { broker_id: -1, broker_epoch: -1, next_producer_id: 1000 }.into()),
    ];
    assert_eq!(image(&records).to_records(), records);
    // Gone with what they belonged to.
    let without = apply(&image(&records), 1, &RemoveTopicRecord { id: id(1) }.into()).expect("fits");
    assert!(without.unknown.keys().all(|(kind, _)| *kind != "TopicSetting"));
}

fn record() -> impl Strategy<Value = Record> {
    let byte = 1..5u8;
    prop_oneof![
        (byte.clone(), "[a-c][._][a-c]").prop_map(|(id, name)| topic(id, &name)),
        byte.clone().prop_map(|byte| RemoveTopicRecord { id: id(byte) }.into()),
        (byte.clone(), 0..3i32, 0..3i32).prop_map(|(id, index, epoch)| partition(id, index, epoch)),
        (byte, "[a-c]", prop::option::of("[0-9]")).prop_map(|(id, name, value)| setting(id, &name, value.as_deref())),
        (0..3i32, 0..20i64).prop_map(|(id, epoch)| broker(id, epoch)),
        (0..3i64).prop_map(|blocks| {
            ProducerIdsRecord { broker_id: -1, broker_epoch: -1, next_producer_id: blocks * 1000 }.into()
        }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_snapshot_makes_the_same_image(records in prop::collection::vec(record(), 0..60)) {
        let mut image = Image::empty();
        for record in &records {
            // Most of the random records fit; those that do not change nothing.
            let _ = image.apply_mut(4, record);
        }
        let again = Image::from_records(&image.to_records(), image.end_offset(), image.epoch(), image.highest_broker_epoch()).expect("fits");
        prop_assert_eq!(again.to_records(), image.to_records());
        prop_assert_eq!(again.end_offset(), image.end_offset());
        prop_assert_eq!(again.highest_broker_epoch(), image.highest_broker_epoch());
        prop_assert_eq!(again.partition_count(), image.partition_count());
        for topic in image.topics() {
            prop_assert_eq!(again.topic(&topic.name), Some(topic));
            prop_assert_eq!(again.colliding_topic(&topic.name).is_some(), true);
        }
    }
}
