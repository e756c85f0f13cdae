// SPDX-License-Identifier: Apache-2.0
//! A cluster made by kind, where a container engine runs that can pull kind's node image: nodes are
//! containers. It must not know what runs in the cluster.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::json;
use tokio::process::Command;

use crate::cluster::ZONES;
use crate::command::{output, output_blocking};
use crate::machine::Machine;
use crate::tools;

const NAME: &str = "odradek-e2e";
/// Pulling the node image is the slow part.
const CREATE_PATIENCE: Duration = Duration::from_mins(10);
const PATIENCE: Duration = Duration::from_mins(2);

/// A running cluster of kind, deleted on drop.
pub struct KindCluster {
    kubeconfig: PathBuf,
    node_process: String,
    dns: String,
    // Given back last: the next run deletes a cluster of this name first.
    _machine: Machine,
}

/// Whether kind and a container engine that answers are there.
pub async fn works() -> bool {
    if tools::system("kind").is_err() {
        return false;
    }
    let Ok(docker) = tools::system("docker") else { return false };
    let mut info = Command::new(docker);
    info.arg("info");
    output(info, PATIENCE).await.is_ok()
}

impl KindCluster {
    /// Makes it; one that a killed run left is deleted first.
    pub async fn create(folder: &Path, machine: Machine) -> Result<Self> {
        delete();
        let workers = ZONES.map(|zone| json!({"role": "worker", "labels": {"topology.kubernetes.io/zone": zone}}));
        let nodes: Vec<_> = std::iter::once(json!({"role": "control-plane"})).chain(workers).collect();
        let config = json!({"kind": "Cluster", "apiVersion": "kind.x-k8s.io/v1alpha4", "nodes": nodes});
        let file = folder.join("kind.yaml");
        std::fs::write(&file, config.to_string())?;
        let kubeconfig = folder.join("kubeconfig");
        let mut create = Command::new(tools::system("kind")?);
        create.args(["create", "cluster", "--name", NAME, "--wait", "5m", "--config"]).arg(&file);
        create.arg("--kubeconfig").arg(&kubeconfig);
        let made = output(create, CREATE_PATIENCE).await;
        // From here on an early return drops it, and so deletes what there is of it.
        let mut cluster = Self { kubeconfig, node_process: String::new(), dns: String::new(), _machine: machine };
        made?;

        let mut inspect = Command::new(tools::system("docker")?);
        inspect.args(["inspect", "--format", "{{.State.Pid}}", &format!("{NAME}-worker")]);
        output(inspect, PATIENCE).await?.trim().clone_into(&mut cluster.node_process);
        let mut dns = Command::new(tools::kubernetes("kubectl")?);
        dns.env("KUBECONFIG", &cluster.kubeconfig);
        dns.args(["-n", "kube-system", "get", "service", "kube-dns", "-o", "jsonpath={.spec.clusterIP}"]);
        cluster.dns = output(dns, PATIENCE).await.context("the cluster has no DNS")?;
        Ok(cluster)
    }

    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// The address of the cluster's DNS server.
    pub fn dns(&self) -> &str {
        &self.dns
    }

    /// The path of a node's network namespace.
    pub fn network(&self) -> OsString {
        format!("/proc/{}/ns/net", self.node_process).into()
    }

    /// Makes the images of a docker archive available on every node.
    pub async fn import(&self, archive: &Path) -> Result<()> {
        let mut load = Command::new(tools::system("kind")?);
        load.args(["load", "image-archive", "--name", NAME]).arg(archive);
        output(load, PATIENCE).await?;
        Ok(())
    }
}

impl Drop for KindCluster {
    fn drop(&mut self) {
        delete();
    }
}

fn delete() {
    let delete = || -> Result<String> {
        let mut command = std::process::Command::new(tools::system("kind")?);
        command.args(["delete", "cluster", "--name", NAME]);
        output_blocking(command, PATIENCE)
    };
    // Deleting a cluster that is not there is no error.
    if let Err(error) = delete() {
        tracing::warn!(%error, "kind could not delete its cluster");
    }
}
