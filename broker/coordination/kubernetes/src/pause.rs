// SPDX-License-Identifier: Apache-2.0
//! How long the API server wants to be left alone: what `Retry-After` of a 429 or 503 says, kept for the calls that come
//! later, by the monotonic clock. It must not know what is asked of the API server.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::{HeaderMap, StatusCode, header};
use tokio::time::Instant;

/// The shortest wait after a refusal, also if it names none.
const SHORTEST: Duration = Duration::from_secs(1);

/// The longest wait, whatever is asked for. An API server itself asks for one second (flow control) to five (shutting down);
/// more comes from something in between. A broker's Lease lasts 40 s: a renewal that is refused when it is due, 10 s after
/// the last one, and made after this pause within its call's 5 s, comes after 25 s and has not let it expire. A take of the
/// controller Lease, and with it the next controller, is held up by no more than this by one refusal.
const LONGEST: Duration = Duration::from_secs(10);

/// Shared by all calls to one API server.
#[derive(Clone, Debug)]
pub(crate) struct Pause {
    asked: Arc<Mutex<Asked>>,
}

/// What was asked for, as it was bounded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Asked {
    /// Nothing is to be asked before.
    pub(crate) until: Instant,
    /// The wait as a whole.
    pub(crate) wait: Duration,
}

impl Pause {
    /// None yet.
    pub(crate) fn new(now: Instant) -> Self {
        Self { asked: Arc::new(Mutex::new(Asked { until: now, wait: Duration::ZERO })) }
    }

    /// Reads the head of an answer. A date in place of seconds, which no API server sends, is not understood.
    pub(crate) fn heed(&self, status: StatusCode, headers: &HeaderMap, now: Instant) {
        if !matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
            return;
        }
        let seconds =
            headers.get(header::RETRY_AFTER).and_then(|value| value.to_str().ok()?.trim().parse::<u32>().ok());
        if let Some(seconds) = seconds {
            self.extend(Duration::from_secs(u64::from(seconds)), now);
        }
    }

    /// Lets the pause last for so long from now, in bounds. It gets no shorter.
    pub(crate) fn extend(&self, wait: Duration, now: Instant) {
        let wait = wait.clamp(SHORTEST, LONGEST);
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        if now + wait > asked.until {
            *asked = Asked { until: now + wait, wait };
        }
    }

    /// The newest; it may be over.
    pub(crate) fn asked(&self) -> Asked {
        *self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn heeded(status: u16, header: Option<&str>) -> Duration {
        let now = Instant::now();
        let pause = Pause::new(now);
        let mut headers = HeaderMap::new();
        if let Some(value) = header {
            headers.insert(header::RETRY_AFTER, value.parse().expect("a value"));
        }
        pause.heed(StatusCode::from_u16(status).expect("a status"), &headers, now);
        pause.asked().until - now
    }

    #[test]
    fn only_a_refusal_that_names_seconds_is_heeded_and_within_bounds() {
        for status in [429, 503] {
            for (header, seconds) in [("3", 3), (" 3 ", 3), ("0", 1), ("11", 10), ("4294967295", 10)] {
                assert_eq!(heeded(status, Some(header)), seconds * SECOND, "{header}");
            }
            for none in [None, Some(""), Some("-1"), Some("4294967296"), Some("Fri, 31 Dec 1999 23:59:59 GMT")] {
                assert_eq!(heeded(status, none), Duration::ZERO, "{none:?}");
            }
        }
        for status in [200, 301, 404, 409, 500, 504] {
            assert_eq!(heeded(status, Some("3")), Duration::ZERO, "{status}");
        }
    }

    #[test]
    fn a_later_answer_lengthens_a_pause_and_never_shortens_it() {
        let now = Instant::now();
        let pause = Pause::new(now);
        let seen_by_others = pause.clone();
        pause.extend(5 * SECOND, now);
        pause.extend(2 * SECOND, now + SECOND);
        assert_eq!(seen_by_others.asked(), Asked { until: now + 5 * SECOND, wait: 5 * SECOND });
        pause.extend(9 * SECOND, now + SECOND);
        assert_eq!(seen_by_others.asked(), Asked { until: now + 10 * SECOND, wait: 9 * SECOND });
    }
}
