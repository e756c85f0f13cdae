// SPDX-License-Identifier: Apache-2.0
//! The replicas of this broker, by topic. It must not know requests.
use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use odradek_model::{TopicId, TopicName, TopicPartition};

use crate::replica::Replica;

/// The replicas of one topic on this broker.
#[derive(Debug)]
pub struct TopicReplicas {
    /// Its name.
    pub name: TopicName,
    /// Its id.
    pub id: TopicId,
    /// By partition; `None` where another broker has the replica, or where it could not be opened.
    pub partitions: Vec<Option<Arc<Replica>>>,
    /// Indexes of this broker's replicas that could not be opened.
    pub offline: Vec<i32>,
}

impl TopicReplicas {
    /// Whether the topic has this partition.
    pub fn has(&self, index: i32) -> bool {
        usize::try_from(index).is_ok_and(|index| index < self.partitions.len())
    }

    /// The replica of a partition, if this broker has it.
    pub fn partition(&self, index: i32) -> Option<&Arc<Replica>> {
        self.partitions.get(usize::try_from(index).ok()?)?.as_ref()
    }
}

/// All replicas of this broker. Lookups take a lock that only topic changes hold for long.
#[derive(Debug, Default)]
pub struct Replicas {
    maps: RwLock<Maps>,
}

#[derive(Debug, Default)]
struct Maps {
    by_name: HashMap<TopicName, Arc<TopicReplicas>>,
    by_id: HashMap<TopicId, Arc<TopicReplicas>>,
}

impl Replicas {
    /// A topic by name.
    pub fn topic(&self, name: &str) -> Option<Arc<TopicReplicas>> {
        self.maps.read().unwrap_or_else(PoisonError::into_inner).by_name.get(name).cloned()
    }

    /// A topic by id.
    pub fn topic_by_id(&self, id: TopicId) -> Option<Arc<TopicReplicas>> {
        self.maps.read().unwrap_or_else(PoisonError::into_inner).by_id.get(&id).cloned()
    }

    /// Adds or replaces a topic.
    pub fn insert(&self, topic: Arc<TopicReplicas>) {
        let mut maps = self.maps.write().unwrap_or_else(PoisonError::into_inner);
        maps.by_id.insert(topic.id, Arc::clone(&topic));
        maps.by_name.insert(topic.name.clone(), topic);
    }

    /// Removes a topic and returns it.
    pub fn remove(&self, id: TopicId) -> Option<Arc<TopicReplicas>> {
        let mut maps = self.maps.write().unwrap_or_else(PoisonError::into_inner);
        let topic = maps.by_id.remove(&id)?;
        // A topic created anew under the name has taken the entry already.
        if maps.by_name.get(&topic.name).is_some_and(|named| named.id == id) {
            maps.by_name.remove(&topic.name);
        }
        Some(topic)
    }

    /// How many replicas could not be opened.
    pub fn offline(&self) -> usize {
        self.topics().iter().map(|topic| topic.offline.len()).sum()
    }

    /// The replicas that could not be opened, in no order.
    pub fn offline_partitions(&self) -> Vec<TopicPartition> {
        let mut offline = Vec::new();
        for topic in self.topics() {
            let at = |partition: &i32| TopicPartition { topic: topic.name.clone(), partition: *partition };
            offline.extend(topic.offline.iter().map(at));
        }
        offline
    }

    /// All topics, in no order.
    pub fn topics(&self) -> Vec<Arc<TopicReplicas>> {
        self.maps.read().unwrap_or_else(PoisonError::into_inner).by_id.values().cloned().collect()
    }

    /// All replicas, in no order.
    pub fn all(&self) -> Vec<Arc<Replica>> {
        self.topics().iter().flat_map(|topic| topic.partitions.iter().flatten().cloned()).collect()
    }
}
