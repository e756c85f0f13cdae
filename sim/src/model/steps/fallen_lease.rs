// SPDX-License-Identifier: Apache-2.0
//! Rule 10: the Lease is missing, replaced or older than what was seen of it.

use super::super::state::{Broker, Lease, Needs, Role, State, Voters};
use super::super::{MAX_BROKERS, Mistake};
use super::Steps;

impl Steps<'_> {
    /// Whether what stands in place of the Lease cannot be what this broker knows of (rule 10).
    pub(super) fn has_fallen(&self, broker: &Broker) -> bool {
        let Some(lease) = self.state.lease else { return true };
        let Some(seen) = broker.seen else { return lease.epoch < broker.promised.0 };
        if seen.life == lease.life {
            return lease.epoch < broker.promised.0 || (lease.epoch, lease.sequence) < (seen.epoch, seen.sequence);
        }
        let promised = broker.promised;
        let due = lease.epoch > promised.0 || (lease.epoch == promised.0 && lease.holder == Some(promised.1));
        !(due && lease.epoch > seen.epoch)
    }

    /// The Lease is deleted or rolled back, while every broker has seen its voters and none is about to change them.
    pub(super) fn lease_falls(&mut self) {
        let Some(lease) = self.state.lease else { return };
        if self.bounds.falls == 0 {
            return;
        }
        if self.state.backup.is_none() {
            self.step(|next| next.backup = Some(lease));
        }
        let brokers = (0..self.bounds.brokers).filter(|broker| self.is_alive(*broker));
        let known = brokers
            .map(|broker| self.state.brokers[broker])
            .all(|broker| broker.pending.is_none() && broker.seen.is_some_and(|seen| seen.voters == lease.voters));
        if self.state.falls >= self.bounds.falls || !known {
            return;
        }
        self.step(|next| {
            next.lease = None;
            next.falls += 1;
        });
        if let Some(backup) = self.state.backup.filter(|backup| *backup != lease && backup.voters == lease.voters) {
            self.step(|next| {
                next.lease = Some(backup);
                next.falls += 1;
            });
        }
    }

    /// A live controller puts the Lease back with a higher epoch and its voters; the answer may be lost.
    pub(super) fn repair(&mut self, broker: usize, epoch: u8) {
        let me = self.state.brokers[broker];
        let epoch = epoch.max(self.state.lease.map_or(0, |lease| lease.epoch)) + 1;
        if epoch > self.bounds.takes || self.state.writes >= self.bounds.writes || !self.has_fallen(&me) {
            return;
        }
        let Some(seen) = me.seen else { return };
        let needs = if self.has(Mistake::RepairWithPromiseQuorum) { Needs::PromiseQuorum } else { Needs::Majority };
        self.step(|next| {
            next.put_back(broker, epoch, seen.voters);
            // It does not know yet.
            next.brokers[broker].seen = me.seen;
            next.brokers[broker].pending = me.pending;
        });
        self.step(|next| {
            next.put_back(broker, epoch, seen.voters);
            let lease = next.lease.expect("it was put back");
            next.begin(broker, lease, needs);
        });
    }

    /// Without a live controller: all members of all voter sets that it and they know of are asked.
    pub(super) fn recover(&mut self, broker: usize) {
        let me = self.state.brokers[broker];
        let Some(seen) = me.seen else { return };
        if self.bounds.falls == 0 || !self.has_fallen(&me) {
            return;
        }
        if self.has(Mistake::FallenLeaseIsBootstrap) && self.state.lease.is_none() && me.promised.0 < self.bounds.takes
        {
            let (bit, epoch) = (self.state.bit(broker), me.promised.0 + 1);
            self.step(|next| {
                next.put_back(broker, epoch, bit);
                let lease = next.lease.expect("it was put back");
                next.begin(broker, lease, Needs::PromiseQuorum);
            });
            return;
        }
        let answer = |folder: usize| {
            let broker = self.state.broker_of(folder).filter(|broker| self.is_alive(*broker))?;
            Some(self.state.brokers[broker])
        };
        let order = |lease: &Lease| (lease.epoch, lease.sequence);
        let mut members = seen.voters | me.pending.map_or(0, |(_, voters)| voters);
        let mut newest = seen;
        let mut best = me.log;
        let mut epoch = me.promised.0.max(seen.epoch).max(self.state.lease.map_or(0, |lease| lease.epoch));
        loop {
            let before = members;
            for folder in (0..2 * MAX_BROKERS).filter(|folder| before & (1 << folder) != 0) {
                let Some(theirs) = answer(folder) else {
                    if self.has(Mistake::RecoveryWithoutAll) {
                        members &= !(1 << folder);
                        continue;
                    }
                    return; // it waits
                };
                if matches!(theirs.role, Role::Controller { .. }) {
                    return; // it lets that one put the Lease back
                }
                epoch = epoch.max(theirs.promised.0);
                best = if theirs.log.position() > best.position() { theirs.log } else { best };
                if let Some(theirs_seen) = theirs.seen.filter(|theirs| order(theirs) >= order(&seen)) {
                    members |= theirs_seen.voters | theirs.pending.map_or(0, |(_, voters)| voters);
                    newest = if order(&theirs_seen) > order(&newest) { theirs_seen } else { newest };
                }
            }
            if members == before || self.has(Mistake::RecoveryWithoutAll) {
                break;
            }
        }
        let bit = self.state.bit(broker);
        epoch += 1;
        if newest.voters & bit == 0 || epoch > self.bounds.takes {
            return;
        }
        if self.has(Mistake::RecoveryWithoutAll) {
            members = bit;
        }
        let takes_answers_for_promises = self.has(Mistake::RecoveryWithoutPromises);
        self.step(|next| {
            let me = &mut next.brokers[broker];
            me.promised = (epoch, broker as u8);
            let needs = Needs::All(members | bit);
            // The answers to a mere question are no promises, and the logs may grow after them.
            let (promised, best) = if takes_answers_for_promises { (members | bit, best) } else { (bit, me.log) };
            me.role = Role::Candidate { epoch, voters: newest.voters, needs, promised, best };
        });
    }
}

impl State {
    /// The Lease is created anew, or written over whatever stands there.
    pub(super) fn put_back(&mut self, broker: usize, epoch: u8, voters: Voters) {
        let (life, sequence) = if let Some(lease) = self.lease {
            (lease.life, lease.sequence + 1)
        } else {
            self.lives += 1;
            (self.lives - 1, 0)
        };
        let lease = Lease { life, epoch, sequence, holder: Some(broker as u8), voters };
        self.lease = Some(lease);
        self.writes += 1;
        self.brokers[broker].seen = Some(lease);
        self.brokers[broker].pending = None;
    }
}
