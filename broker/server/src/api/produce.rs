// SPDX-License-Identifier: Apache-2.0
//! Produce (0): appends batches. With one replica they are committed when appended (rules 7, 8, 37).
use std::sync::Arc;

use odradek_model::TopicId;
use odradek_records::ProduceError;
use odradek_wire::messages::{
    BatchIndexAndErrorMessage, PartitionProduceData, PartitionProduceResponse, ProduceRequest, ProduceResponse,
    TopicProduceResponse,
};

use crate::broker::Broker;
use crate::dispatch::{Answer, Call};
use crate::error_code::ErrorCode;
use crate::error_table::produce_code;
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
    let mut failed = false;
    let mut responses = Vec::with_capacity(request.topic_data.len());
    for topic in &request.topic_data {
        let replicas = if by_id {
            broker.replicas.topic_by_id(TopicId(topic.topic_id))
        } else {
            broker.replicas.topic(&topic.name)
        };
        let unknown = if by_id { ErrorCode::UnknownTopicId } else { ErrorCode::UnknownTopicOrPartition };
        let partition_responses: Vec<_> = topic
            .partition_data
            .iter()
            .map(|data| {
                let outcome = match (refusal, &replicas) {
                    (Some(code), _) => Err(refuse(data.index, code, None)),
                    (None, None) => Err(refuse(data.index, unknown, None)),
                    (None, Some(topic)) if topic.name.is_internal() && !may_write_internal => {
                        Err(refuse(data.index, ErrorCode::InvalidTopicException, None))
                    }
                    (None, Some(topic)) => append(topic, data, call.version, now_ms),
                };
                outcome.unwrap_or_else(|refused| {
                    failed = true;
                    refused
                })
            })
            .collect();
        responses.push(TopicProduceResponse { name: topic.name.clone(), topic_id: topic.topic_id, partition_responses });
    }
    if request.acks == 0 {
        // Rule 7: a closed connection is the only way to tell.
        return if failed { Answer::Close(CloseReason::FailedWithoutAcks) } else { Answer::Nothing };
    }
    Answer::now(ProduceResponse { responses, ..ProduceResponse::default() })
}

fn append(
    topic: &TopicReplicas,
    data: &PartitionProduceData,
    version: i16,
    now_ms: i64,
) -> Result<PartitionProduceResponse, PartitionProduceResponse> {
    let Some(replica) = topic.partition(data.index) else {
        return Err(refuse(data.index, ErrorCode::UnknownTopicOrPartition, None));
    };
    let metrics = &replica.metrics;
    metrics.produce_requests.inc();
    let records = data.records.clone().unwrap_or_default();
    match replica.produce(&records, version, now_ms) {
        Ok(appended) => {
            metrics.bytes_in.inc_by(records.len() as u64);
            metrics.messages_in.inc_by((appended.last_offset - appended.base_offset + 1) as u64);
            Ok(PartitionProduceResponse {
                index: data.index,
                base_offset: appended.base_offset,
                log_append_time_ms: appended.log_append_time.unwrap_or(-1),
                log_start_offset: appended.log_start_offset,
                ..PartitionProduceResponse::default()
            })
        }
        Err(failure) => {
            metrics.failed_produce_requests.inc();
            let code = match &failure {
                AppendFailure::Refused(error) => produce_code(error),
                AppendFailure::Storage(_) => ErrorCode::KafkaStorageError,
            };
            let mut refused = refuse(data.index, code, Some(failure.to_string()));
            if let AppendFailure::Refused(ProduceError::Records { errors, .. }) = &failure {
                refused.record_errors = errors
                    .iter()
                    .map(|error| BatchIndexAndErrorMessage {
                        batch_index: error.batch_index,
                        batch_index_error_message: Some(error.message.as_str().into()),
                    })
                    .collect();
            }
            Err(refused)
        }
    }
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
