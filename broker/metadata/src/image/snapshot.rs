// SPDX-License-Identifier: Apache-2.0
//! The image as the shortest list of records that makes it again, with the fields this version does not know.

use bytes::Bytes;
use odradek_model::{ControllerEpoch, Offset};

use super::apply::{broker_setting_key, setting_key};
use super::{ApplyError, BrokerImage, BrokerSettingsOf, Image, PartitionImage, TopicImage};
use crate::records::{
    BrokerSettingRecord, ClusterRecord, ControllerChangeRecord, EndpointRecord, FeatureLevelRecord, PartitionRecord,
    ProducerIdsRecord, Record, RegisterBrokerRecord, TopicRecord, TopicSettingRecord,
};

impl Image {
    /// Records that make this image out of the empty one. The order is fixed: equal images give equal bytes.
    pub fn to_records(&self) -> Vec<Record> {
        let mut records = Vec::new();
        let singleton = |kind: &'static str, record: Record| self.with_unknown(kind, String::new(), record);
        if let Some(controller) = self.controller() {
            let record = ControllerChangeRecord {
                controller_epoch: controller.epoch,
                broker_id: controller.broker_id.0,
                incarnation: controller.incarnation.clone(),
                // What it did stands in the other records.
                recovered_without: Vec::new(),
            };
            records.push(singleton("ControllerChange", record.into()));
        }
        if let Some(cluster_id) = self.cluster_id() {
            let record = ClusterRecord { cluster_id: cluster_id.as_str().to_owned() };
            records.push(singleton("Cluster", record.into()));
        }
        if self.feature_level > 0 {
            records.push(singleton("FeatureLevel", FeatureLevelRecord { level: self.feature_level }.into()));
        }
        records.extend(self.brokers().map(|broker| broker_record(broker)));
        self.broker_setting_records(&mut records);
        for topic in self.topics() {
            self.topic_records(topic, &mut records);
        }
        if self.next_producer_id > 0 {
            let record = ProducerIdsRecord { broker_id: -1, broker_epoch: -1, next_producer_id: self.next_producer_id };
            records.push(singleton("ProducerIds", record.into()));
        }
        records
    }

    /// The image that a snapshot's records make, at the position that the snapshot stands for.
    ///
    /// # Errors
    /// [`ApplyError`]
    pub fn from_records<'a>(
        records: impl IntoIterator<Item = &'a Record>,
        end_offset: Offset,
        epoch: ControllerEpoch,
        highest_broker_epoch: i64,
    ) -> Result<Self, ApplyError> {
        let mut image = Self::empty();
        for record in records {
            image.apply_mut(epoch, record)?;
        }
        image.end_offset = end_offset;
        image.epoch = epoch;
        image.highest_broker_epoch = image.highest_broker_epoch.max(highest_broker_epoch);
        Ok(image)
    }

    fn broker_setting_records(&self, records: &mut Vec<Record>) {
        for (of, settings) in &self.broker_settings {
            let broker_id = match of {
                BrokerSettingsOf::AllBrokers => -1,
                BrokerSettingsOf::Broker(id) => id.0,
            };
            for (name, value) in settings.as_ref() {
                let record = BrokerSettingRecord { broker_id, name: name.clone(), value: Some(value.clone()) };
                let key = broker_setting_key(broker_id, name);
                records.push(self.with_unknown("BrokerSetting", key, record.into()));
            }
        }
    }

    fn topic_records(&self, topic: &TopicImage, records: &mut Vec<Record>) {
        let id = Bytes::copy_from_slice(topic.id.0.as_bytes());
        let record = Record::from(TopicRecord {
            id: id.clone(),
            name: topic.name.to_string(),
            always_flushed: topic.always_flushed,
        });
        records.push(Record { unknown: topic.unknown.clone(), ..record });
        for (name, value) in topic.overrides.as_ref() {
            let record = TopicSettingRecord { topic_id: id.clone(), name: name.clone(), value: Some(value.clone()) };
            records.push(self.with_unknown("TopicSetting", setting_key(topic.id, name), record.into()));
        }
        for (index, partition) in topic.partitions.iter().enumerate() {
            records.push(partition_record(&id, index as i32, partition));
        }
    }

    fn with_unknown(&self, kind: &'static str, key: String, record: Record) -> Record {
        let unknown = self.unknown.get(&(kind, key)).cloned().unwrap_or_default();
        Record { unknown, ..record }
    }
}

fn broker_record(broker: &BrokerImage) -> Record {
    let endpoint = |e: &super::Endpoint| EndpointRecord {
        listener: e.listener.clone(),
        host: e.host.clone(),
        port: u32::from(e.port),
        security_protocol: i32::from(e.security_protocol),
    };
    let record = Record::from(RegisterBrokerRecord {
        broker_id: broker.id.0,
        broker_epoch: broker.epoch,
        incarnation: Bytes::copy_from_slice(broker.incarnation.as_bytes()),
        directory_id: Bytes::copy_from_slice(broker.directory_id.0.as_bytes()),
        endpoints: broker.endpoints.iter().map(endpoint).collect(),
        rack: broker.rack.clone(),
        boot_id: broker.boot_id.clone(),
        fenced: broker.fenced,
        registered_at: Some(broker.registered_at),
        shutting_down_at: broker.shutting_down_at,
        cordoned: broker.cordoned,
        supported_feature_level: broker.supported_feature_level,
    });
    Record { unknown: broker.unknown.clone(), ..record }
}

/// The record that makes this state of a partition.
pub(crate) fn partition_record(topic_id: &Bytes, partition: i32, image: &PartitionImage) -> Record {
    let ids = |brokers: &[odradek_model::BrokerId]| brokers.iter().map(|broker| broker.0).collect();
    let record = Record::from(PartitionRecord {
        topic_id: topic_id.clone(),
        partition,
        replicas: ids(&image.replicas),
        isr: ids(&image.isr),
        leader: image.leader.map_or(-1, |leader| leader.0),
        leader_epoch: image.leader_epoch,
        partition_epoch: image.partition_epoch,
        elr: ids(&image.elr),
        adding: ids(&image.adding),
        removing: ids(&image.removing),
        recovering: image.recovering,
        lost_logs: ids(&image.lost_logs),
    });
    Record { unknown: image.unknown.clone(), ..record }
}
