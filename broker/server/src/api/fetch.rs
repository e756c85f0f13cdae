// SPDX-License-Identifier: Apache-2.0
//! Fetch (1): reads batches, or waits until there are enough (rules 22-27, 31). Sessions are answered as sessionless.
//!
//! The budget for reads is taken before a log is touched, as much as the request may return; the first batch is always
//! allowed (rule 22). A waiting request holds no budget and no bytes but its own; a partition's append wakes it.
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use odradek_model::{LeaderEpoch, Offset, TopicId};
use odradek_wire::messages::{FetchRequest, FetchResponse, FetchableTopicResponse, PartitionData};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::broker::Broker;
use crate::dispatch::{Answer, Answered, Call};
use crate::error_code::ErrorCode;
use crate::net::budget::Charge;
use crate::error_table::read_code;
use crate::replica::Replica;

/// A client that asks to wait longer is answered after this; it asks again. Five minutes outlast every client's own
/// request timeout.
const LONGEST_WAIT: Duration = Duration::from_secs(300);

/// A request, resolved to replicas.
struct Plan {
    topics: Vec<TopicPlan>,
    max_bytes: usize,
    min_bytes: usize,
}

struct TopicPlan {
    name: odradek_wire::Text,
    id: Uuid,
    partitions: Vec<PartitionPlan>,
}

struct PartitionPlan {
    index: i32,
    replica: Result<Arc<Replica>, ErrorCode>,
    offset: Offset,
    max_bytes: usize,
    current_epoch: LeaderEpoch,
}

pub(crate) fn handle(broker: &Arc<Broker>, call: &Call<'_>, request: FetchRequest) -> Answer<FetchResponse> {
    let plan = plan(broker, call.version, &request);
    let wait = Duration::from_millis(request.max_wait_ms.max(0) as u64).min(LONGEST_WAIT);
    let read = read(broker, &plan);
    if read.is_enough(&plan) || wait.is_zero() {
        return Answer::Now(read.answer());
    }
    drop(read);
    let deadline = Instant::now() + wait;
    let stopping = call.peer.stopping.clone();
    Answer::Later(Box::pin(wait_and_read(Arc::clone(broker), plan, deadline, stopping)))
}

fn plan(broker: &Broker, version: i16, request: &FetchRequest) -> Plan {
    let most = broker.settings.number("fetch.max.bytes") as usize;
    let by_id = version >= 13;
    let topics = request.topics.iter().map(|topic| {
        let found = if by_id {
            broker.replicas.topic_by_id(TopicId(topic.topic_id)).ok_or(ErrorCode::UnknownTopicId)
        } else {
            broker.replicas.topic(&topic.topic).ok_or(ErrorCode::UnknownTopicOrPartition)
        };
        let partitions = topic.partitions.iter().map(|partition| {
            let replica = match &found {
                Ok(topic) => topic.partition(partition.partition).cloned().ok_or(ErrorCode::UnknownTopicOrPartition),
                Err(code) => Err(*code),
            };
            if let Ok(replica) = &replica {
                replica.metrics.fetch_requests.inc();
            }
            PartitionPlan {
                index: partition.partition,
                replica,
                offset: partition.fetch_offset,
                max_bytes: usize::try_from(partition.partition_max_bytes).unwrap_or(0),
                current_epoch: partition.current_leader_epoch,
            }
        });
        TopicPlan { name: topic.topic.clone(), id: topic.topic_id, partitions: partitions.collect() }
    });
    Plan {
        topics: topics.collect(),
        max_bytes: usize::try_from(request.max_bytes).unwrap_or(0).min(most),
        min_bytes: usize::try_from(request.min_bytes).unwrap_or(0),
    }
}

/// One pass over the partitions in the request's order.
struct Read {
    response: FetchResponse,
    bytes: usize,
    failed: bool,
    charge: Option<Charge>,
}

impl Read {
    /// Whether the answer is due before the wait is over (`DelayedFetch`): enough bytes, an error, nothing asked.
    fn is_enough(&self, plan: &Plan) -> bool {
        self.failed || self.bytes >= plan.min_bytes || plan.topics.iter().all(|topic| topic.partitions.is_empty())
    }

    fn answer(self) -> Answered<FetchResponse> {
        Answered { response: self.response, charge: self.charge }
    }
}

fn read(broker: &Broker, plan: &Plan) -> Read {
    let partitions = || plan.topics.iter().flat_map(|topic| &topic.partitions);
    // What can be returned at most, without touching a log.
    let wanted: usize = partitions()
        .filter(|p| p.replica.as_ref().is_ok_and(|replica| replica.has_more(p.offset)))
        .map(|p| p.max_bytes)
        .fold(0usize, usize::saturating_add)
        .min(plan.max_bytes);
    let mut charge = (wanted > 0).then(|| broker.reads.take_available(wanted, 1));
    let mut left = charge.as_ref().map_or(0, Charge::bytes).min(plan.max_bytes);
    let mut total = 0;
    let mut failed = false;
    let topics = plan.topics.iter().map(|topic| FetchableTopicResponse {
        topic: topic.name.clone(),
        topic_id: topic.id,
        partitions: topic
            .partitions
            .iter()
            .map(|partition| {
                let (data, bytes) = read_partition(partition, left, total == 0);
                left = left.saturating_sub(bytes);
                total += bytes;
                failed |= data.error_code != 0;
                data
            })
            .collect(),
    });
    let responses = topics.collect();
    match &mut charge {
        Some(charge) if total <= charge.bytes() => charge.shrink_to(total),
        // The first batch was larger than what was free: it is charged all the same.
        Some(charge) => charge.add(total - charge.bytes()),
        None => {}
    }
    Read { response: FetchResponse { responses, ..FetchResponse::default() }, bytes: total, failed, charge }
}

fn read_partition(partition: &PartitionPlan, left: usize, first: bool) -> (PartitionData, usize) {
    let empty = |code: ErrorCode| PartitionData {
        partition_index: partition.index,
        error_code: code.code(),
        high_watermark: -1,
        records: Some(Bytes::new()),
        aborted_transactions: Some(Vec::new()),
        ..PartitionData::default()
    };
    let replica = match &partition.replica {
        Ok(replica) => replica,
        Err(code) => return (empty(*code), 0),
    };
    let read = replica
        .check_epoch(partition.current_epoch)
        .and_then(|()| replica.read(partition.offset, partition.max_bytes.min(left), first));
    match read {
        Ok(part) => {
            let bytes = part.records.len();
            if bytes > 0 {
                replica.metrics.bytes_out.inc_by(bytes as u64);
            }
            let data = PartitionData {
                partition_index: partition.index,
                high_watermark: part.high_watermark,
                last_stable_offset: part.last_stable_offset,
                log_start_offset: part.log_start_offset,
                records: Some(part.records),
                aborted_transactions: None,
                ..PartitionData::default()
            };
            (data, bytes)
        }
        Err(failure) => {
            replica.metrics.failed_fetch_requests.inc();
            let code = read_code(failure);
            (empty(code), 0)
        }
    }
}

/// Waits for appends until there is enough, the time is over, or the broker stops.
async fn wait_and_read(
    broker: Arc<Broker>,
    plan: Plan,
    deadline: Instant,
    stopping: CancellationToken,
) -> Answered<FetchResponse> {
    broker.metrics.waiting_fetches.inc();
    let waiting = Waiting { broker: &broker, plan: &plan, notify: Arc::new(Notify::new()) };
    loop {
        // Registered before looking: an append in between is not missed.
        waiting.register();
        let read = read(&broker, &plan);
        if read.is_enough(&plan) {
            return read.answer();
        }
        drop(read);
        tokio::select! {
            () = waiting.notify.notified() => {}
            () = sleep_until(deadline) => break,
            () = stopping.cancelled() => break,
        }
    }
    let late = read(&broker, &plan);
    late.answer()
}

/// Takes the registrations back, also when the connection ends meanwhile.
struct Waiting<'a> {
    broker: &'a Broker,
    plan: &'a Plan,
    notify: Arc<Notify>,
}

impl Waiting<'_> {
    fn replicas(&self) -> impl Iterator<Item = &Arc<Replica>> {
        self.plan.topics.iter().flat_map(|topic| &topic.partitions).filter_map(|p| p.replica.as_ref().ok())
    }

    fn register(&self) {
        for replica in self.replicas() {
            replica.stop_waiting(&self.notify);
            replica.wait(&self.notify);
        }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        for replica in self.replicas() {
            replica.stop_waiting(&self.notify);
        }
        self.broker.metrics.waiting_fetches.dec();
    }
}
