// SPDX-License-Identifier: Apache-2.0
//! One answer on its way into a socket: bytes in vectored writes, parts of files handed over by the kernel. It must not
//! know what an answer is, nor how long it may take.
//!
//! A thread that serves sockets never waits for the disk: a part of a file that is not in memory is read on a thread
//! that may block, [`READ_BYTES`] at a time, and written like other bytes.
use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::os::fd::AsFd;

use bytes::{Buf, Bytes};
use odradek_disk::FileRegion;
use tokio::io::Interest;
use tokio::net::TcpStream;

/// A part of an answer.
#[derive(Debug)]
pub enum Segment {
    /// Bytes in memory.
    Bytes(Bytes),
    /// Bytes of a file.
    File(FileRegion),
}

impl Segment {
    /// Bytes that are left of it.
    pub fn len(&self) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.len(),
            Self::File(region) => region.len(),
        }
    }

    /// Whether nothing is left of it.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl From<Bytes> for Segment {
    fn from(bytes: Bytes) -> Self {
        Self::Bytes(bytes)
    }
}

/// Slices per system call: a Fetch answer has two segments per partition.
const SLICES: usize = 64;
/// Bytes of a file per system call: what a consumer asks of one partition by default (max.partition.fetch.bytes). It
/// bounds how long one answer keeps the thread, a tenth of a millisecond.
const SEND_BYTES: usize = 1 << 20;
/// Bytes read at once of a file that is not in memory. Its charge is that of the whole answer, so this only bounds what
/// is read in vain for a client that goes away.
const READ_BYTES: usize = 256 << 10;

/// How far an attempt came.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Progress {
    /// Everything is in the socket.
    Done,
    /// The socket takes no more now.
    Full,
    /// What comes next has to be read first.
    NotInMemory,
}

/// What is left of an answer, in order.
#[derive(Debug)]
pub(super) struct Outgoing {
    segments: VecDeque<Segment>,
}

impl Outgoing {
    pub(super) fn new(segments: Vec<Segment>) -> Self {
        Self { segments: segments.into() }
    }

    /// Bytes that are left.
    pub(super) fn len(&self) -> usize {
        self.segments.iter().map(Segment::len).sum()
    }

    /// Writes what the socket takes at once; true if that was all.
    pub(super) fn try_write(&mut self, socket: &TcpStream) -> io::Result<bool> {
        self.advance(socket).map(|progress| progress == Progress::Done)
    }

    /// Writes what is left.
    pub(super) async fn write(&mut self, socket: &TcpStream) -> io::Result<()> {
        loop {
            match self.advance(socket)? {
                Progress::Done => return Ok(()),
                Progress::Full => socket.writable().await?,
                Progress::NotInMemory => self.read().await?,
            }
        }
    }

    fn advance(&mut self, socket: &TcpStream) -> io::Result<Progress> {
        loop {
            while self.segments.front().is_some_and(Segment::is_empty) {
                self.segments.pop_front();
            }
            let taken = match self.segments.front_mut() {
                None => return Ok(Progress::Done),
                Some(Segment::File(region)) if !region.is_cached(SEND_BYTES) => return Ok(Progress::NotInMemory),
                Some(Segment::File(region)) => {
                    socket.try_io(Interest::WRITABLE, || region.send(socket.as_fd(), SEND_BYTES))
                }
                Some(Segment::Bytes(_)) => self.write_bytes(socket),
            };
            match taken {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Progress::Full),
                Err(error) if error.kind() == io::ErrorKind::Unsupported => return Ok(Progress::NotInMemory),
                Err(error) => return Err(error),
            }
        }
    }

    /// One write of the bytes in front.
    fn write_bytes(&mut self, socket: &TcpStream) -> io::Result<()> {
        let mut slices = [IoSlice::new(&[]); SLICES];
        let mut count = 0;
        for (slice, segment) in slices.iter_mut().zip(&self.segments) {
            let Segment::Bytes(bytes) = segment else { break };
            *slice = IoSlice::new(bytes);
            count += 1;
        }
        let mut written = socket.try_write_vectored(&slices[..count])?;
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        for segment in &mut self.segments {
            let Segment::Bytes(bytes) = segment else { break };
            let part = written.min(bytes.len());
            bytes.advance(part);
            written -= part;
        }
        Ok(())
    }

    /// Reads the beginning of the part of a file in front, on a thread that may block.
    async fn read(&mut self) -> io::Result<()> {
        let Some(Segment::File(mut region)) = self.segments.pop_front() else { return Ok(()) };
        let reading = tokio::task::spawn_blocking(move || region.read(READ_BYTES).map(|bytes| (bytes, region)));
        let (bytes, region) = reading.await?.map_err(io::Error::other)?;
        if bytes.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.segments.push_front(Segment::File(region));
        self.segments.push_front(Segment::Bytes(bytes.into()));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test says what went wrong by failing")]
    use super::*;
    use odradek_disk::{Disk, DiskFile, OpenMode, SimulatedDisk};
    use std::path::Path;
    use std::sync::Arc;
    use tokio::io::AsyncReadExt;
    use tokio::net::TcpListener;

    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (listener.accept().await.unwrap().0, client)
    }

    /// A file that no socket takes directly: its bytes have to be read.
    fn file(bytes: &[u8]) -> Arc<dyn DiskFile> {
        let disk = SimulatedDisk::new(1);
        disk.create_dir_all(Path::new("/d")).unwrap();
        let file = disk.open(Path::new("/d/f"), OpenMode::CreateNew).unwrap();
        file.write_at(bytes, 0).unwrap();
        file
    }

    #[tokio::test]
    async fn segments_arrive_in_order_whoever_reads_them() {
        let stored: Vec<u8> = (0..3_000_000u32).map(|at| (at % 253) as u8).collect();
        let file = file(&stored);
        let part = |from: usize, len| Segment::File(FileRegion::new(Arc::clone(&file), from as u64, len));
        let mut segments = vec![Segment::Bytes(Bytes::from_static(b"head"))];
        segments.extend((0..100).map(|_| Segment::Bytes(Bytes::from_static(b"-"))));
        segments.extend([part(7, 2_900_000), part(0, 0), part(1_000, 5), Segment::Bytes(Bytes::from_static(b"tail"))]);
        let wanted = [b"head", &b"-".repeat(100)[..], &stored[7..2_900_007], &stored[1_000..1_005], b"tail"].concat();
        let (socket, mut client) = pair().await;
        let mut outgoing = Outgoing::new(segments);
        assert_eq!(outgoing.len(), wanted.len());
        let writing = async {
            assert!(!outgoing.try_write(&socket).unwrap(), "the file has to be read first");
            outgoing.write(&socket).await.unwrap();
            assert_eq!(outgoing.len(), 0);
            drop(socket);
        };
        let reading = async {
            let mut received = Vec::new();
            client.read_to_end(&mut received).await.unwrap();
            received
        };
        let ((), received) = tokio::join!(writing, reading);
        assert!(received == wanted, "{} bytes of {}", received.len(), wanted.len());
    }

    #[tokio::test]
    async fn a_file_that_was_cut_ends_the_answer() {
        let (socket, _client) = pair().await;
        let mut outgoing = Outgoing::new(vec![Segment::File(FileRegion::new(file(b"short"), 3, 10))]);
        let error = outgoing.write(&socket).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }
}
