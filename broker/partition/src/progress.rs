// SPDX-License-Identifier: Apache-2.0
//! How far a follower has come, as its leader knows from its fetches (`Replica`, `ReplicaState` in Kafka). Must not
//! know the ISR or what depends on the progress.

use odradek_model::{BrokerEpoch, Offset};

use crate::time::MonotonicTime;

/// What a leader knows of one follower in the present reign. It begins anew with every leader epoch, also when the
/// leader stays: between two epochs that this broker heard of there may have been a third, in which the follower cut
/// what it had.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Progress {
    /// The follower's log start; `None` before its first fetch.
    pub(crate) log_start: Option<Offset>,
    /// The offset up to which it has everything; `None` before its first fetch.
    pub(crate) log_end: Option<Offset>,
    /// Of the incarnation that fetched last.
    pub(crate) broker_epoch: Option<BrokerEpoch>,
    last_fetch: Option<MonotonicTime>,
    leader_end_at_last_fetch: Option<Offset>,
    last_caught_up: Option<MonotonicTime>,
}

impl Progress {
    /// At the beginning of a reign. A member of the ISR has the whole lag time to show itself; others hold nothing back.
    pub(crate) fn new(in_sync: bool, now: MonotonicTime) -> Self {
        Self {
            log_start: None,
            log_end: None,
            broker_epoch: None,
            last_fetch: None,
            leader_end_at_last_fetch: None,
            last_caught_up: in_sync.then_some(now),
        }
    }

    /// Notes a fetch. `leader_end` is the leader's log end before the read, so that appends during it do not keep a
    /// follower from catching up: who asks now for what was the end at its last fetch was caught up then.
    pub(crate) fn fetched(
        &mut self,
        fetch_offset: Offset,
        log_start: Offset,
        broker_epoch: BrokerEpoch,
        leader_end: Offset,
        now: MonotonicTime,
    ) {
        let caught_up = if fetch_offset >= leader_end {
            Some(now)
        } else if self.leader_end_at_last_fetch.is_some_and(|end| fetch_offset >= end) {
            self.last_fetch
        } else {
            None
        };
        self.last_caught_up = self.last_caught_up.max(caught_up);
        self.log_start = Some(log_start);
        self.log_end = Some(fetch_offset);
        self.broker_epoch = Some(broker_epoch);
        self.leader_end_at_last_fetch = self.leader_end_at_last_fetch.max(Some(leader_end));
        self.last_fetch = Some(now);
    }

    /// Whether it is at the leader's end, or was within the lag time.
    pub(crate) fn is_caught_up(&self, leader_end: Offset, now: MonotonicTime, lag_time_max_ms: i64) -> bool {
        self.log_end == Some(leader_end)
            || self.last_caught_up.is_some_and(|time| now.millis_since(time) <= lag_time_max_ms)
    }

    /// How long ago it was last caught up; the longest possible if never.
    pub(crate) fn lag_ms(&self, now: MonotonicTime) -> i64 {
        self.last_caught_up.map_or(i64::MAX, |time| now.millis_since(time))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: i64) -> MonotonicTime {
        MonotonicTime(ms)
    }

    #[test]
    fn who_asks_for_the_end_of_its_last_fetch_was_caught_up_then() {
        let mut follower = Progress::new(false, at(0));
        assert!(!follower.is_caught_up(10, at(0), 100));
        follower.fetched(5, 0, 1, 10, at(1_000));
        assert!(!follower.is_caught_up(10, at(1_000), 100), "behind, and never caught up");
        follower.fetched(10, 0, 1, 15, at(2_000));
        assert!(follower.is_caught_up(15, at(1_100), 100));
        assert!(!follower.is_caught_up(15, at(1_101), 100), "caught up at 1000, not at 2000");
        follower.fetched(15, 0, 1, 15, at(3_000));
        assert!(follower.is_caught_up(99, at(3_100), 100));
        assert!(!follower.is_caught_up(99, at(3_101), 100));
        assert!(follower.is_caught_up(15, at(9_000), 100), "at the end there is no lag, however long ago");
    }

    #[test]
    fn a_member_of_the_isr_has_the_lag_time_to_show_itself() {
        let follower = Progress::new(true, at(50));
        assert!(follower.is_caught_up(10, at(150), 100));
        assert!(!follower.is_caught_up(10, at(151), 100));
        assert_eq!((follower.lag_ms(at(60)), Progress::new(false, at(50)).lag_ms(at(60))), (10, i64::MAX));
    }
}
