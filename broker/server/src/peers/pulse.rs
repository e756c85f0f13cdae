// SPDX-License-Identifier: Apache-2.0
//! Whether a broker's process lives at this moment: it answers a question that asks nothing, one for all who want to know
//! at the same time. It must not know why they do.
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use odradek_model::BrokerId;
use odradek_wire::private::ConfirmLeadershipRequest;
use tokio::time::{Instant, timeout_at};

use super::{Lane, Peers};

/// How long an answer is waited for. It is one round trip and little work, well below a millisecond; a broker that is
/// only slow must not make those wait who ask.
const PATIENCE: Duration = Duration::from_millis(100);

/// Who did not answer is not asked again for so long, unless it is reached meanwhile, so that a broker that is paused, or
/// whose network is, costs those who ask a fiftieth of their time at most.
const LEFT_ALONE: Duration = Duration::from_secs(5);

/// What is known of one broker; the lock is held while it is asked.
#[derive(Debug, Default)]
struct Pulse {
    /// When the last question was sent that it answered.
    felt_at: Option<Instant>,
    /// When the last question was sent that it did not answer.
    missed_at: Option<Instant>,
}

/// See the module. Bounded by the brokers.
#[derive(Debug, Default)]
pub(super) struct Pulses(Mutex<HashMap<BrokerId, Arc<tokio::sync::Mutex<Pulse>>>>);

impl Pulses {
    fn of(&self, broker: BrokerId) -> Arc<tokio::sync::Mutex<Pulse>> {
        Arc::clone(self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(broker).or_default())
    }

    /// A connection to the broker was opened: it may be asked again.
    pub(super) fn reached(&self, broker: BrokerId) {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&broker).cloned();
        // Who asks at this moment takes note of what comes of it.
        if let Some(mut pulse) = known.as_ref().and_then(|pulse| pulse.try_lock().ok()) {
            pulse.missed_at = None;
        }
    }

    pub(super) fn forget(&self, broker: BrokerId) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&broker);
    }
}

impl Peers {
    /// Returns once the broker has shown that it lived when this was called, or is known to be lost
    /// ([`Self::lost_since`]), or cannot be asked: after 100 ms at most.
    pub(crate) async fn feel(&self, broker: BrokerId) {
        let asked_at = Instant::now();
        let pulse = self.pulses.of(broker);
        let Ok(mut pulse) = timeout_at(asked_at + PATIENCE, pulse.lock()).await else { return };
        let was_felt = pulse.felt_at.is_some_and(|at| at >= asked_at);
        let is_left_alone = pulse.missed_at.is_some_and(|at| at.elapsed() < LEFT_ALONE);
        if was_felt || is_left_alone {
            return;
        }
        let sent_at = Instant::now();
        // About no partition: any process of this version answers it.
        let question = ConfirmLeadershipRequest { partitions: Vec::new() };
        match self.call(broker, Lane::Pulse, &question, PATIENCE).await {
            Ok(_) => *pulse = Pulse { felt_at: Some(sent_at), missed_at: None },
            Err(_) => pulse.missed_at = Some(sent_at),
        }
    }
}
