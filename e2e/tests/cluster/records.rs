// SPDX-License-Identifier: Apache-2.0
//! From `kubectl apply` to a record read back, by unchanged clients; and the same records again after
//! the Cluster was deleted and created anew.

use std::time::Duration;

use anyhow::{Result, ensure};
use odradek_e2e::clients::Clients;
use odradek_e2e::cluster::Cluster;
use odradek_e2e::product;
use odradek_e2e::wait::until;

const NAMESPACE: &str = "records";

pub(crate) async fn records_come_back_also_after_the_cluster_was_deleted(cluster: &Cluster) -> Result<()> {
    cluster.apply(&product::namespace_manifest(NAMESPACE)).await?;
    cluster.apply(&product::cluster_manifest(NAMESPACE, "first")).await?;
    cluster.apply(&product::topic_manifest(NAMESPACE, "orders", "first", 3)).await?;
    for (kind, name) in [("clusters.odradek.dev", "first"), ("topics.odradek.dev", "orders")] {
        // No broker can be ready within the moment since the apply, whatever the status says by now.
        let object = product::object(cluster, NAMESPACE, kind, name).await?;
        let ready = product::condition(&object, "Ready");
        ensure!(ready.as_ref().is_some_and(|ready| ready.0 != "True"), "at second 0 {kind} {name} has Ready {ready:?}");
    }
    product::wait_for_condition(cluster, NAMESPACE, "clusters.odradek.dev", "first", "Ready", "True").await?;
    let clients = Clients::new(cluster, &product::bootstrap(NAMESPACE, "first")).await?;
    // Ready means that clients can connect now, not soon.
    odradek_e2e::command::output(clients.kcat(&["-L", "-m", "5"])?, Duration::from_secs(10)).await?;
    product::wait_for_condition(cluster, NAMESPACE, "topics.odradek.dev", "orders", "Ready", "True").await?;

    let by_java: Vec<String> = (0..500).map(|number| format!("java-{number}-{}", "j".repeat(number % 300))).collect();
    let by_kcat: Vec<String> = (0..500).map(|number| format!("kcat-{number}-{}", "k".repeat(number % 300))).collect();
    clients.produce_with_java("orders", &by_java).await?;
    clients.produce_with_kcat("orders", &by_kcat).await?;
    let written = sorted(by_java.into_iter().chain(by_kcat).collect());

    // Two groups read everything; each in two runs, the second of which goes on where the first ended.
    let mut java = clients.consume_with_java("orders", "java", 400).await?;
    java.extend(clients.consume_with_java("orders", "java", 600).await?);
    ensure!(sorted(java) == written, "Java's group read other records than were written");
    let kcat = clients.consume_with_kcat("orders", "kcat", 1000).await?;
    ensure!(sorted(kcat) == written, "kcat's group read other records than were written");

    let volume = volume_of(cluster).await?;
    cluster.kubectl(["delete", "clusters.odradek.dev", "first", "-n", NAMESPACE, "--timeout=60s"]).await?;
    until("the broker is gone", product::READY_PATIENCE, async || {
        let left = cluster.kubectl(["get", "pods,statefulsets,services", "-n", NAMESPACE, "-o", "name"]).await?;
        ensure!(left.trim().is_empty(), "there are {left}");
        Ok(())
    })
    .await?;
    ensure!(volume_of(cluster).await? == volume, "the volume outlives the Cluster");
    product::wait_for_condition(cluster, NAMESPACE, "topics.odradek.dev", "orders", "Ready", "False").await?;

    cluster.apply(&product::cluster_manifest(NAMESPACE, "first")).await?;
    product::wait_for_condition(cluster, NAMESPACE, "clusters.odradek.dev", "first", "Ready", "True").await?;
    product::wait_for_condition(cluster, NAMESPACE, "topics.odradek.dev", "orders", "Ready", "True").await?;
    ensure!(volume_of(cluster).await? == volume, "the new Cluster has the old volume");
    ensure!(sorted(clients.read_all("orders").await?) == written, "not every record is back");
    // The groups' commits are back too: what is written now is all that is left to read.
    let more = vec!["after the re-creation".to_owned()];
    clients.produce_with_kcat("orders", &more).await?;
    ensure!(clients.consume_with_java("orders", "java", 1).await? == more, "the group begins elsewhere");
    Ok(())
}

async fn volume_of(cluster: &Cluster) -> Result<String> {
    let claim = product::object(cluster, NAMESPACE, "pvc", "data-first-0").await?;
    Ok(claim["spec"]["volumeName"].to_string())
}

fn sorted(mut lines: Vec<String>) -> Vec<String> {
    lines.sort_unstable();
    lines
}
