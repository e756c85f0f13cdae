// SPDX-License-Identifier: Apache-2.0
//! Produce (0): appends batches. With one replica they are committed when appended (rules 7, 8, 30, 37).
use std::sync::Arc;
use std::time::Duration;

use odradek_model::TopicId;
use odradek_partition::{Acks, ProduceOutcome};
use odradek_records::ProduceError;
use odradek_wire::ErrorCode;
use odradek_wire::messages::{
    BatchIndexAndErrorMessage, PartitionProduceData, PartitionProduceResponse, ProduceRequest, ProduceResponse,
    TopicProduceResponse,
};
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use super::{current_leader, replica_of};
use crate::broker::Broker;
use crate::dispatch::{Answer, Call};
use crate::error_table::{append_code, produce_code, produce_outcome_code};
use crate::metrics::Counted;
use crate::net::CloseReason;
use crate::replica::AppendFailure;
use crate::replicas::TopicReplicas;

/// The client id that may write to internal topics (rule 37).
const ADMIN_CLIENT: &str = "__admin_client";

pub(crate) fn handle(broker: &Arc<Broker>, call: &Call<'_>, request: ProduceRequest) -> Answer<ProduceResponse> {
    let refusal = if !matches!(request.acks, -1..=1) {
        Some(ErrorCode::InvalidRequiredAcks)
    } else if request.transactional_id.is_some() {
        Some(ErrorCode::InvalidTxnState)
    } else {
        None
    };
    let now_ms = broker.clock.now_ms();
    let by_id = call.version >= 13;
    let may_write_internal = call.client_id() == ADMIN_CLIENT;
    let acks = match request.acks {
        0 => Acks::None,
        1 => Acks::Leader,
        _ => Acks::All,
    };
    let mut failed = false;
    let mut waiting = Vec::new();
    let mut responses = Vec::with_capacity(request.topic_data.len());
    for (topic_at, topic) in request.topic_data.iter().enumerate() {
        let replicas = if by_id {
            broker.replicas.topic_by_id(TopicId(topic.topic_id))
        } else {
            broker.replicas.topic(&topic.name)
        };
        let unknown = if by_id { ErrorCode::UnknownTopicId } else { ErrorCode::UnknownTopicOrPartition };
        let mut partition_responses = Vec::with_capacity(topic.partition_data.len());
        for (partition_at, data) in topic.partition_data.iter().enumerate() {
            let outcome = match (refusal, &replicas) {
                (Some(code), _) => Err(refuse(data.index, code, None)),
                (None, None) => Err(refuse(data.index, unknown, None)),
                (None, Some(topic)) if topic.name.is_internal() && !may_write_internal => {
                    Err(refuse(data.index, ErrorCode::InvalidTopicException, None))
                }
                (None, Some(topic)) => append(topic, data, call.version, acks, now_ms),
            };
            partition_responses.push(match outcome {
                Ok((response, None)) => response,
                Ok((response, Some(outcome))) => {
                    waiting.push(Waiting { topic_at, partition_at, outcome });
                    response
                }
                Err(refused) => {
                    failed = true;
                    refused
                }
            });
        }
        responses.push(TopicProduceResponse {
            name: topic.name.clone(),
            topic_id: topic.topic_id,
            partition_responses,
        });
    }
    if acks == Acks::None {
        // Rule 7: a closed connection is the only way to tell.
        return if failed { Answer::Close(CloseReason::FailedWithoutAcks) } else { Answer::Nothing };
    }
    let mut response = ProduceResponse { responses, ..ProduceResponse::default() };
    // Clients of these versions look for it.
    let names_leaders = call.version >= 10;
    if waiting.is_empty() {
        if names_leaders {
            name_leaders(broker, &call.peer.listener, &mut response);
        }
        return Answer::now(response);
    }
    let (broker, listener) = (Arc::clone(broker), Arc::clone(&call.peer.listener));
    let time = Duration::from_millis(request.timeout_ms.max(0) as u64).min(LONGEST_WAIT);
    Answer::later(async move {
        let _counted = Counted::new(broker.metrics.waiting_produces.clone());
        let deadline = Instant::now() + time;
        for Waiting { topic_at, partition_at, outcome } in waiting {
            let code = match timeout_at(deadline, outcome).await {
                Ok(Ok(outcome)) => produce_outcome_code(outcome),
                // The partition went away with the wait.
                Ok(Err(_)) => ErrorCode::NotLeaderOrFollower,
                // It is in the log and may be committed later (rule 12).
                Err(_) => ErrorCode::RequestTimedOut,
            };
            if code != ErrorCode::None {
                let index = response.responses[topic_at].partition_responses[partition_at].index;
                response.responses[topic_at].partition_responses[partition_at] = refuse(index, code, None);
            }
        }
        if names_leaders {
            name_leaders(&broker, &listener, &mut response);
        }
        response.into()
    })
}

/// Tells who leads where this broker does not.
fn name_leaders(broker: &Broker, listener: &str, response: &mut ProduceResponse) {
    let not_leader = ErrorCode::NotLeaderOrFollower.code();
    let endpoints = &mut response.node_endpoints;
    for topic in &mut response.responses {
        for partition in topic.partition_responses.iter_mut().filter(|p| p.error_code == not_leader) {
            let id = if topic.topic_id.is_nil() { broker.replicas.topic(&topic.name).map(|t| t.id) } else { None };
            let id = id.unwrap_or(TopicId(topic.topic_id));
            let (leader, endpoint) = current_leader(broker, listener, id, partition.index);
            partition.current_leader = leader;
            endpoints.extend(endpoint.filter(|new| endpoints.iter().all(|known| known.node_id != new.node_id)));
        }
    }
}

/// A produce that is due longer is answered "timed out" after this; the client's own time-out is over by then.
const LONGEST_WAIT: Duration = Duration::from_mins(5);

/// A partition of the answer that is not yet known to be committed.
struct Waiting {
    topic_at: usize,
    partition_at: usize,
    outcome: oneshot::Receiver<ProduceOutcome>,
}

type Pending = (PartitionProduceResponse, Option<oneshot::Receiver<ProduceOutcome>>);

fn append(
    topic: &TopicReplicas,
    data: &PartitionProduceData,
    version: i16,
    acks: Acks,
    now_ms: i64,
) -> Result<Pending, PartitionProduceResponse> {
    let replica = replica_of(Some(topic), data.index).map_err(|code| refuse(data.index, code, None))?;
    let metrics = &replica.metrics;
    metrics.produce_requests.inc();
    let records = data.records.clone().unwrap_or_default();
    let appended = match replica.produce(&records, version, acks, now_ms) {
        Ok(appended) => appended,
        Err(failure) => {
            metrics.failed_produce_requests.inc();
            return Err(refusal(data.index, &failure));
        }
    };
    if !appended.duplicate {
        metrics.bytes_in.inc_by(records.len() as u64);
        metrics.messages_in.inc_by((appended.last_offset - appended.base_offset + 1) as u64);
    }
    let response = PartitionProduceResponse {
        index: data.index,
        base_offset: appended.base_offset,
        log_append_time_ms: appended.log_append_time_ms.unwrap_or(-1),
        log_start_offset: if version >= 5 { appended.log_start_offset } else { -1 },
        ..PartitionProduceResponse::default()
    };
    if acks != Acks::All {
        return Ok((response, None));
    }
    match replica.when_committed(appended.required_offset) {
        Some(Err(receiver)) => Ok((response, Some(receiver))),
        Some(Ok(ProduceOutcome::Committed)) => Ok((response, None)),
        Some(Ok(outcome)) => Err(refuse(data.index, produce_outcome_code(outcome), None)),
        None => Err(refuse(data.index, ErrorCode::RequestTimedOut, None)),
    }
}

fn refusal(index: i32, failure: &AppendFailure) -> PartitionProduceResponse {
    let code = match failure {
        AppendFailure::Refused(error) => produce_code(error),
        AppendFailure::Partition(error) => append_code(error),
    };
    let mut refused = refuse(index, code, Some(failure.to_string()));
    if let AppendFailure::Refused(ProduceError::Records { errors, .. }) = failure {
        let errors = errors.iter().map(|error| BatchIndexAndErrorMessage {
            batch_index: error.batch_index,
            batch_index_error_message: Some(error.message.as_str().into()),
        });
        refused.record_errors = errors.collect();
    }
    refused
}

fn refuse(index: i32, code: ErrorCode, message: Option<String>) -> PartitionProduceResponse {
    PartitionProduceResponse {
        index,
        error_code: code.code(),
        base_offset: -1,
        error_message: message.map(Into::into),
        ..PartitionProduceResponse::default()
    }
}
