// SPDX-License-Identifier: Apache-2.0
//! What a person needs to understand a failure, saved before the cluster goes: resources, events, descriptions, logs of
//! pods and of the components. Whatever of it cannot be had is left out, with the reason in its place.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;
use serde_json::Value;

use crate::cluster::Cluster;
use crate::tools;

/// All of it: a server that does not answer may have been what failed.
const PATIENCE: Duration = Duration::from_mins(3);
/// One question to the API server.
const REQUEST_PATIENCE: &str = "--request-timeout=20s";
/// A pod's last lines: some megabytes, and all that a scenario's pod has said.
const LINES: &str = "--tail=20000";

/// Each file and the kubectl command whose output goes into it.
const REPORTS: [(&str, &[&str]); 6] = [
    ("events.txt", &["get", "events", "-A", "--sort-by=.lastTimestamp"]),
    (
        "objects.txt",
        &["get", "nodes,pods,statefulsets,deployments,services,endpointslices,pvc,pv,leases", "-A", "-o", "wide"],
    ),
    ("objects.yaml", &["get", "pods,statefulsets,deployments,services,pvc,pv,leases,configmaps", "-A", "-o", "yaml"]),
    ("odradek.txt", &["get", "odradek", "-A", "-o", "wide"]),
    ("odradek.yaml", &["get", "odradek", "-A", "-o", "yaml"]),
    ("describe.txt", &["describe", "nodes,pods", "-A"]),
];

/// Saves all of it into a new folder and returns that. `E2E_ARTIFACTS` names the folder's parent;
/// without it, it is `target/e2e-failures` in the checkout.
pub async fn save(cluster: &Cluster, name: &str) -> Result<PathBuf> {
    let folder = new_folder(name)?;
    if let Some(own) = cluster.folder() {
        save_files(own, cluster.component_logs(), &folder)?;
    }
    let questions = async {
        for (file, arguments) in REPORTS {
            fs::write(folder.join(file), ask(cluster, arguments).await)?;
        }
        if cluster.folder().is_none() {
            save_pod_logs(cluster, &folder.join("pods")).await?;
        }
        anyhow::Ok(())
    };
    if let Ok(outcome) = tokio::time::timeout(PATIENCE, questions).await {
        outcome?;
    } else {
        fs::write(folder.join("incomplete.txt"), format!("The cluster did not say everything in {PATIENCE:?}.\n"))?;
    }
    Ok(folder)
}

/// Saves only what lies in files: of a cluster that did not come up there is nobody to ask.
pub fn save_of_failed_start(own: &Path, components: &Path) -> Result<PathBuf> {
    let folder = new_folder("start")?;
    save_files(own, Some(components), &folder)?;
    Ok(folder)
}

/// Saves these folders, each under its name, and returns where.
pub fn save_folders(name: &str, folders: &[(&str, &Path)]) -> Result<PathBuf> {
    let folder = new_folder(name)?;
    for (part, from) in folders {
        copy_files(from, &folder.join(part))?;
    }
    Ok(folder)
}

/// Never one that an earlier failure was saved to.
fn new_folder(name: &str) -> Result<PathBuf> {
    let parent =
        env::var_os("E2E_ARTIFACTS").map_or_else(|| tools::project_root().join("target/e2e-failures"), PathBuf::from);
    fs::create_dir_all(&parent)?;
    Ok(tempfile::Builder::new().prefix(&format!("{name}-")).tempdir_in(parent)?.keep())
}

fn save_files(own: &Path, components: Option<&Path>, folder: &Path) -> Result<()> {
    if let Some(components) = components {
        copy_files(components, &folder.join("components"))?;
    }
    for node in fs::read_dir(own)?.flatten() {
        let pods = node.path().join("pods");
        if pods.is_dir() {
            copy_files(&pods, &folder.join("pods"))?;
        }
    }
    Ok(())
}

/// What kubectl says, or why it says nothing.
async fn ask(cluster: &Cluster, arguments: &[&str]) -> String {
    let arguments: Vec<&str> = arguments.iter().copied().chain([REQUEST_PATIENCE]).collect();
    cluster.kubectl(arguments).await.unwrap_or_else(|error| format!("{error:#}\n"))
}

/// The logs of nodes whose files are elsewhere, each container's and that of the one before it.
async fn save_pod_logs(cluster: &Cluster, folder: &Path) -> Result<()> {
    fs::create_dir_all(folder)?;
    let Ok(pods) = serde_json::from_str::<Value>(&ask(cluster, &["get", "pods", "-A", "-o", "json"]).await) else {
        return Ok(());
    };
    for pod in pods["items"].as_array().into_iter().flatten() {
        let [name, namespace] = ["name", "namespace"].map(|field| pod["metadata"][field].as_str().unwrap_or_default());
        let containers = pod["status"]["containerStatuses"].as_array();
        let restarted = containers.into_iter().flatten().any(|container| container["restartCount"] != 0);
        let mut text =
            ask(cluster, &["logs", name, "-n", namespace, "--all-containers", "--prefix", "--timestamps", LINES]).await;
        if restarted {
            text += "\n--- before the last restart:\n";
            let before = ["logs", name, "-n", namespace, "--all-containers", "--prefix", "--previous", LINES];
            text += &ask(cluster, &before).await;
        }
        fs::write(folder.join(format!("{namespace}_{name}.log")), text)?;
    }
    Ok(())
}

/// Copies a folder's files; a log that disappears meanwhile is left out.
fn copy_files(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)?.flatten() {
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_files(&entry.path(), &target)?;
        } else {
            let _ = fs::copy(entry.path(), target);
        }
    }
    Ok(())
}
