// SPDX-License-Identifier: Apache-2.0
//! Waits for the decision who leads instead of a broker that has just been lost. It must not know who asks.
//!
//! A client that loses the connection to a leader asks another broker within a millisecond who leads now, and the cluster
//! needs some tens of milliseconds to decide. An answer in between names the old leader.
use std::time::Duration;

use odradek_metadata::{Image, TopicImage};
use odradek_model::{BrokerId, TopicId};
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
    /// Whether one of these leaders has just been lost, and it is not decided yet who leads instead.
    pub(crate) fn awaits_leaders(&self, of: &LeadersOf) -> bool {
        self.awaits_leaders_until(of).is_some()
    }

    /// Waits until that is decided, or the lost broker is reached again, or it takes too long.
    pub(crate) async fn leaders_known(&self, of: &LeadersOf) {
        let (mut applied, mut losses) = (self.applied(), self.peers.losses());
        while let Some(until) = self.awaits_leaders_until(of) {
            tokio::select! {
                Ok(()) = applied.changed() => {}
                Ok(()) = losses.changed() => {}
                () = sleep_until(until) => {}
            }
        }
    }

    fn awaits_leaders_until(&self, of: &LeadersOf) -> Option<Instant> {
        let lost = self.peers.lost_since(Instant::now().checked_sub(LONGEST_WAIT)?);
        if lost.is_empty() {
            return None;
        }
        let image = self.image();
        // Whoever is fenced and still leads has no other replica that could: there is nothing to wait for.
        let is_leader = |id| {
            image.broker(id).is_some_and(|broker| !broker.fenced)
                && image.leadership_count(id) > 0
                && of.include(&image, id)
        };
        let awaited = lost.into_iter().filter(|(id, _)| is_leader(*id));
        awaited.map(|(_, began_at)| began_at + LONGEST_WAIT).max()
    }
}
