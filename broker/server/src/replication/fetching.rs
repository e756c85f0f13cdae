// SPDX-License-Identifier: Apache-2.0
//! The task of one fetcher: sends what it asks for to its leader, gives the answers to the replicas, and tells the
//! fetcher what became of each.
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use odradek_model::{BrokerEpoch, TopicId};
use odradek_partition::{FetchAnswer, FetchPlan, FollowerStep, LeaderOffsets, OffsetsPlan};
use odradek_replication::{
    Ask, Fetch, FetchSettings, FetcherId, Lane, Next, Outcome, ReplicaKey, SessionAnswer, SessionStep,
};
use odradek_wire::messages::{
    FetchPartition, FetchRequest, FetchResponse, FetchTopic, ForgottenTopic, ListOffsetsPartition, ListOffsetsRequest,
    ListOffsetsTopic, PartitionData, ReplicaState,
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
                Turn::All => fetcher.next(now, step),
                Turn::Newcomers => fetcher.next_of_newcomers(now, step),
            }
        };
        let (offsets, fetch) = match next {
            Next::Ask { offsets, fetch } => (offsets, fetch),
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
            if let Some(fetch) = fetch {
                round.fetch(fetch).await;
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

    fn note_offsets(&self, ask: &Ask<OffsetsPlan>, outcome: Outcome) {
        let now = self.broker.clock.monotonic();
        self.running.lock().answered(ask.key, ask.plan.number, outcome, now);
    }

    async fn fetch(&self, fetch: Fetch) {
        let response = match self.broker_epoch() {
            Some(epoch) => {
                let request = self.request(&fetch, epoch);
                let deadline = ANSWER_TIME + Duration::from_millis(fetch.wait_ms.max(0) as u64);
                self.links.source.fetch(self.id, request, deadline).await
            }
            None => Err(SourceError("this broker is not registered".to_owned())),
        };
        let response = match response {
            Ok(response) if response.error_code == 0 => response,
            Ok(FetchResponse { error_code, .. }) => return self.refused(&fetch, error_code),
            Err(error) => return self.failed(&fetch, &error),
        };
        let asks = self.named_in(&fetch, &response);
        let session_id = response.session_id;
        let mut outcomes = Vec::new();
        let mut arrived = Vec::new();
        for (ask, data) in asks.into_iter().zip(response.responses.into_iter().flat_map(|topic| topic.partitions)) {
            let Some(ask) = ask else { continue };
            match self.arrived(ask, data) {
                Some(answer) => arrived.push(answer),
                None => outcomes.push((ask, Outcome::Failed { bytes: 0 })),
            }
        }
        outcomes.extend(self.apply(arrived).await);
        let now = self.broker.clock.monotonic();
        let mut fetcher = self.running.lock();
        for (ask, outcome) in outcomes {
            fetcher.answered(ask.key, ask.plan.number, outcome, now);
        }
        if fetch.session.is_full() {
            // Those are left of which a leader has said nothing that had to.
            for ask in &fetch.named {
                if fetcher.awaits(ask) {
                    fetcher.answered(ask.key, ask.plan.number, Outcome::Failed { bytes: 0 }, now);
                }
            }
        }
        if fetch.session != SessionStep::NONE {
            fetcher.session_answered(SessionAnswer::Continues(session_id));
        }
    }

    /// The questions to which an answer's partitions belong, in its order.
    fn named_in(&self, fetch: &Fetch, response: &FetchResponse) -> Vec<Option<Ask<FetchPlan>>> {
        let keys = response.responses.iter().flat_map(|topic| {
            let id = TopicId(topic.topic_id);
            topic.partitions.iter().map(move |data| ReplicaKey { topic: id, partition: data.partition_index })
        });
        if fetch.session == SessionStep::NONE {
            let named: HashMap<ReplicaKey, &Ask<FetchPlan>> = fetch.named.iter().map(|ask| (ask.key, ask)).collect();
            return keys.map(|key| named.get(&key).copied().copied()).collect();
        }
        let fetcher = self.running.lock();
        keys.map(|key| fetcher.question(key)).collect()
    }

    /// The leader does not go on with the session, or refuses this broker.
    fn refused(&self, fetch: &Fetch, code: i16) {
        let answer = match ErrorCode::from_code(code) {
            Some(ErrorCode::FetchSessionIdNotFound) => SessionAnswer::NotFound,
            Some(ErrorCode::InvalidFetchSessionEpoch | ErrorCode::FetchSessionTopicIdError) => SessionAnswer::Refused,
            _ => return self.failed(fetch, &SourceError(format!("the leader answered with error {code}"))),
        };
        if fetch.session.is_full() {
            return self.failed(fetch, &SourceError(format!("the leader answered with error {code} of sessions")));
        }
        tracing::debug!(leader = %self.id.leader, code, "a fetch session is begun anew");
        self.running.lock().session_answered(answer);
    }

    fn failed(&self, fetch: &Fetch, error: &SourceError) {
        let (leader, named, forgotten) = (self.id.leader, fetch.named.len(), fetch.forgotten.len());
        tracing::info!(%leader, named, forgotten, %error, "a fetch from the leader failed");
        let now = self.broker.clock.monotonic();
        let mut fetcher = self.running.lock();
        if fetch.session != SessionStep::NONE {
            return fetcher.failed(now);
        }
        for ask in &fetch.named {
            fetcher.answered(ask.key, ask.plan.number, Outcome::Failed { bytes: 0 }, now);
        }
    }

    fn request(&self, fetch: &Fetch, epoch: BrokerEpoch) -> FetchRequest {
        let int = |bytes: usize| i32::try_from(bytes).unwrap_or(i32::MAX);
        let mut topics: Vec<FetchTopic> = Vec::new();
        let mut places = HashMap::new();
        for Ask { key, plan } in &fetch.named {
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
                partition_max_bytes: int(self.settings.partition_bytes.min(fetch.request_bytes)),
                ..FetchPartition::default()
            });
        }
        let mut forgotten: BTreeMap<TopicId, Vec<i32>> = BTreeMap::new();
        for key in &fetch.forgotten {
            forgotten.entry(key.topic).or_default().push(key.partition);
        }
        let forgotten = forgotten.into_iter().map(|(topic, partitions)| ForgottenTopic {
            topic_id: topic.0,
            partitions,
            ..ForgottenTopic::default()
        });
        FetchRequest {
            replica_state: ReplicaState { replica_id: self.broker.id.0, replica_epoch: epoch },
            max_wait_ms: i32::try_from(fetch.wait_ms).unwrap_or(i32::MAX),
            min_bytes: int(self.settings.min_bytes),
            max_bytes: int(fetch.request_bytes),
            session_id: fetch.session.id,
            session_epoch: fetch.session.epoch,
            topics,
            forgotten_topics_data: forgotten.collect(),
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

    async fn apply(&self, arrived: Vec<Arrived>) -> Vec<(Ask<FetchPlan>, Outcome)> {
        let bytes: usize = arrived.iter().map(|arrived| arrived.bytes).sum();
        let cuts = arrived.iter().any(|arrived| matches!(arrived.answer, FetchAnswer::Diverging { .. }));
        if bytes > INLINE_BYTES || cuts {
            on_blocking_thread(move || arrived.into_iter().map(Arrived::apply).collect()).await
        } else {
            arrived.into_iter().map(Arrived::apply).collect()
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
            Ok(true) => Outcome::Taken { bytes },
            Ok(false) => Outcome::Void { bytes },
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
