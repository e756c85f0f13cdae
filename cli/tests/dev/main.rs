// SPDX-License-Identifier: Apache-2.0
//! `odradek dev` as a process: ready line, --exec, stop, kill -9 and reopen, refusals.
#![allow(clippy::unwrap_used, reason = "a test says what went wrong by failing")]
mod faults;
mod process;
mod several;

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use odradek_records::{BatchBuilder, BatchOptions, Batches};
use odradek_wire::Records;
use odradek_wire::client::{ClientOptions, Connection};
use odradek_wire::messages::{
    CreatableTopic, CreateTopicsRequest, FetchPartition, FetchRequest, FetchTopic, PartitionProduceData,
    ProduceRequest, TopicProduceData,
};

use process::{BINARY, Dev, error_line, run};

#[test]
fn the_ready_line_says_where_and_sigterm_removes_temporary_data() {
    let dev = Dev::start(&[]);
    assert_eq!(dev.ready["event"], "ready");
    let folder = dev.ready["dataDir"].as_str().unwrap().to_owned();
    assert!(Path::new(&folder).join("odradek-meta.json").exists());
    assert_eq!(dev.stop(), Some(0));
    assert!(!Path::new(&folder).exists());
}

#[test]
fn exec_runs_a_command_with_the_address_and_exits_with_its_code() {
    let output =
        run(&["dev", "--listen", "127.0.0.1:0", "--exec", "--", "sh", "-c", "echo $BOOTSTRAP_SERVERS; exit 7"]);
    assert_eq!(output.status.code(), Some(7));
    let text = String::from_utf8(output.stdout).unwrap();
    let told = text.lines().last().unwrap();
    assert!(told.starts_with("127.0.0.1:") && text.lines().next().unwrap().contains(told), "{text}");
}

#[test]
fn refusals_are_one_line_and_touch_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().to_str().unwrap();
    let dev = Dev::start(&["--data-dir", data]);
    let in_use = run(&["dev", "--listen", "127.0.0.1:0", "--data-dir", data]);
    assert_eq!(in_use.status.code(), Some(1));
    assert!(error_line(&in_use).contains("in use"));
    let fresh = tempfile::tempdir().unwrap();
    let port = run(&["dev", "--listen", dev.bootstrap(), "--data-dir", fresh.path().to_str().unwrap()]);
    assert_eq!(port.status.code(), Some(1));
    assert!(error_line(&port).contains(dev.bootstrap()));
    assert_eq!(std::fs::read_dir(fresh.path()).unwrap().count(), 0);
    let unknown = run(&["dev", "--listen", "127.0.0.1:0", "--set", "num.partition=3"]);
    assert!(error_line(&unknown).contains("num.partition"));
    let help = String::from_utf8(run(&["dev", "--help"]).stdout).unwrap();
    assert!(help.contains("Examples:") && help.contains("--exec"), "{help}");
}

#[tokio::test]
async fn acknowledged_records_survive_kill_9() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().to_str().unwrap();
    let mut dev = Dev::start(&["--data-dir", data]);
    let mut client = Connection::connect(dev.bootstrap(), ClientOptions::default()).await.unwrap();
    let topic =
        CreatableTopic { name: "t".into(), num_partitions: 1, replication_factor: 1, ..CreatableTopic::default() };
    let create = CreateTopicsRequest { topics: vec![topic], timeout_ms: 5000, ..CreateTopicsRequest::default() };
    assert_eq!(client.call(create).await.unwrap().topics[0].error_code, 0);
    let mut acknowledged = 0i64;
    let begun = Instant::now();
    // The kill comes in the middle of the load.
    let (mut pid, mut killed) = (Some(dev.child.id()), false);
    loop {
        let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64;
        let mut batch = BatchBuilder::new(BatchOptions::default());
        for _ in 0..10 {
            batch.append(now_ms, None, Some(&[b'x'; 500]), &[]);
        }
        let request = ProduceRequest {
            acks: -1,
            timeout_ms: 5000,
            topic_data: vec![TopicProduceData {
                name: "t".into(),
                partition_data: vec![PartitionProduceData { index: 0, records: Some(batch.build()) }],
                ..TopicProduceData::default()
            }],
            ..ProduceRequest::default()
        };
        match client.call_version(&request, 12).await {
            Ok(response) => {
                let partition = &response.responses[0].partition_responses[0];
                assert_eq!((partition.error_code, partition.base_offset), (0, acknowledged));
                acknowledged += 10;
            }
            Err(_) if killed => break,
            Err(error) => panic!("{error}"),
        }
        if begun.elapsed() > Duration::from_millis(700)
            && let Some(pid) = pid.take()
        {
            killed = true;
            let pid = rustix::process::Pid::from_raw(pid.cast_signed()).unwrap();
            rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
        }
    }
    dev.child.wait().unwrap();
    assert!(acknowledged > 100);

    let dev = Dev::start(&["--data-dir", data]);
    let mut client = Connection::connect(dev.bootstrap(), ClientOptions::default()).await.unwrap();
    let mut offset = 0;
    loop {
        let fetch = FetchRequest {
            min_bytes: 1,
            max_bytes: 10 << 20,
            topics: vec![FetchTopic {
                topic: "t".into(),
                partitions: vec![FetchPartition {
                    fetch_offset: offset,
                    partition_max_bytes: 10 << 20,
                    ..FetchPartition::default()
                }],
                ..FetchTopic::default()
            }],
            ..FetchRequest::default()
        };
        let response = client.call_version(&fetch, 12).await.unwrap();
        let records = response.responses[0].partitions[0].records.clone().and_then(Records::into_bytes).unwrap();
        if records.is_empty() {
            break;
        }
        for batch in Batches::new(&records) {
            let batch = batch.unwrap();
            batch.verify().unwrap();
            assert_eq!(batch.header.base_offset, offset);
            offset = batch.header.next_offset();
        }
    }
    assert!(offset >= acknowledged, "{acknowledged} acknowledged, {offset} found");
    assert_eq!(dev.stop(), Some(0));
}

#[test]
fn the_text_form_has_a_line_to_copy() {
    let mut child =
        Command::new(BINARY).args(["dev", "--listen", "127.0.0.1:0"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut reader = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    assert!(line.contains("ready") && line.contains("BOOTSTRAP_SERVERS=127.0.0.1:"), "{line}");
    let pid = rustix::process::Pid::from_raw(child.id().cast_signed()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let mut rest = String::new();
    reader.read_to_string(&mut rest).unwrap();
    assert!(rest.contains("kcat -b"), "{rest}");
    assert_eq!(child.wait().unwrap().code(), Some(0));
}
