// SPDX-License-Identifier: Apache-2.0
//! The end of a Cluster. With `Retain` there is no finalizer and nothing to do: owned objects go with
//! it, volumes stay. With `Delete` the volumes go, and only once no pod mounts them.

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, Preconditions};
use kube::runtime::controller::Action;
use kube::runtime::events::EventType;
use kube::{Resource, ResourceExt};
use odradek_crds::{Cluster, DeletionPolicy, names};
use serde_json::json;
use tracing::info;

use super::build::ONLY_BROKER;
use super::{ReconcileError, status};
use crate::calls::bounded;
use crate::context::Context;
use crate::kafka::ClusterKey;

/// Pods read at a time: whatever else runs in the namespace, memory stays small.
const PODS_AT_ONCE: u32 = 200;

/// What a deletion waits for.
struct Wait {
    /// In one word.
    reason: &'static str,
    /// In a sentence.
    message: String,
}

/// Keeps the finalizer exactly while the policy is `Delete`.
pub async fn keep_finalizer(cluster: &Cluster, context: &Context) -> Result<(), ReconcileError> {
    let wanted = cluster.deletion_policy() == DeletionPolicy::Delete;
    let present = cluster.finalizers().iter().any(|finalizer| finalizer == names::FINALIZER);
    if wanted == present {
        return Ok(());
    }
    write_finalizers(cluster, wanted, context).await
}

/// Deletes what the policy says, then lets the Cluster go. What it waits for stands in its status.
pub async fn finish(cluster: &Cluster, context: &Context) -> Result<Action, ReconcileError> {
    let namespace = cluster.namespace().unwrap_or_default();
    let name = cluster.name_any();
    context.kafka.forget(&ClusterKey { namespace: namespace.clone(), name: name.clone() });
    if !cluster.finalizers().iter().any(|finalizer| finalizer == names::FINALIZER) {
        return Ok(Action::await_change());
    }
    if cluster.deletion_policy() == DeletionPolicy::Delete
        && let Some(wait) = delete_data(cluster, &namespace, &name, context).await?
    {
        let status = status::going(cluster, wait.reason, wait.message, &Context::now());
        if super::write_status(cluster, status, context).await? {
            context.backoff.reset(super::KIND, &namespace, &name);
        }
        return Ok(Action::requeue(context.backoff.next(super::KIND, &namespace, &name)));
    }
    context.backoff.reset(super::KIND, &namespace, &name);
    write_finalizers(cluster, false, context).await?;
    Ok(Action::await_change())
}

/// Stops the broker, then deletes its volumes; gives what there is to wait for.
async fn delete_data(
    cluster: &Cluster,
    namespace: &str,
    name: &str,
    context: &Context,
) -> Result<Option<Wait>, ReconcileError> {
    let stateful_sets: Api<StatefulSet> = Api::namespaced(context.client.clone(), namespace);
    let stateful_set = names::broker(name, ONLY_BROKER);
    if let Some(live) = bounded(format!("get StatefulSet {stateful_set}"), stateful_sets.get_opt(&stateful_set)).await?
    {
        let ours = live.owner_references().iter().any(|owner| Some(&owner.uid) == cluster.metadata.uid.as_ref());
        if ours {
            if live.metadata.deletion_timestamp.is_none() {
                let params = DeleteParams {
                    preconditions: Some(Preconditions { uid: live.uid(), ..Preconditions::default() }),
                    ..DeleteParams::foreground()
                };
                delete(&stateful_sets, &stateful_set, &params).await?;
            }
            return Ok(Some(Wait {
                reason: "StoppingBrokers",
                message: format!("waiting until StatefulSet {stateful_set} and its pod are gone"),
            }));
        }
    }
    delete_volumes(cluster, namespace, name, context).await
}

/// Deletes the volumes that no pod mounts; gives what keeps one of them.
async fn delete_volumes(
    cluster: &Cluster,
    namespace: &str,
    name: &str,
    context: &Context,
) -> Result<Option<Wait>, ReconcileError> {
    let Some(cluster_id) = cluster.status.as_ref().and_then(|status| status.cluster_id.clone()) else {
        return Ok(None);
    };
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(context.client.clone(), namespace);
    let labelled = ListParams::default().labels(&format!("{}={name}", names::CLUSTER_LABEL));
    let found = bounded("list PersistentVolumeClaims", claims.list_metadata(&labelled)).await?;
    let ours: Vec<_> = found
        .items
        .into_iter()
        .filter(|claim| {
            let holds_our_data = claim.annotations().get(names::CLUSTER_ID_ANNOTATION) == Some(&cluster_id);
            holds_our_data && names::broker_of_volume_claim(name, &claim.name_any()).is_some()
        })
        .collect();
    let mounted = mounted(&ours.iter().map(ResourceExt::name_any).collect::<Vec<_>>(), namespace, context).await?;
    for claim in &ours {
        let claim_name = claim.name_any();
        if claim.metadata.deletion_timestamp.is_some() || mounted.iter().any(|(taken, _)| *taken == claim_name) {
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
    Ok(mounted.first().map(|(claim, pod)| Wait {
        reason: status::VOLUME_MOUNTED,
        message: format!(
            "pod {pod} mounts PersistentVolumeClaim {claim}, which deletionPolicy Delete removes; delete the pod, or \
             set spec.deletionPolicy to Retain to keep the volume"
        ),
    }))
}

/// Which of the claims a pod mounts, and which pod. Every pod of the namespace counts: one that is not ours
/// may mount a volume too. One that has ended does not any more.
async fn mounted(
    claims: &[String],
    namespace: &str,
    context: &Context,
) -> Result<Vec<(String, String)>, ReconcileError> {
    let mut found = Vec::new();
    if claims.is_empty() {
        return Ok(found);
    }
    let pods: Api<Pod> = Api::namespaced(context.client.clone(), namespace);
    let mut params = ListParams::default().limit(PODS_AT_ONCE);
    loop {
        let page = bounded("list Pods", pods.list(&params)).await?;
        for pod in &page.items {
            let ended = pod.status.as_ref().and_then(|status| status.phase.as_deref());
            if matches!(ended, Some("Succeeded" | "Failed")) {
                continue;
            }
            let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
            for source in volumes.filter_map(|volume| volume.persistent_volume_claim.as_ref()) {
                if claims.contains(&source.claim_name) {
                    found.push((source.claim_name.clone(), pod.name_any()));
                }
            }
        }
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params = params.continue_token(&token),
            None => return Ok(found),
        }
    }
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
    let patch = finalizers_patch(cluster.finalizers(), cluster.resource_version().as_deref(), wanted);
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
pub fn finalizers_patch(present: &[String], resource_version: Option<&str>, wanted: bool) -> serde_json::Value {
    let mut finalizers: Vec<&str> =
        present.iter().map(String::as_str).filter(|finalizer| *finalizer != names::FINALIZER).collect();
    if wanted {
        finalizers.push(names::FINALIZER);
    }
    json!({"metadata": {"finalizers": finalizers, "resourceVersion": resource_version}})
}
