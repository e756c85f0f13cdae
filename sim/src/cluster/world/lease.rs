// SPDX-License-Identifier: Apache-2.0
//! How brokers reach the Lease: soon, late or not at all, answered or not, and what their watches see of it. Must not know
//! what they make of it.

use odradek_coordination::quorum::{self, LeaseCall};
use odradek_coordination::{LeaseChange, LeaseView, WriteOutcome};

use super::{Event, LEASE_DEADLINE_MS, World};
use crate::cluster::process::Input;
use crate::cluster::tally::Happening;

impl World {
    /// A backup of the Lease is restored, if there is such a one ([`crate::quorum::LeaseApi::roll_back`]).
    pub(in crate::cluster) fn roll_lease_back(&mut self, steps: usize, same_voters: bool) {
        let Some(before) = self.lease.roll_back(steps, same_voters) else { return };
        self.tell(|| "Lease rolled back".to_owned());
        self.tally.note(Happening::LeaseRolledBack);
        self.lease_fell_from = self.lease_fell_from.max(before.epoch);
        if let Some(view) = self.lease.read() {
            self.let_watches_see(&view);
        }
    }

    /// Whether no broker can know a newer Lease than the one that is there. Whoever repairs one that was rolled back raises
    /// its epoch above all that any broker knows.
    pub(in crate::cluster) fn is_lease_newest(&self) -> bool {
        self.lease.read().is_some_and(|lease| lease.epoch > self.lease_fell_from)
    }

    pub(super) fn lease_read_arrives(&mut self, broker: usize, boot: u64, call: LeaseCall) {
        let lost = self.lease_away || self.lease_cut.contains(&broker) || self.is_lease_answer_lost();
        let (after, outcome) = if lost {
            (LEASE_DEADLINE_MS, Err("no answer".to_owned()))
        } else if self.is_lease_throttled() {
            (1, Err("429 Too Many Requests".to_owned()))
        } else {
            (self.random.between(1, 10), Ok(self.lease.read()))
        };
        let input = Input::Quorum(quorum::Input::LeaseRead(call, outcome));
        self.schedule(after, Event::Input { broker, boot, input });
    }

    /// Most calls are refused while there are too many.
    fn is_lease_throttled(&mut self) -> bool {
        self.lease_throttled && self.random.per_mille(800)
    }

    fn is_lease_answer_lost(&mut self) -> bool {
        let chance = if self.healed { 0 } else { self.profile.lease_loss };
        self.random.per_mille(chance)
    }

    pub(super) fn lease_write_arrives(
        &mut self,
        broker: usize,
        boot: u64,
        call: LeaseCall,
        base: Option<&LeaseView>,
        change: &LeaseChange,
        answered: bool,
    ) {
        if self.lease_away {
            return;
        }
        let outcome = self.lease.write(base, change);
        if let WriteOutcome::Written(view) = &outcome {
            self.mix(view.epoch as u64);
            if base.is_none_or(|base| base.epoch < change.epoch) {
                let line = format!("Lease epoch {} of {:?}", view.epoch, view.holder.as_ref().map(ToString::to_string));
                self.tell(|| line);
            }
            let view = view.clone();
            self.let_watches_see(&view);
        }
        if answered {
            let after = self.random.between(1, 10);
            let input = Input::Quorum(quorum::Input::LeaseWritten(call, Ok(outcome)));
            self.schedule(after, Event::Input { broker, boot, input });
        }
    }

    /// Watches tell it soon, late or never.
    pub(in crate::cluster) fn let_watches_see(&mut self, view: &LeaseView) {
        for id in 0..self.machines.len() {
            if self.lease_cut.contains(&id) {
                continue;
            }
            let roll = if self.healed { 500 } else { self.random.between(0, 999) };
            let after = match roll {
                0..50 => continue,
                50..100 => self.random.between(500, 5_000),
                _ => self.random.between(1, 30),
            };
            let (boot, input) = (self.machines[id].boot, Input::Quorum(quorum::Input::LeaseSeen(view.clone())));
            self.schedule(after, Event::Input { broker: id, boot, input });
        }
    }

    pub(super) fn write_lease(
        &mut self,
        broker: usize,
        boot: u64,
        call: LeaseCall,
        base: Option<LeaseView>,
        change: LeaseChange,
    ) {
        let unknown = |call| {
            let outcome = WriteOutcome::Unknown("no answer in time".to_owned());
            Input::Quorum(quorum::Input::LeaseWritten(call, Ok(outcome)))
        };
        let away = self.lease_away || self.lease_cut.contains(&broker);
        if away && self.random.per_mille(500) {
            let refused = Err("connection refused".to_owned());
            let input = Input::Quorum(quorum::Input::LeaseWritten(call, refused));
            self.schedule(1, Event::Input { broker, boot, input });
            return;
        }
        if !away && self.is_lease_throttled() {
            let refused = Err("429 Too Many Requests".to_owned());
            let input = Input::Quorum(quorum::Input::LeaseWritten(call, refused));
            self.schedule(1, Event::Input { broker, boot, input });
            return;
        }
        self.schedule(LEASE_DEADLINE_MS, Event::Input { broker, boot, input: unknown(call) });
        if away || self.is_lease_answer_lost() {
            // It may land all the same, perhaps long after.
            if self.random.per_mille(600) {
                self.tally.note(Happening::LeaseWriteWithoutAnswer);
                let soon = self.random.per_mille(500);
                let after = if soon { self.random.between(1, 50) } else { self.random.between(500, 15_000) };
                self.schedule(after, Event::LeaseWriteArrives { broker, boot, call, base, change, answered: false });
            }
            return;
        }
        let after = self.random.between(1, 15);
        self.schedule(after, Event::LeaseWriteArrives { broker, boot, call, base, change, answered: true });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::profile::Profile;

    #[test]
    fn a_lease_that_was_rolled_back_is_not_the_newest_until_it_is_repaired() {
        let mut world = World::new(1, Profile::of_seed(1), false);
        let voters = vec![world.machines[0].voter];
        let write = |world: &mut World, epoch| {
            let (base, change) = (world.lease.read(), LeaseChange { epoch, holder: None, voters: voters.clone() });
            let outcome = world.lease.write(base.as_ref(), &change);
            assert!(matches!(outcome, WriteOutcome::Written(_)), "{outcome:?}");
        };
        for epoch in [1, 2, 2] {
            write(&mut world, epoch);
        }
        assert!(world.is_lease_newest());
        world.roll_lease_back(1, true);
        assert!(!world.is_lease_newest(), "an earlier one of the same epoch");
        world.roll_lease_back(1, true);
        write(&mut world, 2);
        assert!(!world.is_lease_newest(), "taken by one who does not know the newest");
        write(&mut world, 3);
        assert!(world.is_lease_newest(), "repaired");
        world.lease.delete();
        assert!(!world.is_lease_newest(), "there is none");
    }
}
