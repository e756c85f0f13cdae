// SPDX-License-Identifier: Apache-2.0
//! What a member knows of the Lease: which views count, what they change, and what became of its own writes
//! (rules 7, 8 and 10).
//!
//! At most one read and one write are under way. A write without a clear outcome decides nothing: the Lease is read,
//! and if that shows the same sequence a renewal settles it.

use odradek_model::ControllerEpoch;
use tracing::{debug, info, warn};

use super::candidate::PromiseRule;
use super::effect::{Effect, LeaseCall};
use super::member::{QuorumMember, Role};
use super::planted::PlantedBug;
use super::settings::QuorumSettings;
use super::storage::{LeaseStamp, Promise, QuorumStorage, StoredVoterSet, VoterSets};
use crate::{LeaseChange, LeaseView, ViewOrder, WriteOutcome};

/// Why the Lease is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum WriteKind {
    /// Rule 1.
    Take,
    /// So that others see the holder is there, and to settle a write of unknown outcome.
    Renew,
    /// Rule 6.
    ChangeVoters,
    /// A clean stop, or a candidate that gives up.
    Release,
    /// Rule 10.
    Repair,
}

#[derive(Debug)]
struct Read {
    call: LeaseCall,
    /// What was known when it began: an older answer means that the Lease has fallen.
    known: Option<LeaseStamp>,
    controller: Promise,
}

#[derive(Debug)]
struct Write {
    call: LeaseCall,
    kind: WriteKind,
    base: Option<LeaseView>,
}

/// What was found where the Lease should be: nothing, or what is not it (rule 10).
#[derive(Clone, Debug)]
pub(super) struct InPlaceOfLease(pub(super) Option<LeaseView>);

/// See the module.
#[derive(Debug, Default)]
pub(super) struct LeaseKnowledge {
    /// The newest view that counts.
    pub(super) newest: Option<LeaseView>,
    /// When that view's state was first seen.
    pub(super) changed_at: u64,
    /// The Lease is missing, or what stands there is not what it should be.
    pub(super) fallen: Option<InPlaceOfLease>,
    /// When a call last succeeded.
    pub(super) answered_at: Option<u64>,
    /// Whether the last call was answered.
    pub(super) reachable: bool,
    /// How many reads have failed since one succeeded.
    failed_reads: u32,
    /// Why reads and writes fail, as it was said last: said once, not at each repetition of an outage.
    said_of_reads: Option<String>,
    said_of_writes: Option<String>,
    /// When a holder renews next.
    pub(super) renew_at: u64,
    read: Option<Read>,
    read_wanted: bool,
    last_read_at: Option<u64>,
    write: Option<Write>,
    /// A write failed, and what stands there since then is not known: no take before it is.
    pub(super) is_doubtful: bool,
    next_call: LeaseCall,
}

impl LeaseKnowledge {
    /// Whether a write is under way.
    pub(super) fn is_writing(&self) -> bool {
        self.write.is_some()
    }

    /// The pause before a read after reads that failed, while a controller is heard: twice as long after each, up to a bound,
    /// so that an API server that comes back is not asked by all brokers at once, again and again.
    fn pause_after_failures(&self, settings: &QuorumSettings) -> u64 {
        let doublings = self.failed_reads.saturating_sub(1).min(16);
        (settings.retry_ms << doublings).min(settings.unread_lease_pause_max_ms)
    }
}

impl<S: QuorumStorage> QuorumMember<S> {
    /// Asks for a read that begins from now on.
    pub(super) fn want_lease_read(&mut self) {
        self.lease.read_wanted = true;
    }

    pub(super) fn lease_timers(&mut self) {
        if self.lease.read.is_none() {
            let settings = &self.settings;
            let pause = if !self.lease.reachable && self.hears() {
                self.lease.pause_after_failures(settings)
            } else if !self.lease.reachable {
                settings.retry_ms
            } else if self.lease.fallen.is_some() || !self.hears() {
                2 * settings.retry_ms
            } else {
                settings.lease_poll_ms
            };
            let at = match self.lease.last_read_at {
                Some(at) if !self.lease.read_wanted => at + pause,
                // Even wanted reads keep a little apart.
                Some(at) if !self.lease.reachable => at + pause,
                _ => self.now,
            };
            if self.due(at) {
                self.lease.read_wanted = false;
                let call = self.new_call();
                self.lease.read = Some(Read { call, known: self.newest_stamp(), controller: self.known.clone() });
                self.effects.push(Effect::ReadLease(call));
            } else if let Some(silent_at) = self.silent_at().filter(|at| *at > self.now) {
                // The pause changes when the controller falls silent.
                self.due(silent_at);
            }
        }
        if self.holds_lease()
            && !self.lease.is_writing()
            && self.lease.fallen.is_none()
            && self.due(self.lease.renew_at)
        {
            self.lease.renew_at = self.now + self.settings.renew_interval_ms;
            self.write_lease(WriteKind::Renew, Clone::clone);
        }
    }

    /// Whether it is candidate or controller by the newest view.
    pub(super) fn holds_lease(&self) -> bool {
        match (&self.lease.newest, self.own_epoch()) {
            (Some(view), Some(epoch)) => view.epoch == epoch && view.holder.as_ref() == Some(&self.me),
            _ => false,
        }
    }

    fn new_call(&mut self) -> LeaseCall {
        self.lease.next_call += 1;
        self.lease.next_call
    }

    /// Writes the newest view as `change` makes it.
    pub(super) fn write_lease(&mut self, kind: WriteKind, change: impl FnOnce(&LeaseView) -> LeaseView) {
        let base = self.lease.newest.clone().expect("a write is based on a view");
        let next = change(&base);
        let change = LeaseChange { epoch: next.epoch, holder: next.holder, voters: next.voters };
        self.write_lease_over(kind, Some(base), change);
    }

    pub(super) fn write_lease_over(&mut self, kind: WriteKind, base: Option<LeaseView>, change: LeaseChange) {
        assert!(self.lease.write.is_none(), "one write at a time");
        let call = self.new_call();
        self.lease.write = Some(Write { call, kind, base: base.clone() });
        self.effects.push(Effect::WriteLease { call, base, change });
    }

    pub(super) fn lease_read(&mut self, call: LeaseCall, outcome: Result<Option<LeaseView>, String>) {
        let Some(read) = self.lease.read.take_if(|read| read.call == call) else { return };
        self.lease.last_read_at = Some(self.now);
        match outcome {
            Err(reason) => {
                if self.lease.said_of_reads.as_ref() == Some(&reason) {
                    debug!(reason, "the controller Lease could not be read");
                } else {
                    warn!(reason, "the controller Lease could not be read; it is tried again");
                    self.lease.said_of_reads = Some(reason);
                }
                self.lease.failed_reads = self.lease.failed_reads.saturating_add(1);
                self.lease.reachable = false;
            }
            Ok(found) => {
                self.lease_answered();
                self.lease_is_read();
                self.lease.is_doubtful = false;
                match found {
                    Some(view) if self.is_acceptable(&view, read.known.as_ref(), &read.controller) => {
                        // A newer view may have come while the read was under way.
                        if !matches!(self.order_to_newest(&view), Some(ViewOrder::Older)) {
                            self.accept_view(view);
                        }
                        self.lease.fallen = None;
                        if !self.storage.voter_sets().pending.is_empty() {
                            self.lease.renew_at = self.now;
                        }
                    }
                    // A newer life of the Lease became known while the read was under way.
                    _ if self.newest_stamp() != read.known || self.known != read.controller => self.want_lease_read(),
                    found => self.lease_has_fallen(found),
                }
            }
        }
    }

    pub(super) fn lease_seen(&mut self, view: LeaseView) {
        match self.order_to_newest(&view) {
            // Only a foreign hand changes the holder without a new sequence.
            Some(ViewOrder::Same) => {
                if self.lease.newest.as_ref().is_some_and(|newest| newest.holder != view.holder) {
                    self.accept_view(view);
                }
            }
            Some(ViewOrder::Newer) => self.accept_view(view),
            Some(ViewOrder::Older) => {}
            // The first view, or another life of the Lease: only the Lease itself tells.
            Some(ViewOrder::OtherLease) | None => self.want_lease_read(),
        }
    }

    pub(super) fn lease_written(&mut self, call: LeaseCall, outcome: Result<WriteOutcome, String>) {
        let Some(Write { kind, base, .. }) = self.lease.write.take_if(|write| write.call == call) else { return };
        match outcome {
            Ok(WriteOutcome::Written(view)) => {
                self.lease_answered();
                let current = !matches!(self.order_to_newest(&view), Some(ViewOrder::Older));
                if current {
                    self.lease.fallen = None;
                    self.accept_view(view.clone());
                    self.write_landed(kind, &view);
                }
                self.voters_due_now();
            }
            // Also a refusal may be the answer to a repetition of a request that had landed: the Lease itself tells.
            Ok(WriteOutcome::Refused) => {
                self.lease_answered();
                // Unless the newer view came while the write was under way.
                self.lease.is_doubtful = self.lease.newest == base;
                self.want_lease_read();
            }
            Ok(WriteOutcome::Unknown(reason)) => self.lease_write_failed(kind, reason, "its outcome is unknown"),
            Err(reason) => self.lease_write_failed(kind, reason, "it was not made"),
        }
    }

    fn lease_write_failed(&mut self, kind: WriteKind, reason: String, outcome: &str) {
        if self.lease.said_of_writes.as_ref() == Some(&reason) {
            debug!(?kind, reason, outcome, "a write of the controller Lease failed");
        } else {
            warn!(?kind, reason, outcome, "a write of the controller Lease failed");
            self.lease.said_of_writes = Some(reason);
        }
        self.lease.reachable = false;
        self.lease.is_doubtful = true;
        self.want_lease_read();
    }

    fn write_landed(&mut self, kind: WriteKind, view: &LeaseView) {
        match kind {
            WriteKind::Take => self.begin_candidacy(view, PromiseRule::Quorum),
            WriteKind::Repair if matches!(&self.role, Role::Candidate(candidate) if candidate.epoch == view.epoch) => {
                self.lead();
            }
            WriteKind::Repair => self.begin_candidacy(view, PromiseRule::Majority),
            WriteKind::Release => self.lease_released(view),
            WriteKind::Renew | WriteKind::ChangeVoters => {}
        }
    }

    /// What stands there could be read. Only that ends what was said: a write that is refused says nothing about it.
    fn lease_is_read(&mut self) {
        if self.lease.said_of_reads.is_some() || self.lease.said_of_writes.is_some() {
            info!(failed_reads = self.lease.failed_reads, "the controller Lease is read again");
        }
        (self.lease.said_of_reads, self.lease.said_of_writes, self.lease.failed_reads) = (None, None, 0);
    }

    fn lease_answered(&mut self) {
        self.lease.answered_at = Some(self.now);
        self.lease.reachable = true;
    }

    fn newest_stamp(&self) -> Option<LeaseStamp> {
        let seen = self.lease.newest.as_ref().map(LeaseStamp::of);
        seen.or_else(|| self.storage.voter_sets().newest.as_ref().map(|set| set.stamp.clone()))
    }

    fn order_to_newest(&self, view: &LeaseView) -> Option<ViewOrder> {
        self.lease.newest.as_ref().map(|newest| {
            match view.order(newest) {
                // A re-created Lease has a higher epoch than any before it.
                ViewOrder::OtherLease if view.epoch < newest.epoch => ViewOrder::Older,
                order => order,
            }
        })
    }

    /// Whether what a read found may stand there, given what was known when it began. Otherwise it is rule 10.
    fn is_acceptable(&self, view: &LeaseView, known: Option<&LeaseStamp>, controller: &Promise) -> bool {
        let log_is_empty = self.storage.position().end == 0;
        if view.voters.is_empty() && !(log_is_empty && known.is_none_or(|known| known.epoch == 0)) {
            return false;
        }
        let epoch_is_due = view.epoch > controller.epoch
            || (view.epoch == controller.epoch && (view.holder == controller.holder || controller.holder.is_none()));
        match known {
            Some(known) if known.uid == view.uid => {
                view.epoch >= controller.epoch && (view.epoch, view.sequence) >= known.order()
            }
            // Re-created by a controller: with a higher epoch.
            Some(known) => epoch_is_due && view.epoch > known.epoch,
            None => view.epoch >= controller.epoch,
        }
    }

    fn lease_has_fallen(&mut self, found: Option<LeaseView>) {
        if self.lease.fallen.is_none() {
            warn!(?found, "the controller Lease is missing, replaced or older than what was seen of it");
            // A controller puts it back at once.
            self.lease.renew_at = self.now;
        }
        match &mut self.role {
            Role::Candidate(candidate) if candidate.lease_base.is_some() => {
                candidate.lease_base = Some(InPlaceOfLease(found.clone()));
            }
            Role::Candidate(_) => self.step_down("the Lease has fallen"),
            Role::Controller(_) | Role::Follower(_) => {}
        }
        self.lease.fallen = Some(InPlaceOfLease(found));
    }

    /// Makes the view the newest one and draws the conclusions.
    fn accept_view(&mut self, view: LeaseView) {
        if self.lease.newest.as_ref().is_none_or(|newest| view.order(newest) != ViewOrder::Same) {
            self.lease.changed_at = self.now;
            self.lease.is_doubtful = false;
        }
        self.store_voters_of(&view);
        self.hear_of(&Promise { epoch: view.epoch, holder: view.holder.clone() });
        let mine = view.holder.as_ref() == Some(&self.me);
        self.lease.newest = Some(view.clone());
        match &mut self.role {
            Role::Follower(_) => {}
            // It does not hold the Lease yet: it will write over whatever stands there (rule 10).
            Role::Candidate(candidate) if candidate.lease_base.is_some() => {
                if candidate.epoch > view.epoch {
                    candidate.lease_base = Some(InPlaceOfLease(Some(view)));
                }
            }
            Role::Candidate(candidate) => {
                if !mine || candidate.epoch != view.epoch {
                    self.step_down("the Lease is another's");
                }
            }
            Role::Controller(controlling) => {
                if !mine || controlling.epoch != view.epoch || !view.voters.contains(&self.voter) {
                    self.step_down("the Lease is another's");
                } else {
                    controlling.voters = view.voters.iter().copied().collect();
                    self.advance_commit();
                }
            }
        }
    }

    /// Keeps the view's voters on disk, and forgets the pending sets of which the view is the outcome (rule 7).
    fn store_voters_of(&mut self, view: &LeaseView) {
        if view.voters.is_empty() {
            return;
        }
        let sets = self.storage.voter_sets();
        let stamp = LeaseStamp::of(view);
        let undecided = |set: &&StoredVoterSet| set.stamp.uid == stamp.uid && set.stamp.order() >= stamp.order();
        let pending: Vec<_> = if self.planted.has(PlantedBug::PendingForgottenAfterRead) {
            Vec::new()
        } else {
            sets.pending.iter().filter(undecided).cloned().collect()
        };
        let voters = view.voters.iter().copied().collect();
        // Renewals are not stored. But between two writes that were seen there may have been other voters: then the
        // view is stored although its voters are the stored ones, or those others would seem newer than the stored
        // ones, should the Lease be rolled back to them.
        let follows = |sequence: i64| stamp.sequence <= sequence + 1;
        let seen = self.lease.newest.as_ref().filter(|seen| seen.uid == stamp.uid && seen.epoch == stamp.epoch);
        let known = sets.newest.as_ref().is_some_and(|newest| {
            newest.stamp.uid == stamp.uid
                && newest.stamp.epoch == stamp.epoch
                && newest.voters == voters
                && (follows(newest.stamp.sequence) || seen.is_some_and(|seen| follows(seen.sequence)))
        });
        if known && pending.len() == sets.pending.len() {
            return;
        }
        let newest = if known { sets.newest.clone() } else { Some(StoredVoterSet { stamp, voters }) };
        let outcome = self.storage.store_voter_sets(VoterSets { newest, pending });
        self.stored(outcome);
    }

    /// Gives the Lease back: the voters and the epoch stay.
    pub(super) fn release_lease(&mut self) {
        info!("giving the controller Lease back");
        self.write_lease(WriteKind::Release, |view| LeaseView { holder: None, ..view.clone() });
    }

    /// The epoch that a take would have.
    pub(super) fn next_epoch(&self) -> ControllerEpoch {
        self.lease.newest.as_ref().map_or(0, |view| view.epoch) + 1
    }
}
