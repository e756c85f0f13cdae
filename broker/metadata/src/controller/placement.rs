// SPDX-License-Identifier: Apache-2.0
//! Where the replicas of new partitions go (the goals of Kafka's `StripedReplicaPlacer`, reached by counting).
//!
//! Must hold: no broker twice for a partition, the leader on an unfenced broker. Wanted, in this order: racks share the
//! replicas of each partition as evenly as they can; unfenced brokers before fenced ones; leaders, then replicas, even
//! over the brokers of one request; the followers of one leader even over the others, so that its loss spreads. Ties
//! are broken by the seed. The cost is partitions × replicas × brokers. Must not know what other topics hold.

use std::collections::BTreeMap;

use odradek_model::BrokerId;

use crate::Image;

/// A broker that may get replicas.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct PlaceableBroker<'a> {
    pub(super) id: BrokerId,
    pub(super) rack: Option<&'a str>,
    pub(super) fenced: bool,
}

/// Why nothing was placed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum PlacementError {
    /// So many brokers may get replicas, fewer than are wanted.
    TooFewBrokers(usize),
    /// Nobody could lead.
    AllFenced,
}

/// Registered brokers that are neither cordoned nor going to stop.
pub(super) fn placeable(image: &Image) -> Vec<PlaceableBroker<'_>> {
    let usable = image.brokers().filter(|broker| !broker.cordoned && broker.shutting_down_at.is_none());
    usable
        .map(|broker| PlaceableBroker { id: broker.id, rack: broker.rack.as_deref(), fenced: broker.fenced })
        .collect()
}

/// Places partitions one after another, counting what it has placed.
pub(super) struct Placer<'a> {
    /// Turned by the seed: of equals the earlier one wins.
    brokers: Vec<PlaceableBroker<'a>>,
    racks: Vec<usize>,
    rack_count: usize,
    leaders: Vec<usize>,
    replicas: Vec<usize>,
    /// By (leader, follower).
    pairs: BTreeMap<(usize, usize), usize>,
}

impl<'a> Placer<'a> {
    pub(super) fn new(mut brokers: Vec<PlaceableBroker<'a>>, seed: u64) -> Self {
        let turn = (seed % brokers.len().max(1) as u64) as usize;
        brokers.rotate_left(turn);
        // Brokers without a rack are in one rack together, as in Kafka.
        let mut names: Vec<Option<&str>> = brokers.iter().map(|broker| broker.rack).collect();
        names.sort_unstable();
        names.dedup();
        let racks = brokers.iter().map(|broker| names.partition_point(|name| *name < broker.rack)).collect();
        let count = brokers.len();
        Self {
            brokers,
            racks,
            rack_count: names.len(),
            leaders: vec![0; count],
            replicas: vec![0; count],
            pairs: BTreeMap::new(),
        }
    }

    /// Replicas of each of so many new partitions, the leader first.
    pub(super) fn place(&mut self, partitions: usize, replicas: usize) -> Result<Vec<Vec<BrokerId>>, PlacementError> {
        if replicas > self.brokers.len() {
            return Err(PlacementError::TooFewBrokers(self.brokers.len()));
        }
        if self.brokers.iter().all(|broker| broker.fenced) {
            return Err(PlacementError::AllFenced);
        }
        Ok((0..partitions).map(|_| self.place_one(replicas)).collect())
    }

    fn place_one(&mut self, count: usize) -> Vec<BrokerId> {
        let leader = (0..self.brokers.len())
            .filter(|at| !self.brokers[*at].fenced)
            .min_by_key(|at| (self.leaders[*at], self.replicas[*at]))
            .expect("somebody is unfenced");
        let mut chosen = vec![leader];
        let mut in_rack = vec![0; self.rack_count];
        in_rack[self.racks[leader]] += 1;
        while chosen.len() < count {
            let follower = (0..self.brokers.len())
                .filter(|at| !chosen.contains(at))
                .min_by_key(|at| {
                    let pairs = self.pairs.get(&(leader, *at)).copied().unwrap_or(0);
                    (in_rack[self.racks[*at]], self.brokers[*at].fenced, self.replicas[*at], pairs)
                })
                .expect("there are as many brokers as replicas");
            in_rack[self.racks[follower]] += 1;
            *self.pairs.entry((leader, follower)).or_default() += 1;
            chosen.push(follower);
        }
        self.leaders[leader] += 1;
        for at in &chosen {
            self.replicas[*at] += 1;
        }
        chosen.into_iter().map(|at| self.brokers[at].id).collect()
    }
}

#[cfg(test)]
mod tests;
