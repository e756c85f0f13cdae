// SPDX-License-Identifier: Apache-2.0
//! All that can happen next in a state: the rules of the protocol, each named where it stands.

mod fallen_lease;

use super::state::{Broker, Lease, Log, Needs, Record, Request, Role, State, Voters, commit_quorum, promise_quorum};
use super::{Bounds, MAX_BROKERS, Mistake};

/// The steps of one state.
struct Steps<'a> {
    state: &'a State,
    bounds: &'a Bounds,
    mistake: Option<Mistake>,
    next: &'a mut Vec<State>,
}

/// Puts all successors into `next`; an error if one breaks the property.
pub(super) fn all(
    state: &State,
    bounds: &Bounds,
    mistake: Option<Mistake>,
    next: &mut Vec<State>,
) -> Result<(), String> {
    let mut steps = Steps { state, bounds, mistake, next };
    for broker in (0..bounds.brokers).filter(|broker| bounds.dead & (1 << broker) == 0) {
        steps.restart(broker);
        steps.take(broker);
        steps.read(broker);
        steps.empty_folder(broker);
        match state.brokers[broker].role {
            Role::Follower => steps.recover(broker),
            Role::Candidate { .. } => {
                steps.promise(broker);
                steps.lead(broker)?;
            }
            Role::Controller { epoch, commit_end } => {
                steps.append(broker, epoch);
                steps.replicate(broker, epoch);
                steps.commit(broker, epoch, usize::from(commit_end))?;
                steps.change_voters(broker, epoch, usize::from(commit_end));
                steps.repair(broker, epoch);
            }
        }
    }
    steps.requests_land();
    steps.lease_falls();
    Ok(())
}

impl Steps<'_> {
    fn has(&self, mistake: Mistake) -> bool {
        self.mistake == Some(mistake)
    }

    fn is_alive(&self, broker: usize) -> bool {
        broker < self.bounds.brokers && self.bounds.dead & (1 << broker) == 0
    }

    /// All that live, without the broker itself.
    fn others(&self, broker: usize) -> Vec<usize> {
        (0..MAX_BROKERS).filter(|other| *other != broker && self.is_alive(*other)).collect()
    }

    fn step(&mut self, change: impl FnOnce(&mut State)) {
        let mut next = self.state.clone();
        change(&mut next);
        self.next.push(next);
    }

    fn restart(&mut self, broker: usize) {
        let me = self.state.brokers[broker];
        let forgets = self.has(Mistake::PromiseForgotten) && me.promised.0 > 0;
        if me.role != Role::Follower || forgets {
            self.step(|next| {
                next.brokers[broker].role = Role::Follower;
                if forgets {
                    next.brokers[broker].promised = (0, 0);
                }
            });
        }
    }

    /// Rule 1. The answer may be lost: then it is holder and does not know.
    fn take(&mut self, broker: usize) {
        let me = self.state.brokers[broker];
        let Some(lease) = self.state.lease else { return };
        if lease.epoch >= self.bounds.takes || self.state.writes >= self.bounds.writes || self.has_fallen(&me) {
            return;
        }
        let bit = self.state.bit(broker);
        let first = lease.voters == 0 && me.log.len() == 0;
        if !first && lease.voters & bit == 0 && !self.has(Mistake::NonVoterTakes) {
            return;
        }
        // Rule 10, last sentence; and with four voters, whose promise quorums need not meet.
        let higher = |other: usize| self.is_alive(other) && self.state.brokers[other].promised.0 > lease.epoch;
        let asks = match lease.voters.count_ones() {
            0..=2 => !self.has(Mistake::TakeWithoutAsking),
            4 => !self.has(Mistake::TakeOfFourWithoutAsking),
            _ => false,
        };
        if asks && (0..MAX_BROKERS).any(higher) {
            return;
        }
        let taken = Lease {
            epoch: lease.epoch + 1,
            sequence: lease.sequence + 1,
            holder: Some(broker as u8),
            voters: if first { bit } else { lease.voters },
            ..lease
        };
        self.step(|next| {
            next.lease = Some(taken);
            next.writes += 1;
        });
        if me.promised.0 < taken.epoch {
            self.step(|next| {
                next.lease = Some(taken);
                next.writes += 1;
                next.begin(broker, taken, Needs::PromiseQuorum);
            });
        }
    }

    /// Rule 2, and the tail of rule 3: the promiser's log, if it is ahead, is what the candidate catches up to.
    fn promise(&mut self, broker: usize) {
        let me = self.state.brokers[broker];
        let Role::Candidate { epoch, voters, needs, promised, best } = me.role else { return };
        let asked = if let Needs::All(members) = needs { members } else { voters };
        for other in self.others(broker) {
            let bit = self.state.bit(other);
            let theirs = self.state.brokers[other];
            if asked & bit == 0 || promised & bit != 0 || theirs.promised.0 >= epoch {
                continue;
            }
            let ahead = theirs.log.position() > best.position() && !self.has(Mistake::NoCatchUp);
            let best = if ahead { theirs.log } else { best };
            self.step(|next| {
                next.brokers[other].promised = (epoch, broker as u8);
                next.brokers[other].role = Role::Follower;
                next.brokers[broker].role = Role::Candidate { epoch, voters, needs, promised: promised | bit, best };
            });
        }
    }

    /// Rules 3 and 4: it has the promises and the best log of them, and appends its epoch record. After a recovery it
    /// writes the Lease just before.
    fn lead(&mut self, broker: usize) -> Result<(), String> {
        let me = self.state.brokers[broker];
        let Role::Candidate { epoch, voters, needs, promised, best } = me.role else { return Ok(()) };
        let quorum = promise_quorum(voters);
        let enough = match needs {
            Needs::PromiseQuorum if self.has(Mistake::PromiseQuorumOfOne) => true,
            // Only voters promise and take, unless by mistake.
            Needs::PromiseQuorum => promised.count_ones() >= quorum,
            Needs::Majority => (promised & voters).count_ones() >= quorum.max(voters.count_ones() / 2 + 1),
            Needs::All(members) => promised & members == members,
        };
        if !enough || best.len() >= self.bounds.log || me.promised != (epoch, broker as u8) {
            return Ok(());
        }
        // On this rests that logs are matched by epochs alone.
        let mut records = self.state.brokers.iter().flat_map(|broker| broker.log.records());
        if let Some(other) = records.find(|record| record.epoch() == epoch && record.writer() != broker) {
            return Err(format!("brokers {broker} and {} both lead epoch {epoch}: {:?}", other.writer(), self.state));
        }
        let mut next = self.state.clone();
        if let Needs::All(_) = needs {
            if next.writes >= self.bounds.writes || next.lease.is_some_and(|lease| lease.epoch >= epoch) {
                return Ok(());
            }
            next.put_back(broker, epoch, voters);
        }
        let me = &mut next.brokers[broker];
        me.log = best;
        me.log.push(Record::new(epoch, broker));
        me.role = Role::Controller { epoch, commit_end: 0 };
        self.next.push(next);
        Ok(())
    }

    fn append(&mut self, broker: usize, epoch: u8) {
        if self.state.brokers[broker].log.len() < self.bounds.log {
            self.step(|next| next.brokers[broker].log.push(Record::new(epoch, broker)));
        }
    }

    /// A fetch and its answer, one record at a time: a diverging tail is cut; what matches is acknowledged (rule 5), for
    /// this epoch and this controller only.
    fn replicate(&mut self, broker: usize, epoch: u8) {
        let log = self.state.brokers[broker].log;
        for other in self.others(broker) {
            let theirs = self.state.brokers[other];
            let ours = (epoch, broker as u8);
            let promised_higher = theirs.promised.0 > epoch && !self.has(Mistake::FollowsLower);
            if promised_higher || (theirs.promised.0 == epoch && theirs.promised != ours) {
                continue;
            }
            let matched = theirs.log.matched(log);
            let mut copy = theirs.log;
            copy.cut(matched);
            if theirs.log.len() == matched && matched < log.len() {
                copy.push(log.records()[matched]);
            }
            let folder = self.state.folder(other);
            let mut next = self.state.clone();
            if theirs.promised != ours {
                next.brokers[other].role = Role::Follower;
            }
            next.brokers[other].promised = ours.max(theirs.promised);
            next.brokers[other].log = copy;
            let has =
                if self.has(Mistake::UnmatchedAcknowledged) { theirs.log.len().min(log.len()) } else { copy.len() };
            let acknowledged = &mut next.acknowledged[folder][usize::from(epoch)];
            let before = if acknowledged.0 == broker as u8 { acknowledged.1 } else { 0 };
            let end = before.max(has as u8);
            // Nothing acknowledged is the same to whomever.
            *acknowledged = if end == 0 { (0, 0) } else { (broker as u8, end) };
            if next != *self.state {
                self.next.push(next);
            }
        }
    }

    /// Up to where a commit quorum of the set has acknowledged to this controller.
    fn quorum_end(&self, broker: usize, epoch: u8, voters: Voters) -> usize {
        let own = self.state.bit(broker);
        let log_end = self.state.brokers[broker].log.len();
        let to_whomever = self.has(Mistake::AcknowledgedForAnyEpoch);
        let end_of = |folder: usize| {
            let row = self.state.acknowledged[folder];
            let (to, end) = row[usize::from(epoch)];
            match 1 << folder == own {
                true => log_end,
                false if to_whomever => row.iter().map(|(_, end)| usize::from(*end)).max().unwrap_or(0).min(log_end),
                false if usize::from(to) == broker => usize::from(end),
                false => 0,
            }
        };
        let has = |end: usize| {
            let with = (0..2 * MAX_BROKERS).filter(|folder| voters & (1 << folder) != 0 && end_of(*folder) >= end);
            with.count() as u32 >= commit_quorum(voters)
        };
        (0..=log_end).rev().find(|end| has(*end)).unwrap_or(0)
    }

    fn epoch_record_end(log: Log, epoch: u8) -> usize {
        log.records().iter().position(|record| record.epoch() == epoch).map_or(usize::MAX, |at| at + 1)
    }

    /// Rule 5, and rule 6's old and new set.
    fn commit(&mut self, broker: usize, epoch: u8, commit_end: usize) -> Result<(), String> {
        let me = self.state.brokers[broker];
        let voters = me.seen.map_or(0, |seen| seen.voters);
        let mut end = self.quorum_end(broker, epoch, voters);
        if let Some((_, pending)) = me.pending.filter(|_| !self.has(Mistake::CommitWithoutPendingSet)) {
            let of_pending = self.quorum_end(broker, epoch, pending);
            end = if self.has(Mistake::CommitWithoutOldSet) { of_pending } else { end.min(of_pending) };
        }
        let counts = end >= Self::epoch_record_end(me.log, epoch) || self.has(Mistake::OlderEpochsCounted);
        if end <= commit_end || !counts {
            return Ok(());
        }
        let records = &me.log.records()[..end];
        let committed = self.state.committed.records();
        let common = records.len().min(committed.len());
        if records[..common] != committed[..common] {
            return Err(format!("broker {broker} commits {records:?}, {committed:?} was committed: {:?}", self.state));
        }
        self.step(|next| {
            next.brokers[broker].role = Role::Controller { epoch, commit_end: end as u8 };
            if end > next.committed.len() {
                next.committed = me.log;
                next.committed.cut(end);
            }
        });
        Ok(())
    }

    /// Rule 6, and renewals, which settle what became of a change (rule 7).
    fn change_voters(&mut self, broker: usize, epoch: u8, commit_end: usize) {
        let me = self.state.brokers[broker];
        let Some(seen) = me.seen else { return };
        if !self.bounds.changes || self.state.requests[1].is_some() || seen.sequence >= self.bounds.writes {
            return;
        }
        let request =
            |voters| Request { life: seen.life, sequence: seen.sequence, epoch, holder: broker as u8, voters };
        self.send(request(seen.voters), |_| {});
        if me.pending.is_some() && !self.has(Mistake::SecondChangeWhilePending) {
            return;
        }
        let required = Self::epoch_record_end(me.log, epoch).max(commit_end);
        let present = (0..self.bounds.brokers).filter(|other| *other != broker).map(|other| self.state.folder(other));
        let obsolete = (0..2 * MAX_BROKERS)
            .filter(|folder| seen.voters & (1 << folder) != 0 && self.state.broker_of(*folder).is_none());
        for folder in present.chain(obsolete).collect::<Vec<_>>() {
            let voters = seen.voters ^ (1 << folder);
            if self.quorum_end(broker, epoch, voters) < required && !self.has(Mistake::ChangeWithoutCheck) {
                continue;
            }
            self.send(request(voters), |next| next.brokers[broker].pending = Some((seen.sequence, voters)));
        }
    }

    fn send(&mut self, request: Request, also: impl FnOnce(&mut State)) {
        if self.state.requests.contains(&Some(request)) {
            return;
        }
        self.step(|next| {
            also(next);
            let free = usize::from(next.requests[0].is_some());
            next.requests[free] = Some(request);
            next.order_requests();
        });
    }

    /// A request reaches the API server, or never does.
    fn requests_land(&mut self) {
        let without_compare_and_set = self.has(Mistake::LeaseWithoutCompareAndSet);
        for at in 0..2 {
            let Some(request) = self.state.requests[at] else { continue };
            self.step(|next| {
                next.requests[at] = None;
                next.order_requests();
                let Some(lease) = &mut next.lease else { return };
                let based =
                    (lease.life, lease.epoch, lease.sequence) == (request.life, request.epoch, request.sequence);
                if based || without_compare_and_set {
                    lease.voters = request.voters;
                    lease.sequence += 1;
                    next.writes += 1;
                }
            });
        }
    }

    /// Rules 7 and 8.
    fn read(&mut self, broker: usize) {
        let me = self.state.brokers[broker];
        let Some(lease) = self.state.lease else { return };
        let controls = matches!(me.role, Role::Controller { .. });
        // What others have seen matters only if the Lease can fall.
        if (!controls && self.bounds.falls == 0) || self.has_fallen(&me) || lease.voters == 0 {
            return;
        }
        let mine = matches!(me.role, Role::Controller { epoch, .. } if epoch == lease.epoch)
            && lease.holder == Some(broker as u8);
        let candidate_of_it = matches!(me.role, Role::Candidate { epoch, .. } if epoch >= lease.epoch);
        let forgets = self.has(Mistake::PendingForgottenAfterRead);
        let mut next = self.state.clone();
        let me = &mut next.brokers[broker];
        let undecided = |(sequence, _): &(u8, Voters)| {
            !forgets && me.seen.is_some_and(|seen| seen.life == lease.life) && *sequence >= lease.sequence
        };
        me.pending = me.pending.filter(undecided);
        me.seen = Some(lease);
        if !mine && !candidate_of_it {
            me.role = Role::Follower;
        }
        if next != *self.state {
            self.next.push(next);
        }
    }

    /// Rule 9: an emptied folder is another voter. Within the budget: one of those named is lost at most, and never the
    /// only one.
    fn empty_folder(&mut self, broker: usize) {
        let state = self.state;
        let emptied = state.brokers.iter().filter(|broker| broker.emptied).count();
        if emptied >= usize::from(self.bounds.emptied) || state.brokers[broker].emptied {
            return;
        }
        let bit = state.bit(broker);
        let living: Voters = (0..self.bounds.brokers).map(|broker| state.bit(broker)).fold(0, |all, bit| all | bit);
        let bearable = |voters: Voters| voters & !living == 0 && (voters & bit == 0 || voters.count_ones() > 1);
        let seen = state.brokers.iter().filter_map(|broker| broker.seen.map(|seen| seen.voters));
        let pending = state.brokers.iter().filter_map(|broker| broker.pending.map(|(_, voters)| voters));
        let sent = state.requests.iter().flatten().map(|request| request.voters);
        let named = state.lease.iter().map(|lease| lease.voters).chain(seen).chain(pending).chain(sent);
        if !named.into_iter().all(bearable) {
            return;
        }
        let keeps = self.has(Mistake::EmptiedFolderKeepsIdentity);
        self.step(|next| {
            let broker = &mut next.brokers[broker];
            if keeps && broker.log.len() == 0 {
                return; // nothing to lose
            }
            *broker = Broker {
                log: Log::default(),
                promised: (0, 0),
                seen: None,
                pending: None,
                emptied: !keeps,
                role: Role::Follower,
            };
        });
    }
}

impl State {
    /// The broker holds the Lease and begins to collect promises.
    fn begin(&mut self, broker: usize, lease: Lease, needs: Needs) {
        let bit = self.bit(broker);
        let me = &mut self.brokers[broker];
        me.promised = (lease.epoch, broker as u8);
        me.seen = Some(lease);
        me.pending = None;
        me.role = Role::Candidate { epoch: lease.epoch, voters: lease.voters, needs, promised: bit, best: me.log };
    }
}
