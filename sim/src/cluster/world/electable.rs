// SPDX-License-Identifier: Apache-2.0
//! What the checkers see of logs while a run goes on: who may be elected, and where its log ends. Must not judge.

use std::sync::Arc;

use odradek_metadata::{PartitionImage, PartitionKey};
use odradek_model::{BrokerId, Offset};
use odradek_replication::ReplicaKey;

use super::World;

impl World {
    /// Compares what clients were told of a partition with the logs of all who may lead it next.
    pub(super) fn check_electable(&mut self, key: ReplicaKey) {
        let at = PartitionKey { topic: key.topic, partition: key.partition };
        let Some(partition) = self.newest_image.partition(at).cloned() else { return };
        self.check_electable_of(key, &partition);
    }

    /// The same for whatever the newest metadata changed.
    pub(super) fn check_electable_since(&mut self, before: &odradek_metadata::Image) {
        let image = Arc::clone(&self.newest_image);
        for topic in image.topics() {
            let earlier = before.topic_by_id(topic.id);
            for (index, partition) in topic.partitions.iter().enumerate() {
                let same = earlier.and_then(|earlier| earlier.partitions.get(index));
                if !same.is_some_and(|same| Arc::ptr_eq(same, partition)) {
                    self.check_electable_of(ReplicaKey { topic: topic.id, partition: index as i32 }, partition);
                }
            }
        }
    }

    fn check_electable_of(&mut self, key: ReplicaKey, partition: &PartitionImage) {
        let mut electable = partition.isr.iter().chain(&partition.elr);
        let short = electable.find_map(|broker| {
            let end = self.known_end(key, *broker)?;
            self.oracle.records.lacks(key, end).then_some((*broker, end))
        });
        if let Some((broker, end)) = short {
            let outcome = Err(self.oracle.records.lacking(key, broker, end, partition));
            self.check(outcome);
        }
    }

    /// Where the log of a replica ends whose machine is what its registration says. Of others the controller is yet to
    /// learn that they have lost something; so it is of a damaged log, before its broker may lead.
    fn known_end(&self, key: ReplicaKey, broker: BrokerId) -> Option<Offset> {
        let machine = self.machines.get(broker.0 as usize)?;
        let registered = self.newest_image.broker(broker)?;
        let is_known = registered.boot_id == machine.kernel() && registered.directory_id == machine.voter.directory_id;
        let is_told = registered.is_active() || !self.is_damaged(broker.0 as usize, key);
        let process = machine.process.as_ref().filter(|_| is_known && is_told)?;
        process.ends(key).map(|(end, _)| end)
    }
}
