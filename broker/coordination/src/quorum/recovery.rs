// SPDX-License-Identifier: Apache-2.0
//! The Lease is missing, replaced or older than the logs, and no controller is heard that could put it back (rule 10).
//!
//! All members of all voter sets that this broker keeps are asked, and those that newer answers name, until nothing is
//! added and every one has answered. A mere question first: the answer of a live controller ends it. Then the one with
//! the highest log asks all of them to promise an epoch above all, and takes the Lease with it. Another does so only
//! when the highest does not within a while; it then catches up first. What stands in the Lease counts for nothing.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use tracing::{info, warn};

use super::VoterSet;
use super::lease_knowledge::InPlaceOfLease;
use super::member::QuorumMember;
use super::message::{MessageBody, RequestId, StatusAnswer};
use super::planted::PlantedBug;
use super::storage::{QuorumStorage, StoredVoterSet, VoterSets};
use crate::Voter;

/// Answers older than this many request time-outs are asked for again.
const ANSWERS_LAST: u64 = 4;

/// The questions under way; answers bounded by the members of the voter sets.
#[derive(Debug)]
pub(super) struct Recovery {
    request: RequestId,
    started_at: u64,
    ask_at: u64,
    answers: BTreeMap<Voter, StatusAnswer>,
    /// When another than the highest goes on.
    patience_until: Option<u64>,
}

/// All that have to answer, and the newest voter set, as far as the own sets and the answers tell.
fn members(own: &VoterSets, answers: &BTreeMap<Voter, StatusAnswer>) -> (VoterSet, Option<StoredVoterSet>) {
    let order = |sets: &VoterSets| sets.newest.as_ref().map(|newest| newest.stamp.order());
    let all_of = |sets: &VoterSets| {
        sets.newest.iter().chain(&sets.pending).flat_map(|set| set.voters.iter().copied()).collect::<VoterSet>()
    };
    let mut members = all_of(own);
    let mut newest = own.newest.clone();
    // Answers of brokers that are no members are not counted, so the order of answers does not matter.
    while let Some(answer) = answers
        .iter()
        .filter(|(voter, answer)| members.contains(voter) && order(&answer.voter_sets) >= order(own))
        .map(|(_, answer)| &answer.voter_sets)
        .find(|sets| !all_of(sets).is_subset(&members))
    {
        members.extend(all_of(answer));
    }
    for answer in answers.iter().filter(|(voter, _)| members.contains(voter)).map(|(_, answer)| &answer.voter_sets) {
        if order(answer) > newest.as_ref().map(|newest| newest.stamp.order()) {
            newest.clone_from(&answer.newest);
        }
    }
    (members, newest)
}

impl<S: QuorumStorage> QuorumMember<S> {
    pub(super) fn recovery_timers(&mut self) {
        let own = self.storage.voter_sets().clone();
        if own.newest.is_none() {
            return; // It knows of no voters, so it is none.
        }
        let lasts_ms = ANSWERS_LAST * self.settings.request_timeout_ms;
        let (now, retry_ms) = (self.now, self.settings.retry_ms);
        let request = self.new_request();
        let Some(follower) = self.follower() else { return };
        let recovery = match &mut follower.recovery {
            Some(recovery) if now < recovery.started_at + lasts_ms => recovery,
            stale => stale.insert(Recovery {
                request,
                started_at: now,
                ask_at: now,
                answers: BTreeMap::new(),
                patience_until: None,
            }),
        };
        let over_at = recovery.started_at + lasts_ms;
        let (members, newest) = members(&own, &recovery.answers);
        let (request, ask_at, answers) = (recovery.request, recovery.ask_at, recovery.answers.clone());
        self.due(over_at);
        let missing: Vec<_> = members
            .iter()
            .filter(|voter| **voter != self.voter && !self.gone.contains(voter) && !answers.contains_key(voter))
            .copied()
            .collect();
        let enough = self.planted.has(PlantedBug::RecoveryWithoutAll);
        if !missing.is_empty() && !enough {
            if now >= over_at - self.settings.request_timeout_ms {
                self.say_missing(&missing);
            }
            if self.due(ask_at) {
                for voter in missing {
                    self.send(voter.broker_id, request, MessageBody::AskStatus);
                }
                if let Some(recovery) = self.follower().and_then(|follower| follower.recovery.as_mut()) {
                    recovery.ask_at = now + retry_ms;
                }
            }
            return;
        }
        let newest = newest.expect("its own, at least");
        let voters: VoterSet = newest.voters.difference(&self.gone).copied().collect();
        if !voters.contains(&self.voter) {
            return;
        }
        let position = |voter: &Voter| match answers.get(voter) {
            Some(answer) => answer.position,
            None => self.storage.position(),
        };
        let highest = voters.iter().max_by_key(|voter| (position(voter), Reverse(**voter)));
        if highest != Some(&self.voter) && !self.patience_is_over() {
            return;
        }
        let base = self.lease.fallen.clone().and_then(|InPlaceOfLease(view)| view);
        let epoch = answers
            .values()
            .map(|answer| answer.promised.epoch)
            .chain([self.known.epoch, newest.stamp.epoch])
            .chain(base.as_ref().map(|view| view.epoch))
            .max()
            .expect("there are some")
            + 1;
        let without = members.intersection(&self.gone).copied().collect();
        let mut members: VoterSet = members.difference(&self.gone).copied().collect();
        if enough {
            members.retain(|voter| answers.contains_key(voter));
        }
        self.begin_recovery_candidacy(epoch, voters, members, base, without);
    }

    /// Says whose answers are missing, once each time that others are.
    fn say_missing(&mut self, missing: &[Voter]) {
        let missing: VoterSet = missing.iter().copied().collect();
        if missing != self.said_missing {
            let names: Vec<_> = missing.iter().map(ToString::to_string).collect();
            warn!(
                voters = names.join(", "),
                "the controller Lease is missing or older than the metadata, which wait for the answers of these voters"
            );
            self.said_missing = missing;
        }
    }

    /// Whether the one with the highest log had its time to go ahead.
    fn patience_is_over(&mut self) -> bool {
        let until = self.now + self.settings.candidate_patience_ms + self.random.below(self.settings.back_off_ms);
        let Some(recovery) = self.follower().and_then(|follower| follower.recovery.as_mut()) else { return false };
        let until = *recovery.patience_until.get_or_insert(until);
        self.due_quietly(until)
    }

    pub(super) fn recovery_answer(&mut self, from: Voter, request: RequestId, answer: StatusAnswer) {
        let known = self.known.epoch;
        let until = self.now + 2 * self.settings.retry_ms;
        let Some(follower) = self.follower() else { return };
        let Some(recovery) = follower.recovery.as_mut().filter(|recovery| recovery.request == request) else { return };
        match &answer.hears {
            Some(controller) if controller.epoch >= known => {
                info!(broker = %from.broker_id, ?controller, "somebody hears a controller, which will put the Lease back");
                follower.recovery = None;
                follower.back_off_until = until;
            }
            _ => {
                recovery.answers.insert(from, answer);
            }
        }
    }
}
