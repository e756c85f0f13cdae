// SPDX-License-Identifier: Apache-2.0
//! ListOffsets (2): offsets by time and by name (rule 32).
use std::sync::Arc;

use odradek_partition::{Isolation, OffsetSpec};
use odradek_wire::ErrorCode;
use odradek_wire::messages::{
    ListOffsetsPartition, ListOffsetsPartitionResponse, ListOffsetsRequest, ListOffsetsResponse,
    ListOffsetsTopicResponse,
};

use crate::broker::Broker;
use crate::dispatch::{Answer, Call};
use crate::error_table::{leadership_code, list_offsets_code};
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
    let isolation = super::isolation(request.isolation_level);
    let topics = request.topics.iter().map(|topic| {
        let replicas = broker.replicas.topic(&topic.name);
        let partitions = topic.partitions.iter().map(|wanted| {
            let replica = replicas.as_ref().and_then(|topic| topic.partition(wanted.partition_index));
            match replica {
                Some(replica) => locate(replica, wanted, call.version, isolation),
                None => refuse(wanted, ErrorCode::UnknownTopicOrPartition),
            }
        });
        ListOffsetsTopicResponse { name: topic.name.clone(), partitions: partitions.collect() }
    });
    Answer::now(ListOffsetsResponse { topics: topics.collect(), ..ListOffsetsResponse::default() })
}

fn locate(
    replica: &Replica,
    wanted: &ListOffsetsPartition,
    version: i16,
    isolation: Isolation,
) -> ListOffsetsPartitionResponse {
    let spec = match wanted.timestamp {
        LATEST => OffsetSpec::Latest,
        EARLIEST => OffsetSpec::Earliest,
        // Each special came with a version (KIP-734, KIP-405, KIP-1005, KIP-1023).
        MAX_TIMESTAMP if version >= 7 => OffsetSpec::MaxTimestamp,
        EARLIEST_LOCAL if version >= 8 => OffsetSpec::EarliestLocal,
        LATEST_TIERED if version >= 9 => OffsetSpec::Tiered,
        EARLIEST_PENDING_UPLOAD if version >= 11 => OffsetSpec::Tiered,
        timestamp if timestamp >= 0 => OffsetSpec::AtTime(timestamp),
        _ => return refuse(wanted, ErrorCode::UnsupportedVersion),
    };
    let current_epoch = Some(wanted.current_leader_epoch).filter(|epoch| *epoch >= 0);
    let listed = match replica.view(current_epoch) {
        Ok(view) => view.list_offset(spec, isolation),
        Err(error) => return refuse(wanted, leadership_code(&error)),
    };
    match listed {
        Ok(listed) => ListOffsetsPartitionResponse {
            partition_index: wanted.partition_index,
            timestamp: listed.timestamp,
            offset: listed.offset,
            leader_epoch: if version >= 4 { listed.leader_epoch.unwrap_or(-1) } else { -1 },
            ..ListOffsetsPartitionResponse::default()
        },
        Err(error) => refuse(wanted, list_offsets_code(&error, version)),
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
