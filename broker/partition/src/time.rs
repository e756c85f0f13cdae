// SPDX-License-Identifier: Apache-2.0
//! Time as replication needs it: how long since. Must not know a clock.

/// Milliseconds of a clock that never goes back, from any origin, the same for all calls to one partition. It is a
/// type of its own so that nobody passes the time of day: a clock that is set must not throw followers out.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct MonotonicTime(pub i64);

impl MonotonicTime {
    /// How long it is since `earlier`; 0 if that is later.
    pub fn millis_since(self, earlier: Self) -> i64 {
        self.0.saturating_sub(earlier.0).max(0)
    }
}
