// SPDX-License-Identifier: Apache-2.0
//! What each idempotent producer last wrote (KIP-98; `ProducerStateManager` in Kafka): answers duplicates with their old
//! offsets, refuses gaps and stale incarnations, and is kept in snapshots of Kafka's format.
//!
//! Must not know how batches are stored, nor transactions yet (the fields for them are kept and written).

use crate::error::AppendError;
use crc_fast::CrcAlgorithm;
use odradek_model::{NO_PRODUCER_EPOCH, NO_SEQUENCE, Offset, ProducerEpoch, ProducerId, Timestamp};
use odradek_records::{BatchHeader, increment_sequence};
use std::collections::BTreeMap;

/// Batches remembered per producer: a client has at most 5 requests in flight (`ProducerStateEntry` in Kafka).
const BATCHES_KEPT: usize = 5;
const SNAPSHOT_VERSION: i16 = 1;
/// Version, checksum, count.
const SNAPSHOT_HEADER_BYTES: usize = 10;
const SNAPSHOT_ENTRY_BYTES: usize = 46;
/// Where the checksummed part begins.
const SNAPSHOT_CHECKED_FROM: usize = 6;

/// A batch that a producer wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct WrittenBatch {
    pub(crate) last_sequence: i32,
    pub(crate) last_offset: Offset,
    pub(crate) offset_delta: i32,
    pub(crate) timestamp: Timestamp,
}

impl WrittenBatch {
    pub(crate) fn first_offset(&self) -> Offset {
        self.last_offset - i64::from(self.offset_delta)
    }

    fn first_sequence(&self) -> i32 {
        // On the circle of 2^31 numbers: going back by n is going forward by 2^31 - n.
        if self.last_sequence >= self.offset_delta {
            self.last_sequence - self.offset_delta
        } else {
            increment_sequence(self.last_sequence, i32::MAX - self.offset_delta + 1)
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct ProducerState {
    epoch: ProducerEpoch,
    coordinator_epoch: i32,
    last_timestamp: Timestamp,
    /// -1 outside a transaction.
    transaction_first_offset: Offset,
    /// Oldest first; the first `count` are set.
    batches: [WrittenBatch; BATCHES_KEPT],
    count: u8,
}

impl ProducerState {
    const NO_BATCH: WrittenBatch =
        WrittenBatch { last_sequence: NO_SEQUENCE, last_offset: -1, offset_delta: 0, timestamp: -1 };

    fn new(epoch: ProducerEpoch) -> Self {
        Self {
            epoch,
            coordinator_epoch: -1,
            last_timestamp: -1,
            transaction_first_offset: -1,
            batches: [Self::NO_BATCH; BATCHES_KEPT],
            count: 0,
        }
    }

    fn batches(&self) -> &[WrittenBatch] {
        &self.batches[..usize::from(self.count)]
    }

    fn push(&mut self, batch: WrittenBatch) {
        if usize::from(self.count) == BATCHES_KEPT {
            self.batches.rotate_left(1);
            self.batches[BATCHES_KEPT - 1] = batch;
        } else {
            self.batches[usize::from(self.count)] = batch;
            self.count += 1;
        }
    }
}

/// The producers of one log. Grows with the producers of the last day (`producer.id.expiration.ms`), some 200 bytes
/// each; as in Kafka there is no other bound.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Producers {
    states: BTreeMap<ProducerId, ProducerState>,
}

impl Producers {
    pub(crate) fn len(&self) -> usize {
        self.states.len()
    }

    /// Judges a batch before it is written. `Ok(Some)`: it is in the log already, there.
    pub(crate) fn check(&self, header: &BatchHeader) -> Result<Option<WrittenBatch>, AppendError> {
        if !header.has_producer_id() {
            return Ok(None);
        }
        let Some(state) = self.states.get(&header.producer_id) else { return Ok(None) };
        let (first, last) = (header.base_sequence, header.last_sequence());
        if state.epoch == header.producer_epoch
            && let Some(duplicate) =
                state.batches().iter().find(|batch| batch.last_sequence == last && batch.first_sequence() == first)
        {
            return Ok(Some(*duplicate));
        }
        if header.producer_epoch < state.epoch {
            return Err(AppendError::InvalidProducerEpoch {
                producer_id: header.producer_id,
                found: header.producer_epoch,
                current: state.epoch,
            });
        }
        let expected = if header.producer_epoch == state.epoch {
            // Wraps from 2^31 - 1 to 0; without a batch -1 gives 0.
            state.batches().last().map_or(0, |batch| increment_sequence(batch.last_sequence, 1))
        } else {
            0
        };
        if first != expected && state.epoch != NO_PRODUCER_EPOCH {
            return Err(AppendError::OutOfOrderSequence { producer_id: header.producer_id, found: first, expected });
        }
        Ok(None)
    }

    /// Notes a batch that is in the log, without judging it.
    pub(crate) fn apply(&mut self, header: &BatchHeader) {
        if !header.has_producer_id() {
            return;
        }
        let state = self.states.entry(header.producer_id).or_insert_with(|| ProducerState::new(header.producer_epoch));
        if state.epoch != header.producer_epoch {
            state.epoch = header.producer_epoch;
            state.count = 0;
        }
        state.last_timestamp = header.max_timestamp;
        if header.is_control() {
            return;
        }
        state.push(WrittenBatch {
            last_sequence: header.last_sequence(),
            last_offset: header.last_offset(),
            offset_delta: header.last_offset_delta,
            timestamp: header.max_timestamp,
        });
    }

    /// Forgets producers that have been idle for `expiration_ms`. Returns how many.
    pub(crate) fn expire(&mut self, now_ms: Timestamp, expiration_ms: i64) -> usize {
        let before = self.states.len();
        self.states.retain(|_, state| {
            state.transaction_first_offset >= 0 || now_ms.saturating_sub(state.last_timestamp) < expiration_ms
        });
        before - self.states.len()
    }

    /// The snapshot file: version 1, CRC32C, count, entries with each producer's last batch.
    pub(crate) fn encode_snapshot(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(SNAPSHOT_HEADER_BYTES + self.states.len() * SNAPSHOT_ENTRY_BYTES);
        bytes.extend_from_slice(&SNAPSHOT_VERSION.to_be_bytes());
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(&(self.states.len() as i32).to_be_bytes());
        for (producer_id, state) in &self.states {
            let last = state.batches().last().copied().unwrap_or(ProducerState::NO_BATCH);
            bytes.extend_from_slice(&producer_id.to_be_bytes());
            bytes.extend_from_slice(&state.epoch.to_be_bytes());
            bytes.extend_from_slice(&last.last_sequence.to_be_bytes());
            bytes.extend_from_slice(&last.last_offset.to_be_bytes());
            bytes.extend_from_slice(&last.offset_delta.to_be_bytes());
            bytes.extend_from_slice(&state.last_timestamp.to_be_bytes());
            bytes.extend_from_slice(&state.coordinator_epoch.to_be_bytes());
            bytes.extend_from_slice(&state.transaction_first_offset.to_be_bytes());
        }
        let crc = crc_fast::checksum(CrcAlgorithm::Crc32Iscsi, &bytes[SNAPSHOT_CHECKED_FROM..]) as u32;
        bytes[2..SNAPSHOT_CHECKED_FROM].copy_from_slice(&crc.to_be_bytes());
        bytes
    }

    /// Reads a snapshot file; `None` if it is damaged. Only each producer's last batch is known then, as in Kafka.
    pub(crate) fn decode_snapshot(bytes: &[u8]) -> Option<Self> {
        let header = bytes.first_chunk::<SNAPSHOT_HEADER_BYTES>()?;
        let [v0, v1, c0, c1, c2, c3, n0, n1, n2, n3] = *header;
        let crc = crc_fast::checksum(CrcAlgorithm::Crc32Iscsi, &bytes[SNAPSHOT_CHECKED_FROM..]) as u32;
        let (entries, rest) = bytes[SNAPSHOT_HEADER_BYTES..].as_chunks::<SNAPSHOT_ENTRY_BYTES>();
        if i16::from_be_bytes([v0, v1]) != SNAPSHOT_VERSION
            || u32::from_be_bytes([c0, c1, c2, c3]) != crc
            || usize::try_from(i32::from_be_bytes([n0, n1, n2, n3])).ok()? != entries.len()
            || !rest.is_empty()
        {
            return None;
        }
        let mut states = BTreeMap::new();
        for entry in entries {
            let long = |at: usize| i64::from_be_bytes(entry[at..at + 8].try_into().expect("8 bytes"));
            let int = |at: usize| i32::from_be_bytes(entry[at..at + 4].try_into().expect("4 bytes"));
            let mut state = ProducerState::new(i16::from_be_bytes([entry[8], entry[9]]));
            let batch = WrittenBatch {
                last_sequence: int(10),
                last_offset: long(14),
                offset_delta: int(22),
                timestamp: long(26),
            };
            if batch.last_offset >= 0 {
                if batch.last_sequence < 0
                    || batch.offset_delta < 0
                    || i64::from(batch.offset_delta) > batch.last_offset
                {
                    return None;
                }
                state.push(batch);
            }
            state.last_timestamp = long(26);
            state.coordinator_epoch = int(34);
            state.transaction_first_offset = long(38);
            states.insert(long(0), state);
        }
        Some(Self { states })
    }
}

#[cfg(test)]
mod tests;
