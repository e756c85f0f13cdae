// SPDX-License-Identifier: Apache-2.0
//! To which brokers connections were lost of late. It must not know what follows from that.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use odradek_model::BrokerId;
use tokio::time::Instant;

/// A loss so long after the one before is a new one. Until then a broker that stays away is tried again and again, at
/// most a second apart, and each try fails.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(3);

#[derive(Debug, Clone, Copy)]
struct Loss {
    first: Instant,
    last: Instant,
}

/// See the module. Bounded by the brokers.
#[derive(Debug, Default)]
pub(super) struct Losses(Mutex<BTreeMap<BrokerId, Loss>>);

impl Losses {
    pub(super) fn note(&self, broker: BrokerId, now: Instant) {
        let mut losses = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let loss = losses.entry(broker).or_insert(Loss { first: now, last: now });
        if now.saturating_duration_since(loss.last) > FORGOTTEN_AFTER {
            loss.first = now;
        }
        loss.last = now;
    }

    /// Those whose loss began after that moment, and when it did.
    pub(super) fn since(&self, moment: Instant) -> Vec<(BrokerId, Instant)> {
        let losses = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        losses.iter().map(|(broker, loss)| (*broker, loss.first)).filter(|(_, first)| *first > moment).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loss_is_as_old_as_its_first_failure() {
        let (losses, begun) = (Losses::default(), Instant::now());
        let at = |seconds| begun + Duration::from_secs(seconds);
        losses.note(BrokerId(1), at(1));
        losses.note(BrokerId(1), at(3));
        losses.note(BrokerId(2), at(4));
        assert_eq!(losses.since(begun), [(BrokerId(1), at(1)), (BrokerId(2), at(4))]);
        assert_eq!(losses.since(at(2)), [(BrokerId(2), at(4))]);
        losses.note(BrokerId(1), at(7));
        assert_eq!(losses.since(at(6)), [(BrokerId(1), at(7))]);
    }
}
