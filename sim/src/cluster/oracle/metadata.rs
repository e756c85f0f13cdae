// SPDX-License-Identifier: Apache-2.0
//! Metadata as brokers hear it: everybody the same, one controller and one leader per epoch, nothing goes back.

use std::collections::BTreeMap;
use std::sync::Arc;

use odradek_metadata::{Image, PartitionImage};
use odradek_model::{BrokerId, ControllerEpoch, LeaderEpoch, Offset, PartitionEpoch};
use odradek_replication::ReplicaKey;

use super::{Violation, at};

/// What an image says in short: it differs if anything that was decided differs, with few exceptions.
type Brief = (ControllerEpoch, usize, usize, i64, Option<BrokerId>);

/// What a partition is at one of its epochs.
type PartitionBrief = (Option<BrokerId>, LeaderEpoch, Vec<BrokerId>, Vec<BrokerId>, Vec<BrokerId>);

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Metadata {
    controllers: BTreeMap<ControllerEpoch, (BrokerId, String)>,
    at_end: BTreeMap<Offset, Brief>,
    partitions: BTreeMap<(ReplicaKey, PartitionEpoch), PartitionBrief>,
    leaders: BTreeMap<(ReplicaKey, LeaderEpoch), Option<BrokerId>>,
    /// The last image of each process.
    last: BTreeMap<(usize, u64), Arc<Image>>,
}

impl Metadata {
    pub(super) fn image(&mut self, broker: usize, boot: u64, image: &Arc<Image>) -> Result<(), Violation> {
        let before = self.last.insert((broker, boot), Arc::clone(image)).unwrap_or_default();
        self.last.retain(|(other, process), _| *other != broker || *process == boot);
        let (end, fell) = (image.end_offset(), image.end_offset() < before.end_offset());
        if fell || image.epoch() < before.epoch() {
            return Err(Violation(format!("broker {broker} went back from {} to {end}", before.end_offset())));
        }
        if let Some(controller) = image.controller() {
            let who = (controller.broker_id, controller.incarnation.clone());
            let known = self.controllers.entry(controller.epoch).or_insert_with(|| who.clone());
            if *known != who {
                return Err(Violation(format!("{known:?} and {who:?} both decided in epoch {}", controller.epoch)));
            }
        }
        let controller = image.controller().map(|controller| controller.broker_id);
        let counts = (image.topic_count(), image.partition_count());
        let brief = (image.epoch(), counts.0, counts.1, image.highest_broker_epoch(), controller);
        let is_new = !self.at_end.contains_key(&end);
        let known = *self.at_end.entry(end).or_insert(brief);
        if known != brief {
            return Err(Violation(format!("broker {broker} has {brief:?} up to {end}, another had {known:?}")));
        }
        if is_new {
            in_sync_are_alive(image)?;
        }
        for topic in image.topics() {
            let earlier = before.topic_by_id(topic.id);
            if earlier.is_some_and(|earlier| Arc::ptr_eq(earlier, topic)) {
                continue;
            }
            for (index, partition) in topic.partitions.iter().enumerate() {
                let key = ReplicaKey { topic: topic.id, partition: index as i32 };
                let earlier = earlier.and_then(|earlier| earlier.partitions.get(index));
                self.partition(broker, key, earlier.map(AsRef::as_ref), partition)?;
            }
        }
        Ok(())
    }

    fn partition(
        &mut self,
        broker: usize,
        key: ReplicaKey,
        before: Option<&PartitionImage>,
        now: &PartitionImage,
    ) -> Result<(), Violation> {
        let epochs = (now.leader_epoch, now.partition_epoch);
        if let Some(before) = before.filter(|b| b.leader_epoch > epochs.0 || b.partition_epoch > epochs.1) {
            let earlier = (before.leader_epoch, before.partition_epoch);
            let reason = format!("{}: broker {broker} heard of epochs {earlier:?}, then of {epochs:?}", at(key));
            return Err(Violation(reason));
        }
        let brief = (now.leader, now.leader_epoch, now.isr.clone(), now.elr.clone(), now.replicas.clone());
        let known = self.partitions.entry((key, now.partition_epoch)).or_insert_with(|| brief.clone());
        if *known != brief {
            let reason = format!("{}: epoch {} is {known:?}, and {brief:?}", at(key), now.partition_epoch);
            return Err(Violation(reason));
        }
        let leader = *self.leaders.entry((key, now.leader_epoch)).or_insert(now.leader);
        if leader != now.leader {
            let reason = format!("{}: epoch {} is led by {leader:?}, and {:?}", at(key), now.leader_epoch, now.leader);
            return Err(Violation(reason));
        }
        if now.leader.is_some_and(|leader| !now.isr.contains(&leader)) {
            return Err(Violation(format!("{}: its leader is not in sync: {now:?}", at(key))));
        }
        Ok(())
    }
}

/// Who is fenced, or is about to stop, is in no ISR: it would hold the high watermark back, or lead without what came
/// after it was heard last.
fn in_sync_are_alive(image: &Image) -> Result<(), Violation> {
    for topic in image.topics() {
        for (index, partition) in topic.partitions.iter().enumerate() {
            let is_active = |id: &BrokerId| image.broker(*id).is_some_and(|broker| broker.is_active());
            if let Some(id) = partition.isr.iter().find(|id| !is_active(id)) {
                let key = ReplicaKey { topic: topic.id, partition: index as i32 };
                return Err(Violation(format!("{}: broker {id} is in sync, and not alive: {partition:?}", at(key))));
            }
        }
    }
    Ok(())
}
