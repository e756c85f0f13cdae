// SPDX-License-Identifier: Apache-2.0
//! ListOffsets (2): offsets by time and by name (rule 32).
//!
//! A look-up by time reads a batch from the disk and may have to decompress it, so it runs where it may block, and its
//! memory is taken from the budget for reads first.
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use odradek_model::LeaderEpoch;
use odradek_partition::{Isolation, ListedOffset, OffsetSpec};
use odradek_records::DECOMPRESSED_BYTES_MAX;
use odradek_wire::messages::{
    ListOffsetsPartition, ListOffsetsPartitionResponse, ListOffsetsRequest, ListOffsetsResponse,
    ListOffsetsTopicResponse,
};
use odradek_wire::{ErrorCode, Text};
use tokio::time::timeout;

use super::{on_blocking_thread, replica_of};
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

/// Memory of a look-up by time, one partition after the other: a batch as large as a request may be, and what it is
/// decompressed to, in a buffer that doubles as it grows. A budget below that lets one look-up run at a time.
const LOOK_UP_BYTES: usize = 3 * DECOMPRESSED_BYTES_MAX;
/// A look-up that has not got its memory by then is answered "timed out"; `request.timeout.ms` of clients is 30 s.
const LONGEST_WAIT: Duration = Duration::from_secs(20);

/// A request, resolved to replicas.
struct Plan {
    topics: Vec<(Text, Vec<Lookup>)>,
    isolation: Isolation,
    version: i16,
}

/// What is asked of a partition.
struct Lookup {
    index: i32,
    wanted: Result<Wanted, ErrorCode>,
}

struct Wanted {
    replica: Arc<Replica>,
    spec: OffsetSpec,
    /// A follower asks: it may see all of the log.
    is_follower: bool,
    current_epoch: Option<LeaderEpoch>,
}

pub(crate) fn handle(
    broker: &Arc<Broker>,
    call: &Call<'_>,
    request: ListOffsetsRequest,
) -> Answer<ListOffsetsResponse> {
    let mut plan = plan(broker, call.version, &request);
    if !call.peer.introduction.may_act_as(request.replica_id) {
        for lookup in plan.topics.iter_mut().flat_map(|(_, lookups)| lookups) {
            lookup.wanted = Err(ErrorCode::ClusterAuthorizationFailed);
        }
    }
    let may_block = |lookup: &Lookup| {
        let wanted = lookup.wanted.as_ref();
        wanted.is_ok_and(|wanted| matches!(wanted.spec, OffsetSpec::AtTime(_) | OffsetSpec::MaxTimestamp))
    };
    if !plan.topics.iter().flat_map(|(_, lookups)| lookups).any(may_block) {
        return Answer::now(plan.look_up());
    }
    let broker = Arc::clone(broker);
    Answer::later(async move {
        let mut charge = broker.reads.open();
        if timeout(LONGEST_WAIT, charge.grow(LOOK_UP_BYTES)).await.is_err() {
            return plan.refuse_all(ErrorCode::RequestTimedOut).into();
        }
        let work = move || {
            let response = plan.look_up();
            drop(charge);
            response
        };
        on_blocking_thread(work).await.into()
    })
}

fn plan(broker: &Broker, version: i16, request: &ListOffsetsRequest) -> Plan {
    let mut seen = HashSet::new();
    let mut duplicates = HashSet::new();
    for topic in &request.topics {
        for partition in &topic.partitions {
            let key = (&*topic.name, partition.partition_index);
            if !seen.insert(key) {
                duplicates.insert(key);
            }
        }
    }
    let topics = request.topics.iter().map(|topic| {
        let replicas = broker.replicas.topic(&topic.name);
        let lookups = topic.partitions.iter().map(|partition| {
            let wanted = if duplicates.contains(&(&*topic.name, partition.partition_index)) {
                Err(ErrorCode::InvalidRequest)
            } else {
                spec(partition, version).and_then(|spec| {
                    let replica = replica_of(replicas.as_deref(), partition.partition_index)?;
                    let current_epoch = Some(partition.current_leader_epoch).filter(|epoch| *epoch >= 0);
                    Ok(Wanted {
                        replica: Arc::clone(replica),
                        spec,
                        is_follower: request.replica_id >= 0,
                        current_epoch,
                    })
                })
            };
            Lookup { index: partition.partition_index, wanted }
        });
        (topic.name.clone(), lookups.collect())
    });
    Plan { topics: topics.collect(), isolation: super::isolation(request.isolation_level), version }
}

fn spec(partition: &ListOffsetsPartition, version: i16) -> Result<OffsetSpec, ErrorCode> {
    match partition.timestamp {
        LATEST => Ok(OffsetSpec::Latest),
        EARLIEST => Ok(OffsetSpec::Earliest),
        // Each special came with a version (KIP-734, KIP-405, KIP-1005, KIP-1023).
        MAX_TIMESTAMP if version >= 7 => Ok(OffsetSpec::MaxTimestamp),
        EARLIEST_LOCAL if version >= 8 => Ok(OffsetSpec::EarliestLocal),
        LATEST_TIERED if version >= 9 => Ok(OffsetSpec::Tiered),
        EARLIEST_PENDING_UPLOAD if version >= 11 => Ok(OffsetSpec::Tiered),
        timestamp if timestamp >= 0 => Ok(OffsetSpec::AtTime(timestamp)),
        _ => Err(ErrorCode::UnsupportedVersion),
    }
}

impl Plan {
    /// Looks everything up. May block if times are asked for.
    fn look_up(&self) -> ListOffsetsResponse {
        self.answer(|lookup| match &lookup.wanted {
            Ok(wanted) => locate(lookup.index, wanted, self.version, self.isolation),
            Err(code) => refuse(lookup.index, *code),
        })
    }

    fn refuse_all(&self, code: ErrorCode) -> ListOffsetsResponse {
        self.answer(|lookup| refuse(lookup.index, lookup.wanted.as_ref().err().copied().unwrap_or(code)))
    }

    fn answer(&self, partition: impl Fn(&Lookup) -> ListOffsetsPartitionResponse) -> ListOffsetsResponse {
        let topics = self.topics.iter().map(|(name, lookups)| ListOffsetsTopicResponse {
            name: name.clone(),
            partitions: lookups.iter().map(&partition).collect(),
        });
        ListOffsetsResponse { topics: topics.collect(), ..ListOffsetsResponse::default() }
    }
}

fn locate(partition_index: i32, wanted: &Wanted, version: i16, isolation: Isolation) -> ListOffsetsPartitionResponse {
    let listed = match wanted.replica.view(wanted.current_epoch) {
        Ok(view) if wanted.is_follower && wanted.spec == OffsetSpec::Latest => {
            Ok(ListedOffset { timestamp: -1, offset: view.log_end_offset(), leader_epoch: Some(view.leader_epoch()) })
        }
        Ok(view) => view.list_offset(wanted.spec, isolation),
        Err(error) => return refuse(partition_index, leadership_code(&error)),
    };
    match listed {
        Ok(listed) => ListOffsetsPartitionResponse {
            partition_index,
            timestamp: listed.timestamp,
            offset: listed.offset,
            leader_epoch: if version >= 4 { listed.leader_epoch.unwrap_or(-1) } else { -1 },
            ..ListOffsetsPartitionResponse::default()
        },
        Err(error) => refuse(partition_index, list_offsets_code(&error, version)),
    }
}

fn refuse(partition_index: i32, code: ErrorCode) -> ListOffsetsPartitionResponse {
    ListOffsetsPartitionResponse {
        partition_index,
        error_code: code.code(),
        timestamp: -1,
        offset: -1,
        leader_epoch: -1,
    }
}
