// SPDX-License-Identifier: Apache-2.0
//! DeleteTopics (20): the controller removes the topics; this broker's replicas go with the new image.
use std::sync::Arc;

use odradek_metadata::{Command, DeleteTopicError, DeleteTopics, DeletedTopic, Reply, TopicReference};
use odradek_model::TopicId;
use odradek_wire::ErrorCode;
use odradek_wire::messages::{DeletableTopicResult, DeleteTopicsRequest, DeleteTopicsResponse};

use crate::broker::Broker;
use crate::dispatch::{Answer, Call};
use crate::error_table::{controller_code, delete_topic_code};

pub(crate) fn handle(
    broker: &Arc<Broker>,
    call: &Call<'_>,
    request: DeleteTopicsRequest,
) -> Answer<DeleteTopicsResponse> {
    let mut topics = Vec::new();
    let mut refused = Vec::new();
    if call.version < 6 {
        topics.extend(request.topic_names.iter().map(|name| TopicReference::Name(name.to_string())));
    } else {
        for topic in &request.topics {
            match (&topic.name, topic.topic_id.is_nil()) {
                (Some(name), true) => topics.push(TopicReference::Name(name.to_string())),
                (None, false) => topics.push(TopicReference::Id(TopicId(topic.topic_id))),
                _ => refused.push(DeletableTopicResult {
                    name: topic.name.clone(),
                    topic_id: topic.topic_id,
                    error_code: ErrorCode::InvalidRequest.code(),
                    error_message: Some("exactly one of topic name and topic id must be given".into()),
                }),
            }
        }
    }
    let asked = topics.clone();
    let broker = Arc::clone(broker);
    Answer::later(async move {
        let mut responses = refused;
        match broker.decide(Command::DeleteTopics(DeleteTopics { topics })).await {
            Ok(Reply::DeleteTopics(outcomes)) => {
                responses.extend(outcomes.into_iter().map(|(reference, outcome)| result(&reference, &outcome)));
            }
            Ok(other) => unreachable!("a deletion was answered with {other:?}"),
            Err(error) => {
                let (code, message) = (controller_code(&error), error.to_string());
                responses.extend(asked.iter().map(|r| refuse(r, code, &message)));
            }
        }
        DeleteTopicsResponse { responses, ..DeleteTopicsResponse::default() }.into()
    })
}

fn result(reference: &TopicReference, outcome: &Result<DeletedTopic, DeleteTopicError>) -> DeletableTopicResult {
    match outcome {
        Ok(deleted) => DeletableTopicResult {
            name: Some((*deleted.name).into()),
            topic_id: deleted.id.0,
            ..DeletableTopicResult::default()
        },
        Err(error) => refuse(reference, delete_topic_code(*error), &error.to_string()),
    }
}

fn refuse(reference: &TopicReference, code: ErrorCode, message: &str) -> DeletableTopicResult {
    let (name, topic_id) = match reference {
        TopicReference::Name(name) => (Some(name.into()), uuid::Uuid::nil()),
        TopicReference::Id(id) => (None, id.0),
    };
    DeletableTopicResult { name, topic_id, error_code: code.code(), error_message: Some(message.into()) }
}
