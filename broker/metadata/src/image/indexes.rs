// SPDX-License-Identifier: Apache-2.0
//! What finds partitions without a look at all of them: by broker, and by the states that somebody must mend.
//!
//! A broker's partitions are found by *assignment*, which changes only when topics are made, removed or reassigned: the
//! loss of a broker costs in proportion to the replicas on it and leaves this index alone. Lists are kept sorted, one
//! for each broker and topic: 4 bytes a replica. Must not know records.

use std::collections::BTreeSet;
use std::sync::Arc;

use odradek_model::{BrokerId, TopicId};
use rpds::{RedBlackTreeMapSync, RedBlackTreeSetSync};

use super::PartitionImage;

/// One partition, by its topic's id.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct PartitionKey {
    /// The topic.
    pub topic: TopicId,
    /// The index, from 0.
    pub partition: i32,
}

/// The partition indexes of one topic, sorted.
type Indices = Arc<Vec<i32>>;

#[derive(Clone, Debug, Default)]
pub(super) struct Indexes {
    assigned: RedBlackTreeMapSync<BrokerId, RedBlackTreeMapSync<TopicId, Indices>>,
    leaderships: RedBlackTreeMapSync<BrokerId, usize>,
    leaderless: RedBlackTreeSetSync<PartitionKey>,
    unbalanced: RedBlackTreeSetSync<PartitionKey>,
    reassigning: RedBlackTreeSetSync<PartitionKey>,
}

impl Indexes {
    /// A partition was born (`old` is none), changed, or is gone (`new` is none).
    pub(super) fn update(&mut self, key: PartitionKey, old: Option<&PartitionImage>, new: Option<&PartitionImage>) {
        let replicas = |partition: Option<&PartitionImage>| -> BTreeSet<BrokerId> {
            partition.map(|partition| partition.replicas.iter().copied().collect()).unwrap_or_default()
        };
        if old.map(|partition| &partition.replicas) != new.map(|partition| &partition.replicas) {
            let (before, after) = (replicas(old), replicas(new));
            before.difference(&after).for_each(|broker| self.unassign(*broker, key));
            after.difference(&before).for_each(|broker| self.assign(*broker, key));
        }
        let leader = |partition: Option<&PartitionImage>| partition.and_then(|partition| partition.leader);
        if leader(old) != leader(new) {
            if let Some(broker) = leader(old) {
                self.count_leadership(broker, |count| count - 1);
            }
            if let Some(broker) = leader(new) {
                self.count_leadership(broker, |count| count + 1);
            }
        }
        let mut keep = |set: fn(&mut Self) -> &mut RedBlackTreeSetSync<PartitionKey>,
                        is: fn(&PartitionImage) -> bool| {
            match (old.is_some_and(is), new.is_some_and(is)) {
                (false, true) => set(self).insert_mut(key),
                (true, false) => {
                    set(self).remove_mut(&key);
                }
                _ => {}
            }
        };
        keep(|indexes| &mut indexes.leaderless, |partition| partition.leader.is_none());
        keep(|indexes| &mut indexes.unbalanced, |partition| !partition.has_preferred_leader());
        keep(|indexes| &mut indexes.reassigning, PartitionImage::is_reassigning);
    }

    pub(super) fn assigned(&self, broker: BrokerId) -> impl Iterator<Item = PartitionKey> {
        self.assigned.get(&broker).into_iter().flat_map(|topics| {
            topics.iter().flat_map(|(topic, indices)| {
                indices.iter().map(|partition| PartitionKey { topic: *topic, partition: *partition })
            })
        })
    }

    pub(super) fn leaderships(&self, broker: BrokerId) -> usize {
        self.leaderships.get(&broker).copied().unwrap_or(0)
    }

    pub(super) fn leaderless(&self) -> &RedBlackTreeSetSync<PartitionKey> {
        &self.leaderless
    }

    pub(super) fn unbalanced(&self) -> &RedBlackTreeSetSync<PartitionKey> {
        &self.unbalanced
    }

    pub(super) fn reassigning(&self) -> &RedBlackTreeSetSync<PartitionKey> {
        &self.reassigning
    }

    fn assign(&mut self, broker: BrokerId, key: PartitionKey) {
        if !self.assigned.contains_key(&broker) {
            self.assigned.insert_mut(broker, RedBlackTreeMapSync::default());
        }
        let topics = self.assigned.get_mut(&broker).expect("inserted above");
        if let Some(indices) = topics.get_mut(&key.topic) {
            if let Err(at) = indices.binary_search(&key.partition) {
                Arc::make_mut(indices).insert(at, key.partition);
            }
        } else {
            topics.insert_mut(key.topic, Arc::new(vec![key.partition]));
        }
    }

    fn unassign(&mut self, broker: BrokerId, key: PartitionKey) {
        let topics = self.assigned.get_mut(&broker).expect("a replica's broker has its list");
        let indices = topics.get_mut(&key.topic).expect("a replica's topic has its list");
        let at = indices.binary_search(&key.partition).expect("a replica stands in its list");
        if indices.len() > 1 {
            Arc::make_mut(indices).remove(at);
            return;
        }
        topics.remove_mut(&key.topic);
        if topics.is_empty() {
            self.assigned.remove_mut(&broker);
        }
    }

    fn count_leadership(&mut self, broker: BrokerId, change: impl FnOnce(usize) -> usize) {
        let count = change(self.leaderships(broker));
        if count == 0 {
            self.leaderships.remove_mut(&broker);
        } else {
            self.leaderships.insert_mut(broker, count);
        }
    }
}
