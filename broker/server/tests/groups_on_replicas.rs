// SPDX-License-Identifier: Apache-2.0
//! Groups whose journal has replicas on three brokers: who coordinates them, what is committed, and who may read it.
#![allow(clippy::unwrap_used, reason = "a test says what went wrong by failing")]
mod support;

use std::time::{Duration, Instant};

use odradek_groups as groups;
use odradek_metadata::{BrokerState, Command};
use odradek_model::{BrokerId, OFFSETS_TOPIC, TopicId};
use odradek_replication::ReplicaKey;
use odradek_server::broker::Broker;
use odradek_server::coordinators::Unconfirmed;
use odradek_server::net::{CloseReason, Finished, Started};
use odradek_wire::messages::{OffsetFetchRequest, OffsetFetchRequestGroup};
use support::replicating::{Cluster, PATIENCE, TOPIC, eventually};
use support::start;
use tokio::time::timeout;
use uuid::Uuid;

fn commit(offset: i64) -> groups::Request {
    let partition = groups::PartitionCommit { partition: 0, offset, leader_epoch: -1, metadata: None };
    groups::Request::Commit(groups::OffsetCommit {
        group_id: "g".into(),
        generation_id: -1,
        member_id: "".into(),
        group_instance_id: None,
        retention_time_ms: -1,
        knows_group_id_not_found: true,
        topics: vec![groups::TopicCommit { topic: "t".into(), topic_id: TOPIC, partitions: vec![partition] }],
    })
}

fn committed_offset() -> groups::OffsetFetch {
    groups::OffsetFetch { group_id: "g".into(), topics: None, require_stable: false }
}

/// The committed offset by a broker's coordinator, or why it does not tell.
async fn committed(broker: &Broker) -> Result<i64, groups::GroupError> {
    let read = timeout(PATIENCE, broker.coordinators.read(committed_offset()).wait()).await.expect("an end");
    match read.expect("who leads is certain")? {
        groups::Response::Fetch(response) => match response.error {
            Some(error) => Err(error),
            None => Ok(response.topics.first().map_or(-1, |topic| topic.partitions[0].offset)),
        },
        other => panic!("no offsets but {other:?}"),
    }
}

async fn commit_on(broker: &Broker, offset: i64) -> Option<groups::GroupError> {
    match timeout(PATIENCE, broker.coordinators.start("g", commit(offset)).wait()).await.expect("an answer") {
        Ok(groups::Response::Commit(response)) => response.topics[0].partitions[0].1,
        Ok(other) => panic!("no commit but {other:?}"),
        Err(error) => Some(error),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn groups_move_with_the_leadership_of_their_journal() {
    let cluster = Cluster::new(&[0, 1, 2]);
    let journal = TopicId(Uuid::from_u128(78));
    cluster.create(OFFSETS_TOPIC, journal, &[0, 1, 2], &[]);
    assert_eq!(commit_on(&cluster.broker(0), 5).await, None);
    assert_eq!(committed(&cluster.broker(0)).await, Ok(5));
    assert_eq!(committed(&cluster.broker(1)).await, Err(groups::GroupError::NotCoordinator));
    let on_all = |id| cluster.broker(id).replica(ReplicaKey { topic: journal, partition: 0 }).unwrap().log_end();
    assert_eq!([0, 1, 2].map(on_all), [1; 3], "a commit is answered when all have it");

    cluster.cut_off(0);
    // The one that is cut off cannot have this committed.
    let old = cluster.broker(0);
    let lost = old.coordinators.start("g", commit(99));
    cluster.set_state(0, BrokerState::Fenced);
    let leader = cluster.shared.image.lock().unwrap().topic_by_id(journal).unwrap().partitions[0].leader.unwrap();
    let new = cluster.broker(leader.0);
    let begin = Instant::now();
    while committed(&new).await == Err(groups::GroupError::CoordinatorLoadInProgress) {
        assert!(begin.elapsed() < PATIENCE, "the journal is loaded");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(committed(&new).await, Ok(5));
    assert_eq!(commit_on(&new, 6).await, None);
    // It does not know that another leads, and tells nobody what was committed once.
    let reading = tokio::spawn(old.coordinators.read(committed_offset()).wait());
    let begin = Instant::now();
    while !reading.is_finished() {
        assert!(begin.elapsed() < PATIENCE, "the wait ends");
        cluster.clocks[0].advance(100);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(reading.await.unwrap(), Err(Unconfirmed));
    let request = OffsetFetchRequest {
        groups: vec![OffsetFetchRequestGroup { group_id: "g".into(), ..OffsetFetchRequestGroup::default() }],
        ..OffsetFetchRequest::default()
    };
    let Started::Waiting(answer) = start(&old, &request, 9) else { panic!("it is not certain who leads") };
    let again = old.coordinators.read(committed_offset());

    cluster.connect(0);
    // Who waits when it learns that another leads is sent there.
    let answer = timeout(PATIENCE, answer).await.expect("an end");
    assert!(matches!(answer, Finished::Close(CloseReason::Unconfirmed)), "{answer:?}");
    assert_eq!(timeout(PATIENCE, again.wait()).await.expect("an end"), Err(Unconfirmed));
    match timeout(PATIENCE, lost.wait()).await.expect("it is answered when the leadership is gone") {
        Ok(groups::Response::Commit(response)) => {
            assert_eq!(response.topics[0].partitions[0].1, Some(groups::GroupError::NotCoordinator));
        }
        other => assert!(matches!(other, Err(groups::GroupError::NotCoordinator)), "{other:?}"),
    }
    assert_eq!(committed(&old).await, Err(groups::GroupError::NotCoordinator));
    // And back again, by its own log, which has cut what it had alone.
    eventually("it is back in sync", || {
        let image = cluster.shared.image.lock().unwrap();
        image.topic_by_id(journal).unwrap().partitions[0].isr.contains(&BrokerId(0))
    })
    .await;
    cluster.shared.decide(&Command::BalanceLeaders);
    let begin = Instant::now();
    while committed(&old).await.is_err() {
        assert!(begin.elapsed() < PATIENCE, "the first one coordinates again");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(committed(&old).await, Ok(6));
    assert_eq!(committed(&new).await, Err(groups::GroupError::NotCoordinator));
    cluster.stop().await;
}

/// Where the journal of the group `g` is; two of three replicas commit.
fn with_journal(replicas: &[i32]) -> Cluster {
    let cluster = Cluster::new(&[0, 1, 2]);
    cluster.create(OFFSETS_TOPIC, TopicId(Uuid::from_u128(78)), replicas, &[]);
    cluster
}

#[tokio::test(flavor = "multi_thread")]
async fn committed_offsets_are_read_on_with_one_other_while_nobody_elects() {
    let cluster = with_journal(&[0, 1, 2]);
    assert_eq!(commit_on(&cluster.broker(0), 5).await, None);
    // One replica has gone, and with it, nobody says so, the controller: it is still in the ISR.
    cluster.cut_off(2);
    assert_eq!(committed(&cluster.broker(0)).await, Ok(5));
    // Two that have gone may have gone on together.
    cluster.cut_off(1);
    let alone = cluster.broker(0).coordinators.read(committed_offset());
    assert!(!alone.is_ready());
    let wait = alone.wait();
    tokio::pin!(wait);
    assert!(timeout(Duration::from_millis(50), &mut wait).await.is_err());
    cluster.shared.cut_off.lock().unwrap().remove(&BrokerId(1));
    cluster.clocks[0].advance(100);
    // The task slept by the time that this clock does not show: the next image wakes it.
    cluster.shared.add(&[]);
    let read = timeout(PATIENCE, wait).await.expect("the other one answers again");
    assert!(matches!(read, Ok(Ok(groups::Response::Fetch(ref fetched))) if fetched.error.is_none()), "{read:?}");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_alone_in_the_isr_asks_nobody() {
    let cluster = with_journal(&[0, 1]);
    assert_eq!(commit_on(&cluster.broker(0), 5).await, None);
    cluster.cut_off(1);
    cluster.set_state(1, BrokerState::Fenced);
    let read = cluster.broker(0).coordinators.read(committed_offset());
    assert!(read.is_ready(), "nobody else can lead");
    assert!(read.take_ready().is_ok());
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_no_replica_takes_is_answered_in_time_and_may_hold_later() {
    let cluster = Cluster::with(&[0, 1, 2], &[("offsets.commit.timeout.ms", "200")], &[]);
    cluster.create(OFFSETS_TOPIC, TopicId(Uuid::from_u128(78)), &[0, 1, 2], &[]);
    let leader = cluster.broker(0);
    assert_eq!(commit_on(&leader, 5).await, None);
    cluster.cut_off(1);
    cluster.cut_off(2);
    let begin = Instant::now();
    assert_eq!(commit_on(&leader, 6).await, Some(groups::GroupError::CoordinatorNotAvailable));
    assert!(begin.elapsed() >= Duration::from_millis(200), "it waits for the replicas: {:?}", begin.elapsed());
    cluster.connect(1);
    cluster.connect(2);
    let begin = Instant::now();
    while committed(&leader).await != Ok(6) {
        assert!(begin.elapsed() < PATIENCE, "what was appended is committed when the replicas are back");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    cluster.stop().await;
}
