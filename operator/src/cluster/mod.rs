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
pub mod volume;

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kube::api::{Api, DeleteParams, Patch, PatchParams, Preconditions};
use kube::runtime::controller::Action;
use kube::runtime::events::EventType;
use kube::{Resource, ResourceExt};
use odradek_crds::{Cluster, ClusterStatus, names};
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
use validate::{Storage, Valid};

/// The kind's name in logs and series.
pub const KIND: &str = "Cluster";

/// A Cluster that waits for nobody but its user is looked at again after this time, for what no watch
/// reports: a broker that stopped answering although its pod is ready, a foreign object that has gone.
const RESYNC: Duration = Duration::from_mins(1);

/// Why a pass was given up.
#[derive(Debug, Error)]
pub enum ReconcileError {
    /// A call failed that everything else stands on.
    #[error(transparent)]
    Call(#[from] CallError),
}

/// One pass over a Cluster. What the watch brought only says which one: it is read anew, because a pass that
/// began with the status of the time before last would take its own write for still to be made, or made.
pub async fn reconcile(cluster: Arc<Cluster>, context: Arc<Context>) -> Result<Action, ReconcileError> {
    let namespace = cluster.namespace().unwrap_or_default();
    let name = cluster.name_any();
    let clusters: Api<Cluster> = Api::namespaced(context.client.clone(), &namespace);
    let Some(live) = bounded(format!("get Cluster {name}"), clusters.get_opt(&name)).await? else {
        return Ok(Action::await_change());
    };
    let cluster = &live;
    if cluster.meta().deletion_timestamp.is_some() {
        return deletion::finish(cluster, &context).await;
    }
    deletion::keep_finalizer(cluster, &context).await?;

    let observed = fetch::fetch(cluster, &context.client).await?;
    let valid = validate::validate(cluster, &observed, &context.images);
    let findings = match &valid {
        Ok(valid) if !valid.paused => Box::pin(bring_about(cluster, valid, observed, &context)).await,
        // What runs already is still told truly.
        _ => {
            let kafka = ask_brokers(cluster, &observed, &context).await;
            let storage = valid.as_ref().ok().and_then(|valid| valid.volume_fault.clone());
            Findings { observed, storage, kafka, ..Findings::default() }
        }
    };
    let status = status::status(cluster, &valid, &findings, &Context::now());
    let settled = status::is_settled(&status) && !matches!(findings.kafka, Some(Err(_)));
    let changed = write_status(cluster, status, &context).await?;
    if settled || changed {
        context.backoff.reset(KIND, &namespace, &name);
    }
    Ok(Action::requeue(if settled { RESYNC } else { context.backoff.next(KIND, &namespace, &name) }))
}

/// Applies every object, replaces the pod if it must be, and asks the brokers how they are.
async fn bring_about(cluster: &Cluster, valid: &Valid, observed: Observed, context: &Context) -> Findings {
    let objects = build::build(valid);
    let owned = Belonging::Controlled(valid.owner.clone());
    let unowned = Belonging::ClusterId(valid.cluster_id.clone());
    let mut findings = Findings { observed, storage: valid.volume_fault.clone(), ..Findings::default() };

    // Storage first and apart: the broker waits for its volume, but nothing else does.
    if let (Some(claim), None) = (&objects.volume_claim, &valid.volume_fault) {
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
    // The first StatefulSet comes after the volume: it is the mark that there was one.
    let has_volume =
        objects.volume_claim.is_none() || (findings.observed.volume_claim.is_some() && valid.volume_fault.is_none());
    let may_have_broker = has_volume || plan::own_stateful_set(cluster, &findings.observed).is_some();
    match record(apply(&context.client, &objects.config_map, &owned).await, "ConfigMap", cluster, context).await {
        Ok(_) if !may_have_broker => {}
        // The pod must not start before its configuration is there.
        Ok(_) => {
            match record(
                Box::pin(apply(&context.client, &objects.stateful_set, &owned)).await,
                "StatefulSet",
                cluster,
                context,
            )
            .await
            {
                Ok(live) => findings.observed.stateful_set = Some(live),
                Err(error) => failures.push(error),
            }
        }
        Err(error) => failures.push(error),
    }
    findings.configuration = failures.first().map(PhaseFailure::from_apply);
    if findings.configuration.is_none() && !may_have_broker {
        findings.configuration = Some(PhaseFailure {
            reason: "WaitingForVolume",
            message: "the StatefulSet is made once the volume is there".into(),
            stalled: false,
        });
    }

    findings.step = plan::pod_step(
        plan::own_stateful_set(cluster, &findings.observed),
        findings.observed.pod.as_ref(),
        valid.volume_fault.as_ref(),
    );
    if let PodStep::Delete { uid, why } = &findings.step {
        match replace_pod(cluster, valid, uid, why, context).await {
            Ok(None) => {}
            Ok(Some(fault)) => {
                findings.step = PodStep::Hold { why: fault.message.clone() };
                findings.storage = Some(fault);
            }
            Err(error) => {
                findings.configuration.get_or_insert_with(|| PhaseFailure::from_apply(&ApplyError::Call(error)));
            }
        }
    }
    findings.kafka = ask_brokers(cluster, &findings.observed, context).await;
    findings
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

/// Deletes the pod so that its StatefulSet makes it again with the newest template; gives what is wrong with
/// its volume if that keeps it from being deleted.
async fn replace_pod(
    cluster: &Cluster,
    valid: &Valid,
    uid: &str,
    why: &str,
    context: &Context,
) -> Result<Option<PhaseFailure>, CallError> {
    if let Storage::PersistentClaim { .. } = valid.storage {
        // Calls lie between the decision and this; a volume that was deleted meanwhile would go with the pod.
        let claims: Api<PersistentVolumeClaim> = Api::namespaced(context.client.clone(), &valid.namespace);
        let claim = names::volume_claim(&valid.name, build::ONLY_BROKER);
        let live = bounded(format!("get PersistentVolumeClaim {claim}"), claims.get_opt(&claim)).await?;
        let fault = volume::fault(&valid.name, &valid.cluster_id, true, live.as_ref());
        if fault.is_some() {
            return Ok(fault);
        }
    }
    let pods: Api<Pod> = Api::namespaced(context.client.clone(), &valid.namespace);
    let name = names::pod(&valid.name, build::ONLY_BROKER);
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
            Ok(None)
        }
        // Gone, or another one already.
        Err(error) if matches!(error.code(), Some(404 | 409)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Asks the brokers through the bootstrap Service, once their pod says that it is ready.
async fn ask_brokers(
    cluster: &Cluster,
    observed: &Observed,
    context: &Context,
) -> Option<Result<crate::kafka::ClusterView, crate::kafka::KafkaError>> {
    if !plan::own_pod(cluster, observed).is_some_and(plan::is_ready) {
        return None;
    }
    let key = ClusterKey { namespace: cluster.namespace().unwrap_or_default(), name: cluster.name_any() };
    Some(context.kafka.view(&key).await)
}

/// Writes the status if it says something new, and tells what changed; true if it did.
async fn write_status(cluster: &Cluster, status: ClusterStatus, context: &Context) -> Result<bool, ReconcileError> {
    if cluster.status.as_ref() == Some(&status) {
        return Ok(false);
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
    match bounded(
        format!("write the status of Cluster {name}"),
        clusters.patch_status(&name, &PatchParams::apply(OPERATOR).force(), &Patch::Apply(&patch)),
    )
    .await
    {
        Ok(_) => {}
        // Deleted meanwhile.
        Err(error) if error.code() == Some(404) => return Ok(true),
        Err(error) => return Err(error.into()),
    }
    let previous = cluster.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
    for condition in conditions::changed(previous, &status.conditions) {
        let Some(type_) = status::event_for(condition) else { continue };
        let note = format!("{}={}: {}", condition.type_, condition.status, condition.message);
        context.tell(&cluster.object_ref(&()), type_, &condition.reason, "Reconcile", note).await;
    }
    Ok(true)
}

/// The StatefulSet's revision that all pods shall run, once its controller has seen the newest spec.
pub fn target_revision(stateful_set: &StatefulSet) -> Option<&str> {
    let status = stateful_set.status.as_ref()?;
    if status.observed_generation != stateful_set.metadata.generation {
        return None;
    }
    status.update_revision.as_deref()
}
