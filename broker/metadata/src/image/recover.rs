// SPDX-License-Identifier: Apache-2.0
//! What becomes of the metadata when a controller begins without voters that are gone for good (coordination rule 10).
//! They may have taken the end of the log with them: elections, registrations, blocks of producer ids that nobody left
//! knows of. So every number that must never come twice jumps above what was lost, and no replica counts as holding
//! what was committed: a partition's ISR may have changed in what was lost.
//!
//! It is one record's effect (the epoch record's), so that it is committed as a whole and with the epoch, or not at all.

use std::sync::Arc;

use super::{Image, PartitionKey};

/// Above every epoch of a partition, in any replica's log and in any lost record: a million elections of one partition,
/// none of which reached a voter that is left, are weeks of one every two seconds. An `i32` has room for 2,000 recoveries.
const PARTITION_EPOCH_JUMP: i32 = 1 << 20;
/// Above every lost registration; broker epochs are no lower than the offset of their record, and an `i64`.
const BROKER_EPOCH_JUMP: i64 = 1 << 32;
/// Above every lost block of producer ids: a thousand million blocks, of an `i64`.
const PRODUCER_ID_JUMP: i64 = 1 << 40;

impl Image {
    /// Applies a recovery. Brokers are fenced until they have registered anew; partitions have no leader until one is
    /// elected uncleanly, or is the sole replica and intact.
    pub(super) fn recover(&mut self) {
        let first = self.highest_broker_epoch.max(self.end_offset) + BROKER_EPOCH_JUMP;
        let brokers: Vec<_> = self.brokers.values().cloned().collect();
        for (broker_epoch, mut broker) in (first..).zip(brokers) {
            let changed = Arc::make_mut(&mut broker);
            changed.epoch = broker_epoch;
            // Neither a clean marker nor the kernel proves anything about what was lost.
            changed.boot_id.clear();
            changed.fenced = true;
            changed.registered_at = self.end_offset;
            changed.shutting_down_at = None;
            self.highest_broker_epoch = broker_epoch;
            self.brokers.insert_mut(broker.id, broker);
        }
        self.next_producer_id += PRODUCER_ID_JUMP;
        let topics: Vec<_> = self.topics.keys().copied().collect();
        for id in topics {
            let topic = Arc::make_mut(self.topics.get_mut(&id).expect("just listed"));
            for (index, partition) in topic.partitions.iter_mut().enumerate() {
                let before = Arc::clone(partition);
                let changed = Arc::make_mut(partition);
                changed.leader = None;
                changed.isr.clear();
                changed.elr.clear();
                changed.leader_epoch = changed.leader_epoch.saturating_add(PARTITION_EPOCH_JUMP);
                changed.partition_epoch = changed.partition_epoch.saturating_add(PARTITION_EPOCH_JUMP);
                let key = PartitionKey { topic: id, partition: index as i32 };
                self.indexes.update(key, Some(&before), Some(partition));
            }
        }
    }
}
