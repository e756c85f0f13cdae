// SPDX-License-Identifier: Apache-2.0
//! The metadata of the cluster at one position of the log: immutable, cheap to clone, sharing what did not change.
//!
//! Readers take a clone (or an `Arc`) and never lock. Must not know where records come from, nor decide anything.

mod apply;
mod indexes;
mod recover;
mod snapshot;

use std::collections::BTreeMap;
use std::sync::Arc;

pub use apply::{ApplyError, apply};
use bytes::Bytes;
use indexes::Indexes;
pub use indexes::PartitionKey;
use odradek_model::{
    BrokerEpoch, BrokerId, ClusterId, ControllerEpoch, DirectoryId, LeaderEpoch, Offset, PartitionEpoch, ProducerId,
    TopicId, TopicName, TopicOverrides,
};
use rpds::RedBlackTreeMapSync;
pub(crate) use snapshot::partition_record;
use uuid::Uuid;

/// The newest feature level that this version understands. 1: one broker, registered unfenced, without sessions.
/// 2 ([`REPLICATION_FEATURE_LEVEL`]): several brokers.
pub const SUPPORTED_FEATURE_LEVEL: u32 = 2;

/// The level from which on brokers register fenced, have sessions, and partitions have an ELR.
pub const REPLICATION_FEATURE_LEVEL: u32 = 2;

/// An address of a broker.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Endpoint {
    /// The listener's name, e.g. `PLAIN`.
    pub listener: String,
    /// As advertised.
    pub host: String,
    /// As advertised.
    pub port: u16,
    /// Kafka's number: 0 PLAINTEXT, 1 SSL, 2 SASL_PLAINTEXT, 3 SASL_SSL.
    pub security_protocol: i16,
}

/// A registered broker.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BrokerImage {
    /// Its id.
    pub id: BrokerId,
    /// Of its present registration.
    pub epoch: BrokerEpoch,
    /// Its process.
    pub incarnation: Uuid,
    /// Its data folder.
    pub directory_id: DirectoryId,
    /// Where it is reached.
    pub endpoints: Vec<Endpoint>,
    /// Its rack.
    pub rack: Option<String>,
    /// The kernel's boot id at registration; empty if unknown.
    pub boot_id: String,
    /// Not to lead or be in sync.
    pub fenced: bool,
    /// The offset at which the registration stands in the log: the broker is caught up when it has applied it.
    pub registered_at: Offset,
    /// The offset at which its controlled shutdown began; until it registers anew it neither leads nor is in sync.
    pub shutting_down_at: Option<Offset>,
    /// No new replicas are placed on it.
    pub cordoned: bool,
    /// The highest feature level that its version understands; 0 is 1.
    pub supported_feature_level: u32,
    unknown: Bytes,
}

impl BrokerImage {
    /// Whether it may lead and be in sync: neither fenced nor going to stop.
    pub fn is_active(&self) -> bool {
        !self.fenced && self.shutting_down_at.is_none()
    }
}

/// A partition.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PartitionImage {
    /// The preferred leader first; never empty.
    pub replicas: Vec<BrokerId>,
    /// The replicas in sync; empty when there is no leader.
    pub isr: Vec<BrokerId>,
    /// Replicas outside the ISR that hold everything committed: one of them may lead when the ISR is empty (KIP-966).
    pub elr: Vec<BrokerId>,
    /// `None` while there is none.
    pub leader: Option<BrokerId>,
    /// See [`LeaderEpoch`].
    pub leader_epoch: LeaderEpoch,
    /// See [`PartitionEpoch`].
    pub partition_epoch: PartitionEpoch,
    /// Those of the replicas that a reassignment adds.
    pub adding: Vec<BrokerId>,
    /// Those of the replicas that a reassignment removes when it is complete.
    pub removing: Vec<BrokerId>,
    /// The leader was elected without being known to hold everything committed, and has not yet recovered.
    pub recovering: bool,
    /// Replicas whose log was lost with its folder, or found damaged, since they were in sync: never elected by
    /// themselves, not even as the only ones.
    pub lost_logs: Vec<BrokerId>,
    unknown: Bytes,
}

impl PartitionImage {
    /// The first of the replicas.
    pub fn preferred_leader(&self) -> BrokerId {
        self.replicas[0]
    }

    /// Whether it leads.
    pub fn has_preferred_leader(&self) -> bool {
        self.leader == Some(self.preferred_leader())
    }

    /// Whether replicas are being added or removed.
    pub fn is_reassigning(&self) -> bool {
        !self.adding.is_empty() || !self.removing.is_empty()
    }

    /// The replicas without those that a reassignment in progress adds: what a cancellation goes back to.
    pub fn original_replicas(&self) -> impl Iterator<Item = BrokerId> {
        self.replicas.iter().copied().filter(|broker| !self.adding.contains(broker))
    }
}

/// The setting by which records are forced to the disk.
pub(crate) const FLUSH_MESSAGES: &str = "flush.messages";
/// Its value for each before it counts.
pub(crate) const FLUSH_EACH: &str = "1";

/// A topic with its partitions and settings.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TopicImage {
    /// Its name.
    pub name: TopicName,
    /// Its id.
    pub id: TopicId,
    /// By index.
    pub partitions: Vec<Arc<PartitionImage>>,
    /// The settings given for it, as text.
    pub overrides: Arc<TopicOverrides>,
    /// [`FLUSH_MESSAGES`] has been [`FLUSH_EACH`] since its birth: no replica has ever acknowledged what was not on its disk.
    pub always_flushed: bool,
    unknown: Bytes,
}

/// Whose dynamic settings.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum BrokerSettingsOf {
    /// Of all brokers that have no value of their own.
    AllBrokers,
    /// Of one, registered or not.
    Broker(BrokerId),
}

/// The controller of the newest epoch record.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ControllerImage {
    /// Its broker.
    pub broker_id: BrokerId,
    /// Its process, as in the Lease.
    pub incarnation: String,
    /// Its epoch.
    pub epoch: ControllerEpoch,
}

/// The state that the records below [`Image::end_offset`] make. Clones share everything.
#[derive(Clone, Debug, Default)]
pub struct Image {
    end_offset: Offset,
    epoch: ControllerEpoch,
    cluster_id: Option<ClusterId>,
    feature_level: u32,
    controller: Option<Arc<ControllerImage>>,
    brokers: RedBlackTreeMapSync<BrokerId, Arc<BrokerImage>>,
    highest_broker_epoch: BrokerEpoch,
    topics: RedBlackTreeMapSync<TopicId, Arc<TopicImage>>,
    topic_ids: RedBlackTreeMapSync<TopicName, TopicId>,
    /// How many topics share a name's form in which `.` is `_` (rule 37): the first of them is named in refusals.
    collision_forms: RedBlackTreeMapSync<String, TopicName>,
    partition_count: usize,
    indexes: Indexes,
    broker_settings: RedBlackTreeMapSync<BrokerSettingsOf, Arc<BTreeMap<String, String>>>,
    next_producer_id: ProducerId,
    /// Unknown fields of records without a place of their own, by (kind's name, key).
    unknown: RedBlackTreeMapSync<(&'static str, String), Bytes>,
}

impl Image {
    /// The image of the empty log.
    pub fn empty() -> Self {
        Self::default()
    }

    /// The offset after the last record in it.
    pub fn end_offset(&self) -> Offset {
        self.end_offset
    }

    /// The epoch under which that record was appended.
    pub fn epoch(&self) -> ControllerEpoch {
        self.epoch
    }

    /// The cluster's id; `None` before the first controller wrote it.
    pub fn cluster_id(&self) -> Option<&ClusterId> {
        self.cluster_id.as_ref()
    }

    /// The finalised feature level, 0 before the first one.
    pub fn feature_level(&self) -> u32 {
        self.feature_level
    }

    /// The newest controller.
    pub fn controller(&self) -> Option<&ControllerImage> {
        self.controller.as_deref()
    }

    /// The registered brokers in the order of their ids.
    pub fn brokers(&self) -> impl Iterator<Item = &Arc<BrokerImage>> {
        self.brokers.values()
    }

    /// A registered broker.
    pub fn broker(&self, id: BrokerId) -> Option<&Arc<BrokerImage>> {
        self.brokers.get(&id)
    }

    /// The highest broker epoch ever given.
    pub fn highest_broker_epoch(&self) -> BrokerEpoch {
        self.highest_broker_epoch
    }

    /// The topics in the order of their names.
    pub fn topics(&self) -> impl Iterator<Item = &Arc<TopicImage>> {
        self.topic_ids.values().filter_map(|id| self.topics.get(id))
    }

    /// Number of topics.
    pub fn topic_count(&self) -> usize {
        self.topics.size()
    }

    /// Number of partitions of all topics.
    pub fn partition_count(&self) -> usize {
        self.partition_count
    }

    /// A topic by name.
    pub fn topic(&self, name: &str) -> Option<&Arc<TopicImage>> {
        self.topic_ids.get(name).and_then(|id| self.topics.get(id))
    }

    /// A topic by id.
    pub fn topic_by_id(&self, id: TopicId) -> Option<&Arc<TopicImage>> {
        self.topics.get(&id)
    }

    /// The topic, if any, whose name equals this one after `.` is made `_` (rule 37).
    pub fn colliding_topic(&self, name: &TopicName) -> Option<&TopicName> {
        self.collision_forms.get(&name.collision_form())
    }

    /// A partition.
    pub fn partition(&self, key: PartitionKey) -> Option<&Arc<PartitionImage>> {
        self.topic_by_id(key.topic)?.partitions.get(usize::try_from(key.partition).ok()?)
    }

    /// The partitions with a replica on the broker, by topic id and index, with their topics. The cost is in proportion
    /// to their number.
    pub fn partitions_on(
        &self,
        broker: BrokerId,
    ) -> impl Iterator<Item = (PartitionKey, &Arc<TopicImage>, &Arc<PartitionImage>)> {
        self.indexes.assigned(broker).map(|key| self.indexed(key))
    }

    /// How many partitions the broker leads.
    pub fn leadership_count(&self, broker: BrokerId) -> usize {
        self.indexes.leaderships(broker)
    }

    /// How many partitions have no leader.
    pub fn leaderless_count(&self) -> usize {
        self.indexes.leaderless().size()
    }

    /// The partitions without a leader.
    pub fn leaderless_partitions(
        &self,
    ) -> impl Iterator<Item = (PartitionKey, &Arc<TopicImage>, &Arc<PartitionImage>)> {
        self.indexes.leaderless().iter().map(|key| self.indexed(*key))
    }

    /// The partitions that another replica than the preferred one leads, or none.
    pub fn unbalanced_partitions(
        &self,
    ) -> impl Iterator<Item = (PartitionKey, &Arc<TopicImage>, &Arc<PartitionImage>)> {
        self.indexes.unbalanced().iter().map(|key| self.indexed(*key))
    }

    /// The partitions whose replicas are being changed.
    pub fn reassigning_partitions(
        &self,
    ) -> impl Iterator<Item = (PartitionKey, &Arc<TopicImage>, &Arc<PartitionImage>)> {
        self.indexes.reassigning().iter().map(|key| self.indexed(*key))
    }

    /// Dynamic settings given for the broker, or for all brokers, as text.
    pub fn broker_settings(&self, of: BrokerSettingsOf) -> Option<&BTreeMap<String, String>> {
        self.broker_settings.get(&of).map(Arc::as_ref)
    }

    fn indexed(&self, key: PartitionKey) -> (PartitionKey, &Arc<TopicImage>, &Arc<PartitionImage>) {
        let topic = self.topics.get(&key.topic).expect("an index names topics that are there");
        (key, topic, &topic.partitions[key.partition as usize])
    }

    /// The first producer id that no broker has been given.
    pub fn next_producer_id(&self) -> ProducerId {
        self.next_producer_id
    }
}

#[cfg(test)]
mod tests;
