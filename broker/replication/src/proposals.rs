// SPDX-License-Identifier: Apache-2.0
//! The ISR changes that the leaders on this broker propose to the controller: gathered, numbered, one command on its way
//! at a time. Must not know how a command travels or what becomes of a change.
//!
//! One at a time, because attempts at one partition must reach the controller in their order: a late one must not take
//! effect after a refusal of a later one ([`IsrChange::attempt`]). The number tells the controller which is newest.

use std::collections::BTreeMap;

use odradek_partition::{IsrChange, MonotonicTime};

use crate::ReplicaKey;

/// Attempts after the first wait this long, so that a controller that refuses is not asked in a loop
/// (`AlterPartitionManager.scala`).
pub const RETRY_PAUSE_MS: i64 = 50;

/// Most changes in one command: a change takes some 100 bytes, so a command stays near 1 MB. The rest goes with the next.
pub const PROPOSALS_MAX: usize = 10_000;

/// One partition's change.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Proposal {
    /// The partition.
    pub key: ReplicaKey,
    /// What its leader proposes.
    pub change: IsrChange,
}

/// A command to send.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Batch {
    /// Above that of every batch before it.
    pub sequence: u64,
    /// At most one per partition.
    pub proposals: Vec<Proposal>,
}

/// What waits to be sent, at most one change per partition that this broker leads: a partition has one on its way.
#[derive(Debug, Default)]
pub struct Proposals {
    waiting: BTreeMap<ReplicaKey, (MonotonicTime, IsrChange)>,
    in_flight: bool,
    sequence: u64,
}

impl Proposals {
    /// Takes a change to be sent; an earlier one of the partition that still waits is void.
    pub fn propose(&mut self, key: ReplicaKey, change: IsrChange, now: MonotonicTime) {
        let due = if change.attempt > 1 { MonotonicTime(now.0.saturating_add(RETRY_PAUSE_MS)) } else { now };
        self.waiting.insert(key, (due, change));
    }

    /// The next command, if one is due and none is on its way.
    pub fn next(&mut self, now: MonotonicTime) -> Option<Batch> {
        if self.in_flight {
            return None;
        }
        let due = self.waiting.iter().filter(|(_, (due, _))| *due <= now).map(|(key, _)| *key);
        let due: Vec<_> = due.take(PROPOSALS_MAX).collect();
        if due.is_empty() {
            return None;
        }
        let taken = due.into_iter().filter_map(|key| {
            let (_, change) = self.waiting.remove(&key)?;
            Some(Proposal { key, change })
        });
        let proposals = taken.collect();
        self.in_flight = true;
        self.sequence += 1;
        Some(Batch { sequence: self.sequence, proposals })
    }

    /// The command on its way was answered, or no answer will come.
    pub fn finished(&mut self) {
        self.in_flight = false;
    }

    /// When [`Self::next`] has something; `None` while a command is on its way or nothing waits.
    pub fn due_at(&self) -> Option<MonotonicTime> {
        if self.in_flight { None } else { self.waiting.values().map(|(due, _)| *due).min() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenarios::key;

    fn at(ms: i64) -> MonotonicTime {
        MonotonicTime(ms)
    }

    fn change(partition_epoch: i32, attempt: u32) -> IsrChange {
        IsrChange { leader_epoch: 1, partition_epoch, in_sync: Vec::new(), attempt }
    }

    #[test]
    fn one_command_is_on_its_way_and_the_rest_goes_together() {
        let mut proposals = Proposals::default();
        assert_eq!(proposals.next(at(0)), None);
        proposals.propose(key(1, 0), change(1, 1), at(0));
        let first = proposals.next(at(0)).expect("it is due");
        assert_eq!((first.sequence, first.proposals.len()), (1, 1));
        proposals.propose(key(1, 1), change(1, 1), at(1));
        proposals.propose(key(2, 0), change(1, 1), at(1));
        assert_eq!((proposals.next(at(1)), proposals.due_at()), (None, None));
        proposals.finished();
        assert_eq!(proposals.due_at(), Some(at(1)));
        let second = proposals.next(at(2)).expect("two wait");
        assert_eq!((second.sequence, second.proposals.len()), (2, 2));
    }

    #[test]
    fn an_attempt_after_the_first_waits_and_the_newest_counts() {
        let mut proposals = Proposals::default();
        proposals.propose(key(1, 0), change(1, 2), at(100));
        assert_eq!((proposals.next(at(149)), proposals.due_at()), (None, Some(at(150))));
        proposals.propose(key(1, 0), change(2, 1), at(120));
        let batch = proposals.next(at(120)).expect("a new change does not wait");
        assert_eq!(batch.proposals, [Proposal { key: key(1, 0), change: change(2, 1) }]);
        proposals.finished();
        assert_eq!(proposals.next(at(1_000)), None, "the earlier one is void");
    }
}
