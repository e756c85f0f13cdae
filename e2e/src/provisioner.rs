// SPDX-License-Identifier: Apache-2.0
//! Volumes for claims: once the scheduler has chosen a node for a claim of our StorageClass, a folder
//! on that node becomes a local PersistentVolume. A released volume goes by its reclaim policy.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::api::storage::v1::StorageClass;
use kube::api::{DeleteParams, ListParams, PostParams};
use kube::{Api, Client, ResourceExt};
use serde_json::json;

/// The default StorageClass of a test cluster.
pub const STORAGE_CLASS: &str = "local";
const PROVISIONER: &str = "odradek.dev/e2e-local";
const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";
/// Claims and volumes are few and the API server is near: looking is cheaper than a watch is to get right.
const PERIOD: Duration = Duration::from_millis(250);

/// Makes the StorageClass, the default one.
pub async fn create_storage_class(client: &Client) -> Result<()> {
    let class: StorageClass = serde_json::from_value(json!({
        "metadata": {
            "name": STORAGE_CLASS,
            "annotations": {"storageclass.kubernetes.io/is-default-class": "true"},
        },
        "provisioner": PROVISIONER,
        "volumeBindingMode": "WaitForFirstConsumer",
        "reclaimPolicy": "Delete",
    }))?;
    Api::all(client.clone()).create(&PostParams::default(), &class).await?;
    Ok(())
}

/// Answers claims until it is dropped; `folder` holds the volumes' folders.
pub async fn run(client: Client, folder: PathBuf) {
    let claims: Api<PersistentVolumeClaim> = Api::all(client.clone());
    let volumes: Api<PersistentVolume> = Api::all(client);
    loop {
        // While the API server is down there is nothing to answer, and a test may take it down.
        if let Err(error) = round(&claims, &volumes, &folder).await {
            tracing::debug!(%error, "no volumes provisioned");
        }
        tokio::time::sleep(PERIOD).await;
    }
}

async fn round(claims: &Api<PersistentVolumeClaim>, volumes: &Api<PersistentVolume>, folder: &Path) -> Result<()> {
    for claim in claims.list(&ListParams::default()).await? {
        let spec = claim.spec.clone().unwrap_or_default();
        let node = claim.annotations().get(SELECTED_NODE);
        if let (None, Some(STORAGE_CLASS), Some(node)) = (&spec.volume_name, spec.storage_class_name.as_deref(), node) {
            provision(volumes, folder, &claim, node).await?;
        }
    }
    for volume in volumes.list(&ListParams::default()).await? {
        let phase = volume.status.as_ref().and_then(|status| status.phase.as_deref());
        let policy = volume.spec.as_ref().and_then(|spec| spec.persistent_volume_reclaim_policy.as_deref());
        if phase == Some("Released") && policy == Some("Delete") {
            fs::remove_dir_all(folder.join(volume.name_any()))?;
            volumes.delete(&volume.name_any(), &DeleteParams::default()).await?;
        }
    }
    Ok(())
}

async fn provision(
    volumes: &Api<PersistentVolume>,
    folder: &Path,
    claim: &PersistentVolumeClaim,
    node: &str,
) -> Result<()> {
    let uid = claim.uid().context("the API server gives every object a uid")?;
    let name = format!("pvc-{uid}");
    if volumes.get_opt(&name).await?.is_some() {
        return Ok(());
    }
    let path = folder.join(&name);
    fs::create_dir_all(&path)?;
    let spec = claim.spec.clone().unwrap_or_default();
    let size =
        spec.resources.and_then(|resources| resources.requests).and_then(|requests| requests.get("storage").cloned());
    let volume: PersistentVolume = serde_json::from_value(json!({
        "metadata": {
            "name": name,
            "annotations": BTreeMap::from([("pv.kubernetes.io/provisioned-by", PROVISIONER)]),
        },
        "spec": {
            "capacity": {"storage": size},
            "accessModes": spec.access_modes,
            "volumeMode": "Filesystem",
            "persistentVolumeReclaimPolicy": "Delete",
            "storageClassName": STORAGE_CLASS,
            "local": {"path": path},
            "claimRef": {
                "apiVersion": "v1", "kind": "PersistentVolumeClaim",
                "namespace": claim.namespace(), "name": claim.name_any(), "uid": uid,
            },
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [
                {"key": "kubernetes.io/hostname", "operator": "In", "values": [node]},
            ]}]}},
        },
    }))?;
    volumes.create(&PostParams::default(), &volume).await?;
    Ok(())
}
