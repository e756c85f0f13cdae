// SPDX-License-Identifier: Apache-2.0
//! The broker's settings by Kafka's names: one table with type, default, bounds and meaning of each, from which they
//! are parsed, refused by name, and described (DescribeConfigs). It must not know where they were written.
use std::collections::BTreeMap;
use std::time::Duration;

use odradek_groups::GroupSettings;
use odradek_model::{TopicDefaults, TopicOverrides, TopicSettings};

/// Type of a broker setting (`ConfigDef.Type`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SettingType {
    /// true or false.
    Boolean,
    /// A 32-bit number.
    Int,
    /// A 64-bit number.
    Long,
}

/// One setting of the broker itself. Defaults of topic settings are in [`TopicSettings::descriptions`].
#[derive(Debug, Clone, Copy)]
pub struct BrokerSetting {
    /// Kafka's name.
    pub name: &'static str,
    /// Its type.
    pub kind: SettingType,
    /// The default, as text.
    pub default: &'static str,
    /// Smallest value, for numbers.
    pub min: i64,
    /// Largest value, for numbers.
    pub max: i64,
    /// What it does.
    pub meaning: &'static str,
}

const INT: i64 = i32::MAX as i64;

const fn int(name: &'static str, default: &'static str, min: i64, max: i64, meaning: &'static str) -> BrokerSetting {
    BrokerSetting { name, kind: SettingType::Int, default, min, max, meaning }
}

const fn long(name: &'static str, default: &'static str, min: i64, meaning: &'static str) -> BrokerSetting {
    BrokerSetting { name, kind: SettingType::Long, default, min, max: i64::MAX, meaning }
}

/// All settings of the broker itself, in the order of their names.
pub const BROKER_SETTINGS: &[BrokerSetting] = &[
    BrokerSetting {
        name: "auto.create.topics.enable",
        kind: SettingType::Boolean,
        default: "true",
        min: 0,
        max: 0,
        meaning: "Whether asking for the metadata of an unknown topic creates it.",
    },
    long("connections.max.idle.ms", "600000", 1000, "Time without a request after which a connection is closed."),
    int("default.replication.factor", "1", 1, 32767, "Replicas of a topic created without a number."),
    int("fetch.max.bytes", "57671680", 1024, INT, "Most bytes of records in one Fetch answer."),
    long(
        "follower.replication.throttled.rate",
        "9223372036854775807",
        0,
        "Bytes per second of replicas that a reassignment adds, or that are listed as throttled.",
    ),
    int("group.initial.rebalance.delay.ms", "3000", 0, INT, "Wait for more members before a new group's first round."),
    int("group.max.session.timeout.ms", "1800000", 1, INT, "Longest session that a member may ask for."),
    int("group.max.size", "2147483647", 1, INT, "Most members of one group."),
    int("group.min.session.timeout.ms", "6000", 1, INT, "Shortest session that a member may ask for."),
    long(
        "leader.replication.throttled.rate",
        "9223372036854775807",
        0,
        "Bytes per second of replicas that are listed as throttled and not in sync, where they are read.",
    ),
    long("log.flush.offset.checkpoint.interval.ms", "60000", 100, "Time between writes of the recovery checkpoint."),
    long("log.retention.check.interval.ms", "300000", 1, "Time between looks for segments to delete."),
    long("log.segment.delete.delay.ms", "60000", 0, "Wait before the files of a deleted partition are removed."),
    int("max.connections", "2147483647", 1, INT, "Most connections, over all listeners; open files bound it too."),
    int(
        "max.incremental.fetch.session.cache.slots",
        "1000",
        0,
        INT,
        "Most fetch sessions; clients beyond name all their partitions in each request.",
    ),
    int("num.partitions", "1", 1, 10_000, "Partitions of a topic created without a number."),
    int("num.replica.fetchers", "1", 1, 64, "Connections to each leader on which its partitions are fetched."),
    int("offset.metadata.max.bytes", "4096", 0, INT, "Longest metadata of a committed offset."),
    int(
        "offsets.commit.timeout.ms",
        "5000",
        1,
        INT,
        "How long a commit of offsets waits for the replicas of its journal.",
    ),
    long("offsets.retention.check.interval.ms", "600000", 1, "Time between looks for expired offsets."),
    int("offsets.retention.minutes", "10080", 1, INT, "How long offsets outlive their group."),
    int("offsets.topic.num.partitions", "50", 1, 1000, "Partitions of __consumer_offsets when it is created."),
    // Kafka: 100 MiB, compacted. Here a partition stays under twice its live state and one segment, and all of
    // it is read at start, so 2 MiB: 100 MiB over 50 partitions.
    int("offsets.topic.segment.bytes", "2097152", 1_048_576, INT, "Segment size of __consumer_offsets."),
    int("producer.id.expiration.ms", "86400000", 1, INT, "Idle time after which a producer's sequence is forgotten."),
    long(
        "queued.max.request.bytes",
        "-1",
        -1,
        "Memory for requests being received or served; -1: from the memory limit.",
    ),
    int("replica.fetch.backoff.ms", "1000", 0, INT, "Pause of a follower's partition after an error."),
    int("replica.fetch.max.bytes", "1048576", 0, INT, "Bytes of one partition in one answer to a follower."),
    int("replica.fetch.min.bytes", "1", 0, INT, "A leader waits for so many bytes before it answers a follower."),
    int("replica.fetch.response.max.bytes", "10485760", 0, INT, "Bytes of one answer to a follower."),
    int("replica.fetch.wait.max.ms", "500", 0, INT, "A leader does not wait longer than this for them."),
    long("replica.high.watermark.checkpoint.interval.ms", "5000", 100, "Time between writes of the high watermarks."),
    long("replica.lag.time.max.ms", "30000", 1, "A follower that is behind for longer leaves the in-sync replicas."),
    int("socket.request.max.bytes", "104857600", 1, INT, "Largest request."),
];

/// Why the settings were refused.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum SettingsError {
    /// No such setting, or not one that this broker obeys.
    #[error("unknown or not supported broker setting {name:?}; supported: {known}")]
    Unknown {
        /// As given.
        name: String,
        /// All names.
        known: String,
    },
    /// A value that is not allowed.
    #[error("broker setting {name}: {value:?} is not {allowed}")]
    Value {
        /// The setting.
        name: String,
        /// As given.
        value: String,
        /// What is allowed.
        allowed: String,
    },
    /// A default for topics that topics would refuse.
    #[error("broker setting {name}: {error}")]
    Topic {
        /// The broker's name of the setting.
        name: String,
        /// Why.
        error: String,
    },
}

/// The settings, parsed.
#[derive(Debug, Clone)]
pub struct BrokerSettings {
    /// What was given, by Kafka's name, as text.
    pub given: BTreeMap<String, String>,
    /// Defaults of topics from `log.*` and others.
    pub topic_defaults: TopicDefaults,
    /// Settings of group coordinators.
    pub groups: GroupSettings,
    numbers: BTreeMap<&'static str, i64>,
}

impl BrokerSettings {
    /// Parses settings given by Kafka's names.
    pub fn parse(given: BTreeMap<String, String>) -> Result<Self, SettingsError> {
        let mut numbers = BTreeMap::new();
        for setting in BROKER_SETTINGS {
            numbers.insert(setting.name, setting.number(setting.default)?);
        }
        let mut overrides = TopicOverrides::new();
        let mut probe = TopicSettings::default();
        for (name, value) in &given {
            if let Some(setting) = BROKER_SETTINGS.iter().find(|s| s.name == name) {
                numbers.insert(setting.name, setting.number(value)?);
            } else if let Some(topic) = TopicSettings::descriptions().iter().find(|d| d.broker_name == Some(name)) {
                probe
                    .set(topic.name, value)
                    .map_err(|error| SettingsError::Topic { name: name.clone(), error: error.to_string() })?;
                overrides.insert(topic.name.to_owned(), value.clone());
            } else {
                return Err(SettingsError::Unknown { name: name.chars().take(100).collect(), known: names() });
            }
        }
        let number = |name: &str| numbers.get(name).copied().unwrap_or_default();
        let groups = GroupSettings {
            min_session_timeout_ms: number("group.min.session.timeout.ms") as i32,
            max_session_timeout_ms: number("group.max.session.timeout.ms") as i32,
            initial_rebalance_delay_ms: number("group.initial.rebalance.delay.ms") as i32,
            max_size: number("group.max.size") as usize,
            offset_metadata_max_size: number("offset.metadata.max.bytes") as usize,
            offsets_commit_timeout_ms: number("offsets.commit.timeout.ms"),
            offsets_retention_ms: number("offsets.retention.minutes") * 60_000,
            offsets_retention_check_interval_ms: number("offsets.retention.check.interval.ms"),
            ..GroupSettings::default()
        };
        Ok(Self { given, topic_defaults: TopicDefaults { overrides }, groups, numbers })
    }

    /// A number by its name.
    ///
    /// # Panics
    /// If the table has no such name: a mistake of ours.
    pub fn number(&self, name: &str) -> i64 {
        *self.numbers.get(name).unwrap_or_else(|| panic!("{name} is not in the table of broker settings"))
    }

    /// A number by its name, if it was given.
    pub fn given_number(&self, name: &str) -> Option<i64> {
        self.given.contains_key(name).then(|| self.number(name))
    }

    /// A time by its name, which ends in `.ms`.
    pub fn time(&self, name: &str) -> Duration {
        Duration::from_millis(self.number(name).max(0) as u64)
    }

    /// Whether asking for an unknown topic creates it.
    pub fn auto_create_topics(&self) -> bool {
        self.number("auto.create.topics.enable") != 0
    }
}

impl Default for BrokerSettings {
    fn default() -> Self {
        Self::parse(BTreeMap::new()).expect("the table's defaults are within its bounds; a test says so")
    }
}

impl BrokerSetting {
    fn number(&self, text: &str) -> Result<i64, SettingsError> {
        let refuse = |allowed: String| SettingsError::Value {
            name: self.name.to_owned(),
            value: text.chars().take(100).collect(),
            allowed,
        };
        let text = text.trim();
        if self.kind == SettingType::Boolean {
            return match text {
                "true" => Ok(1),
                "false" => Ok(0),
                _ => Err(refuse("true or false".to_owned())),
            };
        }
        match text.parse::<i64>() {
            Ok(number) if (self.min..=self.max).contains(&number) => Ok(number),
            _ => Err(refuse(format!("a whole number from {} to {}", self.min, self.max))),
        }
    }
}

fn names() -> String {
    let mut names: Vec<_> = BROKER_SETTINGS.iter().map(|s| s.name).collect();
    names.extend(TopicSettings::descriptions().iter().filter_map(|d| d.broker_name));
    names.sort_unstable();
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(name: &str, value: &str) -> Result<BrokerSettings, SettingsError> {
        BrokerSettings::parse(BTreeMap::from([(name.to_owned(), value.to_owned())]))
    }

    #[test]
    fn the_table_is_sorted_and_its_defaults_are_allowed() {
        assert!(BROKER_SETTINGS.is_sorted_by_key(|s| s.name));
        assert_eq!(BrokerSettings::default().number("num.partitions"), 1);
        assert!(BrokerSettings::default().auto_create_topics());
    }

    #[test]
    fn unknown_names_and_bad_values_are_named() {
        let error = parse("num.partition", "3").unwrap_err().to_string();
        assert!(error.contains("\"num.partition\"") && error.contains("num.partitions"), "{error}");
        let error = parse("num.partitions", "0").unwrap_err().to_string();
        assert!(error.contains("num.partitions") && error.contains("from 1 to"), "{error}");
        let error = parse("log.retention.ms", "soon").unwrap_err().to_string();
        assert!(error.contains("log.retention.ms") && error.contains("soon"), "{error}");
    }

    #[test]
    fn broker_names_become_topic_defaults() {
        let settings = parse("log.retention.ms", "5000").unwrap();
        assert_eq!(settings.topic_defaults.overrides.get("retention.ms").map(String::as_str), Some("5000"));
    }
}
