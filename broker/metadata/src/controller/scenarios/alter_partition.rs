// SPDX-License-Identifier: Apache-2.0
//! The rules for a proposed ISR, each alone and in their order.

use super::*;

use AlterPartitionError as E;

fn cluster() -> Cluster {
    let mut cluster = Cluster::of(4);
    cluster.topic("t", &[&[1, 2, 3]], &[]);
    // Leader epoch 1, partition epoch 1, led by 2.
    cluster.set(1, BrokerState::Fenced);
    cluster.set(1, BrokerState::Unfenced);
    assert_eq!(cluster.show("t"), "1,2,3 | 2 @ 1.1 | 2,3 | ");
    cluster
}

fn replica(id: i32, broker_epoch: Option<BrokerEpoch>) -> ProposedReplica {
    ProposedReplica { broker_id: BrokerId(id), broker_epoch }
}

#[test]
fn each_rule_refuses_with_its_own_error() {
    let mut cluster = cluster();
    let good = cluster.proposal("t", &[2, 3, 1]);
    let end = cluster.image.end_offset();
    let mut refuse = |proposer: i32, change: &dyn Fn(&mut ProposedPartition)| {
        let mut proposal = good.clone();
        change(&mut proposal);
        cluster.propose_this(proposer, proposal).expect_err("refused")
    };
    let topic = TopicId(Uuid::from_u128(12345));
    assert_eq!(refuse(2, &|p| p.key.topic = topic), E::UnknownTopicId);
    assert_eq!(refuse(2, &|p| p.key.partition = 1), E::UnknownPartition);
    assert_eq!(refuse(2, &|p| p.leader_epoch = 2), E::NotController);
    assert_eq!(refuse(2, &|p| p.partition_epoch = 2), E::NotController);
    assert_eq!(refuse(2, &|p| p.leader_epoch = 0), E::FencedLeaderEpoch { given: 0, present: 1 });
    assert_eq!(refuse(3, &|_| {}), E::NotLeader(BrokerId(3)));
    assert_eq!(refuse(2, &|p| p.partition_epoch = 0), E::StalePartitionEpoch { given: 0, present: 1 });
    assert_eq!(refuse(2, &|p| p.isr.push(replica(4, None))), E::IsrNotWithinReplicas);
    assert_eq!(refuse(2, &|p| p.isr.push(replica(2, None))), E::IsrNotWithinReplicas);
    assert_eq!(refuse(2, &|p| p.isr.clear()), E::IsrNotWithinReplicas);
    assert_eq!(refuse(2, &|p| p.isr.retain(|r| r.broker_id != BrokerId(2))), E::IsrWithoutLeader);
    assert_eq!(refuse(2, &|p| p.recovering = true), E::RecoveringNotAlone);
    assert_eq!(
        refuse(2, &|p| {
            p.recovering = true;
            p.isr.truncate(1);
        }),
        E::RecoveringAfterRecovered
    );
    let earlier = Some(1);
    assert_eq!(refuse(2, &|p| p.isr[2] = replica(1, earlier)), E::IneligibleReplica(BrokerId(1)));
    assert_eq!(cluster.image.end_offset(), end, "nothing was changed");
    cluster.set(1, BrokerState::Fenced);
    assert_eq!(cluster.propose_this(2, good.clone()), Err(E::IneligibleReplica(BrokerId(1))));
    cluster.set(1, BrokerState::Unfenced);
    let mut unchecked = good;
    unchecked.isr[2] = replica(1, None);
    let altered = cluster.propose_this(2, unchecked).expect("-1 is not compared");
    assert_eq!((altered.leader_epoch, altered.partition_epoch, altered.isr.len()), (1, 2, 3));
}

#[test]
fn earlier_rules_win_over_later_ones() {
    let mut cluster = cluster();
    let mut wrong = cluster.proposal("t", &[3, 3, 4]);
    let mut step = |change: &dyn Fn(&mut ProposedPartition), proposer: i32| {
        change(&mut wrong);
        cluster.propose_this(proposer, wrong.clone()).expect_err("refused")
    };
    // All is wrong at first, and is mended from the front.
    let foreign = TopicId(Uuid::from_u128(12345));
    let right = PartitionKey { topic: foreign, partition: 7 };
    assert_eq!(step(&|p| (p.key, p.leader_epoch, p.partition_epoch) = (right, 0, 0), 3), E::UnknownTopicId);
    let topic = cluster.key("t", 0).topic;
    let mut step = |change: &dyn Fn(&mut ProposedPartition), proposer: i32| {
        change(&mut wrong);
        cluster.propose_this(proposer, wrong.clone()).expect_err("refused")
    };
    assert_eq!(step(&|p| p.key.topic = topic, 3), E::UnknownPartition);
    assert_eq!(step(&|p| (p.key.partition, p.partition_epoch) = (0, 9), 3), E::NotController, "before a fenced epoch");
    assert_eq!(step(&|p| p.partition_epoch = 0, 3), E::FencedLeaderEpoch { given: 0, present: 1 });
    assert_eq!(step(&|p| p.leader_epoch = 1, 3), E::NotLeader(BrokerId(3)));
    assert_eq!(step(&|_| {}, 2), E::StalePartitionEpoch { given: 0, present: 1 });
    assert_eq!(step(&|p| p.partition_epoch = 1, 2), E::IsrNotWithinReplicas);
    assert_eq!(step(&|p| p.isr = vec![replica(3, Some(0)), replica(1, None)], 2), E::IsrWithoutLeader);
    assert_eq!(
        step(&|p| (p.isr, p.recovering) = (vec![replica(3, Some(0)), replica(2, None)], true), 2),
        E::RecoveringNotAlone
    );
    assert_eq!(step(&|p| p.recovering = false, 2), E::IneligibleReplica(BrokerId(3)));
}

#[test]
fn the_whole_request_is_refused_with_an_old_broker_epoch() {
    let mut cluster = cluster();
    let (id, epoch) = (BrokerId(2), cluster.epoch(2) - 1);
    let partitions = vec![cluster.proposal("t", &[2, 3])];
    let command = AlterPartition { broker_id: id, broker_epoch: epoch, controller_epoch: 1, sequence: 0, partitions };
    let refusal = AlterPartitionRefusal::StaleBrokerEpoch(id, epoch);
    assert_eq!(cluster.decide(&Command::AlterPartition(command)), Reply::AlterPartition(Err(refusal)));
}

#[test]
fn a_proposal_of_what_is_there_writes_nothing_and_one_that_was_based_on_it_is_stale_after_another() {
    let mut cluster = cluster();
    let end = cluster.image.end_offset();
    let altered = cluster.propose("t", &[2, 3]).expect("taken");
    assert_eq!((altered.partition_epoch, cluster.image.end_offset()), (1, end));
    let twice = vec![cluster.proposal("t", &[2]), cluster.proposal("t", &[2, 3, 1])];
    let command = AlterPartition {
        broker_id: BrokerId(2),
        broker_epoch: cluster.epoch(2),
        controller_epoch: 1,
        sequence: 0,
        partitions: twice,
    };
    let Reply::AlterPartition(Ok(reply)) = cluster.decide(&Command::AlterPartition(command)) else { panic!("refused") };
    assert!(reply[0].1.is_ok());
    assert_eq!(reply[1].1, Err(E::StalePartitionEpoch { given: 1, present: 2 }));
    assert_eq!(cluster.show("t"), "1,2,3 | 2 @ 1.2 | 2 | 3", "a shrink under min ISR fills the ELR");
}
