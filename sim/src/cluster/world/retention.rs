// SPDX-License-Identifier: Apache-2.0
//! What the checkers know of retention: a log that lets its beginning go for a tail that is cut off, or lost, later keeps
//! less than it was told to; so do all that take its start over. Must not judge.

use std::collections::{BTreeMap, BTreeSet};

use odradek_model::Offset;
use odradek_replication::ReplicaKey;

use super::World;
use crate::cluster::tally::Happening;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Retention {
    /// Where logs ended when they let their beginnings go, by machine.
    ends: BTreeMap<(usize, ReplicaKey), Offset>,
    shortened: BTreeSet<ReplicaKey>,
}

impl World {
    pub(super) fn log_start_raised(&mut self, id: usize, key: ReplicaKey) {
        self.tally.note(Happening::LogStartRaised);
        if let Some((end, _)) = self.machines[id].process.as_ref().and_then(|process| process.ends(key)) {
            self.retention.ends.insert((id, key), end);
        }
    }

    /// Ends of logs may have been cut off.
    pub(super) fn may_be_shorter(&mut self, id: usize, keys: &[ReplicaKey]) {
        for key in keys {
            let end = self.machines[id].process.as_ref().and_then(|process| process.ends(*key)).map(|(end, _)| end);
            if end.zip(self.retention.ends.get(&(id, *key))).is_some_and(|(end, before)| end < *before) {
                self.retention.shortened.insert(*key);
            }
        }
    }

    /// Whether replicas of the partition may have less than retention is to keep.
    pub(in crate::cluster) fn may_have_let_go_more(&self, key: ReplicaKey) -> bool {
        self.retention.shortened.contains(&key)
    }
}
