// SPDX-License-Identifier: Apache-2.0
//! Odradek as a user has it: images, charts, a `Cluster` and a `Topic`, and what kubectl shows of them.

use std::env;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::cluster::Cluster;
use crate::tools;
use crate::wait::until;

/// The operator's namespace.
pub const OPERATOR_NAMESPACE: &str = "odradek-system";
/// The label of every namespace that a test makes: what a later run may remove from a cluster that is not its own.
pub const TEST_LABEL: &str = "odradek.dev/e2e";
const TEST_MARK: &str = "odradek.dev/e2e: \"\"";
/// The version that this checkout builds: the tag of its images, and `spec.version`.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// A broker is ready in seconds; images have been imported before, but the machine may be busy.
pub const READY_PATIENCE: Duration = Duration::from_mins(3);

/// The archives of the operator's and the broker's image, as `make images` writes them.
pub fn image_archives() -> Result<[PathBuf; 2]> {
    let target = env::var_os("CARGO_TARGET_DIR").map_or_else(|| tools::project_root().join("target"), PathBuf::from);
    let archives = ["odradek-operator", "odradek-broker"].map(|name| target.join(format!("images/{name}.tar")));
    for archive in &archives {
        ensure!(archive.is_file(), "{} is missing: run make images", archive.display());
    }
    Ok(archives)
}

/// A chart's folder.
pub fn chart(name: &str) -> PathBuf {
    tools::project_root().join("charts").join(name)
}

/// Installs the CRDs and the operator with Helm and waits until the operator is ready.
pub async fn install(cluster: &Cluster) -> Result<()> {
    for archive in image_archives()? {
        cluster.import(&archive).await?;
    }
    cluster.apply(&labelled_namespace(OPERATOR_NAMESPACE, &[])).await?;
    helm_install(cluster, "odradek-crds", &[]).await?;
    helm_install(cluster, "odradek-operator", &["--wait", "--timeout", "100s"]).await
}

async fn helm_install(cluster: &Cluster, chart_name: &str, options: &[&str]) -> Result<()> {
    let folder: String = chart(chart_name).display().to_string();
    let mut arguments = vec!["upgrade", "--install", chart_name, &folder, "--namespace", OPERATOR_NAMESPACE];
    arguments.extend(options);
    cluster.helm(&arguments).await?;
    Ok(())
}

/// A Cluster of one broker on a volume.
pub fn cluster_manifest(namespace: &str, name: &str) -> String {
    format!(
        r"apiVersion: odradek.dev/v1alpha1
kind: Cluster
metadata: {{name: {name}, namespace: {namespace}}}
spec:
  version: {VERSION}
  replicas: 1
  listeners:
  - {{name: plain, port: 9092, type: internal}}
  storage:
    type: persistent-claim
    volumes: [{{id: 0, size: 1Gi}}]
"
    )
}

/// A Topic in a Cluster of the same namespace.
pub fn topic_manifest(namespace: &str, name: &str, cluster: &str, partitions: u32) -> String {
    format!(
        r"apiVersion: odradek.dev/v1alpha1
kind: Topic
metadata: {{name: {name}, namespace: {namespace}}}
spec:
  clusterRef: {{name: {cluster}}}
  partitions: {partitions}
"
    )
}

/// A namespace that admits only pods under the restricted Pod Security Standard.
pub fn namespace_manifest(namespace: &str) -> String {
    labelled_namespace(namespace, &["pod-security.kubernetes.io/enforce: restricted"])
}

fn labelled_namespace(namespace: &str, labels: &[&str]) -> String {
    let labels = [&[TEST_MARK], labels].concat().join(", ");
    format!(
        r"apiVersion: v1
kind: Namespace
metadata:
  name: {namespace}
  labels: {{{labels}}}
"
    )
}

/// Where clients of a Cluster begin.
pub fn bootstrap(namespace: &str, name: &str) -> String {
    format!("{name}-bootstrap.{namespace}.svc.cluster.local:9092")
}

/// An object as JSON; an error when it is not there.
pub async fn object(cluster: &Cluster, namespace: &str, kind: &str, name: &str) -> Result<Value> {
    let text = cluster.kubectl(["get", kind, name, "--namespace", namespace, "--output", "json"]).await?;
    serde_json::from_str(&text).context("kubectl printed no JSON")
}

/// A condition of an object: (status, reason, message).
pub fn condition(object: &Value, kind: &str) -> Option<(String, String, String)> {
    let conditions = object["status"]["conditions"].as_array()?;
    let found = conditions.iter().find(|condition| condition["type"] == kind)?;
    let text = |field: &str| found[field].as_str().unwrap_or_default().to_owned();
    Some((text("status"), text("reason"), text("message")))
}

/// Waits until an object's condition has this status, and returns the object.
pub async fn wait_for_condition(
    cluster: &Cluster,
    namespace: &str,
    kind: &str,
    name: &str,
    condition_kind: &str,
    status: &str,
) -> Result<Value> {
    until(&format!("{kind} {name} has {condition_kind}={status}"), READY_PATIENCE, async || {
        let object = object(cluster, namespace, kind, name).await?;
        let found = condition(&object, condition_kind);
        let generation = object["metadata"]["generation"].as_i64();
        let observed = object["status"]["observedGeneration"].as_i64();
        ensure!(
            found.as_ref().is_some_and(|found| found.0 == status) && observed == generation,
            "it has {found:?}, and observed generation {observed:?} of {generation:?}"
        );
        Ok(object)
    })
    .await
}

/// Applies a namespace with a Cluster and a Topic in it and waits until both are ready.
pub async fn apply_cluster_and_topic(
    cluster: &Cluster,
    namespace: &str,
    name: &str,
    topic: &str,
    partitions: u32,
) -> Result<()> {
    cluster.apply(&namespace_manifest(namespace)).await?;
    cluster.apply(&cluster_manifest(namespace, name)).await?;
    cluster.apply(&topic_manifest(namespace, topic, name, partitions)).await?;
    wait_for_condition(cluster, namespace, "clusters.odradek.dev", name, "Ready", "True").await?;
    wait_for_condition(cluster, namespace, "topics.odradek.dev", topic, "Ready", "True").await?;
    Ok(())
}
