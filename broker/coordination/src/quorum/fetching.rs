// SPDX-License-Identifier: Apache-2.0
//! Getting the log from another broker: the follower from its controller, the candidate from the best promiser
//! (rule 3). One request at a time; what comes is checked before it touches the log.
//!
//! Each fetch says where the asker's log ends, in which epoch, and so acknowledges all below if that matches. An answer
//! is used only if it is the one to the request under way, from the one asked, and nothing was promised in between.

use odradek_model::{BrokerId, Offset};
use tracing::{info, warn};

use super::LogPosition;
use super::effect::Effect;
use super::member::{QuorumMember, Role};
use super::message::{
    FetchAnswer, FetchOutcome, FetchPurpose, FetchRequest, MessageBody, RequestId, SnapshotPart, SnapshotRequest,
};
use super::planted::PlantedBug;
use super::storage::{LogBatch, Promise, QuorumStorage};
use crate::Holder;

#[derive(Clone, Debug)]
struct InFlight {
    to: BrokerId,
    request: RequestId,
    accepted: Promise,
    position: LogPosition,
    sent_at: u64,
}

/// A snapshot that comes in parts. Bounded by [`super::QuorumSettings::max_snapshot_bytes`].
#[derive(Debug)]
struct Download {
    from: BrokerId,
    position: LogPosition,
    bytes_total: u64,
    bytes: Vec<u8>,
}

/// The request under way and the snapshot that is being fetched.
#[derive(Debug, Default)]
pub(super) struct Fetching {
    in_flight: Option<InFlight>,
    download: Option<Download>,
    pub(super) next_at: u64,
}

impl Fetching {
    /// Forgets what is under way: there is another one to fetch from.
    pub(super) fn restart(&mut self, now: u64) {
        *self = Self { next_at: now, ..Self::default() };
    }

    /// The controller leads now. What it was asked before may be answered by "not yet".
    pub(super) fn announced(&mut self, now: u64) {
        if self.download.is_none() {
            self.in_flight = None;
        }
        self.next_at = now;
    }

    pub(super) fn connection_lost(&mut self, broker: BrokerId, retry_at: u64) {
        if self.in_flight.as_ref().is_some_and(|in_flight| in_flight.to == broker) {
            self.in_flight = None;
            self.next_at = retry_at;
        }
    }
}

impl<S: QuorumStorage> QuorumMember<S> {
    /// Keeps one fetch under way to the broker.
    pub(super) fn fetch_timers(&mut self, from: BrokerId, purpose: FetchPurpose) {
        if let Some(in_flight) = &self.fetching.in_flight {
            if in_flight.to == from {
                let timeout_at = in_flight.sent_at + self.settings.request_timeout_ms;
                if !self.due(timeout_at) {
                    return;
                }
                self.fetching.in_flight = None;
                self.fetching.next_at = self.now;
                self.source_refused(from);
                if purpose == FetchPurpose::CatchUp {
                    return;
                }
            } else {
                self.fetching.restart(self.now);
            }
        }
        let next_at = self.fetching.next_at;
        if !self.due(next_at) {
            return;
        }
        let accepted = self.storage.promised().clone();
        let position = self.storage.position();
        let body = match &self.fetching.download {
            Some(download) if download.from == from => {
                let at = download.bytes.len() as u64;
                let position = download.position;
                MessageBody::FetchSnapshot(SnapshotRequest { purpose, accepted: accepted.clone(), position, at })
            }
            _ => {
                self.fetching.download = None;
                let commit_end = self.commit_end;
                MessageBody::Fetch(FetchRequest { purpose, accepted: accepted.clone(), position, commit_end })
            }
        };
        let request = self.ask(from, body);
        self.fetching.in_flight = Some(InFlight { to: from, request, accepted, position, sent_at: self.now });
        self.fetching.next_at = self.now;
    }

    /// Whether the answer is to the request under way, which it ends.
    fn take_in_flight(&mut self, sender: &Holder, request: RequestId) -> Option<InFlight> {
        let expected = |in_flight: &mut InFlight| in_flight.request == request && in_flight.to == sender.broker_id;
        self.fetching.in_flight.take_if(expected)
    }

    pub(super) fn fetched(&mut self, sender: &Holder, request: RequestId, answer: FetchAnswer) {
        if answer.controller.epoch < self.known.epoch {
            self.fetch_is_over(sender, request);
            return; // rule 11
        }
        let speaks_for_itself = answer.controller.holder.as_ref() == Some(sender);
        let in_flight = self.take_in_flight(sender, request);
        self.hear_of(&answer.controller);
        if speaks_for_itself && answer.outcome != FetchOutcome::NotController {
            self.heard_controller(sender);
        }
        let Some(in_flight) = in_flight else { return };
        let retry_at = self.now + self.settings.retry_ms;
        match answer.outcome {
            FetchOutcome::NotController | FetchOutcome::NotYetController => {
                self.fetching.next_at = retry_at;
                self.source_refused(sender.broker_id);
            }
            FetchOutcome::AcceptEpoch => {
                // Accepting anything from a controller first persists the promise of its epoch (rule 2).
                let accepted = speaks_for_itself
                    && matches!(self.role, Role::Follower(_))
                    && answer
                        .controller
                        .holder
                        .is_some_and(|holder| self.keep_promise(answer.controller.epoch, &holder));
                self.fetching.next_at = if accepted { self.now } else { retry_at };
            }
            outcome => {
                if !self.is_from_source(sender, &in_flight) || self.storage.position() != in_flight.position {
                    self.fetching.next_at = retry_at;
                    return;
                }
                // Only then is what is below the end the same here and there.
                let matched =
                    matches!(outcome, FetchOutcome::Batches(_)) || self.planted.has(PlantedBug::CommittedWithoutMatch);
                let done = self.apply_fetched(sender.broker_id, outcome);
                if self.is_stopped() {
                    return;
                }
                self.fetching.next_at = if done { self.now } else { retry_at };
                if done && matched && matches!(self.role, Role::Follower(_)) {
                    self.commit_as_follower(answer.commit_end);
                }
            }
        }
    }

    /// Whether the sender is the one that this broker has promised to follow, or the source of a candidate's tail.
    fn is_from_source(&self, sender: &Holder, in_flight: &InFlight) -> bool {
        let promised = self.storage.promised();
        match &self.role {
            Role::Follower(_) => {
                *promised == in_flight.accepted && promised.holder.as_ref() == Some(sender) && *promised == self.known
            }
            Role::Candidate(candidate) => {
                candidate.epoch == in_flight.accepted.epoch && candidate.source == Some(sender.broker_id)
            }
            Role::Controller(_) => false,
        }
    }

    /// An answer that is too old to be used still ends the request.
    fn fetch_is_over(&mut self, sender: &Holder, request: RequestId) {
        if self.take_in_flight(sender, request).is_some() {
            self.fetching.next_at = self.now + self.settings.retry_ms;
        }
    }

    /// Applies an answer to the log; whether it went well.
    fn apply_fetched(&mut self, from: BrokerId, outcome: FetchOutcome) -> bool {
        match outcome {
            FetchOutcome::Batches(batches) => self.append_fetched(&batches),
            FetchOutcome::Diverging(theirs) => self.cut_diverging(theirs),
            FetchOutcome::TakeSnapshot { position, bytes } => {
                if bytes == 0 || bytes > self.settings.max_snapshot_bytes {
                    warn!(broker = %from, bytes, end = position.end, "a snapshot that cannot be right was not taken");
                    return false;
                }
                if position.end <= self.commit_end {
                    // It is offered at or below the own end only if its last epoch is above all of the own log.
                    self.contradicted(&format!("has a snapshot up to {} in epoch {}", position.end, position.epoch));
                    return false;
                }
                info!(broker = %from, bytes, end = position.end, "fetching a snapshot of the metadata");
                self.fetching.download = Some(Download { from, position, bytes_total: bytes, bytes: Vec::new() });
                true
            }
            FetchOutcome::AcceptEpoch | FetchOutcome::NotYetController | FetchOutcome::NotController => {
                unreachable!("handled by the caller")
            }
        }
    }

    fn append_fetched(&mut self, batches: &[LogBatch]) -> bool {
        if batches.is_empty() {
            return true;
        }
        let promised = self.storage.promised().epoch;
        let mut position = self.storage.position();
        let mut bytes = 0;
        for batch in batches {
            let fits = batch.base_offset == position.end
                && batch.end_offset > batch.base_offset
                && (position.epoch..=promised).contains(&batch.epoch);
            bytes += batch.bytes.len();
            if !fits || (bytes > self.settings.max_answer_bytes && batches.len() > 1) {
                warn!(?position, offset = batch.base_offset, "batches that do not follow the log were not taken");
                return false;
            }
            position = LogPosition { epoch: batch.epoch, end: batch.end_offset };
        }
        let outcome = self.storage.append_batches(batches);
        let done = self.stored(outcome).is_some();
        assert!(!done || self.storage.position() == position, "storage appended what it was given");
        if done && let Role::Candidate(candidate) = &mut self.role {
            candidate.progress_at = self.now;
        }
        done
    }

    /// Cuts the tail that the other broker does not have; below the cut they are compared again.
    fn cut_diverging(&mut self, theirs: LogPosition) -> bool {
        let ours = self.storage.epoch_end(theirs.epoch);
        let cut = ours.end.min(theirs.end);
        let position = self.storage.position();
        if cut < self.commit_end || cut < self.storage.start().end {
            self.contradicted(&format!("ends its epoch {} at {}", theirs.epoch, theirs.end));
            return false;
        }
        if cut >= position.end {
            warn!(?theirs, ?position, "a divergence that is none was ignored");
            return false;
        }
        info!(from = position.end, to = cut, "cutting the end of the metadata log, which was never committed");
        let outcome = self.storage.truncate_to(cut);
        let done = self.stored(outcome).is_some();
        let end = self.storage.position().end;
        assert!(!done || (self.commit_end..=cut).contains(&end), "cut to {end} instead of {cut}, {}", self.commit_end);
        done
    }

    /// What the log that is to be followed says cannot be, if what is committed here was: nothing is cut.
    fn contradicted(&mut self, theirs: &str) {
        let committed = self.commit_end;
        self.stop(format!(
            "the metadata log of the controller {theirs}, but {committed} records are committed here: one of the two lost \
             records that counted"
        ));
    }

    pub(super) fn snapshot_part(&mut self, sender: &Holder, request: RequestId, part: &SnapshotPart) {
        let Some(in_flight) = self.take_in_flight(sender, request) else { return };
        self.heard_controller(sender);
        let retry_at = self.now + self.settings.retry_ms;
        let from_source = self.is_from_source(sender, &in_flight);
        let Some(download) = &mut self.fetching.download else { return };
        let left = download.bytes_total - download.bytes.len() as u64;
        let fits = from_source
            && part.position == download.position
            && part.at == download.bytes.len() as u64
            && !part.bytes.is_empty()
            && part.bytes.len() as u64 <= left;
        if !fits {
            self.fetching.download = None;
            self.fetching.next_at = retry_at;
            return;
        }
        download.bytes.extend_from_slice(&part.bytes);
        if let Role::Candidate(candidate) = &mut self.role {
            candidate.progress_at = self.now;
        }
        self.fetching.next_at = self.now;
        if (part.bytes.len() as u64) < left {
            return;
        }
        let download = self.fetching.download.take().expect("it is there");
        let outcome = self.storage.install_snapshot(&download.bytes);
        if self.stored(outcome).is_none() {
            self.fetching.next_at = retry_at;
            return;
        }
        info!(end = download.position.end, "a snapshot took the place of the metadata log");
        self.effects.push(Effect::ReloadImage);
        self.committed(self.storage.start().end);
    }

    fn commit_as_follower(&mut self, controller_end: Offset) {
        self.committed(controller_end.min(self.storage.position().end));
    }

    /// Records below the end are known to be committed and are here.
    pub(super) fn committed(&mut self, end: Offset) {
        if end > self.commit_end {
            self.commit_end = end;
            self.effects.push(Effect::Committed(end));
        }
    }
}
