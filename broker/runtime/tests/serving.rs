// SPDX-License-Identifier: Apache-2.0
//! A whole broker by real sockets: order of answers, waiting, slow readers, settings, groups, ids, stop and reopen.
#![allow(clippy::unwrap_used, reason = "a test says what went wrong by failing")]
mod support;

use std::time::{Duration, Instant};

use odradek_records::Batches;
use odradek_runtime::Broker;
use odradek_wire::messages::{
    ApiVersionsRequest, DeleteTopicState, DeleteTopicsRequest, DescribeConfigsRequest, DescribeConfigsResource,
    FindCoordinatorRequest, InitProducerIdRequest, ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic,
    MetadataRequest, MetadataRequestTopic, OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
    OffsetFetchRequest, OffsetFetchRequestTopic,
};
use odradek_wire::{ApiKey, Encoder, Records, Request, RequestHeader};
use support::{BY_NAME, batch, config, connect, create, fetch_request, now_ms, produce, produce_request, start};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

fn framed<R: Request>(request: &R, version: i16, correlation_id: i32) -> Vec<u8> {
    let mut encoder = Encoder::framed();
    let header = RequestHeader { key: R::KEY, version, correlation_id, client_id: Some("test".into()) };
    header.encode(&mut encoder).unwrap();
    request.encode(&mut encoder, version).unwrap();
    encoder.finish().unwrap().concat()
}

async fn next_correlation_id(stream: &mut TcpStream) -> i32 {
    let size = stream.read_i32().await.unwrap();
    let mut bytes = vec![0; size as usize];
    stream.read_exact(&mut bytes).await.unwrap();
    i32::from_be_bytes(bytes[..4].try_into().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_finish_in_parallel_and_are_answered_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let (broker, address) = start(folder.path()).await;
    create(&mut connect(address).await, "t", 1, &[]).await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    // The fetch waits up to 20 s for a record that the produce behind it brings: it is answered at once only if the
    // produce is carried out while the fetch waits.
    let begun = Instant::now();
    let mut requests = framed(&fetch_request("t", 0, 20_000, 1 << 20), BY_NAME, 1);
    requests.extend(framed(&produce_request("t", batch(&[b"x"], now_ms()), -1), BY_NAME, 2));
    requests.extend(framed(&ApiVersionsRequest::default(), 0, 3));
    stream.write_all(&requests).await.unwrap();
    for expected in 1..=3 {
        assert_eq!(timeout(Duration::from_secs(5), next_correlation_id(&mut stream)).await.unwrap(), expected);
    }
    assert!(begun.elapsed() < Duration::from_secs(5));
    broker.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fetch_waits_its_time_and_a_slow_reader_holds_up_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let (broker, address) = start(folder.path()).await;
    let mut client = connect(address).await;
    create(&mut client, "t", 1, &[]).await;
    let begun = Instant::now();
    let empty = client.call_version(&fetch_request("t", 0, 400, 1 << 20), BY_NAME).await.unwrap();
    assert_eq!(empty.responses[0].partitions[0].high_watermark, 0);
    assert!((350..2000).contains(&(begun.elapsed().as_millis() as i64)), "{:?}", begun.elapsed());

    let value = vec![7u8; 900_000];
    for _ in 0..20 {
        assert_eq!(produce(&mut client, "t", batch(&[&value], now_ms())).await.error_code, 0);
    }
    // Asks for 18 MB ten times over and reads nothing.
    let mut slow = TcpStream::connect(address).await.unwrap();
    for id in 0..10 {
        slow.write_all(&framed(&fetch_request("t", 0, 0, 50 << 20), BY_NAME, id)).await.unwrap();
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    let begun = Instant::now();
    let mut offset = 0;
    while offset < 20 {
        let fetched = client.call_version(&fetch_request("t", offset, 0, 4 << 20), BY_NAME).await.unwrap();
        let records = fetched.responses[0].partitions[0].records.clone().and_then(Records::into_bytes).unwrap();
        assert!(!records.is_empty());
        offset = Batches::new(&records).flatten().map(|b| b.header.next_offset()).max().unwrap();
    }
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    broker.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_topic_setting_is_accepted_described_and_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let broker = Broker::start(config(folder.path(), &[("log.retention.bytes", "9999")])).await.unwrap();
    let mut client = connect(broker.address("plain").unwrap()).await;
    let given = [
        ("cleanup.policy", "delete"),
        ("compression.type", "producer"),
        ("flush.messages", "1"),
        ("max.message.bytes", "1000"),
        ("message.timestamp.after.max.ms", "5000"),
        ("message.timestamp.before.max.ms", "6000"),
        ("message.timestamp.type", "CreateTime"),
        ("min.insync.replicas", "1"),
        ("retention.ms", "123456"),
        ("segment.bytes", "1048576"),
        ("segment.ms", "777777"),
    ];
    let created = create(&mut client, "t", 1, &given).await;
    assert_eq!(created.topics[0].error_code, 0, "{:?}", created.topics[0].error_message);
    let describe = DescribeConfigsRequest {
        resources: vec![DescribeConfigsResource {
            resource_type: 2,
            resource_name: "t".into(),
            configuration_keys: None,
        }],
        include_synonyms: true,
        include_documentation: true,
    };
    let described = client.call(describe).await.unwrap();
    let configs = &described.results[0].configs;
    // With those of replication, which are in force at the level of a new log.
    assert_eq!(configs.len(), 15);
    for (name, value) in given {
        let config = configs.iter().find(|c| *c.name == *name).unwrap();
        assert_eq!((config.value.as_deref(), config.config_source), (Some(value), 1), "{name}");
        assert!(config.documentation.is_some());
        // As in Kafka two of them have no default of a broker's beside the value: what is given in hours holds there.
        let with_default = !["retention.ms", "segment.ms"].contains(&name);
        let sources: Vec<i8> = config.synonyms.iter().map(|synonym| synonym.source).collect();
        assert_eq!(sources.contains(&5), with_default, "{name}: {sources:?}");
        assert_eq!(sources[0], 1, "{name}");
    }
    let inherited = configs.iter().find(|c| &*c.name == "retention.bytes").unwrap();
    assert_eq!((inherited.value.as_deref(), inherited.config_source), (Some("9999"), 4));
    for (name, value) in [("cleanup.policy", "compact"), ("retention.msec", "1"), ("segment.bytes", "1")] {
        let refused = create(&mut client, "bad", 1, &[(name, value)]).await;
        assert_eq!(refused.topics[0].error_code, 40, "{name}");
        assert!(refused.topics[0].error_message.as_deref().unwrap().contains(name));
    }

    // Their effects: size, time, and an acknowledgement that waits for the disk.
    assert_eq!(produce(&mut client, "t", batch(&[b"kept"], now_ms())).await.error_code, 0);
    assert_eq!(produce(&mut client, "t", batch(&[&[0; 2000]], now_ms())).await.error_code, 10);
    assert_eq!(produce(&mut client, "t", batch(&[b"early"], now_ms() + 60_000)).await.error_code, 32);
    assert_eq!(produce(&mut client, "t", batch(&[b"late"], now_ms() - 60_000)).await.error_code, 32);
    create(&mut client, "stamped", 1, &[("message.timestamp.type", "LogAppendTime")]).await;
    let stamped = produce(&mut client, "stamped", batch(&[b"x"], 5)).await;
    assert!((now_ms() - stamped.log_append_time_ms).abs() < 60_000, "{stamped:?}");
    let list = ListOffsetsRequest {
        replica_id: -1,
        topics: vec![ListOffsetsTopic {
            name: "stamped".into(),
            partitions: vec![ListOffsetsPartition { timestamp: -3, ..ListOffsetsPartition::default() }],
        }],
        ..ListOffsetsRequest::default()
    };
    let listed = client.call(list).await.unwrap();
    assert_eq!(listed.topics[0].partitions[0].timestamp, stamped.log_append_time_ms);
    broker.shutdown().await;
}

async fn commit(client: &mut odradek_wire::client::Connection, offset: i64) -> i16 {
    let request = OffsetCommitRequest {
        group_id: "g".into(),
        generation_id_or_member_epoch: -1,
        topics: vec![OffsetCommitRequestTopic {
            name: "t".into(),
            partitions: vec![OffsetCommitRequestPartition {
                committed_offset: offset,
                committed_metadata: Some("m".into()),
                ..OffsetCommitRequestPartition::default()
            }],
            ..OffsetCommitRequestTopic::default()
        }],
        ..OffsetCommitRequest::default()
    };
    client.call_version(&request, 8).await.unwrap().topics[0].partitions[0].error_code
}

async fn committed(client: &mut odradek_wire::client::Connection) -> i64 {
    let request = OffsetFetchRequest {
        group_id: "g".into(),
        topics: Some(vec![OffsetFetchRequestTopic { name: "t".into(), partition_indexes: vec![0] }]),
        ..OffsetFetchRequest::default()
    };
    let response = client.call_version(&request, 7).await.unwrap();
    assert_eq!(response.error_code, 0);
    response.topics[0].partitions[0].committed_offset
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clean_stop_keeps_records_and_offsets_and_a_new_topic_has_none() {
    let folder = tempfile::tempdir().unwrap();
    let (broker, address) = start(folder.path()).await;
    let mut client = connect(address).await;
    create(&mut client, "t", 1, &[]).await;
    for _ in 0..10 {
        assert_eq!(produce(&mut client, "t", batch(&[b"one", b"two"], now_ms())).await.error_code, 0);
    }
    let find = FindCoordinatorRequest { coordinator_keys: vec!["g".into()], ..FindCoordinatorRequest::default() };
    let found = client.call(find).await.unwrap();
    assert_eq!((found.coordinators[0].error_code, found.coordinators[0].port), (0, i32::from(address.port())));
    assert_eq!(commit(&mut client, 13).await, 0);
    assert_eq!(committed(&mut client).await, 13);
    broker.shutdown().await;
    assert!(folder.path().join(".kafka_cleanshutdown").exists());

    let (broker, address) = start(folder.path()).await;
    assert!(!folder.path().join(".kafka_cleanshutdown").exists());
    let mut client = connect(address).await;
    let fetched = client.call_version(&fetch_request("t", 0, 0, 1 << 20), BY_NAME).await.unwrap();
    assert_eq!(fetched.responses[0].partitions[0].high_watermark, 20);
    assert_eq!(committed(&mut client).await, 13);

    let delete = DeleteTopicsRequest {
        topics: vec![DeleteTopicState { name: Some("t".into()), ..DeleteTopicState::default() }],
        timeout_ms: 5000,
        ..DeleteTopicsRequest::default()
    };
    assert_eq!(client.call(delete).await.unwrap().responses[0].error_code, 0);
    let names: Vec<String> = std::fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert!(!names.contains(&"t-0".to_owned()), "{names:?}");
    assert!(names.iter().any(|name| name.starts_with("t-0.") && name.ends_with("-delete")), "{names:?}");
    create(&mut client, "t", 1, &[]).await;
    assert_eq!(committed(&mut client).await, -1);
    assert_eq!(produce(&mut client, "t", batch(&[b"new"], now_ms())).await.base_offset, 0);
    broker.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ids_are_unique_transactions_are_refused_and_internal_topics_are_the_brokers() {
    let folder = tempfile::tempdir().unwrap();
    let mut ids = std::collections::BTreeSet::new();
    for _ in 0..2 {
        let (broker, address) = start(folder.path()).await;
        let mut client = connect(address).await;
        for _ in 0..5 {
            let request = InitProducerIdRequest { transactional_id: None, ..InitProducerIdRequest::default() };
            let granted = client.call(request).await.unwrap();
            assert_eq!((granted.error_code, granted.producer_epoch), (0, 0));
            assert!(ids.insert(granted.producer_id), "{} was given before", granted.producer_id);
        }
        let transactional =
            InitProducerIdRequest { transactional_id: Some("tx".into()), ..InitProducerIdRequest::default() };
        assert_eq!(client.call(transactional).await.unwrap().error_code, 35);
        let find = FindCoordinatorRequest {
            key_type: 1,
            coordinator_keys: vec!["tx".into()],
            ..FindCoordinatorRequest::default()
        };
        // CLUSTER_AUTHORIZATION_FAILED: librdkafka asks for ever after any other code that is true.
        assert_eq!(client.call(find).await.unwrap().coordinators[0].error_code, 31);
        let find = FindCoordinatorRequest { coordinator_keys: vec!["g".into()], ..FindCoordinatorRequest::default() };
        assert_eq!(client.call(find).await.unwrap().coordinators[0].error_code, 0);
        let refused = produce(&mut client, "__consumer_offsets", batch(&[b"x"], now_ms())).await;
        assert_eq!(refused.error_code, 17);
        broker.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn asking_for_a_topic_creates_it_behind_the_answer() {
    let folder = tempfile::tempdir().unwrap();
    let (broker, address) = start(folder.path()).await;
    let mut client = connect(address).await;
    let ask = |name: &str| MetadataRequest {
        topics: Some(vec![MetadataRequestTopic { name: Some(name.into()), ..MetadataRequestTopic::default() }]),
        ..MetadataRequest::default()
    };
    assert_eq!(client.call(ask("new")).await.unwrap().topics[0].error_code, 3);
    let mut code = 3;
    for _ in 0..50 {
        code = client.call(ask("new")).await.unwrap().topics[0].error_code;
        if code == 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(code, 0);
    assert_eq!(client.call(ask("bad name")).await.unwrap().topics[0].error_code, 17);
    assert_eq!(client.version(ApiKey::Metadata), Some(13));
    broker.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_cannot_be_says_why_and_touches_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (broker, address) = start(folder.path()).await;
    let error = Broker::start(config(folder.path(), &[])).await.unwrap_err().to_string();
    assert!(error.contains("in use"), "{error}");
    let other = tempfile::tempdir().unwrap();
    let mut taken = config(other.path(), &[]);
    taken.listeners[0].bind = address;
    let error = Broker::start(taken).await.unwrap_err().to_string();
    assert!(error.contains(&address.to_string()), "{error}");
    assert_eq!(std::fs::read_dir(other.path()).unwrap().count(), 0);
    broker.shutdown().await;
    let mut foreign = config(folder.path(), &[]);
    foreign.cluster_id = Some(odradek_model::ClusterId::new("another").unwrap());
    let error = Broker::start(foreign).await.unwrap_err().to_string();
    assert!(error.contains("another") && error.lines().count() == 1, "{error}");
    assert!(folder.path().join(".kafka_cleanshutdown").exists());
}
