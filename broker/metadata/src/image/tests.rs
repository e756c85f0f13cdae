// SPDX-License-Identifier: Apache-2.0
//! Records make images; images make the records that make them again.

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::Record;
use crate::records::{
    BrokerChangeRecord, BrokerSettingRecord, ClusterRecord, ControllerChangeRecord, EndpointRecord, FeatureLevelRecord,
    PartitionRecord, ProducerIdsRecord, RegisterBrokerRecord, RemoveTopicRecord, TopicRecord, TopicSettingRecord,
    UnregisterBrokerRecord,
};

fn id(byte: u8) -> Bytes {
    Bytes::from(vec![byte; 16])
}

fn topic_id(byte: u8) -> TopicId {
    TopicId(Uuid::from_bytes([byte; 16]))
}

fn topic(byte: u8, name: &str) -> Record {
    TopicRecord { id: id(byte), name: name.into(), ..TopicRecord::default() }.into()
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
        ..PartitionRecord::default()
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
        // As a snapshot writes it.
        registered_at: Some(epoch),
        ..RegisterBrokerRecord::default()
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
        TopicRecord { id: Bytes::from_static(b"short"), name: "c".into(), ..TopicRecord::default() }.into(),
        partition(1, 2, 3),
        partition(1, -1, 3),
        partition(1, 0, 2),
        partition(5, 0, 0),
        RemoveTopicRecord { id: id(5) }.into(),
        setting(5, "retention.ms", None),
        broker(2, 7),
        ProducerIdsRecord { broker_id: 1, broker_epoch: 7, next_producer_id: 999 }.into(),
        ClusterRecord { cluster_id: String::new() }.into(),
        UnregisterBrokerRecord { broker_id: 1, broker_epoch: 6 }.into(),
        UnregisterBrokerRecord { broker_id: 2, broker_epoch: 7 }.into(),
        BrokerChangeRecord { broker_id: 1, broker_epoch: 8, fenced: Some(true), ..Default::default() }.into(),
        BrokerSettingRecord { broker_id: -2, name: "n".into(), value: None }.into(),
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

type Change = fn(&mut PartitionRecord);

/// The next state of partition 0 of topic 1, which has replicas 1, 2, 3 and is led by 1 with 2 in sync.
fn next_state(change: impl FnOnce(&mut PartitionRecord)) -> Record {
    let mut record = PartitionRecord {
        topic_id: id(1),
        partition: 0,
        replicas: vec![1, 2, 3],
        isr: vec![1, 2],
        leader: 1,
        leader_epoch: 4,
        partition_epoch: 6,
        ..PartitionRecord::default()
    };
    change(&mut record);
    record.into()
}

#[test]
fn states_of_partitions_that_cannot_be_are_refused() {
    let before = image(&[topic(1, "a"), next_state(|_| {})]);
    let misfits: [(&str, Change); 14] = [
        ("missing", |p| p.replicas.clear()),
        ("negative", |p| p.replicas = vec![1, 2, 3, -4]),
        ("twice", |p| p.replicas = vec![1, 2, 3, 1]),
        ("ISR", |p| p.isr = vec![1, 4]),
        ("ISR", |p| p.isr = vec![1, 1]),
        ("ELR", |p| p.elr = vec![2]),
        ("ELR", |p| p.elr = vec![4]),
        ("leader is not", |p| p.isr = vec![2]),
        ("added or removed", |p| p.adding = vec![4]),
        ("both added and removed", |p| (p.adding, p.removing) = (vec![3], vec![3])),
        ("lost log", |p| p.lost_logs = vec![2]),
        ("go back", |p| p.partition_epoch = 5),
        ("go back", |p| p.leader_epoch = 3),
        ("same epoch", |p| p.leader = 2),
    ];
    for (reason, change) in misfits {
        let error = apply(&before, 2, &next_state(change)).expect_err(reason);
        assert!(error.to_string().contains(reason), "{error}, not {reason}");
    }
    apply(&before, 2, &next_state(|p| (p.leader, p.leader_epoch) = (2, 5))).expect("a new leader with a new epoch");
}

#[test]
fn partitions_are_found_by_broker_and_state_as_they_change() {
    let mut image = image(&[topic(1, "a"), next_state(|_| {}), topic(2, "b"), partition(2, 0, 0)]);
    let key = |topic, partition| PartitionKey { topic: topic_id(topic), partition };
    let on = |image: &Image, id| image.partitions_on(BrokerId(id)).map(|found| found.0).collect::<Vec<_>>();
    assert_eq!(on(&image, 1), [key(1, 0), key(2, 0)]);
    assert_eq!((on(&image, 3), on(&image, 4)), (vec![key(1, 0)], vec![]));
    assert_eq!((image.leadership_count(BrokerId(1)), image.leadership_count(BrokerId(2))), (2, 0));
    let next = next_state(|p| {
        (p.replicas, p.adding, p.removing) = (vec![4, 2, 1], vec![4], vec![1]);
        (p.isr, p.elr) = (vec![], vec![1, 2]);
        (p.leader, p.leader_epoch, p.partition_epoch) = (-1, 5, 7);
    });
    image.apply_mut(1, &next).expect("fits");
    assert_eq!((on(&image, 3), on(&image, 4)), (vec![], vec![key(1, 0)]));
    assert_eq!(image.leadership_count(BrokerId(1)), 1);
    let named = |found: Vec<PartitionKey>| assert_eq!(found, [key(1, 0)]);
    named(image.leaderless_partitions().map(|found| found.0).collect());
    named(image.unbalanced_partitions().map(|found| found.0).collect());
    named(image.reassigning_partitions().map(|found| found.0).collect());
    image.apply_mut(1, &RemoveTopicRecord { id: id(1) }.into()).expect("fits");
    assert_eq!((on(&image, 1), on(&image, 4)), (vec![key(2, 0)], vec![]));
    assert_eq!(image.leaderless_partitions().count() + image.unbalanced_partitions().count(), 0);
}

#[test]
fn a_brokers_state_and_settings_change_and_end() {
    let change = |change: BrokerChangeRecord| BrokerChangeRecord { broker_id: 1, broker_epoch: 7, ..change }.into();
    let mut image = image(&[broker(1, 7), change(BrokerChangeRecord { fenced: Some(true), ..Default::default() })]);
    let state = |image: &Image| {
        let broker = image.broker(BrokerId(1)).expect("there");
        (broker.fenced, broker.shutting_down_at, broker.cordoned, broker.is_active())
    };
    assert_eq!(state(&image), (true, None, false, false));
    image.apply_mut(1, &change(BrokerChangeRecord { fenced: Some(false), ..Default::default() })).expect("fits");
    image.apply_mut(1, &change(BrokerChangeRecord { cordoned: Some(true), ..Default::default() })).expect("fits");
    assert_eq!(state(&image), (false, None, true, true));
    image.apply_mut(1, &change(BrokerChangeRecord { shutting_down: true, ..Default::default() })).expect("fits");
    image.apply_mut(1, &change(BrokerChangeRecord { shutting_down: true, ..Default::default() })).expect("fits");
    assert_eq!(state(&image), (false, Some(4), true, false), "the first of them counts");
    let setting = |value: Option<&str>| {
        BrokerSettingRecord { broker_id: 1, name: "rate".into(), value: value.map(Into::into) }.into()
    };
    image.apply_mut(1, &setting(Some("5"))).expect("fits");
    let of = BrokerSettingsOf::Broker(BrokerId(1));
    assert_eq!(image.broker_settings(of).and_then(|settings| settings.get("rate")).map(String::as_str), Some("5"));
    image.apply_mut(1, &setting(None)).expect("fits");
    assert!(image.broker_settings(of).is_none());
    image.apply_mut(1, &UnregisterBrokerRecord { broker_id: 1, broker_epoch: 7 }.into()).expect("fits");
    assert!(image.broker(BrokerId(1)).is_none());
    assert_eq!(image.highest_broker_epoch(), 7);
}

#[test]
fn a_newer_feature_level_is_refused_by_name() {
    let record = FeatureLevelRecord { level: SUPPORTED_FEATURE_LEVEL + 1 }.into();
    let error = apply(&Image::empty(), 1, &record).expect_err("newer");
    assert_eq!(error, ApplyError::NewerFeatureLevel { found: SUPPORTED_FEATURE_LEVEL + 1 });
    assert!(error.to_string().contains("feature level is 3"), "{error}");
}

#[test]
fn unknown_fields_survive_a_snapshot() {
    let unknown = Bytes::from_static(&[0xf8, 0x06, 0x05]);
    let with = |record: Record| Record { unknown: unknown.clone(), ..record };
    let records = [
        with(
            ControllerChangeRecord {
                controller_epoch: 3,
                broker_id: 1,
                incarnation: "x".into(),
                ..ControllerChangeRecord::default()
            }
            .into(),
        ),
        with(ClusterRecord { cluster_id: "c".into() }.into()),
        with(FeatureLevelRecord { level: 1 }.into()),
        with(broker(1, 7)),
        with(BrokerSettingRecord { broker_id: -1, name: "rate".into(), value: Some("5".into()) }.into()),
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
        (1..5u8, 0..2i32, prop::sample::subsequence(vec![1, 2, 3, 4], 1..4), 0..8i32, any::<u8>()).prop_map(
            |(topic, index, replicas, epoch, bits)| {
                let some = |mask: u8| -> Vec<i32> { replicas.iter().copied().filter(|r| mask >> r & 1 == 1).collect() };
                let isr = some(bits);
                let others = |mask: u8| some(mask & !bits);
                let record = PartitionRecord {
                    topic_id: id(topic),
                    partition: index,
                    leader: isr.first().copied().unwrap_or(-1),
                    elr: others(bits >> 2),
                    adding: some(bits >> 3 & 0b0_1010),
                    removing: some(bits >> 1 & 0b1_0100),
                    recovering: bits & 1 == 1,
                    lost_logs: others(!(bits >> 2)),
                    leader_epoch: epoch,
                    partition_epoch: epoch,
                    isr,
                    replicas,
                };
                record.into()
            }
        ),
        (0..3i32, 0..20i64, any::<(Option<bool>, bool, Option<bool>)>()).prop_map(|(broker_id, broker_epoch, bits)| {
            let (fenced, shutting_down, cordoned) = bits;
            BrokerChangeRecord { broker_id, broker_epoch, fenced, shutting_down, cordoned }.into()
        }),
        (0..3i32, 0..20i64)
            .prop_map(|(broker_id, broker_epoch)| { UnregisterBrokerRecord { broker_id, broker_epoch }.into() }),
        (-1..3i32, "[a-c]", prop::option::of("[0-9]"))
            .prop_map(|(broker_id, name, value)| { BrokerSettingRecord { broker_id, name, value }.into() }),
        (0..3i64).prop_map(|blocks| {
            ProducerIdsRecord { broker_id: -1, broker_epoch: -1, next_producer_id: blocks * 1000 }.into()
        }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_snapshot_makes_the_same_image(records in prop::collection::vec(record(), 0..80)) {
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
        let found = |image: &Image| {
            let on: Vec<_> = (0..5).map(|id| image.partitions_on(BrokerId(id)).map(|f| f.0).collect::<Vec<_>>()).collect();
            let led: Vec<_> = (0..5).map(|id| image.leadership_count(BrokerId(id))).collect();
            let states: Vec<_> = image.leaderless_partitions().chain(image.unbalanced_partitions()).chain(image.reassigning_partitions()).map(|f| f.0).collect();
            (on, led, states)
        };
        prop_assert_eq!(found(&again), found(&image));
        for topic in image.topics() {
            prop_assert_eq!(again.topic(&topic.name), Some(topic));
            prop_assert_eq!(again.colliding_topic(&topic.name).is_some(), true);
        }
    }
}
