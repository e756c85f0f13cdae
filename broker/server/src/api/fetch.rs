// SPDX-License-Identifier: Apache-2.0
//! Fetch (1): reads batches, or waits until there are enough (rules 22-27, 30, 31), for consumers and for followers. No
//! session is ever opened: who asks for one is answered as sessionless, who names one as Kafka answers after a restart.
//!
//! A follower is taken at its word about how far it has come, so only a broker that has introduced itself may ask as
//! one. It sees all of the log, and its first look tells the partition what it has.
//!
//! The budget for reads is taken before a log is touched, as much as the request may return; the first batch is always
//! allowed (rule 22). A waiting request holds no budget and no bytes but its own; a partition's append wakes it.
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use odradek_disk::FileRegion;
use odradek_model::{BrokerEpoch, BrokerId, LeaderEpoch, Offset, TopicId};
use odradek_partition::{FollowerFetch, FollowerFetched, Isolation, PartitionView, WaitError};
use odradek_wire::messages::{FetchEpochEndOffset, FetchRequest, FetchResponse, FetchableTopicResponse, PartitionData};
use odradek_wire::{ErrorCode, Records, Text};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{current_leader, on_blocking_thread, replica_of};
use crate::broker::Broker;
use crate::dispatch::{Answer, Answered, Call};
use crate::error_table::{follower_fetch_code, leadership_code, read_code};
use crate::metrics::Counted;
use crate::net::budget::Charge;
use crate::replica::{ConsumerView, FetchWait, Replica};

/// A client that asks to wait longer is answered after this; it asks again. Five minutes outlast every client's own
/// request timeout.
const LONGEST_WAIT: Duration = Duration::from_mins(5);

/// Session epochs of requests that name all their partitions (KIP-227): to open a session, and without one.
const NEW_SESSION: i32 = 0;
const NO_SESSION: i32 = -1;

/// Who asks.
enum Asker {
    Consumer {
        isolation: Isolation,
        /// Whether it may read where this broker follows: it knows of followers (KIP-392).
        may_follow: bool,
        /// Empty if it has none.
        rack: Text,
    },
    Follower {
        id: BrokerId,
        epoch: BrokerEpoch,
    },
}

/// A request, resolved to replicas.
struct Plan {
    asker: Asker,
    topics: Vec<TopicPlan>,
    max_bytes: usize,
    min_bytes: usize,
    version: i16,
    listener: Arc<str>,
}

impl Plan {
    fn partitions(&self) -> impl Iterator<Item = &PartitionPlan> {
        self.topics.iter().flat_map(|topic| &topic.partitions)
    }

    /// The end that who asks may see.
    fn visible_end(&self, view: &PartitionView) -> Offset {
        match &self.asker {
            Asker::Consumer { isolation, .. } => view.visible_end(*isolation),
            Asker::Follower { .. } => view.log_end_offset(),
        }
    }
}

struct TopicPlan {
    name: Text,
    id: Uuid,
    partitions: Vec<PartitionPlan>,
}

struct PartitionPlan {
    index: i32,
    replica: Result<Arc<Replica>, ErrorCode>,
    offset: Offset,
    max_bytes: usize,
    current_epoch: Option<LeaderEpoch>,
    last_epoch: Option<LeaderEpoch>,
    /// Of a follower's log.
    log_start_offset: Offset,
    /// Whether what a follower gets counts against the leader's rate.
    is_slowed: bool,
}

impl PartitionPlan {
    fn of_follower(&self, replica: BrokerId, broker_epoch: BrokerEpoch) -> FollowerFetch {
        FollowerFetch {
            replica,
            broker_epoch,
            leader_epoch: self.current_epoch.unwrap_or(-1),
            fetch_offset: self.offset,
            last_fetched_epoch: self.last_epoch,
            log_start_offset: self.log_start_offset,
        }
    }
}

pub(crate) fn handle(broker: &Arc<Broker>, call: &Call<'_>, request: FetchRequest) -> Answer<FetchResponse> {
    if call.version >= 7 && !matches!(request.session_epoch, NEW_SESSION | NO_SESSION) {
        let error_code = ErrorCode::FetchSessionIdNotFound.code();
        return Answer::now(FetchResponse { error_code, ..FetchResponse::default() });
    }
    let replica_id = if call.version >= 15 { request.replica_state.replica_id } else { request.replica_id };
    if !call.peer.introduction.may_act_as(replica_id) {
        return Answer::now(refuse(&request, ErrorCode::ClusterAuthorizationFailed));
    }
    let plan = plan(broker, call, &request, replica_id);
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

fn plan(broker: &Broker, call: &Call<'_>, request: &FetchRequest, replica_id: i32) -> Plan {
    let version = call.version;
    let most = broker.settings.number("fetch.max.bytes") as usize;
    let by_id = version >= 13;
    let asker = if replica_id >= 0 {
        Asker::Follower { id: BrokerId(replica_id), epoch: request.replica_state.replica_epoch }
    } else {
        let isolation = super::isolation(request.isolation_level);
        Asker::Consumer { isolation, may_follow: version >= 11, rack: request.rack_id.clone() }
    };
    let is_slowed = |replica: &Result<Arc<Replica>, ErrorCode>| match (&asker, replica) {
        (Asker::Follower { id, .. }, Ok(replica)) => replica.is_slowed_for(broker.id, *id),
        (Asker::Consumer { .. }, _) | (_, Err(_)) => false,
    };
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
                is_slowed: is_slowed(&replica),
                replica,
                offset: partition.fetch_offset,
                max_bytes: usize::try_from(partition.partition_max_bytes).unwrap_or(0),
                current_epoch: Some(partition.current_leader_epoch).filter(|epoch| *epoch >= 0),
                last_epoch: Some(partition.last_fetched_epoch).filter(|epoch| *epoch >= 0),
                log_start_offset: partition.log_start_offset,
            }
        });
        TopicPlan { name: topic.topic.clone(), id: topic.topic_id, partitions: partitions.collect() }
    });
    let topics = topics.collect();
    let max_bytes = usize::try_from(request.max_bytes).unwrap_or(0).min(most);
    Plan {
        asker,
        topics,
        max_bytes,
        // More than may be sent can never be reached (KafkaApis caps it the same way).
        min_bytes: usize::try_from(request.min_bytes).unwrap_or(0).min(max_bytes),
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
    /// Whether a partition's answer must not wait for more: an error, another log, another replica to read from.
    is_due: bool,
    charge: Option<Charge>,
    /// Where the records are that are sent from files, in the response's order.
    files: Vec<FileRegion>,
}

impl Read {
    /// Whether the answer is due before the wait is over (`DelayedFetch`): enough bytes, an error, nothing asked.
    fn is_enough(&self, plan: &Plan) -> bool {
        self.is_due || self.bytes >= plan.min_bytes || plan.partitions().next().is_none()
    }

    fn answer(self) -> Answered<FetchResponse> {
        Answered { response: self.response, charge: self.charge, files: self.files }
    }
}

/// What a partition has for who asks.
enum Seen {
    /// Read from here.
    Here(PartitionView),
    /// The same for a throttled follower, with the bytes that it may have now.
    Slowed(PartitionView, usize),
    /// It has read what is not in this log, which ends there in that epoch.
    Diverging(LeaderEpoch, Offset),
    /// That replica is nearer.
    Elsewhere(BrokerId, PartitionView),
}

type View = Result<Seen, ErrorCode>;

/// Whether a request has just come: what a follower says of itself counts once.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Look {
    First,
    Again,
}

fn views(broker: &Broker, plan: &Plan, look: Look) -> Vec<View> {
    let any_slowed = plan.partitions().any(|partition| partition.is_slowed);
    let may_send = if any_slowed { broker.replication.may_send(broker.clock.monotonic()) } else { usize::MAX };
    let view = |partition: &PartitionPlan| {
        let replica = partition.replica.as_ref().map_err(|code| *code)?;
        match &plan.asker {
            Asker::Follower { id, epoch } => {
                let fetch = partition.of_follower(*id, *epoch);
                let fetched = match look {
                    Look::First => replica.follower_fetch(&fetch),
                    Look::Again => replica.follower_view(&fetch),
                };
                match fetched.map_err(|error| follower_fetch_code(&error))? {
                    FollowerFetched::Read(view) if partition.is_slowed => Ok(Seen::Slowed(view, may_send)),
                    FollowerFetched::Read(view) => Ok(Seen::Here(view)),
                    FollowerFetched::Diverging { epoch, end_offset } => Ok(Seen::Diverging(epoch, end_offset)),
                }
            }
            Asker::Consumer { may_follow, rack, .. } => {
                let (epoch, offset) = (partition.current_epoch, partition.offset);
                let view = replica.consumer_view(epoch, *may_follow, offset, partition.last_epoch);
                match view.map_err(|error| read_code(&error))? {
                    ConsumerView::Diverging { epoch, end_offset } => Ok(Seen::Diverging(epoch, end_offset)),
                    ConsumerView::Read(view) if *may_follow && !rack.is_empty() && replica.leads() => {
                        let nearer = nearer_replica(broker, plan, partition, replica, rack)?;
                        Ok(nearer.map_or(Seen::Here(view.clone()), |nearer| Seen::Elsewhere(nearer, view)))
                    }
                    ConsumerView::Read(view) => Ok(Seen::Here(view)),
                }
            }
        }
    };
    plan.partitions().map(view).collect()
}

/// The replica in the consumer's rack, if there is one that holds what it wants (rule 31).
fn nearer_replica(
    broker: &Broker,
    plan: &Plan,
    partition: &PartitionPlan,
    replica: &Replica,
    rack: &str,
) -> Result<Option<BrokerId>, ErrorCode> {
    let image = broker.image();
    let rack_of = |id| {
        let member = image.broker(id).filter(|member| !member.fenced)?;
        broker.endpoint(member, &plan.listener)?;
        member.rack.as_deref()
    };
    let preferred = replica.preferred_read_replica(rack, partition.offset, partition.current_epoch, rack_of);
    preferred.map_err(|error| leadership_code(&error))
}

/// What a pass may do.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Disk {
    /// Nothing that may wait for the disk: who is far behind must not hold up a thread that serves others.
    InMemory,
    /// Wait: the pass is on a thread of its own.
    MayWait,
}

/// Records from this length on are sent from the file; below, a read costs less than another call to the socket.
const SEND_FROM: usize = 32 << 10;

/// Looks again, and reads here, or on a thread that may block if it may have to.
async fn read_once(broker: &Arc<Broker>, plan: &Arc<Plan>) -> Read {
    read_where_it_may_block(broker, plan, views(broker, plan, Look::Again)).await
}

async fn read_where_it_may_block(broker: &Arc<Broker>, plan: &Arc<Plan>, views: Vec<View>) -> Read {
    if let Some(read) = read_views(broker, plan, &views, Disk::InMemory) {
        return read;
    }
    broker.metrics.cold_fetches.inc();
    let (broker, plan) = (Arc::clone(broker), Arc::clone(plan));
    let read = move || read_views(&broker, &plan, &views, Disk::MayWait).expect("a pass that may wait is finished");
    on_blocking_thread(read).await
}

/// `None` if it would have to wait for the disk, and may not.
fn read_views(broker: &Broker, plan: &Plan, views: &[View], disk: Disk) -> Option<Read> {
    let seen_end = |view: &View| match view {
        Ok(Seen::Here(view) | Seen::Slowed(view, _)) => plan.visible_end(view),
        Ok(Seen::Diverging(..) | Seen::Elsewhere(..)) | Err(_) => -1,
    };
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
    let mut views = views.iter();
    let mut total = 0;
    let (mut is_due, mut slowed_bytes) = (false, 0);
    let mut files = Vec::new();
    let mut responses = Vec::with_capacity(plan.topics.len());
    for topic in &plan.topics {
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for (partition, view) in topic.partitions.iter().zip(&mut views) {
            let max_bytes = partition.max_bytes.min(left);
            let data = match locate(plan, partition, view, max_bytes) {
                Some((data, file)) => {
                    files.push(file);
                    data
                }
                None if disk == Disk::InMemory && may_block(plan, partition, view) => return None,
                None => read_partition(plan, partition, view, max_bytes, total == 0),
            };
            let bytes = data.records.as_ref().map_or(0, Records::len);
            left = left.saturating_sub(bytes);
            total += bytes;
            slowed_bytes += if partition.is_slowed { bytes } else { 0 };
            is_due |= data.error_code != 0 || !matches!(view, Ok(Seen::Here(_) | Seen::Slowed(..)));
            partitions.push(data);
        }
        responses.push(FetchableTopicResponse { topic: topic.name.clone(), topic_id: topic.id, partitions });
    }
    if slowed_bytes > 0 {
        broker.replication.sent(slowed_bytes, broker.clock.monotonic());
    }
    match &mut charge {
        Some(charge) if total <= charge.bytes() => charge.shrink_to(total),
        // The first batch was larger than what was free: it is charged all the same.
        Some(charge) => charge.add(total - charge.bytes()),
        None => {}
    }
    let response = FetchResponse { responses, ..FetchResponse::default() };
    Some(Read { response, seen_ends, bytes: total, is_due, charge, files })
}

/// Records for a consumer that are long enough to be sent from the file, and in memory. Not for followers: a leader may
/// yet cut what is not committed.
fn locate(
    plan: &Plan,
    partition: &PartitionPlan,
    view: &View,
    max_bytes: usize,
) -> Option<(PartitionData, FileRegion)> {
    let (Ok(Seen::Here(view)), Asker::Consumer { isolation, .. }) = (view, &plan.asker) else { return None };
    let file = view.locate(partition.offset, max_bytes, *isolation, SEND_FROM)?;
    let watermarks = (view.high_watermark(), view.last_stable_offset(), view.log_start_offset());
    Some((partition_data(plan, partition, watermarks, Records::Elsewhere(file.len())), file))
}

/// Whether reading may have to wait for the disk.
fn may_block(plan: &Plan, partition: &PartitionPlan, view: &View) -> bool {
    let Ok(Seen::Here(view) | Seen::Slowed(view, 1..)) = view else { return false };
    match &plan.asker {
        Asker::Consumer { isolation, .. } => view.may_block(partition.offset, *isolation),
        Asker::Follower { .. } => view.may_block_for_follower(partition.offset),
    }
}

fn partition_data(
    plan: &Plan,
    partition: &PartitionPlan,
    (high_watermark, last_stable_offset, log_start_offset): (Offset, Offset, Offset),
    records: Records,
) -> PartitionData {
    // Rule 21: a list for those who ask for it. Nothing is ever aborted without transactions.
    let reads_committed = matches!(plan.asker, Asker::Consumer { isolation: Isolation::ReadCommitted, .. });
    PartitionData {
        partition_index: partition.index,
        high_watermark,
        last_stable_offset,
        log_start_offset: if plan.version >= 5 { log_start_offset } else { -1 },
        records: Some(records),
        aborted_transactions: reads_committed.then(Vec::new),
        ..PartitionData::default()
    }
}

fn read_partition(plan: &Plan, partition: &PartitionPlan, view: &View, max_bytes: usize, first: bool) -> PartitionData {
    let nothing = || Records::from(Bytes::new());
    let read = match view {
        Ok(Seen::Here(view)) => match &plan.asker {
            Asker::Consumer { isolation, .. } => view.read(partition.offset, max_bytes, *isolation, first),
            Asker::Follower { .. } => view.read_for_follower(partition.offset, max_bytes, first),
        }
        .map_err(|error| read_code(&error)),
        Ok(Seen::Slowed(view, bytes)) => {
            let read = view.read_for_follower(partition.offset, max_bytes.min(*bytes), first && *bytes > 0);
            read.map_err(|error| read_code(&error))
        }
        Ok(Seen::Diverging(epoch, end_offset)) => {
            let diverging_epoch = FetchEpochEndOffset { epoch: *epoch, end_offset: *end_offset };
            let data = partition_data(plan, partition, (-1, -1, -1), nothing());
            return PartitionData { diverging_epoch, ..data };
        }
        Ok(Seen::Elsewhere(nearer, view)) => {
            let watermarks = (view.high_watermark(), view.last_stable_offset(), view.log_start_offset());
            let data = partition_data(plan, partition, watermarks, nothing());
            return PartitionData { preferred_read_replica: nearer.0, ..data };
        }
        Err(code) => Err(*code),
    };
    match read {
        Ok(fetched) => {
            let watermarks = (fetched.high_watermark, fetched.last_stable_offset, fetched.log_start_offset);
            partition_data(plan, partition, watermarks, fetched.records.into())
        }
        Err(code) => {
            // Clients of these versions do not know the code (KIP-112).
            let is_old = plan.version <= 5 && code == ErrorCode::KafkaStorageError;
            let code = if is_old { ErrorCode::NotLeaderOrFollower } else { code };
            PartitionData {
                partition_index: partition.index,
                error_code: code.code(),
                high_watermark: -1,
                records: Some(nothing()),
                ..PartitionData::default()
            }
        }
    }
}

/// Counts what is sent, and names the leader to those who believe in another.
fn finish(broker: &Broker, plan: &Plan, mut read: Read) -> Answered<FetchResponse> {
    let endpoints = &mut read.response.node_endpoints;
    let is_consumer = matches!(plan.asker, Asker::Consumer { .. });
    for (topic, response) in plan.topics.iter().zip(&mut read.response.responses) {
        for (partition, data) in topic.partitions.iter().zip(&mut response.partitions) {
            let is_outdated = [ErrorCode::NotLeaderOrFollower, ErrorCode::FencedLeaderEpoch];
            if plan.version >= 16 && is_outdated.iter().any(|code| code.code() == data.error_code) {
                let (leader, endpoint) = current_leader(broker, &plan.listener, TopicId(topic.id), partition.index);
                data.current_leader = leader;
                endpoints.extend(endpoint.filter(|new| endpoints.iter().all(|known| known.node_id != new.node_id)));
            }
            let Ok(replica) = &partition.replica else { continue };
            if !is_consumer {
                continue;
            }
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
    read.answer()
}

/// Waits for appends until there is enough, the time is over, or the broker stops.
async fn wait_and_read(
    broker: Arc<Broker>,
    plan: Plan,
    first: First,
    deadline: Instant,
    stopping: CancellationToken,
) -> Answered<FetchResponse> {
    let plan = Arc::new(plan);
    let notify = Arc::new(Notify::new());
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
        let wait = match &plan.asker {
            Asker::Consumer { isolation, .. } => {
                replica.wait_fetch(notify, partition.offset, *seen_end, missing, *isolation)?
            }
            Asker::Follower { .. } => replica.wait_follower_fetch(notify, partition.offset, *seen_end)?,
        };
        match wait {
            Some(wait) => waits.push(wait),
            None => return Ok(None),
        }
    }
    Ok(Some(waits))
}
