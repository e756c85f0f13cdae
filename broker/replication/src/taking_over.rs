// SPDX-License-Identifier: Apache-2.0
//! What an image of the metadata asks of one broker's replicas, by its difference to the image that was taken over
//! before. What did not change costs a comparison of pointers. Decisions only: must not know logs, folders, nor how
//! images come.

use std::sync::Arc;

use odradek_metadata::{Image, PartitionImage, TopicImage, min_in_sync};
use odradek_model::{BrokerId, TopicDefaults, TopicSettings};
use odradek_partition::{Decided, Followership, Leadership};

use crate::{FetcherId, ReplicaKey, fetcher_of};

/// The difference of two images, as it concerns one broker.
///
/// # How to drive it
/// In this order, and one image at a time:
/// 1. Delete the replicas of topics that are [`gone`](Self::gone): a new topic may have the name of one.
/// 2. Do the [`Change::task`] of each of the [`changes`](Self::changes); they may be done at the same time.
/// 3. Write the checkpoints if any replica is gone or is new: they know partitions by name.
/// 4. Show the image: whoever sees it finds done what it decides.
/// 5. Tell [`crate::Following::follow`] of each change of a replica that was or is here.
/// 6. If [`brokers_changed`](Self::brokers_changed), let time pass for all leaders: who is gone holds nothing back.
#[derive(Debug)]
pub struct TakingOver<'a> {
    /// Topics that are there no more.
    pub gone: Vec<&'a Arc<TopicImage>>,
    /// All partitions of topics that are new or of which anything has changed, topic by topic, in the order of indexes.
    pub changes: Vec<Change<'a>>,
    /// Whether anything has changed that replicas ask about brokers ([`odradek_partition::Brokers`]).
    pub brokers_changed: bool,
}

/// One partition of a topic that is new or has changed.
#[derive(Debug)]
pub struct Change<'a> {
    /// The partition.
    pub key: ReplicaKey,
    /// Its topic.
    pub topic: &'a Arc<TopicImage>,
    /// What the image says of it.
    pub partition: &'a Arc<PartitionImage>,
    /// The topic's settings, with the minimum of in-sync replicas as the controller counts it for this partition: it
    /// keeps those who may be elected by it.
    pub settings: TopicSettings,
    /// Whether the partition itself has changed, not its neighbours or the topic's settings alone.
    pub is_changed: bool,
    /// This broker.
    own: BrokerId,
}

/// What this broker has of a partition.
#[derive(Clone, Copy, Debug)]
pub enum Present<'a> {
    /// Nothing.
    Absent,
    /// A replica that could not be opened; only a start tries again.
    Offline,
    /// A replica, with the settings that it obeys.
    Open(&'a TopicSettings),
}

/// What is to be done with a partition's replica.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Task {
    /// Nothing.
    Keep,
    /// Open its log, then tell it what was decided.
    Open,
    /// Tell it what was decided ([`Change::decided`]), with the settings.
    Tell,
    /// It is another broker's now: end it and remove its log. One that is offline is forgotten.
    Delete,
}

impl<'a> TakingOver<'a> {
    /// What `after` asks of broker `own`, which has taken over `before`. `defaults` are the settings of topics that the
    /// broker's configuration gives.
    pub fn new(own: BrokerId, before: &'a Image, after: &'a Image, defaults: &TopicDefaults) -> Self {
        let gone = before.topics().filter(|topic| after.topic_by_id(topic.id).is_none()).collect();
        let mut changes = Vec::new();
        for topic in after.topics() {
            let known = before.topic_by_id(topic.id);
            if known.is_some_and(|known| Arc::ptr_eq(known, topic)) {
                continue;
            }
            let settings = TopicSettings::resolve(&topic.overrides, defaults).unwrap_or_else(|error| {
                tracing::error!(topic = %topic.name, %error, "stored settings are refused; defaults are used");
                TopicSettings::default()
            });
            for (index, partition) in topic.partitions.iter().enumerate() {
                let same = known.and_then(|known| known.partitions.get(index));
                let needed = min_in_sync(topic, partition, defaults);
                changes.push(Change {
                    key: ReplicaKey { topic: topic.id, partition: index as i32 },
                    topic,
                    partition,
                    settings: TopicSettings { min_insync_replicas: needed as i32, ..settings.clone() },
                    is_changed: !same.is_some_and(|same| Arc::ptr_eq(same, partition)),
                    own,
                });
            }
        }
        Self { gone, changes, brokers_changed: statuses(before).ne(statuses(after)) }
    }
}

impl Change<'_> {
    /// What is to be done, by what is there.
    pub fn task(&self, present: Present<'_>) -> Task {
        let is_own = self.partition.replicas.contains(&self.own);
        match present {
            Present::Open(_) | Present::Offline if !is_own => Task::Delete,
            Present::Open(settings) if self.is_changed || *settings != self.settings => Task::Tell,
            Present::Absent if is_own => Task::Open,
            Present::Absent | Present::Offline | Present::Open(_) => Task::Keep,
        }
    }

    /// What the metadata decided for this broker's replica.
    pub fn decided(&self) -> Decided {
        decided(self.own, self.partition)
    }

    /// Who fetches the partition for this broker's replica, if it has one that follows. A change of the topic's settings
    /// may move it into the throttled lane, or out of it. `lanes` is `num.replica.fetchers`.
    pub fn fetcher(&self, lanes: u8) -> Option<FetcherId> {
        let (partition, own) = (self.partition, self.own);
        let leader = partition.leader.filter(|leader| *leader != own && partition.replicas.contains(&own))?;
        let throttled = &self.settings.follower_throttled;
        let is_slowed = partition.adding.contains(&own) || throttled.contains(self.key.partition, own);
        let is_added = is_slowed && !partition.isr.contains(&own);
        Some(fetcher_of(leader, self.key, is_added, lanes))
    }
}

/// What the metadata decided for the replica of broker `own`.
pub fn decided(own: BrokerId, partition: &PartitionImage) -> Decided {
    let (leader_epoch, partition_epoch) = (partition.leader_epoch, partition.partition_epoch);
    match partition.leader {
        Some(leader) if leader == own => {
            let (replicas, in_sync) = (partition.replicas.clone(), partition.isr.clone());
            Decided::Leads(Leadership { leader_epoch, partition_epoch, replicas, in_sync })
        }
        Some(leader) => Decided::Follows(Followership { leader, leader_epoch, partition_epoch }),
        None => Decided::Leaderless,
    }
}

/// What replicas ask about brokers.
fn statuses(image: &Image) -> impl Iterator<Item = (i32, i64, bool, bool)> {
    image.brokers().map(|broker| (broker.id.0, broker.epoch, broker.fenced, broker.shutting_down_at.is_some()))
}

#[cfg(test)]
mod tests;
