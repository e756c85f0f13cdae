// SPDX-License-Identifier: Apache-2.0
//! CreatePartitions (37): hands the wishes to the controller, which places the new partitions.
use std::sync::Arc;

use odradek_metadata::{Command, CreatePartitions, CreatePartitionsError, MorePartitions, Reply};
use odradek_wire::ErrorCode;
use odradek_wire::messages::{CreatePartitionsRequest, CreatePartitionsResponse, CreatePartitionsTopicResult};

use super::decide;
use crate::broker::Broker;
use crate::dispatch::{Answer, Call};
use crate::error_table::create_partitions_code;

pub(crate) fn handle(
    broker: &Arc<Broker>,
    _call: &Call<'_>,
    request: CreatePartitionsRequest,
) -> Answer<CreatePartitionsResponse> {
    let names: Vec<String> = request.topics.iter().map(|topic| topic.name.to_string()).collect();
    let topics = request.topics.iter().map(|topic| MorePartitions {
        topic: topic.name.to_string(),
        count: topic.count,
        assignments: topic.assignments.as_ref().map(|given| given.iter().map(|one| one.broker_ids.clone()).collect()),
    });
    let command = Command::CreatePartitions(CreatePartitions {
        topics: topics.collect(),
        validate_only: request.validate_only,
        placement_seed: broker.random.number(),
    });
    let broker = Arc::clone(broker);
    Answer::later(async move {
        let results = match decide(&broker, command).await {
            Ok(Reply::CreatePartitions(outcomes)) => {
                outcomes.into_iter().map(|(name, outcome)| result(&name, outcome)).collect()
            }
            Ok(other) => unreachable!("a creation of partitions was answered with {other:?}"),
            Err((code, message)) => names.iter().map(|name| refuse(name, code, message.clone())).collect(),
        };
        CreatePartitionsResponse { results, ..CreatePartitionsResponse::default() }.into()
    })
}

fn result(name: &str, outcome: Result<(), CreatePartitionsError>) -> CreatePartitionsTopicResult {
    match outcome {
        Ok(()) => CreatePartitionsTopicResult { name: name.into(), ..CreatePartitionsTopicResult::default() },
        Err(error) => refuse(name, create_partitions_code(&error), error.to_string()),
    }
}

fn refuse(name: &str, code: ErrorCode, message: String) -> CreatePartitionsTopicResult {
    CreatePartitionsTopicResult { name: name.into(), error_code: code.code(), error_message: Some(message.into()) }
}
