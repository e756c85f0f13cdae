// SPDX-License-Identifier: Apache-2.0
//! A batch of the metadata log: what one append writes.
//!
//! ```text
//!  0 magic "ODM1"        4 bytes
//!  4 length of the body  u32, big endian as all numbers
//!  8 CRC32C              u32, of the length and the body
//! 12 body: epoch i64, first offset i64, durable end i64, number of records u32, then the records
//! ```
//! The durable end is the offset below which everything was fsynced when the batch was written. There are never two
//! un-fsynced writes, so it is the first offset of the write: the batch's own, or, for batches of another broker that
//! were written together, that of the first of them. A valid batch with a durable end above a damaged one proves that
//! the damaged one had been fsynced.

use odradek_model::{ControllerEpoch, Offset};

use crate::Record;
use crate::records::RecordError;

/// Largest batch. 10,000 partitions in one request are about 1 MB; 16 MiB leaves room for long names and settings and
/// bounds what a damaged length can make us look at.
pub const MAX_BATCH_BYTES: usize = 16 << 20;

const MAGIC: [u8; 4] = *b"ODM1";
const HEADER: usize = 12;
const FIXED_BODY: usize = 28;
/// A batch of the largest body with its header.
pub(super) const MAX_WRITE_BYTES: usize = MAX_BATCH_BYTES + HEADER;

/// A batch whose checksum is right.
#[derive(Debug)]
pub(super) struct Batch<'a> {
    pub(super) epoch: ControllerEpoch,
    pub(super) base_offset: Offset,
    pub(super) durable_end: Offset,
    pub(super) count: u32,
    records: &'a [u8],
}

/// The bytes of a batch.
pub(super) fn encode(epoch: ControllerEpoch, base_offset: Offset, records: &[Record]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER + FIXED_BODY + 64 * records.len());
    bytes.extend_from_slice(&MAGIC);
    bytes.extend_from_slice(&[0; 8]);
    bytes.extend_from_slice(&epoch.to_be_bytes());
    bytes.extend_from_slice(&base_offset.to_be_bytes());
    bytes.extend_from_slice(&base_offset.to_be_bytes());
    bytes.extend_from_slice(&(records.len() as u32).to_be_bytes());
    for record in records {
        record.encode(&mut bytes);
    }
    let body_len = (bytes.len() - HEADER) as u32;
    bytes[4..8].copy_from_slice(&body_len.to_be_bytes());
    let crc = checksum(&bytes[4..8], &bytes[HEADER..]);
    bytes[8..12].copy_from_slice(&crc.to_be_bytes());
    bytes
}

/// The bytes of a valid batch, as they are written where everything below `durable_end` is fsynced.
pub(super) fn with_durable_end(batch: &[u8], durable_end: Offset) -> Vec<u8> {
    let mut bytes = batch.to_vec();
    bytes[HEADER + 16..HEADER + 24].copy_from_slice(&durable_end.to_be_bytes());
    let crc = checksum(&bytes[4..8], &bytes[HEADER..]);
    bytes[8..12].copy_from_slice(&crc.to_be_bytes());
    bytes
}

pub(super) fn checksum(length: &[u8], body: &[u8]) -> u32 {
    let mut digest = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc32Iscsi);
    digest.update(length);
    digest.update(body);
    digest.finalize() as u32
}

impl<'a> Batch<'a> {
    /// The batch at the front of `bytes`, or why there is none.
    pub(super) fn parse(bytes: &'a [u8]) -> Result<Self, &'static str> {
        if bytes.len() < HEADER + FIXED_BODY {
            return Err("the header is incomplete");
        }
        if bytes[..4] != MAGIC {
            return Err("no batch begins here");
        }
        let body_len = u32::from_be_bytes(take(bytes, 4)) as usize;
        if !(FIXED_BODY..=MAX_BATCH_BYTES).contains(&body_len) {
            return Err("the length is impossible");
        }
        let Some(body) = bytes[HEADER..].get(..body_len) else {
            return Err("the batch is incomplete");
        };
        if checksum(&bytes[4..8], body) != u32::from_be_bytes(take(bytes, 8)) {
            return Err("the checksum is wrong");
        }
        Ok(Self {
            epoch: i64::from_be_bytes(take(body, 0)),
            base_offset: i64::from_be_bytes(take(body, 8)),
            durable_end: i64::from_be_bytes(take(body, 16)),
            count: u32::from_be_bytes(take(body, 24)),
            records: &body[FIXED_BODY..],
        })
    }

    /// Bytes of the whole batch.
    pub(super) fn len(&self) -> usize {
        HEADER + FIXED_BODY + self.records.len()
    }

    /// The offset after its last record.
    pub(super) fn end_offset(&self) -> Offset {
        self.base_offset + i64::from(self.count)
    }

    /// Its records, each decoded or the error that ends them.
    pub(super) fn records(&self) -> impl Iterator<Item = Result<Record, RecordError>> {
        let mut rest = self.records;
        let mut left = self.count;
        std::iter::from_fn(move || {
            if left == 0 {
                let trailing = !std::mem::take(&mut rest).is_empty();
                return trailing.then(|| Err(RecordError::Malformed("bytes after the last record".to_owned())));
            }
            left -= 1;
            let record = Record::decode(&mut rest);
            if record.is_err() {
                left = 0;
                rest = &[];
            }
            Some(record)
        })
    }
}

/// Whether any whole valid batch after damage at 0 says that everything below an offset above `damaged` was fsynced.
pub(super) fn proves_durable(bytes: &[u8], damaged: Offset) -> bool {
    (1..bytes.len().saturating_sub(HEADER)).any(|at| {
        bytes[at..at + 4] == MAGIC && Batch::parse(&bytes[at..]).is_ok_and(|batch| batch.durable_end > damaged)
    })
}

fn take<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes[at..at + N].try_into().expect("the caller checked the length")
}
