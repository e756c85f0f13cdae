// SPDX-License-Identifier: Apache-2.0
//! Building batches: the group journal, control records, tests, and clients of our own.
//!
//! Records are gathered uncompressed and compressed once at the end. Must not know offsets of a log: a batch
//! starts at offset 0 until the log stamps it.

use bytes::Bytes;
use odradek_model::{
    NO_PRODUCER_EPOCH, NO_PRODUCER_ID, NO_SEQUENCE, Offset, ProducerEpoch, ProducerId, Timestamp, TimestampType,
};

use crate::codec::{Compression, compress_into};
use crate::header::{BatchHeader, HEADER_BYTES, LENGTH_PREFIX_BYTES, attributes_of, checksum_of};
use crate::record::{RecordHeader, write_record};
use crate::validate::ValidatedBatch;

/// What a batch says besides its records.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BatchOptions {
    /// Codec of the records.
    pub compression: Compression,
    /// What the timestamps mean.
    pub timestamp_type: TimestampType,
    /// Offset of the first record; 0 in what a client produces.
    pub base_offset: Offset,
    /// Leader epoch; -1 in what a client produces.
    pub partition_leader_epoch: i32,
    /// -1 without idempotence.
    pub producer_id: ProducerId,
    /// -1 without idempotence.
    pub producer_epoch: ProducerEpoch,
    /// -1 without idempotence.
    pub base_sequence: i32,
    /// Whether the batch belongs to a transaction.
    pub transactional: bool,
    /// Whether the records are the broker's own marks.
    pub control: bool,
}

impl Default for BatchOptions {
    fn default() -> Self {
        Self {
            compression: Compression::None,
            timestamp_type: TimestampType::CreateTime,
            base_offset: 0,
            partition_leader_epoch: -1,
            producer_id: NO_PRODUCER_ID,
            producer_epoch: NO_PRODUCER_EPOCH,
            base_sequence: NO_SEQUENCE,
            transactional: false,
            control: false,
        }
    }
}

/// A batch in the making. Its caller bounds it: [`BatchBuilder::size_bytes`] tells the size before compression.
#[derive(Clone, Debug)]
pub struct BatchBuilder {
    options: BatchOptions,
    base_timestamp: Timestamp,
    max_timestamp: Timestamp,
    count: i32,
    last_offset_delta: i32,
    /// The header's room and the records, uncompressed.
    bytes: Vec<u8>,
}

impl BatchBuilder {
    /// A batch without records.
    pub fn new(options: BatchOptions) -> Self {
        Self {
            options,
            base_timestamp: -1,
            max_timestamp: -1,
            count: 0,
            last_offset_delta: -1,
            bytes: vec![0; HEADER_BYTES],
        }
    }

    /// Adds a record at the next offset. The first record's timestamp becomes the base.
    pub fn append(
        &mut self,
        timestamp_ms: Timestamp,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[RecordHeader<'_>],
    ) -> &mut Self {
        self.append_at(self.last_offset_delta + 1, timestamp_ms, key, value, headers)
    }

    /// Adds a record at an offset delta of the caller's choice, above the one before it (what compaction leaves).
    ///
    /// # Panics
    /// If `offset_delta` is not above the one before it.
    pub fn append_at(
        &mut self,
        offset_delta: i32,
        timestamp_ms: Timestamp,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[RecordHeader<'_>],
    ) -> &mut Self {
        assert!(offset_delta > self.last_offset_delta, "offsets of a batch rise");
        if self.count == 0 {
            self.base_timestamp = timestamp_ms;
        }
        let timestamp_delta = timestamp_ms.wrapping_sub(self.base_timestamp);
        write_record(&mut self.bytes, timestamp_delta, offset_delta, key, value, headers);
        self.max_timestamp = self.max_timestamp.max(timestamp_ms);
        self.count += 1;
        self.last_offset_delta = offset_delta;
        self
    }

    /// Number of records so far.
    pub fn len(&self) -> usize {
        self.count as usize
    }

    /// Whether there is no record yet.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Size in bytes that the batch would have without compression.
    pub fn size_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// The finished batch with its checksum.
    ///
    /// # Panics
    /// If there is no record, or the batch is over 2 GiB.
    pub fn build(self) -> Bytes {
        Bytes::from(self.build_vec())
    }

    /// The finished batch as one that the log may append: the broker vouches for it.
    ///
    /// # Panics
    /// As [`BatchBuilder::build`].
    pub fn build_validated(self) -> ValidatedBatch {
        ValidatedBatch::from_broker(&self.build())
    }

    fn build_vec(self) -> Vec<u8> {
        assert!(self.count > 0, "a batch has at least one record");
        let mut batch = if self.options.compression == Compression::None {
            self.bytes
        } else {
            let mut batch = vec![0; HEADER_BYTES];
            compress_into(self.options.compression, &self.bytes[HEADER_BYTES..], &mut batch);
            batch
        };
        let mut header = BatchHeader {
            base_offset: self.options.base_offset,
            batch_length: i32::try_from(batch.len() - LENGTH_PREFIX_BYTES).expect("a batch is below 2 GiB"),
            partition_leader_epoch: self.options.partition_leader_epoch,
            crc: 0,
            attributes: attributes_of(
                self.options.compression,
                self.options.timestamp_type,
                self.options.transactional,
                self.options.control,
            ),
            last_offset_delta: self.last_offset_delta,
            base_timestamp: self.base_timestamp,
            max_timestamp: self.max_timestamp,
            producer_id: self.options.producer_id,
            producer_epoch: self.options.producer_epoch,
            base_sequence: self.options.base_sequence,
            record_count: self.count,
        };
        batch[..HEADER_BYTES].copy_from_slice(&header.to_prefix());
        header.crc = checksum_of(&batch);
        batch[..HEADER_BYTES].copy_from_slice(&header.to_prefix());
        batch
    }
}
