// SPDX-License-Identifier: Apache-2.0
//! What the checkers know of damaged logs: each is to be found by the next start that comes to it, and by every later one
//! until the controller was told. Must not know how it is found.

use std::collections::BTreeMap;

use odradek_replication::ReplicaKey;

use super::World;
use crate::cluster::oracle::Violation;
use crate::cluster::tally::Happening;

/// Damaged logs of which the controller was not told, by machine.
#[derive(Debug, Default)]
pub(super) struct Damage(BTreeMap<(usize, ReplicaKey), Damaged>);

#[derive(Debug)]
struct Damaged {
    /// After another kernel's start a log may end anywhere.
    kernel: String,
    /// A start has found it, and cut what told it from a whole log.
    was_found: bool,
}

impl World {
    /// A log is damaged from now on.
    pub(in crate::cluster) fn note_damage(&mut self, id: usize, key: ReplicaKey) {
        let damaged = Damaged { kernel: self.machines[id].kernel(), was_found: false };
        self.damage.0.insert((id, key), damaged);
    }

    /// Nothing of the folder is left.
    pub(super) fn forget_damage(&mut self, id: usize) {
        self.damage.0.retain(|(machine, _), _| *machine != id);
    }

    /// A process has opened its replicas, and found some damaged.
    pub(super) fn logs_recovered(&mut self, id: usize, opened: &[ReplicaKey], found: &[ReplicaKey]) {
        for _ in found {
            self.tally.note(Happening::DamageFound);
        }
        // A folder that is of no replica any more goes away.
        self.damage.0.retain(|(machine, key), _| *machine != id || opened.contains(key));
        let kernel = self.machines[id].kernel();
        let mut missed = None;
        for ((machine, key), damaged) in &mut self.damage.0 {
            if *machine == id && !found.contains(key) && (damaged.was_found || damaged.kernel == kernel) {
                missed = Some(*key);
            }
            damaged.was_found |= *machine == id && found.contains(key);
        }
        if let Some(key) = missed {
            let reason = format!("broker {id} takes its damaged log of {key:?} for whole");
            self.check(Err(Violation(reason)));
        }
    }

    /// The controller knows.
    pub(super) fn damage_told(&mut self, id: usize, keys: &[ReplicaKey]) {
        for key in keys {
            self.damage.0.remove(&(id, *key));
        }
    }

    /// Whether the log is damaged and the controller does not know.
    pub(super) fn is_damaged(&self, id: usize, key: ReplicaKey) -> bool {
        self.damage.0.contains_key(&(id, key))
    }
}
