// SPDX-License-Identifier: Apache-2.0
//! The machine's clock, randomness and boot id, and what the pod says of itself. Nothing else.
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use odradek_server::clock::{Clock, Random};

use crate::memory::read;

/// The system's time of day.
#[derive(Debug, Default)]
pub(crate) struct SystemClock;

impl Clock for SystemClock {
    fn now_ms(&self) -> i64 {
        // A clock before 1970 is no clock: 0 is as good.
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64)
    }
}

/// The kernel's random numbers.
#[derive(Debug, Default)]
pub(crate) struct SystemRandom;

impl Random for SystemRandom {
    fn bytes(&self) -> [u8; 16] {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes).expect("the kernel has random numbers once it has booted");
        bytes
    }
}

/// Tells one boot of the kernel from another; empty if unknown.
pub(crate) fn boot_id() -> String {
    read(Path::new("/proc/sys/kernel/random/boot_id")).map(|text| text.trim().to_owned()).unwrap_or_default()
}

/// The uid of the pod that this process is in, which the operator gives by `POD_UID`.
pub(crate) fn pod_uid() -> Option<String> {
    std::env::var("POD_UID").ok().filter(|uid| !uid.is_empty())
}
