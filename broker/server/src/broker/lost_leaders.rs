// SPDX-License-Identifier: Apache-2.0
//! Waits for the decision who leads instead of a broker that has just been lost. It must not know who asks.
//!
//! A client that loses the connection to a leader asks another broker within a millisecond who leads now. That may be
//! before the other broker has lost its own connections, as the kernel ends those of a killed process one after the
//! other, and before the cluster has decided, which takes some tens of milliseconds. An answer in between names the old
//! leader, and librdkafka asks again only a second later. So leaders are asked first whether they live, which costs one
//! round trip that all share who ask at the same time, and the decision is waited for when one does not.
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use odradek_metadata::Image;
use odradek_model::{BrokerId, TopicId};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use super::Broker;

/// From the first sign of a loss, at most. A process that was killed refuses the controller's probe, and its leaderships
/// are moved within tens of milliseconds; a probe that nobody answers takes 500 ms, and the session longer than anybody
/// should wait. One that only this broker cannot reach costs this once, as its loss is as old as its first sign.
const LONGEST_WAIT: Duration = Duration::from_millis(500);

/// Whose leaders are meant.
#[derive(Debug)]
pub(crate) enum LeadersOf {
    /// Those of all partitions.
    All,
    /// Those of some topics' partitions.
    Topics { names: Vec<String>, ids: Vec<TopicId> },
}

impl LeadersOf {
    fn leaders(&self, image: &Image) -> BTreeSet<BrokerId> {
        match self {
            Self::All => image.brokers().map(|broker| broker.id).filter(|id| image.leadership_count(*id) > 0).collect(),
            Self::Topics { names, ids } => {
                let named = names.iter().filter_map(|name| image.topic(name));
                let topics = named.chain(ids.iter().filter_map(|id| image.topic_by_id(*id)));
                topics.flat_map(|topic| &topic.partitions).filter_map(|partition| partition.leader).collect()
            }
        }
    }
}

impl Broker {
    /// The other brokers that lead any of these, and are not known to be away. Costs one look at each partition.
    pub(crate) fn other_leaders(&self, of: &LeadersOf) -> BTreeSet<BrokerId> {
        let image = self.image();
        let mut leaders = of.leaders(&image);
        leaders.retain(|id| *id != self.id && image.broker(*id).is_some_and(|leader| !leader.fenced));
        leaders
    }

    /// Waits until the leaders that [`Self::other_leaders`] gave have shown that they live, or, for one that has just been
    /// lost, until it is decided who leads instead. Silent ones are not waited for longer than 100 ms, nor often.
    pub(crate) async fn leaders_known(&self, of: &LeadersOf, leaders: BTreeSet<BrokerId>) {
        let mut asked = JoinSet::new();
        for leader in leaders {
            let peers = Arc::clone(&self.peers);
            asked.spawn(async move { peers.feel(leader).await });
        }
        asked.join_all().await;
        let (mut applied, mut losses) = (self.applied(), self.peers.losses());
        loop {
            let awaited = self.awaited_leaders(of);
            let Some(until) = awaited.iter().map(|(_, began_at)| *began_at + LONGEST_WAIT).max() else { return };
            tokio::select! {
                Ok(()) = applied.changed() => {}
                Ok(()) = losses.changed() => {}
                () = sleep_until(until) => {
                    for (leader, _) in awaited {
                        self.peers.lost_in_vain(leader);
                    }
                    return;
                }
            }
        }
    }

    /// Those of the leaders that have just been lost without a decision about it, and when.
    fn awaited_leaders(&self, of: &LeadersOf) -> Vec<(BrokerId, Instant)> {
        let Some(oldest) = Instant::now().checked_sub(LONGEST_WAIT) else { return Vec::new() };
        let mut lost = self.peers.lost_since(oldest);
        if !lost.is_empty() {
            // Whoever is fenced and still leads has no other replica that could: there is nothing to wait for.
            let leaders = self.other_leaders(of);
            lost.retain(|(id, _)| leaders.contains(id));
        }
        lost
    }
}
