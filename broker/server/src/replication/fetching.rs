// SPDX-License-Identifier: Apache-2.0
//! The task of one fetcher: sends what it asks for to its leader, gives the answers to the replicas, and tells the
//! fetcher what became of each.
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use odradek_model::BrokerEpoch;
use odradek_partition::{FetchAnswer, FetchPlan, FollowerStep, LeaderOffsets, OffsetsPlan};
use odradek_replication::{Ask, FetchSettings, FetcherId, Lane, Next, Outcome, ReplicaKey};
use odradek_wire::messages::{
    FetchPartition, FetchRequest, FetchTopic, ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic,
    PartitionData, ReplicaState,
};
use odradek_wire::{ErrorCode, Records};

use super::{Links, RunningFetcher, SourceError, sleep_until, time_until};
use crate::api::on_blocking_thread;
use crate::broker::Broker;
use crate::replica::Replica;

/// An answer that has not come after this, beyond the wait that was asked for, comes no more
/// (`replica.socket.timeout.ms`): the leader's machine is gone without a word, or its disk hangs.
const ANSWER_TIME: Duration = Duration::from_secs(30);

/// Answers with more records are written on a thread that may block: a follower that catches up must not hold up the
/// threads that serve clients. Less is written in the time that handing it over would take.
const INLINE_BYTES: usize = 256 << 10;

/// ListOffsets' names for a log's ends.
const LATEST: i64 = -1;
const EARLIEST: i64 = -2;

/// Whom a task of a fetcher asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// All, whenever the last request has ended.
    All,
    /// Those that come while a request is on its way.
    Newcomers,
}

pub(super) async fn run(settings: FetchSettings, links: Links, running: Arc<RunningFetcher>, turn: Turn) {
    loop {
        let Some(broker) = links.broker.upgrade() else { return };
        let next = {
            let mut fetcher = running.lock();
            if fetcher.is_empty() {
                return;
            }
            let step = |key| broker.replica(key).map_or(FollowerStep::Nothing, |replica| replica.next_step());
            let now = broker.clock.monotonic();
            match turn {
                Turn::All => {
                    let next = fetcher.next(now, step);
                    running.is_busy.store(matches!(next, Next::Ask { .. }), Ordering::Relaxed);
                    next
                }
                Turn::Newcomers if running.is_busy.load(Ordering::Relaxed) => fetcher.next_of_newcomers(now, step),
                // The other task sees them.
                Turn::Newcomers => Next::Wait(None),
            }
        };
        let (offsets, fetches, wait_ms, request_bytes) = match next {
            Next::Ask { offsets, fetches, wait_ms, request_bytes } => (offsets, fetches, wait_ms, request_bytes),
            Next::Wait(until) => {
                let wait = until.map(|until| time_until(until, broker.clock.as_ref()));
                drop(broker);
                let wake = match turn {
                    Turn::All => &running.wake,
                    Turn::Newcomers => &running.wake_of_newcomers,
                };
                tokio::select! {
                    () = wake.notified() => {}
                    () = sleep_until(wait) => {}
                    () = links.stopping.cancelled() => return,
                }
                continue;
            }
        };
        let mut id = running.lock().id();
        if let (Turn::Newcomers, Lane::Ordinary(lane)) = (turn, id.lane) {
            id.lane = Lane::Newcomers(lane);
        }
        let round = Round { broker, links: &links, running: &running, settings, id };
        let work = async {
            if !offsets.is_empty() {
                round.ask_offsets(offsets).await;
            }
            if !fetches.is_empty() {
                round.fetch(fetches, wait_ms, request_bytes).await;
            }
        };
        tokio::select! {
            () = work => {}
            () = links.stopping.cancelled() => return,
        }
    }
}

/// One request and its answer.
struct Round<'a> {
    broker: Arc<Broker>,
    links: &'a Links,
    running: &'a RunningFetcher,
    settings: FetchSettings,
    /// Whom to ask, on which connection.
    id: FetcherId,
}

/// An answer on its way to its replica.
struct Arrived {
    replica: Arc<Replica>,
    ask: Ask<FetchPlan>,
    answer: FetchAnswer,
    bytes: usize,
}

impl Round<'_> {
    /// Under which registration this broker fetches (KIP-903); `None` while the metadata does not know it.
    fn broker_epoch(&self) -> Option<BrokerEpoch> {
        Some(self.broker.image().broker(self.broker.id)?.epoch)
    }

    fn note_fetch(&self, ask: &Ask<FetchPlan>, outcome: Outcome) {
        let now = self.broker.clock.monotonic();
        self.running.lock().answered(ask.key, ask.plan.number, outcome, now);
    }

    fn note_offsets(&self, ask: &Ask<OffsetsPlan>, outcome: Outcome) {
        let now = self.broker.clock.monotonic();
        self.running.lock().answered(ask.key, ask.plan.number, outcome, now);
    }

    async fn fetch(&self, asks: Vec<Ask<FetchPlan>>, wait_ms: i64, request_bytes: usize) {
        let response = match self.broker_epoch() {
            Some(epoch) => {
                let request = self.request(&asks, epoch, wait_ms, request_bytes);
                let deadline = ANSWER_TIME + Duration::from_millis(wait_ms.max(0) as u64);
                self.links.source.fetch(self.id, request, deadline).await
            }
            None => Err(SourceError("this broker is not registered".to_owned())),
        };
        let response = response.and_then(|response| match response.error_code {
            0 => Ok(response),
            code => Err(SourceError(format!("the leader answered with error {code}"))),
        });
        let mut unanswered: HashMap<ReplicaKey, Ask<FetchPlan>> = asks.into_iter().map(|ask| (ask.key, ask)).collect();
        match response {
            Ok(response) => {
                let mut arrived = Vec::new();
                for topic in response.responses {
                    for data in topic.partitions {
                        let key = ReplicaKey {
                            topic: odradek_model::TopicId(topic.topic_id),
                            partition: data.partition_index,
                        };
                        let Some(ask) = unanswered.remove(&key) else { continue };
                        match self.arrived(ask, data) {
                            Some(answer) => arrived.push(answer),
                            None => self.note_fetch(&ask, Outcome::Failed { bytes: 0 }),
                        }
                    }
                }
                self.apply(arrived).await;
            }
            Err(error) => {
                let leader = self.id.leader;
                tracing::info!(%leader, partitions = unanswered.len(), %error, "a fetch from the leader failed");
            }
        }
        for ask in unanswered.values() {
            self.note_fetch(ask, Outcome::Failed { bytes: 0 });
        }
    }

    fn request(&self, asks: &[Ask<FetchPlan>], epoch: BrokerEpoch, wait_ms: i64, request_bytes: usize) -> FetchRequest {
        let int = |bytes: usize| i32::try_from(bytes).unwrap_or(i32::MAX);
        let mut topics: Vec<FetchTopic> = Vec::new();
        let mut places = HashMap::new();
        for Ask { key, plan } in asks {
            let place = *places.entry(key.topic).or_insert_with(|| {
                topics.push(FetchTopic { topic_id: key.topic.0, ..FetchTopic::default() });
                topics.len() - 1
            });
            topics[place].partitions.push(FetchPartition {
                partition: key.partition,
                current_leader_epoch: plan.leader_epoch,
                fetch_offset: plan.fetch_offset,
                last_fetched_epoch: plan.last_fetched_epoch.unwrap_or(-1),
                log_start_offset: plan.log_start_offset,
                partition_max_bytes: int(self.settings.partition_bytes.min(request_bytes)),
                ..FetchPartition::default()
            });
        }
        FetchRequest {
            replica_state: ReplicaState { replica_id: self.broker.id.0, replica_epoch: epoch },
            max_wait_ms: i32::try_from(wait_ms).unwrap_or(i32::MAX),
            min_bytes: int(self.settings.min_bytes),
            max_bytes: int(request_bytes),
            topics,
            ..FetchRequest::default()
        }
    }

    /// `None`: nothing to act on, the partition waits.
    fn arrived(&self, ask: Ask<FetchPlan>, data: PartitionData) -> Option<Arrived> {
        let replica = self.broker.replica(ask.key)?;
        let (topic, index, code) = (&replica.topic, replica.index, data.error_code);
        let (diverging, records) =
            (data.diverging_epoch, data.records.and_then(Records::into_bytes).unwrap_or_default());
        let bytes = records.len();
        let answer = match ErrorCode::from_code(code) {
            Some(ErrorCode::None) if diverging.epoch >= 0 || diverging.end_offset >= 0 => {
                FetchAnswer::Diverging { epoch: diverging.epoch, end_offset: diverging.end_offset }
            }
            Some(ErrorCode::None) => FetchAnswer::Records {
                records,
                high_watermark: data.high_watermark,
                log_start_offset: data.log_start_offset,
            },
            Some(ErrorCode::OffsetOutOfRange) => FetchAnswer::OutOfRange,
            Some(ErrorCode::FencedLeaderEpoch) => FetchAnswer::Fenced,
            // Two brokers have heard of an election at different times.
            Some(
                ErrorCode::NotLeaderOrFollower
                | ErrorCode::UnknownLeaderEpoch
                | ErrorCode::UnknownTopicId
                | ErrorCode::UnknownTopicOrPartition,
            ) => {
                tracing::debug!(%topic, index, code, "the leader does not serve the partition yet, or any more");
                return None;
            }
            _ => {
                tracing::warn!(%topic, index, code, "the leader does not serve the partition");
                return None;
            }
        };
        Some(Arrived { replica, ask, answer, bytes })
    }

    async fn apply(&self, arrived: Vec<Arrived>) {
        let bytes: usize = arrived.iter().map(|arrived| arrived.bytes).sum();
        let cuts = arrived.iter().any(|arrived| matches!(arrived.answer, FetchAnswer::Diverging { .. }));
        let outcomes = if bytes > INLINE_BYTES || cuts {
            on_blocking_thread(move || arrived.into_iter().map(Arrived::apply).collect::<Vec<_>>()).await
        } else {
            arrived.into_iter().map(Arrived::apply).collect()
        };
        for (ask, outcome) in outcomes {
            self.note_fetch(&ask, outcome);
        }
    }

    /// Asks for both ends of the leader's logs. They need two requests: one may not name a partition twice.
    async fn ask_offsets(&self, asks: Vec<Ask<OffsetsPlan>>) {
        let mut ends: HashMap<ReplicaKey, [Option<i64>; 2]> = HashMap::new();
        let named = asks.iter().filter_map(|ask| {
            let replica = self.broker.replica(ask.key)?;
            Some(((replica.topic.to_string(), replica.index), ask.key))
        });
        let named: HashMap<(String, i32), ReplicaKey> = named.collect();
        for (place, timestamp) in [EARLIEST, LATEST].into_iter().enumerate() {
            let request = self.offsets_request(&asks, timestamp);
            match self.links.source.list_offsets(self.id, request, ANSWER_TIME).await {
                Ok(response) => {
                    for topic in response.topics {
                        for partition in topic.partitions.into_iter().filter(|partition| partition.error_code == 0) {
                            if let Some(key) = named.get(&(topic.name.to_string(), partition.partition_index)) {
                                ends.entry(*key).or_default()[place] = Some(partition.offset);
                            }
                        }
                    }
                }
                Err(error) => tracing::info!(leader = %self.id.leader, %error, "the leader's offsets are not known"),
            }
        }
        let applied = {
            let found: Vec<_> = asks
                .iter()
                .map(|ask| {
                    let offsets = match ends.get(&ask.key) {
                        Some([Some(log_start), Some(log_end)]) => {
                            Some(LeaderOffsets { log_start: *log_start, log_end: *log_end })
                        }
                        _ => None,
                    };
                    (*ask, self.broker.replica(ask.key).zip(offsets))
                })
                .collect();
            on_blocking_thread(move || found.into_iter().map(apply_offsets).collect::<Vec<_>>()).await
        };
        for (ask, outcome) in applied {
            self.note_offsets(&ask, outcome);
        }
    }

    fn offsets_request(&self, asks: &[Ask<OffsetsPlan>], timestamp: i64) -> ListOffsetsRequest {
        let mut topics: Vec<ListOffsetsTopic> = Vec::new();
        let mut places = HashMap::new();
        for Ask { key, plan } in asks {
            let Some(replica) = self.broker.replica(*key) else { continue };
            let place = *places.entry(key.topic).or_insert_with(|| {
                topics.push(ListOffsetsTopic { name: (*replica.topic).into(), partitions: Vec::new() });
                topics.len() - 1
            });
            topics[place].partitions.push(ListOffsetsPartition {
                partition_index: key.partition,
                current_leader_epoch: plan.leader_epoch,
                timestamp,
            });
        }
        ListOffsetsRequest { replica_id: self.broker.id.0, topics, ..ListOffsetsRequest::default() }
    }
}

impl Arrived {
    /// May block.
    fn apply(self) -> (Ask<FetchPlan>, Outcome) {
        let Self { replica, ask, answer, bytes } = self;
        let outcome = match replica.fetch_answered(&ask.plan, answer) {
            Ok(()) => Outcome::Taken { bytes },
            Err(error) => {
                tracing::warn!(topic = %replica.topic, index = replica.index, %error, "a follower pauses");
                Outcome::Failed { bytes }
            }
        };
        (ask, outcome)
    }
}

type FoundOffsets = (Ask<OffsetsPlan>, Option<(Arc<Replica>, LeaderOffsets)>);

/// Blocks.
fn apply_offsets((ask, found): FoundOffsets) -> (Ask<OffsetsPlan>, Outcome) {
    let outcome = match found {
        Some((replica, offsets)) => match replica.offsets_answered(&ask.plan, offsets) {
            Ok(()) => Outcome::Taken { bytes: 0 },
            Err(error) => {
                tracing::warn!(topic = %replica.topic, index = replica.index, %error, "a follower pauses");
                Outcome::Failed { bytes: 0 }
            }
        },
        None => Outcome::Failed { bytes: 0 },
    };
    (ask, outcome)
}
