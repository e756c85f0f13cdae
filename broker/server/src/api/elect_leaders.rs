// SPDX-License-Identifier: Apache-2.0
//! ElectLeaders (43): has the controller elect preferred leaders, or any live replica (rule 49).
use std::sync::Arc;

use odradek_metadata::{Command, ElectLeaders, ElectionKind, Reply};
use odradek_wire::ErrorCode;
use odradek_wire::messages::{ElectLeadersRequest, ElectLeadersResponse, PartitionResult, ReplicaElectionResult};

use super::{Refusal, decide};
use crate::broker::Broker;
use crate::dispatch::{Answer, Call};
use crate::error_table::elect_leaders_code;

/// Election types (`ElectionType`).
const PREFERRED: i8 = 0;
const UNCLEAN: i8 = 1;

type Outcomes = Vec<((String, i32), Result<(), Refusal>)>;

pub(crate) fn handle(
    broker: &Arc<Broker>,
    call: &Call<'_>,
    request: ElectLeadersRequest,
) -> Answer<ElectLeadersResponse> {
    let version = call.version;
    let asked: Option<Vec<(String, i32)>> = request.topic_partitions.as_ref().map(|topics| {
        let partitions = topics
            .iter()
            .flat_map(|topic| topic.partitions.iter().map(|partition| (topic.topic.to_string(), *partition)));
        partitions.collect()
    });
    let refuse_all = move |asked: Option<Vec<(String, i32)>>, refusal: Refusal| {
        let outcomes = asked.into_iter().flatten().map(|partition| (partition, Err(refusal.clone()))).collect();
        response(version, refusal.0, outcomes)
    };
    // Version 0 knows only the preferred one.
    let kind = match request.election_type {
        PREFERRED => ElectionKind::Preferred,
        UNCLEAN => ElectionKind::Unclean,
        other => {
            let message = format!("unknown election type {other}");
            return Answer::now(refuse_all(asked, (ErrorCode::InvalidRequest, message)));
        }
    };
    let command = Command::ElectLeaders(ElectLeaders { kind, partitions: asked.clone() });
    let broker = Arc::clone(broker);
    Answer::later(async move {
        let response = match decide(&broker, command).await {
            Ok(Reply::ElectLeaders(outcomes)) => {
                let refusal = |error| (elect_leaders_code(&error), error.to_string());
                let outcomes =
                    outcomes.into_iter().map(|(partition, outcome)| (partition, outcome.map_err(refusal))).collect();
                response(version, ErrorCode::None, outcomes)
            }
            Ok(other) => unreachable!("elections were answered with {other:?}"),
            Err(refusal) => refuse_all(asked, refusal),
        };
        response.into()
    })
}

/// The outcomes, those of one topic that follow each other under one name.
fn response(version: i16, code: ErrorCode, outcomes: Outcomes) -> ElectLeadersResponse {
    let mut results: Vec<ReplicaElectionResult> = Vec::new();
    for ((topic, partition_id), outcome) in outcomes {
        let (error_code, error_message) = match outcome {
            Ok(()) => (0, None),
            Err((code, message)) => (code.code(), Some(message.into())),
        };
        let result = PartitionResult { partition_id, error_code, error_message };
        match results.last_mut().filter(|last| *last.topic == *topic) {
            Some(last) => last.partition_result.push(result),
            None => results.push(ReplicaElectionResult { topic: topic.into(), partition_result: vec![result] }),
        }
    }
    ElectLeadersResponse {
        error_code: if version >= 1 { code.code() } else { 0 },
        replica_election_results: results,
        ..ElectLeadersResponse::default()
    }
}
