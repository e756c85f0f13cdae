// SPDX-License-Identifier: Apache-2.0
//! Internal topics follow the number of brokers up to three.

use odradek_model::OFFSETS_TOPIC;

use super::*;

fn raise(cluster: &mut Cluster) {
    let reply = cluster.decide(&Command::RaiseInternalTopics { placement_seed: 4 });
    assert_eq!(reply, Reply::Progress(Progress::Complete));
}

#[test]
fn internal_topics_are_raised_as_brokers_join() {
    let mut cluster = Cluster::of(1);
    let replicas: Vec<&[i32]> = vec![&[1]; 4];
    cluster.topic(OFFSETS_TOPIC, &replicas, &[]);
    cluster.topic("mine", &[&[1]], &[]);
    raise(&mut cluster);
    assert_eq!(cluster.show(OFFSETS_TOPIC), "1 | 1 @ 0.0 | 1 | ");
    cluster.join(2);
    raise(&mut cluster);
    assert_eq!(cluster.show(OFFSETS_TOPIC), "1,2 | 1 @ 0.1 | 1 |  | +2 -");
    raise(&mut cluster);
    assert_eq!(cluster.show(OFFSETS_TOPIC), "1,2 | 1 @ 0.1 | 1 |  | +2 -", "one step at a time");
    cluster.propose(OFFSETS_TOPIC, &[1, 2]).expect("taken");
    for id in 3..=5 {
        cluster.join(id);
    }
    raise(&mut cluster);
    assert_eq!(cluster.partition(OFFSETS_TOPIC, 0).adding.len(), 1);
    let loads: Vec<usize> = (2..=5).map(|id| cluster.image.partitions_on(BrokerId(id)).count()).collect();
    assert!(loads.iter().sum::<usize>() >= 5 && loads.iter().all(|load| *load <= 4), "{loads:?}");
    assert_eq!(cluster.show("mine"), "1 | 1 @ 0.0 | 1 | ", "a user's topic is the user's");
}

#[test]
fn brokers_that_cannot_take_replicas_do_not_count() {
    let mut cluster = Cluster::of(3);
    cluster.topic(OFFSETS_TOPIC, &[&[1]], &[]);
    cluster.set(2, BrokerState::Fenced);
    let cordon = Command::CordonBroker(CordonBroker { broker_id: BrokerId(3), cordoned: true });
    assert_eq!(cluster.decide(&cordon), Reply::BrokerState(Ok(Progress::Complete)));
    raise(&mut cluster);
    assert_eq!(cluster.show(OFFSETS_TOPIC), "1 | 1 @ 0.0 | 1 | ");
}

#[test]
fn another_rack_is_chosen_first() {
    let mut cluster = Cluster::empty();
    for (id, rack) in [(1, "a"), (2, "a"), (3, "a"), (4, "b")] {
        cluster.register(&RegisterBroker { rack: Some(rack.into()), ..start_of(id) }).expect("registers");
        cluster.set(id, BrokerState::Unfenced);
    }
    cluster.topic(OFFSETS_TOPIC, &[&[1, 2]], &[]);
    raise(&mut cluster);
    assert_eq!(cluster.show(OFFSETS_TOPIC), "1,2,4 | 1 @ 0.1 | 1,2 |  | +4 -");
}
