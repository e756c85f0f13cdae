// SPDX-License-Identifier: Apache-2.0
//! Replicas move.

use super::*;

fn cluster() -> Cluster {
    let mut cluster = Cluster::of(6);
    cluster.topic("t", &[&[1, 2, 3]], &[]);
    cluster
}

#[test]
fn a_reassignment_is_complete_when_all_added_replicas_are_in_sync() {
    let mut cluster = cluster();
    cluster.reassign("t", Some(&[2, 4, 5])).expect("started");
    assert_eq!(cluster.show("t"), "2,4,5,1,3 | 1 @ 0.1 | 1,2,3 |  | +4,5 -1,3");
    let ongoing: Vec<_> = ongoing_reassignments(&cluster.image).collect();
    assert_eq!((ongoing.len(), ongoing[0].adding.len(), ongoing[0].removing.len()), (1, 2, 2));
    cluster.propose("t", &[1, 2, 3, 4]).expect("taken");
    assert_eq!(cluster.show("t"), "2,4,5,1,3 | 1 @ 0.2 | 1,2,3,4 |  | +4,5 -1,3");
    // The last one completes it; the proposer is not a replica any more.
    assert_eq!(cluster.propose("t", &[1, 2, 3, 4, 5]), Err(AlterPartitionError::NewLeaderElected));
    assert_eq!(cluster.show("t"), "2,4,5 | 2 @ 1.3 | 2,4,5 | ");
    assert_eq!(ongoing_reassignments(&cluster.image).count(), 0);
    assert_eq!(cluster.image.partitions_on(BrokerId(1)).count(), 0);
}

#[test]
fn a_leader_that_stays_is_answered_and_a_dropped_replica_raises_the_leader_epoch() {
    let mut cluster = cluster();
    cluster.reassign("t", Some(&[1, 2, 4])).expect("started");
    let altered = cluster.propose("t", &[1, 2, 3, 4]).expect("taken");
    assert_eq!(cluster.show("t"), "1,2,4 | 1 @ 1.2 | 1,2,4 | ");
    assert_eq!((altered.leader_epoch, altered.isr.len()), (1, 3));
}

#[test]
fn another_order_is_complete_at_once_and_moves_no_leader() {
    let mut cluster = cluster();
    cluster.reassign("t", Some(&[3, 2, 1])).expect("done");
    assert_eq!(cluster.show("t"), "3,2,1 | 1 @ 0.1 | 1,2,3 | ");
    assert_eq!(cluster.elect(ElectionKind::Preferred, "t"), Ok(()));
    assert_eq!(cluster.show("t"), "3,2,1 | 3 @ 1.2 | 1,2,3 | ");
}

#[test]
fn fewer_replicas_wait_until_all_that_remain_are_in_sync() {
    let mut cluster = cluster();
    cluster.propose("t", &[1, 2]).expect("taken");
    cluster.reassign("t", Some(&[2, 3])).expect("started");
    assert_eq!(cluster.show("t"), "2,3,1 | 1 @ 0.2 | 1,2 |  | + -1", "the ISR would shrink to one");
    assert_eq!(cluster.propose("t", &[1, 2, 3]), Err(AlterPartitionError::NewLeaderElected));
    assert_eq!(cluster.show("t"), "2,3 | 2 @ 1.3 | 2,3 | ");
}

#[test]
fn more_replicas_count_for_min_isr_only_when_all_are_there() {
    let mut cluster = Cluster::of(3);
    cluster.topic("t", &[&[1]], &[]);
    let needed = |cluster: &Cluster| {
        let topic = cluster.image.topic("t").expect("there");
        min_in_sync(topic, cluster.partition("t", 0), &cluster.settings.topic_defaults)
    };
    assert_eq!(needed(&cluster), 1);
    cluster.reassign("t", Some(&[1, 2, 3])).expect("started");
    assert_eq!((cluster.show("t").as_str(), needed(&cluster)), ("1,2,3 | 1 @ 0.1 | 1 |  | +2,3 -", 1));
    cluster.propose("t", &[1, 2, 3]).expect("taken");
    assert_eq!((cluster.show("t").as_str(), needed(&cluster)), ("1,2,3 | 1 @ 0.2 | 1,2,3 | ", 2));
}

#[test]
fn a_cancelled_reassignment_goes_back() {
    let mut cluster = cluster();
    assert_eq!(cluster.reassign("t", None), Err(ReassignmentError::NoneInProgress));
    cluster.reassign("t", Some(&[4, 5, 6])).expect("started");
    cluster.propose("t", &[1, 2, 3, 4]).expect("taken");
    cluster.elect(ElectionKind::Preferred, "t").expect("4 leads");
    cluster.reassign("t", None).expect("cancelled");
    assert_eq!(cluster.show("t"), "1,2,3 | 1 @ 2.4 | 1,2,3 | ");
}

#[test]
fn a_new_target_is_counted_from_the_original_replicas() {
    let mut cluster = cluster();
    cluster.reassign("t", Some(&[1, 2, 4])).expect("started");
    cluster.reassign("t", Some(&[4, 5, 3])).expect("turned");
    assert_eq!(cluster.show("t"), "4,5,3,1,2 | 1 @ 0.2 | 1,2,3 |  | +4,5 -1,2");
    cluster.reassign("t", Some(&[5, 2, 3])).expect("turned again");
    assert_eq!(cluster.show("t"), "5,2,3,1 | 1 @ 1.3 | 1,2,3 |  | +5 -1");
    cluster.reassign("t", None).expect("cancelled");
    assert_eq!(cluster.show("t"), "2,3,1 | 1 @ 2.4 | 1,2,3 | ");
}

#[test]
fn to_cancel_is_refused_when_only_added_replicas_are_in_sync() {
    let mut cluster = Cluster::of(4);
    cluster.topic("t", &[&[1]], &[]);
    cluster.reassign("t", Some(&[2, 3])).expect("started");
    // 2 is in sync, 1 then loses its log.
    cluster.propose("t", &[1, 2]).expect("taken");
    cluster.restart(1, |start| start.boot_id = "another".into());
    assert_eq!(cluster.show("t"), "2,3,1 | 2 @ 1.3 | 2 |  | +2,3 -1");
    let refused = cluster.reassign("t", None).expect_err("would be unclean");
    assert!(matches!(&refused, ReassignmentError::InvalidAssignment(reason) if reason.contains("unclean")));
    cluster.alter("t", "unclean.leader.election.enable", Some("true")).expect("altered");
    cluster.set(1, BrokerState::Unfenced);
    cluster.reassign("t", None).expect("cancelled");
    assert_eq!(cluster.show("t"), "1 | 1 @ 2.4 | 1 |  | recovering");
}

#[test]
fn targets_that_make_no_sense_are_refused() {
    let mut cluster = cluster();
    let mut refuse = |replicas: &[i32]| match cluster.reassign("t", Some(replicas)) {
        Err(ReassignmentError::InvalidAssignment(reason)) => reason,
        other => panic!("{other:?}"),
    };
    assert!(refuse(&[]).contains("empty"));
    assert!(refuse(&[1, 1]).contains("twice"));
    assert!(refuse(&[1, 9]).contains("not registered"));
    let wish = |allow_replication_factor_change| {
        let wish = |topic: &str| Reassignment { topic: topic.into(), partition: 0, replicas: Some(vec![1, 2]) };
        let reassignments = vec![wish("t"), wish("none"), wish("t")];
        Command::AlterReassignments(AlterReassignments { reassignments, allow_replication_factor_change })
    };
    let changed = Err(ReassignmentError::ReplicationFactorChanged { present: 3, wanted: 2 });
    let (unknown, twice) = (Err(ReassignmentError::UnknownPartition), Err(ReassignmentError::Duplicate));
    let expected = vec![changed, unknown.clone(), twice.clone()];
    assert_eq!(cluster.decide(&wish(false)), Reply::AlterReassignments(expected));
    assert_eq!(cluster.decide(&wish(true)), Reply::AlterReassignments(vec![Ok(()), unknown, twice]));
}
