// SPDX-License-Identifier: Apache-2.0
//! What the controller does from time to time without being asked: partitions without a leader try again, preferred
//! leaders lead again, and internal topics get more replicas as brokers join.

use std::collections::BTreeMap;

use odradek_model::{BrokerId, OFFSETS_TOPIC, TRANSACTION_STATE_TOPIC};

use super::partition_change::{Election, PartitionChange};
use super::partition_updates::is_active;
use super::placement::{self, PlaceableBroker};
use super::reassignment;
use super::{ControllerSettings, Decision, Progress};
use crate::{Image, PartitionImage, Record};

/// Elections of one decision (`MAX_ELECTIONS_PER_IMBALANCE` in Kafka): what brokers then do stays short.
const MAX_ELECTIONS: usize = 1000;
/// Replicas that the controller wants for internal topics if there are as many brokers.
const INTERNAL_REPLICATION: usize = 3;

/// Partitions without a leader elect one if they can: by the rules, or uncleanly where the topic allows it.
pub(super) fn elect_leaderless(image: &Image, settings: &ControllerSettings) -> Decision<Progress> {
    let mut records = Vec::new();
    for (key, topic, partition) in image.leaderless_partitions() {
        let change = PartitionChange::new(settings, topic, key, partition);
        records.extend(change.build(|broker| is_active(image, broker)));
        if records.len() == MAX_ELECTIONS {
            break;
        }
    }
    progress(records)
}

/// Preferred leaders that are in sync lead again.
pub(super) fn balance_leaders(image: &Image, settings: &ControllerSettings) -> Decision<Progress> {
    let mut records = Vec::new();
    for (key, topic, partition) in image.unbalanced_partitions() {
        let mut change = PartitionChange::new(settings, topic, key, partition);
        change.election = Election::Preferred;
        records.extend(change.build(|broker| is_active(image, broker)));
        if records.len() == MAX_ELECTIONS {
            break;
        }
    }
    progress(records)
}

/// Internal topics with fewer replicas than min(3, brokers) get more, by reassignments that only add.
pub(super) fn raise_internal_topics(image: &Image, settings: &ControllerSettings, seed: u64) -> Decision<Progress> {
    let brokers: Vec<PlaceableBroker> =
        placement::placeable(image).into_iter().filter(|broker| !broker.fenced).collect();
    let wanted = brokers.len().min(INTERNAL_REPLICATION);
    let mut load: BTreeMap<BrokerId, usize> = BTreeMap::new();
    let internal = || [OFFSETS_TOPIC, TRANSACTION_STATE_TOPIC].into_iter().filter_map(|name| image.topic(name));
    for replica in internal().flat_map(|topic| topic.partitions.iter().flat_map(|p| p.replicas.iter())) {
        *load.entry(*replica).or_default() += 1;
    }
    let mut records = Vec::new();
    for topic in internal() {
        for (index, partition) in topic.partitions.iter().enumerate() {
            if partition.replicas.len() >= wanted || partition.is_reassigning() || partition.leader.is_none() {
                continue;
            }
            if records.len() == MAX_ELECTIONS {
                return progress(records);
            }
            let target = with_more(partition, wanted, &brokers, &mut load, seed);
            let key = crate::PartitionKey { topic: topic.id, partition: index as i32 };
            // More replicas only: nothing in it can be refused.
            records.extend(reassignment::start(image, settings, topic, key, partition, &target).ok().flatten());
        }
    }
    progress(records)
}

/// The replicas and more of them: in racks that have none yet if there are such, on the least loaded brokers.
fn with_more(
    partition: &PartitionImage,
    wanted: usize,
    brokers: &[PlaceableBroker],
    load: &mut BTreeMap<BrokerId, usize>,
    seed: u64,
) -> Vec<BrokerId> {
    let mut target = partition.replicas.clone();
    let turn = seed as usize % brokers.len().max(1);
    while target.len() < wanted {
        let rack_of = |id: BrokerId| brokers.iter().find(|broker| broker.id == id).and_then(|broker| broker.rack);
        let used = |broker: &PlaceableBroker| {
            target.iter().filter(|id| broker.rack.is_some() && rack_of(**id) == broker.rack).count()
        };
        let order = brokers.iter().cycle().skip(turn).take(brokers.len());
        let best = order
            .filter(|broker| !target.contains(&broker.id))
            .min_by_key(|broker| (used(broker), load.get(&broker.id).copied().unwrap_or(0)));
        let Some(best) = best else { break };
        *load.entry(best.id).or_default() += 1;
        target.push(best.id);
    }
    target
}

fn progress(records: Vec<Record>) -> Decision<Progress> {
    let reply = if records.len() == MAX_ELECTIONS { Progress::AskAgain } else { Progress::Complete };
    Decision { records, reply }
}
