// SPDX-License-Identifier: Apache-2.0
//! To which brokers connections were lost of late. It must not know what follows from that.
use std::collections::BTreeMap;
use std::time::Duration;

use odradek_model::BrokerId;
use tokio::sync::watch;
use tokio::time::Instant;

/// After somebody has waited in vain for what follows from a loss, the broker's losses are no news for so long: its
/// connections may break again and again, as fast as they open, while nobody else loses it.
const NO_NEWS: Duration = Duration::from_secs(5);

#[derive(Debug, Clone, Copy)]
struct Loss {
    began_at: Instant,
    /// Whether a connection to the broker was opened since.
    is_over: bool,
    /// When somebody gave up waiting for what follows.
    in_vain_at: Option<Instant>,
}

/// See the module. Bounded by the brokers.
#[derive(Debug, Default)]
pub(super) struct Losses(watch::Sender<BTreeMap<BrokerId, Loss>>);

impl Losses {
    /// A connection to the broker was refused or reset. A broker that stays away is tried again and again, and each try
    /// fails: its loss is as old as the first failure.
    pub(super) fn lost(&self, broker: BrokerId, now: Instant) {
        self.0.send_if_modified(|losses| {
            let known = losses.get(&broker);
            let is_news = |at| now.saturating_duration_since(at) > NO_NEWS;
            let is_new = known.is_none_or(|loss| loss.is_over && loss.in_vain_at.is_none_or(is_news));
            if is_new {
                losses.insert(broker, Loss { began_at: now, is_over: false, in_vain_at: None });
            }
            is_new
        });
    }

    /// The broker accepted a connection: its process lives.
    pub(super) fn reached(&self, broker: BrokerId) {
        self.0.send_if_modified(|losses| match losses.get_mut(&broker) {
            Some(loss) if !loss.is_over => {
                loss.is_over = true;
                true
            }
            _ => false,
        });
    }

    /// Nothing followed from the loss of the broker for as long as anybody waits.
    pub(super) fn in_vain(&self, broker: BrokerId, now: Instant) {
        self.0.send_if_modified(|losses| {
            if let Some(loss) = losses.get_mut(&broker) {
                loss.in_vain_at = Some(now);
            }
            // Nobody waits for that.
            false
        });
    }

    /// The broker is none any more.
    pub(super) fn forget(&self, broker: BrokerId) {
        self.0.send_if_modified(|losses| losses.remove(&broker).is_some());
    }

    /// Those that began after that moment and are not over, and when they began.
    pub(super) fn since(&self, moment: Instant) -> Vec<(BrokerId, Instant)> {
        let losses = self.0.borrow();
        let lasting = losses.iter().filter(|(_, loss)| !loss.is_over && loss.began_at > moment);
        lasting.map(|(broker, loss)| (*broker, loss.began_at)).collect()
    }

    /// To wait for the beginning or end of one.
    pub(super) fn changes(&self) -> watch::Receiver<impl Sized + use<>> {
        self.0.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loss_is_as_old_as_its_first_failure_until_the_broker_is_reached() {
        let (losses, begun) = (Losses::default(), Instant::now());
        let at = |seconds| begun + Duration::from_secs(seconds);
        losses.lost(BrokerId(1), at(1));
        losses.lost(BrokerId(1), at(30));
        losses.lost(BrokerId(2), at(4));
        assert_eq!(losses.since(begun), [(BrokerId(1), at(1)), (BrokerId(2), at(4))]);
        assert_eq!(losses.since(at(2)), [(BrokerId(2), at(4))]);
        losses.reached(BrokerId(1));
        assert_eq!(losses.since(begun), [(BrokerId(2), at(4))]);
        losses.lost(BrokerId(1), at(40));
        assert_eq!(losses.since(at(39)), [(BrokerId(1), at(40))]);
        losses.forget(BrokerId(1));
        assert_eq!(losses.since(begun), [(BrokerId(2), at(4))]);
    }

    #[test]
    fn a_broker_that_comes_and_goes_is_lost_each_time_until_that_leads_to_nothing() {
        let (losses, begun) = (Losses::default(), Instant::now());
        let at = |millis| begun + Duration::from_millis(millis);
        losses.lost(BrokerId(1), at(0));
        losses.reached(BrokerId(1));
        losses.lost(BrokerId(1), at(2_000));
        assert_eq!(losses.since(begun), [(BrokerId(1), at(2_000))]);
        losses.in_vain(BrokerId(1), at(2_500));
        for tenths in 26..75 {
            losses.reached(BrokerId(1));
            losses.lost(BrokerId(1), at(100 * tenths));
        }
        assert_eq!(losses.since(begun), []);
        losses.reached(BrokerId(1));
        losses.lost(BrokerId(1), at(7_600));
        assert_eq!(losses.since(begun), [(BrokerId(1), at(7_600))]);
    }
}
