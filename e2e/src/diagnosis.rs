// SPDX-License-Identifier: Apache-2.0
//! What a person needs to understand a failed scenario, saved before the cluster goes: resources,
//! events, descriptions, logs of pods and of the components.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::cluster::Cluster;
use crate::tools;

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
    let parent =
        env::var_os("E2E_ARTIFACTS").map_or_else(|| tools::project_root().join("target/e2e-failures"), PathBuf::from);
    let folder = parent.join(format!("{name}-{}", std::process::id()));
    fs::create_dir_all(&folder)?;
    for (file, arguments) in REPORTS {
        let text = match cluster.kubectl(arguments).await {
            Ok(text) => text,
            Err(error) => format!("{error:#}\n"),
        };
        fs::write(folder.join(file), text)?;
    }
    if let (Some(own), Some(components)) = (cluster.folder(), cluster.component_logs()) {
        copy_files(components, &folder.join("components"))?;
        for node in fs::read_dir(own)?.flatten() {
            let pods = node.path().join("pods");
            if pods.is_dir() {
                copy_files(&pods, &folder.join("pods"))?;
            }
        }
    }
    Ok(folder)
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
