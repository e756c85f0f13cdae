// SPDX-License-Identifier: Apache-2.0
//! Fetch (1): reads batches, or waits until there are enough (rules 22-27, 30, 31), for consumers and for followers.
//! What a session makes of request and answer is decided in [`crate::fetch_sessions`].
//!
//! A follower is taken at its word about how far it has come, so only a broker that has introduced itself may ask as
//! one. It sees all of the log, and its first look tells the partition what it has.
//!
//! A waiting request holds no budget and no bytes but its own; a partition's append wakes it.
mod plan;
mod reading;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use odradek_model::TopicId;
use odradek_partition::WaitError;
use odradek_wire::messages::{FetchRequest, FetchResponse, FetchableTopicResponse, NodeEndpoint, PartitionData};
use odradek_wire::{ErrorCode, Records};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use self::plan::{Asker, Plan};
use self::reading::{Disk, Look, Read, View, read_once, read_views, read_where_it_may_block, views};
use super::current_leader;
use crate::broker::Broker;
use crate::dispatch::{Answer, Answered, Call};
use crate::fetch_sessions::{Named, SessionRequest};
use crate::metrics::Counted;
use crate::replica::FetchWait;

/// A client that asks to wait longer is answered after this; it asks again. Five minutes outlast every client's own
/// request timeout.
const LONGEST_WAIT: Duration = Duration::from_mins(5);

pub(crate) fn handle(broker: &Arc<Broker>, call: &Call<'_>, request: FetchRequest) -> Answer<FetchResponse> {
    let replica_id = if call.version >= 15 { request.replica_state.replica_id } else { request.replica_id };
    if !call.peer.introduction.may_act_as(replica_id) {
        return Answer::now(refuse(&request, ErrorCode::ClusterAuthorizationFailed));
    }
    let asked = SessionRequest { version: call.version, request: &request, is_follower: replica_id >= 0 };
    let begun = match broker.fetch_sessions.begin(&asked, broker.clock.monotonic()) {
        Ok(begun) => begun,
        Err(code) => return Answer::now(FetchResponse { error_code: code.code(), ..FetchResponse::default() }),
    };
    let plan = Plan::new(broker, call, &request, replica_id, begun);
    let wait = Duration::from_millis(request.max_wait_ms.max(0) as u64).min(LONGEST_WAIT);
    let deadline = Instant::now() + wait;
    let views = views(broker, &plan, Look::First);
    let first = match read_views(broker, &plan, &views, Disk::InMemory) {
        None => First::Views(views),
        Some(read) if read.is_enough(&plan) || wait.is_zero() => return Answer::Now(finish(broker, &plan, read)),
        Some(read) => First::Read(read),
    };
    let stopping = call.peer.stopping.clone();
    Answer::Later(Box::pin(wait_and_read(Arc::clone(broker), plan, first, deadline, stopping)))
}

/// What the first look came to.
enum First {
    /// It has to be read where it may block.
    Views(Vec<View>),
    /// There was not enough.
    Read(Read),
}

fn refuse(request: &FetchRequest, code: ErrorCode) -> FetchResponse {
    let partition = |index| PartitionData {
        partition_index: index,
        error_code: code.code(),
        high_watermark: -1,
        records: Some(Bytes::new().into()),
        ..PartitionData::default()
    };
    let topics = request.topics.iter().map(|topic| FetchableTopicResponse {
        topic: topic.topic.clone(),
        topic_id: topic.topic_id,
        partitions: topic.partitions.iter().map(|asked| partition(asked.partition)).collect(),
    });
    FetchResponse { error_code: code.code(), responses: topics.collect(), ..FetchResponse::default() }
}

/// Counts what is sent, names the leader to those who believe in another, and has the session say what the answer names.
fn finish(broker: &Broker, plan: &Plan, read: Read) -> Answered<FetchResponse> {
    let Read { mut partitions, charge, mut files, .. } = read;
    let mut endpoints: Vec<NodeEndpoint> = Vec::new();
    for (partition, data) in plan.partitions.iter().zip(&mut partitions) {
        let is_outdated = [ErrorCode::NotLeaderOrFollower, ErrorCode::FencedLeaderEpoch];
        if plan.version >= 16 && is_outdated.iter().any(|code| code.code() == data.error_code) {
            let (topic, index) = (TopicId(partition.requested.topic.id), partition.requested.partition);
            let (leader, endpoint) = current_leader(broker, &plan.listener, topic, index);
            data.current_leader = leader;
            if let Some(endpoint) = endpoint.filter(|new| endpoints.iter().all(|known| known.node_id != new.node_id)) {
                endpoints.push(endpoint);
            }
        }
    }
    let read = plan.partitions.iter().map(|partition| &partition.requested).zip(&partitions);
    let now = broker.clock.monotonic();
    let ended = broker.fetch_sessions.end(&plan.turn, read, now, || broker.random.number());
    if ended.evicted > 0 {
        broker.metrics.fetch_session_evictions.inc_by(ended.evicted);
    }
    if ended.named == Named::None {
        files.clear();
        endpoints.clear();
    } else if matches!(plan.asker, Asker::Consumer { .. }) {
        count(plan, &partitions);
    }
    let response = FetchResponse {
        error_code: ended.error.code(),
        session_id: ended.session_id,
        responses: by_topic(plan, partitions, &ended.named),
        node_endpoints: endpoints,
        ..FetchResponse::default()
    };
    Answered { response, charge, files }
}

fn count(plan: &Plan, partitions: &[PartitionData]) {
    for (partition, data) in plan.partitions.iter().zip(partitions) {
        let Ok(replica) = &partition.replica else { continue };
        replica.metrics.fetch_requests.inc();
        if data.error_code != 0 {
            replica.metrics.failed_fetch_requests.inc();
        }
        let bytes = data.records.as_ref().map_or(0, Records::len) as u64;
        if bytes > 0 {
            replica.metrics.bytes_out.inc_by(bytes);
        }
    }
}

/// The partitions that the answer names; neighbours of one topic are named together.
fn by_topic(plan: &Plan, partitions: Vec<PartitionData>, named: &Named) -> Vec<FetchableTopicResponse> {
    let mut responses: Vec<FetchableTopicResponse> = Vec::new();
    for (place, (partition, data)) in plan.partitions.iter().zip(partitions).enumerate() {
        let is_named = match named {
            Named::All => true,
            Named::These(these) => these[place],
            Named::None => false,
        };
        if !is_named {
            continue;
        }
        let topic = &partition.requested.topic;
        match responses.last_mut().filter(|last| last.topic_id == topic.id && last.topic == topic.name) {
            Some(last) => last.partitions.push(data),
            None => responses.push(FetchableTopicResponse {
                topic: topic.name.clone(),
                topic_id: topic.id,
                partitions: vec![data],
            }),
        }
    }
    responses
}

/// Waits for appends until there is enough, the time is over, or the broker stops.
async fn wait_and_read(
    broker: Arc<Broker>,
    plan: Plan,
    first: First,
    deadline: Instant,
    stopping: CancellationToken,
) -> Answered<FetchResponse> {
    let notify = plan.turn.notify().unwrap_or_default();
    let mut plan = Arc::new(plan);
    let mut read = match first {
        First::Views(views) => read_where_it_may_block(&broker, &plan, views).await,
        First::Read(read) => read,
    };
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
        Arc::get_mut(&mut plan).expect("nobody reads").add_fired(&broker);
        read = read_once(&broker, &plan).await;
        if over {
            break;
        }
    }
    finish(&broker, &plan, read)
}

/// Waits on every partition that nobody watches; `None` if one of them has news already. With several partitions it is
/// their sum that counts, so each wakes at its first byte. Those of a follower's session are watched from now on, but for
/// those that its rate holds back, as nothing tells when they may be read.
fn register(plan: &Plan, read: &Read, notify: &Arc<Notify>) -> Result<Option<Vec<FetchWait>>, WaitError> {
    let only = plan.partitions.len() <= 1;
    let missing = if only { plan.min_bytes.saturating_sub(read.bytes) as u64 } else { 1 };
    let mut waits = Vec::new();
    for (partition, seen_end) in plan.partitions.iter().zip(&read.seen_ends) {
        let Ok(replica) = &partition.replica else { continue };
        let wait = match &plan.asker {
            Asker::Consumer { isolation, .. } => {
                replica.wait_fetch(notify, partition.offset, *seen_end, missing, *isolation)?
            }
            Asker::Follower { .. } if plan.turn.is_armed(&partition.requested) => continue,
            Asker::Follower { .. } => {
                let waker = plan.turn.waker(&partition.requested).filter(|_| !partition.is_slowed);
                if let Some(waker) = waker {
                    let wait = replica.wait_follower_fetch(waker, partition.offset, *seen_end)?;
                    let Some(wait) = wait else { return Ok(None) };
                    plan.turn.arm(&partition.requested, wait);
                    continue;
                }
                let notify = Arc::clone(notify);
                replica.wait_follower_fetch(move || notify.notify_one(), partition.offset, *seen_end)?
            }
        };
        match wait {
            Some(wait) => waits.push(wait),
            None => return Ok(None),
        }
    }
    Ok(Some(waits))
}
