// SPDX-License-Identifier: Apache-2.0
//! Walking bytes batch by batch and a batch record by record. Must not know where the bytes come from.

use std::borrow::Cow;

use crate::codec::{Compression, DECOMPRESSED_BYTES_MAX, decompress};
use crate::header::{BatchError, BatchHeader, HEADER_BYTES, checksum_of};
use crate::record::{MalformedRecord, Record};

/// One whole batch: its header and all its bytes.
#[derive(Clone, Copy, Debug)]
pub struct Batch<'a> {
    /// The header, its fields in range ([`BatchHeader::parse`]).
    pub header: BatchHeader,
    /// The whole batch, exactly `header.size_bytes()` long.
    pub bytes: &'a [u8],
}

impl<'a> Batch<'a> {
    /// The batch at the start of `bytes`; what follows it is left alone.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, BatchError> {
        let header = BatchHeader::parse(bytes)?;
        let needed = header.size_bytes();
        match bytes.get(..needed) {
            Some(bytes) => Ok(Self { header, bytes }),
            None => Err(BatchError::Incomplete { needed, available: bytes.len() }),
        }
    }

    /// Checks the checksum.
    pub fn verify(&self) -> Result<(), BatchError> {
        let computed = checksum_of(self.bytes);
        if computed == self.header.crc {
            Ok(())
        } else {
            Err(BatchError::Checksum { stored: self.header.crc, computed })
        }
    }

    /// The records, decompressed as a whole where they are compressed, to [`DECOMPRESSED_BYTES_MAX`] at most.
    /// Works on broker-trusted batches; the checksum is not looked at.
    pub fn records(&self) -> Result<Records<'a>, BatchError> {
        let payload = &self.bytes[HEADER_BYTES..];
        let bytes = match self.header.compression()? {
            Compression::None => Cow::Borrowed(payload),
            // A batch emptied by compaction has no records to decompress, whatever its codec bits say.
            _ if self.header.record_count == 0 => Cow::Borrowed(&[][..]),
            codec => Cow::Owned(decompress(codec, payload, DECOMPRESSED_BYTES_MAX)?),
        };
        Ok(Records { count: self.header.record_count as u32, bytes })
    }
}

/// The batches in a stretch of bytes, one after another. After an error it ends; [`Batches::position`] then tells
/// where the damaged or incomplete batch begins.
#[derive(Clone, Debug)]
pub struct Batches<'a> {
    bytes: &'a [u8],
    position: usize,
    failed: bool,
}

impl<'a> Batches<'a> {
    /// Walks `bytes` from their start.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, position: 0, failed: false }
    }

    /// Where the next batch begins: the number of bytes in the batches given so far.
    pub fn position(&self) -> usize {
        self.position
    }
}

impl<'a> Iterator for Batches<'a> {
    type Item = Result<Batch<'a>, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        let rest = &self.bytes[self.position..];
        if rest.is_empty() || self.failed {
            return None;
        }
        let batch = Batch::parse(rest);
        match &batch {
            Ok(batch) => self.position += batch.bytes.len(),
            Err(_) => self.failed = true,
        }
        Some(batch)
    }
}

/// The records of a batch, decompressed.
#[derive(Clone, Debug)]
pub struct Records<'a> {
    count: u32,
    bytes: Cow<'a, [u8]>,
}

impl Records<'_> {
    /// Number of records that the header declares.
    pub fn len(&self) -> usize {
        self.count as usize
    }

    /// Whether the header declares no record.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Size in bytes of the records without compression.
    pub fn size_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// The records in order. Ends after the first malformed one; bytes left over after the declared number of
    /// records are malformed too.
    pub fn iter(&self) -> impl Iterator<Item = Result<Record<'_>, MalformedRecord>> {
        let mut rest: &[u8] = &self.bytes;
        let mut left = self.count;
        let mut done = false;
        std::iter::from_fn(move || {
            if done {
                return None;
            }
            if left == 0 {
                done = true;
                return if rest.is_empty() { None } else { Some(Err(MalformedRecord::Count)) };
            }
            left -= 1;
            match Record::parse(rest) {
                Ok((record, after)) => {
                    rest = after;
                    Some(Ok(record))
                }
                Err(error) => {
                    done = true;
                    Some(Err(error))
                }
            }
        })
    }
}
