// SPDX-License-Identifier: Apache-2.0
//! A member that has appended its epoch record: it takes acknowledgements, commits (rule 5), keeps the voters as they
//! should be (rule 6), repairs a fallen Lease (rule 10), and hands over at a clean stop.

use std::collections::{BTreeMap, BTreeSet};

use odradek_model::{BrokerId, ControllerEpoch, Offset};
use tracing::info;

use super::effect::Effect;
use super::lease_knowledge::{InPlaceOfLease, WriteKind};
use super::member::{QuorumMember, Resignation, Role};
use super::message::{FetchOutcome, FetchRequest, MessageBody, RequestId};
use super::planted::PlantedBug;
use super::sizes::quorum_end;
use super::storage::{LeaseStamp, LogPosition, Promise, QuorumStorage, StoredVoterSet};
use super::voter_policy::{Member, next_change};
use super::{VoterSet, voter_policy};
use crate::{LeaseChange, LeaseView, Voter};

/// What is known of a follower's log.
#[derive(Debug)]
struct Progress {
    /// It has all below this fsynced, and that was matched to the controller's log in this epoch.
    acknowledged: Offset,
    /// When it last fetched.
    fetched_at: u64,
}

/// A fetch with nothing to send yet.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) request: RequestId,
    position: LogPosition,
    commit_end: Offset,
    until: u64,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Controlling {
    pub(super) epoch: ControllerEpoch,
    /// The end of the batch with the epoch record; only from there on acknowledgements commit.
    epoch_record_end: Offset,
    /// The voters of the newest view of the Lease. Pending sets are on disk.
    pub(super) voters: VoterSet,
    /// Whether the epoch record is committed.
    pub(super) leads: bool,
    since: u64,
    /// By folder; bounded by the brokers there are and the voters.
    followers: BTreeMap<Voter, Progress>,
    /// At most one for each broker.
    pub(super) held: BTreeMap<BrokerId, Held>,
    announce_at: u64,
    voters_due_at: u64,
    /// It stops: from then on it waits no more for its last records to be committed.
    release_by: Option<u64>,
    recovered_without: BTreeSet<Voter>,
}

impl Controlling {
    pub(super) fn new(
        epoch: ControllerEpoch,
        epoch_record_end: Offset,
        voters: VoterSet,
        now: u64,
        recovered_without: BTreeSet<Voter>,
    ) -> Self {
        Self {
            epoch,
            epoch_record_end,
            voters,
            leads: false,
            since: now,
            followers: BTreeMap::new(),
            held: BTreeMap::new(),
            announce_at: now,
            voters_due_at: now,
            release_by: None,
            recovered_without,
        }
    }
}

impl<S: QuorumStorage> QuorumMember<S> {
    fn controlling(&mut self) -> Option<&mut Controlling> {
        match &mut self.role {
            Role::Controller(controlling) => Some(controlling),
            _ => None,
        }
    }

    // === acknowledgements and commit ===

    /// A fetch of a follower or observer. It acknowledges only if it names this epoch and holder, and its position
    /// matches.
    pub(super) fn fetch_at_controller(&mut self, voter: Voter, request: RequestId, fetch: &FetchRequest) {
        let from = voter.broker_id;
        let own = Promise { epoch: self.own_epoch().unwrap_or(0), holder: Some(self.me.clone()) };
        if fetch.accepted != own {
            let outcome =
                if fetch.accepted.epoch < own.epoch { FetchOutcome::AcceptEpoch } else { FetchOutcome::NotController };
            self.answer_fetch(from, request, outcome);
            return;
        }
        let outcome = self.log_after(fetch.position);
        let matched = matches!(outcome, FetchOutcome::Batches(_))
            || (self.planted.has(PlantedBug::UnmatchedAcknowledged)
                && fetch.position.end <= self.storage.position().end);
        self.note_fetch(voter, matched.then_some(fetch.position.end));
        self.advance_commit();
        let nothing_new = matches!(&outcome, FetchOutcome::Batches(batches) if batches.is_empty())
            && fetch.commit_end >= self.commit_end.min(fetch.position.end);
        if nothing_new {
            let until = self.now + self.settings.fetch_hold_ms;
            let held = Held { request, position: fetch.position, commit_end: fetch.commit_end, until };
            if let Some(controlling) = self.controlling() {
                controlling.held.insert(from, held);
            }
        } else {
            if let Some(controlling) = self.controlling() {
                controlling.held.remove(&from);
            }
            self.answer_fetch(from, request, outcome);
        }
    }

    fn note_fetch(&mut self, voter: Voter, matched: Option<Offset>) {
        let now = self.now;
        let known = self.brokers.contains_key(&voter.broker_id);
        let pending = self.pending_sets();
        let Some(controlling) = self.controlling() else { return };
        let is_voter =
            |voter: &Voter| controlling.voters.contains(voter) || pending.iter().any(|set| set.contains(voter));
        if !known && !is_voter(&voter) {
            return;
        }
        // An earlier folder of the same broker, if it is no voter, is of no more interest.
        let obsolete: Vec<_> = controlling
            .followers
            .keys()
            .filter(|other| other.broker_id == voter.broker_id && **other != voter && !is_voter(other))
            .copied()
            .collect();
        for other in obsolete {
            controlling.followers.remove(&other);
        }
        let progress = controlling.followers.entry(voter).or_insert(Progress { acknowledged: 0, fetched_at: now });
        progress.fetched_at = now;
        progress.acknowledged = progress.acknowledged.max(matched.unwrap_or(0));
    }

    fn pending_sets(&self) -> Vec<VoterSet> {
        self.storage.voter_sets().pending.iter().map(|set| set.voters.clone()).collect()
    }

    /// Up to where a commit quorum of each of the sets has acknowledged.
    fn acknowledged_end<'a>(&self, sets: impl IntoIterator<Item = &'a VoterSet>) -> Offset {
        let Role::Controller(controlling) = &self.role else { return 0 };
        let own_end = self.storage.position().end;
        quorum_end(sets, |voter| {
            if *voter == self.voter {
                own_end
            } else {
                controlling.followers.get(voter).map_or(0, |progress| progress.acknowledged)
            }
        })
    }

    /// Rule 5. While a change of voters is undecided, the old and the new set both have to agree (rule 6).
    pub(super) fn advance_commit(&mut self) {
        let pending = self.pending_sets();
        let Role::Controller(controlling) = &self.role else { return };
        let (epoch_record_end, voters) = (controlling.epoch_record_end, controlling.voters.clone());
        let end = if self.planted.has(PlantedBug::CommitWithoutPendingSet) {
            self.acknowledged_end([&voters])
        } else {
            self.acknowledged_end(pending.iter().chain([&voters]))
        };
        if end < epoch_record_end && !self.planted.has(PlantedBug::OlderEpochsCounted) {
            return;
        }
        self.committed(end);
        let commit_end = self.commit_end;
        let Some(controlling) = self.controlling() else { return };
        if !controlling.leads && commit_end >= epoch_record_end {
            controlling.leads = true;
            let (epoch, recovered_without) = (controlling.epoch, controlling.recovered_without.clone());
            info!(epoch, commit_end, "the epoch record is committed: leading the metadata");
            self.effects.push(Effect::Leading { epoch, recovered_without });
        }
    }

    /// The controller's own log has grown, and is fsynced.
    pub(super) fn log_grew(&mut self) {
        self.advance_commit();
    }

    /// Answers the fetches for which there is something new, or whose time is over.
    fn answer_held(&mut self) {
        let (end, commit_end, now) = (self.storage.position().end, self.commit_end, self.now);
        let Some(controlling) = self.controlling() else { return };
        let ripe: Vec<_> = controlling
            .held
            .extract_if(.., |_, held| {
                held.position.end < end || held.commit_end < commit_end.min(held.position.end) || held.until <= now
            })
            .collect();
        for (broker, held) in ripe {
            let outcome = self.log_after(held.position);
            self.answer_fetch(broker, held.request, outcome);
        }
    }

    // === time ===

    pub(super) fn controller_timers(&mut self) {
        self.answer_held();
        let Role::Controller(controlling) = &self.role else { return };
        let next_held = controlling.held.values().map(|held| held.until).min();
        let (announce_at, voters_due_at) = (controlling.announce_at, controlling.voters_due_at);
        if let Some(until) = next_held {
            self.due(until);
        }
        if self.due(announce_at) {
            self.announce();
        }
        if self.resigns() {
            self.hand_over();
            return;
        }
        if let Some(InPlaceOfLease(found)) = self.lease.fallen.clone() {
            self.repair_lease(found);
        }
        if self.due(voters_due_at) {
            let next = self.now + self.settings.retry_ms;
            if let Some(controlling) = self.controlling() {
                controlling.voters_due_at = next;
            }
            self.consider_voters();
        }
    }

    /// Tells all that do not fetch that there is a controller.
    pub(super) fn announce(&mut self) {
        let (now, session_ms) = (self.now, self.settings.session_ms);
        let next = now + self.settings.request_timeout_ms;
        let peers = self.peers();
        let Some(controlling) = self.controlling() else { return };
        controlling.announce_at = next;
        let epoch = controlling.epoch;
        let fetches = |broker: &BrokerId| {
            controlling
                .followers
                .iter()
                .any(|(voter, progress)| voter.broker_id == *broker && now < progress.fetched_at + session_ms)
        };
        let silent: Vec<_> = peers.into_iter().filter(|broker| !fetches(broker)).collect();
        for broker in silent {
            self.ask(broker, MessageBody::Announce(epoch));
        }
    }

    /// Rule 10, with a live controller: it puts the Lease back with a higher epoch and its voters, then collects
    /// promises for that epoch as after any take.
    fn repair_lease(&mut self, found: Option<LeaseView>) {
        let renew_at = self.lease.renew_at;
        if self.lease.is_writing() || !self.due(renew_at) {
            return;
        }
        self.lease.renew_at = self.now + self.settings.retry_ms;
        let Role::Controller(controlling) = &self.role else { return };
        let epoch = controlling.epoch.max(self.known.epoch).max(found.as_ref().map_or(0, |view| view.epoch)) + 1;
        let voters = controlling.voters.iter().copied().collect();
        info!(epoch, "putting the controller Lease back");
        let change = LeaseChange { epoch, holder: Some(self.me.clone()), voters };
        self.write_lease_over(WriteKind::Repair, found, change);
    }

    // === voters ===

    /// Something happened that may call for other voters, or allow what had to wait.
    pub(super) fn voters_due_now(&mut self) {
        let now = self.now;
        if let Some(controlling) = self.controlling() {
            controlling.voters_due_at = now;
        }
    }

    /// Changes the voters by one, if policy wants it and rule 6 allows it now.
    fn consider_voters(&mut self) {
        let settled = self.storage.voter_sets().pending.is_empty() && !self.lease.is_writing();
        if !settled || !self.lease.reachable || self.lease.fallen.is_some() || !self.holds_lease() {
            return;
        }
        let Role::Controller(controlling) = &self.role else { return };
        let required = controlling.epoch_record_end.max(self.commit_end);
        let members = self.members_for_policy(required);
        let Some(change) = next_change(self.voter, &controlling.voters, &members) else { return };
        assert!(!matches!(change, voter_policy::VoterChange::Drop(voter) if voter == self.voter), "never itself");
        let voters = change.applied(&controlling.voters);
        // Everything up to the later of the epoch record and the commit point must stand, acknowledged in this epoch,
        // on a commit quorum of the new set.
        if self.acknowledged_end([&voters]) < required && !self.planted.has(PlantedBug::ChangeWithoutCheck) {
            return;
        }
        let base = self.lease.newest.clone().expect("it holds the Lease by a view");
        let mut sets = self.storage.voter_sets().clone();
        sets.pending.push(StoredVoterSet { stamp: LeaseStamp::of(&base), voters: voters.clone() });
        let outcome = self.storage.store_voter_sets(sets);
        if self.stored(outcome).is_none() {
            return;
        }
        info!(?change, "changing the voters of the metadata log");
        self.lease.renew_at = self.now + self.settings.renew_interval_ms;
        let voters = voters.into_iter().collect();
        self.write_lease(WriteKind::ChangeVoters, |view| LeaseView { voters, ..view.clone() });
    }

    fn members_for_policy(&self, required: Offset) -> Vec<Member> {
        let Role::Controller(controlling) = &self.role else { return Vec::new() };
        let rack = |voter: &Voter| self.brokers.get(&voter.broker_id).and_then(|broker| broker.rack.clone());
        let mut members =
            vec![Member { voter: self.voter, rack: rack(&self.voter), alive: true, gone: false, caught_up: true }];
        let silent = controlling.voters.iter().filter(|voter| !controlling.followers.contains_key(voter));
        let silent = silent.filter(|voter| **voter != self.voter).map(|voter| (voter, controlling.since, 0));
        let fetching =
            controlling.followers.iter().map(|(voter, progress)| (voter, progress.fetched_at, progress.acknowledged));
        for (voter, heard_at, acknowledged) in fetching.chain(silent) {
            let relevant = self.brokers.contains_key(&voter.broker_id) || controlling.voters.contains(voter);
            if relevant {
                let is_replaced = self.is_replaced_by_another_folder(controlling, voter, heard_at);
                let is_heard = self.now <= heard_at + self.settings.session_ms;
                members.push(Member {
                    voter: *voter,
                    rack: rack(voter),
                    alive: is_heard && !is_replaced && !self.is_unreachable(voter.broker_id),
                    gone: is_replaced || self.now > heard_at + self.settings.replace_voter_after_ms,
                    caught_up: acknowledged >= required || self.planted.has(PlantedBug::ChangeWithoutCheck),
                });
            }
        }
        members
    }

    /// Whether the voter's folder can be taken for gone for good, so that nothing is gained by waiting for it: its broker
    /// has registered with another one, which was heard since. (A registration alone may be an old one: a new folder may
    /// fetch, and become a voter, before it registers.)
    fn is_replaced_by_another_folder(&self, controlling: &Controlling, voter: &Voter, heard_at: u64) -> bool {
        let registered = self.brokers.get(&voter.broker_id).and_then(|broker| broker.registered_folder);
        registered.is_some_and(|directory_id| {
            let present = Voter { broker_id: voter.broker_id, directory_id };
            present != *voter
                && controlling.followers.get(&present).is_some_and(|progress| progress.fetched_at > heard_at)
        })
    }

    // === a clean stop ===

    pub(super) fn resign(&mut self) {
        if !self.resigns() {
            self.resignation = Resignation::Wanted;
        }
        let by = self.now + self.settings.candidate_patience_ms;
        match &mut self.role {
            Role::Follower(_) => {}
            Role::Candidate(_) => self.give_up("the broker stops"),
            Role::Controller(controlling) => controlling.release_by = Some(by),
        }
    }

    /// Releases the Lease once what it appended is committed, or cannot be within a while.
    fn hand_over(&mut self) {
        let Role::Controller(controlling) = &self.role else { return };
        let release_by = controlling.release_by.unwrap_or(self.now);
        let all_is_committed = self.commit_end == self.storage.position().end;
        if !all_is_committed && !self.due_quietly(release_by) {
            return;
        }
        if !self.holds_lease() {
            self.step_down("the broker stops");
            return;
        }
        let renew_at = self.lease.renew_at;
        if !self.lease.is_writing() && (all_is_committed || self.due(renew_at)) {
            self.lease.renew_at = self.now + self.settings.retry_ms;
            self.release_lease();
        }
    }

    /// The Lease is given back: the voters need not wait until they see it.
    pub(super) fn lease_released(&mut self, view: &LeaseView) {
        let voters = view.voters.iter().filter(|voter| **voter != self.voter);
        for broker in voters.map(|voter| voter.broker_id).collect::<Vec<_>>() {
            self.ask(broker, MessageBody::HandOver(view.clone()));
        }
    }
}
