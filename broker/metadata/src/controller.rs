// SPDX-License-Identifier: Apache-2.0
//! The controller's decisions: pure functions of image, command and time to records and reply.
//!
//! No I/O, no clock, no randomness: what is random (topic ids, the start of a placement) comes with the command. A
//! decision is final once its records are committed; only then may its reply be sent (coordination rule 11). Must not
//! know Kafka's error codes.

mod allocate_producer_ids;
mod create_topics;
mod delete_topics;
mod placement;
mod register_broker;

pub use allocate_producer_ids::{AllocateProducerIds, AllocateProducerIdsError, PRODUCER_ID_BLOCK, ProducerIdBlock};
pub use create_topics::{CreateTopicError, CreateTopics, CreatedTopic, MAX_PARTITIONS_PER_REQUEST, NewTopic};
pub use delete_topics::{DeleteTopicError, DeleteTopics, DeletedTopic, TopicReference};
use odradek_model::{BrokerEpoch, ClusterId, Timestamp, TopicDefaults, TopicOverrides};
pub use register_broker::{RegisterBroker, RegisterBrokerError};

use crate::{Image, Record};

/// Settings that decisions depend on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ControllerSettings {
    /// `num.partitions`: partitions of a topic created with -1.
    pub default_partitions: i32,
    /// `default.replication.factor`: replicas of a topic created with -1; `None` is min(3, registered brokers).
    pub default_replication_factor: Option<i16>,
    /// What topics inherit, against which their own settings are checked.
    pub topic_defaults: TopicDefaults,
}

impl Default for ControllerSettings {
    fn default() -> Self {
        Self {
            default_partitions: 1,
            default_replication_factor: None,
            topic_defaults: TopicDefaults { overrides: TopicOverrides::new() },
        }
    }
}

/// Something to decide.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Command {
    /// A broker starts.
    RegisterBroker(RegisterBroker),
    /// Topics are wanted.
    CreateTopics(CreateTopics),
    /// Topics are not wanted any more.
    DeleteTopics(DeleteTopics),
    /// A broker needs producer ids.
    AllocateProducerIds(AllocateProducerIds),
}

/// The answer to the [`Command`] of the same kind.
#[derive(PartialEq, Debug)]
pub enum Reply {
    /// The broker's epoch.
    RegisterBroker(Result<BrokerEpoch, RegisterBrokerError>),
    /// Per topic name in the order of the request, duplicates once.
    CreateTopics(Vec<(String, Result<CreatedTopic, CreateTopicError>)>),
    /// Per entry of the request.
    DeleteTopics(Vec<(TopicReference, Result<DeletedTopic, DeleteTopicError>)>),
    /// The block.
    AllocateProducerIds(Result<ProducerIdBlock, AllocateProducerIdsError>),
}

/// What was decided: the records, to be appended as one batch, and the reply once they are committed. No records: the
/// reply is due once everything that the image holds is committed.
#[derive(PartialEq, Debug)]
pub struct Decision<R> {
    /// To append; may be empty.
    pub records: Vec<Record>,
    /// To answer.
    pub reply: R,
}

impl<R> Decision<R> {
    fn map<S>(self, f: impl FnOnce(R) -> S) -> Decision<S> {
        Decision { records: self.records, reply: f(self.reply) }
    }
}

/// Decides one command on the image of the controller's own log up to its end, committed or not.
pub fn decide(image: &Image, settings: &ControllerSettings, command: &Command, _now_ms: Timestamp) -> Decision<Reply> {
    match command {
        Command::RegisterBroker(command) => register_broker::decide(image, command).map(Reply::RegisterBroker),
        Command::CreateTopics(command) => create_topics::decide(image, settings, command).map(Reply::CreateTopics),
        Command::DeleteTopics(command) => delete_topics::decide(image, command).map(Reply::DeleteTopics),
        Command::AllocateProducerIds(command) => {
            allocate_producer_ids::decide(image, command).map(Reply::AllocateProducerIds)
        }
    }
}

/// The records with which a new log begins, after its first epoch record.
pub fn bootstrap(image: &Image, cluster_id: &ClusterId) -> Vec<Record> {
    use crate::records::{ClusterRecord, FeatureLevelRecord};
    if image.cluster_id().is_some() {
        return Vec::new();
    }
    vec![
        ClusterRecord { cluster_id: cluster_id.as_str().to_owned() }.into(),
        FeatureLevelRecord { level: crate::SUPPORTED_FEATURE_LEVEL }.into(),
    ]
}

#[cfg(test)]
mod tests;
