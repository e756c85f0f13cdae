// SPDX-License-Identifier: Apache-2.0
//! The journal of groups of a whole broker: a damaged one is neither served nor touched, a deleted one is begun anew,
//! and no retention takes anything from it.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test says what went wrong by failing")]
mod support;

use std::path::Path;
use std::time::{Duration, Instant};

use odradek_runtime::{Broker, RunningBroker};
use odradek_wire::client::Connection;
use odradek_wire::messages::{
    DeleteTopicState, DeleteTopicsRequest, FindCoordinatorRequest, HeartbeatRequest, JoinGroupRequest,
    JoinGroupRequestProtocol, JoinGroupResponse, ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic,
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic, OffsetFetchRequest,
    OffsetFetchRequestTopic,
};
use support::{batch, config, connect, create, now_ms, produce};

const SOON: Duration = Duration::from_secs(10);
const ONE_JOURNAL: (&str, &str) = ("offsets.topic.num.partitions", "1");

async fn serve(folder: &Path, given: &[(&str, &str)]) -> (RunningBroker, Connection) {
    let broker = Broker::start(config(folder, given)).await.unwrap();
    let client = connect(broker.address("plain").unwrap()).await;
    (broker, client)
}

async fn find_coordinator(client: &mut Connection) -> i16 {
    let find = FindCoordinatorRequest { coordinator_keys: vec!["g".into()], ..FindCoordinatorRequest::default() };
    client.call(find).await.unwrap().coordinators[0].error_code
}

fn commit_request(partitions: &[i32], offset: i64) -> OffsetCommitRequest {
    let partition = |index: &i32| OffsetCommitRequestPartition {
        partition_index: *index,
        committed_offset: offset,
        ..OffsetCommitRequestPartition::default()
    };
    OffsetCommitRequest {
        group_id: "g".into(),
        generation_id_or_member_epoch: -1,
        topics: vec![OffsetCommitRequestTopic {
            name: "t".into(),
            partitions: partitions.iter().map(partition).collect(),
            ..OffsetCommitRequestTopic::default()
        }],
        ..OffsetCommitRequest::default()
    }
}

async fn commit(client: &mut Connection, offset: i64) -> i16 {
    let answered = client.call_version(&commit_request(&[0], offset), 8).await.unwrap();
    answered.topics[0].partitions[0].error_code
}

/// Error of the whole, or the offset.
async fn committed(client: &mut Connection) -> Result<i64, i16> {
    let request = OffsetFetchRequest {
        group_id: "g".into(),
        topics: Some(vec![OffsetFetchRequestTopic { name: "t".into(), partition_indexes: vec![0] }]),
        ..OffsetFetchRequest::default()
    };
    let answered = client.call_version(&request, 7).await.unwrap();
    if answered.error_code == 0 {
        Ok(answered.topics[0].partitions[0].committed_offset)
    } else {
        Err(answered.error_code)
    }
}

async fn join(client: &mut Connection, member_id: &str) -> JoinGroupResponse {
    let request = JoinGroupRequest {
        group_id: "g".into(),
        session_timeout_ms: 10_000,
        rebalance_timeout_ms: 10_000,
        member_id: member_id.into(),
        protocol_type: "consumer".into(),
        protocols: vec![JoinGroupRequestProtocol {
            name: "range".into(),
            metadata: bytes::Bytes::from_static(&[0, 0]),
        }],
        ..JoinGroupRequest::default()
    };
    client.call_version(&request, 5).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_journal_that_cannot_be_read_is_neither_served_nor_written() {
    let folder = tempfile::tempdir().unwrap();
    let (broker, mut client) = serve(folder.path(), &[ONE_JOURNAL]).await;
    create(&mut client, "t", 1, &[]).await;
    assert_eq!(find_coordinator(&mut client).await, 0);
    for offset in [11, 12, 13] {
        assert_eq!(commit(&mut client, offset).await, 0);
    }
    broker.shutdown().await;

    let journal = folder.path().join("__consumer_offsets-0/00000000000000000000.log");
    let whole = std::fs::read(&journal).unwrap();
    // One bit of the second of three batches of the same size, in what its checksum covers.
    let mut damaged = whole.clone();
    damaged[whole.len() / 2] ^= 1;
    std::fs::write(&journal, &damaged).unwrap();

    let (broker, mut client) = serve(folder.path(), &[ONE_JOURNAL]).await;
    assert_eq!(find_coordinator(&mut client).await, 0);
    assert_eq!(commit(&mut client, 14).await, 16);
    assert_eq!(committed(&mut client).await, Err(16));
    assert_eq!(join(&mut client, "").await.error_code, 16);
    // All else is served.
    assert_eq!(produce(&mut client, "t", batch(&[b"x"], now_ms())).await.error_code, 0);
    broker.shutdown().await;
    assert_eq!(std::fs::read(&journal).unwrap(), damaged, "nothing was written");

    std::fs::write(&journal, &whole).unwrap();
    let (broker, mut client) = serve(folder.path(), &[ONE_JOURNAL]).await;
    assert_eq!(committed(&mut client).await, Ok(13));
    broker.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn groups_begin_anew_when_their_topic_was_deleted() {
    let folder = tempfile::tempdir().unwrap();
    let (broker, mut client) = serve(folder.path(), &[ONE_JOURNAL]).await;
    create(&mut client, "t", 1, &[]).await;
    assert_eq!(find_coordinator(&mut client).await, 0);
    assert_eq!(commit(&mut client, 13).await, 0);
    // As in Kafka anybody may.
    let delete = DeleteTopicsRequest {
        topics: vec![DeleteTopicState { name: Some("__consumer_offsets".into()), ..DeleteTopicState::default() }],
        timeout_ms: 5000,
        ..DeleteTopicsRequest::default()
    };
    assert_eq!(client.call(delete).await.unwrap().responses[0].error_code, 0);
    // Not the coordinator any more: clients look for it, which creates the topic.
    assert_eq!(commit(&mut client, 14).await, 16);
    assert_eq!(committed(&mut client).await, Err(16));
    assert_eq!(find_coordinator(&mut client).await, 0);
    assert_eq!(committed(&mut client).await, Ok(-1));
    assert_eq!(commit(&mut client, 15).await, 0);
    assert_eq!(committed(&mut client).await, Ok(15));
    broker.shutdown().await;
    let (broker, mut client) = serve(folder.path(), &[ONE_JOURNAL]).await;
    assert_eq!(committed(&mut client).await, Ok(15));
    broker.shutdown().await;
}

async fn log_start(client: &mut Connection, topic: &str) -> i64 {
    let list = ListOffsetsRequest {
        replica_id: -1,
        topics: vec![ListOffsetsTopic {
            name: topic.into(),
            partitions: vec![ListOffsetsPartition { timestamp: -2, ..ListOffsetsPartition::default() }],
        }],
        ..ListOffsetsRequest::default()
    };
    client.call(list).await.unwrap().topics[0].partitions[0].offset
}

#[tokio::test(flavor = "multi_thread")]
async fn retention_takes_nothing_from_the_journal() {
    let folder = tempfile::tempdir().unwrap();
    let brief = [ONE_JOURNAL, ("log.retention.ms", "200"), ("log.retention.check.interval.ms", "50")];
    let (broker, mut client) = serve(folder.path(), &brief).await;
    create(&mut client, "t", 1, &[]).await;
    assert_eq!(find_coordinator(&mut client).await, 0);
    assert_eq!(commit(&mut client, 13).await, 0);
    // What is produced after the commit has gone: so would the journal have.
    assert_eq!(produce(&mut client, "t", batch(&[b"x"], now_ms())).await.error_code, 0);
    let begun = Instant::now();
    while log_start(&mut client, "t").await == 0 {
        assert!(begun.elapsed() < SOON);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(log_start(&mut client, "__consumer_offsets").await, 0);
    broker.shutdown().await;
    let (broker, mut client) = serve(folder.path(), &brief).await;
    assert_eq!(committed(&mut client).await, Ok(13));
    broker.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_stands_once_in_the_answer_to_a_commit() {
    let folder = tempfile::tempdir().unwrap();
    let (broker, mut client) = serve(folder.path(), &[ONE_JOURNAL]).await;
    create(&mut client, "t", 1, &[]).await;
    assert_eq!(find_coordinator(&mut client).await, 0);
    let answered = client.call_version(&commit_request(&[0, 7], 1), 8).await.unwrap();
    assert_eq!(answered.topics.len(), 1, "{answered:?}");
    let mut codes: Vec<_> = answered.topics[0].partitions.iter().map(|p| (p.partition_index, p.error_code)).collect();
    codes.sort_unstable();
    assert_eq!(codes, [(0, 0), (7, 3)]);
    broker.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_group_waits_for_more_members_and_a_heartbeat_tells_of_a_rebalance() {
    let folder = tempfile::tempdir().unwrap();
    let given = [ONE_JOURNAL, ("group.initial.rebalance.delay.ms", "700")];
    let (broker, mut client) = serve(folder.path(), &given).await;
    assert_eq!(find_coordinator(&mut client).await, 0);
    // MEMBER_ID_REQUIRED first, then the wait.
    let refused = join(&mut client, "").await;
    assert_eq!((refused.error_code, refused.generation_id), (79, -1));
    let begun = Instant::now();
    let joined = join(&mut client, &refused.member_id).await;
    assert_eq!((joined.error_code, joined.generation_id), (0, 1));
    assert_eq!(
        (&*joined.leader, &*joined.member_id, joined.members.len()),
        (&*refused.member_id, &*refused.member_id, 1)
    );
    assert!((650..5_000).contains(&begun.elapsed().as_millis()), "{:?}", begun.elapsed());
    let beat = |generation_id| HeartbeatRequest {
        group_id: "g".into(),
        generation_id,
        member_id: joined.member_id.clone(),
        ..HeartbeatRequest::default()
    };
    // Before the assignment heartbeats are fine; another generation is not.
    assert_eq!(client.call_version(&beat(1), 4).await.unwrap().error_code, 0);
    assert_eq!(client.call_version(&beat(0), 4).await.unwrap().error_code, 22);
    let mut other = connect(broker.address("plain").unwrap()).await;
    let id = join(&mut other, "").await.member_id;
    let second = tokio::spawn(async move { join(&mut other, &id).await });
    let begun = Instant::now();
    while client.call_version(&beat(1), 4).await.unwrap().error_code != 27 {
        assert!(begun.elapsed() < SOON);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // All have joined: nobody waits any longer.
    let again = join(&mut client, &joined.member_id).await;
    assert_eq!((again.error_code, again.generation_id, again.members.len()), (0, 2, 2));
    let second = second.await.unwrap();
    assert_eq!((second.error_code, second.generation_id, second.members.len()), (0, 2, 0));
    broker.shutdown().await;
}
