// SPDX-License-Identifier: Apache-2.0
//! Answering fetches: matching the asker's log with its own, the batches that follow, the snapshot below.

use odradek_model::BrokerId;

use super::LogPosition;
use super::member::{QuorumMember, Role};
use super::message::{
    FetchAnswer, FetchOutcome, FetchPurpose, FetchRequest, MessageBody, RequestId, SnapshotPart, SnapshotRequest,
};
use super::storage::{Promise, QuorumStorage};
use crate::{Holder, Voter};

impl<S: QuorumStorage> QuorumMember<S> {
    pub(super) fn fetch_received(&mut self, sender: &Holder, voter: Voter, request: RequestId, fetch: &FetchRequest) {
        let from = sender.broker_id;
        match fetch.purpose {
            FetchPurpose::CatchUp => {
                let outcome = if self.keeps_promise_to(sender, &fetch.accepted) {
                    self.log_after(fetch.position)
                } else {
                    FetchOutcome::NotController
                };
                self.answer_fetch(from, request, outcome);
            }
            FetchPurpose::Follow => {
                self.hear_of(&fetch.accepted);
                match &self.role {
                    Role::Controller(_) => self.fetch_at_controller(voter, request, fetch),
                    Role::Candidate(_) => self.answer_fetch(from, request, FetchOutcome::NotYetController),
                    Role::Follower(_) => self.answer_fetch(from, request, FetchOutcome::NotController),
                }
            }
        }
    }

    /// Whether the sender is a candidate to whom this broker has promised, so that its log does not change meanwhile.
    fn keeps_promise_to(&self, sender: &Holder, accepted: &Promise) -> bool {
        self.storage.promised() == accepted && accepted.holder.as_ref() == Some(sender)
    }

    pub(super) fn answer_fetch(&mut self, to: BrokerId, request: RequestId, outcome: FetchOutcome) {
        let answer = FetchAnswer { controller: self.known.clone(), commit_end: self.commit_end, outcome };
        self.send(to, request, MessageBody::Fetched(answer));
    }

    /// What follows the position, if that is in this log: each epoch has one controller that only appends, so a
    /// position with its epoch names all that is below it.
    pub(super) fn log_after(&mut self, position: LogPosition) -> FetchOutcome {
        let start = self.storage.start();
        if position.end < start.end || position.epoch < start.epoch {
            return FetchOutcome::TakeSnapshot { position: start, bytes: self.storage.snapshot_bytes() };
        }
        let here = self.storage.epoch_end(position.epoch);
        if here.epoch != position.epoch || here.end < position.end {
            return FetchOutcome::Diverging(here);
        }
        if position.end == self.storage.position().end {
            return FetchOutcome::Batches(Vec::new());
        }
        let outcome = self.storage.read(position.end, self.settings.max_answer_bytes);
        match self.stored(outcome) {
            Some(batches) => FetchOutcome::Batches(batches),
            None => FetchOutcome::NotController,
        }
    }

    pub(super) fn snapshot_wanted(&mut self, sender: &Holder, request: RequestId, fetch: &SnapshotRequest) {
        let from = sender.broker_id;
        let serves = match fetch.purpose {
            FetchPurpose::CatchUp => self.keeps_promise_to(sender, &fetch.accepted),
            FetchPurpose::Follow => {
                matches!(&self.role, Role::Controller(controlling)
                    if fetch.accepted == (Promise { epoch: controlling.epoch, holder: Some(self.me.clone()) }))
            }
        };
        let start = self.storage.start();
        let bytes_total = self.storage.snapshot_bytes();
        if !serves {
            self.answer_fetch(from, request, FetchOutcome::NotController);
        } else if fetch.position != start || fetch.at >= bytes_total {
            // There is a newer one by now.
            self.answer_fetch(from, request, FetchOutcome::TakeSnapshot { position: start, bytes: bytes_total });
        } else {
            let outcome = self.storage.read_snapshot(fetch.at, self.settings.max_answer_bytes);
            let Some(bytes) = self.stored(outcome) else { return };
            let part = SnapshotPart { controller: self.known.clone(), position: start, at: fetch.at, bytes };
            self.send(from, request, MessageBody::SnapshotPart(part));
        }
    }
}
