// SPDX-License-Identifier: Apache-2.0
//! IncrementalAlterConfigs (44): settings of topics, and the dynamic ones of brokers, change through the controller
//! (`ConfigAdminManager` and `ConfigurationControlManager` in Kafka).
//!
//! Departure: Kafka takes the settings of a broker only at that broker. Here they live in the cluster's metadata like
//! everything else, so any broker takes them.
use std::collections::HashMap;
use std::sync::Arc;

use odradek_metadata::{
    AlterSettings, BrokerSettingsOf, Command, Reply, ResourceChanges, SettingOperation, SettingsResource,
};
use odradek_model::{BrokerId, TopicName};
use odradek_wire::messages::{
    AlterConfigsResource, AlterConfigsResourceResponse, AlterableConfig, IncrementalAlterConfigsRequest,
    IncrementalAlterConfigsResponse,
};
use odradek_wire::{ErrorCode, Text};

use super::{Refusal, decide};
use crate::broker::Broker;
use crate::dispatch::{Answer, Call};
use crate::error_table::alter_settings_code;

/// Resource types (`ConfigResource.Type`).
const TOPIC: i8 = 2;
const BROKER: i8 = 4;
/// Operations (`AlterConfigOp.OpType`).
const SET: i8 = 0;
const DELETE: i8 = 1;
const APPEND: i8 = 2;
const SUBTRACT: i8 = 3;

/// A resource as the request names it, and why it is refused before the controller sees it.
struct Asked {
    resource_type: i8,
    resource_name: Text,
    refusal: Option<Refusal>,
}

pub(crate) fn handle(
    broker: &Arc<Broker>,
    _call: &Call<'_>,
    request: IncrementalAlterConfigsRequest,
) -> Answer<IncrementalAlterConfigsResponse> {
    let mut times: HashMap<(i8, &str), usize> = HashMap::new();
    for resource in &request.resources {
        *times.entry((resource.resource_type, &resource.resource_name)).or_default() += 1;
    }
    let mut resources = Vec::new();
    let asked: Vec<Asked> = request
        .resources
        .iter()
        .map(|resource| {
            let checked = if times[&(resource.resource_type, &*resource.resource_name)] > 1 {
                Err(invalid("each resource must appear at most once"))
            } else {
                changes(resource)
            };
            let refusal = checked.map(|changes| resources.push(changes)).err();
            Asked { resource_type: resource.resource_type, resource_name: resource.resource_name.clone(), refusal }
        })
        .collect();
    if resources.is_empty() {
        return Answer::now(response(asked, Vec::new()));
    }
    let waiting = resources.len();
    let command = Command::AlterSettings(AlterSettings { resources, validate_only: request.validate_only });
    let broker = Arc::clone(broker);
    Answer::later(async move {
        let outcomes = match decide(&broker, command).await {
            Ok(Reply::AlterSettings(outcomes)) => outcomes
                .into_iter()
                .map(|(resource, outcome)| {
                    outcome.map_err(|error| (alter_settings_code(&resource, &error), error.to_string()))
                })
                .collect(),
            Ok(other) => unreachable!("changes of settings were answered with {other:?}"),
            Err(refusal) => vec![Err(refusal); waiting],
        };
        response(asked, outcomes).into()
    })
}

/// The outcomes of those that were not refused before are the controller's, in their order.
fn response(asked: Vec<Asked>, outcomes: Vec<Result<(), Refusal>>) -> IncrementalAlterConfigsResponse {
    let mut outcomes = outcomes.into_iter();
    let responses = asked.into_iter().map(|Asked { resource_type, resource_name, refusal }| {
        let refusal = refusal.or_else(|| outcomes.next().and_then(Result::err));
        let (error_code, error_message) = match refusal {
            None => (0, None),
            Some((code, message)) => (code.code(), Some(message.into())),
        };
        AlterConfigsResourceResponse { error_code, error_message, resource_type, resource_name }
    });
    IncrementalAlterConfigsResponse { responses: responses.collect(), ..IncrementalAlterConfigsResponse::default() }
}

fn changes(resource: &AlterConfigsResource) -> Result<ResourceChanges, Refusal> {
    let changes = resource.configs.iter().map(|config| Ok((config.name.to_string(), operation(config)?)));
    let changes = changes.collect::<Result<Vec<_>, Refusal>>()?;
    let name = &*resource.resource_name;
    let resource = match resource.resource_type {
        TOPIC if name.is_empty() => return Err(invalid("there are no default settings of topics")),
        TOPIC => {
            TopicName::new(name).map_err(|error| (ErrorCode::InvalidTopicException, error.to_string()))?;
            SettingsResource::Topic(name.to_owned())
        }
        BROKER if name.is_empty() => SettingsResource::Broker(BrokerSettingsOf::AllBrokers),
        BROKER => match name.parse() {
            Ok(id) => SettingsResource::Broker(BrokerSettingsOf::Broker(BrokerId(id))),
            Err(_) => return Err(invalid(format!("a broker's id is a number, not {:?}", shortened(name)))),
        },
        other => {
            let known = match other {
                8 => "levels of loggers",
                16 => "subscriptions to clients' metrics",
                32 => "settings of groups",
                _ => return Err(invalid(format!("unknown resource type {other}"))),
            };
            return Err(invalid(format!("{known} (resource type {other}) cannot be changed here yet")));
        }
    };
    Ok(ResourceChanges { resource, changes })
}

fn operation(config: &AlterableConfig) -> Result<SettingOperation, Refusal> {
    let value = || {
        let value = config.value.as_ref().map(ToString::to_string);
        value.ok_or_else(|| invalid(format!("setting {:?} needs a value", shortened(&config.name))))
    };
    match config.config_operation {
        SET => Ok(SettingOperation::Set(Some(value()?))),
        DELETE => Ok(SettingOperation::Delete),
        APPEND => Ok(SettingOperation::Append(value()?)),
        SUBTRACT => Ok(SettingOperation::Subtract(value()?)),
        other => Err(invalid(format!("unknown operation {other} on setting {:?}", shortened(&config.name)))),
    }
}

fn invalid(message: impl Into<String>) -> Refusal {
    (ErrorCode::InvalidRequest, message.into())
}

/// What a client gave, short enough to be shown to it.
fn shortened(given: &str) -> String {
    given.chars().take(100).collect()
}
