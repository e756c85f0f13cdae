// SPDX-License-Identifier: Apache-2.0
//! `odradek dev broker`: brokers of a running process are killed, paused and started again.
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use odradek_records::{BatchBuilder, BatchOptions, Batches};
use odradek_wire::Records;
use odradek_wire::client::{ClientOptions, Connection};
use odradek_wire::messages::{
    ApiVersionsRequest, CreatableTopic, CreateTopicsRequest, FetchPartition, FetchRequest, FetchTopic,
    PartitionProduceData, ProduceRequest, TopicProduceData,
};
use tokio::time::timeout;

use crate::process::{Dev, error_line, run};

const LIMIT: Duration = Duration::from_secs(10);
/// Long enough for an answer that is going to come.
const A_WHILE: Duration = Duration::from_millis(300);

async fn connect(dev: &Dev) -> Connection {
    Connection::connect(dev.bootstrap(), ClientOptions::default()).await.unwrap()
}

async fn create(client: &mut Connection, topic: &str) {
    let topic =
        CreatableTopic { name: topic.into(), num_partitions: 1, replication_factor: 1, ..CreatableTopic::default() };
    let create = CreateTopicsRequest { topics: vec![topic], timeout_ms: 5000, ..CreateTopicsRequest::default() };
    assert_eq!(client.call(create).await.unwrap().topics[0].error_code, 0);
}

fn records(topic: &str, value: &[u8]) -> ProduceRequest {
    let mut batch = BatchBuilder::new(BatchOptions::default());
    batch.append(1_700_000_000_000, None, Some(value), &[]);
    ProduceRequest {
        acks: -1,
        timeout_ms: 5000,
        topic_data: vec![TopicProduceData {
            name: topic.into(),
            partition_data: vec![PartitionProduceData { index: 0, records: Some(batch.build()) }],
            ..TopicProduceData::default()
        }],
        ..ProduceRequest::default()
    }
}

async fn produce(client: &mut Connection, topic: &str, value: &[u8]) -> i64 {
    let response = client.call_version(&records(topic, value), 12).await.unwrap();
    let partition = &response.responses[0].partition_responses[0];
    assert_eq!(partition.error_code, 0);
    partition.base_offset
}

async fn count(client: &mut Connection, topic: &str) -> i64 {
    let fetch = FetchRequest {
        min_bytes: 1,
        max_bytes: 10 << 20,
        topics: vec![FetchTopic {
            topic: topic.into(),
            partitions: vec![FetchPartition { partition_max_bytes: 10 << 20, ..FetchPartition::default() }],
            ..FetchTopic::default()
        }],
        ..FetchRequest::default()
    };
    let response = client.call_version(&fetch, 12).await.unwrap();
    let records = response.responses[0].partitions[0].records.clone().and_then(Records::into_bytes).unwrap();
    Batches::new(&records).map(|batch| batch.unwrap().header.next_offset()).last().unwrap_or(0)
}

#[tokio::test]
async fn a_killed_broker_is_gone_like_a_process_and_comes_back_with_its_records() {
    let dev = Dev::start(&[]);
    let mut client = connect(&dev).await;
    create(&mut client, "t").await;
    for round in 0..3 {
        assert_eq!(produce(&mut client, "t", b"kept").await, round);
        let brokers = dev.brokers(&["kill", "0"]);
        assert_eq!((&brokers[0]["state"], &brokers[0]["controller"]), (&"stopped".into(), &false.into()), "{brokers}");
        // The old connection ends, and a new one is refused.
        assert!(timeout(LIMIT, client.call(ApiVersionsRequest::default())).await.unwrap().is_err());
        assert!(Connection::connect(dev.bootstrap(), ClientOptions::default()).await.is_err());
        assert!(error_line(&dev.broker(&["kill", "0"])).contains("does not run"));
        let brokers = dev.brokers(&["restart", "0"]);
        assert_eq!((&brokers[0]["state"], &brokers[0]["controller"]), (&"running".into(), &true.into()), "{brokers}");
        assert_eq!((&brokers[0]["leaders"], &brokers[0]["address"]), (&1.into(), &dev.bootstrap().into()));
        client = connect(&dev).await;
        assert_eq!(count(&mut client, "t").await, round + 1);
    }
    // One that runs is killed first.
    dev.brokers(&["restart", "0"]);
    assert_eq!(count(&mut connect(&dev).await, "t").await, 3);
    assert_eq!(dev.stop(), Some(0));
}

#[tokio::test]
async fn a_paused_broker_accepts_and_answers_only_once_it_is_resumed() {
    let dev = Dev::start(&[]);
    let mut client = connect(&dev).await;
    create(&mut client, "t").await;
    for round in 0..3 {
        assert_eq!(dev.brokers(&["pause", "0"])[0]["state"], "paused");
        // Again changes nothing.
        dev.brokers(&["pause", "0"]);
        // The kernel still takes connections.
        drop(std::net::TcpStream::connect(dev.bootstrap()).unwrap());
        let mut answer = Box::pin(produce(&mut client, "t", b"late"));
        assert!(timeout(A_WHILE, &mut answer).await.is_err(), "a paused broker answered");
        assert_eq!(dev.brokers(&["resume", "0"])[0]["state"], "running");
        assert_eq!(timeout(LIMIT, answer).await.unwrap(), round);
    }
    dev.brokers(&["pause", "0"]);
    assert_eq!(dev.brokers(&["kill", "0"])[0]["state"], "stopped");
    assert!(timeout(LIMIT, client.call(ApiVersionsRequest::default())).await.unwrap().is_err());
    for verb in ["pause", "resume"] {
        assert!(error_line(&dev.broker(&[verb, "0"])).contains("does not run"));
    }
    dev.brokers(&["restart", "0"]);
    assert_eq!(count(&mut connect(&dev).await, "t").await, 3);
    // A stop also ends one that is paused, and cleanly.
    dev.brokers(&["pause", "0"]);
    assert_eq!(dev.stop(), Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kills_under_load_lose_nothing_acknowledged() {
    let dev = Dev::start(&[]);
    let mut client = connect(&dev).await;
    create(&mut client, "t").await;
    let mut acknowledged = 0;
    for round in 0..5 {
        let mut load = tokio::task::JoinSet::new();
        load.spawn(async move {
            let mut last = -1;
            // Until the kill: then the connection ends.
            while let Ok(response) = client.call_version(&records("t", &[b'x'; 200]), 12).await {
                let partition = &response.responses[0].partition_responses[0];
                // An error instead of a closed connection is possible, and rare.
                if partition.error_code != 0 {
                    break;
                }
                last = partition.base_offset;
            }
            last
        });
        tokio::time::sleep(Duration::from_millis(100 + 37 * round)).await;
        let dev = &dev;
        tokio::task::block_in_place(|| dev.brokers(&["restart", "0"]));
        acknowledged = acknowledged.max(timeout(LIMIT, load.join_next()).await.unwrap().unwrap().unwrap() + 1);
        client = connect(dev).await;
        let there = count(&mut client, "t").await;
        assert!(there >= acknowledged && acknowledged > 0, "{acknowledged} acknowledged, {there} there");
    }
    assert_eq!(dev.stop(), Some(0));
}

#[test]
fn requests_that_are_none_are_refused_and_the_socket_goes_with_the_process() {
    let dev = Dev::start(&[]);
    let control = dev.ready["control"].as_str().unwrap().to_owned();
    let ask = |bytes: &[u8]| {
        let mut stream = UnixStream::connect(&control).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        // It may be closed before all is written.
        let _ = stream.write_all(bytes);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer);
        answer
    };
    let endless = vec![b'['; 1 << 20];
    for bytes in [&b""[..], b"\n", b"{}\n", b"{\"verb\":\"stop\"}\n", b"\xff\xfe\n", &endless] {
        let answer = ask(bytes);
        assert!(answer.is_empty() || answer.starts_with("{\"error\":"), "{answer}");
    }
    assert!(ask(b"{\"verb\":\"list\"}").starts_with("{\"brokers\":[{\"id\":0,"));
    assert!(error_line(&dev.broker(&["kill", "1"])).contains("no broker 1"));
    assert_eq!(dev.stop(), Some(0));
    assert!(!std::path::Path::new(&control).exists());
    let gone = run(&["dev", "broker", "list", "--control", &control]);
    assert!(error_line(&gone).contains(&control));
}

#[test]
fn the_only_one_that_runs_is_found_and_of_several_the_names_are_told() {
    let runtime = tempfile::tempdir().unwrap();
    let dev = |arguments: &[&str]| {
        std::process::Command::new(crate::process::BINARY)
            .args([&["dev", "broker", "list"], arguments].concat())
            .env("XDG_RUNTIME_DIR", runtime.path())
            .output()
            .unwrap()
    };
    assert!(error_line(&dev(&[])).contains("no `odradek dev` runs"));
    let start = || {
        let mut child = std::process::Command::new(crate::process::BINARY)
            .args(["dev", "--listen", "127.0.0.1:0", "--output", "json"])
            .env("XDG_RUNTIME_DIR", runtime.path())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(child.stdout.take().unwrap()), &mut line).unwrap();
        Dev { child, ready: serde_json::from_str(&line).unwrap() }
    };
    let first = start();
    let found = dev(&[]);
    assert!(String::from_utf8_lossy(&found.stdout).contains(first.bootstrap()), "{found:?}");
    let second = start();
    let several = error_line(&dev(&[]));
    for one in [&first, &second] {
        assert!(several.contains(one.ready["control"].as_str().unwrap()), "{several}");
    }
    // One that was killed leaves its socket, and is not taken for one that runs.
    first.signal(rustix::process::Signal::KILL);
    drop(first);
    let found = dev(&[]);
    assert!(String::from_utf8_lossy(&found.stdout).contains(second.bootstrap()), "{found:?}");
    assert_eq!(second.stop(), Some(0));
}

#[test]
fn a_command_finds_the_cluster_that_runs_it() {
    let script = "\"$0\" dev broker list --output json";
    let output = run(&[
        "dev",
        "--listen",
        "127.0.0.1:0",
        "--output",
        "json",
        "--exec",
        "--",
        "sh",
        "-c",
        script,
        crate::process::BINARY,
    ]);
    let text = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines[0]["brokers"], lines[1], "{text}");
}
