// SPDX-License-Identifier: Apache-2.0
//! What a broker's coming and going does to the partitions on it (`generateLeaderAndIsrUpdates` in Kafka). The cost is
//! in proportion to the broker's partitions, or to those without a leader.

use odradek_model::BrokerId;

use super::ControllerSettings;
use super::partition_change::PartitionChange;
use crate::{Image, PartitionImage, PartitionKey, Record};

/// Partitions that one decision changes at most. A record of ten replicas is under 130 bytes, so a batch stays under
/// 13 MB, within [`MAX_BATCH_BYTES`](crate::MAX_BATCH_BYTES).
pub(super) const MAX_CHANGES: usize = 100_000;

/// Records, and whether they are all that is needed: if not, the same question is asked again after they are applied.
pub(super) struct Changes {
    pub(super) records: Vec<Record>,
    pub(super) complete: bool,
}

/// The broker leaves the ISR and hands over what it leads; where the ISR would fall below min ISR it stays eligible.
pub(super) fn leave(image: &Image, settings: &ControllerSettings, leaving: BrokerId) -> Changes {
    leave_with_losses(image, settings, leaving, |_| false)
}

/// As [`leave`], but the logs of which `is_lost` is true are no longer there.
pub(super) fn leave_with_losses(
    image: &Image,
    settings: &ControllerSettings,
    leaving: BrokerId,
    is_lost: impl Fn(PartitionKey) -> bool,
) -> Changes {
    let affected = |key, partition: &PartitionImage| partition.isr.contains(&leaving) || is_lost(key);
    on_broker(image, settings, leaving, affected, |key, change| {
        change.isr.retain(|broker| *broker != leaving);
        change.lost_log = is_lost(key).then_some(leaving);
    })
}

/// The broker's logs of which `is_lost` is true turned out not to hold what they should: there it leaves ISR and ELR.
pub(super) fn lose_logs(
    image: &Image,
    settings: &ControllerSettings,
    loser: BrokerId,
    is_lost: impl Fn(PartitionKey) -> bool,
) -> Changes {
    on_broker(
        image,
        settings,
        loser,
        |key, _| is_lost(key),
        |_, change| {
            change.isr.retain(|broker| *broker != loser);
            change.lost_log = Some(loser);
        },
    )
}

/// The broker leaves ISR and ELR: it is not known any more what it holds. Where `is_lost`, its log is known to be gone.
/// Where every record was forced to the disk before it counted, the broker still holds it, and stays eligible.
pub(super) fn leave_without_proof(
    image: &Image,
    settings: &ControllerSettings,
    leaving: BrokerId,
    is_lost: impl Fn(PartitionKey) -> bool,
) -> Changes {
    let affected = |key, partition: &PartitionImage| {
        partition.isr.contains(&leaving) || partition.elr.contains(&leaving) || is_lost(key)
    };
    on_broker(image, settings, leaving, affected, |key, change| {
        let is_lost = is_lost(key);
        let is_on_disk = image.topic_by_id(key.topic).is_some_and(|topic| topic.always_flushed) && !is_lost;
        change.isr.retain(|broker| *broker != leaving);
        change.without_proof = (!is_on_disk).then_some(leaving);
        change.lost_log = is_lost.then_some(leaving);
    })
}

/// The broker may lead from now on: partitions without a leader try again.
pub(super) fn arrive(image: &Image, settings: &ControllerSettings, arriving: BrokerId) -> Changes {
    let mut records = Vec::new();
    for (key, topic, partition) in image.leaderless_partitions() {
        if records.len() == MAX_CHANGES {
            return Changes { records, complete: false };
        }
        if partition.replicas.contains(&arriving) {
            let change = PartitionChange::new(settings, topic, key, partition);
            records.extend(change.build(|broker| broker == arriving || is_active(image, broker)));
        }
    }
    Changes { records, complete: true }
}

/// Whether the broker may lead and be in sync, as far as its registration says.
pub(super) fn is_active(image: &Image, broker: BrokerId) -> bool {
    image.broker(broker).is_some_and(|broker| broker.is_active())
}

/// Steps of the affected partitions on a broker that may not lead them any more.
fn on_broker(
    image: &Image,
    settings: &ControllerSettings,
    leaving: BrokerId,
    affected: impl Fn(PartitionKey, &PartitionImage) -> bool,
    prepare: impl Fn(PartitionKey, &mut PartitionChange<'_>),
) -> Changes {
    let may_lead = |broker: BrokerId| broker != leaving && is_active(image, broker);
    let mut records = Vec::new();
    for (key, topic, partition) in image.partitions_on(leaving) {
        if !affected(key, partition) {
            continue;
        }
        if records.len() == MAX_CHANGES {
            return Changes { records, complete: false };
        }
        let mut change = PartitionChange::new(settings, topic, key, partition);
        prepare(key, &mut change);
        records.extend(change.build(may_lead));
    }
    Changes { records, complete: true }
}
