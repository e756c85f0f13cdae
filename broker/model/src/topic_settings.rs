// SPDX-License-Identifier: Apache-2.0
//! The settings of a topic: names, kinds, bounds, defaults (`LogConfig` in Kafka), and how overrides resolve.
//!
//! Only settings that the broker obeys are here; any other name is refused by name, never silently kept.
//! Must not know where overrides are stored.

use std::collections::BTreeMap;

use thiserror::Error;

use crate::BrokerId;

/// Settings given for one topic, by Kafka's name, as text.
pub type TopicOverrides = BTreeMap<String, String>;

/// What the timestamp of a stored record means (`message.timestamp.type`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TimestampType {
    /// The producer's time.
    CreateTime,
    /// The broker's time at append.
    LogAppendTime,
}

/// The settings of one topic, resolved. Times in milliseconds, sizes in bytes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TopicSettings {
    /// `retention.ms`: segments whose newest record is older go; `None` keeps them for ever (given as -1).
    pub retention_ms: Option<i64>,
    /// `retention.bytes`: oldest segments go while the partition is larger; `None` is without limit (given as -1).
    pub retention_bytes: Option<u64>,
    /// `segment.bytes`: a segment is closed before it would grow larger. At least 1 MiB.
    pub segment_bytes: u32,
    /// `segment.ms`: a segment is closed when it spans more time. At least 1.
    pub segment_ms: i64,
    /// `max.message.bytes`: largest record batch accepted, as compressed by the producer, with its header.
    pub max_message_bytes: u32,
    /// `min.insync.replicas`: how many in-sync replicas a write with acks=all needs. At least 1.
    pub min_insync_replicas: i32,
    /// `message.timestamp.type`.
    pub timestamp_type: TimestampType,
    /// `message.timestamp.before.max.ms`: how far a CreateTime may lie behind the broker's clock.
    pub timestamp_before_max_ms: i64,
    /// `message.timestamp.after.max.ms`: how far a CreateTime may lie ahead of the broker's clock.
    pub timestamp_after_max_ms: i64,
    /// `flush.messages`: fsync after so many records; `None` (the default, `i64::MAX`) leaves it to the system.
    /// 1 acknowledges only what is fsynced.
    pub flush_messages: Option<u64>,
    /// `leader.replication.throttled.replicas`: whose fetches count against the leader's rate.
    pub leader_throttled: ThrottledReplicas,
    /// `follower.replication.throttled.replicas`: whose fetches count against the follower's rate.
    pub follower_throttled: ThrottledReplicas,
    /// `unclean.leader.election.enable`: whether a replica that may lack acknowledged records may lead by itself.
    pub unclean_leader_election: bool,
}

/// Which replicas of a topic are throttled.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ThrottledReplicas {
    /// All (`*`).
    All,
    /// These, as partition and broker; none by default.
    These(Vec<(i32, BrokerId)>),
}

impl ThrottledReplicas {
    /// No replica.
    pub const NONE: Self = Self::These(Vec::new());

    /// Whether the replica of the partition on the broker is throttled.
    pub fn contains(&self, partition: i32, broker: BrokerId) -> bool {
        match self {
            Self::All => true,
            Self::These(replicas) => replicas.contains(&(partition, broker)),
        }
    }

    /// `*`, or `[partition]:[broker],…`, or nothing (`ThrottledReplicaListValidator` in Kafka).
    fn parse(text: &str) -> Option<Self> {
        match text {
            "" | "none" => Some(Self::NONE),
            "*" => Some(Self::All),
            list => {
                let pair = |pair: &str| {
                    let (partition, broker) = pair.trim().split_once(':')?;
                    let (partition, broker): (u32, u32) = (partition.parse().ok()?, broker.parse().ok()?);
                    Some((i32::try_from(partition).ok()?, BrokerId(i32::try_from(broker).ok()?)))
                };
                list.split(',').map(pair).collect::<Option<Vec<_>>>().map(Self::These)
            }
        }
    }

    fn text(&self) -> String {
        match self {
            Self::All => "*".to_owned(),
            Self::These(replicas) => {
                let pairs = replicas.iter().map(|(partition, broker)| format!("{partition}:{broker}"));
                pairs.collect::<Vec<_>>().join(",")
            }
        }
    }
}

/// The broker's defaults that a topic inherits (`log.*` twins; only `min.insync.replicas` depends on the cluster).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TopicDefaults {
    /// Settings given for all topics in the broker's configuration, by the topic setting's name.
    pub overrides: TopicOverrides,
}

/// Type of a setting as DescribeConfigs reports it (`ConfigDef.Type`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SettingKind {
    /// A text out of a fixed set.
    Text,
    /// A 32-bit number.
    Int,
    /// A 64-bit number.
    Long,
    /// Texts separated by commas.
    List,
    /// true or false.
    Boolean,
}

/// One setting: its name, kind, default and meaning.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SettingDescription {
    /// Kafka's name of the topic setting.
    pub name: &'static str,
    /// Kafka's name of the broker setting that gives its default, if there is one.
    pub broker_name: Option<&'static str>,
    /// Its type.
    pub kind: SettingKind,
    /// Kafka's default, as text.
    pub default: &'static str,
    /// What it does, in a sentence.
    pub meaning: &'static str,
}

/// Why a setting was refused. The texts name the setting, the value and what is allowed.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum SettingError {
    /// Not a setting that this broker obeys.
    #[error("unknown or not yet supported topic setting {name:?}; supported: {}", TopicSettings::names())]
    Unknown {
        /// The name as given.
        name: String,
    },
    /// A value outside what is allowed.
    #[error("invalid value {value:?} for topic setting {name}: {allowed}")]
    Value {
        /// The setting.
        name: &'static str,
        /// The value as given, cut to 100 characters.
        value: String,
        /// What would have been accepted.
        allowed: &'static str,
    },
}

const DESCRIPTIONS: [SettingDescription; 15] = [
    describe(
        "cleanup.policy",
        "log.cleanup.policy",
        SettingKind::List,
        "delete",
        "What happens to old segments; only delete for now.",
    ),
    describe(
        "compression.type",
        "compression.type",
        SettingKind::Text,
        "producer",
        "Codec of stored batches; producer keeps the one they came with.",
    ),
    describe(
        "flush.messages",
        "log.flush.interval.messages",
        SettingKind::Long,
        "9223372036854775807",
        "Records after which the log is forced to disk.",
    ),
    SettingDescription {
        name: "follower.replication.throttled.replicas",
        broker_name: None,
        kind: SettingKind::List,
        default: "",
        meaning: "Replicas, as partition:broker or *, whose copying is slowed where they are written.",
    },
    SettingDescription {
        name: "leader.replication.throttled.replicas",
        broker_name: None,
        kind: SettingKind::List,
        default: "",
        meaning: "Replicas, as partition:broker or *, whose copying is slowed where they are read.",
    },
    describe(
        "max.message.bytes",
        "message.max.bytes",
        SettingKind::Int,
        "1048588",
        "Largest record batch accepted, in bytes.",
    ),
    describe(
        "message.timestamp.after.max.ms",
        "log.message.timestamp.after.max.ms",
        SettingKind::Long,
        "3600000",
        "How far a record's time may lie ahead of the broker's.",
    ),
    describe(
        "message.timestamp.before.max.ms",
        "log.message.timestamp.before.max.ms",
        SettingKind::Long,
        "9223372036854775807",
        "How far a record's time may lie behind the broker's.",
    ),
    describe(
        "message.timestamp.type",
        "log.message.timestamp.type",
        SettingKind::Text,
        "CreateTime",
        "Whether a record carries its producer's time or the time of its append.",
    ),
    describe(
        "min.insync.replicas",
        "min.insync.replicas",
        SettingKind::Int,
        "1",
        "In-sync replicas without which acks=all is refused.",
    ),
    describe(
        "retention.bytes",
        "log.retention.bytes",
        SettingKind::Long,
        "-1",
        "Size above which a partition's oldest segments go; -1 is without limit.",
    ),
    describe(
        "retention.ms",
        "log.retention.ms",
        SettingKind::Long,
        "604800000",
        "Age after which segments go; -1 keeps them for ever.",
    ),
    describe(
        "segment.bytes",
        "log.segment.bytes",
        SettingKind::Int,
        "1073741824",
        "Size at which a segment is closed.",
    ),
    describe("segment.ms", "log.roll.ms", SettingKind::Long, "604800000", "Time span at which a segment is closed."),
    describe(
        "unclean.leader.election.enable",
        "unclean.leader.election.enable",
        SettingKind::Boolean,
        "false",
        "Whether a replica that may lack acknowledged records may lead when no other can.",
    ),
];

const fn describe(
    name: &'static str,
    broker_name: &'static str,
    kind: SettingKind,
    default: &'static str,
    meaning: &'static str,
) -> SettingDescription {
    SettingDescription { name, broker_name: Some(broker_name), kind, default, meaning }
}

impl Default for TopicSettings {
    /// Kafka's defaults (`LogConfig`).
    fn default() -> Self {
        Self {
            retention_ms: Some(7 * 24 * 3_600_000),
            retention_bytes: None,
            segment_bytes: 1 << 30,
            segment_ms: 7 * 24 * 3_600_000,
            max_message_bytes: 1_048_588,
            min_insync_replicas: 1,
            timestamp_type: TimestampType::CreateTime,
            timestamp_before_max_ms: i64::MAX,
            timestamp_after_max_ms: 3_600_000,
            flush_messages: None,
            leader_throttled: ThrottledReplicas::NONE,
            follower_throttled: ThrottledReplicas::NONE,
            unclean_leader_election: false,
        }
    }
}

impl TopicSettings {
    /// All settings, in the order of their names.
    pub fn descriptions() -> &'static [SettingDescription] {
        &DESCRIPTIONS
    }

    /// The names of all settings, for messages.
    fn names() -> String {
        DESCRIPTIONS.map(|d| d.name).join(", ")
    }

    /// The settings of a topic: Kafka's defaults, then the broker's, then the topic's own.
    ///
    /// # Errors
    /// The first name that is unknown or value that is refused, in the order of names.
    pub fn resolve(overrides: &TopicOverrides, defaults: &TopicDefaults) -> Result<Self, SettingError> {
        let mut settings = Self::default();
        for (name, value) in defaults.overrides.iter().chain(overrides) {
            settings.set(name, value)?;
        }
        Ok(settings)
    }

    /// Sets one setting from its text.
    ///
    /// # Errors
    /// See [`SettingError`]; the settings are unchanged then.
    pub fn set(&mut self, name: &str, value: &str) -> Result<(), SettingError> {
        let Some(description) = DESCRIPTIONS.iter().find(|d| d.name == name) else {
            return Err(SettingError::Unknown { name: name.chars().take(100).collect() });
        };
        let refuse =
            |allowed| SettingError::Value { name: description.name, value: value.chars().take(100).collect(), allowed };
        let trimmed = value.trim();
        let long = |minimum: i64, allowed| match trimmed.parse::<i64>() {
            Ok(number) if number >= minimum => Ok(number),
            _ => Err(refuse(allowed)),
        };
        let int = |minimum: i32, allowed| match trimmed.parse::<i32>() {
            Ok(number) if number >= minimum => Ok(number),
            _ => Err(refuse(allowed)),
        };
        match description.name {
            "cleanup.policy" => {
                if trimmed != "delete" {
                    return Err(refuse("only \"delete\" is supported so far"));
                }
            }
            "compression.type" => {
                if trimmed != "producer" {
                    return Err(refuse("only \"producer\" is supported so far"));
                }
            }
            "flush.messages" => {
                let count = long(1, "a whole number of at least 1")?;
                self.flush_messages = (count != i64::MAX).then_some(count as u64);
            }
            "follower.replication.throttled.replicas" | "leader.replication.throttled.replicas" => {
                let allowed = "\"*\", or partition:broker pairs separated by commas";
                let replicas = ThrottledReplicas::parse(trimmed).ok_or_else(|| refuse(allowed))?;
                if description.name.starts_with("leader") {
                    self.leader_throttled = replicas;
                } else {
                    self.follower_throttled = replicas;
                }
            }
            "max.message.bytes" => self.max_message_bytes = int(0, "a whole number from 0 to 2147483647")? as u32,
            "message.timestamp.after.max.ms" => {
                self.timestamp_after_max_ms = long(0, "a whole number of milliseconds, at least 0")?;
            }
            "message.timestamp.before.max.ms" => {
                self.timestamp_before_max_ms = long(0, "a whole number of milliseconds, at least 0")?;
            }
            "message.timestamp.type" => {
                self.timestamp_type = match trimmed {
                    "CreateTime" => TimestampType::CreateTime,
                    "LogAppendTime" => TimestampType::LogAppendTime,
                    _ => return Err(refuse("\"CreateTime\" or \"LogAppendTime\"")),
                };
            }
            "min.insync.replicas" => self.min_insync_replicas = int(1, "a whole number of at least 1")?,
            "retention.bytes" => {
                let bytes = long(-1, "a whole number of bytes, or -1 for no limit")?;
                self.retention_bytes = (bytes >= 0).then_some(bytes as u64);
            }
            "retention.ms" => {
                let ms = long(-1, "a whole number of milliseconds, or -1 for ever")?;
                self.retention_ms = (ms >= 0).then_some(ms);
            }
            "segment.bytes" => {
                self.segment_bytes = int(1 << 20, "a whole number of bytes from 1048576 to 2147483647")? as u32;
            }
            "segment.ms" => self.segment_ms = long(1, "a whole number of milliseconds, at least 1")?,
            "unclean.leader.election.enable" => {
                self.unclean_leader_election = match trimmed.to_ascii_lowercase().as_str() {
                    "true" => true,
                    "false" => false,
                    _ => return Err(refuse("true or false")),
                };
            }
            other => unreachable!("setting {other} is described but not set"),
        }
        Ok(())
    }

    /// The value of a setting as text, in Kafka's form; `None` for a name that is no setting.
    pub fn get(&self, name: &str) -> Option<String> {
        let long = |value: Option<i64>, none: i64| value.unwrap_or(none).to_string();
        Some(match name {
            "cleanup.policy" => "delete".to_owned(),
            "compression.type" => "producer".to_owned(),
            "flush.messages" => long(self.flush_messages.map(|n| n as i64), i64::MAX),
            "follower.replication.throttled.replicas" => self.follower_throttled.text(),
            "leader.replication.throttled.replicas" => self.leader_throttled.text(),
            "max.message.bytes" => self.max_message_bytes.to_string(),
            "message.timestamp.after.max.ms" => self.timestamp_after_max_ms.to_string(),
            "message.timestamp.before.max.ms" => self.timestamp_before_max_ms.to_string(),
            "message.timestamp.type" => match self.timestamp_type {
                TimestampType::CreateTime => "CreateTime".to_owned(),
                TimestampType::LogAppendTime => "LogAppendTime".to_owned(),
            },
            "min.insync.replicas" => self.min_insync_replicas.to_string(),
            "retention.bytes" => long(self.retention_bytes.map(|n| n as i64), -1),
            "retention.ms" => long(self.retention_ms, -1),
            "segment.bytes" => self.segment_bytes.to_string(),
            "segment.ms" => self.segment_ms.to_string(),
            "unclean.leader.election.enable" => self.unclean_leader_election.to_string(),
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_is_the_described_one_and_can_be_set() {
        let mut settings = TopicSettings::default();
        for description in TopicSettings::descriptions() {
            assert_eq!(settings.get(description.name).as_deref(), Some(description.default), "{}", description.name);
            settings.set(description.name, description.default).expect(description.name);
        }
        assert_eq!(settings, TopicSettings::default());
    }

    #[test]
    fn descriptions_are_sorted_by_name() {
        assert!(DESCRIPTIONS.is_sorted_by_key(|d| d.name));
    }

    #[test]
    fn refusals_name_setting_value_and_what_is_allowed() {
        let mut settings = TopicSettings::default();
        for (name, value) in [
            ("cleanup.policy", "compact"),
            ("compression.type", "gzip"),
            ("flush.messages", "0"),
            ("max.message.bytes", "-1"),
            ("max.message.bytes", "2147483648"),
            ("message.timestamp.type", "createtime"),
            ("min.insync.replicas", "0"),
            ("retention.bytes", "-2"),
            ("retention.ms", "1h"),
            ("segment.bytes", "1048575"),
            ("segment.ms", "0"),
            ("leader.replication.throttled.replicas", "1"),
            ("follower.replication.throttled.replicas", "0:-1"),
            ("unclean.leader.election.enable", "yes"),
        ] {
            let error = settings.set(name, value).expect_err(name).to_string();
            assert!(error.contains(name) && error.contains(value), "{error}");
        }
        let error = settings.set("retention.msec", "1").expect_err("unknown").to_string();
        assert!(error.contains("retention.msec") && error.contains("retention.ms,"), "{error}");
        assert_eq!(settings, TopicSettings::default());
    }

    #[test]
    fn throttled_replicas_are_pairs_or_all() {
        let mut settings = TopicSettings::default();
        settings.set("leader.replication.throttled.replicas", "0:1, 3:2").expect("pairs");
        assert!(
            settings.leader_throttled.contains(3, BrokerId(2)) && !settings.leader_throttled.contains(3, BrokerId(1))
        );
        assert_eq!(settings.get("leader.replication.throttled.replicas").as_deref(), Some("0:1,3:2"));
        settings.set("follower.replication.throttled.replicas", "*").expect("all");
        assert!(settings.follower_throttled.contains(9, BrokerId(9)));
        settings.set("follower.replication.throttled.replicas", "").expect("none");
        assert_eq!(settings.follower_throttled, ThrottledReplicas::NONE);
    }

    #[test]
    fn the_topics_own_value_wins_over_the_brokers() {
        let one = |name: &str, value: &str| TopicOverrides::from([(name.to_owned(), value.to_owned())]);
        let defaults = TopicDefaults { overrides: one("retention.ms", "5") };
        let resolve = |overrides: &TopicOverrides| TopicSettings::resolve(overrides, &defaults).map(|s| s.retention_ms);
        assert_eq!(resolve(&TopicOverrides::new()), Ok(Some(5)));
        assert_eq!(resolve(&one("retention.ms", "-1")), Ok(None));
    }
}
