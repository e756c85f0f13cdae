// SPDX-License-Identifier: Apache-2.0
//! One run: faults by chance within the budget, then healing, then progress.

use std::collections::BTreeSet;

use odradek_coordination::Voter;
use odradek_coordination::quorum::Input;

use super::lease_api::{ForeignHand, Mending};
use super::world::{Throttling, Trouble, World};
use super::{Happening, Profile, Tally, Violation};

/// After healing, so long until a controller leads and commits: a voter's session, a Lease's duration, a back-off, and
/// the replacement of dead voters, with room.
const PROGRESS_WITHIN_MS: u64 = 60_000;
/// How often the fall of the Lease waits for a quiet moment: some seconds, so that it comes in most of the runs that are
/// to have it.
const LEASE_FALL_ATTEMPTS: u32 = 20;
/// Events of a run; far more are a storm.
const MAX_EVENTS: u64 = 2_000_000;

/// What became of a run.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Outcome {
    /// What went wrong.
    pub violation: Option<Violation>,
    /// Records committed.
    pub committed: i64,
    /// Events that happened.
    pub events: u64,
    /// A number for the whole history.
    pub hash: u64,
    /// What happened how often.
    pub tally: Tally,
    /// The history, if wanted.
    pub story: Vec<String>,
}

/// What ends later.
#[derive(Debug)]
enum Later {
    Start(usize),
    Resume(usize),
    Mend(Vec<(usize, usize)>),
    LeaseBack,
    LeaseMend(usize),
    LeaseHolderMended(Mending),
    Kill(usize),
    Trouble(usize, Trouble),
    /// The Lease falls, unless it has to wait so often once more.
    LeaseFalls(u32),
}

/// Runs the seed's history; `tell` keeps it as text.
pub fn run(seed: u64, profile: &Profile, tell: bool) -> Outcome {
    let mut run = Run { world: World::new(seed, profile.clone(), tell), later: Vec::new(), next_fault: 3_000 };
    run.faults();
    if run.world.violation.is_none() {
        run.heal();
    }
    let world = run.world;
    Outcome {
        violation: world.violation,
        committed: world.oracle.committed(),
        events: world.events,
        hash: world.hash,
        tally: world.tally,
        story: world.story.unwrap_or_default(),
    }
}

struct Run {
    world: World,
    later: Vec<(u64, Later)>,
    next_fault: u64,
}

impl Run {
    fn is_over(&self) -> bool {
        self.world.violation.is_some() || self.world.events > MAX_EVENTS
    }

    /// Lets everything up to the time happen, or up to an event that calls for trouble.
    fn until(&mut self, time: u64) {
        while !self.is_over() && self.world.next_time().is_some_and(|at| at <= time) {
            self.world.step();
            if !self.world.troubles.is_empty() {
                return;
            }
        }
        self.world.now = self.world.now.max(time);
        if self.world.events > MAX_EVENTS {
            self.world.violation.get_or_insert(Violation(format!("a storm of {MAX_EVENTS} events")));
        }
    }

    fn faults(&mut self) {
        let end = self.world.profile.faults_ms;
        let mut next_append = 0;
        while self.world.now < end && !self.is_over() {
            let next_later = self.later.iter().map(|(at, _)| *at).min().unwrap_or(u64::MAX);
            let next = next_append.min(self.next_fault).min(next_later).min(end).max(self.world.now);
            self.until(next);
            let now = self.world.now;
            for (after, id, trouble) in std::mem::take(&mut self.world.troubles) {
                self.later(after, after, Later::Trouble(id, trouble));
            }
            let (due, later) = std::mem::take(&mut self.later).into_iter().partition(|(at, _)| *at <= now);
            self.later = later;
            for (_, later) in due {
                self.happen(later);
            }
            if now >= next_append {
                next_append = now + self.world.random.between(20, 300);
                for id in 0..self.world.brokers.len() {
                    self.world.append(id);
                }
            }
            if now >= self.next_fault {
                let (low, high) = self.world.profile.pause_ms;
                self.next_fault = now + self.world.random.between(low, high);
                self.fault();
            }
        }
    }

    fn later(&mut self, low: u64, high: u64, later: Later) {
        let at = self.world.now + self.world.random.between(low, high);
        self.later.push((at, later));
    }

    fn happen(&mut self, later: Later) {
        match later {
            Later::Start(id) => self.world.start(id),
            Later::Resume(id) => self.world.resume(id),
            Later::Mend(links) => {
                self.world.tell(|| format!("mend {links:?}"));
                for link in links {
                    self.world.cut.remove(&link);
                }
            }
            Later::LeaseBack => {
                self.world.tell(|| "Lease API back".to_owned());
                self.world.lease_away = false;
            }
            Later::LeaseMend(id) => {
                self.world.lease_cut.remove(&id);
            }
            Later::Kill(id) => {
                self.world.kill(id);
                self.later(50, 5_000, Later::Start(id));
            }
            Later::LeaseFalls(attempts) => self.lease_falls(attempts),
            Later::LeaseHolderMended(mending) => self.mend_lease(mending),
            Later::Trouble(id, Trouble::Kill) => {
                self.world.kill(id);
                self.later(20, 2_500, Later::Start(id));
            }
            Later::Trouble(id, Trouble::Start) => self.later(20, 2_500, Later::Start(id)),
            Later::Trouble(id, Trouble::Pause) => {
                if self.world.brokers[id].is_running() && !self.world.brokers[id].paused {
                    self.world.pause(id);
                    self.later(500, 9_000, Later::Resume(id));
                }
            }
            Later::Trouble(id, Trouble::CutOff) => {
                let others = (0..self.world.brokers.len()).filter(|other| *other != id);
                let links = others.flat_map(|other| [(id, other), (other, id)]).collect();
                self.cut(links, 500, 10_000);
            }
        }
    }

    fn cut(&mut self, links: Vec<(usize, usize)>, shortest_ms: u64, longest_ms: u64) {
        self.world.tell(|| format!("cut {links:?}"));
        if !links.is_empty() {
            self.world.tally.note(Happening::LinksCut);
        }
        self.world.cut.extend(links.iter().copied());
        self.later(shortest_ms, longest_ms, Later::Mend(links));
    }

    fn fault(&mut self) {
        let n = self.world.brokers.len();
        let mut id = self.world.random.between(0, n as u64 - 1) as usize;
        if let Some(holder) = self.world.lease.read().and_then(|view| view.holder)
            && self.world.random.per_mille(300)
        {
            id = (holder.broker_id.0 as usize).min(n - 1);
        }
        if self.world.profile.wipes && self.world.random.per_mille(70) {
            self.empty_folder(id);
            return;
        }
        if self.world.profile.lease_falls && self.world.random.per_mille(150) {
            self.lease_falls(LEASE_FALL_ATTEMPTS);
            return;
        }
        if self.world.profile.foreign_hands && self.world.random.per_mille(100) {
            self.foreign_hand();
            return;
        }
        match self.world.random.between(0, 92) {
            0..25 => {
                self.world.kill(id);
                let long = self.world.random.per_mille(300);
                self.later(20, if long { 25_000 } else { 2_000 }, Later::Start(id));
            }
            25..35 if self.world.brokers[id].is_running() && !self.world.brokers[id].paused => {
                self.world.pause(id);
                self.later(10, 12_000, Later::Resume(id));
            }
            35..55 => self.partition(id),
            55..63 => {
                self.world.tell(|| "Lease API away".to_owned());
                self.world.tally.note(Happening::LeaseApiAway);
                self.world.lease_away = true;
                self.later(100, 15_000, Later::LeaseBack);
            }
            63..70 => {
                self.world.tell(|| format!("Lease API cut off from {id}"));
                self.world.tally.note(Happening::LeaseApiCutOff);
                self.world.lease_cut.insert(id);
                self.later(100, 15_000, Later::LeaseMend(id));
            }
            70..78 => {
                self.world.stop_cleanly(id);
                self.later(10, 3_000, Later::Kill(id));
            }
            78..83 => self.world.compact(id),
            83..87 if self.world.profile.real_log => self.world.crash_soon(id),
            87..93 => self.throttle(id),
            _ => {}
        }
    }

    fn partition(&mut self, id: usize) {
        let n = self.world.brokers.len();
        let mut links = Vec::new();
        if self.world.random.per_mille(500) {
            // One broker alone, perhaps in one direction.
            let way = self.world.random.between(0, 2);
            for other in (0..n).filter(|other| *other != id) {
                if way != 1 {
                    links.push((id, other));
                }
                if way != 2 {
                    links.push((other, id));
                }
            }
        } else {
            let side: Vec<bool> = (0..n).map(|_| self.world.random.per_mille(500)).collect();
            for a in 0..n {
                for b in 0..n {
                    if side[a] != side[b] {
                        links.push((a, b));
                    }
                }
            }
        }
        self.cut(links, 50, 15_000);
    }

    /// All voter sets that any disk or the Lease names.
    fn named_sets(&self) -> Vec<BTreeSet<Voter>> {
        let mut named = Vec::new();
        for id in 0..self.world.brokers.len() {
            let sets = self.world.voter_sets(id);
            named.extend(sets.newest.into_iter().chain(sets.pending).map(|set| set.voters));
        }
        named.extend(self.world.lease.read().map(|view| view.voters.into_iter().collect()));
        named
    }

    /// A folder is lost only while no other voter is, and another voter is there that has what it had.
    fn empty_folder(&mut self, id: usize) {
        let living: BTreeSet<Voter> = self.world.brokers.iter().map(|broker| broker.voter).collect();
        let lost = self.world.brokers[id].voter;
        let bearable = |set: &BTreeSet<Voter>| set.is_subset(&living) && (set.len() > 1 || !set.contains(&lost));
        if !self.named_sets().iter().all(bearable) || self.world.lease.read().is_none() {
            return;
        }
        self.world.empty_folder(id);
        self.later(50, 5_000, Later::Start(id));
    }

    /// The API server refuses the calls of all, or of one broker, for a while.
    fn throttle(&mut self, id: usize) {
        let throttling = Throttling {
            broker: self.world.random.per_mille(400).then_some(id),
            until: self.world.now + self.world.random.between(500, 12_000),
            retry_after_ms: self.world.random.pick(&[1_000, 1_000, 2_000, 7_000]),
        };
        self.world.tell(|| format!("Lease API throttles: {throttling:?}"));
        self.world.throttling = Some(throttling);
    }

    /// A stranger writes to the Lease. A holder that is none of ours stays until somebody sees to it.
    fn foreign_hand(&mut self) {
        if self.world.lease.read().is_none() || self.world.lease.is_garbled() {
            return;
        }
        let hand = self.world.random.pick(&[ForeignHand::Steals, ForeignHand::Garbles]);
        let with_next_epoch = self.world.random.per_mille(500);
        self.world.tell(|| format!("a stranger {hand:?} the Lease, with the next epoch: {with_next_epoch}"));
        self.world.tally.note(match (hand, with_next_epoch) {
            (ForeignHand::Steals, false) => Happening::LeaseStolen,
            (ForeignHand::Steals, true) => Happening::LeaseStolenWithItsEpoch,
            (ForeignHand::Garbles, false) => Happening::LeaseGarbled,
            (ForeignHand::Garbles, true) => Happening::LeaseGarbledWithItsEpoch,
        });
        self.world.lease.write_by(hand, with_next_epoch);
        self.let_watches_see_the_lease();
        if self.world.lease.is_garbled() {
            let mending = self.world.random.pick(&[Mending::FormerHolder, Mending::NoHolder, Mending::Stranger]);
            self.later(100, 15_000, Later::LeaseHolderMended(mending));
        }
    }

    fn mend_lease(&mut self, mending: Mending) {
        if !self.world.lease.is_garbled() {
            return;
        }
        self.world.tell(|| format!("the Lease is mended: {mending:?}"));
        self.world.tally.note(Happening::LeaseMended);
        self.world.lease.mend(mending);
        self.let_watches_see_the_lease();
    }

    /// A watch shows what a broker can read.
    fn let_watches_see_the_lease(&mut self) {
        if let Ok(Some(view)) = self.world.lease.get() {
            self.world.let_watches_see(&view);
        }
    }

    /// The Lease is deleted or rolled back, while every broker has seen its present voters.
    fn lease_falls(&mut self, attempts: u32) {
        let Ok(Some(view)) = self.world.lease.get() else { return };
        let voters: BTreeSet<Voter> = view.voters.iter().copied().collect();
        let seen = (0..self.world.brokers.len()).all(|id| {
            let sets = self.world.voter_sets(id);
            sets.pending.is_empty() && sets.newest.is_some_and(|newest| newest.voters == voters)
        });
        let quiet = self.world.cut.is_empty()
            && !self.world.lease_away
            && self.world.lease_cut.is_empty()
            && self.world.brokers.iter().all(|broker| broker.is_running() && !broker.paused);
        if !seen || !quiet || voters.is_empty() {
            if attempts > 0 {
                self.later(20, 500, Later::LeaseFalls(attempts - 1));
            }
            return;
        }
        if self.world.random.per_mille(350) {
            self.world.tell(|| "Lease deleted".to_owned());
            self.world.tally.note(Happening::LeaseDeleted);
            self.world.lease.delete();
        } else {
            let (steps, same_voters) = (self.world.random.between(1, 8) as usize, self.world.random.per_mille(600));
            let Some(before) = self.world.lease.roll_back(steps, same_voters) else { return };
            let after = self.world.lease.read().expect("an earlier state");
            self.world.tell(|| format!("Lease rolled back by {steps} to {after:?}"));
            self.world.tally.note(if after.epoch < before.epoch {
                Happening::LeaseRolledBackByEpochs
            } else {
                Happening::LeaseRolledBack
            });
            if after.voters != before.voters {
                self.world.tally.note(Happening::LeaseRolledBackToOtherVoters);
            }
        }
        self.let_watches_see_the_lease();
        // Half of the time nobody is left who could put it back.
        if self.world.random.per_mille(500) {
            for id in 0..self.world.brokers.len() {
                if self.world.random.per_mille(600) {
                    self.world.kill(id);
                    self.later(20, 10_000, Later::Start(id));
                }
            }
        }
    }

    /// Everything is mended; then somebody must lead and commit something new, and everybody must learn of it.
    fn heal(&mut self) {
        self.world.tell(|| "healed".to_owned());
        self.world.healed = true;
        self.world.cut.clear();
        self.world.lease_away = false;
        self.world.lease_cut.clear();
        self.world.throttling = None;
        let mending = self.world.random.pick(&[Mending::FormerHolder, Mending::NoHolder]);
        self.mend_lease(mending);
        self.later.clear();
        let n = self.world.brokers.len();
        for id in 0..n {
            // A broker that stops cleanly goes on to stop.
            if self.world.brokers[id].stopping || self.world.random.per_mille(100) {
                self.world.kill(id);
            }
            self.world.resume(id);
            self.world.start(id);
        }
        let gone: BTreeSet<Voter> = {
            let living: BTreeSet<Voter> = self.world.brokers.iter().map(|broker| broker.voter).collect();
            self.named_sets().into_iter().flatten().filter(|voter| !living.contains(voter)).collect()
        };
        let healed_at = self.world.now;
        let mut new_end = None;
        while !self.is_over() {
            let now = self.world.now + 100;
            self.until(now);
            self.world.troubles.clear();
            for id in 0..n {
                self.world.start(id);
            }
            for id in 0..n {
                if new_end.is_none() {
                    new_end = self.world.append(id);
                }
            }
            let reached = |end| (0..n).all(|id| self.world.status(id).is_some_and(|status| status.commit_end >= end));
            if new_end.is_some_and(reached) {
                return;
            }
            let waited = now - healed_at;
            if waited.is_multiple_of(10_000) {
                // What was appended may have been lost with its controller.
                new_end = None;
                // An administrator's word, if recovery waits for folders that are no more.
                for id in 0..n {
                    if self.world.status(id).is_some_and(|status| status.lease_is_fallen) && !gone.is_empty() {
                        self.world.input(id, Input::RecoverWithout(gone.clone()));
                    }
                }
            }
            if waited >= PROGRESS_WITHIN_MS {
                let states: Vec<_> = (0..n).map(|id| self.world.status(id)).collect();
                let reason =
                    format!("no progress {waited} ms after healing: {states:#?}, {:?}", self.world.lease.read());
                self.world.violation = Some(Violation(reason));
            }
        }
    }
}
