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
/// Bound: the log stays at or below `2 * live + segment` bytes (plus the rewrite itself, `live`, while it is being
/// written): a rewrite starts when it is passed, and everything before the rewrite is dropped after it, if the caller
/// closes the active segment first. Every rewrite of `live` bytes is paid for by at least `live + segment` bytes of
/// appends, so rewriting less than doubles what is written.
pub fn should_rewrite(log_bytes: u64, live_bytes: u64, segment_bytes: u64) -> bool {
    log_bytes > live_bytes.saturating_mul(2).saturating_add(segment_bytes)
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
}
