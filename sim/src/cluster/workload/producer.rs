// SPDX-License-Identifier: Apache-2.0
//! A producer: batches to any partition, one at a time for each, sent again until they are acknowledged.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use odradek_partition::Acks;
use odradek_records::{BatchBuilder, BatchOptions};
use odradek_replication::ReplicaKey;

use super::{ClientOut, Knowledge, Noted};
use crate::cluster::message::{Answer, CallId, Refusal, Request};

/// Pause after a batch that was not taken (`retry.backoff.ms`).
const RETRY_MS: u64 = 60;
const TIMESTAMP_MS: i64 = 1_700_000_000_000;

/// How it produces.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::cluster) enum ProducerKind {
    /// acks=all, with sequence numbers.
    Idempotent,
    /// acks=all without them: what is sent again may be there twice.
    All,
    /// acks=1.
    Leader,
    /// acks=0.
    None,
}

#[derive(Debug)]
struct Batch {
    values: Vec<u64>,
    bytes: Bytes,
    call: Option<CallId>,
    due: u64,
}

/// One partition.
#[derive(Debug, Default)]
struct Lane {
    next_sequence: i32,
    batch: Option<Batch>,
}

/// See the module.
#[derive(Debug)]
pub(in crate::cluster) struct Producer {
    id: u64,
    kind: ProducerKind,
    knowledge: Knowledge,
    lanes: BTreeMap<ReplicaKey, Lane>,
    /// Partitions that have gone; their sequences are over.
    gone: BTreeSet<ReplicaKey>,
    next_value: u64,
    next_batch: u64,
    /// Whether new records come.
    pub(in crate::cluster) produces: bool,
}

impl Producer {
    pub(in crate::cluster) fn new(client: usize, kind: ProducerKind, seed: u64) -> Self {
        Self {
            id: client as u64,
            kind,
            knowledge: Knowledge::new(client, seed),
            lanes: BTreeMap::new(),
            gone: BTreeSet::new(),
            next_value: 0,
            next_batch: 0,
            produces: true,
        }
    }

    /// Partitions with a batch that is not acknowledged.
    pub(in crate::cluster) fn waiting(&self) -> impl Iterator<Item = ReplicaKey> {
        self.lanes.iter().filter(|(_, lane)| lane.batch.is_some()).map(|(key, _)| *key)
    }

    /// Whether the value is of a producer whose records stand in the log once and in order.
    pub(in crate::cluster) fn is_idempotent(&self) -> bool {
        self.kind == ProducerKind::Idempotent
    }

    fn acks(&self) -> Acks {
        match self.kind {
            ProducerKind::Idempotent | ProducerKind::All => Acks::All,
            ProducerKind::Leader => Acks::Leader,
            ProducerKind::None => Acks::None,
        }
    }

    pub(super) fn wake(&mut self, now: u64, brokers: usize) -> Vec<ClientOut> {
        let mut outs = Vec::new();
        self.knowledge.refresh(now, brokers, &mut outs);
        let known = &self.knowledge.partitions;
        let gone: Vec<_> = self.lanes.keys().filter(|key| !known.contains_key(key)).copied().collect();
        for key in gone {
            self.lanes.remove(&key);
            self.gone.insert(key);
        }
        if self.produces && now >= self.next_batch && !known.is_empty() {
            self.next_batch = now + self.knowledge.random.between(5, 150);
            let place = self.knowledge.random.number() as usize % known.len();
            let key = self.knowledge.partitions.keys().nth(place).copied().expect("one of them");
            if !self.gone.contains(&key) && self.lanes.entry(key).or_default().batch.is_none() {
                self.new_batch(now, key, &mut outs);
            }
        }
        let due = self
            .lanes
            .iter()
            .filter(|(_, lane)| lane.batch.as_ref().is_some_and(|batch| batch.call.is_none() && batch.due <= now));
        for key in due.map(|(key, _)| *key).collect::<Vec<_>>() {
            self.send(now, key, &mut outs);
        }
        let next = if self.produces { self.next_batch.max(now + 1) - now } else { 40 };
        outs.push(ClientOut::Wake(next.min(40)));
        outs
    }

    fn new_batch(&mut self, now: u64, key: ReplicaKey, outs: &mut Vec<ClientOut>) {
        let count = self.knowledge.random.between(1, 4);
        let lane = self.lanes.entry(key).or_default();
        let options = match self.kind {
            ProducerKind::Idempotent => BatchOptions {
                producer_id: self.id as i64,
                producer_epoch: 0,
                base_sequence: lane.next_sequence,
                ..BatchOptions::default()
            },
            _ => BatchOptions::default(),
        };
        let mut builder = BatchBuilder::new(options);
        let mut values = Vec::new();
        for _ in 0..count {
            self.next_value += 1;
            let value = (self.id << 32) | self.next_value;
            let mut text = value.to_be_bytes().to_vec();
            text.resize(8 + self.knowledge.random.between(0, 300) as usize, 0);
            builder.append(TIMESTAMP_MS + now as i64, None, Some(&text), &[]);
            values.push(value);
        }
        lane.next_sequence += count as i32;
        outs.push(ClientOut::Noted(Noted::Attempted { key, values: values.clone() }));
        lane.batch = Some(Batch { values, bytes: builder.build(), call: None, due: now });
    }

    fn send(&mut self, now: u64, key: ReplicaKey, outs: &mut Vec<ClientOut>) {
        let acks = self.acks();
        let Some(batch) = self.lanes.get_mut(&key).and_then(|lane| lane.batch.as_mut()) else { return };
        let Some((leader, _)) = self.knowledge.leader(key) else {
            self.knowledge.is_stale = true;
            batch.due = now + RETRY_MS;
            return;
        };
        let request = Request::Produce { key, records: batch.bytes.clone(), acks };
        let call = self.knowledge.call(leader, request, outs);
        batch.call = Some(call);
        if acks == Acks::None
            && let Some(lane) = self.lanes.get_mut(&key)
        {
            lane.batch = None;
        }
    }

    fn of_call(&self, call: CallId) -> Option<ReplicaKey> {
        let mut lanes = self.lanes.iter();
        lanes.find(|(_, lane)| lane.batch.as_ref().is_some_and(|b| b.call == Some(call))).map(|(key, _)| *key)
    }

    pub(super) fn returned(&mut self, now: u64, call: CallId, answer: Answer) -> Vec<ClientOut> {
        let mut outs = Vec::new();
        match answer {
            Answer::Metadata(seen) => {
                self.knowledge.answered(call, seen);
            }
            Answer::Produced(outcome) => {
                let Some(key) = self.of_call(call) else { return outs };
                match outcome {
                    Ok(produced) => {
                        let batch = self.lanes.get_mut(&key).and_then(|lane| lane.batch.take());
                        if let Some(batch) = batch.filter(|_| self.acks() == Acks::All) {
                            outs.push(ClientOut::Noted(Noted::Acknowledged {
                                key,
                                base_offset: produced.base_offset,
                                leader_epoch: produced.leader_epoch,
                                values: batch.values,
                            }));
                        }
                    }
                    Err(Refusal::OutOfOrder { leader_epoch }) => {
                        outs.push(ClientOut::Noted(Noted::OutOfOrder { key, leader_epoch }));
                        // Kafka's producer begins anew; this one has no more to say of this partition.
                        self.lanes.remove(&key);
                        self.gone.insert(key);
                    }
                    Err(_) => self.again(now, key),
                }
            }
            other => unreachable!("{other:?}"),
        }
        outs
    }

    pub(super) fn failed(&mut self, now: u64, call: CallId) -> Vec<ClientOut> {
        if !self.knowledge.failed(call)
            && let Some(key) = self.of_call(call)
        {
            self.again(now, key);
        }
        Vec::new()
    }

    fn again(&mut self, now: u64, key: ReplicaKey) {
        self.knowledge.is_stale = true;
        if let Some(batch) = self.lanes.get_mut(&key).and_then(|lane| lane.batch.as_mut()) {
            batch.call = None;
            batch.due = now + RETRY_MS;
        }
    }
}
