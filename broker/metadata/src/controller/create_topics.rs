// SPDX-License-Identifier: Apache-2.0
//! Topics are created (`ReplicationControlManager.createTopics` in Kafka; rules 37 and 48).

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use odradek_model::{BrokerId, SettingError, TopicId, TopicName, TopicNameError, TopicOverrides, TopicSettings};
use thiserror::Error;

use super::create_partitions::{first_record, placement_message};
use super::min_in_sync::default_min_in_sync;
use super::placement::{self, Placer};
use super::replication_settings::check_replication_settings;
use super::{ControllerSettings, Decision, manual_assignment};
use crate::image::{FLUSH_EACH, FLUSH_MESSAGES};
use crate::records::{TopicRecord, TopicSettingRecord};
use crate::{Image, Record};

/// Partitions that one request may ask for in all (`ReplicationControlManager.MAX_PARTITIONS_PER_BATCH`). With records
/// of under 100 bytes a batch stays near 1 MB.
pub const MAX_PARTITIONS_PER_REQUEST: usize = 10_000;
/// Settings that one topic may give: more than there are, and a bound on the batch.
const MAX_SETTINGS: usize = 200;

/// A topic to create.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NewTopic {
    /// Its name, as given.
    pub name: String,
    /// Its id if it is created: random, never used before.
    pub id: TopicId,
    /// -1 is the default.
    pub partitions: i32,
    /// -1 is the default.
    pub replication_factor: i16,
    /// Partition and its broker ids; if any are given, both numbers above must be -1.
    pub assignments: Vec<(i32, Vec<i32>)>,
    /// Names and values, as given.
    pub settings: Vec<(String, Option<String>)>,
}

/// Topics to create.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CreateTopics {
    /// Which.
    pub topics: Vec<NewTopic>,
    /// Only say what would happen.
    pub validate_only: bool,
    /// Random: where placement begins.
    pub placement_seed: u64,
}

/// A created topic.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CreatedTopic {
    /// Its name.
    pub name: TopicName,
    /// Its id. Of no meaning if only validated.
    pub id: TopicId,
    /// Number of partitions.
    pub partitions: i32,
    /// Replicas of its first partition.
    pub replication_factor: i16,
    /// The settings given.
    pub overrides: TopicOverrides,
    /// All settings as they work.
    pub settings: TopicSettings,
}

/// Why a topic was not created.
#[derive(PartialEq, Eq, Debug, Error)]
pub enum CreateTopicError {
    /// `TOPIC_ALREADY_EXISTS`.
    #[error("topic {0:?} already exists")]
    AlreadyExists(String),
    /// `INVALID_TOPIC_EXCEPTION`.
    #[error("{0}")]
    InvalidName(#[from] TopicNameError),
    /// `INVALID_TOPIC_EXCEPTION`.
    #[error("topic {name:?} collides with the existing topic {existing:?}: metric names cannot tell '.' from '_'")]
    Collides {
        /// The new one.
        name: String,
        /// The one that is there, or earlier in the request.
        existing: String,
    },
    /// Twice in the request, or another request that makes no sense (`INVALID_REQUEST`).
    #[error("{0}")]
    InvalidRequest(String),
    /// `INVALID_PARTITIONS`.
    #[error("{0}")]
    InvalidPartitions(String),
    /// `INVALID_REPLICATION_FACTOR`.
    #[error("{0}")]
    InvalidReplicationFactor(String),
    /// `INVALID_REPLICA_ASSIGNMENT`.
    #[error("{0}")]
    InvalidAssignment(String),
    /// `INVALID_CONFIG`; the text names the setting.
    #[error("{0}")]
    InvalidSetting(#[from] SettingError),
    /// `INVALID_CONFIG`.
    #[error("topic setting {0:?} has no value")]
    NullSetting(String),
    /// More than [`MAX_PARTITIONS_PER_REQUEST`] (`POLICY_VIOLATION`).
    #[error("the request asks for more than {MAX_PARTITIONS_PER_REQUEST} partitions")]
    TooManyPartitions,
}

type Outcome = Result<CreatedTopic, CreateTopicError>;

pub(super) fn decide(
    image: &Image,
    settings: &ControllerSettings,
    command: &CreateTopics,
) -> Decision<Vec<(String, Outcome)>> {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for topic in &command.topics {
        *counts.entry(&topic.name).or_default() += 1;
    }
    let too_many = total_partitions(&command.topics, settings) > MAX_PARTITIONS_PER_REQUEST;
    let placer = Placer::new(placement::placeable(image), command.placement_seed);
    let mut request = Request { image, settings, placer, forms: BTreeMap::new() };
    let mut records = Vec::new();
    let mut reply: Vec<(String, Outcome)> = Vec::new();
    let mut answered = BTreeSet::new();
    for topic in &command.topics {
        if !answered.insert(&topic.name) {
            continue;
        }
        let outcome = if counts[topic.name.as_str()] > 1 {
            Err(CreateTopicError::InvalidRequest("Duplicate topic name.".to_owned()))
        } else if too_many {
            Err(CreateTopicError::TooManyPartitions)
        } else {
            request.create(topic).map(|(created, new_records)| {
                records.extend(new_records);
                created
            })
        };
        reply.push((topic.name.clone(), outcome));
    }
    if command.validate_only {
        records.clear();
    }
    Decision { records, reply }
}

fn total_partitions(topics: &[NewTopic], settings: &ControllerSettings) -> usize {
    let of = |topic: &NewTopic| {
        if !topic.assignments.is_empty() {
            topic.assignments.len()
        } else if topic.partitions == -1 {
            usize::try_from(settings.default_partitions).unwrap_or(0)
        } else {
            usize::try_from(topic.partitions).unwrap_or(0)
        }
    };
    topics.iter().map(of).fold(0, usize::saturating_add)
}

/// One request in progress: the image, and the names it has already given away.
struct Request<'a> {
    image: &'a Image,
    settings: &'a ControllerSettings,
    placer: Placer<'a>,
    forms: BTreeMap<String, TopicName>,
}

impl Request<'_> {
    fn create(&mut self, topic: &NewTopic) -> Result<(CreatedTopic, Vec<Record>), CreateTopicError> {
        if topic.name == "__cluster_metadata" {
            let reason = "creation of the internal topic __cluster_metadata is prohibited";
            return Err(CreateTopicError::InvalidRequest(reason.to_owned()));
        }
        let name = TopicName::new(&topic.name)?;
        if self.image.topic(&name).is_some() {
            return Err(CreateTopicError::AlreadyExists(topic.name.clone()));
        }
        let form = name.collision_form();
        if let Some(existing) = self.image.colliding_topic(&name).or_else(|| self.forms.get(&form)) {
            return Err(CreateTopicError::Collides { name: topic.name.clone(), existing: existing.to_string() });
        }
        let (overrides, mut settings) = self.overrides(topic)?;
        let replicas = if topic.assignments.is_empty() { self.place(topic)? } else { self.assigned(topic)? };
        let id = Bytes::copy_from_slice(topic.id.0.as_bytes());
        let mut records: Vec<Record> = Vec::with_capacity(1 + overrides.len() + replicas.len());
        let always_flushed = overrides.get(FLUSH_MESSAGES).is_some_and(|value| value == FLUSH_EACH);
        records.push(TopicRecord { id: id.clone(), name: topic.name.clone(), always_flushed }.into());
        for (name, value) in &overrides {
            let (name, value) = (name.clone(), Some(value.clone()));
            records.push(TopicSettingRecord { topic_id: id.clone(), name, value }.into());
        }
        for (partition, replicas) in replicas.iter().enumerate() {
            let record = first_record(self.image, &id, partition as i32, replicas).ok_or_else(|| {
                // Placement puts every leader on an unfenced broker, so these were named by hand.
                let reason = format!("all brokers of partition {partition} are fenced or going to stop");
                CreateTopicError::InvalidAssignment(reason)
            })?;
            records.push(record);
        }
        if !has_min_in_sync(&overrides, self.settings) {
            settings.min_insync_replicas = default_min_in_sync(replicas[0].len()) as i32;
        }
        let created = CreatedTopic {
            name: name.clone(),
            id: topic.id,
            partitions: replicas.len() as i32,
            replication_factor: replicas[0].len() as i16,
            overrides,
            settings,
        };
        self.forms.insert(form, name);
        Ok((created, records))
    }

    fn overrides(&self, topic: &NewTopic) -> Result<(TopicOverrides, TopicSettings), CreateTopicError> {
        if topic.settings.len() > MAX_SETTINGS {
            let reason = format!("{} settings given, at most {MAX_SETTINGS} are allowed", topic.settings.len());
            return Err(CreateTopicError::InvalidRequest(reason));
        }
        let mut overrides = TopicOverrides::new();
        for (name, value) in &topic.settings {
            let Some(value) = value else {
                return Err(CreateTopicError::NullSetting(name.chars().take(100).collect()));
            };
            overrides.insert(name.clone(), value.clone());
        }
        check_replication_settings(self.image, &overrides)?;
        let settings = TopicSettings::resolve(&overrides, &self.settings.topic_defaults)?;
        Ok((overrides, settings))
    }

    fn place(&mut self, topic: &NewTopic) -> Result<Vec<Vec<BrokerId>>, CreateTopicError> {
        if topic.replication_factor < -1 || topic.replication_factor == 0 {
            let reason = "replication factor must be larger than 0, or -1 to use the default value";
            return Err(CreateTopicError::InvalidReplicationFactor(reason.to_owned()));
        }
        if topic.partitions < -1 || topic.partitions == 0 {
            let reason = "number of partitions must be larger than 0, or -1 to use the default value";
            return Err(CreateTopicError::InvalidPartitions(reason.to_owned()));
        }
        let partitions =
            if topic.partitions == -1 { self.settings.default_partitions.max(1) } else { topic.partitions };
        let factor = match (topic.replication_factor, self.settings.default_replication_factor) {
            (-1, Some(default)) => default,
            (-1, None) => self.image.brokers().filter(|broker| broker.is_active()).count().clamp(1, 3) as i16,
            (given, _) => given,
        };
        self.placer
            .place(partitions as usize, factor as usize)
            .map_err(|error| CreateTopicError::InvalidReplicationFactor(placement_message(factor as usize, error)))
    }

    fn assigned(&self, topic: &NewTopic) -> Result<Vec<Vec<BrokerId>>, CreateTopicError> {
        let invalid = CreateTopicError::InvalidAssignment;
        let refuse = |reason: String| Err(invalid(reason));
        if topic.replication_factor != -1 || topic.partitions != -1 {
            let reason = "a manual assignment was given, but replication factor or partitions are not -1";
            return Err(CreateTopicError::InvalidRequest(reason.to_owned()));
        }
        let mut assigned: BTreeMap<i32, Vec<BrokerId>> = BTreeMap::new();
        for (partition, replicas) in &topic.assignments {
            let checked = manual_assignment::check(self.image, replicas, &[])
                .map_err(|reason| invalid(format!("invalid assignment of partition {partition}: {reason}")))?;
            if replicas.len() != topic.assignments[0].1.len() {
                return refuse(format!("partition {partition} has another number of replicas than the first one"));
            }
            if manual_assignment::first_isr(self.image, &checked).is_empty() {
                return refuse(format!("all brokers of partition {partition} are fenced or going to stop"));
            }
            if assigned.insert(*partition, checked).is_some() {
                return refuse(format!("partition {partition} is assigned twice"));
            }
        }
        if !assigned.keys().copied().eq(0..assigned.len() as i32) {
            return refuse("partitions should be a consecutive 0-based integer sequence".to_owned());
        }
        Ok(assigned.into_values().collect())
    }
}

/// Whether the topic or the configuration says how many replicas must be in sync.
fn has_min_in_sync(overrides: &TopicOverrides, settings: &ControllerSettings) -> bool {
    let name = "min.insync.replicas";
    overrides.contains_key(name) || settings.topic_defaults.overrides.contains_key(name)
}
