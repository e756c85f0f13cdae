// SPDX-License-Identifier: Apache-2.0
//! kill -9 of the broker in its pod, from the node, while a producer writes with acks=all.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use odradek_e2e::clients::Clients;
use odradek_e2e::cluster::Cluster;
use odradek_e2e::product;
use odradek_e2e::wait::until;
use rustix::process::{Pid, Signal, kill_process};

const NAMESPACE: &str = "killed-broker";
const WRITTEN: u32 = 6000;
const READ_BEFORE: usize = 500;

pub(crate) async fn no_acknowledged_record_is_lost(cluster: &Cluster) -> Result<()> {
    product::apply_cluster_and_topic(cluster, NAMESPACE, "kill", "orders", 1).await?;
    let clients = Clients::new(cluster, &product::bootstrap(NAMESPACE, "kill")).await?;

    let mut producer = clients.start_verifiable_producer("orders", WRITTEN, 400)?;
    producer.wait_for(READ_BEFORE).await?;
    let before = clients.consume_with_java("orders", "readers", READ_BEFORE).await?;

    let restarts = restarts(cluster).await?;
    let in_pod = broker_in_pod(cluster).await?;
    let acknowledged = producer.acknowledged();
    ensure!(acknowledged < WRITTEN as usize, "the producer has ended before the broker is killed");
    let process = Pid::from_raw(in_pod).expect("a process id is not 0");
    kill_process(process, Signal::KILL)?;
    until("the container is restarted", product::READY_PATIENCE, async || {
        let count = self::restarts(cluster).await?;
        ensure!(count > restarts, "its restart count is {count}");
        Ok(())
    })
    .await?;

    let outcome = producer.finish().await?;
    println!(
        "  killed after {acknowledged} acknowledgements; {} of {WRITTEN} acknowledged at the end, {} errors",
        outcome.values.len(),
        outcome.errors.len()
    );
    ensure!(outcome.errors.is_empty(), "the producer gave up: {:?}", outcome.errors.first());
    ensure!(outcome.values.len() == WRITTEN as usize, "the producer ended early");

    let all = clients.read_all("orders").await?;
    let there: BTreeSet<&str> = all.iter().map(String::as_str).collect();
    ensure!(all.len() == there.len(), "{} records are there twice", all.len() - there.len());
    let lost: Vec<&String> = outcome.values.keys().filter(|value| !there.contains(value.as_str())).collect();
    ensure!(lost.is_empty(), "{} acknowledged records are lost: {:?}", lost.len(), &lost[..lost.len().min(10)]);
    for (value, (_, offset)) in &outcome.values {
        let found = usize::try_from(*offset).ok().and_then(|offset| all.get(offset));
        ensure!(found == Some(value), "{value} was acknowledged at offset {offset}, where {found:?} is");
    }

    // The group goes on behind what it has committed: together the two readers saw each record once.
    let after = clients.consume_with_java("orders", "readers", all.len() - before.len()).await?;
    let read: Vec<&String> = before.iter().chain(&after).collect();
    ensure!(read.iter().copied().eq(&all), "the group did not go on at its committed offset");
    Ok(())
}

async fn restarts(cluster: &Cluster) -> Result<i64> {
    let pod = product::object(cluster, NAMESPACE, "pod", "kill-0-0").await?;
    Ok(pod["status"]["containerStatuses"][0]["restartCount"].as_i64().unwrap_or(0))
}

/// The process of this scenario's pod: other Clusters' brokers may run too.
async fn broker_in_pod(cluster: &Cluster) -> Result<i32> {
    let pod = product::object(cluster, NAMESPACE, "pod", "kill-0-0").await?;
    let found = cluster.processes_in_pod(pod["metadata"]["uid"].as_str().unwrap_or_default(), "odradek-broker");
    ensure!(found.len() == 1, "one broker process runs in the pod, found {found:?}");
    Ok(found[0])
}
