// SPDX-License-Identifier: Apache-2.0
//! A consumer that assigns itself and does nothing but commit offsets of its group, ever higher ones, and ask for them.

use std::sync::Arc;

use odradek_groups::{
    OffsetCommit, OffsetFetch, PartitionCommit, Request as GroupRequest, Response, TopicCommit, TopicFetch,
    journal_partition,
};
use odradek_model::{OFFSETS_TOPIC, Offset, TopicId};
use odradek_replication::ReplicaKey;

use super::{ClientOut, Knowledge, Noted};
use crate::cluster::message::{Answer, CallId, Request};

/// The topic it speaks of; whether there is one is not the coordinator's business.
const TOPIC: &str = "read";
/// Pause after a question that was not answered as hoped (`retry.backoff.ms`).
const RETRY_MS: u64 = 60;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Asked {
    Commit(Offset),
    Fetch,
}

/// See the module.
#[derive(Debug)]
pub(in crate::cluster) struct Committer {
    group: String,
    knowledge: Knowledge,
    /// One question at a time.
    asked: Option<(CallId, ReplicaKey, Asked)>,
    /// What is to be committed, until it is.
    wanted: Option<Offset>,
    committed: Offset,
    due: u64,
    /// Whether new offsets come.
    pub(in crate::cluster) commits: bool,
    /// Whether it has been told the offset since its last commit.
    has_looked: bool,
}

impl Committer {
    pub(in crate::cluster) fn new(client: usize, seed: u64) -> Self {
        Self {
            group: format!("group-{client}"),
            knowledge: Knowledge::with_journals(client, seed),
            asked: None,
            wanted: None,
            committed: 0,
            due: 0,
            commits: true,
            has_looked: false,
        }
    }

    /// Whether an offset is not committed yet, or was not asked for since; and in which partition its journal is.
    pub(in crate::cluster) fn waiting(&self) -> Option<ReplicaKey> {
        self.journal().filter(|_| self.wanted.is_some() || !self.has_looked)
    }

    fn journal(&self) -> Option<ReplicaKey> {
        let journals = self.knowledge.partitions.iter().filter(|(_, seen)| seen.topic.as_str() == OFFSETS_TOPIC);
        let journals: Vec<_> = journals.map(|(key, _)| *key).collect();
        let partition = journal_partition(&self.group, i32::try_from(journals.len()).ok().filter(|count| *count > 0)?);
        journals.into_iter().find(|key| key.partition == partition)
    }

    pub(super) fn wake(&mut self, now: u64, brokers: usize) -> Vec<ClientOut> {
        let mut outs = Vec::new();
        self.knowledge.refresh(now, brokers, &mut outs);
        if self.asked.is_none() && now >= self.due {
            if let Some(key) = self.journal() {
                self.ask(now, key, &mut outs);
            } else {
                self.knowledge.is_stale = true;
            }
        }
        outs.push(ClientOut::Wake(30));
        outs
    }

    fn ask(&mut self, now: u64, key: ReplicaKey, outs: &mut Vec<ClientOut>) {
        self.due = now + self.knowledge.random.between(20, 300);
        if self.commits && self.wanted.is_none() && self.knowledge.random.per_mille(600) {
            self.wanted = Some(self.committed + self.knowledge.random.between(1, 9) as i64);
        }
        let Some((coordinator, _)) = self.knowledge.leader(key) else {
            self.knowledge.is_stale = true;
            return;
        };
        let group_id: Arc<str> = self.group.as_str().into();
        let (asked, request) = if let Some(offset) = self.wanted {
            outs.push(ClientOut::Noted(Noted::CommitTried { offset }));
            let partition = PartitionCommit { partition: 0, offset, leader_epoch: -1, metadata: None };
            let topic = TopicCommit { topic: TOPIC.into(), topic_id: TopicId::ZERO, partitions: vec![partition] };
            let commit = OffsetCommit {
                group_id,
                generation_id: -1,
                member_id: "".into(),
                group_instance_id: None,
                retention_time_ms: -1,
                knows_group_id_not_found: true,
                topics: vec![topic],
            };
            (Asked::Commit(offset), GroupRequest::Commit(commit))
        } else {
            let topic = TopicFetch { topic: TOPIC.into(), topic_id: TopicId::ZERO, partitions: vec![0] };
            let require_stable = self.knowledge.random.per_mille(500);
            let fetch = OffsetFetch { group_id, topics: Some(vec![topic]), require_stable };
            (Asked::Fetch, GroupRequest::Fetch(fetch))
        };
        let call = self.knowledge.call(coordinator, Request::Group(self.group.clone(), request), outs);
        self.asked = Some((call, key, asked));
    }

    pub(super) fn returned(&mut self, now: u64, call: CallId, answer: Answer) -> Vec<ClientOut> {
        let mut outs = Vec::new();
        let answer = match answer {
            Answer::Metadata(seen) => {
                self.knowledge.answered(call, seen);
                return outs;
            }
            Answer::Group(answer) => answer.ok(),
            other => unreachable!("{other:?}"),
        };
        let Some((_, key, asked)) = self.asked.take_if(|(asked, ..)| *asked == call) else { return outs };
        match (asked, answer) {
            (Asked::Commit(offset), Some(Response::Commit(response)))
                if response.topics.iter().flat_map(|topic| &topic.partitions).all(|(_, error)| error.is_none()) =>
            {
                outs.push(ClientOut::Noted(Noted::Committed { offset }));
                (self.committed, self.wanted, self.has_looked) = (offset, None, false);
            }
            (Asked::Fetch, Some(Response::Fetch(response))) if response.error.is_none() => {
                let offset = response.topics[0].partitions[0].offset;
                outs.push(ClientOut::Noted(Noted::OffsetFetched { key, offset }));
                self.has_looked = true;
            }
            _ => self.again(now),
        }
        outs
    }

    pub(super) fn failed(&mut self, now: u64, call: CallId) -> Vec<ClientOut> {
        if !self.knowledge.failed(call) && self.asked.take_if(|(asked, ..)| *asked == call).is_some() {
            self.again(now);
        }
        Vec::new()
    }

    fn again(&mut self, now: u64) {
        self.knowledge.is_stale = true;
        self.due = now + RETRY_MS;
    }
}
