// SPDX-License-Identifier: Apache-2.0
//! A part of an open file, to be sent or read later. Must not know what it holds, nor where it goes.

use crate::{DiskError, DiskFile};
use std::io;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

/// Bytes of a file that somebody will want in order. The file stays open until it is dropped, whatever becomes of its
/// name; bytes that are cut off meanwhile are missed when they are wanted.
#[derive(Clone, Debug)]
pub struct FileRegion {
    file: Arc<dyn DiskFile>,
    offset: u64,
    len: usize,
}

impl FileRegion {
    /// `len` bytes of `file` from `offset`.
    pub fn new(file: Arc<dyn DiskFile>, offset: u64, len: usize) -> Self {
        Self { file, offset, len }
    }

    /// Bytes that are left.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing is left.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether the next `len` bytes are likely in memory: sending them does not wait for the device then.
    pub fn is_cached(&self, len: usize) -> bool {
        self.file.is_cached(self.offset, len.min(self.len))
    }

    /// Hands at most `max` bytes to `socket`, as [`DiskFile::send`], and goes past them.
    ///
    /// # Errors
    /// `UnexpectedEof` if the file has become shorter; those of the socket.
    pub fn send(&mut self, socket: BorrowedFd<'_>, max: usize) -> io::Result<()> {
        let sent = self.file.send(socket, self.offset, max.min(self.len))?;
        if sent == 0 && !self.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.advance(sent);
        Ok(())
    }

    /// Reads at most `max` bytes, and goes past them. May wait for the device. Empty at the end of the file.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn read(&mut self, max: usize) -> Result<Vec<u8>, DiskError> {
        let mut bytes = Vec::new();
        let read = self.file.read_append(&mut bytes, max.min(self.len), self.offset)?;
        self.advance(read);
        Ok(bytes)
    }

    fn advance(&mut self, bytes: usize) {
        self.offset += bytes as u64;
        self.len -= bytes;
    }
}
