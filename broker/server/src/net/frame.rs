// SPDX-License-Identifier: Apache-2.0
//! Reads Kafka's frames (a four-byte size, then that many bytes) from a socket.
//! It does not look into a frame.
//!
//! A frame's size is checked before anything else. Its buffer and its charge grow with the bytes that have
//! *arrived*: four times as much room as there are bytes, at least [`FIRST_ROOM`], so a client that claims
//! 90 MB and sends 1 KB costs 16 KiB. Small frames that arrive together share one buffer and are not copied; a
//! frame that fits into its first room is never copied either, a larger one at most a third of it.
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::AsyncReadExt;
use tokio::net::tcp::OwnedReadHalf;
use tokio::time::{Instant, timeout_at};

use super::budget::{Budget, Charge};

/// Room given to a frame before any of it has arrived. Small enough that 200 hostile connections cost
/// 3.2 MB; large enough for nearly every request but Produce.
pub const FIRST_ROOM: usize = 16 * 1024;
/// Room for a read when no frame is begun: an idle connection that wakes up.
const IDLE_ROOM: usize = 4 * 1024;
/// Largest step by which room grows: two of the usual socket buffers.
const LARGEST_STEP: usize = 4 * 1024 * 1024;
/// A frame must be complete within this time ...
const FRAME_TIME: Duration = Duration::from_secs(30);
/// ... plus its size at this rate (2 Mbit/s, a slow mobile link).
const SLOWEST_BYTES_PER_SECOND: u64 = 256 * 1024;

/// Why no further frame can be read. All of them end the connection.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The peer closed between two frames: the usual end.
    #[error("closed by the client")]
    Closed,
    /// The peer closed inside a frame.
    #[error("closed by the client inside a frame: {received} of {size} bytes")]
    Truncated {
        /// Bytes that arrived.
        received: usize,
        /// Bytes that the frame claimed.
        size: usize,
    },
    /// The size is negative, smaller than any request header, or above socket.request.max.bytes.
    #[error("frame size {size} is outside 8..={max}")]
    Size {
        /// The claimed size.
        size: i32,
        /// socket.request.max.bytes.
        max: usize,
    },
    /// The frame was not complete in time.
    #[error("frame incomplete after its deadline: {received} of {size} bytes")]
    Deadline {
        /// Bytes that arrived.
        received: usize,
        /// Bytes that the frame claimed.
        size: usize,
    },
    /// The socket failed.
    #[error("reading: {0}")]
    Io(#[from] io::Error),
}

/// A complete frame without its size, and the bytes it is charged with until it is dropped.
#[derive(Debug)]
pub struct Frame {
    /// Header and body of the request.
    pub bytes: Bytes,
    /// Given back when the request is answered.
    pub charge: Charge,
}

/// Reads the frames of one connection.
#[derive(Debug)]
pub struct FrameReader {
    socket: OwnedReadHalf,
    buffer: BytesMut,
    budget: Arc<Budget>,
    max_size: usize,
    /// The frame being received.
    current: Option<Current>,
}

#[derive(Debug)]
struct Current {
    size: usize,
    charge: Charge,
    deadline: Instant,
}

impl FrameReader {
    /// Reads from `socket` frames of at most `max_size` bytes (socket.request.max.bytes).
    pub fn new(socket: OwnedReadHalf, budget: Arc<Budget>, max_size: usize) -> Self {
        Self { socket, buffer: BytesMut::new(), budget, max_size, current: None }
    }

    /// Whether a frame is half received.
    pub fn in_frame(&self) -> bool {
        // Less than a size has no deadline of its own, so it falls under the rule for idle connections.
        self.current.is_some()
    }

    /// Waits for the next complete frame. Cancelling loses nothing: all state is in `self`.
    pub async fn next(&mut self) -> Result<Frame, FrameError> {
        loop {
            if self.current.is_none() {
                self.begin_frame()?;
            }
            let Some(current) = &mut self.current else {
                if self.buffer.is_empty() {
                    // Nothing is held for an idle connection: the buffer is allocated once bytes are there.
                    self.buffer = BytesMut::new();
                    self.socket.readable().await?;
                }
                self.buffer.reserve(IDLE_ROOM);
                let part = self.buffer.len();
                // A read that leaves room has emptied the socket: this way of reading takes note of that, and the next
                // frame is waited for without another call.
                match self.socket.read_buf(&mut self.buffer).await? {
                    0 if part == 0 => return Err(FrameError::Closed),
                    0 => return Err(FrameError::Truncated { received: part, size: 4 }),
                    _ => continue,
                }
            };
            let received = self.buffer.len();
            if received >= current.size {
                let bytes = self.buffer.split_to(current.size).freeze();
                let Some(mut current) = self.current.take() else {
                    unreachable!("matched above");
                };
                current.charge.settle();
                current.charge.shrink_to(current.size);
                return Ok(Frame { bytes, charge: current.charge });
            }
            // Room for four times what has arrived, at most the frame, charged before it is allocated.
            let room =
                (received.saturating_mul(4)).clamp(FIRST_ROOM, received.saturating_add(LARGEST_STEP)).min(current.size);
            let (size, deadline) = (current.size, current.deadline);
            let late = || FrameError::Deadline { received, size };
            if room > current.charge.bytes() {
                let more = room - current.charge.bytes();
                timeout_at(deadline, current.charge.grow(more)).await.map_err(|_| late())?;
            }
            if self.buffer.capacity() < room {
                self.buffer.reserve(room - received);
            }
            let read = timeout_at(deadline, self.socket.read_buf(&mut self.buffer)).await;
            if read.map_err(|_| late())?? == 0 {
                return Err(FrameError::Truncated { received, size });
            }
        }
    }

    /// Starts the next frame if its size has arrived.
    fn begin_frame(&mut self) -> Result<(), FrameError> {
        if self.buffer.len() < 4 {
            return Ok(());
        }
        let size = self.buffer.get_i32();
        // The smallest request header: key, version, correlation id.
        let valid = usize::try_from(size).ok().filter(|s| (8..=self.max_size).contains(s));
        let Some(valid) = valid else {
            return Err(FrameError::Size { size, max: self.max_size });
        };
        let extra = Duration::from_secs(valid as u64 / SLOWEST_BYTES_PER_SECOND);
        self.current =
            Some(Current { size: valid, charge: self.budget.open(), deadline: Instant::now() + FRAME_TIME + extra });
        Ok(())
    }
}
