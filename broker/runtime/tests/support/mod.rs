// SPDX-License-Identifier: Apache-2.0
//! What the tests of a whole broker share: starting one in a temporary folder, and speaking to it.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test says what went wrong by failing")]
#![allow(clippy::print_stdout, reason = "times are read, not only judged")]
#![allow(dead_code, reason = "each test binary uses a part")]
pub(crate) mod cluster;
pub(crate) mod ports;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;

use bytes::Bytes;
use odradek_records::{BatchBuilder, BatchOptions};
use odradek_runtime::config::{Config, Coordination, ListenerConfig, LogConfig, settings};
use odradek_runtime::{Broker, RunningBroker};
use odradek_wire::client::{ClientOptions, Connection};
use odradek_wire::messages::{
    CreatableTopic, CreatableTopicConfig, CreateTopicsRequest, CreateTopicsResponse, FetchPartition, FetchRequest,
    FetchTopic, PartitionProduceData, PartitionProduceResponse, ProduceRequest, TopicProduceData,
};

pub(crate) fn config(folder: &Path, given: &[(&str, &str)]) -> Config {
    let mut all = BTreeMap::from([("group.initial.rebalance.delay.ms".to_owned(), "0".to_owned())]);
    all.extend(given.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
    Config {
        cluster_id: None,
        broker_id: 0,
        data_folder: folder.to_owned(),
        listeners: vec![ListenerConfig {
            name: "plain".to_owned(),
            bind: "127.0.0.1:0".parse().unwrap(),
            advertised: None,
        }],
        http: Some("127.0.0.1:0".parse().unwrap()),
        rack: None,
        brokers: Vec::new(),
        cluster_secret_file: None,
        cluster_secret: None,
        coordination: Coordination::Alone,
        memory_limit_bytes: Some(512 << 20),
        worker_threads: None,
        log: LogConfig::default(),
        settings: settings(all).unwrap(),
    }
}

pub(crate) async fn start(folder: &Path) -> (RunningBroker, SocketAddr) {
    let broker = Broker::start(config(folder, &[])).await.unwrap();
    let address = broker.address("plain").unwrap();
    (broker, address)
}

pub(crate) async fn connect(address: SocketAddr) -> Connection {
    Connection::connect(address, ClientOptions::default()).await.unwrap()
}

pub(crate) async fn create(
    connection: &mut Connection,
    topic: &str,
    partitions: i32,
    configs: &[(&str, &str)],
) -> CreateTopicsResponse {
    let configs =
        configs.iter().map(|(name, value)| CreatableTopicConfig { name: (*name).into(), value: Some((*value).into()) });
    let request = CreateTopicsRequest {
        topics: vec![CreatableTopic {
            name: topic.into(),
            num_partitions: partitions,
            replication_factor: -1,
            configs: configs.collect(),
            ..CreatableTopic::default()
        }],
        timeout_ms: 10_000,
        ..CreateTopicsRequest::default()
    };
    connection.call(request).await.unwrap()
}

pub(crate) fn batch(values: &[&[u8]], timestamp_ms: i64) -> Bytes {
    let mut builder = BatchBuilder::new(BatchOptions::default());
    for value in values {
        builder.append(timestamp_ms, None, Some(value), &[]);
    }
    builder.build()
}

pub(crate) fn produce_request(topic: &str, records: Bytes, acks: i16) -> ProduceRequest {
    ProduceRequest {
        acks,
        timeout_ms: 10_000,
        topic_data: vec![TopicProduceData {
            name: topic.into(),
            partition_data: vec![PartitionProduceData { index: 0, records: Some(records) }],
            ..TopicProduceData::default()
        }],
        ..ProduceRequest::default()
    }
}

/// By name: version 12 is the last that names topics.
pub(crate) async fn produce(connection: &mut Connection, topic: &str, records: Bytes) -> PartitionProduceResponse {
    let response = connection.call_version(&produce_request(topic, records, -1), 12).await.unwrap();
    response.responses[0].partition_responses[0].clone()
}

pub(crate) fn fetch_request(topic: &str, offset: i64, wait_ms: i32, max_bytes: i32) -> FetchRequest {
    FetchRequest {
        max_wait_ms: wait_ms,
        min_bytes: 1,
        max_bytes,
        topics: vec![FetchTopic {
            topic: topic.into(),
            partitions: vec![FetchPartition {
                fetch_offset: offset,
                partition_max_bytes: max_bytes,
                ..FetchPartition::default()
            }],
            ..FetchTopic::default()
        }],
        ..FetchRequest::default()
    }
}

/// By name: version 12 is the last that names topics.
pub(crate) const BY_NAME: i16 = 12;

pub(crate) fn now_ms() -> i64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as i64
}

/// Resident bytes and processor time (in ticks of 10 ms) of this process.
pub(crate) fn usage() -> (u64, u64) {
    let status = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: u64 = status.split(' ').nth(1).unwrap().parse().unwrap();
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_ascii_whitespace().collect();
    (pages * 4096, fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap())
}
