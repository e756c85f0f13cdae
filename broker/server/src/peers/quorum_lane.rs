// SPDX-License-Identifier: Apache-2.0
//! Messages of the quorum to one broker: queued, and written one behind the other without waiting for anything. It must
//! not know what they say.
//!
//! Losing them is allowed, as the protocol repeats what matters. So the queue drops what is oldest when it is full: a
//! later question or answer makes an earlier one void, never the other way round. And what waited for a connection that
//! could not be opened is dropped with the attempt: it is stale by the time another succeeds.
use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use bytes::Bytes;
use odradek_coordination::quorum::Message;
use odradek_model::BrokerId;
use odradek_wire::client::write_segments;
use odradek_wire::private::{PrivateApiKey, PrivateHeader};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::timeout;

use super::lane::{Address, BackOff, is_io_loss, open};
use super::{PeerError, Peers};
use crate::private::quorum_messages;

/// Messages that wait for one broker. A member has at most one fetch, one inquiry and one announcement under way to
/// another, and one answer to each of the other's; twice that lets a burst at a change of controller through.
const WAITING_MESSAGES: usize = 16;
/// Bytes that wait for one broker; the newest message always may. An answer with records has 1 MiB
/// (`QuorumSettings::max_answer_bytes`) and there is one for each fetch, which is repeated after 1.5 s: four are already
/// more than anybody waits for.
const WAITING_BYTES: usize = 4 << 20;
/// Writing one message, and TCP's own patience for what is written and not acknowledged. Shorter than a session (6 s):
/// a connection to a machine that is gone must not swallow messages for longer. The largest batch (16 MiB) takes 5 s at
/// 3.4 MB/s.
const WRITE_TIME: Duration = Duration::from_secs(5);

/// What waits for one broker.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    queue: Mutex<Queue>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Queue {
    messages: VecDeque<(usize, Vec<Bytes>)>,
    bytes: usize,
    is_closed: bool,
}

impl Queue {
    fn push(&mut self, segments: Vec<Bytes>) {
        let bytes = segments.iter().map(Bytes::len).sum();
        while !self.messages.is_empty()
            && (self.messages.len() >= WAITING_MESSAGES || self.bytes + bytes > WAITING_BYTES)
        {
            self.pop();
        }
        self.bytes += bytes;
        self.messages.push_back((bytes, segments));
    }

    fn pop(&mut self) -> Option<Vec<Bytes>> {
        let (bytes, segments) = self.messages.pop_front()?;
        self.bytes -= bytes;
        Some(segments)
    }
}

impl Outbox {
    /// Queues a message. Never blocks.
    pub(super) fn push(&self, message: &Message) {
        let header = PrivateHeader { key: PrivateApiKey::Quorum, version: 0, correlation_id: 0 };
        match header.encode_frame(&quorum_messages::encode(message)) {
            Ok(segments) => {
                self.lock().push(segments);
                self.changed.notify_one();
            }
            Err(error) => tracing::error!(%error, "cannot encode a message of the quorum"),
        }
    }

    /// Ends the task that empties it.
    pub(super) fn close(&self) {
        self.lock().is_closed = true;
        self.changed.notify_one();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn clear(&self) {
        let mut queue = self.lock();
        queue.messages.clear();
        queue.bytes = 0;
    }

    /// The next message; `None` once it is closed.
    async fn next(&self) -> Option<Vec<Bytes>> {
        loop {
            {
                let mut queue = self.lock();
                if queue.is_closed {
                    return None;
                }
                if let Some(segments) = queue.pop() {
                    return Some(segments);
                }
            }
            self.changed.notified().await;
        }
    }
}

/// Sends what the outbox gets until it is closed or nobody holds the peers any more.
pub(super) async fn run(peers: Weak<Peers>, to: BrokerId, outbox: Arc<Outbox>) {
    let mut back_off = BackOff::default();
    let mut connection: Option<(Address, TcpStream)> = None;
    loop {
        let next = match &connection {
            None => outbox.next().await,
            // A reset is noticed at once, not with the next message: somebody waits to hear that a process is gone.
            Some((_, stream)) => tokio::select! {
                biased;
                error = end_of(stream) => {
                    connection = None;
                    let Some(peers) = peers.upgrade() else { return };
                    tracing::debug!(broker = %to, %error, "connection for the quorum ended");
                    peers.tell_of_io(to, &error);
                    continue;
                }
                next = outbox.next() => next,
            },
        };
        let (Some(segments), Some(held)) = (next, peers.upgrade()) else { return };
        if connection.as_ref().is_some_and(|(address, _)| held.address(to).as_ref() != Some(address)) {
            connection = None;
        }
        if connection.is_none() {
            back_off.wait().await;
            match connect(&held, to).await {
                Ok(opened) => {
                    back_off.succeeded();
                    connection = Some(opened);
                }
                Err(error) => {
                    back_off.failed();
                    outbox.clear();
                    held.warn_of_connection(to, &error);
                    continue;
                }
            }
        }
        let Some((_, stream)) = &mut connection else { continue };
        let written = timeout(WRITE_TIME, write_segments(stream, segments)).await;
        match written {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                held.tell_of_io(to, &error);
                connection = None;
            }
            Err(_) => connection = None,
        }
    }
}

async fn connect(peers: &Peers, to: BrokerId) -> Result<(Address, TcpStream), PeerError> {
    let address = peers.address(to).ok_or(PeerError::NoAddress(to))?;
    let connection = open(peers, to, &address).await?;
    let stream = connection.into_stream().ok_or(PeerError::Connect(odradek_wire::client::ClientError::Closed))?;
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::net::sockopt::set_tcp_user_timeout(&stream, WRITE_TIME.as_millis() as u32) {
        tracing::debug!(%error, "no limit for unacknowledged bytes");
    }
    Ok((address, stream))
}

/// Waits until the other side ends the connection. Nothing is ever answered on it.
async fn end_of(stream: &TcpStream) -> io::Error {
    loop {
        if let Err(error) = stream.readable().await {
            return error;
        }
        match stream.try_read(&mut [0]) {
            Ok(0) => return io::ErrorKind::UnexpectedEof.into(),
            Ok(_) => return io::Error::new(io::ErrorKind::InvalidData, "an answer to a message of the quorum"),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return error,
        }
    }
}

impl Peers {
    fn tell_of_io(&self, broker: BrokerId, error: &io::Error) {
        if is_io_loss(error) {
            self.lost(broker);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segments(bytes: usize) -> Vec<Bytes> {
        vec![Bytes::from(vec![0; bytes])]
    }

    #[test]
    fn a_full_queue_drops_the_oldest_and_always_has_the_newest() {
        let mut queue = Queue::default();
        for bytes in 1..=WAITING_MESSAGES + 3 {
            queue.push(segments(bytes));
        }
        assert_eq!(queue.messages.len(), WAITING_MESSAGES);
        assert_eq!(queue.pop().unwrap(), segments(4), "three were dropped");
        queue.push(segments(WAITING_BYTES - 100));
        assert!(queue.bytes <= WAITING_BYTES);
        queue.push(segments(2 * WAITING_BYTES));
        assert_eq!((queue.messages.len(), queue.bytes), (1, 2 * WAITING_BYTES));
        queue.push(segments(1));
        assert_eq!((queue.messages.len(), queue.bytes), (1, 1), "beside the largest nothing waits");
    }
}
