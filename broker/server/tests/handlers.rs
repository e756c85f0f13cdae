// SPDX-License-Identifier: Apache-2.0
//! Handlers with a broker that has no sockets and no controller: what they answer, what they count, and where they run.
#![allow(clippy::unwrap_used, reason = "a test says what went wrong by failing")]
mod support;

use std::time::Duration;

use odradek_partition::Acks;
use odradek_records::{BatchBuilder, BatchOptions};
use odradek_server::net::Started;
use odradek_wire::messages::{
    DescribeClusterRequest, FetchPartition, FetchRequest, FetchResponse, FetchTopic, InitProducerIdRequest,
    ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic, MetadataRequest, MetadataRequestTopic,
    MetadataResponseTopic, OffsetForLeaderEpochRequest, OffsetForLeaderPartition, OffsetForLeaderTopic,
    PartitionProduceData, ProduceRequest, TopicProduceData,
};
use support::{Folder, SetClock, TOPIC_ID, add_topic, answer, decode, later, publish, start};
use tokio::time::timeout;

const SOON: Duration = Duration::from_secs(20);

fn list(timestamps: &[(i32, i64)]) -> ListOffsetsRequest {
    let partition = |(index, timestamp): &(i32, i64)| ListOffsetsPartition {
        partition_index: *index,
        timestamp: *timestamp,
        ..ListOffsetsPartition::default()
    };
    ListOffsetsRequest {
        replica_id: -1,
        topics: vec![ListOffsetsTopic { name: "t".into(), partitions: timestamps.iter().map(partition).collect() }],
        ..ListOffsetsRequest::default()
    }
}

fn fetch(epoch: i32) -> FetchRequest {
    let partition =
        FetchPartition { partition_max_bytes: 1000, current_leader_epoch: epoch, ..FetchPartition::default() };
    FetchRequest {
        max_bytes: 1000,
        topics: vec![FetchTopic { topic: "t".into(), partitions: vec![partition], ..FetchTopic::default() }],
        ..FetchRequest::default()
    }
}

fn produce(value: &[u8]) -> ProduceRequest {
    let mut batch = BatchBuilder::new(BatchOptions::default());
    batch.append(1_700_000_000_000, None, Some(value), &[]);
    let data = PartitionProduceData { index: 0, records: Some(batch.build()) };
    ProduceRequest {
        acks: -1,
        timeout_ms: 60_000,
        topic_data: vec![TopicProduceData {
            name: "t".into(),
            partition_data: vec![data],
            ..TopicProduceData::default()
        }],
        ..ProduceRequest::default()
    }
}

#[tokio::test]
async fn a_replica_that_could_not_be_opened_is_a_storage_error_and_no_unknown_partition() {
    let folder = Folder::new();
    let broker = folder.broker(SetClock::new());
    add_topic(&broker, "t", vec![None]);
    let listed = answer(&broker, &list(&[(0, -1), (1, -1)]), 7);
    let codes: Vec<i16> = listed.topics[0].partitions.iter().map(|p| p.error_code).collect();
    assert_eq!(codes, [56, 3]);
    let partitions =
        [0, 1].map(|partition| OffsetForLeaderPartition { partition, ..OffsetForLeaderPartition::default() });
    let epochs = OffsetForLeaderEpochRequest {
        replica_id: -1,
        topics: vec![OffsetForLeaderTopic { topic: "t".into(), partitions: partitions.into() }],
    };
    let ends = answer(&broker, &epochs, 4);
    let codes: Vec<i16> = ends.topics[0].partitions.iter().map(|p| p.error_code).collect();
    assert_eq!(codes, [56, 3]);
    assert_eq!(answer(&broker, &produce(b"x"), 9).responses[0].partition_responses[0].error_code, 56);
    assert_eq!(answer(&broker, &fetch(-1), 6).responses[0].partitions[0].error_code, 56);
    // Older clients do not know the code.
    assert_eq!(answer(&broker, &fetch(-1), 5).responses[0].partitions[0].error_code, 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_produce_whose_connection_ends_waits_no_more() {
    let folder = Folder::new();
    let broker = folder.broker(SetClock::new());
    add_topic(&broker, "t", vec![Some(folder.replica("t", &[("flush.messages", "1")]))]);
    folder.gate.set(false);
    let Started::Waiting(mut waiting) = start(&broker, &produce(b"x"), 9) else { panic!("it is not on the disk") };
    assert!(timeout(Duration::from_millis(50), &mut waiting).await.is_err());
    assert_eq!(broker.metrics.waiting_produces.get(), 1);
    drop(waiting);
    assert_eq!(broker.metrics.waiting_produces.get(), 0);
    let Started::Waiting(waiting) = start(&broker, &produce(b"y"), 9) else { panic!("it is not on the disk") };
    folder.gate.set(true);
    let answered = timeout(SOON, waiting).await.expect("it is on the disk now");
    assert_eq!(decode::<ProduceRequest>(answered, 9).responses[0].partition_responses[0].error_code, 0);
    assert_eq!(broker.metrics.waiting_produces.get(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_look_up_by_time_is_charged_and_waits_for_its_turn() {
    let folder = Folder::new();
    let broker = folder.broker(SetClock::new());
    let replica = folder.replica("t", &[]);
    let mut batch = BatchBuilder::new(BatchOptions::default());
    batch.append(5_000, None, Some(b"x"), &[]);
    replica.append(batch.build_validated(), Acks::All, 5_000).unwrap();
    add_topic(&broker, "t", vec![Some(replica)]);
    // By name: nothing is read.
    assert_eq!(answer(&broker, &list(&[(0, -1)]), 7).topics[0].partitions[0].offset, 1);

    // The budget is used up, and somebody else is the oldest: the look-up waits.
    let mut other = broker.reads.open();
    other.grow(broker.reads.total()).await;
    let Started::Waiting(mut waiting) = start(&broker, &list(&[(0, 4_000)]), 7) else { panic!("it has to be read") };
    assert!(timeout(Duration::from_millis(50), &mut waiting).await.is_err());
    drop(other);
    let listed = decode::<ListOffsetsRequest>(timeout(SOON, waiting).await.expect("its turn"), 7);
    let found = &listed.topics[0].partitions[0];
    assert_eq!((found.error_code, found.offset, found.timestamp), (0, 0, 5_000));
    assert_eq!(broker.reads.used(), 0);

    // The record of the largest timestamp is read too.
    let Started::Waiting(waiting) = start(&broker, &list(&[(0, -3)]), 7) else { panic!("it has to be read") };
    let listed = decode::<ListOffsetsRequest>(timeout(SOON, waiting).await.expect("read"), 7);
    assert_eq!((listed.topics[0].partitions[0].offset, listed.topics[0].partitions[0].timestamp), (0, 5_000));
}

#[tokio::test]
async fn a_partition_that_is_asked_for_twice_is_refused_twice() {
    let folder = Folder::new();
    let broker = folder.broker(SetClock::new());
    add_topic(&broker, "t", vec![Some(folder.replica("t", &[])), None]);
    let listed = answer(&broker, &list(&[(0, -1), (1, -2), (0, -2)]), 7);
    let codes: Vec<i16> = listed.topics[0].partitions.iter().map(|p| p.error_code).collect();
    assert_eq!(codes, [42, 56, 42]);
}

#[tokio::test]
async fn a_fetch_session_that_nobody_opened_is_not_found() {
    let folder = Folder::new();
    let broker = folder.broker(SetClock::new());
    add_topic(&broker, "t", vec![Some(folder.replica("t", &[]))]);
    for (session_id, session_epoch, expected) in [(0, -1, 0), (0, 0, 0), (9, -1, 0), (9, 0, 0), (9, 1, 70), (0, 5, 70)]
    {
        let request = FetchRequest { session_id, session_epoch, ..fetch(-1) };
        let answered = answer(&broker, &request, 12);
        assert_eq!(answered.error_code, expected, "session {session_id} epoch {session_epoch}");
        assert_eq!(answered.session_id > 0, session_epoch == 0, "session {session_id} epoch {session_epoch}");
        assert_eq!(answered.responses.is_empty(), expected != 0);
    }
}

#[tokio::test]
async fn a_fetch_session_names_what_is_new() {
    let folder = Folder::new();
    let broker = folder.broker(SetClock::new());
    add_topic(&broker, "t", vec![Some(folder.replica("t", &[])), Some(folder.replica("u", &[]))]);
    let mut request = FetchRequest { session_epoch: 0, max_wait_ms: 0, ..fetch(-1) };
    let second = FetchPartition { partition: 1, ..request.topics[0].partitions[0].clone() };
    request.topics[0].partitions.push(second);
    let names = |response: &FetchResponse| -> Vec<i32> {
        response.responses.iter().flat_map(|topic| &topic.partitions).map(|data| data.partition_index).collect()
    };
    let first = answer(&broker, &request, 12);
    assert_eq!((first.error_code, names(&first)), (0, vec![0, 1]));
    let next = |epoch| FetchRequest {
        session_id: first.session_id,
        session_epoch: epoch,
        max_wait_ms: 0,
        ..FetchRequest::default()
    };
    let quiet = answer(&broker, &next(1), 12);
    assert_eq!((quiet.error_code, quiet.session_id, names(&quiet)), (0, first.session_id, vec![]));
    let mut record = produce(b"x");
    record.topic_data[0].partition_data[0].index = 1;
    assert_eq!(later(&broker, &record, 9).await.responses[0].partition_responses[0].error_code, 0);
    let news = answer(&broker, &next(2), 12);
    assert_eq!((news.error_code, names(&news)), (0, vec![1]));
    assert_eq!(answer(&broker, &next(2), 12).error_code, 71);
    assert_eq!(answer(&broker, &next(3), 13).error_code, 106);
    assert_eq!(broker.fetch_sessions.counts().partitions, 2);
    assert_eq!(names(&answer(&broker, &FetchRequest { session_epoch: -1, ..next(-1) }, 12)), Vec::<i32>::new());
    assert_eq!(broker.fetch_sessions.counts().sessions, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_believes_in_another_leader_is_told_who_leads_and_where() {
    let folder = Folder::new();
    let broker = folder.broker(SetClock::new());
    publish(&broker, "t", &[true, false]);
    for (epoch, expected) in [(-1, 0), (2, 74), (3, 0), (4, 75)] {
        for version in [15, 16] {
            let mut request = fetch(epoch);
            request.topics[0].topic_id = TOPIC_ID;
            let answered = answer(&broker, &request, version);
            let partition = &answered.responses[0].partitions[0];
            assert_eq!(partition.error_code, expected, "epoch {epoch}");
            let told = (version, expected) == (16, 74);
            let leader = &partition.current_leader;
            assert_eq!((leader.leader_id, leader.leader_epoch), if told { (0, 3) } else { (-1, -1) });
            let nodes: Vec<_> = answered.node_endpoints.iter().map(|n| (n.node_id, &*n.host, n.port)).collect();
            assert_eq!(nodes, if told { vec![(0, "host", 9092)] } else { vec![] }, "epoch {epoch} v{version}");
        }
    }
    // Nobody leads the second partition.
    for version in [9, 10] {
        let mut request = produce(b"x");
        request.topic_data[0].partition_data[0].index = 1;
        let answered = answer(&broker, &request, version);
        let partition = &answered.responses[0].partition_responses[0];
        let told = if version == 10 { (-1, 3) } else { (-1, -1) };
        assert_eq!((partition.error_code, partition.base_offset), (6, -1));
        assert_eq!((partition.current_leader.leader_id, partition.current_leader.leader_epoch), told);
        assert!(answered.node_endpoints.is_empty());
    }
}

fn metadata(topics: &[(Option<&str>, u128)]) -> MetadataRequest {
    let topic = |(name, id): &(Option<&str>, u128)| MetadataRequestTopic {
        name: name.map(Into::into),
        topic_id: uuid::Uuid::from_u128(*id),
    };
    MetadataRequest {
        topics: Some(topics.iter().map(topic).collect()),
        include_topic_authorized_operations: true,
        ..MetadataRequest::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn metadata_is_told_by_name_or_by_id_and_each_topic_once() {
    let folder = Folder::new();
    let broker = folder.broker(SetClock::new());
    publish(&broker, "t", &[true, false]);
    let told = |request: &MetadataRequest, version: i16| {
        let answered = answer(&broker, request, version);
        let short = |topic: &MetadataResponseTopic| {
            (topic.name.as_deref().map(str::to_owned), topic.topic_id.as_u128(), topic.error_code)
        };
        answered.topics.iter().map(short).collect::<Vec<_>>()
    };
    let known = (Some("t".to_owned()), 7, 0);
    assert_eq!(told(&metadata(&[(Some("t"), 0), (Some("t"), 0)]), 12), std::slice::from_ref(&known));
    assert_eq!(told(&metadata(&[(None, 7), (None, 9), (None, 7)]), 12), [known.clone(), (None, 9, 100)]);
    // One id among them, and names do not count.
    assert_eq!(told(&metadata(&[(Some("other"), 0), (None, 7)]), 12), [known]);
    // In versions 10 and 11 an id refuses the whole.
    let refused = [(Some("t".to_owned()), 0, 42), (Some(String::new()), 7, 42)];
    assert_eq!(told(&metadata(&[(Some("t"), 0), (None, 7)]), 10), refused);
    let bad = told(&metadata(&[(Some("bad name"), 0), (Some("__consumer_offsets"), 0)]), 12);
    assert_eq!(bad.iter().map(|topic| topic.2).collect::<Vec<_>>(), [17, 3]);
    let answered = answer(&broker, &metadata(&[(Some("t"), 0), (Some("__consumer_offsets"), 0)]), 12);
    let partitions: Vec<_> = answered.topics[0].partitions.iter().map(|p| (p.error_code, p.leader_id)).collect();
    assert_eq!(partitions, [(0, 0), (5, -1)]);
    assert!(answered.topics[1].is_internal && answered.topics[1].topic_authorized_operations > 0);
}

#[tokio::test]
async fn half_an_identity_is_no_producers() {
    let folder = Folder::new();
    let broker = folder.broker(SetClock::new());
    let ask = |transactional_id: Option<&str>, producer_id, producer_epoch| InitProducerIdRequest {
        transactional_id: transactional_id.map(Into::into),
        transaction_timeout_ms: 1000,
        producer_id,
        producer_epoch,
    };
    for (request, expected) in
        [(ask(None, 5, -1), 42), (ask(None, -1, 5), 42), (ask(Some(""), -1, -1), 42), (ask(Some("tx"), -1, -1), 35)]
    {
        let answered = answer(&broker, &request, 4);
        assert_eq!((answered.error_code, answered.producer_id, answered.producer_epoch), (expected, -1, -1));
    }
}

#[tokio::test]
async fn a_cluster_is_described_to_those_who_ask_for_brokers() {
    let folder = Folder::new();
    let broker = folder.broker(SetClock::new());
    for (endpoint_type, expected, cluster) in [(1, 0, "test"), (2, 114, ""), (9, 115, "")] {
        let request = DescribeClusterRequest { endpoint_type, ..DescribeClusterRequest::default() };
        let answered = answer(&broker, &request, 1);
        assert_eq!((answered.error_code, &*answered.cluster_id), (expected, cluster));
    }
}
