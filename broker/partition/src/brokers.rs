// SPDX-License-Identifier: Apache-2.0
//! What a leader asks of the metadata about other brokers, as a port. Must not know how metadata travels.

use std::fmt::Debug;
use std::sync::Arc;

use odradek_model::{BrokerEpoch, BrokerId};

/// A registered broker, as the newest metadata that has arrived here says.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct BrokerStatus {
    /// Of its registration.
    pub epoch: BrokerEpoch,
    /// The controller does not count on it.
    pub fenced: bool,
    /// It has asked to stop.
    pub shutting_down: bool,
}

/// The brokers that the metadata knows. Asked for every replica outside of the ISR on every append, so an answer must
/// be a look-up in memory. It may lag behind the controller, but must not run ahead of what [`crate::Partition::lead`]
/// was told: a broker's image gives both.
pub trait Brokers: Debug + Send + Sync {
    /// `None` if it is not registered.
    fn status(&self, broker: BrokerId) -> Option<BrokerStatus>;
}

/// The broker that a replica lives on.
#[derive(Clone, Debug)]
pub struct LocalBroker {
    /// Its id.
    pub id: BrokerId,
    /// `replica.lag.time.max.ms`: a follower that has not been at the leader's end for longer leaves the ISR.
    pub replica_lag_time_max_ms: i64,
    /// The others.
    pub brokers: Arc<dyn Brokers>,
}

impl LocalBroker {
    /// `replica.lag.time.max.ms` where nothing else is configured.
    pub const REPLICA_LAG_TIME_MAX_MS: i64 = 30_000;

    /// A broker that knows no other.
    pub fn alone(id: BrokerId) -> Self {
        Self { id, replica_lag_time_max_ms: Self::REPLICA_LAG_TIME_MAX_MS, brokers: Arc::new(NoBrokers) }
    }
}

#[derive(Debug)]
struct NoBrokers;

impl Brokers for NoBrokers {
    fn status(&self, _broker: BrokerId) -> Option<BrokerStatus> {
        None
    }
}
