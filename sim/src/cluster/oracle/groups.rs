// SPDX-License-Identifier: Apache-2.0
//! Committed offsets of groups, each committed and asked for by one client, one question after another: what was
//! committed, or told, does not fall, and nothing is told that nobody committed. Only a commit that a coordinator reads
//! from a connection that its client has given up may land below what was committed since: it carries no number that
//! would show its age, as in Kafka.

use std::collections::{BTreeMap, BTreeSet};

use odradek_model::Offset;
use odradek_replication::ReplicaKey;

use super::{Violation, at};

/// What a client knows of its group, and what it does not know.
#[derive(Default, Debug)]
struct Known {
    tried: Offset,
    /// The highest that was committed or told.
    told: Offset,
    /// Read by a coordinator after they were given up; since the last commit was sent, and before.
    late: BTreeSet<Offset>,
    late_before: BTreeSet<Offset>,
}

/// See the module.
#[derive(Debug, Default)]
pub(in crate::cluster) struct Groups {
    by_client: BTreeMap<usize, Known>,
}

impl Groups {
    pub(super) fn tried(&mut self, client: usize, offset: Offset) {
        let known = self.by_client.entry(client).or_default();
        known.tried = known.tried.max(offset);
        known.late_before.append(&mut known.late);
    }

    /// A coordinator has just read a commit that its client has given up.
    pub(in crate::cluster) fn came_late(&mut self, client: usize, offset: Offset) {
        self.by_client.entry(client).or_default().late.insert(offset);
    }

    pub(super) fn committed(&mut self, client: usize, offset: Offset) {
        let known = self.by_client.entry(client).or_default();
        known.told = known.told.max(offset);
        // What was there when this was sent is below it in the journal.
        known.late_before.clear();
    }

    pub(super) fn fetched(&mut self, client: usize, journal: ReplicaKey, offset: Offset) -> Result<(), Violation> {
        let known = self.by_client.entry(client).or_default();
        // Without one -1 is told.
        let (told, tried) = (known.told, known.tried);
        let is_late = known.late.contains(&offset) || known.late_before.contains(&offset);
        if (offset.max(0) < told && !is_late) || offset > tried {
            let reason =
                format!("{}: client {client} is told of offset {offset}, after {told}, {tried} tried", at(journal));
            return Err(Violation(reason));
        }
        known.told = told.max(offset);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use odradek_model::TopicId;

    use super::*;

    #[test]
    fn an_offset_falls_only_to_a_commit_that_came_late() {
        let journal = ReplicaKey { topic: TopicId::ZERO, partition: 0 };
        let mut groups = Groups::default();
        for offset in [5, 9] {
            groups.tried(1, offset);
            groups.committed(1, offset);
        }
        groups.fetched(1, journal, 5).expect_err("9 was committed");
        groups.came_late(1, 5);
        groups.fetched(1, journal, 5).expect("it was committed once more");
        groups.fetched(1, journal, 4).expect_err("that was not");
        groups.tried(1, 12);
        groups.fetched(1, journal, 5).expect("12 is not committed yet");
        groups.committed(1, 12);
        groups.fetched(1, journal, 5).expect_err("12 was sent later");
        groups.fetched(1, journal, 13).expect_err("nobody sent that");
    }
}
