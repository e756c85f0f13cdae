// SPDX-License-Identifier: Apache-2.0
//! Where a setting's value comes from, as CreateTopics and DescribeConfigs tell it (rule 48).
use odradek_model::{SettingDescription, TopicOverrides};

use crate::settings::BrokerSettings;

/// Given for the topic.
pub(crate) const TOPIC: i8 = 1;
/// Given for the broker while it runs.
pub(crate) const DYNAMIC_BROKER: i8 = 2;
/// Given for all brokers while they run.
pub(crate) const DYNAMIC_DEFAULT: i8 = 3;
/// From the broker's configuration.
pub(crate) const STATIC_BROKER: i8 = 4;
/// Kafka's default.
pub(crate) const DEFAULT: i8 = 5;

/// The source of a topic's setting.
pub(crate) fn of_topic(description: &SettingDescription, overrides: &TopicOverrides, broker: &BrokerSettings) -> i8 {
    if overrides.contains_key(description.name) {
        return TOPIC;
    }
    description.broker_name.map_or(DEFAULT, |name| of_broker(name, broker))
}

/// The source of a broker's setting.
pub(crate) fn of_broker(name: &str, broker: &BrokerSettings) -> i8 {
    if broker.given.contains_key(name) { STATIC_BROKER } else { DEFAULT }
}
