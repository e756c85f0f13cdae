// SPDX-License-Identifier: Apache-2.0
//! A consumer: reads all partitions from their beginnings, and asks for their ends now and then.

use std::collections::BTreeMap;

use odradek_model::{LeaderEpoch, Offset};
use odradek_records::Batches;
use odradek_replication::ReplicaKey;

use super::{ClientOut, Knowledge, Noted};
use crate::cluster::message::{Answer, CallId, Consume, Refusal, Request};

/// How long it reads from a nearer replica before it asks the leader again.
const NEARER_MS: u64 = 2_000;

#[derive(Clone, Copy, Debug)]
enum Asked {
    Records(ReplicaKey),
    End(ReplicaKey),
}

/// See the module.
#[derive(Debug)]
pub(in crate::cluster) struct Consumer {
    knowledge: Knowledge,
    positions: BTreeMap<ReplicaKey, Offset>,
    asked: BTreeMap<CallId, Asked>,
    /// In which rack it is, if in any.
    rack: Option<u8>,
    /// Whom it reads from instead of the leader, until when (`metadata.max.age.ms`).
    nearer: BTreeMap<ReplicaKey, (usize, u64)>,
    /// Told by the last answer of each partition.
    epochs: BTreeMap<ReplicaKey, LeaderEpoch>,
}

impl Consumer {
    pub(in crate::cluster) fn new(client: usize, rack: Option<u8>, seed: u64) -> Self {
        Self {
            knowledge: Knowledge::new(client, seed),
            positions: BTreeMap::new(),
            asked: BTreeMap::new(),
            rack,
            nearer: BTreeMap::new(),
            epochs: BTreeMap::new(),
        }
    }

    /// Where it reads next.
    pub(in crate::cluster) fn position(&self, key: ReplicaKey) -> Offset {
        self.positions.get(&key).copied().unwrap_or(0)
    }

    pub(super) fn wake(&mut self, now: u64, brokers: usize) -> Vec<ClientOut> {
        let mut outs = Vec::new();
        self.knowledge.refresh(now, brokers, &mut outs);
        let asks = |asked: &Asked, key| matches!(asked, Asked::Records(other) if *other == key);
        for key in self.knowledge.partitions.keys().copied().collect::<Vec<_>>() {
            if self.asked.values().any(|asked| asks(asked, key)) {
                continue;
            }
            let Some((leader, leader_epoch)) = self.knowledge.leader(key) else {
                self.knowledge.is_stale = true;
                continue;
            };
            let fetch = Consume { key, leader_epoch, offset: self.position(key), rack: self.rack };
            let nearer = self.nearer.get(&key).filter(|(_, until)| now < *until).map(|(nearer, _)| *nearer);
            let call = self.knowledge.call(nearer.unwrap_or(leader), Request::Consume(fetch), &mut outs);
            self.asked.insert(call, Asked::Records(key));
            let ends = self.asked.values().any(|asked| matches!(asked, Asked::End(_)));
            if !ends && self.knowledge.random.per_mille(100) {
                let call = self.knowledge.call(leader, Request::LatestOffset { key, leader_epoch }, &mut outs);
                self.asked.insert(call, Asked::End(key));
            }
        }
        let pause = self.knowledge.random.between(20, 200);
        outs.push(ClientOut::Wake(pause));
        outs
    }

    pub(super) fn returned(&mut self, now: u64, from: usize, call: CallId, answer: Answer) -> Vec<ClientOut> {
        let mut outs = Vec::new();
        match (answer, self.asked.remove(&call)) {
            (Answer::Metadata(seen), _) => {
                self.knowledge.answered(call, seen);
            }
            (Answer::Consumed(Ok(consumed)), Some(Asked::Records(key))) => {
                if let Some(nearer) = consumed.nearer {
                    self.nearer.insert(key, (nearer.0 as usize, now + NEARER_MS));
                    return outs;
                }
                let position = self.positions.entry(key).or_default();
                for batch in Batches::new(&consumed.records).map_while(Result::ok) {
                    *position = (*position).max(batch.header.next_offset());
                }
                self.epochs.insert(key, consumed.leader_epoch);
                outs.push(ClientOut::Noted(Noted::Read {
                    key,
                    from,
                    is_leader: self.nearer.get(&key).is_none_or(|(nearer, _)| *nearer != from),
                    leader_epoch: consumed.leader_epoch,
                    high_watermark: consumed.high_watermark,
                    records: consumed.records,
                }));
            }
            (Answer::Consumed(Err(refusal)), Some(Asked::Records(key))) => {
                self.knowledge.is_stale = true;
                if self.nearer.remove(&key).is_some_and(|(nearer, _)| nearer == from) {
                    // A follower may be behind: the leader knows.
                    return outs;
                }
                if let Refusal::OutOfRange { start, end } = refusal {
                    let offset = self.position(key);
                    outs.push(ClientOut::Noted(Noted::OutOfRange { key, offset, start, end }));
                    // auto.offset.reset=earliest
                    self.positions.insert(key, start);
                }
            }
            (Answer::LatestOffset(Ok(offset)), Some(Asked::End(key))) => {
                outs.push(ClientOut::Noted(Noted::Latest { key, offset }));
            }
            (Answer::LatestOffset(Err(_)), Some(Asked::End(_))) => {}
            (answer, _) => unreachable!("{answer:?}"),
        }
        outs
    }

    pub(super) fn failed(&mut self, _now: u64, call: CallId) -> Vec<ClientOut> {
        if !self.knowledge.failed(call) {
            if let Some(Asked::Records(key)) = self.asked.remove(&call) {
                self.nearer.remove(&key);
            }
            self.knowledge.is_stale = true;
        }
        Vec::new()
    }
}
