// SPDX-License-Identifier: Apache-2.0
//! The end of a Cluster. With `Retain` there is no finalizer and nothing to do: owned objects go with
//! it, volumes stay. With `Delete` the volumes go, and only once no pod mounts them.

use std::time::Duration;

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, Preconditions};
use kube::runtime::controller::Action;
use kube::runtime::events::EventType;
use kube::{Resource, ResourceExt};
use odradek_crds::{Cluster, DeletionPolicy, names};
use serde_json::json;
use tracing::info;

use super::ReconcileError;
use super::build::ONLY_BROKER;
use crate::calls::bounded;
use crate::context::Context;
use crate::kafka::ClusterKey;

/// How soon to look again whether the pod has gone.
const SOON: Duration = Duration::from_secs(2);

/// Keeps the finalizer exactly while the policy is `Delete`.
pub async fn keep_finalizer(cluster: &Cluster, context: &Context) -> Result<(), ReconcileError> {
    let wanted = cluster.deletion_policy() == DeletionPolicy::Delete;
    let present = cluster.finalizers().iter().any(|finalizer| finalizer == names::FINALIZER);
    if wanted == present {
        return Ok(());
    }
    write_finalizers(cluster, wanted, context).await
}

/// Deletes what the policy says, then lets the Cluster go.
pub async fn finish(cluster: &Cluster, context: &Context) -> Result<Action, ReconcileError> {
    let namespace = cluster.namespace().unwrap_or_default();
    let name = cluster.name_any();
    context.kafka.forget(&ClusterKey { namespace: namespace.clone(), name: name.clone() });
    if !cluster.finalizers().iter().any(|finalizer| finalizer == names::FINALIZER) {
        return Ok(Action::await_change());
    }
    if cluster.deletion_policy() == DeletionPolicy::Delete {
        let stateful_sets: Api<StatefulSet> = Api::namespaced(context.client.clone(), &namespace);
        let stateful_set = names::broker(&name, ONLY_BROKER);
        if let Some(live) =
            bounded(format!("get StatefulSet {stateful_set}"), stateful_sets.get_opt(&stateful_set)).await?
        {
            let ours = live.owner_references().iter().any(|owner| Some(&owner.uid) == cluster.metadata.uid.as_ref());
            if ours {
                if live.metadata.deletion_timestamp.is_none() {
                    delete(&stateful_sets, &stateful_set, &DeleteParams::foreground()).await?;
                }
                return Ok(Action::requeue(SOON));
            }
        }
        if !volumes_deleted(cluster, &namespace, &name, context).await? {
            return Ok(Action::requeue(SOON));
        }
    }
    write_finalizers(cluster, false, context).await?;
    Ok(Action::await_change())
}

/// Deletes the volumes that no pod mounts; true once none is left to wait for.
async fn volumes_deleted(
    cluster: &Cluster,
    namespace: &str,
    name: &str,
    context: &Context,
) -> Result<bool, ReconcileError> {
    let Some(cluster_id) = cluster.status.as_ref().and_then(|status| status.cluster_id.clone()) else {
        return Ok(true);
    };
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(context.client.clone(), namespace);
    let pods: Api<Pod> = Api::namespaced(context.client.clone(), namespace);
    let labelled = ListParams::default().labels(&format!("{}={name}", names::CLUSTER_LABEL));
    let found = bounded("list PersistentVolumeClaims", claims.list_metadata(&labelled)).await?;
    // Every pod of the namespace: one that is not ours may mount the volume too.
    let pods = bounded("list Pods", pods.list(&ListParams::default())).await?;
    let mounted = |claim: &str| {
        pods.items.iter().any(|pod| {
            pod.spec
                .iter()
                .flat_map(|spec| spec.volumes.iter().flatten())
                .any(|volume| volume.persistent_volume_claim.as_ref().is_some_and(|source| source.claim_name == claim))
        })
    };
    let mut all_gone = true;
    for claim in found.items {
        let claim_name = claim.name_any();
        let holds_our_data = claim.annotations().get(names::CLUSTER_ID_ANNOTATION) == Some(&cluster_id);
        if !holds_our_data || names::broker_of_volume_claim(name, &claim_name).is_none() {
            continue;
        }
        if mounted(&claim_name) {
            all_gone = false;
            continue;
        }
        if claim.metadata.deletion_timestamp.is_some() {
            continue;
        }
        let params = DeleteParams {
            preconditions: Some(Preconditions { uid: claim.metadata.uid.clone(), ..Preconditions::default() }),
            ..DeleteParams::default()
        };
        delete(&claims, &claim_name, &params).await?;
        info!(cluster = name, namespace, claim = claim_name, "deleted the volume, as deletionPolicy says");
        let note = format!("deleted PersistentVolumeClaim {claim_name}, as deletionPolicy says");
        context.tell(&cluster.object_ref(&()), EventType::Normal, "DeletedVolume", "Delete", note).await;
    }
    Ok(all_gone)
}

async fn delete<K>(api: &Api<K>, name: &str, params: &DeleteParams) -> Result<(), ReconcileError>
where
    K: Clone + serde::de::DeserializeOwned + std::fmt::Debug,
{
    match bounded(format!("delete {name}"), api.delete(name, params)).await {
        Ok(_) => Ok(()),
        Err(error) if matches!(error.code(), Some(404 | 409)) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

async fn write_finalizers(cluster: &Cluster, wanted: bool, context: &Context) -> Result<(), ReconcileError> {
    let clusters: Api<Cluster> = Api::namespaced(context.client.clone(), &cluster.namespace().unwrap_or_default());
    let name = cluster.name_any();
    let patch = finalizers_patch(cluster.finalizers(), cluster.resource_version(), wanted);
    match bounded(
        format!("write the finalizers of Cluster {name}"),
        clusters.patch(&name, &PatchParams::default(), &Patch::Merge(&patch)),
    )
    .await
    {
        Ok(_) => Ok(()),
        // Gone already, or changed meanwhile: the next pass sees it.
        Err(error) if error.code() == Some(404) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// The patch that adds or removes our finalizer and leaves others' alone. The resource version makes
/// it a compare-and-set.
pub fn finalizers_patch(present: &[String], resource_version: Option<String>, wanted: bool) -> serde_json::Value {
    let mut finalizers: Vec<&str> =
        present.iter().map(String::as_str).filter(|finalizer| *finalizer != names::FINALIZER).collect();
    if wanted {
        finalizers.push(names::FINALIZER);
    }
    json!({"metadata": {"finalizers": finalizers, "resourceVersion": resource_version}})
}
