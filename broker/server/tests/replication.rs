// SPDX-License-Identifier: Apache-2.0
//! What three brokers do that replicate partitions.
#![allow(clippy::unwrap_used, reason = "a test says what went wrong by failing")]
mod support;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use odradek_metadata::records::{PartitionRecord, TopicRecord};
use odradek_metadata::{AlterReassignments, BrokerState, Command, Reassignment, Record};
use odradek_model::{BrokerId, TopicId};
use odradek_records::{BatchBuilder, BatchOptions};
use odradek_replication::ReplicaKey;
use odradek_wire::ErrorCode;
use odradek_wire::messages::{FetchRequest, ListOffsetsRequest, ProduceRequest, ReplicaState};
use support::replicating::{Cluster, Network, PATIENCE, answered, code, eventually, fetch, produce};
use support::start;
use uuid::Uuid;

#[tokio::test(flavor = "multi_thread")]
async fn a_record_acknowledged_by_all_is_on_all() {
    let cluster = Cluster::new(&[0, 1, 2]);
    assert_eq!(cluster.produce(0, "a", -1).await, 0);
    assert_eq!([0, 1, 2].map(|id| cluster.log_end(id)), [Some(1); 3], "before the acknowledgement");
    assert_eq!(cluster.produce(1, "b", -1).await, 6, "a follower takes nothing");
    eventually("followers learn what is committed", || (0..3).all(|id| cluster.high_watermark(id) == 1)).await;
    // Without a rack, or with one of nobody's, the leader is read from; so is a follower, up to what it knows.
    for (id, rack) in [(0, ""), (0, "rack9"), (1, ""), (2, "rack0")] {
        let data = cluster.consume(id, 0, rack).await;
        assert_eq!((data.error_code, data.preferred_read_replica, data.high_watermark), (0, -1, 1), "{id} {rack}");
        assert!(!data.records.unwrap().is_empty());
    }
    let data = cluster.consume(0, 0, "rack2").await;
    assert_eq!((data.error_code, data.preferred_read_replica), (0, 2));
    assert!(data.records.unwrap().is_empty());
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_records_are_acknowledged_one_after_the_other_without_waiting_for_a_timer() {
    let cluster = Cluster::new(&[0, 1, 2]);
    assert_eq!(cluster.produce(0, "first", -1).await, 0);
    let begin = Instant::now();
    for number in 0..50 {
        assert_eq!(cluster.produce(0, &number.to_string(), -1).await, 0);
    }
    // A wait of 500 ms for each would take 25 s.
    assert!(begin.elapsed() < Duration::from_secs(8), "{:?}", begin.elapsed());
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_requests_of_an_idle_follower_name_no_partition() {
    let cluster = Cluster::new(&[0, 1, 2]);
    for number in 0..20u128 {
        cluster.create(&format!("more{number}"), TopicId(Uuid::from_u128(900 + number)), &[0, 1, 2], &[]);
    }
    assert_eq!(cluster.produce(0, "a", -1).await, 0);
    let idle = || {
        let fetches = cluster.shared.fetches.lock().unwrap();
        let mut last = fetches.iter().rev().take(4);
        fetches.len() >= 4 && last.all(|(epoch, named)| *epoch > 0 && *named == 0)
    };
    eventually("both followers have named all that there is", idle).await;
    let counts = cluster.broker(0).fetch_sessions.counts();
    assert_eq!((counts.sessions, counts.partitions), (2, 2 * 21));
    assert_eq!(cluster.produce(0, "b", -1).await, 0, "who is not named is asked for");
    eventually("followers learn what is committed", || (0..3).all(|id| cluster.high_watermark(id) == 2)).await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_partition_does_not_wait_for_the_fetch_that_waits_for_others() {
    let cluster = Cluster::new(&[0, 1, 2]);
    assert_eq!(cluster.produce(0, "a", -1).await, 0);
    let mut waits = Vec::new();
    for number in 0..10u128 {
        // By now both followers wait at the leader, for half a second, and neither names what comes next.
        tokio::time::sleep(Duration::from_millis(30)).await;
        let id = TopicId(Uuid::from_u128(500 + number));
        cluster.create(&format!("new{number}"), id, &[0, 1, 2], &[]);
        let mut request = produce("b", -1);
        request.topic_data[0].topic_id = id.0;
        let begin = Instant::now();
        let response = answered::<ProduceRequest>(start(&cluster.broker(0), &request, 13)).await;
        assert_eq!(code(&response), 0);
        waits.push(begin.elapsed());
    }
    waits.sort_unstable();
    assert!(waits[5] < Duration::from_millis(150), "{waits:?}");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_was_cut_off_cuts_what_nobody_else_has() {
    let cluster = Cluster::new(&[0, 1, 2]);
    assert_eq!(cluster.produce(0, "a", -1).await, 0);
    cluster.cut_off(0);
    // It does not know yet, and what it takes is committed nowhere.
    let broker = cluster.broker(0);
    let waiting = start(&broker, &produce("lost", -1), 13);
    assert_eq!(cluster.produce(0, "lost too", 1).await, 0);
    assert_eq!(cluster.log_end(0), Some(3));
    cluster.set_state(0, BrokerState::Fenced);
    let leader = cluster.shared.partition().leader.unwrap().0;
    assert_ne!(leader, 0);
    assert_eq!(cluster.isr(), BTreeSet::from([1, 2]));
    assert_eq!(cluster.produce(leader, "b", -1).await, 0);

    cluster.connect(0);
    let response = answered::<ProduceRequest>(waiting).await;
    assert_eq!(code(&response), 6, "whoever waited is sent to the new leader");
    let named = &response.responses[0].partition_responses[0].current_leader;
    assert_eq!(named.leader_id, leader);
    assert_eq!(response.node_endpoints[0].host.as_str(), format!("host{leader}"));
    eventually("the old leader is back in sync", || cluster.isr() == BTreeSet::from([0, 1, 2])).await;
    assert_eq!(cluster.log_end(0), Some(2));
    eventually("all is committed on it", || cluster.high_watermark(0) == 2).await;
    let (theirs, ours) = (cluster.consume(leader, 0, "").await, cluster.consume(0, 0, "").await);
    assert_eq!(theirs.records, ours.records);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_that_falls_behind_leaves_the_isr_and_comes_back() {
    let cluster = Cluster::new(&[0, 1, 2]);
    assert_eq!(cluster.produce(0, "a", -1).await, 0);
    cluster.cut_off(2);
    // Acknowledged once the leader has had the follower removed.
    assert_eq!(cluster.produce(0, "b", -1).await, 0);
    assert_eq!(cluster.isr(), BTreeSet::from([0, 1]));
    assert_eq!((cluster.log_end(1), cluster.log_end(2)), (Some(2), Some(1)));
    cluster.cut_off(1);
    // Who has all there is does not lag, however silent; with this record it does.
    assert_eq!(cluster.produce(0, "c", 1).await, 0);
    eventually("the second one leaves too", || cluster.isr() == BTreeSet::from([0])).await;
    // Fewer than the minimum of two: nothing more is acknowledged, and nothing more is shown.
    assert_eq!(cluster.produce(0, "d", -1).await, 19);
    assert_eq!(cluster.produce(0, "d", 1).await, 0);
    assert_eq!((cluster.log_end(0), cluster.high_watermark(0)), (Some(4), 2));
    cluster.shared.cut_off.lock().unwrap().clear();
    cluster.shared.add(&[]);
    eventually("both are back", || cluster.isr() == BTreeSet::from([0, 1, 2])).await;
    eventually("all is committed", || (0..3).all(|id| cluster.high_watermark(id) == 4)).await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_moves_to_another_broker_with_all_it_has() {
    let cluster = Cluster::new(&[0, 1]);
    assert_eq!(cluster.produce(0, "a", -1).await, 0);
    assert_eq!(cluster.log_end(2), None);
    let not_here = cluster.consume(2, 0, "").await;
    assert_eq!((not_here.error_code, not_here.current_leader.leader_id), (6, 0));
    let moved = AlterReassignments {
        reassignments: vec![Reassignment { topic: "t".to_owned(), partition: 0, replicas: Some(vec![1, 2]) }],
        allow_replication_factor_change: true,
    };
    let reply = cluster.shared.decide(&Command::AlterReassignments(moved));
    eventually("it is moved", || cluster.isr() == BTreeSet::from([1, 2])).await;
    let partition = cluster.shared.partition();
    assert!(!partition.is_reassigning(), "{reply:?}");
    assert_eq!(cluster.log_end(2), Some(1));
    eventually("the first one has it no more", || cluster.log_end(0).is_none()).await;
    let disk = cluster.folders[0].folder.has_partition(&odradek_model::TopicName::new("t").unwrap(), 0);
    assert!(!disk.unwrap(), "its folder is gone");
    let leader = partition.leader.unwrap().0;
    assert_eq!(cluster.produce(leader, "b", -1).await, 0);
    assert_eq!((cluster.log_end(1), cluster.log_end(2)), (Some(2), Some(2)));
    assert_eq!(cluster.produce(0, "c", -1).await, 6);
    cluster.stop().await;
}

/// 400 KB at 100 KB per second: the first second's at once, and one answer ahead of the rate, so two seconds. Those in
/// sync are not slowed.
async fn a_throttled_move_takes_its_time(given: (&str, &str), of_topic: &[(&str, &str)]) {
    let cluster = Cluster::with(&[0, 1], &[given], of_topic);
    for _ in 0..40 {
        assert_eq!(cluster.produce(0, &"x".repeat(10_000), -1).await, 0);
    }
    let begin = Instant::now();
    cluster.reassign(&[0, 1, 2]);
    for _ in 0..20 {
        assert_eq!(cluster.produce(0, "y", -1).await, 0);
    }
    assert!(begin.elapsed() < Duration::from_millis(1500), "who is in sync is not slowed: {:?}", begin.elapsed());
    eventually("it is moved", || cluster.isr() == BTreeSet::from([0, 1, 2])).await;
    assert!(begin.elapsed() > Duration::from_millis(1500), "{:?}", begin.elapsed());
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_that_is_added_keeps_its_rate() {
    a_throttled_move_takes_its_time(("follower.replication.throttled.rate", "100000"), &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_sends_throttled_replicas_no_more_than_its_rate() {
    let listed = [("leader.replication.throttled.replicas", "*")];
    a_throttled_move_takes_its_time(("leader.replication.throttled.rate", "100000"), &listed).await;
}

#[tokio::test(flavor = "multi_thread")]
#[allow(clippy::print_stdout, reason = "who wants to know the times sees them")]
async fn an_image_costs_what_has_changed_in_it() {
    let cluster = Cluster::new(&[0, 1, 2]);
    // Broker 0 follows 1000 partitions of 200 topics.
    let topics = 0..200u128;
    let id = |number: u128| Bytes::copy_from_slice(Uuid::from_u128(1000 + number).as_bytes());
    let mut records = Vec::new();
    for number in topics {
        records.push(Record::from(TopicRecord {
            id: id(number),
            name: format!("many{number}"),
            ..TopicRecord::default()
        }));
        records.extend((0..5).map(|partition| {
            Record::from(PartitionRecord {
                topic_id: id(number),
                partition,
                replicas: vec![1, 0],
                isr: vec![1, 0],
                leader: 1,
                ..PartitionRecord::default()
            })
        }));
    }
    let broker = cluster.broker(0);
    // The others do not hear of it: opening files is not what is measured.
    cluster.cut_off(1);
    cluster.cut_off(2);
    let begin = Instant::now();
    cluster.shared.add(&records);
    println!("1000 replicas opened in {:?}", begin.elapsed());
    assert_eq!(broker.replicas.all().len(), 1001);
    let change = |number: u128, leader_epoch| PartitionRecord {
        topic_id: id(number),
        partition: 3,
        replicas: vec![1, 0],
        isr: vec![1, 0],
        leader: 0,
        leader_epoch,
        partition_epoch: 1,
        ..PartitionRecord::default()
    };
    let begin = Instant::now();
    for number in 0..10 {
        cluster.shared.add(&[change(number, 1).into()]);
    }
    let each = begin.elapsed() / 10;
    println!("an image with one change among 1000 partitions: {each:?}");
    let led = |number: u128| {
        let key = ReplicaKey { topic: TopicId(Uuid::from_u128(1000 + number)), partition: 3 };
        broker.replica(key).unwrap().leads()
    };
    assert!((0..10).all(led) && !led(10));
    assert!(each < Duration::from_millis(100), "{each:?}");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_fetches_as_a_replica_but_that_broker() {
    let cluster = Cluster::new(&[0, 1, 2]);
    let request = FetchRequest { replica_state: ReplicaState { replica_id: 1, replica_epoch: 101 }, ..fetch(0, "") };
    let response = answered::<FetchRequest>(start(&cluster.broker(0), &request, 18)).await;
    assert_eq!((response.error_code, response.responses[0].partitions[0].error_code), (31, 31));
    let another = Network { shared: Arc::clone(&cluster.shared), from: BrokerId(2) };
    let response = another.ask(BrokerId(0), request, PATIENCE).await.unwrap();
    assert_eq!(response.error_code, 31);
    let listed = ListOffsetsRequest { replica_id: 1, ..ListOffsetsRequest::default() };
    assert!(another.ask(BrokerId(0), listed, PATIENCE).await.unwrap().topics.is_empty());
    cluster.stop().await;
}

fn numbered(sequence: i32) -> ProduceRequest {
    let options =
        BatchOptions { producer_id: 7, producer_epoch: 0, base_sequence: sequence, ..BatchOptions::default() };
    let mut batch = BatchBuilder::new(options);
    batch.append(1_700_000_000_000, None, Some(b"v"), &[]);
    let mut request = produce("", -1);
    request.topic_data[0].partition_data[0].records = Some(batch.build());
    request
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_leader_knows_the_last_five_batches_of_a_producer_and_their_offsets() {
    let cluster = Cluster::new(&[0, 1, 2]);
    let ask = async |broker: i32, sequence| {
        let response = answered::<ProduceRequest>(start(&cluster.broker(broker), &numbered(sequence), 13)).await;
        let partition = &response.responses[0].partition_responses[0];
        (partition.error_code, partition.base_offset)
    };
    for sequence in 0..6 {
        assert_eq!(ask(0, sequence).await, (0, i64::from(sequence)));
    }
    cluster.cut_off(0);
    cluster.set_state(0, BrokerState::Fenced);
    let leader = cluster.shared.partition().leader.unwrap().0;
    for sequence in (1..6).rev() {
        assert_eq!(ask(leader, sequence).await, (0, i64::from(sequence)), "as the first answer would have been");
    }
    // As in Kafka: what is older cannot be told from a gap.
    assert_eq!(ask(leader, 0).await, (ErrorCode::OutOfOrderSequenceNumber.code(), -1));
    assert_eq!(ask(leader, 6).await, (0, 6));
    cluster.stop().await;
}
