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

    /// One more log of `bytes` is recovered.
    pub fn recovered(&self, bytes: u64) {
        self.logs_done.fetch_add(1, Ordering::Relaxed);
        self.bytes_done.fetch_add(bytes, Ordering::Relaxed);
        self.touch();
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

    /// Whether a start hangs.
    pub fn is_stuck(&self) -> bool {
        self.phase() == Phase::Starting && self.since_moved() >= STUCK_AFTER
    }

    /// The body of `/startupz`.
    pub fn progress_json(&self) -> String {
        let phase = match self.phase() {
            Phase::Starting => "starting",
            Phase::Serving => "serving",
            Phase::Stopping => "stopping",
        };
        format!(
            "{{\"phase\":\"{phase}\",\"logsRecovered\":{},\"logs\":{},\"bytesRecovered\":{},\"bytes\":{},\"secondsSinceProgress\":{}}}\n",
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
