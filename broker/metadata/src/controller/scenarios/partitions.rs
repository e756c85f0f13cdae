// SPDX-License-Identifier: Apache-2.0
//! Topics get more partitions, and new partitions are placed over racks.

use super::*;

fn widen(cluster: &mut Cluster, topics: Vec<MorePartitions>) -> Vec<Result<(), CreatePartitionsError>> {
    match cluster.decide(&Command::CreatePartitions(CreatePartitions {
        topics,
        validate_only: false,
        placement_seed: 3,
    })) {
        Reply::CreatePartitions(reply) => reply.into_iter().map(|(_, outcome)| outcome).collect(),
        other => panic!("{other:?}"),
    }
}

fn more(topic: &str, count: i32, assignments: Option<&[&[i32]]>) -> MorePartitions {
    let assignments = assignments.map(|lists| lists.iter().map(|list| list.to_vec()).collect());
    MorePartitions { topic: topic.into(), count, assignments }
}

#[test]
fn new_partitions_have_the_topics_number_of_replicas() {
    let mut cluster = Cluster::of(4);
    cluster.topic("t", &[&[1, 2]], &[]);
    assert_eq!(widen(&mut cluster, vec![more("t", 5, None)]), [Ok(())]);
    let topic = cluster.image.topic("t").expect("there");
    assert_eq!(topic.partitions.len(), 5);
    assert!(
        topic
            .partitions
            .iter()
            .all(|p| p.replicas.len() == 2 && p.leader == Some(p.replicas[0]) && p.leader_epoch == 0)
    );
    let leaders: BTreeSet<_> = topic.partitions[1..].iter().map(|p| p.leader).collect();
    assert_eq!(leaders.len(), 4);
    cluster.set(3, BrokerState::Fenced);
    assert_eq!(widen(&mut cluster, vec![more("t", 6, Some(&[&[3, 4]]))]), [Ok(())]);
    assert_eq!(show(cluster.partition("t", 5)), "3,4 | 4 @ 0.0 | 4 | ", "who is fenced is not in sync");
}

#[test]
fn requests_that_make_no_sense_are_refused() {
    use CreatePartitionsError as E;
    let mut cluster = Cluster::of(3);
    cluster.topic("t", &[&[1, 2], &[2, 3]], &[]);
    let end = cluster.image.end_offset();
    for count in [-1, 0, 1, 2] {
        assert!(matches!(widen(&mut cluster, vec![more("t", count, None)])[0], Err(E::InvalidPartitions(_))));
    }
    assert_eq!(widen(&mut cluster, vec![more("none", 3, None)]), [Err(E::UnknownTopic)]);
    assert_eq!(widen(&mut cluster, vec![more("t", 3, None), more("t", 4, None)]), [Err(E::Duplicate)]);
    assert_eq!(widen(&mut cluster, vec![more("t", i32::MAX, None)]), [Err(E::TooManyPartitions)]);
    for bad in [&[&[1][..]][..], &[&[1, 2], &[1, 2]], &[&[1, 1]], &[&[1, 9]], &[&[]]] {
        let outcome = widen(&mut cluster, vec![more("t", 3, Some(bad))]);
        assert!(matches!(outcome[0], Err(E::InvalidAssignment(_))), "{outcome:?}");
    }
    cluster.set(2, BrokerState::Fenced);
    cluster.set(3, BrokerState::Fenced);
    let after = cluster.image.end_offset();
    assert!(matches!(widen(&mut cluster, vec![more("t", 3, Some(&[&[2, 3]]))])[0], Err(E::InvalidAssignment(_))));
    cluster.set(1, BrokerState::Fenced);
    assert!(matches!(widen(&mut cluster, vec![more("t", 3, None)])[0], Err(E::InvalidReplicationFactor(_))));
    assert!(end < after);
    assert_eq!(cluster.image.topic("t").expect("there").partitions.len(), 2);
}

#[test]
fn new_topics_spread_over_racks() {
    let mut cluster = Cluster::empty();
    for id in 0..6 {
        cluster
            .register(&RegisterBroker { rack: Some(["a", "b", "c"][id as usize % 3].into()), ..start_of(id) })
            .expect("registers");
        cluster.set(id, BrokerState::Unfenced);
    }
    let topic = NewTopic {
        name: "t".into(),
        id: TopicId(Uuid::from_u128(1)),
        partitions: 12,
        replication_factor: -1,
        assignments: vec![],
        settings: vec![],
    };
    let command = CreateTopics { topics: vec![topic], validate_only: false, placement_seed: 8 };
    let Reply::CreateTopics(reply) = cluster.decide(&Command::CreateTopics(command)) else { panic!("another reply") };
    let created = reply[0].1.as_ref().expect("created");
    assert_eq!((created.replication_factor, created.settings.min_insync_replicas), (3, 2));
    for partition in &cluster.image.topic("t").expect("there").partitions {
        let racks: BTreeSet<i32> = partition.replicas.iter().map(|id| id.0 % 3).collect();
        assert_eq!(racks.len(), 3, "{:?}", partition.replicas);
    }
    for id in 0..6 {
        assert_eq!(
            (cluster.image.leadership_count(BrokerId(id)), cluster.image.partitions_on(BrokerId(id)).count()),
            (2, 6)
        );
    }
}
