// SPDX-License-Identifier: Apache-2.0
//! The two sparse indexes of a segment, in memory and in Kafka's file formats (`OffsetIndex`, `TimeIndex`).
//!
//! Offset index: entries of 8 bytes, (last offset of a batch - base offset, position of that batch), both 32 bits.
//! Time index: entries of 12 bytes, (largest timestamp so far, last offset of its batch - base offset). Both rise.
//! Must not know files, nor batches.

use odradek_model::{Offset, Timestamp};

/// Bytes of an entry of the offset index.
pub(crate) const OFFSET_ENTRY_BYTES: usize = 8;
/// Bytes of an entry of the time index.
pub(crate) const TIME_ENTRY_BYTES: usize = 12;

/// An entry of the time index: no record up to `offset` is newer than `timestamp`, and one in the batch that ends at
/// `offset` is as new.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TimestampOffset {
    /// Milliseconds; -1 if there is none.
    pub(crate) timestamp: Timestamp,
    /// Last offset of the batch.
    pub(crate) offset: Offset,
}

/// Both indexes of one segment. Size is bounded by `segment.index.bytes` each (checked before every append).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct SegmentIndexes {
    base_offset: Offset,
    offsets: Vec<(u32, u32)>,
    times: Vec<(Timestamp, u32)>,
}

impl SegmentIndexes {
    pub(crate) fn new(base_offset: Offset) -> Self {
        Self { base_offset, offsets: Vec::new(), times: Vec::new() }
    }

    /// Whether another entry would make one of the files larger than `max_bytes`. The time index keeps a slot for the
    /// entry that closing the segment adds, as in Kafka.
    pub(crate) fn is_full(&self, max_bytes: u32) -> bool {
        let max_bytes = max_bytes as usize;
        self.offsets.len() >= max_bytes / OFFSET_ENTRY_BYTES || self.times.len() + 1 >= max_bytes / TIME_ENTRY_BYTES
    }

    /// Whether the offset can be stored relative to the base.
    pub(crate) fn fits(base_offset: Offset, offset: Offset) -> bool {
        offset >= base_offset && offset - base_offset <= i64::from(i32::MAX)
    }

    fn relative(&self, offset: Offset) -> u32 {
        assert!(Self::fits(self.base_offset, offset), "a segment is rolled before its offsets overflow");
        (offset - self.base_offset) as u32
    }

    /// Adds the batch that ends at `last_offset` and begins at `position`.
    pub(crate) fn push_offset(&mut self, last_offset: Offset, position: u32) {
        let relative = self.relative(last_offset);
        // Batches on a damaged disk may claim anything; an index of fewer entries is still right.
        if self.offsets.last().is_none_or(|last| last.0 < relative && last.1 < position) {
            self.offsets.push((relative, position));
        }
    }

    /// Adds the largest timestamp so far unless the last entry says so already.
    pub(crate) fn push_time(&mut self, max: TimestampOffset) {
        if max.timestamp > self.last_time().timestamp {
            let relative = self.relative(max.offset);
            self.times.push((max.timestamp, relative));
        }
    }

    /// The last entry of the time index, timestamp -1 if there is none.
    pub(crate) fn last_time(&self) -> TimestampOffset {
        self.times.last().map_or(TimestampOffset { timestamp: -1, offset: self.base_offset }, |&(timestamp, offset)| {
            TimestampOffset { timestamp, offset: self.base_offset + i64::from(offset) }
        })
    }

    /// A position at or before the batch that holds `offset`.
    pub(crate) fn position_of(&self, offset: Offset) -> u32 {
        let after = self.offsets.partition_point(|entry| self.base_offset + i64::from(entry.0) <= offset);
        after.checked_sub(1).map_or(0, |at| self.offsets[at].1)
    }

    /// The position of the last entry, and 0 without one.
    pub(crate) fn last_position(&self) -> u32 {
        self.offsets.last().map_or(0, |entry| entry.1)
    }

    /// A position at or before the first batch with a record of `timestamp` or newer.
    pub(crate) fn position_of_time(&self, timestamp: Timestamp) -> u32 {
        let after = self.times.partition_point(|entry| entry.0 <= timestamp);
        after.checked_sub(1).map_or(0, |at| self.position_of(self.base_offset + i64::from(self.times[at].1)))
    }

    /// Bytes in memory, for the bound of the cache.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.offsets.capacity() * size_of::<(u32, u32)>() + self.times.capacity() * size_of::<(Timestamp, u32)>()
    }

    /// The offset index file.
    pub(crate) fn encode_offsets(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.offsets.len() * OFFSET_ENTRY_BYTES);
        for (offset, position) in &self.offsets {
            bytes.extend_from_slice(&offset.to_be_bytes());
            bytes.extend_from_slice(&position.to_be_bytes());
        }
        bytes
    }

    /// The time index file.
    pub(crate) fn encode_times(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.times.len() * TIME_ENTRY_BYTES);
        for (timestamp, offset) in &self.times {
            bytes.extend_from_slice(&timestamp.to_be_bytes());
            bytes.extend_from_slice(&offset.to_be_bytes());
        }
        bytes
    }

    /// Reads both files of a segment of `log_bytes` bytes. `None` if they cannot be right: a length that is no multiple
    /// of the entry, entries that do not rise, positions outside the segment.
    pub(crate) fn decode(base_offset: Offset, offsets: &[u8], times: &[u8], log_bytes: u64) -> Option<Self> {
        let (offset_entries, rest) = offsets.as_chunks::<OFFSET_ENTRY_BYTES>();
        let (time_entries, time_rest) = times.as_chunks::<TIME_ENTRY_BYTES>();
        if !rest.is_empty() || !time_rest.is_empty() {
            return None;
        }
        let offsets: Vec<(u32, u32)> = offset_entries
            .iter()
            .map(|[a, b, c, d, e, f, g, h]| {
                (u32::from_be_bytes([*a, *b, *c, *d]), u32::from_be_bytes([*e, *f, *g, *h]))
            })
            .collect();
        let times: Vec<(Timestamp, u32)> = time_entries
            .iter()
            .map(|[a, b, c, d, e, f, g, h, i, j, k, l]| {
                (i64::from_be_bytes([*a, *b, *c, *d, *e, *f, *g, *h]), u32::from_be_bytes([*i, *j, *k, *l]))
            })
            .collect();
        let in_range = offsets.iter().all(|entry| i32::try_from(entry.0).is_ok() && u64::from(entry.1) < log_bytes)
            && times.iter().all(|entry| i32::try_from(entry.1).is_ok() && entry.0 >= 0);
        let rising = offsets.windows(2).all(|pair| pair[0].0 < pair[1].0 && pair[0].1 < pair[1].1)
            && times.windows(2).all(|pair| pair[0].0 < pair[1].0 && pair[0].1 < pair[1].1);
        // Closing a segment with batches always adds a time entry, except where no batch has a timestamp at all.
        (in_range && rising).then_some(Self { base_offset, offsets, times })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> SegmentIndexes {
        let mut indexes = SegmentIndexes::new(100);
        indexes.push_offset(109, 5000);
        indexes.push_offset(119, 10_000);
        indexes.push_time(TimestampOffset { timestamp: 7, offset: 109 });
        indexes.push_time(TimestampOffset { timestamp: 7, offset: 119 });
        indexes.push_time(TimestampOffset { timestamp: 9, offset: 119 });
        indexes
    }

    #[test]
    fn look_ups_give_a_place_at_or_before_the_wanted_batch() {
        let indexes = sample();
        assert_eq!([100, 108, 109, 118, 119, 500].map(|o| indexes.position_of(o)), [0, 0, 5000, 5000, 10_000, 10_000]);
        assert_eq!([0, 6, 7, 8, 9, 10].map(|t| indexes.position_of_time(t)), [0, 0, 5000, 5000, 10_000, 10_000]);
        assert_eq!(indexes.last_time(), TimestampOffset { timestamp: 9, offset: 119 });
    }

    #[test]
    fn files_read_back_and_no_damage_passes_silently_as_longer() {
        let indexes = sample();
        let (offsets, times) = (indexes.encode_offsets(), indexes.encode_times());
        assert_eq!(offsets[..8], [0, 0, 0, 9, 0, 0, 0x13, 0x88]);
        assert_eq!(times.len(), 24);
        assert_eq!(SegmentIndexes::decode(100, &offsets, &times, 20_000).as_ref(), Some(&indexes));
        assert_eq!(SegmentIndexes::decode(100, &offsets, &times, 10_000), None, "a position outside the segment");
        for cut in 0..offsets.len() {
            let decoded = SegmentIndexes::decode(100, &offsets[..cut], &times, 20_000);
            assert_eq!(decoded.is_some(), cut % 8 == 0);
        }
        let mut unordered = offsets.clone();
        unordered[3] = 200;
        assert_eq!(SegmentIndexes::decode(100, &unordered, &times, 20_000), None);
    }

    #[test]
    fn full_is_said_one_entry_before_the_time_index_is() {
        let mut indexes = sample();
        assert!(!indexes.is_full(48));
        assert!(indexes.is_full(47), "the time index has room for three entries, two are there, one is kept free");
        indexes.push_offset(129, 15_000);
        assert!(indexes.is_full(24));
    }
}
