// SPDX-License-Identifier: Apache-2.0
//! Which broker settings a Cluster may carry. Names and kinds only; the broker checks every value again.

use std::collections::BTreeMap;

use odradek_model::TopicSettings;
use serde_json::Value;

/// Settings of the broker itself that it obeys; defaults for topics come from [`TopicSettings`].
/// A test compares the list with the broker's own table.
pub const BROKER_SETTINGS: &[&str] = &[
    "auto.create.topics.enable",
    "connections.max.idle.ms",
    "default.replication.factor",
    "fetch.max.bytes",
    "follower.replication.throttled.rate",
    "group.initial.rebalance.delay.ms",
    "group.max.session.timeout.ms",
    "group.max.size",
    "group.min.session.timeout.ms",
    "leader.replication.throttled.rate",
    "log.flush.offset.checkpoint.interval.ms",
    "log.retention.check.interval.ms",
    "log.segment.delete.delay.ms",
    "max.connections",
    "max.incremental.fetch.session.cache.slots",
    "num.partitions",
    "num.replica.fetchers",
    "offset.metadata.max.bytes",
    "offsets.commit.timeout.ms",
    "offsets.retention.check.interval.ms",
    "offsets.retention.minutes",
    "offsets.topic.num.partitions",
    "offsets.topic.segment.bytes",
    "producer.id.expiration.ms",
    "queued.max.request.bytes",
    "replica.fetch.backoff.ms",
    "replica.fetch.max.bytes",
    "replica.fetch.min.bytes",
    "replica.fetch.response.max.bytes",
    "replica.fetch.wait.max.ms",
    "replica.high.watermark.checkpoint.interval.ms",
    "replica.lag.time.max.ms",
    "socket.request.max.bytes",
];

/// Settings that the operator decides, each with where it is said instead.
const DECIDED_ELSEWHERE: &[(&str, &str)] = &[
    ("advertised.listeners", "spec.listeners"),
    ("broker.id", "the operator"),
    ("broker.rack", "the operator"),
    ("listeners", "spec.listeners"),
    ("log.dir", "spec.storage"),
    ("log.dirs", "spec.storage"),
    ("node.id", "the operator"),
    ("process.roles", "the operator"),
];

/// Names shown in a message before the rest is left out.
const NAMED_MAX: usize = 8;

/// The settings as text, or what is wrong with them, one sentence each.
pub fn broker_settings(config: &BTreeMap<String, Value>) -> Result<BTreeMap<String, String>, Vec<String>> {
    let mut faults = Vec::new();
    let mut settings = BTreeMap::new();
    for (name, value) in config {
        let path = format!("spec.config[{name:?}]");
        if let Some((_, decided)) = DECIDED_ELSEWHERE.iter().find(|(setting, _)| setting == name) {
            faults.push(format!("{path}: decided by {decided}; remove it"));
            continue;
        }
        let topic_default = TopicSettings::descriptions().iter().find(|setting| setting.broker_name == Some(name));
        if topic_default.is_none() && !BROKER_SETTINGS.contains(&name.as_str()) {
            faults.push(format!("{path}: no setting that these brokers obey; remove it{}", similar(name)));
            continue;
        }
        match text(value) {
            Some(value) => {
                if let Some(description) = topic_default
                    && let Err(error) = TopicSettings::default().set(description.name, &value)
                {
                    faults.push(format!("{path}: {error}"));
                    continue;
                }
                settings.insert(name.clone(), value);
            }
            None => faults.push(format!("{path}: must be a string, number or boolean")),
        }
    }
    if faults.is_empty() { Ok(settings) } else { Err(cut(faults)) }
}

/// A topic's settings as text, or what is wrong with them, one sentence each.
pub fn topic_settings(config: &BTreeMap<String, Value>) -> Result<BTreeMap<String, String>, Vec<String>> {
    let mut faults = Vec::new();
    let mut settings = BTreeMap::new();
    for (name, value) in config {
        let Some(value) = text(value) else {
            faults.push(format!("spec.config[{name:?}]: must be a string, number or boolean"));
            continue;
        };
        match TopicSettings::default().set(name, &value) {
            Ok(()) => {
                settings.insert(name.clone(), value);
            }
            Err(error) => faults.push(format!("spec.config[{name:?}]: {error}")),
        }
    }
    if faults.is_empty() { Ok(settings) } else { Err(cut(faults)) }
}

/// A scalar as the text that Kafka reads.
fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Bool(flag) => Some(flag.to_string()),
        Value::Number(number) => Some(match number.as_f64() {
            // 1e3 and 1000.0 are 1000 to a reader of whole numbers.
            Some(double) if number.is_f64() && double.fract() == 0.0 && double.abs() < 9e15 => {
                (double as i64).to_string()
            }
            _ => number.to_string(),
        }),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// A hint when a topic's name of a setting was used for the brokers.
fn similar(name: &str) -> String {
    TopicSettings::descriptions()
        .iter()
        .find(|setting| setting.name == name)
        .and_then(|setting| setting.broker_name)
        .map(|broker_name| format!(", or say {broker_name}"))
        .unwrap_or_default()
}

fn cut(mut faults: Vec<String>) -> Vec<String> {
    if faults.len() > NAMED_MAX {
        let more = faults.len() - NAMED_MAX;
        faults.truncate(NAMED_MAX);
        faults.push(format!("and {more} more"));
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn config(json: Value) -> BTreeMap<String, Value> {
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn scalars_become_the_text_that_kafka_reads() {
        let given = config(
            json!({"num.partitions": 3, "auto.create.topics.enable": false, "log.retention.ms": "-1", "fetch.max.bytes": 1e6}),
        );
        let settings = broker_settings(&given).unwrap();
        assert_eq!(settings["num.partitions"], "3");
        assert_eq!(settings["auto.create.topics.enable"], "false");
        assert_eq!(settings["fetch.max.bytes"], "1000000");
    }

    #[test]
    fn every_fault_is_named_with_its_field_and_what_to_do() {
        let given = config(
            json!({"listeners": "x", "num.partition": 1, "retention.ms": 5, "log.retention.ms": "soon", "num.partitions": [1]}),
        );
        let faults = broker_settings(&given).unwrap_err().join("\n");
        for expected in [
            "spec.config[\"listeners\"]: decided by spec.listeners",
            "spec.config[\"num.partition\"]: no setting",
            "say log.retention.ms",
            "spec.config[\"log.retention.ms\"]: invalid value \"soon\"",
            "spec.config[\"num.partitions\"]: must be a string",
        ] {
            assert!(faults.contains(expected), "{expected:?} is not in\n{faults}");
        }
    }
}
