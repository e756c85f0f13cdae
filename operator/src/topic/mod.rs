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
use crate::kafka::KafkaError;
use fetch::{ClusterState, Observed};
use plan::Step;
use status::Outcome;

/// The kind's name in logs and series.
pub const KIND: &str = "Topic";

/// A topic that needs nothing, or an edit, is looked at again after this time, for changes made in Kafka itself.
const RESYNC: Duration = Duration::from_mins(5);
/// A Topic that waits for its Cluster, or has to step back for another Topic, is looked at again after this
/// time; the watches lead to a look as soon as those change.
const WAIT_FOR_OTHERS: Duration = Duration::from_mins(2);

/// One pass over a Topic. `siblings` are the other Topics of its namespace for the same topic.
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
    end(topic, &outcome, &context).await
}

/// Writes the status, and says when to look again.
async fn end(topic: &Topic, outcome: &Outcome, context: &Context) -> Result<Action, ReconcileError> {
    let (namespace, name) = (topic.namespace().unwrap_or_default(), topic.name_any());
    let changed = write_status(topic, status::status(topic, outcome, &Context::now()), context).await?;
    let asked_again = matches!(outcome, Outcome::Retrying { .. } | Outcome::RefusedByBrokers(_));
    if changed || !asked_again {
        context.backoff.reset(KIND, &namespace, &name);
    }
    Ok(Action::requeue(match outcome {
        Outcome::Refused(refusals) if refusals.iter().any(|refusal| refusal.reason == validate::TAKEN) => {
            WAIT_FOR_OTHERS
        }
        Outcome::Refused(_) | Outcome::Reached(_) | Outcome::Differs { .. } => RESYNC,
        Outcome::WaitingForCluster { .. } => WAIT_FOR_OTHERS,
        Outcome::Retrying { .. } | Outcome::RefusedByBrokers(_) => context.backoff.next(KIND, &namespace, &name),
    }))
}

async fn bring_about(topic: &Topic, valid: &validate::Valid, observed: Observed, context: &Context) -> Outcome {
    match plan::plan(valid, &observed) {
        Step::WaitForCluster { reason, message } => Outcome::WaitingForCluster { reason, message },
        Step::Retry(error) => Outcome::Retrying {
            reason: match error {
                KafkaError::Unreachable { .. } => "BrokersUnreachable",
                KafkaError::Refused { .. } => "BrokersRefused",
            },
            message: error.to_string(),
        },
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
                    Ok(None) => Outcome::Retrying {
                        reason: "Creating",
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
    let (namespace, name) = (topic.namespace().unwrap_or_default(), topic.name_any());
    // Read anew: which topic it is stands in the status, and the watch may not have brought the last one.
    let topics: Api<Topic> = Api::namespaced(context.client.clone(), &namespace);
    let Some(topic) = bounded(format!("get Topic {name}"), topics.get_opt(&name)).await? else {
        return Ok(Action::await_change());
    };
    let going = topic.metadata.deletion_timestamp.is_some();
    if !going || !topic.finalizers().iter().any(|finalizer| finalizer == names::FINALIZER) {
        return Ok(Action::await_change());
    }
    if topic.deletion_policy() == DeletionPolicy::Delete
        && let Ok(valid) = validate::validate(&topic, siblings)
        && let Some(outcome) = delete_topic(&topic, &valid, context).await?
    {
        return end(&topic, &outcome, context).await;
    }
    keep_finalizer(&topic, false, context).await?;
    Ok(Action::await_change())
}

/// Deletes the topic that this Topic made or found, by its id: one of the same name that came later is
/// another's. Gives what there is to wait for; nothing once the Cluster is gone.
async fn delete_topic(
    topic: &Topic,
    valid: &validate::Valid,
    context: &Context,
) -> Result<Option<Outcome>, ReconcileError> {
    let name = &valid.new.name;
    let Some(id) = topic.status.as_ref().and_then(|status| status.topic_id.as_deref()) else {
        // Never reached, so there is none that is known to be its own.
        return Ok(None);
    };
    let state = fetch::cluster_state(&valid.cluster, &context.client).await?;
    if let ClusterState::Missing | ClusterState::Going = state {
        return Ok(None);
    }
    let way_out = "; to keep the topic, set spec.deletionPolicy to Retain";
    if let Some((reason, message)) = plan::waits_for(&valid.cluster, state) {
        return Ok(Some(Outcome::WaitingForCluster { reason, message: message + way_out }));
    }
    let about = topic.object_ref(&());
    match context.kafka.delete_topic(&valid.cluster, id).await {
        Ok(true) => {
            context.metrics.wrote(KIND);
            info!(topic = name, id, cluster = valid.cluster.name, namespace = valid.cluster.namespace, "deleted");
            let note = format!("deleted topic {name} with id {id} from Cluster {}", valid.cluster.name);
            context.tell(&about, EventType::Normal, "Deleted", "Delete", note).await;
            Ok(None)
        }
        Ok(false) => {
            let note = format!("topic {name} with id {id} is gone already; one of that name made later would stay");
            context.tell(&about, EventType::Normal, "NothingToDelete", "Delete", note).await;
            Ok(None)
        }
        Err(error) => Ok(Some(Outcome::Retrying { reason: "DeletionFailed", message: error.to_string() + way_out })),
    }
}

/// Whether a Topic had to step back for an older one.
pub fn is_taken(topic: &Topic) -> bool {
    let conditions = topic.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
    conditions::find(conditions, "Stalled").is_some_and(|stalled| stalled.reason == validate::TAKEN)
}

async fn keep_finalizer(topic: &Topic, wanted: bool, context: &Context) -> Result<(), ReconcileError> {
    if wanted == topic.finalizers().iter().any(|finalizer| finalizer == names::FINALIZER) {
        return Ok(());
    }
    let name = topic.name_any();
    let topics: Api<Topic> = Api::namespaced(context.client.clone(), &topic.namespace().unwrap_or_default());
    let patch = finalizers_patch(topic.finalizers(), topic.resource_version().as_deref(), wanted);
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

/// Writes the status if it says something new, and tells what changed; true if it did.
async fn write_status(topic: &Topic, status: TopicStatus, context: &Context) -> Result<bool, ReconcileError> {
    if topic.status.as_ref() == Some(&status) {
        return Ok(false);
    }
    let name = topic.name_any();
    let topics: Api<Topic> = Api::namespaced(context.client.clone(), &topic.namespace().unwrap_or_default());
    let patch = json!({
        "apiVersion": Topic::api_version(&()),
        "kind": KIND,
        "metadata": {"name": name, "uid": topic.uid()},
        "status": status,
    });
    match bounded(
        format!("write the status of Topic {name}"),
        topics.patch_status(&name, &PatchParams::apply(OPERATOR).force(), &Patch::Apply(&patch)),
    )
    .await
    {
        Ok(_) => {}
        // Deleted meanwhile.
        Err(error) if error.code() == Some(404) => return Ok(true),
        Err(error) => return Err(error.into()),
    }
    let known = topic.status.as_ref().and_then(|status| status.topic_id.as_ref());
    if let (Some(known), Some(found)) = (known, &status.topic_id)
        && known != found
    {
        let note = format!("the topic with id {known} is gone; this Topic now stands for the one with id {found}");
        context.tell(&topic.object_ref(&()), EventType::Warning, "TopicReplaced", "Reconcile", note).await;
    }
    let previous = topic.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
    for condition in conditions::changed(previous, &status.conditions) {
        let type_ = match (condition.type_.as_str(), condition.status.as_str()) {
            ("Ready", "True") => EventType::Normal,
            ("Stalled", "True") => EventType::Warning,
            ("Reconciling", "True") if condition.reason == "DeletionFailed" => EventType::Warning,
            _ => continue,
        };
        let note = format!("{}={}: {}", condition.type_, condition.status, condition.message);
        context.tell(&topic.object_ref(&()), type_, &condition.reason, "Reconcile", note).await;
    }
    Ok(true)
}
