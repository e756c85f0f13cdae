// SPDX-License-Identifier: Apache-2.0
//! What topic settings, the journal of groups and far-behind consumers do, seen from outside a whole broker: through
//! its sockets and its files.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test says what went wrong by failing")]
mod support;

use std::path::Path;
use std::time::{Duration, Instant};

use odradek_records::{BatchBuilder, BatchOptions, Batches, Compression};
use odradek_runtime::Broker;
use odradek_wire::Records;
use odradek_wire::client::Connection;
use odradek_wire::messages::{
    FindCoordinatorRequest, ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic, OffsetCommitRequest,
    OffsetCommitRequestPartition, OffsetCommitRequestTopic, OffsetFetchRequest, OffsetFetchRequestTopic,
};
use support::{BY_NAME, batch, config, connect, create, fetch_request, now_ms, produce};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const MIB: u64 = 1 << 20;
const SOON: Duration = Duration::from_secs(10);

fn bytes_and_segments(partition: &Path) -> (u64, usize) {
    let mut found = (0, 0);
    for entry in std::fs::read_dir(partition).unwrap().map(Result::unwrap) {
        if entry.path().extension().is_some_and(|extension| extension == "log") {
            found = (found.0 + entry.metadata().map_or(0, |file| file.len()), found.1 + 1);
        }
    }
    found
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

async fn wait_for_log_start(client: &mut Connection, topic: &str, wanted: std::ops::RangeInclusive<i64>) {
    let begun = Instant::now();
    loop {
        let start = log_start(client, topic).await;
        if wanted.contains(&start) {
            return;
        }
        assert!(begun.elapsed() < SOON, "{topic} begins at {start}, not in {wanted:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn size_and_age_of_segments_follow_the_settings() {
    let folder = tempfile::tempdir().unwrap();
    let often = [("log.retention.check.interval.ms", "100")];
    let broker = Broker::start(config(folder.path(), &often)).await.unwrap();
    let mut client = connect(broker.address("plain").unwrap()).await;
    let segment = ("segment.bytes", "1048576");
    create(&mut client, "kept", 1, &[segment, ("retention.ms", "-1")]).await;
    create(&mut client, "large", 1, &[("retention.ms", "-1")]).await;
    create(&mut client, "small", 1, &[segment, ("retention.bytes", "2500000")]).await;
    create(&mut client, "brief", 1, &[segment, ("retention.ms", "60000")]).await;
    let value = vec![7u8; 700_000];
    for topic in ["kept", "large", "small", "brief"] {
        for age_ms in [3_600_000, 3_600_000, 3_600_000, 0, 0, 0] {
            let appended = produce(&mut client, topic, batch(&[&value], now_ms() - age_ms)).await;
            assert_eq!(appended.error_code, 0, "{topic}");
        }
    }
    // One batch of 700 kB fits into a segment of 1 MiB, two do not.
    assert_eq!(bytes_and_segments(&folder.path().join("kept-0")).1, 6);
    assert_eq!(bytes_and_segments(&folder.path().join("large-0")).1, 1);
    // The oldest go as long as retention.bytes are left: four segments of 0.7 MB stay.
    wait_for_log_start(&mut client, "small", 2..=2).await;
    // The first three are an hour old.
    wait_for_log_start(&mut client, "brief", 3..=3).await;
    assert_eq!(log_start(&mut client, "kept").await, 0);
    assert_eq!(log_start(&mut client, "large").await, 0);
    let gone = client.call_version(&fetch_request("brief", 0, 0, 1 << 20), BY_NAME).await.unwrap();
    assert_eq!(gone.responses[0].partitions[0].error_code, 1);
    broker.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn segments_close_when_they_span_more_than_segment_ms() {
    let folder = tempfile::tempdir().unwrap();
    let broker = Broker::start(config(folder.path(), &[])).await.unwrap();
    let mut client = connect(broker.address("plain").unwrap()).await;
    create(&mut client, "brief", 1, &[("segment.ms", "5000")]).await;
    create(&mut client, "usual", 1, &[]).await;
    let now = now_ms();
    for topic in ["brief", "usual"] {
        // 4 s after the first record is within the span, 6 s is not; the next segment has a span of its own.
        for age_ms in [60_000, 56_000, 54_000, 50_000, 48_000] {
            assert_eq!(produce(&mut client, topic, batch(&[b"x"], now - age_ms)).await.error_code, 0);
        }
    }
    assert_eq!(bytes_and_segments(&folder.path().join("brief-0")).1, 3);
    assert_eq!(bytes_and_segments(&folder.path().join("usual-0")).1, 1);
    broker.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_replica_is_enough_for_any_minimum_and_batches_stay_as_they_came() {
    let folder = tempfile::tempdir().unwrap();
    let broker = Broker::start(config(folder.path(), &[])).await.unwrap();
    let mut client = connect(broker.address("plain").unwrap()).await;
    let settings = [("min.insync.replicas", "3"), ("compression.type", "producer"), ("cleanup.policy", "delete")];
    let created = create(&mut client, "t", 1, &settings).await;
    assert_eq!(created.topics[0].error_code, 0, "{:?}", created.topics[0].error_message);
    let options = BatchOptions { compression: Compression::Zstd, ..BatchOptions::default() };
    let mut compressed = BatchBuilder::new(options);
    compressed.append(now_ms(), None, Some(&[7; 10_000]), &[]);
    let compressed = compressed.build();
    assert!(compressed.len() < 1_000);
    // The effective minimum is at most the number of replicas (rule 13).
    assert_eq!(produce(&mut client, "t", compressed.clone()).await.error_code, 0);
    let fetched = client.call_version(&fetch_request("t", 0, 0, 1 << 20), BY_NAME).await.unwrap();
    let records = fetched.responses[0].partitions[0].records.clone().and_then(Records::into_bytes).unwrap();
    // Base offset and leader epoch are the broker's; from the magic on it is the producer's.
    assert_eq!(records[16..], compressed[16..]);
    broker.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn flush_messages_acknowledges_what_is_on_the_disk() {
    let folder = tempfile::tempdir().unwrap();
    let often = [("log.flush.offset.checkpoint.interval.ms", "100")];
    let broker = Broker::start(config(folder.path(), &often)).await.unwrap();
    let mut client = connect(broker.address("plain").unwrap()).await;
    create(&mut client, "synced", 1, &[("flush.messages", "1")]).await;
    create(&mut client, "lazy", 1, &[]).await;
    for _ in 0..3 {
        assert_eq!(produce(&mut client, "lazy", batch(&[b"x"], now_ms())).await.error_code, 0);
        assert_eq!(produce(&mut client, "synced", batch(&[b"x"], now_ms())).await.error_code, 0);
    }
    // The recovery point is where the last sync reached.
    let begun = Instant::now();
    loop {
        let checkpoint = std::fs::read_to_string(folder.path().join("recovery-point-offset-checkpoint"));
        let checkpoint = checkpoint.unwrap_or_default();
        if checkpoint.lines().any(|line| line == "synced 0 3") {
            assert!(checkpoint.lines().any(|line| line == "lazy 0 0"), "{checkpoint}");
            break;
        }
        assert!(begun.elapsed() < SOON, "{checkpoint}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    broker.shutdown().await;
}

async fn cold_fetches(broker: &odradek_runtime::RunningBroker) -> u64 {
    let mut stream = TcpStream::connect(broker.http().unwrap()).await.unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("odradek_cold_fetches_total "));
    line.unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_far_behind_is_read_for_elsewhere() {
    let folder = tempfile::tempdir().unwrap();
    let broker = Broker::start(config(folder.path(), &[])).await.unwrap();
    let mut client = connect(broker.address("plain").unwrap()).await;
    create(&mut client, "t", 1, &[("segment.bytes", "1048576")]).await;
    let value = vec![7u8; 700_000];
    for _ in 0..4 {
        assert_eq!(produce(&mut client, "t", batch(&[&value], now_ms())).await.error_code, 0);
    }
    for (offset, cold) in [(3, 0), (4, 0), (0, 1), (2, 2), (3, 2), (2, 2)] {
        // With and without a wait the records that are there come at once.
        let begun = Instant::now();
        let wait_ms = if offset < 4 { 20_000 } else { 0 };
        let fetched = client.call_version(&fetch_request("t", offset, wait_ms, 1 << 20), BY_NAME).await.unwrap();
        let records = fetched.responses[0].partitions[0].records.clone().and_then(Records::into_bytes).unwrap();
        assert_eq!(records.is_empty(), offset == 4, "at {offset}");
        let read: Vec<_> = Batches::new(&records).map(|batch| batch.unwrap().header.base_offset).collect();
        assert!(read.iter().all(|read| *read == offset), "{read:?} at {offset}");
        assert_eq!(cold_fetches(&broker).await, cold, "after a fetch at {offset}");
        assert!(begun.elapsed() < SOON);
    }
    let fetched = client.call_version(&fetch_request("t", 0, 0, 1 << 20), BY_NAME).await.unwrap();
    assert!(!fetched.responses[0].partitions[0].records.as_ref().unwrap().is_empty());
    broker.shutdown().await;
}

const COMMITTED: i32 = 50;

async fn commit(client: &mut Connection, offset: i64) {
    let partition = |index| OffsetCommitRequestPartition {
        partition_index: index,
        committed_offset: offset + i64::from(index),
        committed_metadata: Some("m".repeat(4000).into()),
        ..OffsetCommitRequestPartition::default()
    };
    let request = OffsetCommitRequest {
        group_id: "g".into(),
        generation_id_or_member_epoch: -1,
        topics: vec![OffsetCommitRequestTopic {
            name: "t".into(),
            partitions: (0..COMMITTED).map(partition).collect(),
            ..OffsetCommitRequestTopic::default()
        }],
        ..OffsetCommitRequest::default()
    };
    let answer = client.call_version(&request, 8).await.unwrap();
    assert!(answer.topics[0].partitions.iter().all(|partition| partition.error_code == 0), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_journal_of_groups_stays_small_and_survives() {
    let folder = tempfile::tempdir().unwrap();
    let given = [("offsets.topic.num.partitions", "1"), ("offsets.topic.segment.bytes", "1048576")];
    let broker = Broker::start(config(folder.path(), &given)).await.unwrap();
    let mut client = connect(broker.address("plain").unwrap()).await;
    create(&mut client, "t", COMMITTED, &[]).await;
    let begun = Instant::now();
    loop {
        let find = FindCoordinatorRequest { coordinator_keys: vec!["g".into()], ..FindCoordinatorRequest::default() };
        if client.call(find).await.unwrap().coordinators[0].error_code == 0 {
            break;
        }
        assert!(begun.elapsed() < SOON);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let journal = folder.path().join("__consumer_offsets-0");
    let live = COMMITTED as u64 * 4200;
    let mut written = 0;
    for round in 1..=100 {
        commit(&mut client, round * 1000).await;
        written += COMMITTED as u64 * 4000;
    }
    assert!(written > 15 * MIB);
    // At rest: twice what is live and two segments. `server/tests/journal.rs` looks at the bound under load.
    let begun = Instant::now();
    loop {
        let (bytes, _) = bytes_and_segments(&journal);
        if bytes <= 2 * live + 2 * MIB {
            break;
        }
        assert!(begun.elapsed() < SOON, "{bytes} bytes");
        tokio::time::sleep(Duration::from_millis(50)).await;
        commit(&mut client, 100_000).await;
    }
    assert!(log_start(&mut client, "__consumer_offsets").await > 0);
    broker.shutdown().await;

    let broker = Broker::start(config(folder.path(), &given)).await.unwrap();
    let mut client = connect(broker.address("plain").unwrap()).await;
    let request = OffsetFetchRequest {
        group_id: "g".into(),
        topics: Some(vec![OffsetFetchRequestTopic { name: "t".into(), partition_indexes: (0..COMMITTED).collect() }]),
        ..OffsetFetchRequest::default()
    };
    let answer = client.call_version(&request, 7).await.unwrap();
    assert_eq!(answer.topics[0].partitions.len(), COMMITTED as usize);
    for partition in &answer.topics[0].partitions {
        assert_eq!(partition.committed_offset, 100_000 + i64::from(partition.partition_index));
    }
    broker.shutdown().await;
}
