// SPDX-License-Identifier: Apache-2.0
//! A consumer: reads all partitions from their beginnings, and asks for their ends now and then.

use std::collections::BTreeMap;

use odradek_model::{LeaderEpoch, Offset};
use odradek_records::Batches;
use odradek_replication::ReplicaKey;

use super::{ClientOut, Knowledge, Noted};
use crate::cluster::message::{Answer, CallId, Consume, Refusal, Request};

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
    /// Told by the last answer of each partition.
    epochs: BTreeMap<ReplicaKey, LeaderEpoch>,
}

impl Consumer {
    pub(in crate::cluster) fn new(client: usize, seed: u64) -> Self {
        Self {
            knowledge: Knowledge::new(client, seed),
            positions: BTreeMap::new(),
            asked: BTreeMap::new(),
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
            let fetch = Consume { key, leader_epoch, offset: self.position(key) };
            let call = self.knowledge.call(leader, Request::Consume(fetch), &mut outs);
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

    pub(super) fn returned(&mut self, _now: u64, call: CallId, answer: Answer) -> Vec<ClientOut> {
        let mut outs = Vec::new();
        match (answer, self.asked.remove(&call)) {
            (Answer::Metadata(seen), _) => {
                self.knowledge.answered(call, seen);
            }
            (Answer::Consumed(Ok(consumed)), Some(Asked::Records(key))) => {
                let position = self.positions.entry(key).or_default();
                for batch in Batches::new(&consumed.records).map_while(Result::ok) {
                    *position = (*position).max(batch.header.next_offset());
                }
                self.epochs.insert(key, consumed.leader_epoch);
                outs.push(ClientOut::Noted(Noted::Read {
                    key,
                    leader_epoch: consumed.leader_epoch,
                    high_watermark: consumed.high_watermark,
                    records: consumed.records,
                }));
            }
            (Answer::Consumed(Err(refusal)), Some(Asked::Records(key))) => {
                self.knowledge.is_stale = true;
                if refusal == Refusal::OutOfRange {
                    let offset = self.position(key);
                    outs.push(ClientOut::Noted(Noted::OutOfRange { key, offset }));
                    // auto.offset.reset=earliest
                    self.positions.remove(&key);
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
            self.asked.remove(&call);
            self.knowledge.is_stale = true;
        }
        Vec::new()
    }
}
