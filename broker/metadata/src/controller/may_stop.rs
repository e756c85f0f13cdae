// SPDX-License-Identifier: Apache-2.0
//! "May this broker stop now?": the partitions that would suffer, each with the reason. A pure look at an image; as a
//! command it writes nothing, and is answered once all that it read is committed.

use odradek_model::{BrokerId, TopicDefaults, TopicName};

use super::min_in_sync::min_in_sync;
use super::{ControllerSettings, Decision};
use crate::{Image, PartitionImage, TopicImage};

/// Partitions that an answer names: what a person reads, in at most 40 kB. The counts are of all.
pub const MOST_STOP_BLOCKERS: usize = 100;

/// May this broker stop?
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MayStop {
    /// The broker.
    pub broker_id: BrokerId,
}

/// What the partition would suffer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StopReason {
    /// It has no other replica: it is not available while the broker is away.
    SoleReplica,
    /// No other replica is in sync: nobody else could lead.
    LastInSync,
    /// It has no leader, and the broker is the last that may lead it without loss.
    LastEligible,
    /// Writes with acks=all would be refused, and nothing new would become visible.
    UnderMinInSync {
        /// In sync without the broker.
        left: usize,
        /// Needed in sync.
        needed: usize,
    },
}

/// A partition that speaks against the stop.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StopBlocker {
    /// The topic.
    pub topic: TopicName,
    /// The index.
    pub partition: i32,
    /// Why.
    pub reason: StopReason,
}

/// The answer: how many partitions speak against the stop, by reason, and the first of them.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct StopVerdict {
    /// [`StopReason::SoleReplica`].
    pub sole_replica: usize,
    /// [`StopReason::LastInSync`].
    pub last_in_sync: usize,
    /// [`StopReason::LastEligible`].
    pub last_eligible: usize,
    /// [`StopReason::UnderMinInSync`].
    pub under_min_in_sync: usize,
    /// The first of them.
    pub blockers: Vec<StopBlocker>,
}

impl StopVerdict {
    /// Whether nothing speaks against it.
    pub fn may_stop(&self) -> bool {
        self.blocking() == 0
    }

    /// How many partitions speak against it.
    pub fn blocking(&self) -> usize {
        self.sole_replica + self.last_in_sync + self.last_eligible + self.under_min_in_sync
    }
}

/// The command: `None` if no such broker is registered.
pub(super) fn decide(image: &Image, settings: &ControllerSettings, command: MayStop) -> Decision<Option<StopVerdict>> {
    let verdict = || may_stop(image, &settings.topic_defaults, command.broker_id, MOST_STOP_BLOCKERS);
    Decision { records: Vec::new(), reply: image.broker(command.broker_id).map(|_| verdict()) }
}

/// Which partitions would fall under min ISR, lose availability, or lose their last in-sync or eligible replica, if the
/// broker stopped now; at most `limit` of them are named. A broker that holds nothing may stop.
pub fn may_stop(image: &Image, defaults: &TopicDefaults, broker: BrokerId, limit: usize) -> StopVerdict {
    let mut verdict = StopVerdict::default();
    for (key, topic, partition) in image.partitions_on(broker) {
        let Some(reason) = reason(topic, partition, defaults, broker) else { continue };
        *match reason {
            StopReason::SoleReplica => &mut verdict.sole_replica,
            StopReason::LastInSync => &mut verdict.last_in_sync,
            StopReason::LastEligible => &mut verdict.last_eligible,
            StopReason::UnderMinInSync { .. } => &mut verdict.under_min_in_sync,
        } += 1;
        if verdict.blockers.len() < limit {
            verdict.blockers.push(StopBlocker { topic: topic.name.clone(), partition: key.partition, reason });
        }
    }
    verdict
}

fn reason(
    topic: &TopicImage,
    partition: &PartitionImage,
    defaults: &TopicDefaults,
    broker: BrokerId,
) -> Option<StopReason> {
    if !partition.isr.contains(&broker) {
        let last_eligible = partition.isr.is_empty() && partition.elr == [broker];
        return last_eligible.then_some(StopReason::LastEligible);
    }
    if partition.replicas == [broker] {
        return Some(StopReason::SoleReplica);
    }
    let left = partition.isr.len() - 1;
    if left == 0 {
        return Some(StopReason::LastInSync);
    }
    let needed = min_in_sync(topic, partition, defaults);
    (left < needed).then_some(StopReason::UnderMinInSync { left, needed })
}
