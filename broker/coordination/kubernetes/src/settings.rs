// SPDX-License-Identifier: Apache-2.0
//! The times of a Lease.

use std::time::Duration;

/// The times of one Lease.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LeaseSettings {
    /// `spec.leaseDurationSeconds`, in whole seconds, at least one.
    pub duration: Duration,
    /// How often its holder renews it.
    pub renew_interval: Duration,
    /// Within this every read and every write has an outcome. A candidate gives up after 2 s without any answer
    /// (rule 1d), so a longer wait gains nothing.
    pub call_deadline: Duration,
    /// A watch that says nothing for so long is given up and begun again with a read. A held Lease changes with every
    /// renewal, so silence for its whole duration means either a dead holder or a dead connection.
    pub watch_silence: Duration,
}

impl LeaseSettings {
    /// For `Lease/<cluster>-controller`.
    pub const CONTROLLER: Self = Self {
        duration: Duration::from_secs(6),
        renew_interval: Duration::from_secs(2),
        call_deadline: Duration::from_secs(2),
        watch_silence: Duration::from_secs(6),
    };

    /// For `Lease/<cluster>-broker-<id>`.
    pub const BROKER: Self = Self {
        duration: Duration::from_secs(40),
        renew_interval: Duration::from_secs(10),
        call_deadline: Duration::from_secs(5),
        watch_silence: Duration::from_secs(40),
    };

    pub(crate) fn duration_seconds(&self) -> i32 {
        i32::try_from(self.duration.as_secs()).unwrap_or(i32::MAX).max(1)
    }
}
