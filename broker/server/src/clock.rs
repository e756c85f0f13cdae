// SPDX-License-Identifier: Apache-2.0
//! Time and randomness as ports, so that tests and the simulation can give their own.
use odradek_model::Timestamp;
use uuid::Uuid;

/// The time of day.
pub trait Clock: Send + Sync + std::fmt::Debug + 'static {
    /// Milliseconds since the epoch.
    fn now_ms(&self) -> Timestamp;
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
