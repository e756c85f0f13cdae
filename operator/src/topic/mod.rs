// SPDX-License-Identifier: Apache-2.0
//! `Topic`: one pass of fetch -> validate -> plan -> apply -> status.

pub mod fetch;
pub mod plan;
pub mod status;
pub mod validate;

use std::sync::Arc;
use std::time::Duration;

use kube::api::{Api, Patch, PatchParams};
use kube::runtime::controller::Action;
use kube::runtime::events::EventType;
use kube::{Resource, ResourceExt};
use odradek_crds::{DeletionPolicy, Topic, TopicStatus, names};
use serde_json::json;
use tracing::info;

use crate::OPERATOR;
use crate::calls::bounded;
use crate::cluster::ReconcileError;
use crate::cluster::deletion::finalizers_patch;
use crate::conditions;
use crate::context::Context;
use fetch::{ClusterState, Observed};
use plan::Step;
use status::Outcome;

/// The kind's name in logs and series.
pub const KIND: &str = "Topic";

/// A topic as asked for is looked at again after this time, for changes made in Kafka itself.
const RESYNC: Duration = Duration::from_secs(300);
/// A topic that waits for its Cluster, or was just created, is looked at again this soon.
const SOON: Duration = Duration::from_secs(2);
/// A topic that the brokers refused is tried again after this time.
const AFTER_REFUSAL: Duration = Duration::from_secs(30);

/// One pass over a Topic. `siblings` are the other Topics of its namespace.
pub async fn reconcile(
    topic: Arc<Topic>,
    siblings: Vec<Arc<Topic>>,
    context: Arc<Context>,
) -> Result<Action, ReconcileError> {
    let topic = topic.as_ref();
    if topic.meta().deletion_timestamp.is_some() {
        return finish(topic, &siblings, &context).await;
    }
    let outcome = match validate::validate(topic, &siblings) {
        Err(refusals) => {
            // A Topic that may not decide over its topic must not delete it either.
            keep_finalizer(topic, false, &context).await?;
            Outcome::Refused(refusals)
        }
        Ok(valid) => {
            keep_finalizer(topic, topic.deletion_policy() == DeletionPolicy::Delete, &context).await?;
            let observed = fetch::fetch(&valid, &context).await?;
            bring_about(topic, &valid, observed, &context).await
        }
    };
    let status = status::status(topic, &outcome, &Context::now());
    let next = match &outcome {
        Outcome::Refused(_) | Outcome::Reached(_) | Outcome::Differs { .. } => RESYNC,
        Outcome::RefusedByBrokers(_) | Outcome::DeletionFailed(_) => AFTER_REFUSAL,
        Outcome::Waiting { .. } => SOON,
    };
    write_status(topic, status, &context).await?;
    Ok(Action::requeue(next))
}

async fn bring_about(topic: &Topic, valid: &validate::Valid, observed: Observed, context: &Context) -> Outcome {
    match plan::plan(valid, &observed) {
        Step::Wait { reason, message } => Outcome::Waiting { reason, message },
        Step::Keep(view) => Outcome::Reached(view),
        Step::CannotYet { view, differences } => Outcome::Differs { view, differences },
        Step::Create(new) => match context.kafka.create_topic(&valid.cluster, &new).await {
            Ok(()) => {
                context.metrics.wrote(KIND);
                info!(topic = new.name, cluster = valid.cluster.name, namespace = valid.cluster.namespace, "created");
                let note = format!("created topic {} in Cluster {}", new.name, valid.cluster.name);
                context.tell(&topic.object_ref(&()), EventType::Normal, "Created", "Create", note).await;
                // What it became, with the brokers' defaults, is read back at once.
                match context.kafka.topic(&valid.cluster, &new.name).await {
                    Ok(Some(view)) => Outcome::Reached(view),
                    Ok(None) => Outcome::Waiting {
                        reason: "Creating".into(),
                        message: "the topic was created but is not visible yet".into(),
                    },
                    Err(error) => Outcome::from_kafka(&error),
                }
            }
            Err(error) => Outcome::from_kafka(&error),
        },
    }
}

/// Deletes the topic if its policy says so, and never keeps the Topic for longer than its Cluster.
async fn finish(topic: &Topic, siblings: &[Arc<Topic>], context: &Context) -> Result<Action, ReconcileError> {
    if !topic.finalizers().iter().any(|finalizer| finalizer == names::FINALIZER) {
        return Ok(Action::await_change());
    }
    if topic.deletion_policy() == DeletionPolicy::Delete
        && let Ok(valid) = validate::validate(topic, siblings)
        && let ClusterState::Here { .. } = fetch::cluster_state(&valid.cluster, &context.client).await?
    {
        if let Err(error) = context.kafka.delete_topic(&valid.cluster, &valid.new.name).await {
            let outcome = Outcome::DeletionFailed(error.to_string());
            write_status(topic, status::status(topic, &outcome, &Context::now()), context).await?;
            return Ok(Action::requeue(SOON));
        }
        context.metrics.wrote(KIND);
        info!(topic = valid.new.name, cluster = valid.cluster.name, namespace = valid.cluster.namespace, "deleted");
        let note = format!("deleted topic {} from Cluster {}", valid.new.name, valid.cluster.name);
        context.tell(&topic.object_ref(&()), EventType::Normal, "Deleted", "Delete", note).await;
    }
    keep_finalizer(topic, false, context).await?;
    Ok(Action::await_change())
}

async fn keep_finalizer(topic: &Topic, wanted: bool, context: &Context) -> Result<(), ReconcileError> {
    if wanted == topic.finalizers().iter().any(|finalizer| finalizer == names::FINALIZER) {
        return Ok(());
    }
    let name = topic.name_any();
    let topics: Api<Topic> = Api::namespaced(context.client.clone(), &topic.namespace().unwrap_or_default());
    let patch = finalizers_patch(topic.finalizers(), topic.resource_version(), wanted);
    match bounded(
        format!("write the finalizers of Topic {name}"),
        topics.patch(&name, &PatchParams::default(), &Patch::Merge(&patch)),
    )
    .await
    {
        Ok(_) => Ok(()),
        Err(error) if error.code() == Some(404) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

async fn write_status(topic: &Topic, status: TopicStatus, context: &Context) -> Result<(), ReconcileError> {
    if topic.status.as_ref() == Some(&status) {
        return Ok(());
    }
    let name = topic.name_any();
    let topics: Api<Topic> = Api::namespaced(context.client.clone(), &topic.namespace().unwrap_or_default());
    let patch = json!({
        "apiVersion": Topic::api_version(&()),
        "kind": KIND,
        "metadata": {"name": name, "uid": topic.uid()},
        "status": status,
    });
    bounded(
        format!("write the status of Topic {name}"),
        topics.patch_status(&name, &PatchParams::apply(OPERATOR).force(), &Patch::Apply(&patch)),
    )
    .await?;
    let previous = topic.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
    for condition in conditions::changed(previous, &status.conditions) {
        let type_ = match (condition.type_.as_str(), condition.status.as_str()) {
            ("Ready", "True") => EventType::Normal,
            ("Stalled", "True") => EventType::Warning,
            _ => continue,
        };
        let note = format!("{}={}: {}", condition.type_, condition.status, condition.message);
        context.tell(&topic.object_ref(&()), type_, &condition.reason, "Reconcile", note).await;
    }
    Ok(())
}
