// SPDX-License-Identifier: Apache-2.0
//! The operator's port to a Kafka cluster: what it asks of brokers, in its own words.
//!
//! Reconciling knows only this trait; [`wire`] speaks the protocol. Must not know Kubernetes objects.

pub mod wire;

use std::collections::BTreeMap;

use futures::future::BoxFuture;
use thiserror::Error;

/// A Kafka cluster by the namespace and name of its `Cluster`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClusterKey {
    /// The namespace.
    pub namespace: String,
    /// The name.
    pub name: String,
}

/// Why a question to the brokers has no answer.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum KafkaError {
    /// No connection, or it broke, or no answer in time: try again.
    #[error("the brokers cannot be reached at {address}: {reason}")]
    Unreachable {
        /// Where.
        address: String,
        /// Why.
        reason: String,
    },
    /// The broker said no.
    #[error("the broker answered {code}{}", message.as_deref().map(|text| format!(": {text}")).unwrap_or_default())]
    Refused {
        /// Kafka's name of the error.
        code: String,
        /// The broker's own words, if any.
        message: Option<String>,
        /// Whether the same request can succeed later.
        retriable: bool,
    },
}

/// What the brokers say of themselves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClusterView {
    /// Kafka's cluster id.
    pub cluster_id: String,
    /// Ids of the brokers that are registered and not fenced.
    pub brokers: Vec<i32>,
    /// Partitions without a leader, as `topic-partition`, at most [`OFFLINE_NAMED_MAX`].
    pub offline_partitions: Vec<String>,
}

/// How many partitions without a leader are named; more help nobody.
pub const OFFLINE_NAMED_MAX: usize = 10;

/// A topic as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TopicView {
    /// The topic's id.
    pub id: String,
    /// Its partitions.
    pub partitions: i32,
    /// The copies of its first partition.
    pub replicas: i32,
    /// Settings of its own, by name; not those inherited from the brokers.
    pub config: BTreeMap<String, String>,
}

/// A topic to create.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewTopic {
    /// Its name.
    pub name: String,
    /// Its partitions; the brokers' default when absent.
    pub partitions: Option<i32>,
    /// The copies of each partition; the brokers' default when absent.
    pub replicas: Option<i32>,
    /// Its settings.
    pub config: BTreeMap<String, String>,
}

/// Answers of the port.
pub type Answer<'a, T> = BoxFuture<'a, Result<T, KafkaError>>;

/// What the operator asks of a Kafka cluster. Every call has a deadline.
pub trait Kafka: Send + Sync {
    /// The cluster's id, brokers and partitions without a leader.
    fn view<'a>(&'a self, cluster: &'a ClusterKey) -> Answer<'a, ClusterView>;
    /// A topic, if it exists.
    fn topic<'a>(&'a self, cluster: &'a ClusterKey, name: &'a str) -> Answer<'a, Option<TopicView>>;
    /// Creates a topic.
    fn create_topic<'a>(&'a self, cluster: &'a ClusterKey, topic: &'a NewTopic) -> Answer<'a, ()>;
    /// Deletes the topic with this id, and only that: one of the same name that was created later stays. False
    /// if it does not exist.
    fn delete_topic<'a>(&'a self, cluster: &'a ClusterKey, id: &'a str) -> Answer<'a, bool>;
    /// Drops what is kept for a Cluster that is gone.
    fn forget(&self, cluster: &ClusterKey);
}
