// SPDX-License-Identifier: Apache-2.0
//! AlterPartitionReassignments (45): hands the wishes to the controller and answers when they are begun, not when they
//! are done; ListPartitionReassignments tells how far they are.
use std::sync::Arc;

use odradek_metadata::{AlterReassignments, Command, Reassignment, Reply};
use odradek_wire::messages::{
    AlterPartitionReassignmentsRequest, AlterPartitionReassignmentsResponse, ReassignablePartitionResponse,
    ReassignableTopicResponse,
};

use super::{Refusal, decide};
use crate::broker::Broker;
use crate::dispatch::{Answer, Call};
use crate::error_table::reassignment_code;

pub(crate) fn handle(
    broker: &Arc<Broker>,
    _call: &Call<'_>,
    request: AlterPartitionReassignmentsRequest,
) -> Answer<AlterPartitionReassignmentsResponse> {
    let wishes = request.topics.iter().flat_map(|topic| {
        topic.partitions.iter().map(|partition| Reassignment {
            topic: topic.name.to_string(),
            partition: partition.partition_index,
            replicas: partition.replicas.clone(),
        })
    });
    let command = Command::AlterReassignments(AlterReassignments {
        reassignments: wishes.collect(),
        allow_replication_factor_change: request.allow_replication_factor_change,
    });
    let broker = Arc::clone(broker);
    Answer::later(async move {
        let (whole, outcomes): (Option<Refusal>, Vec<Result<(), Refusal>>) = match decide(&broker, command).await {
            Ok(Reply::AlterReassignments(outcomes)) => {
                let refusal = |error| (reassignment_code(&error), error.to_string());
                (None, outcomes.into_iter().map(|outcome| outcome.map_err(refusal)).collect())
            }
            Ok(other) => unreachable!("reassignments were answered with {other:?}"),
            // As in Kafka, what fails as a whole is told of each partition too.
            Err(refusal) => {
                let partitions = request.topics.iter().map(|topic| topic.partitions.len()).sum();
                (Some(refusal.clone()), vec![Err(refusal); partitions])
            }
        };
        let mut outcomes = outcomes.into_iter();
        let responses = request.topics.iter().map(|topic| ReassignableTopicResponse {
            name: topic.name.clone(),
            partitions: (topic.partitions.iter().zip(&mut outcomes))
                .map(|(partition, outcome)| result(partition.partition_index, outcome))
                .collect(),
        });
        let responses = responses.collect();
        let (error_code, error_message) = match whole {
            None => (0, None),
            Some((code, message)) => (code.code(), Some(message.into())),
        };
        let allowed = request.allow_replication_factor_change;
        let response = AlterPartitionReassignmentsResponse {
            allow_replication_factor_change: allowed,
            error_code,
            error_message,
            responses,
            ..AlterPartitionReassignmentsResponse::default()
        };
        response.into()
    })
}

fn result(partition_index: i32, outcome: Result<(), Refusal>) -> ReassignablePartitionResponse {
    match outcome {
        Ok(()) => ReassignablePartitionResponse { partition_index, error_code: 0, error_message: None },
        Err((code, message)) => ReassignablePartitionResponse {
            partition_index,
            error_code: code.code(),
            error_message: Some(message.into()),
        },
    }
}
