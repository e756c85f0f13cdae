// SPDX-License-Identifier: Apache-2.0
//! OffsetForLeaderEpoch (23): where an epoch ended, for clients that check for truncation (rule 29).
use std::sync::Arc;

use odradek_wire::ErrorCode;
use odradek_wire::messages::{
    EpochEndOffset, OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse, OffsetForLeaderPartition,
    OffsetForLeaderTopicResult,
};

use super::replica_of;
use crate::broker::Broker;
use crate::dispatch::{Answer, Call};
use crate::error_table::leadership_code;

pub(crate) fn handle(
    broker: &Arc<Broker>,
    _call: &Call<'_>,
    request: OffsetForLeaderEpochRequest,
) -> Answer<OffsetForLeaderEpochResponse> {
    let topics = request.topics.iter().map(|topic| {
        let replicas = broker.replicas.topic(&topic.topic);
        let partitions = topic.partitions.iter().map(|wanted| {
            let replica = match replica_of(replicas.as_deref(), wanted.partition) {
                Ok(replica) => replica,
                Err(code) => return result(wanted, code, (-1, -1)),
            };
            let current_epoch = Some(wanted.current_leader_epoch).filter(|epoch| *epoch >= 0);
            match replica.epoch_end(wanted.leader_epoch, current_epoch) {
                Ok(end) => result(wanted, ErrorCode::None, end.unwrap_or((-1, -1))),
                Err(error) => result(wanted, leadership_code(&error), (-1, -1)),
            }
        });
        OffsetForLeaderTopicResult { topic: topic.topic.clone(), partitions: partitions.collect() }
    });
    let topics = topics.collect();
    Answer::now(OffsetForLeaderEpochResponse { topics, ..OffsetForLeaderEpochResponse::default() })
}

fn result(wanted: &OffsetForLeaderPartition, code: ErrorCode, end: (i32, i64)) -> EpochEndOffset {
    EpochEndOffset { error_code: code.code(), partition: wanted.partition, leader_epoch: end.0, end_offset: end.1 }
}
