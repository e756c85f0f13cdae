// SPDX-License-Identifier: Apache-2.0
//! CreateTopics (19): hands the topics to the controller and answers when they can be written to.
use std::sync::Arc;

use odradek_metadata::{Command, CreateTopicError, CreateTopics, CreatedTopic, NewTopic, Reply};
use odradek_model::TopicSettings;
use odradek_wire::ErrorCode;
use odradek_wire::messages::{CreatableTopicConfigs, CreatableTopicResult, CreateTopicsRequest, CreateTopicsResponse};

use crate::broker::Broker;
use crate::dispatch::{Answer, Call};
use crate::error_table::{controller_code, create_topic_code};
use crate::setting_source;

pub(crate) fn handle(
    broker: &Arc<Broker>,
    call: &Call<'_>,
    request: CreateTopicsRequest,
) -> Answer<CreateTopicsResponse> {
    let version = call.version;
    let names: Vec<String> = request.topics.iter().map(|t| t.name.to_string()).collect();
    let topics = request.topics.iter().map(|topic| NewTopic {
        name: topic.name.to_string(),
        id: broker.new_topic_id(),
        partitions: topic.num_partitions,
        replication_factor: topic.replication_factor,
        assignments: topic.assignments.iter().map(|a| (a.partition_index, a.broker_ids.clone())).collect(),
        settings: topic
            .configs
            .iter()
            .map(|c| (c.name.to_string(), c.value.as_ref().map(ToString::to_string)))
            .collect(),
    });
    let command = Command::CreateTopics(CreateTopics {
        topics: topics.collect(),
        validate_only: request.validate_only,
        placement_seed: broker.random.number(),
    });
    let broker = Arc::clone(broker);
    Answer::later(async move {
        let topics = match broker.decide(command).await {
            Ok(Reply::CreateTopics(outcomes)) => {
                outcomes.into_iter().map(|(name, outcome)| result(&broker, version, &name, outcome)).collect()
            }
            Ok(other) => unreachable!("a creation was answered with {other:?}"),
            Err(error) => {
                let (code, message) = (controller_code(&error), error.to_string());
                names.iter().map(|name| refuse(name, code, message.clone())).collect()
            }
        };
        CreateTopicsResponse { topics, ..CreateTopicsResponse::default() }.into()
    })
}

fn result(
    broker: &Broker,
    version: i16,
    name: &str,
    outcome: Result<CreatedTopic, CreateTopicError>,
) -> CreatableTopicResult {
    let created = match outcome {
        Ok(created) => created,
        Err(error) => return refuse(name, create_topic_code(&error), error.to_string()),
    };
    let configs = TopicSettings::descriptions().iter().map(|description| CreatableTopicConfigs {
        name: description.name.into(),
        value: created.settings.get(description.name).map(Into::into),
        read_only: false,
        config_source: setting_source::of_topic(description, &created.overrides, &broker.settings),
        is_sensitive: false,
    });
    CreatableTopicResult {
        name: name.into(),
        topic_id: created.id.0,
        // Kafka's controller sets null on success (ReplicationControlManager); the field's own default is "".
        error_message: None,
        num_partitions: created.partitions,
        replication_factor: created.replication_factor,
        configs: if version >= 5 { Some(configs.collect()) } else { Some(Vec::new()) },
        ..CreatableTopicResult::default()
    }
}

fn refuse(name: &str, code: ErrorCode, message: String) -> CreatableTopicResult {
    CreatableTopicResult {
        name: name.into(),
        error_code: code.code(),
        error_message: Some(message.into()),
        configs: Some(Vec::new()),
        ..CreatableTopicResult::default()
    }
}
