// SPDX-License-Identifier: Apache-2.0
//! A buffer that codecs append to and readers take from. Grows only with bytes that are really there.

/// Bytes decompressed and not taken yet.
pub(crate) struct Window {
    /// All of it initialised, so that codecs can be handed spare room as a plain slice.
    buffer: Vec<u8>,
    start: usize,
    end: usize,
}

impl Window {
    /// Memory that stays with the thread between batches: one LZ4 block of the largest usual size (1 MiB), twice.
    pub(crate) const KEPT_BYTES_MAX: usize = 2 * 1024 * 1024;

    pub(crate) fn new() -> Self {
        Self { buffer: Vec::new(), start: 0, end: 0 }
    }

    /// The bytes that are there.
    #[inline]
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    /// How many bytes are there.
    #[inline]
    pub(crate) fn available(&self) -> usize {
        self.end - self.start
    }

    /// Takes bytes away from the front.
    #[inline]
    pub(crate) fn consume(&mut self, count: usize) {
        self.start += count;
        assert!(self.start <= self.end, "no more is taken than there is");
    }

    pub(crate) fn append(&mut self, bytes: &[u8]) {
        self.spare(bytes.len())[..bytes.len()].copy_from_slice(bytes);
        self.filled(bytes.len());
    }

    /// Room for at least `count` bytes behind the last one; all the room there is.
    pub(crate) fn spare(&mut self, count: usize) -> &mut [u8] {
        if self.buffer.len() - self.end < count && self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        if self.buffer.len() - self.end < count {
            let needed = (self.end + count).max(self.buffer.len() * 2);
            self.buffer.resize(needed, 0);
        }
        &mut self.buffer[self.end..]
    }

    /// Says that a codec has written `count` bytes into the spare room.
    pub(crate) fn filled(&mut self, count: usize) {
        self.end += count;
        assert!(self.end <= self.buffer.len(), "no more is written than there is room");
    }

    pub(crate) fn clear(&mut self) {
        self.start = 0;
        self.end = 0;
    }

    /// Gives memory back that one large batch has taken.
    pub(crate) fn release_large(&mut self) {
        if self.buffer.len() > Self::KEPT_BYTES_MAX {
            *self = Self::new();
        }
    }

    pub(crate) fn into_vec(mut self) -> Vec<u8> {
        self.buffer.truncate(self.end);
        self.buffer.drain(..self.start);
        self.buffer
    }
}
