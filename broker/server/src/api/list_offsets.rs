// SPDX-License-Identifier: Apache-2.0
//! ListOffsets (2): offsets by time and by name (rule 32).
use std::sync::Arc;

use odradek_wire::messages::{
    ListOffsetsPartition, ListOffsetsPartitionResponse, ListOffsetsRequest, ListOffsetsResponse,
    ListOffsetsTopicResponse,
};

use crate::broker::Broker;
use crate::dispatch::{Answer, Call};
use crate::error_code::ErrorCode;
use crate::error_table::read_code;
use crate::replica::Replica;

const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
const MAX_TIMESTAMP: i64 = -3;
const EARLIEST_LOCAL: i64 = -4;
const LATEST_TIERED: i64 = -5;
const EARLIEST_PENDING_UPLOAD: i64 = -6;

pub(crate) fn handle(
    broker: &Arc<Broker>,
    call: &Call<'_>,
    request: ListOffsetsRequest,
) -> Answer<ListOffsetsResponse> {
    let topics = request.topics.iter().map(|topic| {
        let replicas = broker.replicas.topic(&topic.name);
        let partitions = topic.partitions.iter().map(|wanted| {
            let replica = replicas.as_ref().and_then(|topic| topic.partition(wanted.partition_index));
            match replica {
                Some(replica) => locate(replica, wanted, call.version),
                None => refuse(wanted, ErrorCode::UnknownTopicOrPartition),
            }
        });
        ListOffsetsTopicResponse { name: topic.name.clone(), partitions: partitions.collect() }
    });
    Answer::now(ListOffsetsResponse { topics: topics.collect(), ..ListOffsetsResponse::default() })
}

fn locate(replica: &Replica, wanted: &ListOffsetsPartition, version: i16) -> ListOffsetsPartitionResponse {
    if let Err(failure) = replica.check_epoch(wanted.current_leader_epoch) {
        return refuse(wanted, read_code(failure));
    }
    let epoch = replica.leader_epoch();
    let none = (-1, -1, -1);
    let (timestamp, offset, leader_epoch) = match wanted.timestamp {
        LATEST => (-1, replica.end_offset(), epoch),
        EARLIEST => (-1, replica.start_offset(), epoch),
        // Each special came with a version (KIP-734, KIP-405, KIP-1005, KIP-1023).
        MAX_TIMESTAMP if version >= 7 => match replica.max_timestamp() {
            Ok(found) => found.unwrap_or(none),
            Err(failure) => return refuse(wanted, read_code(failure)),
        },
        EARLIEST_LOCAL if version >= 8 => (-1, replica.start_offset(), epoch),
        LATEST_TIERED if version >= 9 => none,
        EARLIEST_PENDING_UPLOAD if version >= 11 => none,
        timestamp if timestamp >= 0 => match replica.offset_for_time(timestamp) {
            Ok(found) => found.unwrap_or(none),
            Err(failure) => return refuse(wanted, read_code(failure)),
        },
        _ => return refuse(wanted, ErrorCode::UnsupportedVersion),
    };
    ListOffsetsPartitionResponse {
        partition_index: wanted.partition_index,
        timestamp,
        offset,
        leader_epoch,
        ..ListOffsetsPartitionResponse::default()
    }
}

fn refuse(wanted: &ListOffsetsPartition, code: ErrorCode) -> ListOffsetsPartitionResponse {
    ListOffsetsPartitionResponse {
        partition_index: wanted.partition_index,
        error_code: code.code(),
        timestamp: -1,
        offset: -1,
        leader_epoch: -1,
    }
}
