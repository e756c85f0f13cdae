// SPDX-License-Identifier: Apache-2.0
//! What a leader knows of its reign: epoch, replicas, ISR, and how far each in-sync replica has come; the high
//! watermark follows from that. With one replica the log itself is the only in-sync replica. Must not know the log's
//! bytes or who waits.

use odradek_model::{BrokerId, LeaderEpoch, Offset, PartitionEpoch};

/// What the controller decided for a partition whose leader is this broker.
#[derive(Clone, PartialEq, Eq, Debug)]
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
#[derive(Clone, Debug)]
pub(crate) struct Leader {
    pub(crate) leadership: Leadership,
    /// Where this epoch began: the log's end when the reign began.
    pub(crate) epoch_start_offset: Offset,
}

impl Leader {
    /// `min.insync.replicas`, but not more than there are replicas (rule 13).
    pub(crate) fn min_in_sync(&self, configured: i32) -> usize {
        usize::try_from(configured).unwrap_or(0).clamp(1, self.leadership.replicas.len().max(1))
    }

    /// Whether the ISR is large enough for the high watermark to move at all (rule 13).
    pub(crate) fn has_enough_in_sync(&self, configured: i32) -> bool {
        self.leadership.in_sync.len() >= self.min_in_sync(configured)
    }

    /// Whether this replica alone decides what is committed. Followers' progress joins here with replication.
    pub(crate) fn is_alone(&self) -> bool {
        self.leadership.in_sync.len() == 1
    }
}
