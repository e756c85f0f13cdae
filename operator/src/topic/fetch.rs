// SPDX-License-Identifier: Apache-2.0
//! Reads the Cluster that a Topic names and the topic as it is. Only I/O.

use kube::Client;
use kube::api::Api;
use odradek_crds::Cluster;

use super::validate::Valid;
use crate::calls::{CallError, bounded};
use crate::conditions;
use crate::context::Context;
use crate::kafka::{ClusterKey, KafkaError, TopicView};

/// What became of the Cluster that a Topic names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClusterState {
    /// It does not exist.
    Missing,
    /// It is being deleted.
    Going,
    /// It exists.
    Here {
        /// Whether its brokers were reached.
        reached: bool,
    },
}

/// What there is for a Topic.
#[derive(Clone, Debug)]
pub struct Observed {
    /// Its Cluster.
    pub cluster: ClusterState,
    /// The topic, if the brokers were asked.
    pub topic: Option<Result<Option<TopicView>, KafkaError>>,
}

/// Reads the Cluster and, once it is reached, the topic.
pub async fn fetch(valid: &Valid, context: &Context) -> Result<Observed, CallError> {
    let cluster = cluster_state(&valid.cluster, &context.client).await?;
    let topic = match cluster {
        ClusterState::Here { reached: true } => Some(context.kafka.topic(&valid.cluster, &valid.new.name).await),
        _ => None,
    };
    Ok(Observed { cluster, topic })
}

/// Reads the Cluster.
pub async fn cluster_state(key: &ClusterKey, client: &Client) -> Result<ClusterState, CallError> {
    let clusters: Api<Cluster> = Api::namespaced(client.clone(), &key.namespace);
    let Some(cluster) = bounded(format!("get Cluster {}", key.name), clusters.get_opt(&key.name)).await? else {
        return Ok(ClusterState::Missing);
    };
    if cluster.metadata.deletion_timestamp.is_some() {
        return Ok(ClusterState::Going);
    }
    Ok(ClusterState::Here { reached: is_reached(&cluster) })
}

/// Whether a Cluster's brokers were reached. Available, not Ready: a roll or a change that waits must not stop
/// topics.
pub fn is_reached(cluster: &Cluster) -> bool {
    let conditions = cluster.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
    conditions::find(conditions, "Available").is_some_and(|condition| condition.status == "True")
}
