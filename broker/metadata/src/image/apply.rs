// SPDX-License-Identifier: Apache-2.0
//! What each record does to the image. Replaying the same records always makes the same image.

use std::sync::Arc;

use bytes::Bytes;
use odradek_model::{
    BrokerEpoch, BrokerId, ClusterId, ControllerEpoch, DirectoryId, TopicId, TopicName, TopicOverrides,
};
use thiserror::Error;
use uuid::Uuid;

use super::{
    BrokerImage, BrokerSettingsOf, ControllerImage, Endpoint, FLUSH_EACH, FLUSH_MESSAGES, Image, PartitionImage,
    PartitionKey, SUPPORTED_FEATURE_LEVEL, TopicImage,
};
use crate::records::{
    BrokerChangeRecord, BrokerSettingRecord, ClusterRecord, ControllerChangeRecord, PartitionRecord, ProducerIdsRecord,
    Record, RecordBody, RegisterBrokerRecord, TopicRecord, TopicSettingRecord, UnregisterBrokerRecord,
};

/// Why a record cannot be applied: the log is damaged or was written by a newer version. Nothing is skipped.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
pub enum ApplyError {
    /// The cluster was upgraded for good by a newer version.
    #[error("the cluster's feature level is {found}, this version supports up to {SUPPORTED_FEATURE_LEVEL}")]
    NewerFeatureLevel {
        /// The level of the record.
        found: u32,
    },
    /// The record contradicts the image.
    #[error("the metadata record {kind} does not fit: {reason}")]
    DoesNotFit {
        /// The record's kind.
        kind: &'static str,
        /// What is wrong.
        reason: String,
    },
}

/// The image after one record, appended under `epoch`; the old image stays as it is.
///
/// # Errors
/// [`ApplyError`]
pub fn apply(image: &Image, epoch: ControllerEpoch, record: &Record) -> Result<Image, ApplyError> {
    let mut next = image.clone();
    next.apply_mut(epoch, record)?;
    Ok(next)
}

impl Image {
    /// Applies one record in place; what other clones share is copied, never changed. After an error the image is as
    /// before.
    ///
    /// # Errors
    /// [`ApplyError`]
    pub fn apply_mut(&mut self, epoch: ControllerEpoch, record: &Record) -> Result<(), ApplyError> {
        let unknown = &record.unknown;
        match &record.body {
            RecordBody::ControllerChange(r) => {
                self.controller_change(r, unknown);
                Ok(())
            }
            RecordBody::Cluster(r) => self.cluster(r, unknown),
            RecordBody::FeatureLevel(r) => self.set_feature_level(r.level, unknown),
            RecordBody::RegisterBroker(r) => self.register_broker(r, unknown),
            RecordBody::Topic(r) => self.create_topic(r, unknown),
            RecordBody::RemoveTopic(r) => self.remove_topic(&r.id),
            RecordBody::Partition(r) => self.change_partition(r, unknown),
            RecordBody::TopicSetting(r) => self.topic_setting(r, unknown),
            RecordBody::ProducerIds(r) => self.producer_ids(r, unknown),
            RecordBody::UnregisterBroker(r) => self.unregister_broker(r),
            RecordBody::BrokerChange(r) => self.change_broker(r),
            RecordBody::BrokerSetting(r) => self.broker_setting(r, unknown),
        }
        .map_err(|error| match error {
            ApplyError::DoesNotFit { reason, .. } => ApplyError::DoesNotFit { kind: record.body.name(), reason },
            newer @ ApplyError::NewerFeatureLevel { .. } => newer,
        })?;
        self.end_offset += 1;
        self.epoch = epoch;
        Ok(())
    }

    fn controller_change(&mut self, record: &ControllerChangeRecord, unknown: &Bytes) {
        self.controller = Some(Arc::new(ControllerImage {
            broker_id: BrokerId(record.broker_id),
            incarnation: record.incarnation.clone(),
            epoch: record.controller_epoch,
        }));
        self.keep_unknown("ControllerChange", "", unknown);
        if !record.recovered_without.is_empty() {
            self.recover();
        }
    }

    fn cluster(&mut self, record: &ClusterRecord, unknown: &Bytes) -> Result<(), ApplyError> {
        let cluster_id = ClusterId::new(&record.cluster_id).map_err(|error| misfit(error.to_string()))?;
        if let Some(ours) = &self.cluster_id
            && *ours != cluster_id
        {
            return Err(misfit(format!("cluster id {cluster_id} after {ours}")));
        }
        self.cluster_id = Some(cluster_id);
        self.keep_unknown("Cluster", "", unknown);
        Ok(())
    }

    fn set_feature_level(&mut self, level: u32, unknown: &Bytes) -> Result<(), ApplyError> {
        if level > SUPPORTED_FEATURE_LEVEL {
            return Err(ApplyError::NewerFeatureLevel { found: level });
        }
        if level < self.feature_level {
            return Err(misfit(format!("feature level {level} after {}", self.feature_level)));
        }
        self.feature_level = level;
        self.keep_unknown("FeatureLevel", "", unknown);
        Ok(())
    }

    fn register_broker(&mut self, record: &RegisterBrokerRecord, unknown: &Bytes) -> Result<(), ApplyError> {
        let mut endpoints = Vec::with_capacity(record.endpoints.len());
        for endpoint in &record.endpoints {
            endpoints.push(Endpoint {
                listener: endpoint.listener.clone(),
                host: endpoint.host.clone(),
                port: u16::try_from(endpoint.port).map_err(|_| misfit(format!("port {}", endpoint.port)))?,
                security_protocol: i16::try_from(endpoint.security_protocol)
                    .map_err(|_| misfit(format!("security protocol {}", endpoint.security_protocol)))?,
            });
        }
        if record.broker_epoch <= self.highest_broker_epoch
            && self.brokers.values().any(|b| b.epoch == record.broker_epoch && b.id.0 != record.broker_id)
        {
            return Err(misfit(format!("broker epoch {} is another broker's", record.broker_epoch)));
        }
        let broker = BrokerImage {
            id: BrokerId(record.broker_id),
            epoch: record.broker_epoch,
            incarnation: uuid(&record.incarnation)?,
            directory_id: DirectoryId(uuid(&record.directory_id)?),
            endpoints,
            rack: record.rack.clone(),
            boot_id: record.boot_id.clone(),
            fenced: record.fenced,
            registered_at: record.registered_at.unwrap_or(self.end_offset),
            shutting_down_at: record.shutting_down_at,
            cordoned: record.cordoned,
            supported_feature_level: record.supported_feature_level,
            unknown: unknown.clone(),
        };
        self.highest_broker_epoch = self.highest_broker_epoch.max(broker.epoch);
        self.brokers.insert_mut(broker.id, Arc::new(broker));
        Ok(())
    }

    fn unregister_broker(&mut self, record: &UnregisterBrokerRecord) -> Result<(), ApplyError> {
        let broker = self.registered(record.broker_id, record.broker_epoch)?;
        self.brokers.remove_mut(&broker.id);
        Ok(())
    }

    fn change_broker(&mut self, record: &BrokerChangeRecord) -> Result<(), ApplyError> {
        let mut broker = self.registered(record.broker_id, record.broker_epoch)?;
        let changed = Arc::make_mut(&mut broker);
        changed.fenced = record.fenced.unwrap_or(changed.fenced);
        changed.cordoned = record.cordoned.unwrap_or(changed.cordoned);
        if record.shutting_down {
            changed.shutting_down_at = changed.shutting_down_at.or(Some(self.end_offset));
        }
        self.brokers.insert_mut(broker.id, broker);
        Ok(())
    }

    fn registered(&self, id: i32, epoch: BrokerEpoch) -> Result<Arc<BrokerImage>, ApplyError> {
        let broker = self.brokers.get(&BrokerId(id)).filter(|broker| broker.epoch == epoch);
        broker.cloned().ok_or_else(|| misfit(format!("broker {id} is not registered with epoch {epoch}")))
    }

    fn broker_setting(&mut self, record: &BrokerSettingRecord, unknown: &Bytes) -> Result<(), ApplyError> {
        let of = match record.broker_id {
            -1 => BrokerSettingsOf::AllBrokers,
            id if id >= 0 => BrokerSettingsOf::Broker(BrokerId(id)),
            other => return Err(misfit(format!("settings of broker {other}"))),
        };
        let mut settings = self.broker_settings.get(&of).cloned().unwrap_or_default();
        let changed = Arc::make_mut(&mut settings);
        match &record.value {
            Some(value) => changed.insert(record.name.clone(), value.clone()),
            None => changed.remove(&record.name),
        };
        if changed.is_empty() {
            self.broker_settings.remove_mut(&of);
        } else {
            self.broker_settings.insert_mut(of, settings);
        }
        let unknown = if record.value.is_some() { unknown } else { &Bytes::new() };
        self.keep_unknown("BrokerSetting", &broker_setting_key(record.broker_id, &record.name), unknown);
        Ok(())
    }

    fn create_topic(&mut self, record: &TopicRecord, unknown: &Bytes) -> Result<(), ApplyError> {
        let name = TopicName::new(&record.name).map_err(|error| misfit(error.to_string()))?;
        let id = TopicId(uuid(&record.id)?);
        if self.topic_ids.contains_key(&name) || self.topics.contains_key(&id) {
            return Err(misfit(format!("topic {name} with id {id} is there already")));
        }
        let topic = TopicImage {
            name: name.clone(),
            id,
            partitions: Vec::new(),
            overrides: Arc::default(),
            always_flushed: record.always_flushed,
            unknown: unknown.clone(),
        };
        self.topics.insert_mut(id, Arc::new(topic));
        self.collision_forms.insert_mut(name.collision_form(), name.clone());
        self.topic_ids.insert_mut(name, id);
        Ok(())
    }

    fn remove_topic(&mut self, id: &Bytes) -> Result<(), ApplyError> {
        let topic = self.topic_of(id)?;
        self.partition_count -= topic.partitions.len();
        for (index, partition) in topic.partitions.iter().enumerate() {
            let key = PartitionKey { topic: topic.id, partition: index as i32 };
            self.indexes.update(key, Some(partition), None);
        }
        self.topics.remove_mut(&topic.id);
        self.topic_ids.remove_mut(&topic.name);
        self.collision_forms.remove_mut(&topic.name.collision_form());
        let settings: Vec<_> =
            self.unknown.keys().filter(|(_, key)| key.starts_with(&key_of(topic.id))).cloned().collect();
        for key in settings {
            self.unknown.remove_mut(&key);
        }
        Ok(())
    }

    fn change_partition(&mut self, record: &PartitionRecord, unknown: &Bytes) -> Result<(), ApplyError> {
        let id = TopicId(uuid(&record.topic_id)?);
        let topic = self.topics.get(&id).ok_or_else(|| misfit(format!("no topic has the id {id}")))?;
        let count = topic.partitions.len();
        let index = usize::try_from(record.partition)
            .ok()
            .filter(|index| *index <= count)
            .ok_or_else(|| misfit(format!("partition {} of {} with {count}", record.partition, topic.name)))?;
        let brokers = |ids: &[i32]| ids.iter().copied().map(BrokerId).collect();
        let partition = Arc::new(PartitionImage {
            replicas: brokers(&record.replicas),
            isr: brokers(&record.isr),
            elr: brokers(&record.elr),
            leader: (record.leader >= 0).then_some(BrokerId(record.leader)),
            leader_epoch: record.leader_epoch,
            partition_epoch: record.partition_epoch,
            adding: brokers(&record.adding),
            removing: brokers(&record.removing),
            recovering: record.recovering,
            lost_logs: brokers(&record.lost_logs),
            unknown: unknown.clone(),
        });
        let old = topic.partitions.get(index).cloned();
        partition
            .check(old.as_deref())
            .map_err(|reason| misfit(format!("partition {}-{index}: {reason}", topic.name)))?;
        self.indexes.update(PartitionKey { topic: id, partition: record.partition }, old.as_deref(), Some(&partition));
        drop(old);
        // In place unless an older image shares it: one batch copies a topic at most once.
        let changed = Arc::make_mut(self.topics.get_mut(&id).expect("found above"));
        if index == count {
            changed.partitions.push(partition);
            self.partition_count += 1;
        } else {
            changed.partitions[index] = partition;
        }
        Ok(())
    }

    fn topic_setting(&mut self, record: &TopicSettingRecord, unknown: &Bytes) -> Result<(), ApplyError> {
        let mut topic = self.topic_of(&record.topic_id)?;
        let mut overrides: TopicOverrides = topic.overrides.as_ref().clone();
        match &record.value {
            Some(value) => overrides.insert(record.name.clone(), value.clone()),
            None => overrides.remove(&record.name),
        };
        let changed = Arc::make_mut(&mut topic);
        changed.overrides = Arc::new(overrides);
        // Once is enough: when it changed back, and what each replica wrote meanwhile, nobody knows any more.
        changed.always_flushed &= record.name != FLUSH_MESSAGES || record.value.as_deref() == Some(FLUSH_EACH);
        let unknown = if record.value.is_some() { unknown } else { &Bytes::new() };
        self.keep_unknown("TopicSetting", &setting_key(topic.id, &record.name), unknown);
        self.topics.insert_mut(topic.id, topic);
        Ok(())
    }

    fn producer_ids(&mut self, record: &ProducerIdsRecord, unknown: &Bytes) -> Result<(), ApplyError> {
        if record.next_producer_id < self.next_producer_id {
            let (given, present) = (record.next_producer_id, self.next_producer_id);
            return Err(misfit(format!("next producer id {given} after {present}")));
        }
        self.next_producer_id = record.next_producer_id;
        self.keep_unknown("ProducerIds", "", unknown);
        Ok(())
    }

    fn topic_of(&self, id: &Bytes) -> Result<Arc<TopicImage>, ApplyError> {
        let id = TopicId(uuid(id)?);
        self.topics.get(&id).cloned().ok_or_else(|| misfit(format!("no topic has the id {id}")))
    }

    fn keep_unknown(&mut self, kind: &'static str, key: &str, unknown: &Bytes) {
        let key = (kind, key.to_owned());
        if unknown.is_empty() {
            self.unknown.remove_mut(&key);
        } else {
            self.unknown.insert_mut(key, unknown.clone());
        }
    }
}

impl PartitionImage {
    /// What must hold of every state, and of every step from the state before.
    fn check(&self, old: Option<&Self>) -> Result<(), &'static str> {
        let distinct_among = |some: &[BrokerId], all: &[BrokerId]| {
            some.iter().enumerate().all(|(i, broker)| all.contains(broker) && !some[..i].contains(broker))
        };
        let disjoint = |some: &[BrokerId], others: &[BrokerId]| some.iter().all(|broker| !others.contains(broker));
        let all = &self.replicas;
        let rules = [
            (!all.is_empty() && all.iter().all(|broker| broker.0 >= 0), "replicas are missing or negative"),
            (distinct_among(all, all), "a replica stands twice"),
            (distinct_among(&self.isr, all), "the ISR is not within the replicas"),
            (distinct_among(&self.elr, all) && disjoint(&self.elr, &self.isr), "the ELR is not among other replicas"),
            (self.leader.is_none_or(|leader| self.isr.contains(&leader)), "the leader is not in the ISR"),
            (distinct_among(&self.adding, all) && distinct_among(&self.removing, all), "others are added or removed"),
            (disjoint(&self.adding, &self.removing), "a replica is both added and removed"),
            (distinct_among(&self.lost_logs, all), "other logs than replicas' are lost"),
            (disjoint(&self.lost_logs, &self.isr) && disjoint(&self.lost_logs, &self.elr), "a lost log is in sync"),
            (
                old.is_none_or(|old| {
                    old.leader_epoch <= self.leader_epoch && old.partition_epoch <= self.partition_epoch
                }),
                "its epochs go back",
            ),
            (
                old.is_none_or(|old| old.leader == self.leader || old.leader_epoch < self.leader_epoch),
                "another leader has the same epoch",
            ),
        ];
        rules.iter().find(|(holds, _)| !holds).map_or(Ok(()), |(_, broken)| Err(*broken))
    }
}

/// The key, in [`Image::unknown`], of everything about a topic begins with this.
pub(super) fn key_of(topic: TopicId) -> String {
    format!("{topic}/")
}

/// The key, in [`Image::unknown`], of a topic's setting.
pub(super) fn setting_key(topic: TopicId, name: &str) -> String {
    format!("{topic}/{name}")
}

/// The key, in [`Image::unknown`], of a broker's setting.
pub(super) fn broker_setting_key(broker: i32, name: &str) -> String {
    format!("{broker}/{name}")
}

fn misfit(reason: String) -> ApplyError {
    ApplyError::DoesNotFit { kind: "", reason }
}

fn uuid(bytes: &Bytes) -> Result<Uuid, ApplyError> {
    Uuid::from_slice(bytes).map_err(|_| misfit(format!("an id has {} bytes, not 16", bytes.len())))
}
