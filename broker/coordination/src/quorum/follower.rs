// SPDX-License-Identifier: Apache-2.0
//! A member that does not lead: it follows the controller, looks for one, and decides when to take the Lease (rule 1).

use std::collections::{BTreeMap, BTreeSet};

use odradek_model::BrokerId;
use tracing::info;

use super::effect::Effect;
use super::lease_knowledge::WriteKind;
use super::member::{QuorumMember, Resignation, Role};
use super::message::{FetchPurpose, MessageBody, RequestId, StatusAnswer};
use super::planted::PlantedBug;
use super::recovery::Recovery;
use super::storage::{Promise, QuorumStorage};
use super::take_policy::{Situation, TakeDecision, decide};
use crate::{LeaseView, Voter};

/// Questions to other brokers before a take. Bounded by the brokers there are.
#[derive(Debug)]
pub(super) struct Inquiry {
    request: RequestId,
    started_at: u64,
    /// The version of the newest view when it began: what everyone says before a take must be said after that of which
    /// the take is the next version.
    version: String,
    everyone: bool,
    waiting: BTreeSet<BrokerId>,
    /// Whether each hears the controller.
    answers: BTreeMap<Voter, bool>,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Follower {
    /// Under way before a take.
    pub(super) inquiry: Option<Inquiry>,
    /// No inquiry before.
    inquire_at: u64,
    /// It gave up, and does not take before.
    pub(super) back_off_until: u64,
    /// When to ask around for a controller next.
    search_at: u64,
    /// The Lease is still its own though it leads nothing: give it back.
    pub(super) release_wanted: bool,
    /// Rule 10.
    pub(super) recovery: Option<Recovery>,
}

impl<S: QuorumStorage> QuorumMember<S> {
    pub(super) fn follower(&mut self) -> Option<&mut Follower> {
        match &mut self.role {
            Role::Follower(follower) => Some(follower),
            _ => None,
        }
    }

    pub(super) fn follower_timers(&mut self) {
        let followed = self.known.holder.as_ref().map(|holder| holder.broker_id).filter(|id| *id != self.me.broker_id);
        if let Some(controller) = followed {
            self.fetch_timers(controller, FetchPurpose::Follow);
        }
        if self.hears() {
            if let Some(follower) = self.follower() {
                follower.recovery = None;
            }
        } else {
            let search_at = self.follower().map_or(0, |follower| follower.search_at);
            if self.due(search_at) {
                let next = self.now + 2 * self.settings.retry_ms;
                if let Some(follower) = self.follower() {
                    follower.search_at = next;
                }
                for peer in self.peers() {
                    self.ask(peer, MessageBody::AskStatus);
                }
            }
        }
        let lease_is_mine = self.lease.newest.as_ref().is_some_and(|view| view.holder.as_ref() == Some(&self.me));
        let release_wanted = self.resigns() || self.follower().is_some_and(|follower| follower.release_wanted);
        if release_wanted && !self.lease.is_writing() && self.lease.fallen.is_none() {
            if lease_is_mine {
                let renew_at = self.lease.renew_at;
                if self.due(renew_at) {
                    self.lease.renew_at = self.now + self.settings.retry_ms;
                    self.release_lease();
                }
            } else {
                if let Some(follower) = self.follower() {
                    follower.release_wanted = false;
                }
                if self.resignation == Resignation::Wanted {
                    self.resignation = Resignation::Told;
                    self.effects.push(Effect::Resigned);
                }
            }
        }
        if self.image_is_loaded && !self.resigns() && !self.lease.is_writing() {
            let back_off_until = self.follower().map_or(0, |follower| follower.back_off_until);
            if self.due_quietly(back_off_until) {
                if self.lease.fallen.is_some() {
                    if !self.hears() {
                        self.recovery_timers();
                    }
                } else if !self.lease.is_doubtful {
                    self.consider_taking();
                }
            }
        }
    }

    /// As [`Self::due`] for times that, once come, need no further round of timers.
    pub(super) fn due_quietly(&mut self, at: u64) -> bool {
        self.now >= at || self.due(at)
    }

    fn consider_taking(&mut self) {
        let Some(view) = self.lease.newest.clone() else { return };
        if self.known.epoch > view.epoch {
            // Either there is a newer Lease or it has fallen: the next read tells.
            return;
        }
        let voters: super::VoterSet = view.voters.iter().copied().collect();
        let unchanged_at = self.lease.changed_at + self.settings.lease_duration_ms;
        let holder_broker = view.holder.as_ref().map(|holder| holder.broker_id);
        let (others_without, asked_everyone) = self.inquiry_result(&voters, &view.version);
        let situation = Situation {
            holder: view.holder.as_ref(),
            voters: &voters,
            me: self.voter,
            log_is_empty: self.storage.position().end == 0 && self.storage.voter_sets().newest.is_none(),
            holder_is_known: holder_broker.is_none_or(|broker| self.brokers.contains_key(&broker)),
            hears: self.hears(),
            probe_failed: holder_broker.is_some_and(|broker| self.is_unreachable(broker)),
            lease_unchanged: self.now >= unchanged_at,
            others_without,
            asked_everyone,
        };
        let mut decision = decide(&situation);
        if self.planted.has(PlantedBug::NonVoterTakes) && !voters.contains(&self.voter) && !situation.hears {
            decision = TakeDecision::Take;
        }
        match decision {
            TakeDecision::Wait => {
                let now = self.now;
                if let Some(follower) = self.follower() {
                    follower.inquiry = None;
                    follower.inquire_at = now;
                }
                if !situation.hears && !situation.lease_unchanged {
                    self.due(unchanged_at);
                }
            }
            TakeDecision::AskVoters => {
                self.inquire(false, voters.iter().map(|voter| voter.broker_id).collect(), view.version);
            }
            TakeDecision::AskEveryone => self.inquire(true, self.peers(), view.version),
            TakeDecision::Take => self.take_lease(&view),
        }
    }

    fn take_lease(&mut self, view: &LeaseView) {
        let epoch = self.next_epoch();
        info!(epoch, holder = ?view.holder, "taking the controller Lease");
        let (me, voter) = (self.me.clone(), self.voter);
        self.write_lease(WriteKind::Take, |view| {
            let voters = if view.voters.is_empty() { vec![voter] } else { view.voters.clone() };
            LeaseView { epoch, holder: Some(me), voters, ..view.clone() }
        });
    }

    /// Asks, unless it is asking already or asked a moment ago. Everyone is asked anew when the Lease has changed.
    fn inquire(&mut self, everyone: bool, mut asked: BTreeSet<BrokerId>, version: String) {
        asked.remove(&self.me.broker_id);
        let wait_ms = self.inquiry_wait_ms();
        let now = self.now;
        let Some(follower) = self.follower() else { return };
        let inquiry = follower.inquiry.as_ref().filter(|inquiry| inquiry.everyone == everyone);
        let outdated = inquiry.is_some_and(|inquiry| everyone && inquiry.version != version);
        if let Some(inquiry) = inquiry
            && !outdated
            && now < inquiry.started_at + wait_ms
        {
            let over_at = inquiry.started_at + wait_ms;
            self.due(over_at);
            return;
        }
        let inquire_at = follower.inquire_at;
        if !outdated && !self.due(inquire_at) {
            return;
        }
        let request = self.new_request();
        let pause = wait_ms + self.random.below(wait_ms);
        // Nobody waits for whom a probe did not reach; should it be there after all, its answer counts.
        let waiting = asked.iter().copied().filter(|broker| !self.is_unreachable(*broker)).collect();
        // If that leaves nobody, the result is there already.
        self.due(now);
        if let Some(follower) = self.follower() {
            follower.inquire_at = now + pause;
            let answers = BTreeMap::new();
            follower.inquiry = Some(Inquiry { request, started_at: now, version, everyone, waiting, answers });
        }
        for broker in asked {
            self.send(broker, request, MessageBody::AskStatus);
        }
    }

    /// How long answers to an inquiry are waited for.
    fn inquiry_wait_ms(&self) -> u64 {
        2 * self.settings.retry_ms
    }

    /// Other voters that hear nobody, and whether everyone was asked since the view of this version was there. A take
    /// that was refused is repeated on the same answers while they are fresh.
    fn inquiry_result(&self, voters: &super::VoterSet, version: &str) -> (usize, bool) {
        let Role::Follower(Follower { inquiry, .. }) = &self.role else { return (0, false) };
        let wait_ms = self.inquiry_wait_ms();
        let fresh = |inquiry: &&Inquiry| self.now < inquiry.started_at + 2 * wait_ms;
        let Some(inquiry) = inquiry.as_ref().filter(fresh) else { return (0, self.peers().is_empty()) };
        let without = |(voter, hears): &(&Voter, &bool)| !**hears && voters.contains(voter);
        let waited = self.now >= inquiry.started_at + wait_ms;
        let all = inquiry.everyone && inquiry.version == version && (inquiry.waiting.is_empty() || waited);
        (inquiry.answers.iter().filter(without).count(), all)
    }

    pub(super) fn inquiry_unreachable(&mut self, broker: BrokerId) {
        if let Some(Follower { inquiry: Some(inquiry), .. }) = self.follower() {
            inquiry.waiting.remove(&broker);
        }
    }

    pub(super) fn status_received(&mut self, from: Voter, request: RequestId, answer: StatusAnswer) {
        // A promise made is an epoch heard of, but says nothing of a controller being there.
        let promised = answer.promised.clone();
        if promised.epoch > self.known.epoch {
            self.hear_of(&Promise { epoch: promised.epoch, holder: None });
            self.want_lease_read();
        }
        // That it still hears this broker, which does not lead, is no news.
        let (me, own_epoch) = (self.me.broker_id, self.own_epoch());
        let heard = answer.hears.clone().filter(|controller| {
            own_epoch.is_some() || controller.holder.as_ref().is_none_or(|holder| holder.broker_id != me)
        });
        let answer = StatusAnswer { hears: heard, ..answer };
        if let Some(controller) = answer.hears.as_ref().filter(|controller| controller.epoch >= self.known.epoch) {
            self.hear_of(controller);
        }
        let hears = answer.hears.is_some();
        if let Some(Follower { inquiry: Some(inquiry), .. }) = self.follower()
            && inquiry.request == request
        {
            inquiry.waiting.remove(&from.broker_id);
            inquiry.answers.insert(from, hears);
        }
        self.recovery_answer(from, request, answer);
    }
}
