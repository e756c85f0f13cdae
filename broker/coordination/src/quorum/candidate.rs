// SPDX-License-Identifier: Apache-2.0
//! A member that took the Lease: it collects promises, catches up from the best of them, and begins to lead
//! (rules 2 to 4). After a recovery (rule 10) it has the promises first and takes the Lease last.

use std::collections::{BTreeMap, BTreeSet};

use odradek_model::{BrokerId, ControllerEpoch};
use tracing::{info, warn};

use super::controller::Controlling;
use super::lease_knowledge::{InPlaceOfLease, WriteKind};
use super::member::{QuorumMember, Role};
use super::message::{FetchPurpose, MessageBody, PromiseAnswer};
use super::planted::PlantedBug;
use super::storage::{LogPosition, Promise, QuorumStorage};
use super::{VoterSet, promise_quorum};
use crate::{LeaseChange, LeaseView, Voter};

/// Whose promises a candidate needs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum PromiseRule {
    /// Those of a promise quorum of the voters.
    Quorum,
    /// Those of more than half of the voters too. For a controller that put a lost Lease back: nothing else rules out
    /// that another took the same epoch from the lost one, and with an even number of voters two promise quorums need
    /// not meet.
    Majority,
    /// Those of all of these (rule 10).
    All(VoterSet),
}

/// See the module.
#[derive(Debug)]
pub(super) struct Candidate {
    pub(super) epoch: ControllerEpoch,
    voters: VoterSet,
    rule: PromiseRule,
    /// The promises of others, with their logs, which do not change while the promise stands.
    promises: BTreeMap<Voter, LogPosition>,
    /// From whom it catches up.
    pub(super) source: Option<BrokerId>,
    /// Sources that did not answer, and until when they are left alone.
    failed_sources: BTreeMap<BrokerId, u64>,
    ask_at: u64,
    /// When there last was a promise, a part of a tail, or the answer by which it got the Lease (rule 1d).
    pub(super) progress_at: u64,
    /// What the Lease is to be written over once the promises are there (rule 10).
    pub(super) lease_base: Option<InPlaceOfLease>,
    recovered_without: BTreeSet<Voter>,
}

impl Candidate {
    /// The others that are asked, and how many of them have to promise.
    fn asked(&self, me: Voter) -> (Vec<Voter>, usize) {
        let n = self.voters.len();
        let (set, needed) = match &self.rule {
            PromiseRule::Quorum => (&self.voters, promise_quorum(n)),
            PromiseRule::Majority => (&self.voters, promise_quorum(n).max(n / 2 + 1)),
            PromiseRule::All(set) => (set, set.len() + usize::from(!set.contains(&me))),
        };
        (set.iter().copied().filter(|voter| *voter != me).collect(), needed - 1)
    }
}

impl<S: QuorumStorage> QuorumMember<S> {
    /// The Lease was taken, as the view says.
    pub(super) fn begin_candidacy(&mut self, view: &LeaseView, rule: PromiseRule) {
        if self.own_epoch().is_some() {
            self.step_down("it took the Lease anew");
        }
        if self.resigns() {
            return; // its timers give the Lease back
        }
        let me = self.me.clone();
        if !self.keep_promise(view.epoch, &me) {
            warn!(epoch = view.epoch, promised = ?self.storage.promised(), "took a Lease older than a promise");
            self.want_lease_read();
            return;
        }
        self.hear_of(&Promise { epoch: view.epoch, holder: Some(me) });
        self.fetching.restart(self.now);
        self.lease.renew_at = self.now + self.settings.renew_interval_ms;
        let voters: VoterSet = view.voters.iter().copied().collect();
        // A recovery without them took the Lease, and may have ended before its epoch record was committed.
        let recovered_without = if voters.is_disjoint(&self.gone) { self.gone.clone() } else { VoterSet::new() };
        self.role = Role::Candidate(Candidate {
            epoch: view.epoch,
            voters,
            rule,
            promises: BTreeMap::new(),
            source: None,
            failed_sources: BTreeMap::new(),
            ask_at: self.now,
            progress_at: self.now,
            lease_base: None,
            recovered_without,
        });
    }

    /// Everyone that may know more has answered a mere question; now they are asked to promise (rule 10).
    pub(super) fn begin_recovery_candidacy(
        &mut self,
        epoch: ControllerEpoch,
        voters: VoterSet,
        members: VoterSet,
        lease_base: Option<LeaseView>,
        recovered_without: BTreeSet<Voter>,
    ) {
        let me = self.me.clone();
        if !self.keep_promise(epoch, &me) {
            return;
        }
        info!(epoch, ?members, "asking all that may know more of the metadata to promise");
        self.hear_of(&Promise { epoch, holder: Some(me) });
        self.fetching.restart(self.now);
        self.role = Role::Candidate(Candidate {
            epoch,
            voters,
            rule: PromiseRule::All(members),
            promises: BTreeMap::new(),
            source: None,
            failed_sources: BTreeMap::new(),
            ask_at: self.now,
            progress_at: self.now,
            lease_base: Some(InPlaceOfLease(lease_base)),
            recovered_without,
        });
    }

    pub(super) fn candidate_timers(&mut self) {
        let Role::Candidate(candidate) = &self.role else { return };
        let (epoch, ask_at, progress_at) = (candidate.epoch, candidate.ask_at, candidate.progress_at);
        let (asked, _) = candidate.asked(self.voter);
        let unanswered: Vec<_> = asked.into_iter().filter(|voter| !candidate.promises.contains_key(voter)).collect();
        if !unanswered.is_empty() && self.due(ask_at) {
            for voter in unanswered {
                self.ask(voter.broker_id, MessageBody::AskPromise(epoch));
            }
            let next = self.now + self.settings.retry_ms;
            if let Role::Candidate(candidate) = &mut self.role {
                candidate.ask_at = next;
            }
        }
        if self.may_lead() {
            self.take_lease_last_or_lead();
            return;
        }
        if self.due(progress_at + self.settings.candidate_patience_ms) {
            self.give_up("no promise and no tail for too long");
            return;
        }
        self.choose_source();
        if let Role::Candidate(Candidate { source: Some(source), .. }) = &self.role {
            let source = *source;
            self.fetch_timers(source, FetchPurpose::CatchUp);
        }
    }

    fn take_lease_last_or_lead(&mut self) {
        let Role::Candidate(candidate) = &self.role else { return };
        let Some(InPlaceOfLease(base)) = candidate.lease_base.clone() else {
            self.lead();
            return;
        };
        let (epoch, voters, progress_at) = (candidate.epoch, candidate.voters.clone(), candidate.progress_at);
        if self.due(progress_at + self.settings.candidate_patience_ms) {
            self.give_up("the Lease gives no answer");
            return;
        }
        let renew_at = self.lease.renew_at;
        if !self.lease.is_writing() && self.due(renew_at) {
            self.lease.renew_at = self.now + self.settings.retry_ms;
            let change = LeaseChange { epoch, holder: Some(self.me.clone()), voters: voters.into_iter().collect() };
            self.write_lease_over(WriteKind::Repair, base, change);
        }
    }

    /// Whether the promises are there and its own log is not behind any of a quorum of them (rule 3).
    fn may_lead(&self) -> bool {
        let Role::Candidate(candidate) = &self.role else { return false };
        let own = self.storage.position();
        let (asked, needed) = candidate.asked(self.voter);
        let needed = if self.planted.has(PlantedBug::PromiseQuorumOfOne) { 0 } else { needed };
        let reached = |voter: &&Voter| {
            candidate
                .promises
                .get(*voter)
                .is_some_and(|position| *position <= own || self.planted.has(PlantedBug::NoCatchUp))
        };
        asked.iter().filter(reached).count() >= needed
    }

    /// With enough promises but a log that is behind, the one that is furthest ahead is fetched from.
    fn choose_source(&mut self) {
        let own = self.storage.position();
        let now = self.now;
        let Role::Candidate(candidate) = &mut self.role else { return };
        let (asked, needed) = candidate.asked(self.voter);
        let promised: Vec<_> =
            asked.iter().filter_map(|voter| Some((*candidate.promises.get(voter)?, voter.broker_id))).collect();
        if promised.len() < needed {
            return;
        }
        if let Some(source) = candidate.source
            && promised.iter().any(|(position, broker)| *broker == source && *position > own)
        {
            return;
        }
        candidate.failed_sources.retain(|_, until| *until > now);
        let failed = &candidate.failed_sources;
        let best =
            promised.into_iter().filter(|(position, broker)| *position > own && !failed.contains_key(broker)).max();
        candidate.source = best.map(|(_, broker)| broker);
        let next_failure = failed.values().min().copied();
        if candidate.source.is_some() {
            self.fetching.restart(now);
        } else if let Some(until) = next_failure {
            self.due(until);
        }
    }

    /// The source of a candidate's tail did not answer or keeps its promise no more.
    pub(super) fn source_refused(&mut self, broker: BrokerId) {
        let until = self.now + self.settings.request_timeout_ms;
        if let Role::Candidate(candidate) = &mut self.role
            && candidate.source == Some(broker)
        {
            candidate.source = None;
            candidate.failed_sources.insert(broker, until);
        }
    }

    pub(super) fn promised(&mut self, voter: Voter, answer: &PromiseAnswer) {
        let (now, me) = (self.now, self.me.clone());
        if let Role::Candidate(candidate) = &mut self.role
            && candidate.epoch == answer.epoch
            && answer.granted
            && answer.promised == (Promise { epoch: answer.epoch, holder: Some(me) })
        {
            if candidate.promises.insert(voter, answer.position).is_none() {
                candidate.progress_at = now;
            }
            return;
        }
        if answer.promised.epoch > self.known.epoch {
            self.hear_of(&answer.promised);
            self.want_lease_read();
        }
    }

    /// Rule 1d.
    pub(super) fn give_up(&mut self, why: &str) {
        let held = self.holds_lease();
        self.step_down(why);
        let until = self.now + self.settings.back_off_ms + self.random.below(self.settings.back_off_ms);
        self.lease.renew_at = self.now;
        if let Some(follower) = self.follower() {
            follower.back_off_until = until;
            follower.release_wanted = held;
        }
    }

    /// Rule 4: it appends the epoch record, and decides once that is committed.
    pub(super) fn lead(&mut self) {
        let Role::Candidate(candidate) = &self.role else { return };
        let (epoch, voters) = (candidate.epoch, candidate.voters.clone());
        let recovered_without = candidate.recovered_without.clone();
        let epoch_start = self.storage.position().end;
        let me = self.me.clone();
        let outcome = self.storage.append_epoch_record(epoch, &me, &recovered_without);
        if self.stored(outcome).is_none() {
            self.give_up("the epoch record could not be appended");
            return;
        }
        let epoch_record_end = self.storage.position().end;
        info!(epoch, epoch_start, "controller, once the epoch record is committed");
        self.fetching = super::fetching::Fetching::default();
        self.lease.renew_at = self.now + self.settings.renew_interval_ms;
        self.role = Role::Controller(Controlling::new(epoch, epoch_record_end, voters, self.now, recovered_without));
        self.announce();
        self.log_grew();
    }
}
