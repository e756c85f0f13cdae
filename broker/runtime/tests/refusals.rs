// SPDX-License-Identifier: Apache-2.0
//! What real brokers refuse: metadata of a newer version, and strangers on the private listener. Nothing is lost by it.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test says what went wrong by failing")]
mod support;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use odradek_disk::RealDisk;
use odradek_metadata::MetadataLog;
use odradek_metadata::records::FeatureLevelRecord;
use odradek_runtime::{Broker, PRIVATE_LISTENER};
use odradek_wire::private::{
    BrokerHeartbeatRequest, ChallengeRequest, EnvelopeRequest, MayStopRequest, PrivateApiKey, PrivateHeader,
    RegisterBrokerRequest,
};
use support::cluster::{Cluster, create as create_in_cluster};
use support::{batch, config, connect, create, now_ms, produce, start};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_metadata_record_of_a_newer_version_is_refused_by_name_and_nothing_is_lost() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("data");
    let (broker, address) = start(&folder).await;
    let mut client = connect(address).await;
    create(&mut client, "t", 1, &[]).await;
    assert_eq!(produce(&mut client, "t", batch(&[b"one"], now_ms())).await.error_code, 0);
    broker.shutdown().await;

    let (metadata, kept) = (folder.join("__metadata"), root.path().join("kept"));
    copy(&metadata, &kept);
    let (mut log, image, _) = MetadataLog::open(Arc::new(RealDisk), &metadata).unwrap();
    log.append(image.epoch(), &[FeatureLevelRecord { level: 99 }.into()]).unwrap();
    drop(log);
    let newer = root.path().join("newer");
    copy(&metadata, &newer);
    let refused = Broker::start(config(&folder, &[])).await.unwrap_err().to_string();
    assert!(refused.contains("the cluster's feature level is 99, this version supports up to"), "{refused}");
    for entry in std::fs::read_dir(&newer).unwrap().map(Result::unwrap) {
        let found = std::fs::read(metadata.join(entry.file_name())).unwrap();
        assert_eq!(found, std::fs::read(entry.path()).unwrap(), "{:?} was changed", entry.file_name());
    }

    std::fs::remove_dir_all(&metadata).unwrap();
    copy(&kept, &metadata);
    let (broker, address) = start(&folder).await;
    let mut client = connect(address).await;
    let next = produce(&mut client, "t", batch(&[b"two"], now_ms())).await;
    assert_eq!((next.error_code, next.base_offset), (0, 1));
    broker.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_on_the_private_listener_changes_nothing() {
    let mut cluster = Cluster::start().await;
    let (controller, _) = cluster.controller().await;
    cluster.three_voters().await;
    let epoch = cluster.brokers[controller].as_ref().unwrap().controller().epoch;
    let mut client = cluster.client(controller).await;
    assert_eq!(create_in_cluster(&mut client, "t").await, 0);
    let header = |key| PrivateHeader { key, version: 0, correlation_id: 1 };
    let stop = BrokerHeartbeatRequest {
        broker_id: ((controller + 1) % 3) as i32,
        broker_epoch: 1,
        wants_fence: true,
        wants_shutdown: true,
        ..BrokerHeartbeatRequest::default()
    };
    let frames = [
        header(PrivateApiKey::BrokerHeartbeat).encode_frame(&stop),
        header(PrivateApiKey::RegisterBroker).encode_frame(&RegisterBrokerRequest::default()),
        header(PrivateApiKey::Envelope).encode_frame(&EnvelopeRequest::default()),
        header(PrivateApiKey::MayStop).encode_frame(&MayStopRequest { broker_id: 0 }),
        header(PrivateApiKey::Quorum).encode_frame(&ChallengeRequest {}),
    ];
    let mut frames: Vec<_> = frames.into_iter().map(|frame| frame.unwrap().concat()).collect();
    frames.push(vec![0xff; 100_000]);
    frames.push([&0x7fff_ffff_u32.to_be_bytes()[..], &[7; 1000]].concat());
    for id in 0..3 {
        let private = cluster.brokers[id].as_ref().unwrap().address(PRIVATE_LISTENER).unwrap();
        for (number, frame) in frames.iter().enumerate() {
            let mut stream = TcpStream::connect(private).await.unwrap();
            let _ = stream.write_all(frame).await;
            let mut answer = Vec::new();
            let read = tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut answer)).await;
            assert!(read.is_ok() && answer.is_empty(), "broker {id}, frame {number}: {answer:?}");
        }
    }
    for (_, broker) in cluster.alive() {
        assert_eq!(broker.controller().epoch, epoch, "the same controller leads");
    }
    for index in 0..3 {
        let partition = cluster.partition(controller, "t", index, |partition| partition.leader_id >= 0).await;
        assert_eq!(partition.isr_nodes.len(), 3, "{partition:?}");
    }
    cluster.kill_all().await;
}
