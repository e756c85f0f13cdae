// SPDX-License-Identifier: Apache-2.0
//! From a Topic and its siblings to what can be asked of the brokers, or every reason why not. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;

use kube::ResourceExt;
use odradek_crds::Topic;
use odradek_model::TopicName;

use crate::cluster::settings;
use crate::cluster::validate::Refusal;
use crate::kafka::{ClusterKey, NewTopic};

/// A Topic that can be brought about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Valid {
    /// The Cluster.
    pub cluster: ClusterKey,
    /// The topic.
    pub new: NewTopic,
}

/// The reason while an older Topic has the topic.
pub const TAKEN: &str = "TopicTaken";

/// Checks everything at once.
pub fn validate(topic: &Topic, siblings: &[Arc<Topic>]) -> Result<Valid, Vec<Refusal>> {
    let namespace = topic.namespace().unwrap_or_default();
    let name = topic.topic_name();
    let reference = &topic.spec.cluster_ref;
    let mut refusals = Vec::new();
    if let Some(other) = reference.namespace.as_deref().filter(|other| *other != namespace) {
        refusals.push(Refusal {
            reason: "NamespaceNotAllowed",
            message: format!(
                "spec.clusterRef.namespace: Cluster {other}/{} cannot be used from namespace {namespace}; create the Topic in namespace {other}",
                reference.name
            ),
        });
    }
    match TopicName::new(&name) {
        Ok(valid) if valid.is_internal() => refusals.push(Refusal {
            reason: "InternalTopic",
            message: format!("topic {name} belongs to the brokers; choose another name"),
        }),
        Ok(_) => {}
        Err(error) => refusals.push(Refusal { reason: "InvalidName", message: format!("spec.topicName: {error}") }),
    }
    let config = settings::topic_settings(&topic.spec.config).unwrap_or_else(|faults| {
        refusals.push(Refusal { reason: "InvalidConfig", message: faults.join("; ") });
        BTreeMap::default()
    });
    if let Some(older) = older_claim(topic, siblings) {
        refusals.push(Refusal {
            reason: TAKEN,
            message: format!(
                "topic {name} of Cluster {} belongs to the older Topic {}; delete one of the two",
                reference.name,
                older.name_any()
            ),
        });
    }
    if !refusals.is_empty() {
        return Err(refusals);
    }
    Ok(Valid {
        cluster: ClusterKey { namespace, name: reference.name.clone() },
        new: NewTopic { name, partitions: topic.spec.partitions, replicas: topic.spec.replicas, config },
    })
}

/// The oldest other Topic for the same topic, if it is older than this one. Equal ages are told apart by name.
fn older_claim<'a>(topic: &Topic, siblings: &'a [Arc<Topic>]) -> Option<&'a Arc<Topic>> {
    let age = |of: &Topic| (of.creation_timestamp().map(|time| time.0), of.name_any());
    siblings
        .iter()
        .filter(|other| {
            other.uid() != topic.uid()
                && other.namespace() == topic.namespace()
                && other.spec.cluster_ref.name == topic.spec.cluster_ref.name
                && other.topic_name() == topic.topic_name()
        })
        .filter(|other| age(other) < age(topic))
        .min_by_key(|other| age(other))
}
