// SPDX-License-Identifier: Apache-2.0
//! How long to wait before the next look at a resource that waits: twice as long each time. In memory
//! only, so a new process begins with short waits. Knows nothing of what is waited for.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The first wait: what comes without a watch to report it, such as a Service's endpoints, comes within it.
pub const FIRST: Duration = Duration::from_secs(2);
/// The longest wait: what no watch reports is noticed after this time at the latest.
pub const LONGEST: Duration = Duration::from_mins(1);

/// The waits of every resource that is not as asked for.
#[derive(Debug, Default)]
pub struct Backoff {
    /// One entry for each resource that waits; dropped when it has arrived, or is gone.
    waits: Mutex<HashMap<String, u32>>,
}

impl Backoff {
    /// The wait before the next look; the one after it is longer.
    pub fn next(&self, kind: &str, namespace: &str, name: &str) -> Duration {
        let mut waits = self.lock();
        let taken = waits.entry(key(kind, namespace, name)).or_insert(0);
        // 2 s * 2^5 is the longest already.
        let wait = FIRST.saturating_mul(1 << (*taken).min(5)).min(LONGEST);
        *taken = taken.saturating_add(1);
        wait
    }

    /// Something has changed, or the resource is gone: the next wait is short.
    pub fn reset(&self, kind: &str, namespace: &str, name: &str) {
        self.lock().remove(&key(kind, namespace, name));
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, u32>> {
        self.waits.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn key(kind: &str, namespace: &str, name: &str) -> String {
    format!("{kind}/{namespace}/{name}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_a_bound_and_begin_anew_after_a_change() {
        let backoff = Backoff::default();
        let waits: Vec<u64> = (0..8).map(|_| backoff.next("Topic", "shop", "orders").as_secs()).collect();
        assert_eq!(waits, [2, 4, 8, 16, 32, 60, 60, 60]);
        assert_eq!(backoff.next("Topic", "shop", "other"), FIRST);
        backoff.reset("Topic", "shop", "orders");
        assert_eq!(backoff.next("Topic", "shop", "orders"), FIRST);
    }

    #[test]
    fn nothing_is_kept_of_what_has_arrived() {
        let backoff = Backoff::default();
        for number in 0..100 {
            let name = number.to_string();
            backoff.next("Topic", "shop", &name);
            backoff.reset("Topic", "shop", &name);
        }
        assert!(backoff.lock().is_empty());
    }
}
