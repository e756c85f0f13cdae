// SPDX-License-Identifier: Apache-2.0
//! Settings of topics, and the replication throttles of brokers, change one by one (`IncrementalAlterConfigs`;
//! `ConfigurationControlManager` in Kafka).
//!
//! A change of `min.insync.replicas` empties the ELR, as Kafka does: what was kept by one number says nothing by
//! another. Departure: where the ISR is empty the ELR stays, as without a leader nothing is committed by any number, and
//! an emptied ELR would leave the partition to an unclean election.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use odradek_model::{BrokerId, SettingError, SettingKind, TopicSettings};
use thiserror::Error;

use super::replication_settings::check_replication_settings;
use super::{ControllerSettings, Decision};
use crate::image::partition_record;
use crate::records::{BrokerSettingRecord, TopicSettingRecord};
use crate::{BrokerSettingsOf, Image, PartitionImage, Record, TopicImage};

/// Settings of brokers that change without a restart: bytes a second that copying may take.
pub const DYNAMIC_BROKER_SETTINGS: [&str; 2] =
    ["follower.replication.throttled.rate", "leader.replication.throttled.rate"];
/// The throttle of copies between folders of one broker, of which there are none here. `kafka-reassign-partitions`
/// deletes it together with the others when it is done, so to delete it is nothing to complain of.
const FOLDER_THROTTLE: &str = "replica.alter.log.dirs.io.max.bytes.per.second";
/// Changes of one request: more than all settings of a thousand topics.
const MAX_SETTING_CHANGES: usize = 20_000;
/// Longest value (Kafka's bound).
const MAX_VALUE_BYTES: usize = i16::MAX as usize;

/// Whose settings.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum SettingsResource {
    /// A topic's, by its name.
    Topic(String),
    /// A broker's, or of all brokers.
    Broker(BrokerSettingsOf),
}

/// What happens to a setting.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SettingOperation {
    /// It gets the value; none is refused.
    Set(Option<String>),
    /// It falls back to its default.
    Delete,
    /// The comma-separated items are added to a list.
    Append(String),
    /// They are taken out of it.
    Subtract(String),
}

/// Changes of one resource.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ResourceChanges {
    /// Whose.
    pub resource: SettingsResource,
    /// Name and operation.
    pub changes: Vec<(String, SettingOperation)>,
}

/// Changes of settings.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AlterSettings {
    /// Per resource.
    pub resources: Vec<ResourceChanges>,
    /// Only say what would happen.
    pub validate_only: bool,
}

/// Why the settings of a resource were not changed.
#[derive(PartialEq, Eq, Debug, Error)]
pub enum AlterSettingsError {
    /// `UNKNOWN_TOPIC_OR_PARTITION`, 3.
    #[error("there is no such topic")]
    UnknownTopic,
    /// `BROKER_ID_NOT_REGISTERED`, 102.
    #[error("broker {0} is not registered")]
    UnknownBroker(BrokerId),
    /// `INVALID_CONFIG`, 40.
    #[error("{0}")]
    InvalidSetting(#[from] SettingError),
    /// `INVALID_CONFIG`, 40.
    #[error("{0}")]
    InvalidChange(String),
    /// Something was to be appended to, or taken from, what is no list (`INVALID_CONFIG`, 40, of brokers too).
    #[error("setting {0:?} is no list: nothing can be appended to or taken from it")]
    NoList(String),
    /// The resource or the setting twice (`INVALID_REQUEST`, 42).
    #[error("{0} is named twice in the request")]
    Duplicate(String),
    /// `INVALID_REQUEST`, 42.
    #[error("more than {MAX_SETTING_CHANGES} changes in one request")]
    TooMany,
}

/// Per resource of the request, in its order.
pub(super) type Answer = Vec<(SettingsResource, Result<(), AlterSettingsError>)>;

pub(super) fn decide(image: &Image, settings: &ControllerSettings, command: &AlterSettings) -> Decision<Answer> {
    let too_many = command.resources.iter().map(|resource| resource.changes.len()).sum::<usize>() > MAX_SETTING_CHANGES;
    let mut times: BTreeMap<&SettingsResource, usize> = BTreeMap::new();
    command.resources.iter().for_each(|resource| *times.entry(&resource.resource).or_default() += 1);
    let mut records = Vec::new();
    let reply = command
        .resources
        .iter()
        .map(|changes| {
            let outcome = if too_many {
                Err(AlterSettingsError::TooMany)
            } else if times[&changes.resource] > 1 {
                Err(AlterSettingsError::Duplicate("the resource".to_owned()))
            } else {
                alter(image, settings, changes).map(|new| records.extend(new))
            };
            (changes.resource.clone(), outcome)
        })
        .collect();
    if command.validate_only {
        records.clear();
    }
    Decision { records, reply }
}

fn alter(
    image: &Image,
    settings: &ControllerSettings,
    changes: &ResourceChanges,
) -> Result<Vec<Record>, AlterSettingsError> {
    let mut seen = BTreeSet::new();
    if let Some((twice, _)) = changes.changes.iter().find(|(name, _)| !seen.insert(name)) {
        return Err(AlterSettingsError::Duplicate(twice.chars().take(100).collect()));
    }
    match &changes.resource {
        SettingsResource::Topic(name) => {
            let topic = image.topic(name).ok_or(AlterSettingsError::UnknownTopic)?;
            alter_topic(image, settings, topic, &changes.changes)
        }
        SettingsResource::Broker(of) => alter_broker(image, *of, &changes.changes),
    }
}

fn alter_topic(
    image: &Image,
    settings: &ControllerSettings,
    topic: &TopicImage,
    changes: &[(String, SettingOperation)],
) -> Result<Vec<Record>, AlterSettingsError> {
    let topic_id = Bytes::copy_from_slice(topic.id.0.as_bytes());
    let mut overrides = topic.overrides.as_ref().clone();
    let mut records: Vec<Record> = Vec::new();
    for (name, operation) in changes {
        let present = topic.overrides.get(name).map(String::as_str);
        let description = TopicSettings::descriptions().iter().find(|description| description.name == name);
        let is_list = description.is_some_and(|description| description.kind == SettingKind::List);
        let default = description.map_or("", |description| description.default);
        let value = changed(name, operation, present, is_list, default)?;
        if value.as_deref() == present {
            continue;
        }
        match &value {
            Some(value) => overrides.insert(name.clone(), value.clone()),
            None => overrides.remove(name),
        };
        records.push(TopicSettingRecord { topic_id: topic_id.clone(), name: name.clone(), value }.into());
        if name == "min.insync.replicas" {
            records.extend(emptied_elrs(topic, &topic_id));
        }
    }
    check_replication_settings(image, &overrides)?;
    TopicSettings::resolve(&overrides, &settings.topic_defaults)?;
    Ok(records)
}

fn emptied_elrs(topic: &TopicImage, topic_id: &Bytes) -> impl Iterator<Item = Record> {
    let has_one = |partition: &Arc<PartitionImage>| !partition.elr.is_empty() && !partition.isr.is_empty();
    topic.partitions.iter().enumerate().filter(move |(_, partition)| has_one(partition)).map(|(index, partition)| {
        let mut next = partition.as_ref().clone();
        next.elr.clear();
        next.partition_epoch += 1;
        partition_record(topic_id, index as i32, &next)
    })
}

fn alter_broker(
    image: &Image,
    of: BrokerSettingsOf,
    changes: &[(String, SettingOperation)],
) -> Result<Vec<Record>, AlterSettingsError> {
    let broker_id = match of {
        BrokerSettingsOf::AllBrokers => -1,
        BrokerSettingsOf::Broker(id) if image.broker(id).is_some() => id.0,
        BrokerSettingsOf::Broker(id) => return Err(AlterSettingsError::UnknownBroker(id)),
    };
    let mut records: Vec<Record> = Vec::new();
    for (name, operation) in changes {
        if name == FOLDER_THROTTLE && *operation == SettingOperation::Delete {
            continue;
        }
        if !DYNAMIC_BROKER_SETTINGS.contains(&name.as_str()) {
            let name: String = name.chars().take(100).collect();
            let known = DYNAMIC_BROKER_SETTINGS.join(", ");
            let reason =
                format!("broker setting {name:?} cannot be changed without a restart; those that can: {known}");
            return Err(AlterSettingsError::InvalidChange(reason));
        }
        let present = image.broker_settings(of).and_then(|settings| settings.get(name)).map(String::as_str);
        let value = changed(name, operation, present, false, "")?;
        if let Some(value) = &value
            && value.trim().parse::<i64>().ok().is_none_or(|rate| rate < 0)
        {
            let reason = format!("invalid value {value:?} for broker setting {name}: bytes a second, at least 0");
            return Err(AlterSettingsError::InvalidChange(reason));
        }
        if value.as_deref() != present {
            records.push(BrokerSettingRecord { broker_id, name: name.clone(), value }.into());
        }
    }
    Ok(records)
}

/// The value after the operation.
fn changed(
    name: &str,
    operation: &SettingOperation,
    present: Option<&str>,
    is_list: bool,
    default: &str,
) -> Result<Option<String>, AlterSettingsError> {
    let name = || name.chars().take(100).collect::<String>();
    let parts = || -> Vec<String> {
        let text = present.unwrap_or(default);
        text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(str::to_owned).collect()
    };
    let value = match operation {
        SettingOperation::Set(None) => {
            return Err(AlterSettingsError::InvalidChange(format!("setting {:?} has no value", name())));
        }
        SettingOperation::Append(_) | SettingOperation::Subtract(_) if !is_list => {
            return Err(AlterSettingsError::NoList(name()));
        }
        SettingOperation::Set(Some(value)) => Some(value.clone()),
        SettingOperation::Delete => None,
        SettingOperation::Append(items) => {
            let mut list = parts();
            for item in items.split(',').map(str::trim) {
                if !list.iter().any(|present| present == item) {
                    list.push(item.to_owned());
                }
            }
            Some(list.join(","))
        }
        SettingOperation::Subtract(items) => {
            let mut list = parts();
            list.retain(|present| !items.split(',').any(|item| item.trim() == present));
            Some(list.join(","))
        }
    };
    match value {
        Some(value) if value.len() > MAX_VALUE_BYTES => {
            let reason = format!("the value of {:?} would be over {MAX_VALUE_BYTES} bytes", name());
            Err(AlterSettingsError::InvalidChange(reason))
        }
        value => Ok(value),
    }
}
