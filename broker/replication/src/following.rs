// SPDX-License-Identifier: Apache-2.0
//! Which fetcher has which partition of this broker: fetchers begin with their first partition and end with their last,
//! and those of the throttled lane share one rate. Must not know what a fetcher does ([`crate::Fetcher`]).

use std::collections::{BTreeMap, HashMap};

use crate::{FetcherId, Lane, ReplicaKey};

/// What is to be done with fetchers, in the order in which it is said.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FollowEffect {
    /// A fetcher begins, with one partition.
    Begin {
        /// Which.
        id: FetcherId,
        /// Its first partition.
        key: ReplicaKey,
        /// Bytes per second that it may fetch.
        rate: Option<u64>,
    },
    /// [`crate::Fetcher::add`]
    Add {
        /// To which.
        id: FetcherId,
        /// The partition.
        key: ReplicaKey,
    },
    /// [`crate::Fetcher::remove`]
    Remove {
        /// From which.
        id: FetcherId,
        /// The partition.
        key: ReplicaKey,
    },
    /// The fetcher has nothing left; another of the same name may begin.
    End(FetcherId),
    /// [`crate::Fetcher::set_throttle`]
    Throttle {
        /// Which.
        id: FetcherId,
        /// Bytes per second that it may fetch from now on.
        rate: Option<u64>,
    },
}

/// All that a broker follows.
#[derive(Debug, Default)]
pub struct Following {
    of: HashMap<ReplicaKey, FetcherId>,
    /// Number of partitions of each fetcher; none has no partition.
    sizes: BTreeMap<FetcherId, usize>,
    /// For all throttled fetchers together.
    throttled_rate: Option<u64>,
}

impl Following {
    /// Has a partition fetched by this fetcher, or by none, after its replica has taken what the metadata says of it. If
    /// that `is_news`, a back-off ends.
    #[must_use]
    pub fn follow(&mut self, key: ReplicaKey, wanted: Option<FetcherId>, is_news: bool) -> Vec<FollowEffect> {
        let present = self.of.get(&key).copied();
        let mut effects = Vec::new();
        if present == wanted {
            effects.extend(wanted.filter(|_| is_news).map(|id| FollowEffect::Add { id, key }));
            return effects;
        }
        if let Some(id) = present {
            self.of.remove(&key);
            effects.push(FollowEffect::Remove { id, key });
            let size = self.sizes.get_mut(&id).expect("a fetcher with a partition is there");
            *size -= 1;
            if *size == 0 {
                self.sizes.remove(&id);
                effects.push(FollowEffect::End(id));
                self.share_rate(id, None, &mut effects);
            }
        }
        if let Some(id) = wanted {
            self.of.insert(key, id);
            let size = self.sizes.entry(id).or_default();
            *size += 1;
            if *size > 1 {
                effects.push(FollowEffect::Add { id, key });
            } else {
                let rate = self.share().filter(|_| is_throttled(id));
                effects.push(FollowEffect::Begin { id, key, rate });
                self.share_rate(id, Some(id), &mut effects);
            }
        }
        effects
    }

    /// Bounds the bytes per second of all throttled fetchers together, or no more.
    #[must_use]
    pub fn throttle(&mut self, rate: Option<u64>) -> Vec<FollowEffect> {
        let mut effects = Vec::new();
        if self.throttled_rate != rate {
            self.throttled_rate = rate;
            self.throttle_all_but(None, &mut effects);
        }
        effects
    }

    /// Who fetches a partition.
    pub fn fetcher(&self, key: ReplicaKey) -> Option<FetcherId> {
        self.of.get(&key).copied()
    }

    /// After a fetcher has begun or ended the other throttled ones get another part.
    fn share_rate(&self, changed: FetcherId, except: Option<FetcherId>, effects: &mut Vec<FollowEffect>) {
        if is_throttled(changed) {
            self.throttle_all_but(except, effects);
        }
    }

    fn throttle_all_but(&self, except: Option<FetcherId>, effects: &mut Vec<FollowEffect>) {
        let rate = self.share();
        let ids = self.sizes.keys().copied().filter(|id| is_throttled(*id) && Some(*id) != except);
        effects.extend(ids.map(|id| FollowEffect::Throttle { id, rate }));
    }

    /// An equal part of the rate for each throttled fetcher.
    fn share(&self) -> Option<u64> {
        let count = self.sizes.keys().filter(|id| is_throttled(**id)).count().max(1) as u64;
        self.throttled_rate.map(|rate| rate / count)
    }
}

fn is_throttled(id: FetcherId) -> bool {
    id.lane == Lane::Reassignment
}

#[cfg(test)]
mod tests {
    use odradek_model::BrokerId;

    use super::*;
    use crate::scenarios::key;

    fn ordinary(leader: i32) -> FetcherId {
        FetcherId { leader: BrokerId(leader), lane: Lane::Ordinary(0) }
    }

    fn throttled(leader: i32) -> FetcherId {
        FetcherId { leader: BrokerId(leader), lane: Lane::Reassignment }
    }

    #[test]
    fn a_fetcher_begins_with_its_first_partition_and_ends_with_its_last() {
        let mut following = Following::default();
        let (a, b) = (key(1, 0), key(1, 1));
        let (one, two) = (ordinary(1), ordinary(2));
        assert_eq!(following.follow(a, None, true), []);
        assert_eq!(following.follow(a, Some(one), true), [FollowEffect::Begin { id: one, key: a, rate: None }]);
        assert_eq!(following.follow(b, Some(one), true), [FollowEffect::Add { id: one, key: b }]);
        assert_eq!(following.follow(b, Some(one), false), [], "nothing is new");
        assert_eq!(following.follow(b, Some(one), true), [FollowEffect::Add { id: one, key: b }], "a back-off ends");
        let moved = following.follow(a, Some(two), true);
        let begin = FollowEffect::Begin { id: two, key: a, rate: None };
        assert_eq!(moved, [FollowEffect::Remove { id: one, key: a }, begin]);
        assert_eq!((following.fetcher(a), following.fetcher(b)), (Some(two), Some(one)));
        let end = following.follow(b, None, false);
        assert_eq!(end, [FollowEffect::Remove { id: one, key: b }, FollowEffect::End(one)], "even without news");
        assert_eq!(following.fetcher(b), None);
    }

    #[test]
    fn throttled_fetchers_share_one_rate() {
        let mut following = Following::default();
        assert_eq!(following.throttle(Some(1_200)), []);
        let (one, two) = (throttled(1), throttled(2));
        let rate = Some(1_200);
        assert_eq!(
            following.follow(key(1, 0), Some(one), true),
            [FollowEffect::Begin { id: one, key: key(1, 0), rate }]
        );
        let (half, begin) = (Some(600), |rate| FollowEffect::Begin { id: two, key: key(1, 1), rate });
        let throttle = |id, rate| FollowEffect::Throttle { id, rate };
        assert_eq!(following.follow(key(1, 1), Some(two), true), [begin(half), throttle(one, half)]);
        // An ordinary one has no part in it.
        let _ = following.follow(key(2, 0), Some(ordinary(1)), true);
        assert_eq!(following.throttle(Some(1_200)), [], "nothing has changed");
        assert_eq!(following.throttle(None), [throttle(one, None), throttle(two, None)]);
        let _ = following.throttle(Some(800));
        let ended = following.follow(key(1, 0), None, true);
        let remove = FollowEffect::Remove { id: one, key: key(1, 0) };
        assert_eq!(ended, [remove, FollowEffect::End(one), throttle(two, Some(800))]);
    }
}
