// SPDX-License-Identifier: Apache-2.0
//! Time and randomness as ports, so that tests and the simulation can give their own.
use std::sync::OnceLock;
use std::time::Instant;

use odradek_model::Timestamp;
use odradek_partition::MonotonicTime;
use uuid::Uuid;

/// The time of day, and time that passes.
pub trait Clock: Send + Sync + std::fmt::Debug + 'static {
    /// Milliseconds since the epoch.
    fn now_ms(&self) -> Timestamp;

    /// Milliseconds that have passed since some moment before, whoever sets the clock.
    fn monotonic(&self) -> MonotonicTime {
        static ORIGIN: OnceLock<Instant> = OnceLock::new();
        let passed = ORIGIN.get_or_init(Instant::now).elapsed().as_millis();
        MonotonicTime(i64::try_from(passed).unwrap_or(i64::MAX))
    }
}

/// Numbers that nobody can guess.
pub trait Random: Send + Sync + std::fmt::Debug + 'static {
    /// 16 random bytes.
    fn bytes(&self) -> [u8; 16];

    /// A random (version 4) UUID.
    fn uuid(&self) -> Uuid {
        uuid::Builder::from_random_bytes(self.bytes()).into_uuid()
    }

    /// A random number.
    fn number(&self) -> u64 {
        let bytes = self.bytes();
        u64::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3], bytes[4], bytes[5], bytes[6], bytes[7]])
    }
}
