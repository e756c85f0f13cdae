// SPDX-License-Identifier: Apache-2.0
//! How far a leader's high watermark may be (`maybeIncrementLeaderHW`). Must not move it or wake anyone.
//!
//! It is the lowest log end of the maximal ISR **and** of replicas outside of it that are caught up and may join:
//! without those, a follower that is always a little behind a busy leader would never reach the high watermark to join.

use odradek_model::Offset;

use crate::brokers::LocalBroker;
use crate::isr::is_eligible;
use crate::leader::Leader;
use crate::planted::Planted;
use crate::time::MonotonicTime;

impl Leader {
    /// The offset below which all have everything who must; `None` if one of them has not fetched in this reign.
    /// `own_end` is how far this replica's own log counts, `log_end` where it ends.
    pub(crate) fn committed_end(
        &self,
        own_end: Offset,
        log_end: Offset,
        local: &LocalBroker,
        now: MonotonicTime,
        planted: Planted,
    ) -> Option<Offset> {
        let mut committed = own_end;
        for (broker, progress) in &self.followers {
            if progress.log_end.is_some_and(|end| end >= committed) {
                continue;
            }
            let counts = self.is_in_maximal_isr(*broker, planted)
                || (progress.is_caught_up(log_end, now, local.replica_lag_time_max_ms)
                    && is_eligible(progress, local.brokers.status(*broker), planted));
            if counts {
                committed = progress.log_end?;
            }
        }
        Some(committed)
    }
}
