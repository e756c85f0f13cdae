// SPDX-License-Identifier: Apache-2.0
//! Which partition is a group's journal, and when a journal is to be rewritten.

/// The partition of `__consumer_offsets` that holds the group: `abs(java.lang.String.hashCode) % partitions` (rule 44).
///
/// # Panics
/// If `partitions` is not positive.
pub fn journal_partition(group_id: &str, partitions: i32) -> i32 {
    assert!(partitions > 0, "a topic has at least one partition");
    let hash = group_id.encode_utf16().fold(0i32, |hash, unit| hash.wrapping_mul(31).wrapping_add(i32::from(unit)));
    // Kafka's Utils.abs: the one value without a positive counterpart becomes 0.
    hash.checked_abs().unwrap_or(0) % partitions
}

/// Whether the state should be written anew at the head of the log, so that what lies before can go.
///
/// At rest the log stays at or below `2 * live + segment` bytes and what of the last rewrite's segment lies before it:
/// a rewrite starts when that is passed, and everything before the rewrite is dropped after it, by whole segments.
/// Every rewrite of `live` bytes is paid for by at least `live + segment` bytes of appends, so rewriting less than
/// doubles what is written. While a rewrite is on its way to the disk, [`must_hold_back`] is the bound.
pub fn should_rewrite(log_bytes: u64, live_bytes: u64, segment_bytes: u64) -> bool {
    log_bytes > live_bytes.saturating_mul(2).saturating_add(segment_bytes)
}

/// Whether requests that append have to wait until the rewrite under way is on the disk and the log is cut.
///
/// Bound: the log never grows above `4 * live + 2 * segment` and what two requests append, however slow the disk and
/// however fast the clients. While a rewrite is under way requests append up to this function's limit and one append
/// beyond; the first append after it starts the next rewrite if one is due, which adds `live`. The limit lies above what
/// a rewrite makes of a log that it had to start at (`2 * live + segment` and itself), so that about a segment may come
/// in while it is synced, and above what a cut leaves: less than a segment before the rewrite, `live`, and what came in.
pub fn must_hold_back(log_bytes: u64, live_bytes: u64, segment_bytes: u64) -> bool {
    log_bytes > live_bytes.saturating_mul(3).saturating_add(segment_bytes.saturating_mul(2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_partition_is_that_of_javas_hash() {
        // java.lang.String.hashCode: "" 0, "a" 97, "group" 98629247, "polygenelubricants" Integer.MIN_VALUE.
        assert_eq!(journal_partition("", 50), 0);
        assert_eq!(journal_partition("a", 50), 47);
        assert_eq!(journal_partition("group", 50), 98_629_247 % 50);
        assert_eq!(journal_partition("polygenelubricants", 50), 0);
        // Outside the basic plane Java hashes the two surrogates: 55357 * 31 + 56832.
        assert_eq!(journal_partition("😀", 50), (55_357 * 31 + 56_832) % 50);
    }

    #[test]
    fn a_rewrite_is_due_past_twice_the_live_bytes_and_a_segment() {
        assert!(!should_rewrite(300, 100, 100));
        assert!(should_rewrite(301, 100, 100));
        assert!(!should_rewrite(u64::MAX, u64::MAX, 1));
    }

    #[test]
    fn appends_wait_past_three_times_the_live_bytes_and_two_segments() {
        assert!(!must_hold_back(500, 100, 100));
        assert!(must_hold_back(501, 100, 100));
        assert!(!must_hold_back(u64::MAX, u64::MAX, 1));
    }
}
