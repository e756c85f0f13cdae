// SPDX-License-Identifier: Apache-2.0
//! Judging what a client produced, before anything of it reaches a log.
//!
//! The rules are those of `ProduceRequest.validateRecords`, `UnifiedLog.analyzeAndValidateRecords` and
//! `LogValidator` in Kafka 4.4, in their order: framing, magic, zstd gate, base offset, size, checksum, offset range
//! and count, control and sequence, then every record. Where we differ, on purpose:
//! - Bytes after the batch are refused; Kafka drops a partial batch there without a word.
//! - Offset deltas that are not 0, 1, 2 … are refused; Kafka accepts them in an uncompressed batch (as they are) and
//!   re-compresses a compressed one.
//! - A record whose declared length differs from its fields is refused in compressed batches too.
//! - If the client set the timestamp type to LogAppendTime in a CreateTime topic, records are judged by their own
//!   timestamps, which readers will see once the bit is cleared; Kafka judges the header's maximum.
//! - What a batch decompresses to is bounded.
//!
//! A wrong maximum timestamp in the header is not an error: as in Kafka it is replaced by the real one and the
//! checksum computed anew. Must not know the log's end, producers' states or who the client is.

mod walk;

use std::fmt::Write as _;

use bytes::Bytes;
use odradek_model::{LeaderEpoch, Offset, Timestamp, TimestampType, TopicSettings};
use thiserror::Error;

use crate::codec::{Compression, DECOMPRESSED_BYTES_MAX, DecompressError};
use crate::header::{BatchHeader, HEADER_BYTES, LENGTH_PREFIX_BYTES, MAGIC_AT, checksum_of, checksum_of_parts};
use crate::record::MalformedRecord;

/// Smallest length field of any record format ever (`LegacyRecord.RECORD_OVERHEAD_V0`); below it is garbage.
const LENGTH_MIN_ANY_MAGIC: i32 = 14;
/// Most record errors reported for a batch. A client shows a few; 100 of some 150 bytes keep an answer for a 1-MiB
/// batch of up to 150,000 records below 16 KiB. Kafka reports all.
const RECORD_ERRORS_MAX: usize = 100;
/// First produce version that may carry zstd (KIP-110).
const ZSTD_PRODUCE_VERSION: i16 = 7;

/// What the topic and the request allow.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ProduceRules {
    /// Version of the Produce request.
    pub produce_version: i16,
    /// `max.message.bytes`: largest batch as sent, header included.
    pub max_message_bytes: u32,
    /// `segment.bytes`: a batch must fit a segment.
    pub segment_bytes: u32,
    /// `message.timestamp.type` of the topic.
    pub timestamp_type: TimestampType,
    /// `message.timestamp.before.max.ms`; `i64::MAX` is without limit.
    pub timestamp_before_max_ms: i64,
    /// `message.timestamp.after.max.ms`; `i64::MAX` is without limit.
    pub timestamp_after_max_ms: i64,
    /// Whether the topic is compacted, so that every record needs a key.
    pub compacted: bool,
    /// Whether this broker knows transactions. Without them a transactional batch is refused: nothing could ever
    /// end its transaction.
    pub transactions: bool,
    /// Most bytes that the records may decompress to.
    pub decompressed_bytes_max: usize,
}

impl ProduceRules {
    /// The rules for a topic with these settings.
    pub fn new(settings: &TopicSettings, produce_version: i16) -> Self {
        Self {
            produce_version,
            max_message_bytes: settings.max_message_bytes,
            segment_bytes: settings.segment_bytes,
            timestamp_type: settings.timestamp_type,
            timestamp_before_max_ms: settings.timestamp_before_max_ms,
            timestamp_after_max_ms: settings.timestamp_after_max_ms,
            compacted: false,
            transactions: false,
            decompressed_bytes_max: DECOMPRESSED_BYTES_MAX,
        }
    }
}

/// One record that was refused; the whole batch is with it (KIP-467).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RecordError {
    /// Index of the record in its batch.
    pub batch_index: i32,
    /// The reason, for people.
    pub message: String,
}

/// Why a produced batch was refused. Beside each: the error code of Kafka that clients get.
#[derive(Debug, Error, PartialEq, Eq, Clone)]
pub enum ProduceError {
    /// INVALID_RECORD 87: nothing, or less than the batch declares.
    #[error("the request must hold exactly one whole record batch per partition, it has {available} bytes")]
    NoBatch {
        /// Bytes that are there.
        available: usize,
    },
    /// INVALID_RECORD 87: more than one batch.
    #[error("the request must hold exactly one record batch per partition, {surplus} bytes follow the first")]
    SeveralBatches {
        /// Bytes after the first batch.
        surplus: usize,
    },
    /// INVALID_RECORD 87: message formats 0 and 1 (gone in 4.0, KIP-724).
    #[error("record batches of magic {0} are not accepted, only magic 2")]
    OldMagic(i8),
    /// UNSUPPORTED_COMPRESSION_TYPE 76: zstd needs Produce version 7.
    #[error("zstd needs Produce version 7 or higher, the request has {0}")]
    ZstdTooEarly(i16),
    /// UNSUPPORTED_COMPRESSION_TYPE 76: a codec number without a codec.
    #[error("unknown compression codec {0}")]
    UnknownCompression(u8),
    /// INVALID_RECORD 87: offsets are the leader's to give (`UnifiedLog`).
    #[error("the base offset of a produced batch must be 0, it is {0}")]
    BaseOffset(i64),
    /// MESSAGE_TOO_LARGE 10.
    #[error("the record batch has {size} bytes, max.message.bytes allows {max}")]
    TooLarge {
        /// Bytes of the batch.
        size: usize,
        /// What is allowed.
        max: u32,
    },
    /// RECORD_LIST_TOO_LARGE 18.
    #[error("the record batch has {size} bytes and does not fit a segment of {max}")]
    LargerThanSegment {
        /// Bytes of the batch.
        size: usize,
        /// What is allowed.
        max: u32,
    },
    /// CORRUPT_MESSAGE 2 (clients try again): a length or magic that no batch has.
    #[error("the bytes are no record batch: {0}")]
    Corrupt(&'static str),
    /// CORRUPT_MESSAGE 2 (clients try again).
    #[error("batch checksum is {stored:#010x} but its bytes give {computed:#010x}")]
    Checksum {
        /// What the header says.
        stored: u32,
        /// What the bytes give.
        computed: u32,
    },
    /// INVALID_RECORD 87: count and offset range differ, or one is not positive.
    #[error("the batch declares {record_count} records but offsets 0 to {last_offset_delta}")]
    Count {
        /// As declared.
        record_count: i32,
        /// As declared.
        last_offset_delta: i32,
    },
    /// INVALID_RECORD 87.
    #[error("clients must not write control records")]
    Control,
    /// INVALID_RECORD 87.
    #[error("sequence number {base_sequence} with producer id {producer_id}")]
    Sequence {
        /// As declared.
        producer_id: i64,
        /// As declared.
        base_sequence: i32,
    },
    /// INVALID_RECORD 87.
    #[error("a transactional batch without a producer id")]
    TransactionalWithoutProducer,
    /// INVALID_TXN_STATE 48: this broker has no transactions.
    #[error("transactions are not supported by this broker yet")]
    TransactionsUnsupported,
    /// INVALID_RECORD 87: damaged although the checksum is right.
    #[error("record {batch_index} is malformed: {error}")]
    Malformed {
        /// Index of the record in its batch.
        batch_index: i32,
        /// What is wrong.
        error: MalformedRecord,
    },
    /// INVALID_RECORD 87: not what the codec writes.
    #[error("the records cannot be decompressed: {0}")]
    Decompress(DecompressError),
    /// MESSAGE_TOO_LARGE 10 (on which clients split the batch): beyond [`ProduceRules::decompressed_bytes_max`].
    #[error("the records decompress to over {max} bytes")]
    DecompressedTooLarge {
        /// What is allowed.
        max: usize,
    },
    /// INVALID_RECORD 87, or INVALID_TIMESTAMP 32 if any record was refused for its time.
    #[error("{}", records_text(*.timestamps, .errors, *.total))]
    Records {
        /// Whether any was refused for its timestamp.
        timestamps: bool,
        /// The first 100 of them.
        errors: Vec<RecordError>,
        /// How many there were.
        total: u32,
    },
}

fn records_text(timestamps: bool, errors: &[RecordError], total: u32) -> String {
    let cause = if timestamps { "invalid timestamps" } else { "invalid records" };
    let mut text = format!("{total} records of the batch were refused for {cause}:");
    for error in errors.iter().take(3) {
        let _ = write!(text, " {}: {};", error.batch_index, error.message);
    }
    text.pop();
    text
}

/// A batch that the log may append: from a client and judged, or the broker's own. The records stay where they were
/// received; only the header is our own copy, so that stamping copies 61 bytes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ValidatedBatch {
    header: BatchHeader,
    payload: Bytes,
}

impl ValidatedBatch {
    /// The header as it will be written.
    pub fn header(&self) -> &BatchHeader {
        &self.header
    }

    /// What follows the header, never copied.
    pub fn payload(&self) -> &Bytes {
        &self.payload
    }

    /// Bytes of the whole batch.
    pub fn size_bytes(&self) -> usize {
        HEADER_BYTES + self.payload.len()
    }

    /// Stamps base offset, leader epoch and, where the topic keeps the broker's time, that time (a new checksum).
    pub fn assign(&mut self, base_offset: Offset, leader_epoch: LeaderEpoch, log_append_time_ms: Option<Timestamp>) {
        self.header.base_offset = base_offset;
        self.header.partition_leader_epoch = leader_epoch;
        if let Some(time_ms) = log_append_time_ms {
            self.stamp_time(TimestampType::LogAppendTime, time_ms);
        }
    }

    /// Appends the whole batch to `out`.
    pub fn write_to(&self, out: &mut Vec<u8>) {
        out.reserve(self.size_bytes());
        out.extend_from_slice(&self.header.to_prefix());
        out.extend_from_slice(&self.payload);
    }

    /// The whole batch in one piece (a copy).
    pub fn to_vec(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.write_to(&mut out);
        out
    }

    /// A batch that the broker built itself.
    ///
    /// # Panics
    /// If it is not one whole batch with the right checksum.
    pub(crate) fn from_broker(batch: &Bytes) -> Self {
        let header = BatchHeader::parse(batch).expect("the builder makes whole batches");
        assert_eq!(header.size_bytes(), batch.len(), "the builder makes whole batches");
        debug_assert_eq!(header.crc, checksum_of(batch));
        Self { header, payload: batch.slice(HEADER_BYTES..) }
    }

    fn stamp_time(&mut self, timestamp_type: TimestampType, max_timestamp: Timestamp) {
        self.header.stamp_time(timestamp_type, max_timestamp);
        self.header.crc = checksum_of_parts(&self.header.to_prefix(), &self.payload);
    }
}

/// Judges the records that a client sent for one partition. `batch` is shared, not copied. `now_ms` is what
/// timestamps are compared with. Decompresses in a stream with a buffer per thread that is used again; allocates
/// nothing per record.
pub fn validate_produced(
    batch: &Bytes,
    rules: &ProduceRules,
    now_ms: Timestamp,
) -> Result<ValidatedBatch, ProduceError> {
    let header = check_header(batch, rules)?;
    let codec = header.compression().map_err(|_| ProduceError::UnknownCompression((header.attributes & 0x07) as u8))?;
    let payload = batch.slice(HEADER_BYTES..);
    let mut judge = Judge::new(&header, rules, now_ms);
    match codec {
        Compression::None => walk::walk_slice(&payload, header.record_count, &mut judge)?,
        codec => walk::walk_compressed(codec, &payload, header.record_count, rules.decompressed_bytes_max, &mut judge)?,
    }
    let max_timestamp = judge.finish()?;
    let mut validated = ValidatedBatch { header, payload };
    if rules.timestamp_type == TimestampType::CreateTime
        && (header.timestamp_type() != TimestampType::CreateTime || header.max_timestamp != max_timestamp)
    {
        validated.stamp_time(TimestampType::CreateTime, max_timestamp);
    }
    if validated.size_bytes() > rules.segment_bytes as usize {
        return Err(ProduceError::LargerThanSegment { size: batch.len(), max: rules.segment_bytes });
    }
    Ok(validated)
}

/// Everything that can be said without looking at a record.
fn check_header(batch: &[u8], rules: &ProduceRules) -> Result<BatchHeader, ProduceError> {
    let no_batch = ProduceError::NoBatch { available: batch.len() };
    let Some(prefix) = batch.first_chunk::<{ MAGIC_AT + 1 }>() else {
        return Err(no_batch);
    };
    let length = i32::from_be_bytes([prefix[8], prefix[9], prefix[10], prefix[11]]);
    if length < LENGTH_MIN_ANY_MAGIC {
        return Err(ProduceError::Corrupt("its length is below that of any record"));
    }
    match prefix[MAGIC_AT] as i8 {
        2 => {}
        magic @ (0 | 1) => return Err(ProduceError::OldMagic(magic)),
        _ => return Err(ProduceError::Corrupt("its magic is unknown")),
    }
    let size = length as usize + LENGTH_PREFIX_BYTES;
    if batch.len() < size {
        return Err(no_batch);
    }
    if size < HEADER_BYTES {
        return Err(ProduceError::Corrupt("its length is below that of a header"));
    }
    let prefix = batch.first_chunk::<HEADER_BYTES>().expect("the batch is at least a header long");
    let header = BatchHeader::from_prefix(prefix);
    if rules.produce_version < ZSTD_PRODUCE_VERSION && header.compression() == Ok(Compression::Zstd) {
        return Err(ProduceError::ZstdTooEarly(rules.produce_version));
    }
    if batch.len() > size {
        return Err(ProduceError::SeveralBatches { surplus: batch.len() - size });
    }
    if header.base_offset != 0 {
        return Err(ProduceError::BaseOffset(header.base_offset));
    }
    if size > rules.max_message_bytes as usize {
        return Err(ProduceError::TooLarge { size, max: rules.max_message_bytes });
    }
    let computed = checksum_of(batch);
    if computed != header.crc {
        return Err(ProduceError::Checksum { stored: header.crc, computed });
    }
    if header.record_count <= 0 || header.last_offset_delta != header.record_count - 1 {
        let (record_count, last_offset_delta) = (header.record_count, header.last_offset_delta);
        return Err(ProduceError::Count { record_count, last_offset_delta });
    }
    if header.is_control() {
        return Err(ProduceError::Control);
    }
    if header.has_producer_id() && header.base_sequence < 0 {
        let (producer_id, base_sequence) = (header.producer_id, header.base_sequence);
        return Err(ProduceError::Sequence { producer_id, base_sequence });
    }
    if header.is_transactional() {
        if !header.has_producer_id() {
            return Err(ProduceError::TransactionalWithoutProducer);
        }
        if !rules.transactions {
            return Err(ProduceError::TransactionsUnsupported);
        }
    }
    Ok(header)
}

/// Judges records one by one and remembers what the header must say.
pub(crate) struct Judge<'a> {
    header: &'a BatchHeader,
    rules: &'a ProduceRules,
    /// Timestamps outside are refused. Saturated, so that a limit of `i64::MAX` refuses nothing that can be meant.
    earliest_ms: Timestamp,
    latest_ms: Timestamp,
    next_index: i32,
    max_timestamp: Timestamp,
    timestamps: bool,
    errors: Vec<RecordError>,
    total: u32,
}

impl<'a> Judge<'a> {
    fn new(header: &'a BatchHeader, rules: &'a ProduceRules, now_ms: Timestamp) -> Self {
        let earliest_ms = match rules.timestamp_before_max_ms {
            i64::MAX => i64::MIN,
            before_ms => now_ms.saturating_sub(before_ms),
        };
        Self {
            header,
            rules,
            earliest_ms,
            latest_ms: now_ms.saturating_add(rules.timestamp_after_max_ms),
            next_index: 0,
            max_timestamp: -1,
            timestamps: false,
            errors: Vec::new(),
            total: 0,
        }
    }

    /// The next record of the batch.
    #[inline]
    pub(crate) fn record(&mut self, timestamp_delta: i64, offset_delta: i32, has_key: bool) {
        let index = self.next_index;
        self.next_index += 1;
        let timestamp = self.header.base_timestamp.wrapping_add(timestamp_delta);
        self.max_timestamp = self.max_timestamp.max(timestamp);
        if offset_delta != index {
            self.refuse(index, false, || format!("its offset delta is {offset_delta}"));
        } else if self.rules.compacted && !has_key {
            self.refuse(index, false, || "a compacted topic needs a key in every record".to_owned());
        } else if self.rules.timestamp_type == TimestampType::CreateTime && timestamp != -1 {
            if timestamp < self.earliest_ms || timestamp > self.latest_ms {
                let (earliest_ms, latest_ms) = (self.earliest_ms, self.latest_ms);
                self.refuse(index, true, || {
                    format!("its timestamp {timestamp} is outside of {earliest_ms} to {latest_ms}")
                });
            }
        } else if self.header.timestamp_type() == TimestampType::LogAppendTime {
            self.refuse(index, true, || "a producer must not set the timestamp type to LogAppendTime".to_owned());
        }
    }

    #[cold]
    fn refuse(&mut self, batch_index: i32, timestamp: bool, message: impl FnOnce() -> String) {
        self.timestamps |= timestamp;
        self.total += 1;
        if self.errors.len() < RECORD_ERRORS_MAX {
            self.errors.push(RecordError { batch_index, message: message() });
        }
    }

    /// The index that the next record would have.
    pub(crate) fn next_index(&self) -> i32 {
        self.next_index
    }

    /// The largest timestamp, or the refusal.
    fn finish(self) -> Result<Timestamp, ProduceError> {
        if self.total == 0 {
            Ok(self.max_timestamp)
        } else {
            Err(ProduceError::Records { timestamps: self.timestamps, errors: self.errors, total: self.total })
        }
    }
}
