// SPDX-License-Identifier: Apache-2.0
//! What the operator may not do: take over a stranger's object, or disturb brokers by being restarted.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use odradek_e2e::cluster::Cluster;
use odradek_e2e::product::{self, OPERATOR_NAMESPACE};
use odradek_e2e::wait::until;
use serde_json::Value;

pub(crate) async fn a_strangers_object_is_not_taken_over(cluster: &Cluster) -> Result<()> {
    let namespace = "strangers";
    cluster.apply(&product::namespace_manifest(namespace)).await?;
    cluster
        .apply(&format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: taken-bootstrap, namespace: {namespace}, labels: {{owner: stranger}}}}\n\
             spec: {{selector: {{app: stranger}}, ports: [{{port: 80}}]}}\n"
        ))
        .await?;
    let before = product::object(cluster, namespace, "service", "taken-bootstrap").await?;
    cluster.apply(&product::cluster_manifest(namespace, "taken")).await?;
    let stalled =
        product::wait_for_condition(cluster, namespace, "clusters.odradek.dev", "taken", "Stalled", "True").await?;
    let (_, reason, message) = product::condition(&stalled, "Stalled").context("it was there a moment ago")?;
    ensure!(reason == "NameTaken", "the reason is {reason}");
    ensure!(message.contains("taken-bootstrap"), "the message names no object: {message}");
    ensure!(
        product::condition(&stalled, "Ready").is_some_and(|ready| ready.0 == "False"),
        "a stalled Cluster is not Ready"
    );
    let after = product::object(cluster, namespace, "service", "taken-bootstrap").await?;
    ensure!(before == after, "the stranger's Service has changed: {after}");

    // Once the name is free, the Cluster comes up without another edit.
    cluster.kubectl(["delete", "service", "taken-bootstrap", "-n", namespace]).await?;
    product::wait_for_condition(cluster, namespace, "clusters.odradek.dev", "taken", "Ready", "True").await?;
    Ok(())
}

pub(crate) async fn a_restart_of_the_operator_changes_nothing(cluster: &Cluster) -> Result<()> {
    let namespace = "restarted-operator";
    product::apply_cluster_and_topic(cluster, namespace, "calm", "orders", 1).await?;
    let before = made_objects(cluster, namespace).await?;
    ensure!(!before.is_empty(), "the Cluster has objects");

    let pods = ["-n", OPERATOR_NAMESPACE, "-l", "app.kubernetes.io/name=odradek-operator"];
    let names =
        async || cluster.kubectl(["get", "pods", "-o", "name"].iter().chain(&pods).copied().collect::<Vec<_>>()).await;
    let old = names().await?;
    ensure!(!old.trim().is_empty(), "the operator has a pod");
    cluster.kubectl(["delete", "pod", "--wait"].iter().chain(&pods).copied().collect::<Vec<_>>()).await?;
    until("a new operator is ready", product::READY_PATIENCE, async || {
        let ready = ["get", "pods", "-o", "jsonpath={.items[*].status.containerStatuses[*].ready}"];
        let ready = cluster.kubectl(ready.iter().chain(&pods).copied().collect::<Vec<_>>()).await?;
        ensure!(names().await? != old && !ready.is_empty() && !ready.contains("false"), "ready: {ready:?}");
        Ok(())
    })
    .await?;
    // The new operator has looked at this Cluster once it reacts to an edit: an annotation changes nothing else.
    let lease_time = async || -> Result<String> {
        cluster
            .kubectl(["get", "leases", "-n", OPERATOR_NAMESPACE, "-o", "jsonpath={.items[*].spec.holderIdentity}"])
            .await
    };
    let new = names().await?;
    let new = new.trim().trim_start_matches("pod/").to_owned();
    until("the new operator leads", Duration::from_mins(2), async || {
        let holder = lease_time().await?;
        ensure!(holder.contains(&new), "the Lease is held by {holder:?}, not {new:?}");
        Ok(())
    })
    .await?;
    cluster.apply(&product::topic_manifest(namespace, "witness", "calm", 1)).await?;
    product::wait_for_condition(cluster, namespace, "topics.odradek.dev", "witness", "Ready", "True").await?;
    let after = made_objects(cluster, namespace).await?;
    ensure!(before == after, "objects changed:\nbefore {before:#?}\nafter {after:#?}");
    Ok(())
}

/// What identifies each object that the operator made, and each pod, at its present content.
async fn made_objects(cluster: &Cluster, namespace: &str) -> Result<Vec<(String, String, String)>> {
    let kinds = "statefulsets,services,configmaps,serviceaccounts,persistentvolumeclaims,pods";
    let text = cluster.kubectl(["get", kinds, "-n", namespace, "-o", "json"]).await?;
    let list: Value = serde_json::from_str(&text)?;
    let objects = list["items"].as_array().cloned().unwrap_or_default();
    Ok(objects
        .iter()
        .map(|object| {
            let restarts = &object["status"]["containerStatuses"][0]["restartCount"];
            (
                format!("{} {}", object["kind"], object["metadata"]["name"]),
                object["metadata"]["uid"].to_string(),
                format!("spec {} data {} restarts {restarts}", object["spec"], object["data"]),
            )
        })
        .collect())
}
