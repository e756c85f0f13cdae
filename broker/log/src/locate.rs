// SPDX-License-Identifier: Apache-2.0
//! Where batches lie, for a caller that sends them from the file instead of reading them. Only what is in memory is
//! found, and only headers are looked at. Must not know sockets.

use crate::reader::LogReader;
use odradek_disk::{DiskFile, FileRegion};
use odradek_model::Offset;
use odradek_records::{BatchHeader, HEADER_BYTES};

/// Bytes read at once where batches are small: their headers share a read. Of larger ones the header alone is read.
const CHUNK_BYTES: usize = 4 << 10;

impl LogReader {
    /// The place of the batches that [`read`](Self::read) with the same bounds would give, if they are `least` bytes or
    /// more and their headers are in memory: then the rest most likely is, too. `None` in any doubt: `read` tells then what the matter is.
    /// Never waits for the disk.
    pub fn locate(&self, from: Offset, max_bytes: usize, up_to: Offset, least: usize) -> Option<FileRegion> {
        self.shared.check(from).ok()?;
        let up_to = up_to.min(self.log_end_offset());
        if from >= up_to || max_bytes < least {
            return None;
        }
        let segments = self.shared.segments();
        let at = segments.partition_point(|segment| segment.base_offset <= from).checked_sub(1)?;
        let segment = &segments[at];
        let end = segment.size();
        let (file, looked_up) = segment.look_up_open(&self.shared.cache, |indexes| indexes.position_of(from))?;
        let mut begin = segment.hint(from).unwrap_or(looked_up);
        if end.saturating_sub(begin) < least as u64 {
            return None;
        }
        let mut headers = Headers::new(&*file, end);
        let mut header = headers.at(begin)?;
        while header.last_offset() < from {
            begin += header.size_bytes() as u64;
            header = headers.at(begin)?;
        }
        let mut len = 0;
        let mut next_offset = from;
        while len + header.size_bytes() <= max_bytes && header.next_offset() <= up_to {
            len += header.size_bytes();
            next_offset = header.next_offset();
            if begin + len as u64 >= end {
                break;
            }
            header = headers.at(begin + len as u64)?;
        }
        if len < least {
            return None;
        }
        segment.note_hint(next_offset, begin + len as u64);
        Some(FileRegion::new(file, begin, len))
    }
}

/// The headers of a file's batches, as far as they are in memory.
struct Headers<'a> {
    file: &'a dyn DiskFile,
    end: u64,
    chunk: Vec<u8>,
    chunk_begin: u64,
    /// Bytes to read next: what the last batch was like, the next one probably is too.
    ahead: usize,
}

impl<'a> Headers<'a> {
    fn new(file: &'a dyn DiskFile, end: u64) -> Self {
        Self { file, end, chunk: Vec::new(), chunk_begin: 0, ahead: HEADER_BYTES }
    }

    /// The header of the batch that begins at `position`, all of which lies before the end.
    fn at(&mut self, position: u64) -> Option<BatchHeader> {
        let left = self.end.checked_sub(position)?;
        let within = position.checked_sub(self.chunk_begin).and_then(|from| self.chunk.get(from as usize..));
        if within.is_none_or(|bytes| bytes.len() < HEADER_BYTES) {
            self.chunk.clear();
            self.chunk_begin = position;
            let wanted = self.ahead.min(usize::try_from(left).unwrap_or(usize::MAX));
            self.file.read_cached(&mut self.chunk, wanted, position).ok()??;
        }
        let header = BatchHeader::parse(&self.chunk[(position - self.chunk_begin) as usize..]).ok()?;
        self.ahead = if header.size_bytes() < CHUNK_BYTES { CHUNK_BYTES } else { HEADER_BYTES };
        (header.size_bytes() as u64 <= left).then_some(header)
    }
}
