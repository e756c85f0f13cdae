// SPDX-License-Identifier: Apache-2.0
//! Settings change one by one.

use super::*;
use crate::BrokerSettingsOf;

fn changes(resource: SettingsResource, changes: &[(&str, SettingOperation)]) -> ResourceChanges {
    let changes = changes.iter().map(|(name, operation)| ((*name).to_owned(), operation.clone())).collect();
    ResourceChanges { resource, changes }
}

fn topic(name: &str) -> SettingsResource {
    SettingsResource::Topic(name.into())
}

fn alter(cluster: &mut Cluster, resources: Vec<ResourceChanges>) -> Vec<Result<(), AlterSettingsError>> {
    match cluster.decide(&Command::AlterSettings(AlterSettings { resources, validate_only: false })) {
        Reply::AlterSettings(reply) => reply.into_iter().map(|(_, outcome)| outcome).collect(),
        other => panic!("{other:?}"),
    }
}

fn set(value: &str) -> SettingOperation {
    SettingOperation::Set(Some(value.into()))
}

#[test]
fn settings_are_set_deleted_and_checked_together() {
    let mut cluster = Cluster::of(1);
    cluster.topic("t", &[&[1]], &[("retention.ms", "5")]);
    let overrides = |cluster: &Cluster| cluster.image.topic("t").expect("there").overrides.as_ref().clone();
    let outcome = alter(
        &mut cluster,
        vec![changes(topic("t"), &[("retention.ms", SettingOperation::Delete), ("segment.ms", set("7"))])],
    );
    assert_eq!(outcome, [Ok(())]);
    assert_eq!(overrides(&cluster).into_iter().collect::<Vec<_>>(), [("segment.ms".to_owned(), "7".to_owned())]);
    let end = cluster.image.end_offset();
    assert_eq!(alter(&mut cluster, vec![changes(topic("t"), &[("segment.ms", set("7"))])]), [Ok(())]);
    assert_eq!(cluster.image.end_offset(), end, "the same value again is no change");
    let bad: Vec<ResourceChanges> = vec![
        changes(topic("t"), &[("retention.ms", set("9")), ("segment.ms", set("0"))]),
        changes(topic("none"), &[]),
        changes(SettingsResource::Broker(BrokerSettingsOf::Broker(BrokerId(9))), &[]),
        changes(SettingsResource::Broker(BrokerSettingsOf::AllBrokers), &[("num.partitions", set("3"))]),
    ];
    let outcomes = alter(&mut cluster, bad);
    assert!(matches!(outcomes[0], Err(AlterSettingsError::InvalidSetting(_))));
    assert_eq!(outcomes[1], Err(AlterSettingsError::UnknownTopic));
    assert_eq!(outcomes[2], Err(AlterSettingsError::UnknownBroker(BrokerId(9))));
    assert!(matches!(&outcomes[3], Err(AlterSettingsError::InvalidChange(text)) if text.contains("num.partitions")));
    assert_eq!(cluster.image.end_offset(), end);
    let twice = vec![changes(topic("t"), &[("segment.ms", set("1")), ("segment.ms", set("2"))])];
    assert!(matches!(alter(&mut cluster, twice)[0], Err(AlterSettingsError::Duplicate(_))));
    let twice = vec![changes(topic("t"), &[]), changes(topic("t"), &[])];
    assert!(alter(&mut cluster, twice).iter().all(|outcome| matches!(outcome, Err(AlterSettingsError::Duplicate(_)))));
    let none = vec![changes(topic("t"), &[("segment.ms", SettingOperation::Set(None))])];
    assert!(matches!(alter(&mut cluster, none)[0], Err(AlterSettingsError::InvalidChange(_))));
}

#[test]
fn throttles_are_lists_of_topics_and_rates_of_brokers() {
    let mut cluster = Cluster::of(2);
    cluster.topic("t", &[&[1, 2]], &[]);
    let list = "leader.replication.throttled.replicas";
    let value = |cluster: &Cluster| cluster.image.topic("t").expect("there").overrides.get(list).cloned();
    let append = |items: &str| vec![changes(topic("t"), &[(list, SettingOperation::Append(items.into()))])];
    assert_eq!(alter(&mut cluster, append("0:1")), [Ok(())]);
    assert_eq!(alter(&mut cluster, append("0:2,0:1")), [Ok(())]);
    assert_eq!(value(&cluster).as_deref(), Some("0:1,0:2"));
    let subtract = vec![changes(topic("t"), &[(list, SettingOperation::Subtract("0:1".into()))])];
    assert_eq!(alter(&mut cluster, subtract), [Ok(())]);
    assert_eq!(value(&cluster).as_deref(), Some("0:2"));
    assert!(matches!(alter(&mut cluster, append("zero"))[0], Err(AlterSettingsError::InvalidSetting(_))));
    assert!(alter(&mut cluster, append(&"1:1,".repeat(9000)))[0].is_err(), "over the bound");
    let no_list = vec![changes(topic("t"), &[("segment.ms", SettingOperation::Append("1".into()))])];
    assert_eq!(alter(&mut cluster, no_list), [Err(AlterSettingsError::NoList("segment.ms".into()))]);

    let rate = "follower.replication.throttled.rate";
    let one = SettingsResource::Broker(BrokerSettingsOf::Broker(BrokerId(1)));
    assert_eq!(alter(&mut cluster, vec![changes(one.clone(), &[(rate, set("1000"))])]), [Ok(())]);
    let settings = cluster.image.broker_settings(BrokerSettingsOf::Broker(BrokerId(1))).expect("given");
    assert_eq!(settings.get(rate).map(String::as_str), Some("1000"));
    assert!(alter(&mut cluster, vec![changes(one.clone(), &[(rate, set("-1"))])])[0].is_err());
    assert_eq!(alter(&mut cluster, vec![changes(one.clone(), &[(rate, SettingOperation::Delete)])]), [Ok(())]);
    assert!(cluster.image.broker_settings(BrokerSettingsOf::Broker(BrokerId(1))).is_none());

    // What kafka-reassign-partitions deletes with the rates when it is done, though it never is there.
    let absent = "replica.alter.log.dirs.io.max.bytes.per.second";
    assert_eq!(alter(&mut cluster, vec![changes(one.clone(), &[(absent, SettingOperation::Delete)])]), [Ok(())]);
    assert!(
        matches!(&alter(&mut cluster, vec![changes(one, &[(absent, set("1"))])])[0], Err(AlterSettingsError::InvalidChange(text)) if text.contains(absent))
    );
}

#[test]
fn another_min_isr_empties_the_elr_where_there_is_a_leader() {
    let mut cluster = Cluster::of(3);
    cluster.topic("t", &[&[1, 2, 3]], &[]);
    cluster.propose("t", &[1]).expect("taken");
    assert_eq!(cluster.show("t"), "1,2,3 | 1 @ 0.1 | 1 | 2,3");
    cluster.alter("t", "min.insync.replicas", Some("1")).expect("altered");
    assert_eq!(cluster.show("t"), "1,2,3 | 1 @ 0.2 | 1 | ");
    cluster.alter("t", "min.insync.replicas", Some("3")).expect("altered");
    assert_eq!(cluster.show("t"), "1,2,3 | 1 @ 0.2 | 1 | ", "2 and 3 may lack what 1 committed alone");
}

#[test]
fn only_validated_changes_change_nothing() {
    let mut cluster = Cluster::of(1);
    cluster.topic("t", &[&[1]], &[]);
    let resources = vec![changes(topic("t"), &[("segment.ms", set("7"))])];
    let end = cluster.image.end_offset();
    let reply = cluster.decide(&Command::AlterSettings(AlterSettings { resources, validate_only: true }));
    assert!(matches!(reply, Reply::AlterSettings(reply) if reply[0].1 == Ok(())));
    assert_eq!(cluster.image.end_offset(), end);
}
