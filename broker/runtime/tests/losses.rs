// SPDX-License-Identifier: Apache-2.0
//! What brokers lose, and what becomes of it: voters that are gone for good, and logs that are damaged or gone.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test says what went wrong by failing")]
mod support;

use std::time::{Duration, Instant};

use odradek_runtime::{Broker, RecoveryPlan};
use odradek_wire::Records;
use odradek_wire::client::Connection;
use odradek_wire::messages::{
    CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig, CreateTopicsRequest, ElectLeadersRequest,
    InitProducerIdRequest, MetadataResponsePartition, TopicPartitions,
};
use support::cluster::{Cluster, create};
use support::{BY_NAME, batch, fetch_request, now_ms, produce};

const PATIENCE: Duration = Duration::from_secs(20);

/// Writes one record to partition 0 by its leader, whichever that is.
async fn write(cluster: &Cluster, asked: usize, topic: &str, value: &[u8]) -> i64 {
    let began = Instant::now();
    loop {
        let leader = cluster.partition(asked, topic, 0, |partition| partition.leader_id >= 0).await.leader_id;
        if cluster.brokers[leader as usize].is_some() {
            let mut client = cluster.client(leader as usize).await;
            let answer = produce(&mut client, topic, batch(&[value], now_ms())).await;
            if answer.error_code == 0 {
                return answer.base_offset;
            }
        }
        assert!(began.elapsed() < PATIENCE, "{topic} takes no record");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// The high watermark and how many bytes of records there are from the offset on.
async fn read(client: &mut Connection, topic: &str, offset: i64) -> (i16, i64, usize) {
    let answer = client.call_version(&fetch_request(topic, offset, 100, 1 << 20), BY_NAME).await.unwrap();
    let partition = &answer.responses[0].partitions[0];
    let bytes = partition.records.as_ref().map_or(0, |records| match records {
        Records::Bytes(bytes) => bytes.len(),
        Records::Elsewhere(bytes) => panic!("{bytes} bytes elsewhere"),
    });
    (partition.error_code, partition.high_watermark, bytes)
}

async fn producer_id(client: &mut Connection) -> i64 {
    let began = Instant::now();
    loop {
        let answer = client
            .call(InitProducerIdRequest { transactional_id: None, ..InitProducerIdRequest::default() })
            .await
            .unwrap();
        if answer.error_code == 0 {
            return answer.producer_id;
        }
        assert!(began.elapsed() < PATIENCE, "{answer:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The voter of a broker's folder, as an administrator names it.
fn voter(cluster: &Cluster, id: usize) -> String {
    let text = std::fs::read_to_string(cluster.configs[id].data_folder.join("odradek-meta.json")).unwrap();
    let directory = text.split("\"directoryId\":").nth(1).unwrap().split('"').nth(1).unwrap().to_owned();
    format!("{id}:{directory}")
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_recovers_the_metadata_without_a_voter_that_is_gone_for_good() {
    let mut cluster = Cluster::with_lease_file().await;
    cluster.controller().await;
    cluster.three_voters().await;
    let mut client = cluster.client(0).await;
    assert_eq!(create(&mut client, "t").await, 0);
    for (offset, value) in (0..).zip([b"one", b"two"]) {
        assert_eq!(write(&cluster, 0, "t", value).await, offset);
    }
    let before = cluster.partition(0, "t", 0, |partition| partition.isr_nodes.len() == 3).await;
    let producer_before = producer_id(&mut client).await;
    let names: Vec<_> = (0..3).map(|id| voter(&cluster, id)).collect();
    let judge = async |id: usize, without: &str| {
        RecoveryPlan::judge(&cluster.configs[id], &[without.to_owned()]).await.map_err(|error| error.to_string())
    };
    let refused = judge(0, &names[2]).await.unwrap_err();
    assert!(refused.starts_with("nothing is to be recovered: the controller Lease is whole"), "{refused}");

    // All end; broker 2 never comes back, and somebody has removed the Lease.
    let lease = cluster.lease_file();
    cluster.kill_all().await;
    std::fs::remove_dir_all(&cluster.configs[2].data_folder).unwrap();
    std::fs::remove_file(&lease).unwrap();
    cluster.brokers = vec![None, None, None];
    let judge = async |id: usize, without: &str| {
        RecoveryPlan::judge(&cluster.configs[id], &[without.to_owned()]).await.map_err(|error| error.to_string())
    };
    let refused = judge(0, &names[0]).await.unwrap_err();
    assert!(refused.ends_with("is this broker itself, which is not gone"), "{refused}");
    let other = "7:AAAAAAAAAAAAAAAAAAAAAA";
    let text = judge(0, other).await.unwrap().to_string();
    assert!(text.contains(&format!("Not among these: {other}.")), "{text}");
    for id in [0, 1] {
        let plan = judge(id, &names[2]).await.unwrap();
        let text = plan.to_string();
        assert!(
            text.contains("The controller Lease is missing.") && text.contains(&format!("Without {}:", names[2])),
            "{text}"
        );
        assert!(!cluster.configs[id].data_folder.join("recover-without").exists(), "judging writes nothing");
        plan.write().unwrap();
    }

    let starting = [0, 1].map(|id: usize| tokio::spawn(Broker::start(cluster.configs[id].clone())));
    for (id, task) in starting.into_iter().enumerate() {
        let started = tokio::time::timeout(PATIENCE, task).await.expect("they go on").unwrap();
        cluster.brokers[id] = Some(started.unwrap());
    }
    cluster.controller().await;
    for id in [0, 1] {
        assert!(!cluster.configs[id].data_folder.join("recover-without").exists(), "it is carried out");
    }
    // Nobody is known to hold what was acknowledged: the administrator decides.
    let found = cluster.partition(0, "t", 0, |_| true).await;
    assert_eq!((found.leader_id, found.isr_nodes.len()), (-1, 0));
    assert!(
        found.leader_epoch > before.leader_epoch + 1_000_000,
        "{} after {}",
        found.leader_epoch,
        before.leader_epoch
    );
    let mut client = cluster.client(0).await;
    let unclean = ElectLeadersRequest {
        election_type: 1,
        topic_partitions: Some(vec![TopicPartitions { topic: "t".into(), partitions: vec![0] }]),
        timeout_ms: 10_000,
    };
    assert_eq!(client.call(unclean).await.unwrap().error_code, 0);
    let leader = cluster.partition(0, "t", 0, |partition| partition.leader_id >= 0).await.leader_id;
    cluster.partition(0, "t", 0, |partition| partition.isr_nodes.len() == 2).await;
    let mut leader = cluster.client(leader as usize).await;
    let (error, high_watermark, bytes) = read(&mut leader, "t", 0).await;
    assert_eq!((error, high_watermark), (0, 2));
    assert!(bytes > 0);
    assert_eq!(write(&cluster, 0, "t", b"three").await, 2);
    let producer_after = producer_id(&mut client).await;
    assert!(producer_after > producer_before + 1_000_000_000, "{producer_after} after {producer_before}");

    // Broker 2 comes back with an empty folder: another replica, that is filled again.
    cluster.restart(2).await;
    cluster.partition(0, "t", 0, |partition| partition.isr_nodes.contains(&2)).await;
    cluster.kill_all().await;
}

/// Replicas on two brokers, of which both have to be in sync.
async fn create_pair(client: &mut Connection, topic: &str, replicas: [usize; 2]) {
    let config = CreatableTopicConfig { name: "min.insync.replicas".into(), value: Some("2".into()) };
    let assignment =
        CreatableReplicaAssignment { partition_index: 0, broker_ids: replicas.map(|id| id as i32).to_vec() };
    let topic = CreatableTopic {
        name: topic.into(),
        num_partitions: -1,
        replication_factor: -1,
        assignments: vec![assignment],
        configs: vec![config],
    };
    let request = CreateTopicsRequest { topics: vec![topic], timeout_ms: 10_000, ..CreateTopicsRequest::default() };
    assert_eq!(client.call(request).await.unwrap().topics[0].error_code, 0);
}

#[derive(Clone, Copy, Debug)]
enum Harm {
    Nothing,
    FlippedBit,
    Emptied,
}

/// The follower dies, then the leader, and the follower comes back alone: it is eligible unless its log is harmed.
async fn returns_alone(harm: Harm) {
    let mut cluster = Cluster::start().await;
    let (controller, _) = cluster.controller().await;
    cluster.three_voters().await;
    let (leader, follower) = ((controller + 1) % 3, (controller + 2) % 3);
    create_pair(&mut cluster.client(controller).await, "t", [leader, follower]).await;
    let count = 40;
    for offset in 0..count {
        assert_eq!(write(&cluster, controller, "t", &[7; 1000]).await, offset);
    }
    // High watermarks are written every five seconds.
    let checkpoint = cluster.configs[follower].data_folder.join("replication-offset-checkpoint");
    let written = |_: &Cluster| std::fs::read_to_string(&checkpoint).ok().filter(|text| text.contains("t 0 40"));
    cluster.until("a checkpoint", written).await;

    cluster.kill(follower).await;
    let log = cluster.configs[follower].data_folder.join("t-0");
    let segment = log.join("00000000000000000000.log");
    let whole = std::fs::metadata(&segment).unwrap().len();
    match harm {
        Harm::Nothing => {}
        Harm::FlippedBit => {
            let mut bytes = std::fs::read(&segment).unwrap();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            std::fs::write(&segment, bytes).unwrap();
        }
        Harm::Emptied => std::fs::remove_dir_all(&log).unwrap(),
    }
    let alone = [leader as i32];
    cluster.partition(controller, "t", 0, |partition| partition.isr_nodes == alone).await;
    cluster.kill(leader).await;
    cluster.restart(follower).await;
    let began = Instant::now();
    let elected = cluster.partition(controller, "t", 0, |partition| {
        assert!(matches!(harm, Harm::Nothing) || partition.leader_id != follower as i32, "{harm:?}: it leads");
        partition.leader_id == follower as i32 || began.elapsed() > Duration::from_secs(8)
    });
    let elected = elected.await.leader_id == follower as i32;
    assert_eq!(elected, matches!(harm, Harm::Nothing), "{harm:?}");

    cluster.restart(leader).await;
    let both = |partition: &MetadataResponsePartition| partition.isr_nodes.len() == 2 && partition.leader_id >= 0;
    let led = cluster.partition(controller, "t", 0, both).await.leader_id;
    assert_eq!(led, if elected { follower } else { leader } as i32, "{harm:?}");
    assert_eq!(std::fs::metadata(&segment).unwrap().len(), whole, "{harm:?}: filled again");
    assert_eq!(write(&cluster, controller, "t", b"next").await, count);
    cluster.kill_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_whole_log_leads_when_its_broker_comes_back_alone() {
    returns_alone(Harm::Nothing).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_with_a_flipped_bit_does_not_lead_and_is_filled_again() {
    returns_alone(Harm::FlippedBit).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_emptied_log_does_not_lead_and_is_filled_again() {
    returns_alone(Harm::Emptied).await;
}
