// SPDX-License-Identifier: Apache-2.0
//! What the probes see: whether the broker is starting (and how far), serving or stopping.
//! It must not know HTTP, nor what is being recovered.
use std::sync::Mutex;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// A start whose progress has not moved for this long is stuck: 60 s is six times the slowest single step
/// that is known (reading one 1 GiB segment at 100 MB/s), and six probe periods of 10 s.
pub const STUCK_AFTER: Duration = Duration::from_mins(1);

/// Where the broker is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Opening and recovering its data.
    Starting,
    /// Serving clients.
    Serving,
    /// Finishing what is in flight.
    Stopping,
}

/// Shared between the start, which reports, and the probes, which look.
#[derive(Debug)]
pub struct Health {
    phase: AtomicU8,
    bytes_done: AtomicU64,
    bytes_total: AtomicU64,
    logs_done: AtomicU64,
    logs_total: AtomicU64,
    moved: Mutex<Instant>,
    /// What the broker waits for that is not its own to do.
    waits_for: Mutex<Option<&'static str>>,
}

impl Default for Health {
    fn default() -> Self {
        Self {
            phase: AtomicU8::new(0),
            bytes_done: AtomicU64::new(0),
            bytes_total: AtomicU64::new(0),
            logs_done: AtomicU64::new(0),
            logs_total: AtomicU64::new(0),
            moved: Mutex::new(Instant::now()),
            waits_for: Mutex::new(None),
        }
    }
}

impl Health {
    /// What is to be recovered in all.
    pub fn expect(&self, logs: u64, bytes: u64) {
        self.logs_total.store(logs, Ordering::Relaxed);
        self.bytes_total.store(bytes, Ordering::Relaxed);
        self.touch();
    }

    /// Begins to count one log of `bytes`.
    pub fn recovery(&self, bytes: u64) -> LogRecovery<'_> {
        LogRecovery { health: self, bytes, counted: 0 }
    }

    /// Bytes recovered so far.
    pub fn bytes_recovered(&self) -> u64 {
        self.bytes_done.load(Ordering::Relaxed)
    }

    /// Enters a phase.
    pub fn enter(&self, phase: Phase) {
        let number = match phase {
            Phase::Starting => 0,
            Phase::Serving => 1,
            Phase::Stopping => 2,
        };
        self.phase.store(number, Ordering::Release);
        self.touch();
    }

    /// The phase now.
    pub fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Acquire) {
            0 => Phase::Starting,
            1 => Phase::Serving,
            _ => Phase::Stopping,
        }
    }

    /// The broker waits for something that others have to do, such as the election of a controller; `None`: no more. A
    /// restart would not help it.
    pub fn wait_for(&self, what: Option<&'static str>) {
        *self.waits_for.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = what;
        self.touch();
    }

    /// Whether a start hangs.
    pub fn is_stuck(&self) -> bool {
        self.phase() == Phase::Starting && self.waits_for().is_none() && self.since_moved() >= STUCK_AFTER
    }

    fn waits_for(&self) -> Option<&'static str> {
        *self.waits_for.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// The body of `/startupz`.
    pub fn progress_json(&self) -> String {
        let phase = match self.phase() {
            Phase::Starting => "starting",
            Phase::Serving => "serving",
            Phase::Stopping => "stopping",
        };
        let waits_for = self.waits_for().map(|what| format!(",\"waitsFor\":\"{what}\"")).unwrap_or_default();
        format!(
            "{{\"phase\":\"{phase}\"{waits_for},\"logsRecovered\":{},\"logs\":{},\"bytesRecovered\":{},\"bytes\":{},\"secondsSinceProgress\":{}}}\n",
            self.logs_done.load(Ordering::Relaxed),
            self.logs_total.load(Ordering::Relaxed),
            self.bytes_done.load(Ordering::Relaxed),
            self.bytes_total.load(Ordering::Relaxed),
            self.since_moved().as_secs()
        )
    }

    fn since_moved(&self) -> Duration {
        self.moved.lock().unwrap_or_else(std::sync::PoisonError::into_inner).elapsed()
    }

    fn touch(&self) {
        *self.moved.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Instant::now();
    }
}

/// Counts the recovery of one log, so that a single long one is seen to move.
#[derive(Debug)]
pub struct LogRecovery<'a> {
    health: &'a Health,
    bytes: u64,
    counted: u64,
}

/// Progress inside a log is told in steps of at least this: a log of many small batches must not spend its recovery on
/// telling. At 1 MB/s, slower than any disk, it is still told every second.
const STEP_BYTES: u64 = 1 << 20;

impl LogRecovery<'_> {
    /// `done` bytes of the log have been looked at, in all. What is beyond the log's expected size is not counted.
    pub fn advance(&mut self, done: u64) {
        let done = done.min(self.bytes);
        if done >= self.counted + STEP_BYTES {
            self.count_to(done);
        }
    }

    /// The log is recovered, whether or not all its bytes had to be looked at.
    pub fn finish(mut self) {
        self.count_to(self.bytes);
        self.health.logs_done.fetch_add(1, Ordering::Relaxed);
    }

    fn count_to(&mut self, done: u64) {
        self.health.bytes_done.fetch_add(done - self.counted, Ordering::Relaxed);
        self.counted = done;
        self.health.touch();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_have_to_do_is_told_and_is_no_reason_to_start_anew() {
        let health = Health::default();
        *health.moved.lock().unwrap() = Instant::now().checked_sub(STUCK_AFTER).unwrap();
        assert!(health.is_stuck());
        health.wait_for(Some("a controller"));
        *health.moved.lock().unwrap() = Instant::now().checked_sub(STUCK_AFTER).unwrap();
        assert!(!health.is_stuck());
        assert!(health.progress_json().contains("\"waitsFor\":\"a controller\""), "{}", health.progress_json());
        health.wait_for(None);
        assert!(!health.progress_json().contains("waitsFor"));
    }
}
