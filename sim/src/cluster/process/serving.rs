// SPDX-License-Identifier: Apache-2.0
//! What others ask of this broker: followers' fetches, produces, consumers' fetches, metadata, and what is meant for the
//! controller. Fetches and produces wait as the server has them wait (`api/fetch.rs`, `api/produce.rs`).

use odradek_model::{BrokerId, LeaderEpoch, Offset};
use odradek_partition::{
    Acks, AppendError, FetchAnswer, FollowerFetch, FollowerFetchError, FollowerFetched, Isolation, LeaderOffsets,
    LeadershipError, OffsetSpec, ProduceOutcome, ProduceWait, ReadError, WaitToken, Waiting,
};
use odradek_records::{ProduceRules, validate_produced};
use odradek_replication::ReplicaKey;

use super::control::Asker;
use super::groups::JournalWait;
use super::{Input, Out, Process};
use crate::cluster::message::{
    Answer, CallId, Consume, Consumed, Endpoint, PartitionSeen, Produced, Refusal, Replicate, Request, rack_name,
};

/// `request.timeout.ms` of producers.
const PRODUCE_WAIT_MS: u64 = 3_000;
/// `fetch.max.wait.ms` of consumers.
const CONSUME_WAIT_MS: u64 = 400;
/// Fetches look again so often at most within one moment.
const LOOKS: usize = 3;

/// A request that waits.
#[derive(Debug)]
pub(super) enum Parked {
    Replicate {
        from: Endpoint,
        call: CallId,
        fetch: Replicate,
        tokens: Vec<(ReplicaKey, WaitToken)>,
        until: u64,
    },
    Consume {
        from: Endpoint,
        call: CallId,
        fetch: Consume,
        token: WaitToken,
        until: u64,
    },
    Produce {
        from: Endpoint,
        call: CallId,
        key: ReplicaKey,
        token: WaitToken,
        base_offset: Offset,
    },
    /// A coordinator of groups.
    Journal {
        key: ReplicaKey,
        leader_epoch: LeaderEpoch,
        wait: JournalWait,
    },
}

/// One look at the partitions of a follower's fetch.
struct Looked {
    answers: Vec<(odradek_replication::Ask<odradek_partition::FetchPlan>, Option<FetchAnswer>)>,
    seen_ends: Vec<Offset>,
    is_enough: bool,
}

impl Process {
    pub(super) fn called(&mut self, from: Endpoint, call: CallId, request: Request) {
        match request {
            Request::Decide(command) => self.asked_to_decide(Asker::Broker(from, call), command),
            Request::Heartbeat(heartbeat) => self.asked_for_a_beat(from, call, heartbeat),
            Request::Admin(command) => self.asked_by_admin(from, call, command),
            Request::Replicate(fetch) => {
                let until = self.now + fetch.wait_ms.max(0) as u64;
                self.replicate(from, call, fetch, until, true);
            }
            Request::LeaderOffsets(asks) => {
                let answers = asks.into_iter().map(|ask| {
                    let view = self.replicas.get(&ask.key).map(|r| r.partition.view(Some(ask.plan.leader_epoch)));
                    let offsets = view.and_then(Result::ok).map(|view| LeaderOffsets {
                        log_start: view.log_start_offset(),
                        log_end: view.log_end_offset(),
                    });
                    (ask, offsets)
                });
                let answers = answers.collect();
                self.answer(from, call, Answer::LeaderOffsets(answers));
            }
            Request::Metadata => {
                let seen = self.serves.then(|| self.seen());
                self.answer(from, call, Answer::Metadata(seen));
            }
            Request::Produce { key, records, acks } => {
                let outcome = self.produce(from, call, key, &records, acks);
                if let Some(answer) = outcome.filter(|_| acks != Acks::None) {
                    self.answer(from, call, Answer::Produced(answer));
                }
            }
            Request::Consume(fetch) => {
                let until = self.now + CONSUME_WAIT_MS;
                self.consume(from, call, fetch, until);
            }
            Request::Group(group, request) => self.asked_for_group(from, call, &group, request),
            Request::ConfirmLeadership(asked) => self.asked_to_confirm(from, call, &asked),
            Request::LatestOffset { key, leader_epoch } => {
                let view = self.replicas.get(&key).map(|replica| replica.partition.view(Some(leader_epoch)));
                let listed = view.and_then(Result::ok).filter(|_| self.serves);
                let listed =
                    listed.and_then(|view| view.list_offset(OffsetSpec::Latest, Isolation::ReadUncommitted).ok());
                let answer = listed.map(|listed| listed.offset).ok_or(Refusal::Again);
                self.answer(from, call, Answer::LatestOffset(answer));
            }
        }
    }

    fn seen(&self) -> Vec<PartitionSeen> {
        let of = |topic: &std::sync::Arc<odradek_metadata::TopicImage>| {
            let (id, name) = (topic.id, topic.name.clone());
            let partitions = topic.partitions.iter().enumerate();
            let seen = partitions.map(move |(index, partition)| PartitionSeen {
                key: ReplicaKey { topic: id, partition: index as i32 },
                topic: name.clone(),
                leader: partition.leader,
                leader_epoch: partition.leader_epoch,
                replicas: partition.replicas.clone(),
            });
            seen.collect::<Vec<_>>()
        };
        self.applied.topics().flat_map(of).collect()
    }

    pub(super) fn token(&mut self, parked: u64) -> WaitToken {
        let token = WaitToken(self.number());
        self.tokens.insert(token, parked);
        token
    }

    fn forget(&mut self, key: ReplicaKey, token: WaitToken) {
        self.tokens.remove(&token);
        if let Some(replica) = self.replicas.get_mut(&key) {
            replica.partition.cancel(token);
        }
    }

    /// What a request waited for has happened.
    pub(super) fn wake(&mut self, parked: u64) {
        match self.parked.remove(&parked) {
            Some(Parked::Replicate { from, call, fetch, tokens, until }) => {
                for (key, token) in tokens {
                    self.forget(key, token);
                }
                self.replicate(from, call, fetch, until, false);
            }
            Some(Parked::Consume { from, call, fetch, until, .. }) => self.consume(from, call, fetch, until),
            Some(waits @ (Parked::Produce { .. } | Parked::Journal { .. })) => {
                self.parked.insert(parked, waits);
            }
            None => {}
        }
    }

    pub(super) fn wait_over(&mut self, parked: u64) {
        if let Some(Parked::Produce { from, call, key, token, .. }) = self.parked.get(&parked) {
            let (from, call, key, token) = (*from, *call, *key, *token);
            self.parked.remove(&parked);
            self.forget(key, token);
            self.answer(from, call, Answer::Produced(Err(Refusal::Again)));
        } else {
            if let Some(Parked::Consume { fetch, token, .. }) = self.parked.get(&parked) {
                let (key, token) = (fetch.key, *token);
                self.forget(key, token);
            }
            self.wake(parked);
        }
    }

    // === followers ===

    /// `is_first` when the request has just come: what a follower says of itself counts once.
    fn replicate(&mut self, from: Endpoint, call: CallId, fetch: Replicate, until: u64, is_first: bool) {
        let mut is_first = is_first;
        for _ in 0..LOOKS {
            let looked = self.look(&fetch, is_first);
            is_first = false;
            if looked.is_enough || self.now >= until {
                self.answer(from, call, Answer::Replicate(looked.answers));
                return;
            }
            let parked = self.number();
            let mut tokens = Vec::new();
            let mut is_ready = false;
            for (ask, seen_end) in fetch.asks.iter().zip(looked.seen_ends) {
                let token = self.token(parked);
                let Some(replica) = self.replicas.get_mut(&ask.key) else { continue };
                match replica.partition.wait_follower_fetch(token, ask.plan.fetch_offset, seen_end) {
                    Ok(Waiting::Registered) => tokens.push((ask.key, token)),
                    Ok(Waiting::Ready) | Err(_) => {
                        self.tokens.remove(&token);
                        is_ready = true;
                    }
                }
            }
            if !is_ready {
                self.parked.insert(parked, Parked::Replicate { from, call, fetch, tokens, until });
                self.out.push(Out::After(until - self.now, Input::WaitOver(parked)));
                return;
            }
            for (key, token) in tokens {
                self.forget(key, token);
            }
        }
        let looked = self.look(&fetch, false);
        self.answer(from, call, Answer::Replicate(looked.answers));
    }

    fn look(&mut self, fetch: &Replicate, is_first: bool) -> Looked {
        let now = self.monotonic();
        let mut looked = Looked { answers: Vec::new(), seen_ends: Vec::new(), is_enough: false };
        let mut left = fetch.request_bytes;
        for ask in &fetch.asks {
            let plan = &ask.plan;
            let request = FollowerFetch {
                replica: fetch.from,
                broker_epoch: fetch.broker_epoch,
                leader_epoch: plan.leader_epoch,
                fetch_offset: plan.fetch_offset,
                last_fetched_epoch: plan.last_fetched_epoch,
                log_start_offset: plan.log_start_offset,
            };
            let fetched = match self.replicas.get_mut(&ask.key) {
                Some(replica) if is_first => match replica.partition.follower_fetch(&request, now) {
                    Ok((fetched, effects)) => {
                        self.carry_out(ask.key, effects);
                        Some(Ok(fetched))
                    }
                    Err(error) => Some(Err(error)),
                },
                Some(replica) => Some(replica.partition.follower_view(&request)),
                None => None,
            };
            let mut seen_end = -1;
            let answer = match fetched {
                Some(Ok(FollowerFetched::Read(view))) => {
                    seen_end = view.log_end_offset();
                    let bytes = self.answer_bytes.min(left);
                    let is_empty = looked.answers.is_empty();
                    match view.read_for_follower(plan.fetch_offset, bytes, is_empty || left == fetch.request_bytes) {
                        Ok(fetched) => {
                            left = left.saturating_sub(fetched.records.len());
                            looked.is_enough |= !fetched.records.is_empty();
                            Some(FetchAnswer::Records {
                                records: fetched.records,
                                high_watermark: fetched.high_watermark,
                                log_start_offset: fetched.log_start_offset,
                            })
                        }
                        Err(ReadError::OffsetOutOfRange { .. }) => Some(FetchAnswer::OutOfRange),
                        Err(_) => None,
                    }
                }
                Some(Ok(FollowerFetched::Diverging { epoch, end_offset })) => {
                    Some(FetchAnswer::Diverging { epoch, end_offset })
                }
                Some(Err(FollowerFetchError::OffsetOutOfRange { .. })) => Some(FetchAnswer::OutOfRange),
                Some(Err(FollowerFetchError::Leadership(LeadershipError::Fenced { .. }))) => Some(FetchAnswer::Fenced),
                Some(Err(_)) | None => None,
            };
            looked.is_enough |= !matches!(answer, Some(FetchAnswer::Records { .. }));
            looked.seen_ends.push(seen_end);
            looked.answers.push((*ask, answer));
        }
        looked
    }

    // === clients ===

    /// `None` if the answer comes later, or never.
    fn produce(
        &mut self,
        from: Endpoint,
        call: CallId,
        key: ReplicaKey,
        records: &bytes::Bytes,
        acks: Acks,
    ) -> Option<Result<Produced, Refusal>> {
        let wall_ms = self.wall_ms();
        if !self.serves {
            return Some(Err(Refusal::Again));
        }
        let Some(replica) = self.replicas.get_mut(&key) else { return Some(Err(Refusal::Again)) };
        let batch = validate_produced(records, &ProduceRules::new(&replica.settings, 13), wall_ms)
            .expect("clients send good batches");
        let (appended, effects) = match replica.partition.append(batch, acks, None, wall_ms) {
            Ok(appended) => appended,
            Err(AppendError::Log(odradek_partition::AppendRefusal::OutOfOrderSequence { .. })) => {
                return Some(Err(Refusal::OutOfOrder { leader_epoch: replica.partition.leader_epoch() }));
            }
            Err(_) => {
                self.check_log(key);
                return Some(Err(Refusal::Again));
            }
        };
        let leader_epoch = replica.partition.leader_epoch();
        self.carry_out(key, effects);
        let produced = Produced { base_offset: appended.base_offset, leader_epoch };
        if acks != Acks::All {
            return Some(Ok(produced));
        }
        let parked = self.number();
        let token = self.token(parked);
        let Some(replica) = self.replicas.get_mut(&key) else { return Some(Err(Refusal::Again)) };
        match replica.partition.wait_produce(token, appended.required_offset) {
            Ok(ProduceWait::Registered) => {
                let base_offset = appended.base_offset;
                self.parked.insert(parked, Parked::Produce { from, call, key, token, base_offset });
                self.out.push(Out::After(PRODUCE_WAIT_MS, Input::WaitOver(parked)));
                None
            }
            Ok(ProduceWait::Done(ProduceOutcome::Committed)) => {
                self.tokens.remove(&token);
                Some(Ok(produced))
            }
            Ok(ProduceWait::Done(_)) | Err(_) => {
                self.tokens.remove(&token);
                Some(Err(Refusal::Again))
            }
        }
    }

    /// Who should serve the consumer instead of this leader.
    fn nearer(&self, fetch: &Consume, rack: &str) -> Option<BrokerId> {
        let partition = &self.replicas.get(&fetch.key)?.partition;
        let rack_of = |id| self.applied.broker(id).filter(|broker| !broker.fenced)?.rack.as_deref();
        partition.preferred_read_replica(rack, fetch.offset, Some(fetch.leader_epoch), rack_of).ok()?
    }

    fn consume(&mut self, from: Endpoint, call: CallId, fetch: Consume, until: u64) {
        for _ in 0..LOOKS {
            let view = match self.replicas.get(&fetch.key) {
                Some(replica) if self.serves => {
                    let nearer = fetch.rack.and_then(|rack| self.nearer(&fetch, &rack_name(rack)));
                    match (nearer, fetch.rack) {
                        (None, None) => replica.partition.view(Some(fetch.leader_epoch)),
                        (None, Some(_)) => replica.partition.replica_view(Some(fetch.leader_epoch)),
                        (Some(nearer), _) => {
                            let consumed = Consumed {
                                records: bytes::Bytes::new(),
                                nearer: Some(nearer),
                                high_watermark: replica.partition.high_watermark(),
                                leader_epoch: fetch.leader_epoch,
                            };
                            self.answer(from, call, Answer::Consumed(Ok(consumed)));
                            return;
                        }
                    }
                }
                _ => Err(LeadershipError::NotLeader),
            };
            let read = view.map_err(|_| Refusal::Again).and_then(|view| {
                let read = view.read(fetch.offset, self.answer_bytes, Isolation::ReadUncommitted, true);
                match read {
                    Ok(fetched) => Ok((fetched, view.leader_epoch(), view.visible_end(Isolation::ReadUncommitted))),
                    Err(ReadError::OffsetOutOfRange { start, end, .. }) => Err(Refusal::OutOfRange { start, end }),
                    Err(_) => Err(Refusal::Again),
                }
            });
            let (fetched, leader_epoch, seen_end) = match read {
                Ok(read) => read,
                Err(refusal) => {
                    self.answer(from, call, Answer::Consumed(Err(refusal)));
                    return;
                }
            };
            if !fetched.records.is_empty() || self.now >= until {
                let (records, high_watermark) = (fetched.records, fetched.high_watermark);
                let consumed = Consumed { records, nearer: None, high_watermark, leader_epoch };
                self.answer(from, call, Answer::Consumed(Ok(consumed)));
                return;
            }
            let parked = self.number();
            let token = self.token(parked);
            let Some(replica) = self.replicas.get_mut(&fetch.key) else { continue };
            match replica.partition.wait_fetch(token, fetch.offset, seen_end, 1, Isolation::ReadUncommitted) {
                Ok(Waiting::Registered) => {
                    self.parked.insert(parked, Parked::Consume { from, call, fetch, token, until });
                    self.out.push(Out::After(until - self.now, Input::WaitOver(parked)));
                    return;
                }
                Ok(Waiting::Ready) | Err(_) => {
                    self.tokens.remove(&token);
                }
            }
        }
        self.answer(from, call, Answer::Consumed(Err(Refusal::Again)));
    }
}
