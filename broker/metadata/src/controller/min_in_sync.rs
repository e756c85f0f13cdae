// SPDX-License-Identifier: Apache-2.0
//! What a topic's settings mean for elections: how many replicas must be in sync, and whether an unclean election is
//! allowed. Must not know who is alive.

use odradek_model::{TopicDefaults, TopicSettings};

use crate::{PartitionImage, TopicImage};

/// How many replicas must be in sync for the high watermark to move: `min.insync.replicas` of the topic or of the
/// broker's configuration, else max(1, replicas - 1); never above the number of replicas (rule 13).
///
/// Replicas that a reassignment adds do not count before it is complete: raising a topic from one to three replicas
/// must not stop its writes. The leader must use this function with the image in which the ISR stands: the controller
/// keeps the ELR by it, and a leader that counted on fewer would move the high watermark past the ELR.
pub fn min_in_sync(topic: &TopicImage, partition: &PartitionImage, defaults: &TopicDefaults) -> usize {
    TopicRules::of(topic, defaults).min_in_sync(partition.replicas.len() - partition.adding.len())
}

/// The `min.insync.replicas` that holds for a topic as long as nobody gives one, by the replicas of its first partition.
pub fn min_in_sync_without_setting(topic: &TopicImage) -> usize {
    default_min_in_sync(topic.partitions.first().map_or(1, |partition| partition.original_replicas().count()))
}

/// The default of `min.insync.replicas` for so many replicas.
pub(super) fn default_min_in_sync(replicas: usize) -> usize {
    replicas.saturating_sub(1).max(1)
}

/// The two settings of one topic, resolved once for all its partitions.
#[derive(Clone, Copy, Debug)]
pub(super) struct TopicRules {
    given_min_in_sync: Option<usize>,
    pub(super) unclean_leader_election: bool,
}

impl TopicRules {
    pub(super) fn of(topic: &TopicImage, defaults: &TopicDefaults) -> Self {
        let mut settings = TopicSettings::default();
        let mut given = |name: &str| {
            let value = topic.overrides.get(name).or_else(|| defaults.overrides.get(name));
            // Values are checked before they are stored; one that does not parse counts as not given.
            value.is_some_and(|value| settings.set(name, value).is_ok())
        };
        let has_min_in_sync = given("min.insync.replicas");
        given("unclean.leader.election.enable");
        Self {
            given_min_in_sync: has_min_in_sync.then_some(settings.min_insync_replicas as usize),
            unclean_leader_election: settings.unclean_leader_election,
        }
    }

    pub(super) fn min_in_sync(self, replicas: usize) -> usize {
        self.given_min_in_sync.unwrap_or_else(|| default_min_in_sync(replicas)).min(replicas)
    }
}
