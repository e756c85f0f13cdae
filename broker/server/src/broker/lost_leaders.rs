// SPDX-License-Identifier: Apache-2.0
//! Waits for the decision who leads instead of a broker that has just been lost. It must not know who asks.
//!
//! A client that loses the connection to a leader asks another broker within a millisecond who leads now. That may be
//! before the other broker has lost its own connections, as the kernel ends those of a killed process one after the
//! other, and before the cluster has decided, which takes some tens of milliseconds. An answer in between names the old
//! leader, and librdkafka asks again only a second later. So leaders are asked first whether they live, which costs one
//! round trip that all share who ask at the same time, and the decision is waited for when one does not.
use std::sync::Arc;
use std::time::Duration;

use odradek_metadata::{BrokerImage, Image, TopicImage};
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
    fn include(&self, image: &Image, broker: BrokerId) -> bool {
        let leads = |topic: &TopicImage| topic.partitions.iter().any(|partition| partition.leader == Some(broker));
        match self {
            Self::All => true,
            Self::Topics { names, ids } => {
                names.iter().filter_map(|name| image.topic(name)).any(|topic| leads(topic))
                    || ids.iter().filter_map(|id| image.topic_by_id(*id)).any(|topic| leads(topic))
            }
        }
    }
}

impl Broker {
    /// Whether other brokers lead any of these.
    pub(crate) fn are_led_elsewhere(&self, of: &LeadersOf) -> bool {
        let image = self.image();
        image.brokers().any(|broker| self.asks(&image, of, broker))
    }

    /// Whether it is another broker that leads any of these, and is not known to be away.
    fn asks(&self, image: &Image, of: &LeadersOf, broker: &BrokerImage) -> bool {
        broker.id != self.id && !broker.fenced && image.leadership_count(broker.id) > 0 && of.include(image, broker.id)
    }

    /// Waits until the leaders have shown that they live, or, for one that has just been lost, until it is decided who
    /// leads instead. Silent ones are not waited for longer than 100 ms, nor often.
    pub(crate) async fn leaders_known(&self, of: &LeadersOf) {
        let image = self.image();
        let mut asked = JoinSet::new();
        for leader in image.brokers().filter(|broker| self.asks(&image, of, broker)).map(|broker| broker.id) {
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
            let image = self.image();
            // Whoever is fenced and still leads has no other replica that could: there is nothing to wait for.
            lost.retain(|(id, _)| image.broker(*id).is_some_and(|leader| self.asks(&image, of, leader)));
        }
        lost
    }
}
