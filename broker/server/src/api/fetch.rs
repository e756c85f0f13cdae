// SPDX-License-Identifier: Apache-2.0
//! Fetch (1): reads batches, or waits until there are enough (rules 22-27, 30, 31). No session is ever opened: who asks
//! for one is answered as sessionless, who names one as Kafka answers after a restart.
//!
//! The budget for reads is taken before a log is touched, as much as the request may return; the first batch is always
//! allowed (rule 22). A waiting request holds no budget and no bytes but its own; a partition's append wakes it.
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use odradek_model::{LeaderEpoch, Offset, TopicId};
use odradek_partition::{Isolation, PartitionView, WaitError};
use odradek_wire::ErrorCode;
use odradek_wire::messages::{FetchRequest, FetchResponse, FetchableTopicResponse, PartitionData};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{current_leader, on_blocking_thread, replica_of};
use crate::broker::Broker;
use crate::dispatch::{Answer, Answered, Call};
use crate::error_table::{leadership_code, read_code};
use crate::metrics::Counted;
use crate::net::budget::Charge;
use crate::replica::{FetchWait, Replica};

/// A client that asks to wait longer is answered after this; it asks again. Five minutes outlast every client's own
/// request timeout.
const LONGEST_WAIT: Duration = Duration::from_mins(5);

/// Session epochs of requests that name all their partitions (KIP-227): to open a session, and without one.
const NEW_SESSION: i32 = 0;
const NO_SESSION: i32 = -1;

/// A request, resolved to replicas.
struct Plan {
    topics: Vec<TopicPlan>,
    max_bytes: usize,
    min_bytes: usize,
    isolation: Isolation,
    version: i16,
    listener: Arc<str>,
}

impl Plan {
    fn partitions(&self) -> impl Iterator<Item = &PartitionPlan> {
        self.topics.iter().flat_map(|topic| &topic.partitions)
    }
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
    current_epoch: Option<LeaderEpoch>,
}

pub(crate) fn handle(broker: &Arc<Broker>, call: &Call<'_>, request: FetchRequest) -> Answer<FetchResponse> {
    if call.version >= 7 && !matches!(request.session_epoch, NEW_SESSION | NO_SESSION) {
        let error_code = ErrorCode::FetchSessionIdNotFound.code();
        return Answer::now(FetchResponse { error_code, ..FetchResponse::default() });
    }
    let plan = plan(broker, call, &request);
    let wait = Duration::from_millis(request.max_wait_ms.max(0) as u64).min(LONGEST_WAIT);
    let deadline = Instant::now() + wait;
    let views = views(&plan);
    if !may_block(&plan, &views) {
        let read = read_views(broker, &plan, views);
        if read.is_enough(&plan) || wait.is_zero() {
            return Answer::Now(finish(broker, &plan, read));
        }
    }
    let stopping = call.peer.stopping.clone();
    Answer::Later(Box::pin(wait_and_read(Arc::clone(broker), plan, deadline, stopping)))
}

fn plan(broker: &Broker, call: &Call<'_>, request: &FetchRequest) -> Plan {
    let version = call.version;
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
                Ok(topic) => replica_of(Some(topic), partition.partition).cloned(),
                Err(code) => Err(*code),
            };
            PartitionPlan {
                index: partition.partition,
                replica,
                offset: partition.fetch_offset,
                max_bytes: usize::try_from(partition.partition_max_bytes).unwrap_or(0),
                current_epoch: Some(partition.current_leader_epoch).filter(|epoch| *epoch >= 0),
            }
        });
        TopicPlan { name: topic.topic.clone(), id: topic.topic_id, partitions: partitions.collect() }
    });
    let max_bytes = usize::try_from(request.max_bytes).unwrap_or(0).min(most);
    Plan {
        topics: topics.collect(),
        max_bytes,
        // More than may be sent can never be reached (KafkaApis caps it the same way).
        min_bytes: usize::try_from(request.min_bytes).unwrap_or(0).min(max_bytes),
        isolation: super::isolation(request.isolation_level),
        version,
        listener: Arc::clone(&call.peer.listener),
    }
}

/// One pass over the partitions in the request's order.
struct Read {
    response: FetchResponse,
    /// The end that was visible, by partition in the plan's order.
    seen_ends: Vec<Offset>,
    bytes: usize,
    failed: bool,
    charge: Option<Charge>,
}

impl Read {
    /// Whether the answer is due before the wait is over (`DelayedFetch`): enough bytes, an error, nothing asked.
    fn is_enough(&self, plan: &Plan) -> bool {
        self.failed || self.bytes >= plan.min_bytes || plan.partitions().next().is_none()
    }

    fn answer(self) -> Answered<FetchResponse> {
        Answered { response: self.response, charge: self.charge }
    }
}

type View = Result<PartitionView, ErrorCode>;

fn views(plan: &Plan) -> Vec<View> {
    let view = |p: &PartitionPlan| match &p.replica {
        Ok(replica) => replica.view(p.current_epoch).map_err(|error| leadership_code(&error)),
        Err(code) => Err(*code),
    };
    plan.partitions().map(view).collect()
}

/// Whether the pass may have to wait for the disk: a consumer that is far behind must not hold up a thread that serves
/// others.
fn may_block(plan: &Plan, views: &[View]) -> bool {
    plan.partitions().zip(views).any(|(p, view)| view.as_ref().is_ok_and(|v| v.may_block(p.offset, plan.isolation)))
}

/// Reads here, or on a thread that may block if it may have to.
async fn read_once(broker: &Arc<Broker>, plan: &Arc<Plan>) -> Read {
    let views = views(plan);
    if !may_block(plan, &views) {
        return read_views(broker, plan, views);
    }
    broker.metrics.cold_fetches.inc();
    let (broker, plan) = (Arc::clone(broker), Arc::clone(plan));
    on_blocking_thread(move || read_views(&broker, &plan, views)).await
}

fn read_views(broker: &Broker, plan: &Plan, views: Vec<View>) -> Read {
    let seen_end = |view: &Result<PartitionView, _>| view.as_ref().map_or(-1, |v| v.visible_end(plan.isolation));
    let seen_ends: Vec<Offset> = views.iter().map(seen_end).collect();
    // What can be returned at most, without touching a log.
    let wanted = plan
        .partitions()
        .zip(&seen_ends)
        .filter(|(p, seen_end)| p.offset < **seen_end)
        .map(|(p, _)| p.max_bytes)
        .fold(0usize, usize::saturating_add)
        .min(plan.max_bytes);
    let mut charge = (wanted > 0).then(|| broker.reads.take_available(wanted, 1));
    let mut left = charge.as_ref().map_or(0, Charge::bytes).min(plan.max_bytes);
    let mut views = views.into_iter();
    let mut total = 0;
    let mut failed = false;
    let topics = plan.topics.iter().map(|topic| FetchableTopicResponse {
        topic: topic.name.clone(),
        topic_id: topic.id,
        partitions: topic
            .partitions
            .iter()
            .zip(&mut views)
            .map(|(partition, view)| {
                let (data, bytes) = read_partition(plan, partition, view, left, total == 0);
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
    Read { response: FetchResponse { responses, ..FetchResponse::default() }, seen_ends, bytes: total, failed, charge }
}

fn read_partition(
    plan: &Plan,
    partition: &PartitionPlan,
    view: Result<PartitionView, ErrorCode>,
    left: usize,
    first: bool,
) -> (PartitionData, usize) {
    let read = view.and_then(|view| {
        let max_bytes = partition.max_bytes.min(left);
        view.read(partition.offset, max_bytes, plan.isolation, first).map_err(|error| read_code(&error))
    });
    match read {
        Ok(fetched) => {
            let bytes = fetched.records.len();
            let data = PartitionData {
                partition_index: partition.index,
                high_watermark: fetched.high_watermark,
                last_stable_offset: fetched.last_stable_offset,
                log_start_offset: if plan.version >= 5 { fetched.log_start_offset } else { -1 },
                records: Some(fetched.records),
                // Rule 21: a list for those who ask for it. Nothing is ever aborted without transactions.
                aborted_transactions: (plan.isolation == Isolation::ReadCommitted).then(Vec::new),
                ..PartitionData::default()
            };
            (data, bytes)
        }
        Err(code) => {
            // Clients of these versions do not know the code (KIP-112).
            let is_old = plan.version <= 5 && code == ErrorCode::KafkaStorageError;
            let code = if is_old { ErrorCode::NotLeaderOrFollower } else { code };
            let data = PartitionData {
                partition_index: partition.index,
                error_code: code.code(),
                high_watermark: -1,
                records: Some(Bytes::new()),
                aborted_transactions: None,
                ..PartitionData::default()
            };
            (data, 0)
        }
    }
}

/// Counts what is sent, and names the leader to those who believe in another.
fn finish(broker: &Broker, plan: &Plan, mut read: Read) -> Answered<FetchResponse> {
    let endpoints = &mut read.response.node_endpoints;
    let data = read.response.responses.iter_mut().flat_map(|topic| &mut topic.partitions);
    for (partition, data) in plan.partitions().zip(data) {
        let Ok(replica) = &partition.replica else { continue };
        replica.metrics.fetch_requests.inc();
        if data.error_code != 0 {
            replica.metrics.failed_fetch_requests.inc();
        }
        let is_outdated = [ErrorCode::NotLeaderOrFollower, ErrorCode::FencedLeaderEpoch];
        if plan.version >= 16 && is_outdated.iter().any(|code| code.code() == data.error_code) {
            let (leader, endpoint) = current_leader(broker, &plan.listener, replica.topic_id, replica.index);
            data.current_leader = leader;
            endpoints.extend(endpoint.filter(|new| endpoints.iter().all(|known| known.node_id != new.node_id)));
        }
        let bytes = data.records.as_ref().map_or(0, Bytes::len) as u64;
        if bytes > 0 {
            replica.metrics.bytes_out.inc_by(bytes);
        }
    }
    read.answer()
}

/// Waits for appends until there is enough, the time is over, or the broker stops.
async fn wait_and_read(
    broker: Arc<Broker>,
    plan: Plan,
    deadline: Instant,
    stopping: CancellationToken,
) -> Answered<FetchResponse> {
    let plan = Arc::new(plan);
    let notify = Arc::new(Notify::new());
    let mut read = read_once(&broker, &plan).await;
    let _counted = (!read.is_enough(&plan)).then(|| Counted::new(broker.metrics.waiting_fetches.clone()));
    while !read.is_enough(&plan) {
        let waits = match register(&plan, &read, &notify) {
            Ok(Some(waits)) => waits,
            // Something came in between: look again.
            Ok(None) => {
                read = read_once(&broker, &plan).await;
                continue;
            }
            // Too many wait already: answered as if the time were over.
            Err(_) => break,
        };
        drop(read);
        let over = tokio::select! {
            () = notify.notified() => false,
            () = sleep_until(deadline) => true,
            () = stopping.cancelled() => true,
        };
        drop(waits);
        read = read_once(&broker, &plan).await;
        if over {
            break;
        }
    }
    finish(&broker, &plan, read)
}

/// Waits on every partition; `None` if one of them has news already. With several partitions it is their sum that
/// counts, so each wakes at its first byte.
fn register(plan: &Plan, read: &Read, notify: &Arc<Notify>) -> Result<Option<Vec<FetchWait>>, WaitError> {
    let only = plan.partitions().nth(1).is_none();
    let missing = if only { plan.min_bytes.saturating_sub(read.bytes) as u64 } else { 1 };
    let mut waits = Vec::new();
    for (partition, seen_end) in plan.partitions().zip(&read.seen_ends) {
        let Ok(replica) = &partition.replica else { continue };
        match replica.wait_fetch(notify, partition.offset, *seen_end, missing, plan.isolation)? {
            Some(wait) => waits.push(wait),
            None => return Ok(None),
        }
    }
    Ok(Some(waits))
}
