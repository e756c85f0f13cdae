// SPDX-License-Identifier: Apache-2.0
//! Reads of committed offsets wait until other replicas have confirmed that nobody leads the journal after this broker,
//! as the server has them wait (`coordinators/reading.rs`, `replication/confirming.rs`). Must not know what is read.

use std::collections::BTreeMap;

use odradek_groups::{GroupError, Request as GroupRequest};
use odradek_model::LeaderEpoch;
use odradek_replication::{Confirmations, Confirmed, Question, READ_WAIT_MS, ReadToken, ReplicaKey};

use super::Process;
use super::control::Purpose;
use crate::cluster::message::{Answer, CallId, Endpoint, Request};

/// The server's deadline of a question.
const ANSWER_MS: u64 = READ_WAIT_MS as u64 / 2;

/// A read of a client that waits.
#[derive(Debug)]
struct Reader {
    from: Endpoint,
    call: CallId,
    key: ReplicaKey,
    leader_epoch: LeaderEpoch,
    group: String,
    request: GroupRequest,
}

/// All of this broker.
#[derive(Debug, Default)]
pub(super) struct Confirming {
    confirmations: Confirmations,
    readers: BTreeMap<ReadToken, Reader>,
    due: Option<u64>,
}

impl Confirming {
    pub(super) fn wake_at(&self) -> Option<u64> {
        self.due
    }
}

impl Process {
    /// Reads at once if nobody else can have committed anything, else once that is certain.
    pub(super) fn read_of_group(
        &mut self,
        (from, call): (Endpoint, CallId),
        (key, leader_epoch): (ReplicaKey, LeaderEpoch),
        group: &str,
        request: GroupRequest,
    ) {
        let witnesses = self.replicas.get(&key).map(|replica| replica.partition.witnesses(Some(leader_epoch)));
        if let Some(Ok(witnesses)) = witnesses
            && witnesses.suffice(|_| false)
        {
            self.asked_of_coordinator(from, call, group, request);
            return;
        }
        let now = self.monotonic();
        let token = self.confirming.confirmations.read(key, leader_epoch, now);
        let reader = Reader { from, call, key, leader_epoch, group: group.to_owned(), request };
        self.confirming.readers.insert(token, reader);
    }

    /// Lets those read who may, and asks whom there is to ask; whether anything was done.
    pub(super) fn confirm_reads(&mut self) -> bool {
        if self.confirming.readers.is_empty() {
            return false;
        }
        let now = self.monotonic();
        let replicas = &self.replicas;
        let witnesses =
            |key, leader_epoch| replicas.get(&key).and_then(|r| r.partition.witnesses(Some(leader_epoch)).ok());
        let turn = self.confirming.confirmations.turn(now, witnesses);
        self.confirming.due = turn.due.map(|due| due.0 as u64);
        let any = !turn.ended.is_empty() || !turn.questions.is_empty();
        for (token, confirmed) in turn.ended {
            let Some(reader) = self.confirming.readers.remove(&token) else { continue };
            let Reader { from, call, key, leader_epoch, group, request } = reader;
            let present = self.coordinator_epoch(key);
            if confirmed == Confirmed::Yes {
                self.asked_of_coordinator(from, call, &group, request);
            } else if present.is_some_and(|present| present != leader_epoch) {
                self.asked_for_group(from, call, &group, request);
            } else {
                // The server closes the connection, and the client looks for the coordinator again.
                self.answer(from, call, Answer::Group(Err(GroupError::NotCoordinator)));
            }
        }
        for question in turn.questions {
            let asked = question.partitions.iter().map(|(key, _)| *key).collect();
            self.call(question.to, Request::ConfirmLeadership(asked), Purpose::Confirmed(question), ANSWER_MS);
        }
        any
    }

    /// Tells by which leader epochs the replicas here act.
    pub(super) fn asked_to_confirm(&mut self, from: Endpoint, call: CallId, asked: &[ReplicaKey]) {
        let epoch_of = |key: &ReplicaKey| Some((*key, self.replicas.get(key)?.partition.leader_epoch()));
        let known = asked.iter().filter_map(epoch_of).filter(|(_, epoch)| *epoch >= 0).collect();
        self.answer(from, call, Answer::Leaderships(known));
    }

    pub(super) fn confirmed(&mut self, question: &Question, epochs: Option<&BTreeMap<ReplicaKey, LeaderEpoch>>) {
        let now = self.monotonic();
        match epochs {
            Some(epochs) => self.confirming.confirmations.answered(question, epochs, now),
            None => self.confirming.confirmations.failed(question, now),
        }
    }
}
