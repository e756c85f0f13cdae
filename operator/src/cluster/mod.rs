// SPDX-License-Identifier: Apache-2.0
//! `Cluster`: one pass of fetch -> validate -> build -> apply -> plan -> status.
//!
//! Each phase reports by itself: a volume that cannot grow does not stop a new configuration. "Not
//! yet" is a condition and a later pass, never an error.

pub mod build;
pub mod deletion;
pub mod fetch;
pub mod plan;
pub mod settings;
pub mod status;
pub mod validate;

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::apps::v1::StatefulSet;
use kube::api::{Api, DeleteParams, Patch, PatchParams, Preconditions};
use kube::runtime::controller::Action;
use kube::runtime::events::EventType;
use kube::{Resource, ResourceExt};
use odradek_crds::{Cluster, ClusterStatus};
use serde_json::json;
use thiserror::Error;
use tracing::info;

use crate::OPERATOR;
use crate::apply::{ApplyError, Belonging, Outcome, apply};
use crate::calls::{CallError, bounded};
use crate::conditions;
use crate::context::Context;
use crate::kafka::ClusterKey;
use fetch::Observed;
use plan::PodStep;
use status::{Findings, PhaseFailure};
use validate::Valid;

/// The kind's name in logs and series.
pub const KIND: &str = "Cluster";

/// A converged Cluster is looked at again after this time, for what no watch reports: a broker that
/// stopped answering although its pod is ready.
const RESYNC: Duration = Duration::from_secs(60);
/// A Cluster on its way is looked at again this soon; watches report most changes earlier.
const SOON: Duration = Duration::from_secs(2);

/// Why a pass was given up.
#[derive(Debug, Error)]
pub enum ReconcileError {
    /// A call failed that everything else stands on.
    #[error(transparent)]
    Call(#[from] CallError),
}

/// One pass over a Cluster.
pub async fn reconcile(cluster: Arc<Cluster>, context: Arc<Context>) -> Result<Action, ReconcileError> {
    let cluster = cluster.as_ref();
    if cluster.meta().deletion_timestamp.is_some() {
        return deletion::finish(cluster, &context).await;
    }
    deletion::keep_finalizer(cluster, &context).await?;

    let observed = fetch::fetch(cluster, &context.client).await?;
    let valid = validate::validate(cluster, &observed, &context.images);
    let findings = match &valid {
        Ok(valid) if !valid.paused => bring_about(cluster, valid, observed, &context).await?,
        // What runs already is still told truly.
        _ => {
            let kafka = ask_brokers(cluster, &observed, &context).await;
            Findings { observed, kafka, ..Findings::default() }
        }
    };
    let status = status::status(cluster, &valid, &findings, &Context::now());
    let settled = status::is_settled(&status);
    write_status(cluster, status, &context).await?;
    Ok(Action::requeue(if settled { RESYNC } else { SOON }))
}

/// Applies every object, replaces the pod if it must be, and asks the brokers how they are.
async fn bring_about(
    cluster: &Cluster,
    valid: &Valid,
    observed: Observed,
    context: &Context,
) -> Result<Findings, ReconcileError> {
    let objects = build::build(valid);
    let owned = Belonging::Controlled(valid.owner.clone());
    let unowned = Belonging::ClusterId(valid.cluster_id.clone());
    let mut findings = Findings { observed, ..Findings::default() };

    // Storage first and apart: the pod waits for its volume, but nothing else does.
    if let Some(claim) = &objects.volume_claim {
        match record(apply(&context.client, claim, &unowned).await, "PersistentVolumeClaim", cluster, context).await {
            Ok(live) => findings.observed.volume_claim = Some(live),
            Err(error) => findings.storage = Some(PhaseFailure::from_apply(&error)),
        }
    }
    let mut failures = Vec::new();
    if let Err(error) =
        record(apply(&context.client, &objects.service_account, &owned).await, "ServiceAccount", cluster, context).await
    {
        failures.push(error);
    }
    for service in &objects.services {
        if let Err(error) = record(apply(&context.client, service, &owned).await, "Service", cluster, context).await {
            failures.push(error);
        }
    }
    if let Err(error) = record(
        apply(&context.client, &objects.disruption_budget, &owned).await,
        "PodDisruptionBudget",
        cluster,
        context,
    )
    .await
    {
        failures.push(error);
    }
    match record(apply(&context.client, &objects.config_map, &owned).await, "ConfigMap", cluster, context).await {
        // The pod must not start before its configuration is there.
        Ok(_) => {
            match record(apply(&context.client, &objects.stateful_set, &owned).await, "StatefulSet", cluster, context)
                .await
            {
                Ok(live) => findings.observed.stateful_set = Some(live),
                Err(error) => failures.push(error),
            }
        }
        Err(error) => failures.push(error),
    }
    findings.configuration = failures.first().map(PhaseFailure::from_apply);

    findings.step = plan::pod_step(findings.observed.stateful_set.as_ref(), findings.observed.pod.as_ref());
    if let PodStep::Delete { uid, why } = &findings.step {
        replace_pod(cluster, valid, uid, why, context).await?;
    }
    findings.kafka = ask_brokers(cluster, &findings.observed, context).await;
    Ok(findings)
}

/// Counts and tells a write.
async fn record<K>(
    result: Result<(Outcome, K), ApplyError>,
    kind: &str,
    cluster: &Cluster,
    context: &Context,
) -> Result<K, ApplyError>
where
    K: Resource<DynamicType = ()>,
{
    let (outcome, live) = result?;
    let reason = match outcome {
        Outcome::Created => "Created",
        Outcome::Changed => "Changed",
        Outcome::Unchanged => return Ok(live),
    };
    context.metrics.wrote(KIND);
    let name = live.name_any();
    info!(cluster = cluster.name_any(), namespace = cluster.namespace(), kind, name, "{}", reason.to_lowercase());
    let note = format!("{} {kind} {name}", reason.to_lowercase());
    context.tell(&cluster.object_ref(&()), EventType::Normal, reason, "Apply", note).await;
    Ok(live)
}

/// Deletes the pod so that its StatefulSet makes it again with the newest template.
async fn replace_pod(
    cluster: &Cluster,
    valid: &Valid,
    uid: &str,
    why: &str,
    context: &Context,
) -> Result<(), ReconcileError> {
    let pods: Api<k8s_openapi::api::core::v1::Pod> = Api::namespaced(context.client.clone(), &valid.namespace);
    let name = odradek_crds::names::pod(&valid.name, build::ONLY_BROKER);
    // By its uid: a pod that was replaced meanwhile is another one.
    let params = DeleteParams {
        preconditions: Some(Preconditions { uid: Some(uid.to_owned()), ..Preconditions::default() }),
        ..DeleteParams::default()
    };
    match bounded(format!("delete Pod {name}"), pods.delete(&name, &params)).await {
        Ok(_) => {
            info!(cluster = valid.name, namespace = valid.namespace, pod = name, why, "replacing the pod");
            let note = format!("replacing pod {name}: {why}");
            context.tell(&cluster.object_ref(&()), EventType::Normal, "ReplacingPod", "Roll", note).await;
            Ok(())
        }
        // Gone, or another one already.
        Err(error) if matches!(error.code(), Some(404 | 409)) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Asks the brokers through the bootstrap Service, once their pod says that it is ready.
async fn ask_brokers(
    cluster: &Cluster,
    observed: &Observed,
    context: &Context,
) -> Option<Result<crate::kafka::ClusterView, crate::kafka::KafkaError>> {
    if !observed.pod.as_ref().is_some_and(plan::is_ready) {
        return None;
    }
    let key = ClusterKey { namespace: cluster.namespace().unwrap_or_default(), name: cluster.name_any() };
    Some(context.kafka.view(&key).await)
}

/// Writes the status if it says something new, and tells what changed.
async fn write_status(cluster: &Cluster, status: ClusterStatus, context: &Context) -> Result<(), ReconcileError> {
    if cluster.status.as_ref() == Some(&status) {
        return Ok(());
    }
    let namespace = cluster.namespace().unwrap_or_default();
    let name = cluster.name_any();
    let clusters: Api<Cluster> = Api::namespaced(context.client.clone(), &namespace);
    let patch = json!({
        "apiVersion": Cluster::api_version(&()),
        "kind": KIND,
        "metadata": {"name": name, "uid": cluster.uid()},
        "status": status,
    });
    bounded(
        format!("write the status of Cluster {name}"),
        clusters.patch_status(&name, &PatchParams::apply(OPERATOR).force(), &Patch::Apply(&patch)),
    )
    .await?;
    let previous = cluster.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
    for condition in conditions::changed(previous, &status.conditions) {
        let Some(type_) = status::event_for(condition) else { continue };
        let note = format!("{}={}: {}", condition.type_, condition.status, condition.message);
        context.tell(&cluster.object_ref(&()), type_, &condition.reason, "Reconcile", note).await;
    }
    Ok(())
}

/// The StatefulSet's revision that all pods shall run, once its controller has seen the newest spec.
pub fn target_revision(stateful_set: &StatefulSet) -> Option<&str> {
    let status = stateful_set.status.as_ref()?;
    if status.observed_generation != stateful_set.metadata.generation {
        return None;
    }
    status.update_revision.as_deref()
}
