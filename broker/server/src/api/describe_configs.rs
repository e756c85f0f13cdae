// SPDX-License-Identifier: Apache-2.0
//! DescribeConfigs (32): the settings of topics, of this broker and of all brokers, where each value comes from, and what
//! would hold without it (rule 48).
use std::sync::Arc;

use odradek_metadata::{
    BrokerSettingsOf, DYNAMIC_BROKER_SETTINGS, Image, REPLICATION_FEATURE_LEVEL, TopicImage,
    min_in_sync_without_setting, topic_setting_is_in_force,
};
use odradek_model::{SettingDescription, SettingKind, TopicName, TopicSettings};
use odradek_wire::ErrorCode;
use odradek_wire::messages::{
    DescribeConfigsRequest, DescribeConfigsResource, DescribeConfigsResourceResult, DescribeConfigsResponse,
    DescribeConfigsResult, DescribeConfigsSynonym,
};

use crate::broker::Broker;
use crate::dispatch::{Answer, Call};
use crate::setting_source::{DEFAULT, DYNAMIC_BROKER, DYNAMIC_DEFAULT, STATIC_BROKER, TOPIC, of_broker, of_topic};
use crate::settings::{BROKER_SETTINGS, SettingType};

/// Resource types.
const TOPIC_RESOURCE: i8 = 2;
const BROKER_RESOURCE: i8 = 4;
/// Types of values (`ConfigEntry.ConfigType`).
const BOOLEAN: i8 = 1;
const STRING: i8 = 2;
const INT: i8 = 3;
const LONG: i8 = 5;
const LIST: i8 = 7;

/// Settings of brokers that Kafka gives no default: the same in hours has it (`ServerLogConfigs`).
const WITHOUT_DEFAULT: [&str; 2] = ["log.retention.ms", "log.roll.ms"];

pub(crate) fn handle(
    broker: &Arc<Broker>,
    _call: &Call<'_>,
    request: DescribeConfigsRequest,
) -> Answer<DescribeConfigsResponse> {
    let results = request.resources.iter().map(|resource| {
        let outcome = match resource.resource_type {
            TOPIC_RESOURCE => topic(broker, &resource.resource_name),
            BROKER_RESOURCE => this_broker(broker, &resource.resource_name),
            other => Err((ErrorCode::InvalidRequest, format!("resource type {other} is not supported"))),
        };
        result(&request, resource, outcome)
    });
    Answer::now(DescribeConfigsResponse { results: results.collect(), ..DescribeConfigsResponse::default() })
}

type Outcome = Result<Vec<DescribeConfigsResourceResult>, (ErrorCode, String)>;

fn result(
    request: &DescribeConfigsRequest,
    resource: &DescribeConfigsResource,
    outcome: Outcome,
) -> DescribeConfigsResult {
    let mut result = DescribeConfigsResult {
        error_message: Some("".into()),
        resource_type: resource.resource_type,
        resource_name: resource.resource_name.clone(),
        ..DescribeConfigsResult::default()
    };
    match outcome {
        Ok(configs) => result.configs = configs,
        Err((code, message)) => {
            result.error_code = code.code();
            result.error_message = Some(message.into());
        }
    }
    // No list, or an empty one, is all.
    if let Some(keys) = resource.configuration_keys.as_ref().filter(|keys| !keys.is_empty()) {
        result.configs.retain(|config| keys.iter().any(|key| **key == *config.name));
    }
    for config in &mut result.configs {
        if !request.include_synonyms {
            config.synonyms.clear();
        }
        if !request.include_documentation {
            config.documentation = None;
        }
    }
    result
}

fn topic(broker: &Broker, name: &str) -> Outcome {
    TopicName::new(name).map_err(|error| (ErrorCode::InvalidTopicException, error.to_string()))?;
    let image = broker.image();
    let topic: &TopicImage = image.topic(name).ok_or_else(|| (ErrorCode::UnknownTopicOrPartition, String::new()))?;
    let settings = TopicSettings::resolve(&topic.overrides, &broker.settings.topic_defaults)
        .map_err(|error| (ErrorCode::InvalidConfig, error.to_string()))?;
    // The one default that depends on the topic: tools find by it which partitions are under it.
    let min_in_sync = min_in_sync_without_setting(topic).to_string();
    let default = |description: &SettingDescription| match description.name {
        "min.insync.replicas" => min_in_sync.clone(),
        _ => description.default.to_owned(),
    };
    let given = &broker.settings.given;
    let in_force = TopicSettings::descriptions().iter().filter(|d| topic_setting_is_in_force(&image, d.name));
    let configs = in_force.map(|description| {
        let mut synonyms = Vec::new();
        if let Some(value) = topic.overrides.get(description.name) {
            synonyms.push(synonym(description.name, value, TOPIC));
        }
        if let Some(broker_name) = description.broker_name {
            if let Some(value) = given.get(broker_name) {
                synonyms.push(synonym(broker_name, value, STATIC_BROKER));
            }
            if !WITHOUT_DEFAULT.contains(&broker_name) {
                synonyms.push(synonym(broker_name, &default(description), DEFAULT));
            }
        }
        let config_source = of_topic(description, &topic.overrides, &broker.settings);
        let value = if config_source == DEFAULT { Some(default(description)) } else { settings.get(description.name) };
        DescribeConfigsResourceResult {
            name: description.name.into(),
            value: value.map(Into::into),
            read_only: false,
            config_source,
            is_sensitive: false,
            synonyms,
            config_type: topic_type(description.kind),
            documentation: Some(description.meaning.into()),
        }
    });
    Ok(configs.collect())
}

fn this_broker(broker: &Broker, name: &str) -> Outcome {
    let image = broker.image();
    // The empty name is what was given for all brokers, and nothing else.
    if name.is_empty() {
        let given = DYNAMIC_BROKER_SETTINGS.iter().map(|name| {
            let mut config = rate(name);
            change_while_running(&mut config, &image, &[(BrokerSettingsOf::AllBrokers, DYNAMIC_DEFAULT)]);
            config
        });
        return Ok(given.filter(|config| config.config_source == DYNAMIC_DEFAULT).collect());
    }
    if name.parse() != Ok(broker.id.0) {
        let message = format!("unexpected broker id, expected {} or the empty text, got {name}", broker.id);
        return Err((ErrorCode::InvalidRequest, message));
    }
    let describe = |name: &str, value: String, default: &str, config_type: i8, meaning: &str| {
        let mut synonyms = Vec::new();
        if let Some(value) = broker.settings.given.get(name) {
            synonyms.push(synonym(name, value, STATIC_BROKER));
        }
        synonyms.push(synonym(name, default, DEFAULT));
        DescribeConfigsResourceResult {
            name: name.into(),
            value: Some(value.into()),
            // Static settings change with a restart only.
            read_only: true,
            config_source: of_broker(name, &broker.settings),
            is_sensitive: false,
            synonyms,
            config_type,
            documentation: Some(meaning.into()),
        }
    };
    let given =
        |name: &str, default: &str| broker.settings.given.get(name).cloned().unwrap_or_else(|| default.to_owned());
    let own = BROKER_SETTINGS.iter().map(|setting| {
        let config_type = match setting.kind {
            SettingType::Boolean => BOOLEAN,
            SettingType::Int => INT,
            SettingType::Long => LONG,
        };
        let value = given(setting.name, setting.default);
        describe(setting.name, value, setting.default, config_type, setting.meaning)
    });
    let topics = TopicSettings::descriptions().iter().filter_map(|d| {
        let name = d.broker_name?;
        Some(describe(name, given(name, d.default), d.default, topic_type(d.kind), d.meaning))
    });
    let id = broker.id.to_string();
    let mut configs: Vec<_> = own.chain(topics).collect();
    // Nothing obeys them before brokers replicate.
    if image.feature_level() >= REPLICATION_FEATURE_LEVEL {
        let own = (BrokerSettingsOf::Broker(broker.id), DYNAMIC_BROKER);
        for name in DYNAMIC_BROKER_SETTINGS {
            let at = configs.iter().position(|config| *config.name == *name);
            let mut config = rate(name);
            // As in Kafka one that nobody has given is not told of, and has no default.
            if let Some(given) = at.map(|at| configs.swap_remove(at)).filter(|given| given.config_source != DEFAULT) {
                config = given;
                config.synonyms.retain(|synonym| synonym.source != DEFAULT);
            }
            change_while_running(&mut config, &image, &[own, (BrokerSettingsOf::AllBrokers, DYNAMIC_DEFAULT)]);
            configs.extend(Some(config).filter(|config| config.config_source != DEFAULT));
        }
    }
    let mut node = describe("node.id", id.clone(), &id, INT, "The id of this broker.");
    node.config_source = STATIC_BROKER;
    node.synonyms = vec![synonym("node.id", &id, STATIC_BROKER)];
    configs.push(node);
    configs.sort_by_key(|config| config.name.to_string());
    Ok(configs)
}

/// A rate that nobody has given.
fn rate(name: &str) -> DescribeConfigsResourceResult {
    DescribeConfigsResourceResult {
        name: name.into(),
        synonyms: Vec::new(),
        value: None,
        read_only: false,
        config_source: DEFAULT,
        is_sensitive: false,
        config_type: LONG,
        documentation: Some("Bytes a second that copying throttled replicas may take.".into()),
    }
}

/// Puts what was given for brokers while they run before all else; the first of these places wins.
fn change_while_running(config: &mut DescribeConfigsResourceResult, image: &Image, places: &[(BrokerSettingsOf, i8)]) {
    let name = config.name.clone();
    let given = places
        .iter()
        .filter_map(|(of, source)| image.broker_settings(*of)?.get(&*name).map(|value| synonym(&name, value, *source)));
    config.synonyms.splice(0..0, given);
    config.read_only = false;
    if let Some(first) = config.synonyms.first() {
        config.value.clone_from(&first.value);
        config.config_source = first.source;
    }
}

fn topic_type(kind: SettingKind) -> i8 {
    match kind {
        SettingKind::Text => STRING,
        SettingKind::Int => INT,
        SettingKind::Long => LONG,
        SettingKind::List => LIST,
        SettingKind::Boolean => BOOLEAN,
    }
}

fn synonym(name: &str, value: &str, source: i8) -> DescribeConfigsSynonym {
    DescribeConfigsSynonym { name: name.into(), value: Some(value.into()), source }
}
