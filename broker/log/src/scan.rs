// SPDX-License-Identifier: Apache-2.0
//! Walking the batches of a segment's file in order, by headers alone or with their checksums.
//! Must not know what the batches are walked for.

use odradek_disk::{DiskError, DiskFile};
use odradek_records::{Batch, BatchError, BatchHeader, HEADER_BYTES};

/// Bytes read at once for headers alone: small batches share a read, and little is read in vain before a large one.
const HEADER_CHUNK_BYTES: usize = 16 << 10;
/// Bytes read at once when every byte is needed.
const WHOLE_CHUNK_BYTES: usize = 1 << 20;

/// Why a walk stopped.
#[derive(Debug)]
pub(crate) enum ScanError {
    /// The bytes at the position are no whole batch.
    Batch(BatchError),
    Disk(DiskError),
}

impl From<DiskError> for ScanError {
    fn from(error: DiskError) -> Self {
        Self::Disk(error)
    }
}

/// A cursor over the batches of a file between two positions. Memory: one chunk, or one batch if that is larger; a
/// batch is never larger than what is left of the file.
pub(crate) struct Scanner<'a> {
    file: &'a dyn DiskFile,
    position: u64,
    end: u64,
    chunk: Vec<u8>,
    chunk_position: u64,
    chunk_bytes: usize,
}

impl<'a> Scanner<'a> {
    /// Walks by headers; most bytes are never read.
    pub(crate) fn headers(file: &'a dyn DiskFile, position: u64, end: u64) -> Self {
        Self { file, position, end, chunk: Vec::new(), chunk_position: 0, chunk_bytes: HEADER_CHUNK_BYTES }
    }

    /// Walks reading everything, as checksums need it.
    pub(crate) fn whole(file: &'a dyn DiskFile, position: u64, end: u64) -> Self {
        Self { chunk_bytes: WHOLE_CHUNK_BYTES, ..Self::headers(file, position, end) }
    }

    /// Where the next batch begins.
    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    /// The next `wanted` bytes from the position, fewer only at the end.
    fn bytes(&mut self, wanted: usize) -> Result<&[u8], DiskError> {
        let left = usize::try_from(self.end.saturating_sub(self.position)).unwrap_or(usize::MAX);
        let wanted = wanted.min(left);
        let chunk_end = self.chunk_position + self.chunk.len() as u64;
        if self.position < self.chunk_position || self.position + wanted as u64 > chunk_end {
            self.chunk.clear();
            self.chunk_position = self.position;
            self.file.read_append(&mut self.chunk, wanted.max(self.chunk_bytes).min(left), self.position)?;
        }
        let from = (self.position - self.chunk_position) as usize;
        Ok(&self.chunk[from..(from + wanted).min(self.chunk.len())])
    }

    /// The header of the batch at the position, which must lie wholly before the end; `None` at the end.
    /// The position stays.
    pub(crate) fn peek(&mut self) -> Result<Option<BatchHeader>, ScanError> {
        if self.position >= self.end {
            return Ok(None);
        }
        let left = self.end - self.position;
        let header = BatchHeader::parse(self.bytes(HEADER_BYTES)?).map_err(ScanError::Batch)?;
        if header.size_bytes() as u64 > left {
            let available = left as usize;
            return Err(ScanError::Batch(BatchError::Incomplete { needed: header.size_bytes(), available }));
        }
        Ok(Some(header))
    }

    /// The whole batch at the position. Only after [`peek`](Self::peek) gave its header.
    pub(crate) fn batch(&mut self, header: &BatchHeader) -> Result<Batch<'_>, ScanError> {
        Batch::parse(self.bytes(header.size_bytes())?).map_err(ScanError::Batch)
    }

    /// Goes past the batch with this header.
    pub(crate) fn skip(&mut self, header: &BatchHeader) {
        self.position += header.size_bytes() as u64;
    }
}
