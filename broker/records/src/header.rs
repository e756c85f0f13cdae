// SPDX-License-Identifier: Apache-2.0
//! The header of a record batch: its 61 bytes, its checksum, and the stamping of offsets and times into it.
//!
//! Layout and meaning: `DefaultRecordBatch` in Kafka. All numbers are big-endian. The checksum (CRC32C) covers
//! everything from the attributes on, so base offset and leader epoch can be stamped without a new checksum.
//! Must not know what the records say.

use odradek_model::{
    LeaderEpoch, NO_PRODUCER_ID, NO_SEQUENCE, Offset, ProducerEpoch, ProducerId, Timestamp, TimestampType,
};
use thiserror::Error;

use crate::codec::Compression;

/// Length of a batch's header in bytes; the records follow.
pub const HEADER_BYTES: usize = 61;
/// Base offset and length: the bytes that the length field of a batch does not count.
pub const LENGTH_PREFIX_BYTES: usize = 12;

pub(crate) const MAGIC_AT: usize = 16;
const CRC_AT: usize = 17;
pub(crate) const ATTRIBUTES_AT: usize = 21;
const MAX_TIMESTAMP_AT: usize = 35;

const COMPRESSION_MASK: i16 = 0x07;
const LOG_APPEND_TIME_BIT: i16 = 0x08;
const TRANSACTIONAL_BIT: i16 = 0x10;
const CONTROL_BIT: i16 = 0x20;
const DELETE_HORIZON_BIT: i16 = 0x40;
/// The bits that have a meaning; Kafka clears the others when it rewrites the attributes, as we do.
const KNOWN_ATTRIBUTES: i16 =
    COMPRESSION_MASK | LOG_APPEND_TIME_BIT | TRANSACTIONAL_BIT | CONTROL_BIT | DELETE_HORIZON_BIT;

/// The header of one batch. A value from [`BatchHeader::parse`] has a sane length and offset range; that the rest
/// is what was written is known only after the checksum.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BatchHeader {
    /// Offset of the first record (kept by compaction even if that record is gone).
    pub base_offset: Offset,
    /// Bytes after the length field: the whole batch without its first 12 bytes. At least 49.
    pub batch_length: i32,
    /// Leader epoch in which the batch was appended; -1 in what clients send.
    pub partition_leader_epoch: LeaderEpoch,
    /// CRC32C of everything from the attributes on, as stored.
    pub crc: u32,
    /// Bits 0-2 codec, 3 timestamp type, 4 transactional, 5 control, 6 delete horizon.
    pub attributes: i16,
    /// Offset of the last record minus the base offset; 0 or above. Also the last sequence minus the base sequence.
    pub last_offset_delta: i32,
    /// Milliseconds that the records' timestamp deltas count from; -1 if there is none.
    pub base_timestamp: Timestamp,
    /// Largest timestamp of the records, or the time of the append.
    pub max_timestamp: Timestamp,
    /// -1 without idempotence.
    pub producer_id: ProducerId,
    /// -1 without idempotence.
    pub producer_epoch: ProducerEpoch,
    /// Sequence number of the first record; -1 without idempotence.
    pub base_sequence: i32,
    /// Number of records in the batch; 0 or above (0 only after compaction).
    pub record_count: i32,
}

/// Why bytes are no record batch.
#[derive(Debug, Error, PartialEq, Eq, Clone, Copy)]
pub enum BatchError {
    /// Fewer bytes than the header or the declared length needs: a torn tail, or a slice cut short.
    #[error("a batch of {needed} bytes is cut off after {available}")]
    Incomplete {
        /// Bytes that the batch would have; the header's if its length is not there yet.
        needed: usize,
        /// Bytes that are there.
        available: usize,
    },
    /// A length that no batch can have.
    #[error("a batch declares a length of {0}, at least {min} is needed", min = HEADER_BYTES - LENGTH_PREFIX_BYTES)]
    Length(i32),
    /// A magic other than 2.
    #[error("batch magic is {0}, not 2")]
    Magic(i8),
    /// An offset range or record count that no batch can have.
    #[error(
        "a batch has base offset {base_offset}, last offset delta {last_offset_delta} and record count {record_count}"
    )]
    Offsets {
        /// As stored.
        base_offset: Offset,
        /// As stored.
        last_offset_delta: i32,
        /// As stored.
        record_count: i32,
    },
    /// The checksum stored is not that of the bytes.
    #[error("batch checksum is {stored:#010x} but its bytes give {computed:#010x}")]
    Checksum {
        /// What the header says.
        stored: u32,
        /// What the bytes give.
        computed: u32,
    },
    /// A codec number without a codec.
    #[error("unknown compression codec {0}")]
    Compression(u8),
    /// The records could not be decompressed within the bound.
    #[error("the records of a batch cannot be decompressed: {0}")]
    Decompress(#[from] crate::codec::DecompressError),
}

impl BatchHeader {
    /// Reads the header at the start of `bytes`, which may end right after it. Checks length field, magic, offset
    /// range and count; the checksum needs the whole batch ([`crate::Batch::verify`]).
    pub fn parse(bytes: &[u8]) -> Result<Self, BatchError> {
        let Some(prefix) = bytes.first_chunk::<HEADER_BYTES>() else {
            return Err(BatchError::Incomplete { needed: HEADER_BYTES, available: bytes.len() });
        };
        let header = Self::from_prefix(prefix);
        if header.batch_length < (HEADER_BYTES - LENGTH_PREFIX_BYTES) as i32 {
            return Err(BatchError::Length(header.batch_length));
        }
        if prefix[MAGIC_AT] != 2 {
            return Err(BatchError::Magic(prefix[MAGIC_AT] as i8));
        }
        let last_offset = header.base_offset.checked_add(i64::from(header.last_offset_delta));
        if header.base_offset < 0
            || header.last_offset_delta < 0
            || header.record_count < 0
            || last_offset.is_none_or(|last| last == Offset::MAX)
        {
            return Err(BatchError::Offsets {
                base_offset: header.base_offset,
                last_offset_delta: header.last_offset_delta,
                record_count: header.record_count,
            });
        }
        Ok(header)
    }

    /// Reads the fields without judging them.
    pub(crate) fn from_prefix(prefix: &[u8; HEADER_BYTES]) -> Self {
        Self {
            base_offset: i64::from_be_bytes(field(prefix, 0)),
            batch_length: i32::from_be_bytes(field(prefix, 8)),
            partition_leader_epoch: i32::from_be_bytes(field(prefix, 12)),
            crc: u32::from_be_bytes(field(prefix, CRC_AT)),
            attributes: i16::from_be_bytes(field(prefix, ATTRIBUTES_AT)),
            last_offset_delta: i32::from_be_bytes(field(prefix, 23)),
            base_timestamp: i64::from_be_bytes(field(prefix, 27)),
            max_timestamp: i64::from_be_bytes(field(prefix, MAX_TIMESTAMP_AT)),
            producer_id: i64::from_be_bytes(field(prefix, 43)),
            producer_epoch: i16::from_be_bytes(field(prefix, 51)),
            base_sequence: i32::from_be_bytes(field(prefix, 53)),
            record_count: i32::from_be_bytes(field(prefix, 57)),
        }
    }

    /// The 61 bytes of this header, with the checksum as it stands in `crc`.
    pub fn to_prefix(&self) -> [u8; HEADER_BYTES] {
        let mut prefix = [0; HEADER_BYTES];
        prefix[0..8].copy_from_slice(&self.base_offset.to_be_bytes());
        prefix[8..12].copy_from_slice(&self.batch_length.to_be_bytes());
        prefix[12..16].copy_from_slice(&self.partition_leader_epoch.to_be_bytes());
        prefix[MAGIC_AT] = 2;
        prefix[17..21].copy_from_slice(&self.crc.to_be_bytes());
        prefix[21..23].copy_from_slice(&self.attributes.to_be_bytes());
        prefix[23..27].copy_from_slice(&self.last_offset_delta.to_be_bytes());
        prefix[27..35].copy_from_slice(&self.base_timestamp.to_be_bytes());
        prefix[35..43].copy_from_slice(&self.max_timestamp.to_be_bytes());
        prefix[43..51].copy_from_slice(&self.producer_id.to_be_bytes());
        prefix[51..53].copy_from_slice(&self.producer_epoch.to_be_bytes());
        prefix[53..57].copy_from_slice(&self.base_sequence.to_be_bytes());
        prefix[57..61].copy_from_slice(&self.record_count.to_be_bytes());
        prefix
    }

    /// Bytes of the whole batch, header included.
    pub fn size_bytes(&self) -> usize {
        self.batch_length as usize + LENGTH_PREFIX_BYTES
    }

    /// Offset of the last record (or of the last one before compaction).
    pub fn last_offset(&self) -> Offset {
        self.base_offset + i64::from(self.last_offset_delta)
    }

    /// The offset after the batch.
    pub fn next_offset(&self) -> Offset {
        self.last_offset() + 1
    }

    /// Sequence number of the last record, -1 without idempotence; wraps from 2^31 - 1 to 0.
    pub fn last_sequence(&self) -> i32 {
        if self.base_sequence == NO_SEQUENCE {
            NO_SEQUENCE
        } else {
            increment_sequence(self.base_sequence, self.last_offset_delta)
        }
    }

    /// Whether the batch was written with idempotence.
    pub fn has_producer_id(&self) -> bool {
        self.producer_id != NO_PRODUCER_ID
    }

    /// The codec of the records.
    pub fn compression(&self) -> Result<Compression, BatchError> {
        let id = (self.attributes & COMPRESSION_MASK) as u8;
        Compression::from_id(id).ok_or(BatchError::Compression(id))
    }

    /// What the timestamps mean.
    pub fn timestamp_type(&self) -> TimestampType {
        if self.attributes & LOG_APPEND_TIME_BIT == 0 {
            TimestampType::CreateTime
        } else {
            TimestampType::LogAppendTime
        }
    }

    /// Whether the batch belongs to a transaction.
    pub fn is_transactional(&self) -> bool {
        self.attributes & TRANSACTIONAL_BIT != 0
    }

    /// Whether the records are the broker's own marks, not a client's.
    pub fn is_control(&self) -> bool {
        self.attributes & CONTROL_BIT != 0
    }

    /// When tombstones and markers of the batch may go (KIP-534), if compaction has set it.
    pub fn delete_horizon_ms(&self) -> Option<Timestamp> {
        (self.attributes & DELETE_HORIZON_BIT != 0).then_some(self.base_timestamp)
    }

    /// The timestamp of a record of this batch from its delta. Wraps as Kafka's arithmetic does.
    pub fn record_timestamp(&self, timestamp_delta: i64) -> Timestamp {
        match self.timestamp_type() {
            TimestampType::CreateTime => self.base_timestamp.wrapping_add(timestamp_delta),
            TimestampType::LogAppendTime => self.max_timestamp,
        }
    }

    /// Sets timestamp type and maximum and clears bits without a meaning; the checksum must be computed anew.
    pub(crate) fn stamp_time(&mut self, timestamp_type: TimestampType, max_timestamp: Timestamp) {
        self.attributes &= KNOWN_ATTRIBUTES & !LOG_APPEND_TIME_BIT;
        if timestamp_type == TimestampType::LogAppendTime {
            self.attributes |= LOG_APPEND_TIME_BIT;
        }
        self.max_timestamp = max_timestamp;
    }
}

/// The attribute bits of a batch.
pub(crate) fn attributes_of(
    compression: Compression,
    timestamp_type: TimestampType,
    transactional: bool,
    control: bool,
) -> i16 {
    let mut attributes = i16::from(compression.id());
    if timestamp_type == TimestampType::LogAppendTime {
        attributes |= LOG_APPEND_TIME_BIT;
    }
    if transactional {
        attributes |= TRANSACTIONAL_BIT;
    }
    if control {
        attributes |= CONTROL_BIT;
    }
    attributes
}

/// `sequence + increment` on the circle of 0 ..= 2^31 - 1 (`DefaultRecordBatch.incrementSequence`). Both must be 0
/// or above.
pub fn increment_sequence(sequence: i32, increment: i32) -> i32 {
    ((i64::from(sequence) + i64::from(increment)) & i64::from(i32::MAX)) as i32
}

/// CRC32C of a batch given as its header's bytes and what follows them.
pub(crate) fn checksum_of_parts(prefix: &[u8; HEADER_BYTES], payload: &[u8]) -> u32 {
    let mut digest = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc32Iscsi);
    digest.update(&prefix[ATTRIBUTES_AT..]);
    digest.update(payload);
    digest.finalize() as u32
}

/// CRC32C of a whole batch of at least [`HEADER_BYTES`].
pub(crate) fn checksum_of(batch: &[u8]) -> u32 {
    crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, &batch[ATTRIBUTES_AT..]) as u32
}

/// Stamps one whole batch in place: base offset, leader epoch and, where the topic keeps the broker's time, that
/// time with a new checksum.
///
/// # Panics
/// If `batch` is not one whole batch: callers have it from [`crate::Batches`] or [`crate::BatchBuilder`].
pub fn assign(batch: &mut [u8], base_offset: Offset, leader_epoch: LeaderEpoch, log_append_time_ms: Option<Timestamp>) {
    let mut header = BatchHeader::parse(batch).expect("the caller passes one whole batch");
    assert_eq!(header.size_bytes(), batch.len(), "the caller passes one whole batch");
    header.base_offset = base_offset;
    header.partition_leader_epoch = leader_epoch;
    if let Some(time_ms) = log_append_time_ms {
        header.stamp_time(TimestampType::LogAppendTime, time_ms);
    }
    batch[..HEADER_BYTES].copy_from_slice(&header.to_prefix());
    if log_append_time_ms.is_some() {
        let crc = checksum_of(batch);
        batch[CRC_AT..ATTRIBUTES_AT].copy_from_slice(&crc.to_be_bytes());
    }
}

#[inline]
fn field<const N: usize>(prefix: &[u8; HEADER_BYTES], at: usize) -> [u8; N] {
    prefix[at..at + N].try_into().expect("a field lies within the header")
}
