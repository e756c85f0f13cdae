// SPDX-License-Identifier: Apache-2.0
//! "May this broker stop now?": the partitions that would suffer, each with the reason. A pure look at an image; a
//! committed one, so that the answer does not run ahead of what the brokers do.

use std::sync::Arc;

use odradek_model::{BrokerId, TopicDefaults};

use super::min_in_sync::min_in_sync;
use crate::{Image, PartitionImage, TopicImage};

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
    pub topic: Arc<TopicImage>,
    /// The index.
    pub partition: i32,
    /// Why.
    pub reason: StopReason,
}

/// The answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StopVerdict {
    /// How many partitions speak against it; 0 is "yes, it may".
    pub blocking: usize,
    /// The first of them.
    pub blockers: Vec<StopBlocker>,
}

impl StopVerdict {
    /// Whether nothing speaks against it.
    pub fn may_stop(&self) -> bool {
        self.blocking == 0
    }
}

/// Which partitions would fall under min ISR, lose availability, or lose their last in-sync or eligible replica, if the
/// broker stopped now; at most `limit` of them are named. A broker that holds nothing, or is not registered, may stop.
pub fn may_stop(image: &Image, defaults: &TopicDefaults, broker: BrokerId, limit: usize) -> StopVerdict {
    let mut verdict = StopVerdict { blocking: 0, blockers: Vec::new() };
    for (key, topic, partition) in image.partitions_on(broker) {
        let Some(reason) = reason(topic, partition, defaults, broker) else { continue };
        verdict.blocking += 1;
        if verdict.blockers.len() < limit {
            verdict.blockers.push(StopBlocker { topic: Arc::clone(topic), partition: key.partition, reason });
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
