// SPDX-License-Identifier: Apache-2.0
//! Clients: they ask brokers as Kafka's clients do, and note what they tried and what they were told. They judge
//! nothing: [`super::oracle`] does, from what they noted.

mod administrator;
mod committer;
mod consumer;
mod producer;

use std::collections::BTreeMap;

use bytes::Bytes;
use odradek_model::{LeaderEpoch, OFFSETS_TOPIC, Offset, TopicId};
use odradek_replication::ReplicaKey;

pub(super) use self::administrator::{Administrator, Exodus, Plan, SOLE};
pub(super) use self::committer::Committer;
pub(super) use self::consumer::Consumer;
pub(super) use self::producer::{Producer, ProducerKind};
use super::message::{Answer, CallId, PartitionSeen, Request};
use crate::Random;

/// Metadata older than this is asked for anew (`metadata.max.age.ms`, far shorter).
const METADATA_AGE_MS: u64 = 1_500;
/// How long a client waits for an answer.
const CLIENT_DEADLINE_MS: u64 = 4_000;

/// What a client does.
#[derive(Debug)]
pub(super) enum ClientOut {
    Call { to: usize, call: CallId, request: Request, deadline_ms: u64 },
    Wake(u64),
    Noted(Noted),
}

/// What a client saw.
#[derive(Clone, Debug)]
pub(super) enum Noted {
    /// It sends records, which may be written from now on.
    Attempted {
        key: ReplicaKey,
        values: Vec<u64>,
    },
    /// Acknowledged by all in sync.
    Acknowledged {
        key: ReplicaKey,
        base_offset: Offset,
        leader_epoch: LeaderEpoch,
        values: Vec<u64>,
    },
    /// An idempotent producer that had all it sent acknowledged was told that something before is missing.
    OutOfOrder {
        key: ReplicaKey,
        /// Of the broker that said so, as it believes.
        leader_epoch: LeaderEpoch,
    },
    Read {
        key: ReplicaKey,
        /// Which broker said so.
        from: usize,
        is_leader: bool,
        leader_epoch: LeaderEpoch,
        high_watermark: Offset,
        records: Bytes,
    },
    /// A consumer was told that what comes after what it has read does not exist, but what is between these.
    OutOfRange {
        key: ReplicaKey,
        offset: Offset,
        start: Offset,
        end: Offset,
    },
    Latest {
        key: ReplicaKey,
        offset: Offset,
    },
    /// A group's offset is sent to be committed.
    CommitTried {
        offset: Offset,
    },
    /// It is committed, says the coordinator.
    Committed {
        offset: Offset,
    },
    /// The coordinator says what is committed; the partition is that of its journal.
    OffsetFetched {
        key: ReplicaKey,
        offset: Offset,
    },
    /// From now on the topic may be gone.
    Deletes(TopicId),
}

impl Noted {
    /// Whether it is worth a line of the story.
    pub(super) fn is_news(&self) -> bool {
        matches!(self, Self::OutOfOrder { .. } | Self::OutOfRange { .. } | Self::Deletes(_))
    }

    /// For the hash of the history.
    pub(super) fn number(&self) -> u64 {
        match self {
            Self::Attempted { values, .. } => values[0],
            Self::Acknowledged { base_offset, .. } => *base_offset as u64 | 1 << 62,
            Self::Read { high_watermark, records, .. } => *high_watermark as u64 ^ (records.len() as u64) << 32,
            Self::Latest { offset, .. }
            | Self::OutOfRange { offset, .. }
            | Self::CommitTried { offset, .. }
            | Self::Committed { offset, .. }
            | Self::OffsetFetched { offset, .. } => *offset as u64,
            Self::OutOfOrder { .. } | Self::Deletes(_) => 7,
        }
    }
}

/// What a client knows of the cluster.
#[derive(Debug)]
struct Knowledge {
    partitions: BTreeMap<ReplicaKey, PartitionSeen>,
    /// The highest epoch heard of each partition, also of those of deleted topics: a broker that lags tells of them still.
    /// At most those that a run makes.
    epochs: BTreeMap<ReplicaKey, LeaderEpoch>,
    asked: Option<CallId>,
    asked_at: u64,
    is_stale: bool,
    /// Whether it knows the journals of groups; nobody reads or writes them as other topics.
    knows_journals: bool,
    next_call: CallId,
    random: Random,
}

impl Knowledge {
    fn new(client: usize, seed: u64) -> Self {
        Self {
            partitions: BTreeMap::new(),
            epochs: BTreeMap::new(),
            asked: None,
            asked_at: 0,
            is_stale: true,
            knows_journals: false,
            // No broker's process counts so far.
            next_call: (1 << 62) | ((client as u64) << 40),
            random: Random::new(seed),
        }
    }

    /// That of who needs coordinators, or moves replicas.
    fn with_journals(client: usize, seed: u64) -> Self {
        Self { knows_journals: true, ..Self::new(client, seed) }
    }

    fn call(&mut self, to: usize, request: Request, outs: &mut Vec<ClientOut>) -> CallId {
        self.next_call += 1;
        let call = self.next_call;
        outs.push(ClientOut::Call { to, call, request, deadline_ms: CLIENT_DEADLINE_MS });
        call
    }

    /// Asks any broker, if it is time.
    fn refresh(&mut self, now: u64, brokers: usize, outs: &mut Vec<ClientOut>) {
        let pause = if self.is_stale { 50 } else { METADATA_AGE_MS };
        if self.asked.is_none() && now >= self.asked_at + pause {
            let to = self.random.between(0, brokers as u64 - 1) as usize;
            self.asked = Some(self.call(to, Request::Metadata, outs));
            self.asked_at = now;
        }
    }

    /// Takes an answer; whether it was one to this. Leaders of earlier epochs are not believed again.
    fn answered(&mut self, call: CallId, seen: Option<Vec<PartitionSeen>>) -> bool {
        if self.asked != Some(call) {
            return false;
        }
        self.asked = None;
        if let Some(seen) = seen {
            self.is_stale = false;
            let wanted = |seen: &PartitionSeen| self.knows_journals || seen.topic.as_str() != OFFSETS_TOPIC;
            let seen: BTreeMap<_, _> = seen.into_iter().filter(wanted).map(|seen| (seen.key, seen)).collect();
            self.partitions.retain(|key, _| seen.contains_key(key));
            for (key, seen) in seen {
                let highest = self.epochs.entry(key).or_insert(-1);
                if seen.leader_epoch >= *highest {
                    *highest = seen.leader_epoch;
                    self.partitions.insert(key, seen);
                }
            }
        }
        true
    }

    fn failed(&mut self, call: CallId) -> bool {
        let was_asked = self.asked == Some(call);
        if was_asked {
            self.asked = None;
        }
        was_asked
    }

    fn leader(&self, key: ReplicaKey) -> Option<(usize, LeaderEpoch)> {
        let known = self.partitions.get(&key)?;
        Some((known.leader?.0 as usize, known.leader_epoch))
    }
}

/// A client.
#[derive(Debug)]
pub(super) enum Client {
    Producer(Box<Producer>),
    Consumer(Box<Consumer>),
    Committer(Box<Committer>),
    Administrator(Box<Administrator>),
}

impl Client {
    pub(super) fn wake(&mut self, now: u64, brokers: usize) -> Vec<ClientOut> {
        match self {
            Self::Producer(producer) => producer.wake(now, brokers),
            Self::Consumer(consumer) => consumer.wake(now, brokers),
            Self::Committer(committer) => committer.wake(now, brokers),
            Self::Administrator(administrator) => administrator.wake(now, brokers),
        }
    }

    pub(super) fn returned(&mut self, now: u64, from: usize, call: CallId, answer: Answer) -> Vec<ClientOut> {
        match self {
            Self::Producer(producer) => producer.returned(now, call, answer),
            Self::Consumer(consumer) => consumer.returned(now, from, call, answer),
            Self::Committer(committer) => committer.returned(now, call, answer),
            Self::Administrator(administrator) => administrator.returned(call, answer),
        }
    }

    pub(super) fn failed(&mut self, now: u64, call: CallId) -> Vec<ClientOut> {
        match self {
            Self::Producer(producer) => producer.failed(now, call),
            Self::Consumer(consumer) => consumer.failed(now, call),
            Self::Committer(committer) => committer.failed(now, call),
            Self::Administrator(administrator) => {
                administrator.failed(call);
                Vec::new()
            }
        }
    }
}
