// SPDX-License-Identifier: Apache-2.0
//! What a broker keeps when it registers anew, and what it does not.

use super::*;

/// Broker 2 of a topic on 1 and 2 (min ISR 2), alone in the ISR, with 1 eligible, then restarted.
fn restarted(change: impl FnOnce(&mut RegisterBroker, BrokerEpoch)) -> Cluster {
    let mut cluster = Cluster::of(2);
    cluster.topic("t", &[&[1, 2]], &[("min.insync.replicas", "2")]);
    cluster.set(1, BrokerState::Fenced);
    assert_eq!(cluster.show("t"), "1,2 | 2 @ 1.1 | 2 | 1");
    let epoch = cluster.epoch(2);
    cluster.restart(2, |start| change(start, epoch));
    cluster
}

#[test]
fn with_proof_a_replica_stays_eligible() {
    // Killed: the same folder under the same kernel.
    assert_eq!(restarted(|_, _| {}).show("t"), "1,2 | none @ 2.2 |  | 1,2");
    // Stopped cleanly, then the machine was replaced.
    let clean = restarted(|start, epoch| {
        start.boot_id = "another".into();
        start.clean_shutdown_of = Some(epoch);
    });
    assert_eq!(clean.show("t"), "1,2 | none @ 2.2 |  | 1,2");
}

#[test]
fn without_proof_a_replica_is_not_eligible() {
    let unproven = "1,2 | none @ 2.2 |  | 1";
    assert_eq!(restarted(|start, _| start.boot_id = "another".into()).show("t"), unproven);
    assert_eq!(restarted(|start, _| start.boot_id = String::new()).show("t"), unproven);
    let marker_of_an_earlier_stop = restarted(|start, epoch| {
        start.boot_id = "another".into();
        start.clean_shutdown_of = Some(epoch - 1);
    });
    assert_eq!(marker_of_an_earlier_stop.show("t"), unproven);
}

#[test]
fn an_unknown_kernel_proves_nothing_even_if_it_is_unknown_twice() {
    let mut cluster = Cluster::of(1);
    cluster.restart(1, |start| start.boot_id = String::new());
    cluster.set(1, BrokerState::Unfenced);
    cluster.topic("t", &[&[1]], &[]);
    cluster.restart(1, |start| start.boot_id = String::new());
    assert_eq!(cluster.show("t"), "1 | none @ 1.1 |  | ");
}

#[test]
fn another_folder_is_a_lost_log_until_the_replica_is_in_sync_again() {
    let mut cluster = restarted(|start, _| start.directory_id = DirectoryId(Uuid::from_u128(99)));
    assert_eq!(cluster.show("t"), "1,2 | none @ 2.2 |  | 1 | lost 2");
    cluster.set(2, BrokerState::Unfenced);
    assert_eq!(cluster.partition("t", 0).leader, None);
    cluster.set(1, BrokerState::Unfenced);
    assert_eq!(cluster.show("t"), "1,2 | 1 @ 3.3 | 1 |  | lost 2");
    cluster.propose("t", &[1, 2]).expect("taken");
    assert_eq!(cluster.show("t"), "1,2 | 1 @ 3.4 | 1,2 | ");
}

#[test]
fn a_sole_replica_leads_after_an_unclean_stop_unless_its_log_is_lost() {
    let lost_folder = |start: &mut RegisterBroker| start.directory_id = DirectoryId(Uuid::from_u128(99));
    let mut cluster = Cluster::of(2);
    cluster.topic("t", &[&[1]], &[]);
    cluster.restart(1, |start| start.boot_id = "another".into());
    assert_eq!(cluster.show("t"), "1 | none @ 1.1 |  | ");
    cluster.set(1, BrokerState::Unfenced);
    assert_eq!(cluster.show("t"), "1 | 1 @ 2.2 | 1 |  | recovering", "the departure for a sole replica");
    cluster.restart(1, lost_folder);
    cluster.set(1, BrokerState::Unfenced);
    assert_eq!(cluster.show("t"), "1 | none @ 3.3 |  |  | recovering | lost 1", "an empty log does not lead by itself");
    assert_eq!(cluster.elect(ElectionKind::Unclean, "t"), Ok(()));
    assert_eq!(cluster.show("t"), "1 | 1 @ 4.4 | 1 |  | recovering");
}

#[test]
fn a_damaged_log_is_lost_though_the_stop_was_clean() {
    let mut cluster = Cluster::of(2);
    cluster.topic("t", &[&[1, 2]], &[("min.insync.replicas", "2")]);
    cluster.topic("other", &[&[1]], &[]);
    let (stopped, damaged) = (cluster.epoch(1), vec![cluster.key("t", 0)]);
    cluster.restart(1, |start| {
        start.clean_shutdown_of = Some(stopped);
        start.damaged_logs = damaged;
    });
    assert_eq!(cluster.show("t"), "1,2 | 2 @ 1.1 | 2 |  | lost 1");
    assert_eq!(cluster.show("other"), "1 | none @ 1.1 |  | 1");
}

#[test]
fn a_log_that_recovery_finds_damaged_is_lost_once_the_same_process_says_so() {
    let mut cluster = Cluster::of(2);
    cluster.topic("t", &[&[1, 2]], &[("min.insync.replicas", "2")]);
    cluster.topic("other", &[&[1, 2]], &[("min.insync.replicas", "2")]);
    cluster.set(2, BrokerState::Fenced);
    let mut again = start_of(1);
    cluster.restart(1, |start| again = start.clone());
    let epoch = Ok(cluster.epoch(1));
    assert_eq!(cluster.show("t"), "1,2 | none @ 1.2 |  | 1,2", "as far as anybody knows");
    again.damaged_logs = vec![cluster.key("t", 0)];
    let end = |cluster: &Cluster| cluster.image.end_offset();
    for _ in 0..2 {
        assert_eq!(cluster.register(&again), epoch);
        assert_eq!(cluster.show("t"), "1,2 | none @ 1.3 |  | 2 | lost 1");
        assert_eq!(cluster.show("other"), "1,2 | none @ 1.2 |  | 1,2");
    }
    let before = end(&cluster);
    assert_eq!((cluster.register(&again), end(&cluster)), (epoch, before), "once");
    cluster.set(1, BrokerState::Unfenced);
    assert_eq!(cluster.show("t"), "1,2 | none @ 1.3 |  | 2 | lost 1");
    assert_eq!(cluster.show("other"), "1,2 | 1 @ 2.3 | 1 | 2");
}

#[test]
fn a_new_incarnation_is_fenced_and_has_a_higher_epoch() {
    let mut cluster = Cluster::of(1);
    let before = cluster.image.broker(BrokerId(1)).expect("there").as_ref().clone();
    cluster.restart(1, |_| {});
    let after = cluster.image.broker(BrokerId(1)).expect("there").as_ref().clone();
    assert!(after.epoch > before.epoch && after.fenced && !before.fenced);
    assert_eq!(after.registered_at, cluster.image.end_offset() - 1);
    // The same process may amend its registration: it keeps epoch and state.
    let mut amended = start_of(2);
    let first = cluster.register(&amended);
    cluster.set(2, BrokerState::Unfenced);
    amended.rack = Some("r".into());
    assert_eq!(cluster.register(&amended), first);
    let broker = cluster.image.broker(BrokerId(2)).expect("there");
    assert!(!broker.fenced && broker.rack.as_deref() == Some("r"));
}

#[test]
fn registrations_that_do_not_fit_the_cluster_are_refused() {
    let mut cluster = Cluster::of(1);
    let thief = RegisterBroker { directory_id: start_of(1).directory_id, ..start_of(2) };
    assert!(matches!(
        cluster.register(&thief),
        Err(RegisterBrokerError::DirectoryOfAnother { owner: BrokerId(1), .. })
    ));
    let old = RegisterBroker { supported_feature_level: 0, ..start_of(2) };
    assert_eq!(cluster.register(&old), Err(RegisterBrokerError::FeatureLevel { supported: 1, present: 2 }));
}

#[test]
fn an_unregistered_broker_is_forgotten_and_its_logs_count_as_lost() {
    let mut cluster = Cluster::of(3);
    cluster.topic("t", &[&[1, 2]], &[("min.insync.replicas", "2")]);
    cluster.topic("alone", &[&[1]], &[]);
    let epoch = cluster.epoch(1);
    let unregister = Command::UnregisterBroker(UnregisterBroker { broker_id: BrokerId(1) });
    assert_eq!(cluster.decide(&unregister), Reply::BrokerState(Ok(Progress::Complete)));
    assert!(cluster.image.broker(BrokerId(1)).is_none());
    assert_eq!(cluster.show("t"), "1,2 | 2 @ 1.1 | 2 |  | lost 1");
    assert_eq!(cluster.decide(&unregister), Reply::BrokerState(Err(BrokerStateError::UnknownBroker(BrokerId(1)))));
    cluster.join(1);
    assert!(cluster.epoch(1) > epoch);
    assert_eq!(cluster.show("alone"), "1 | none @ 1.1 |  |  | lost 1");
}

#[test]
fn a_cordon_outlives_the_process_and_keeps_new_replicas_off() {
    let mut cluster = Cluster::of(3);
    let cordon = |cordoned| Command::CordonBroker(CordonBroker { broker_id: BrokerId(1), cordoned });
    assert_eq!(cluster.decide(&cordon(true)), Reply::BrokerState(Ok(Progress::Complete)));
    cluster.restart(1, |_| {});
    cluster.set(1, BrokerState::Unfenced);
    let create = |name: &str, replication_factor, assignments| {
        let topic = NewTopic {
            name: name.into(),
            id: TopicId(Uuid::from_u128(name.len() as u128 + 700)),
            partitions: if replication_factor > 0 { 12 } else { -1 },
            replication_factor,
            assignments,
            settings: vec![],
        };
        Command::CreateTopics(CreateTopics { topics: vec![topic], validate_only: false, placement_seed: 5 })
    };
    let outcome = |reply| match reply {
        Reply::CreateTopics(mut reply) => reply.pop().expect("one").1,
        other => panic!("{other:?}"),
    };
    outcome(cluster.decide(&create("placed", 2, vec![]))).expect("created");
    assert_eq!(cluster.image.partitions_on(BrokerId(1)).count(), 0);
    let error = outcome(cluster.decide(&create("too-many", 3, vec![]))).expect_err("only two are left");
    assert!(matches!(error, CreateTopicError::InvalidReplicationFactor(_)));
    let error = outcome(cluster.decide(&create("by-hand", -1, vec![(0, vec![1])]))).expect_err("cordoned");
    assert!(matches!(error, CreateTopicError::InvalidAssignment(_)) && error.to_string().contains("cordoned"));
    assert_eq!(cluster.decide(&cordon(false)), Reply::BrokerState(Ok(Progress::Complete)));
    outcome(cluster.decide(&create("by-hand", -1, vec![(0, vec![1])]))).expect("created");
}

#[test]
fn the_feature_level_rises_when_all_brokers_know_it_and_never_falls() {
    let mut cluster = Cluster::empty();
    let level = |level| Command::UpdateFeatureLevel(UpdateFeatureLevel { level, validate_only: false });
    let refused = |error| Reply::UpdateFeatureLevel(Err(error));
    let downgrade = UpdateFeatureLevelError::Downgrade { present: 2, wanted: 1 };
    assert_eq!(cluster.decide(&level(1)), refused(downgrade));
    assert_eq!(cluster.decide(&level(3)), refused(UpdateFeatureLevelError::Unsupported(3)));
    assert_eq!(cluster.decide(&level(2)), Reply::UpdateFeatureLevel(Ok(2)));
    // At level 1 a broker is unfenced at once, and what needs level 2 is refused by name.
    let mut old = Cluster { image: Image::empty(), settings: ControllerSettings::default() };
    for record in bootstrap_at_level_1(&cluster_id()) {
        old.image.apply_mut(1, &record).expect("fits");
    }
    old.register(&RegisterBroker { supported_feature_level: 1, ..start_of(1) }).expect("registers");
    assert!(old.image.broker(BrokerId(1)).is_some_and(|broker| broker.is_active()));
    assert_eq!(old.decide(&Command::BalanceLeaders), Reply::FeatureLevelTooLow { needed: 2, present: 1 });
    let too_old = UpdateFeatureLevelError::BrokerTooOld { broker: BrokerId(1), supported: 1 };
    assert_eq!(old.decide(&level(2)), refused(too_old));
    old.register(&RegisterBroker { incarnation: Uuid::from_u128(77), ..start_of(1) }).expect("upgraded");
    assert_eq!(old.decide(&level(2)), Reply::UpdateFeatureLevel(Ok(2)));
}

#[test]
fn a_loss_of_power_takes_nothing_from_a_topic_that_forces_every_record_to_the_disk_since_its_birth() {
    let flushed = &[("flush.messages", "1"), ("min.insync.replicas", "2")][..];
    let usual = &[("min.insync.replicas", "2")][..];
    let mut cluster = Cluster::of(2);
    cluster.topic("flushed", &[&[1, 2]], flushed);
    cluster.topic("usual", &[&[1, 2]], usual);
    cluster.topic("later", &[&[1, 2]], usual);
    cluster.topic("once", &[&[1, 2]], flushed);
    let set = |cluster: &mut Cluster, topic: &str, value: Option<&str>| {
        let operation = value.map_or(SettingOperation::Delete, |value| SettingOperation::Set(Some(value.to_owned())));
        let changes = ResourceChanges {
            resource: SettingsResource::Topic(topic.to_owned()),
            changes: vec![("flush.messages".to_owned(), operation)],
        };
        let command = AlterSettings { resources: vec![changes], validate_only: false };
        match cluster.decide(&Command::AlterSettings(command)) {
            Reply::AlterSettings(outcomes) => assert!(outcomes.iter().all(|(_, outcome)| outcome.is_ok())),
            other => panic!("{other:?}"),
        }
    };
    set(&mut cluster, "later", Some("1"));
    set(&mut cluster, "once", None);
    set(&mut cluster, "once", Some("1"));
    // One after the other loses power.
    for id in [2, 1] {
        cluster.restart(id, |start| start.boot_id = "another".into());
    }
    assert_eq!(cluster.show("flushed"), "1,2 | none @ 1.2 |  | 1,2");
    for topic in ["usual", "later", "once"] {
        assert_eq!(cluster.show(topic), "1,2 | none @ 1.2 |  | ", "{topic}");
    }
    for id in [1, 2] {
        cluster.set(id, BrokerState::Unfenced);
    }
    assert_eq!(cluster.show("flushed"), "1,2 | 1 @ 2.3 | 1 | 2");
    assert_eq!(cluster.partition("usual", 0).leader, None);
    // A snapshot keeps it.
    let records = cluster.image.to_records();
    let loaded = Image::from_records(&records, cluster.image.end_offset(), 1, 0).expect("loads");
    let always = |topic: &str| loaded.topic(topic).expect("there").always_flushed;
    assert_eq!(["flushed", "usual", "later", "once"].map(always), [true, false, false, false]);
    // Another disk is another matter.
    cluster.restart(1, |start| start.directory_id = DirectoryId(Uuid::from_u128(99)));
    assert_eq!(cluster.show("flushed"), "1,2 | 2 @ 3.4 | 2 |  | lost 1");
}
