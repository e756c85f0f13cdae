// SPDX-License-Identifier: Apache-2.0
//! Who can tell a leader that nobody has committed anything behind its back: a read barrier, for reads that must not be
//! older than what was acknowledged anywhere. Kafka has no such thing. Must not know how the others are asked.
//!
//! A replica that is asked, and acts by no later leader epoch than the one it is asked about, has neither led nor
//! acknowledged anything in a later epoch before the question was asked, as its epoch never falls. One of two things
//! suffices then:
//! - *All others of the maximal ISR* are such replicas, and the ISR has its minimum, so that there is no ELR. Whoever
//!   leads next by a clean election is one of them.
//! - *So many of all replicas* are such that the rest, without this leader, are fewer than `min.insync.replicas`: no
//!   high watermark moved without them. That holds also while the controller and the API server are away and a member of
//!   the ISR is dead; it presumes that replicas and minimum are what this leader knows.

use odradek_model::{BrokerId, LeaderEpoch};

use super::{Partition, PlantedBug};
use crate::error::LeadershipError;

/// Whom a leader can ask, and who of them is enough.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Witnesses {
    /// All replicas but the leader: whom to ask.
    pub others: Vec<BrokerId>,
    /// The maximal ISR but the leader, if those are enough.
    pub in_sync: Option<Vec<BrokerId>>,
    /// So many of all others are enough too.
    pub count: usize,
}

impl Witnesses {
    /// Whether those suffice of whom `confirms` says that they act by no later leader epoch, said by them after the read
    /// was asked for.
    pub fn suffice(&self, confirms: impl Fn(BrokerId) -> bool) -> bool {
        let count = self.others.iter().filter(|broker| confirms(**broker)).count();
        count >= self.count
            || self.in_sync.as_ref().is_some_and(|in_sync| in_sync.iter().all(|broker| confirms(*broker)))
    }
}

impl Partition {
    /// Whom to ask before something is read here that must not be older than what was acknowledged anywhere. To be looked
    /// up again when answers have come: the ISR may have changed. Fails unless this replica leads at that epoch.
    pub fn witnesses(&self, requested_epoch: Option<LeaderEpoch>) -> Result<Witnesses, LeadershipError> {
        let leader = self.leader(requested_epoch)?;
        let minimum = self.settings.min_insync_replicas;
        let others: Vec<BrokerId> = leader.followers.keys().copied().collect();
        let in_sync = || others.iter().copied().filter(|id| leader.is_in_maximal_isr(*id, self.planted)).collect();
        let in_sync = leader.has_enough_in_sync(minimum).then(in_sync);
        let mut count = leader.leadership.replicas.len().saturating_sub(leader.min_in_sync(minimum));
        if self.planted.has(PlantedBug::OneWitnessIsEnough) {
            count = count.min(1);
        }
        Ok(Witnesses { others, in_sync, count })
    }
}
