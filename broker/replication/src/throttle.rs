// SPDX-License-Identifier: Apache-2.0
//! A token bucket: bytes per second on average, with one second's bytes at a time. Must not know what is slowed.

use odradek_partition::MonotonicTime;

/// Bounds a flow of bytes. An answer may take more than there is, as its size is not known before; the debt is waited
/// for.
#[derive(Clone, Debug)]
pub struct Throttle {
    bytes_per_second: u64,
    /// Thousandths of bytes, so that a rate of few bytes per second is kept over short times too. Negative after an
    /// answer that was larger than allowed.
    tokens: i128,
    at: MonotonicTime,
}

impl Throttle {
    /// A full bucket. A rate of 0 counts as 1: replication that stands still is never wanted.
    pub fn new(bytes_per_second: u64, now: MonotonicTime) -> Self {
        let bytes_per_second = bytes_per_second.max(1);
        Self { bytes_per_second, tokens: i128::from(bytes_per_second) * 1000, at: now }
    }

    /// The rate.
    pub fn bytes_per_second(&self) -> u64 {
        self.bytes_per_second
    }

    /// `None` if bytes may flow now, else when they may.
    pub fn until(&mut self, now: MonotonicTime) -> Option<MonotonicTime> {
        self.refill(now);
        if self.tokens > 0 {
            return None;
        }
        let rate = i128::from(self.bytes_per_second);
        let wait = (1 - self.tokens).div_euclid(rate) + 1;
        Some(MonotonicTime(now.0.saturating_add(i64::try_from(wait).unwrap_or(i64::MAX))))
    }

    /// Notes bytes that have flowed.
    pub fn take(&mut self, bytes: usize, now: MonotonicTime) {
        self.refill(now);
        self.tokens -= bytes as i128 * 1000;
    }

    fn refill(&mut self, now: MonotonicTime) {
        let rate = i128::from(self.bytes_per_second);
        let gained = i128::from(now.millis_since(self.at)) * rate;
        self.tokens = (self.tokens + gained).min(rate * 1000);
        self.at = self.at.max(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: i64) -> MonotonicTime {
        MonotonicTime(ms)
    }

    #[test]
    fn a_debt_is_waited_for() {
        let mut throttle = Throttle::new(1_000, at(0));
        assert_eq!(throttle.until(at(0)), None);
        throttle.take(5_000, at(0));
        let until = throttle.until(at(0)).expect("four seconds of debt");
        assert!((4_000..4_010).contains(&until.0), "{until:?}");
        assert!(throttle.until(at(3_999)).is_some());
        assert_eq!(throttle.until(until), None);
    }

    #[test]
    fn time_without_use_gives_one_second_at_most() {
        let mut throttle = Throttle::new(1_000, at(0));
        assert_eq!(throttle.until(at(100_000)), None);
        throttle.take(1_001, at(100_000));
        assert!(throttle.until(at(100_000)).is_some());
    }

    #[test]
    fn the_average_is_the_rate_whatever_the_sizes() {
        for size in [1, 999, 1_000_000] {
            let (mut throttle, mut now, mut bytes) = (Throttle::new(50_000, at(0)), at(0), 0u64);
            while now.0 < 100_000 {
                match throttle.until(now) {
                    None => {
                        throttle.take(size, now);
                        bytes += size as u64;
                        if size < 50 {
                            now = at(now.0 + 1);
                        }
                    }
                    Some(until) => now = until,
                }
            }
            let most = 50_000 * 101 + size as u64;
            assert!(bytes <= most, "{size}: {bytes}");
            assert!(size < 50 || bytes >= 50_000 * 99, "{size}: {bytes}");
        }
    }
}
