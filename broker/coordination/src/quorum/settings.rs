// SPDX-License-Identifier: Apache-2.0
//! Times and sizes of a quorum member. They decide how soon something happens, never whether it is safe.

/// All times are milliseconds of the caller's monotonic clock.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct QuorumSettings {
    /// A broker that answered within it is heard (rule 1a); longer silence is death.
    pub session_ms: u64,
    /// With one or two voters, a Lease unchanged for so long may be taken (rule 1c).
    pub lease_duration_ms: u64,
    /// The holder renews the Lease this often, a third of the duration, so that two lost renewals cost nothing.
    pub renew_interval_ms: u64,
    /// How often the Lease is read while the controller is heard: the fallback for a watch that is silent or missing.
    pub lease_poll_ms: u64,
    /// A candidate without progress for so long gives the Lease back (rule 1d).
    pub candidate_patience_ms: u64,
    /// Shortest pause after giving up; up to as much again is added at random.
    pub back_off_ms: u64,
    /// Three to five voters keep a dead one for so long (policy), unless its broker has registered with another folder.
    pub replace_voter_after_ms: u64,
    /// The controller holds a fetch with nothing to send for at most so long. Far below the session, of which every
    /// answer is the proof.
    pub fetch_hold_ms: u64,
    /// A request without an answer for so long is sent again. Above the hold and a slow network.
    pub request_timeout_ms: u64,
    /// Pause between repeated questions, fetches after a refusal, and Lease calls that failed.
    pub retry_ms: u64,
    /// Longest pause between reads of a Lease that cannot be read, while a controller is heard and so nothing waits for it.
    /// The holder writes as often anyway.
    pub unread_lease_pause_max_ms: u64,
    /// Bytes of batches or of a snapshot in one answer, except that a single batch may be larger. 1 MiB keeps a slow
    /// link answering well within a session.
    pub max_answer_bytes: usize,
    /// Largest snapshot that is fetched; above it the sender is broken. 100 bytes for each of 10 million partitions,
    /// as the metadata log's own limit.
    pub max_snapshot_bytes: u64,
}

impl Default for QuorumSettings {
    fn default() -> Self {
        Self {
            session_ms: 6_000,
            lease_duration_ms: 6_000,
            renew_interval_ms: 2_000,
            lease_poll_ms: 10_000,
            candidate_patience_ms: 2_000,
            back_off_ms: 500,
            replace_voter_after_ms: 30_000,
            fetch_hold_ms: 500,
            request_timeout_ms: 1_500,
            retry_ms: 250,
            unread_lease_pause_max_ms: 2_000,
            max_answer_bytes: 1 << 20,
            max_snapshot_bytes: 1 << 30,
        }
    }
}
