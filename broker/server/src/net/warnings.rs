// SPDX-License-Identifier: Apache-2.0
//! Lets a warning that strangers can trigger through to the log at most once a second, and says how many
//! were left out. Counting is the metrics' job.
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// One line per second is enough to notice and cannot fill a disk (86,400 lines a day).
const INTERVAL: Duration = Duration::from_secs(1);

/// The gate of one kind of warning.
#[derive(Debug, Default)]
pub struct WarningGate {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    last: Option<Instant>,
    left_out: u64,
}

impl WarningGate {
    /// `Some(number left out since the last)` if this warning may be logged.
    pub fn admit(&self) -> Option<u64> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if state.last.is_some_and(|last| now.duration_since(last) < INTERVAL) {
            state.left_out += 1;
            return None;
        }
        state.last = Some(now);
        Some(std::mem::take(&mut state.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_gives_one_line() {
        let gate = WarningGate::default();
        assert_eq!(gate.admit(), Some(0));
        assert!((0..1000).all(|_| gate.admit().is_none()));
    }
}
