// SPDX-License-Identifier: Apache-2.0
//! What a leader knows of its reign: epoch, replicas, ISR, and how far each follower has come. The rules on top of it
//! stand in `isr` and `high_watermark`. Must not know the log's bytes or who waits.

use std::collections::BTreeMap;

use odradek_model::{BrokerId, LeaderEpoch, Offset, PartitionEpoch};

use crate::isr::PendingChange;
use crate::progress::Progress;
use crate::time::MonotonicTime;

/// What the controller decided for a partition whose leader is this broker.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Leadership {
    /// Rises with every election.
    pub leader_epoch: LeaderEpoch,
    /// Rises with every change of the partition.
    pub partition_epoch: PartitionEpoch,
    /// All replicas in order of preference.
    pub replicas: Vec<BrokerId>,
    /// The in-sync replicas, this broker among them.
    pub in_sync: Vec<BrokerId>,
}

/// The leader's side of a replica.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Leader {
    /// Who leads: this broker.
    pub(crate) local: BrokerId,
    /// What is committed in the metadata.
    pub(crate) leadership: Leadership,
    /// Where this epoch began: the log's end when the reign began.
    pub(crate) epoch_start_offset: Offset,
    /// All replicas but this one.
    pub(crate) followers: BTreeMap<BrokerId, Progress>,
    /// The one ISR change whose outcome is not known.
    pub(crate) pending: Option<PendingChange>,
    /// ISR changes sent for the present partition epoch.
    pub(crate) attempts: u32,
}

impl Leader {
    /// Begins a reign.
    pub(crate) fn new(local: BrokerId, leadership: Leadership, epoch_start_offset: Offset, now: MonotonicTime) -> Self {
        let mut leader = Self {
            local,
            leadership: Leadership { replicas: Vec::new(), in_sync: Vec::new(), ..leadership },
            epoch_start_offset,
            followers: BTreeMap::new(),
            pending: None,
            attempts: 0,
        };
        leader.update(leadership, now);
        leader
    }

    /// Takes a later decision of the same reign. It settles the pending change: it is that change, or one that makes
    /// the controller refuse it, because it was proposed for an earlier partition epoch.
    pub(crate) fn update(&mut self, leadership: Leadership, now: MonotonicTime) {
        self.followers.retain(|broker, _| leadership.replicas.contains(broker));
        for broker in leadership.replicas.iter().filter(|broker| **broker != self.local) {
            let in_sync = leadership.in_sync.contains(broker);
            self.followers.entry(*broker).or_insert_with(|| Progress::new(in_sync, now));
        }
        self.leadership = leadership;
        self.pending = None;
        self.attempts = 0;
    }

    /// `min.insync.replicas`, but not more than there are replicas (rule 13).
    pub(crate) fn min_in_sync(&self, configured: i32) -> usize {
        usize::try_from(configured).unwrap_or(0).clamp(1, self.leadership.replicas.len().max(1))
    }

    /// Whether the committed ISR is large enough for acks=all and for the high watermark to move at all (rule 13).
    pub(crate) fn has_enough_in_sync(&self, configured: i32) -> bool {
        self.leadership.in_sync.len() >= self.min_in_sync(configured)
    }
}
