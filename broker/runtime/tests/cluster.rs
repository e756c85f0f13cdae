// SPDX-License-Identifier: Apache-2.0
//! Three brokers in one process, over real sockets: one of them is the controller, any of them takes commands, and when
//! it goes another takes its place.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test says what went wrong by failing")]
#![allow(clippy::print_stdout, reason = "times are read, not only judged")]
mod support;

use std::time::{Duration, Instant};

use odradek_wire::messages::{CreatableReplicaAssignment, CreatableTopic, CreateTopicsRequest};
use support::cluster::{Cluster, create, get, metadata};
use support::{batch, now_ms, produce};

#[tokio::test(flavor = "multi_thread")]
async fn any_broker_takes_commands_and_another_becomes_controller_when_it_is_killed() {
    let mut cluster = Cluster::start().await;
    let (first, _) = cluster.controller().await;
    println!("three voters {:?} later", cluster.three_voters().await);
    for id in 0..3 {
        let mut client = cluster.client(id).await;
        let topic = format!("by-{id}");
        assert_eq!(create(&mut client, &topic).await, 0, "through broker {id}");
        let seen = metadata(&mut client, &topic).await;
        assert_eq!(seen.topics[0].error_code, 0, "who created it finds it there");
        assert_eq!(seen.topics[0].partitions.len(), 3);
        assert_eq!(seen.brokers.len(), 3);
    }

    let began = Instant::now();
    cluster.brokers[first].take().unwrap().kill().await;
    println!("killed within {:?}", began.elapsed());
    let (next, took) = cluster.controller().await;
    println!("broker {next} leads {took:?} after the kill of broker {first}, {:?} after its begin", began.elapsed());
    assert_ne!(next, first);
    assert!(took < Duration::from_secs(3), "{took:?}");
    let other = (0..3).find(|id| *id != first && *id != next).unwrap();
    let mut client = cluster.client(other).await;
    let topic = format!("by-{}", (0..3).find(|id| *id != first).unwrap());
    // The dead broker leads nothing any more.
    let began = Instant::now();
    loop {
        let seen = metadata(&mut client, &topic).await;
        if seen.topics[0].partitions.iter().all(|p| p.leader_id >= 0 && p.leader_id != first as i32) {
            break;
        }
        assert!(began.elapsed() < Duration::from_secs(15), "{seen:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    println!("all partitions led elsewhere {:?} later", began.elapsed());

    let began = Instant::now();
    cluster.restart(first).await;
    println!("the killed broker serves again after {:?}", began.elapsed());
    let mut client = cluster.client(first).await;
    assert_eq!(create(&mut client, "after").await, 0);
    cluster.kill_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_all_replicas_acknowledged_is_there_after_its_leader_is_killed() {
    let mut cluster = Cluster::start().await;
    cluster.controller().await;
    cluster.three_voters().await;
    let mut client = cluster.client(0).await;
    assert_eq!(create(&mut client, "t").await, 0);
    let led = metadata(&mut client, "t").await.topics[0]
        .partitions
        .iter()
        .find(|p| p.partition_index == 0)
        .unwrap()
        .leader_id;
    let mut leader = cluster.client(led as usize).await;
    let before = produce(&mut leader, "t", batch(&[b"one"], now_ms())).await;
    assert_eq!((before.error_code, before.base_offset), (0, 0));
    let began = Instant::now();
    cluster.brokers[led as usize].take().unwrap().kill().await;
    let other = (0..3).find(|id| *id != led as usize).unwrap();
    let mut client = cluster.client(other).await;
    let next = loop {
        let seen = metadata(&mut client, "t").await;
        let leader = seen.topics[0].partitions.iter().find(|p| p.partition_index == 0).unwrap().leader_id;
        if leader >= 0 && leader != led {
            break leader;
        }
        assert!(began.elapsed() < Duration::from_secs(15), "{seen:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    let mut leader = cluster.client(next as usize).await;
    let after = loop {
        let answer = produce(&mut leader, "t", batch(&[b"two"], now_ms())).await;
        // Until it has taken the metadata over.
        if answer.error_code != 6 {
            break answer;
        }
        assert!(began.elapsed() < Duration::from_secs(15));
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    println!("acknowledged by broker {next} {:?} after the kill of broker {led}", began.elapsed());
    assert_eq!((after.error_code, after.base_offset), (0, 1), "behind what was acknowledged before");
    cluster.kill_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_controller_that_stops_hands_over_at_once() {
    let mut cluster = Cluster::start().await;
    let (first, _) = cluster.controller().await;
    cluster.three_voters().await;
    let stopping = cluster.brokers[first].take().unwrap();
    let began = Instant::now();
    let stopped = tokio::spawn(async move {
        stopping.shutdown().await;
        began.elapsed()
    });
    let (next, _) = cluster.controller().await;
    println!("broker {next} leads {:?} after broker {first} began to stop", began.elapsed());
    assert_ne!(next, first);
    let took = stopped.await.unwrap();
    println!("the stop took {took:?}");
    assert!(took < Duration::from_secs(10), "{took:?}");
    let mut client = cluster.client(next).await;
    assert_eq!(create(&mut client, "after").await, 0, "two of three voters decide");
    cluster.kill_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn all_come_back_after_all_were_killed() {
    let mut cluster = Cluster::start().await;
    let (first, _) = cluster.controller().await;
    let epoch = cluster.brokers[first].as_ref().unwrap().controller().epoch;
    let mut client = cluster.client(0).await;
    assert_eq!(create(&mut client, "t").await, 0);
    cluster.kill_all().await;
    cluster.start_all().await;
    let (next, _) = cluster.controller().await;
    assert!(cluster.brokers[next].as_ref().unwrap().controller().epoch > epoch);
    for id in 0..3 {
        let mut client = cluster.client(id).await;
        let seen = metadata(&mut client, "t").await;
        assert_eq!((seen.topics[0].error_code, seen.topics[0].partitions.len()), (0, 3), "broker {id}");
    }
    cluster.kill_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn any_broker_says_which_may_stop_and_what_speaks_against_it() {
    let mut cluster = Cluster::start().await;
    let (controller, _) = cluster.controller().await;
    cluster.three_voters().await;
    let (asked, dead) = ((controller + 1) % 3, (controller + 2) % 3);
    let mut client = cluster.client(asked).await;
    assert_eq!(create(&mut client, "whole").await, 0);
    let sole = CreatableTopic {
        name: "sole".into(),
        num_partitions: -1,
        replication_factor: -1,
        assignments: vec![CreatableReplicaAssignment { partition_index: 0, broker_ids: vec![dead as i32] }],
        ..CreatableTopic::default()
    };
    let request = CreateTopicsRequest { topics: vec![sole], timeout_ms: 10_000, ..CreateTopicsRequest::default() };
    assert_eq!(client.call(request).await.unwrap().topics[0].error_code, 0);

    let json = |broker: usize, against: usize, sole: usize, under: usize, partitions: &str| {
        format!(
            "{{\"broker\":{broker},\"mayStop\":{},\"blocking\":{against},\"soleReplica\":{sole},\"lastInSync\":0,\
             \"lastEligible\":0,\"underMinInSync\":{under},\"partitions\":[{partitions}]}}\n",
            against == 0
        )
    };
    let ask = async |cluster: &Cluster, of: usize, path: &str| get(cluster.brokers[of].as_ref().unwrap(), path).await;
    // Broker `asked` has to ask the controller; about itself, and about the others.
    assert_eq!(ask(&cluster, asked, "/may-stop").await, (200, json(asked, 0, 0, 0, "")));
    let of_dead = format!("/may-stop?broker={dead}");
    let no = json(dead, 1, 1, 0, "{\"topic\":\"sole\",\"partition\":0,\"reason\":\"soleReplica\"}");
    for of in 0..3 {
        assert_eq!(ask(&cluster, of, &of_dead).await, (409, no.clone()), "broker {of}");
    }
    let (status, body) = ask(&cluster, asked, "/may-stop?broker=9").await;
    assert_eq!(status, 404);
    assert_eq!(body, "{\"broker\":9,\"mayStop\":null,\"error\":\"no broker 9 is registered\"}\n");
    for malformed in ["?broker=", "?broker=x", "?broker=1&b=2", "?b=1", "?"] {
        assert_eq!(ask(&cluster, asked, &format!("/may-stop{malformed}")).await.0, 400, "{malformed}");
    }

    // With one gone the next would leave `whole` under min ISR, which is 2 of 3.
    cluster.brokers[dead].take().unwrap().kill().await;
    let began = Instant::now();
    let body = loop {
        let (status, body) = ask(&cluster, asked, "/may-stop").await;
        if status == 409 {
            break body;
        }
        assert!(began.elapsed() < Duration::from_secs(15), "{status}: {body}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    let under = |partition: i32| {
        format!(
            "{{\"topic\":\"whole\",\"partition\":{partition},\"reason\":\"underMinInSync\",\"inSyncLeft\":1,\
             \"inSyncNeeded\":2}}"
        )
    };
    assert_eq!(body, json(asked, 3, 0, 3, &[under(0), under(1), under(2)].join(",")));

    // Two of three voters are gone: nobody can be controller.
    cluster.brokers[controller].take().unwrap().kill().await;
    let began = Instant::now();
    let (status, body) = ask(&cluster, asked, "/may-stop").await;
    assert_eq!(status, 503, "{body}");
    assert!(body.starts_with(&format!("{{\"broker\":{asked},\"mayStop\":null,\"error\":\"")), "{body}");
    assert!(began.elapsed() < Duration::from_secs(6), "{:?}", began.elapsed());
    cluster.kill_all().await;
}
