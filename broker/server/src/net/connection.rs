// SPDX-License-Identifier: Apache-2.0
//! One connection = one task: requests start in the order they arrive, finish in parallel, and are answered in
//! order (rule 5). It must not know what a request is.
//!
//! Bounds per connection: [`IN_FLIGHT_REQUESTS`] and [`IN_FLIGHT_BYTES`] of unanswered requests; beyond them the
//! socket is not read, so TCP slows the client down. A client that does not take its answers is closed after a
//! deadline; it holds up nobody, as nothing is shared but the byte budgets, which it gives back then.
use std::collections::VecDeque;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::net::tcp::OwnedWriteHalf;
use tokio::time::{Instant, sleep_until, timeout};

use super::budget::Budget;
use super::frame::{FrameError, FrameReader};
use super::outgoing::Outgoing;
use super::{CloseReason, Finished, Peer, Reply, Service, Started};

/// Unanswered requests of one connection. Java producers keep 5, librdkafka's window is bounded by bytes; 64
/// covers 16 KiB requests over 10 ms of latency at 100 MB/s.
pub const IN_FLIGHT_REQUESTS: usize = 64;
/// Bytes of unanswered requests of one connection; one request is always allowed. Two of the largest usual
/// requests (max.request.size 1 MiB) beside the one in the socket would do; 8 MiB also keeps a fast link busy.
pub const IN_FLIGHT_BYTES: usize = 8 * 1024 * 1024;
/// An answer must be taken within this time plus its size at 256 KiB/s.
const WRITE_TIME: Duration = Duration::from_secs(30);
const SLOWEST_BYTES_PER_SECOND: u64 = 256 * 1024;
/// After the stop signal, unanswered requests get this long.
const DRAIN_TIME: Duration = Duration::from_secs(10);

/// What is the same for every connection of a listener.
#[derive(Debug)]
pub struct ConnectionLimits {
    /// Memory for requests.
    pub requests: Arc<Budget>,
    /// socket.request.max.bytes.
    pub max_request_bytes: usize,
    /// connections.max.idle.ms.
    pub idle: Duration,
    /// How long one answer may take to be written, beside its size; tests shorten it.
    pub write_time: Duration,
}

impl ConnectionLimits {
    /// Kafka's defaults: 100 MiB requests, 10 minutes idle.
    pub fn new(requests: Arc<Budget>) -> Self {
        Self { requests, max_request_bytes: 100 * 1024 * 1024, idle: Duration::from_mins(10), write_time: WRITE_TIME }
    }
}

/// A request whose answer is not written yet.
struct InFlight {
    bytes: usize,
    state: State,
}

enum State {
    Waiting(Pin<Box<dyn Future<Output = Finished> + Send>>),
    Finished(Finished),
}

/// The unanswered requests, oldest first.
#[derive(Default)]
struct Pipeline {
    requests: VecDeque<InFlight>,
    bytes: usize,
}

impl Pipeline {
    fn has_room(&self) -> bool {
        self.requests.is_empty() || (self.requests.len() < IN_FLIGHT_REQUESTS && self.bytes < IN_FLIGHT_BYTES)
    }

    fn push(&mut self, bytes: usize, started: Started) {
        let state = match started {
            Started::Finished(finished) => State::Finished(finished),
            Started::Waiting(future) => State::Waiting(future),
        };
        self.bytes += bytes;
        self.requests.push_back(InFlight { bytes, state });
    }

    /// Lets every waiting request go on; ready when the oldest is finished. At most [`IN_FLIGHT_REQUESTS`]
    /// polls per wake-up, and usually one or two: clients rarely have several requests that wait.
    fn poll_oldest(&mut self, context: &mut Context<'_>) -> Poll<Finished> {
        for request in &mut self.requests {
            if let State::Waiting(future) = &mut request.state
                && let Poll::Ready(finished) = future.as_mut().poll(context)
            {
                request.state = State::Finished(finished);
            }
        }
        match self.requests.pop_front() {
            Some(InFlight { bytes, state: State::Finished(finished) }) => {
                self.bytes -= bytes;
                Poll::Ready(finished)
            }
            Some(waiting) => {
                self.requests.push_front(waiting);
                Poll::Pending
            }
            None => Poll::Pending,
        }
    }

    async fn next(&mut self) -> Finished {
        std::future::poll_fn(|context| self.poll_oldest(context)).await
    }
}

/// Serves a connection until it ends, and says why it ended.
pub async fn serve<S: Service>(stream: TcpStream, service: &S, limits: &ConnectionLimits, peer: &Peer) -> CloseReason {
    // Answers are whole frames: waiting to fill packets only adds latency.
    if stream.set_nodelay(true).is_err() {
        return CloseReason::Io;
    }
    let (read, write) = stream.into_split();
    let mut reader = FrameReader::new(read, Arc::clone(&limits.requests), limits.max_request_bytes);
    let mut pipeline = Pipeline::default();
    let mut last_request = Instant::now();
    let mut alarm = pin!(sleep_until(last_request + limits.idle));
    // One registration for the life of the connection: the token's list is shared by all.
    let mut stopping = pin!(peer.stopping.cancelled());
    let mut draining = false;
    let mut read_end: Option<CloseReason> = None;
    loop {
        let answering = !pipeline.requests.is_empty();
        if !answering && let Some(reason) = read_end {
            return reason;
        }
        if !answering && draining {
            return CloseReason::Stopping;
        }
        let reading = read_end.is_none() && !draining && pipeline.has_room();
        tokio::select! {
            biased;
            finished = pipeline.next(), if answering => {
                let end = answer(&write, finished, limits).await;
                if let Some(reason) = end {
                    return reason;
                }
                last_request = Instant::now();
            }
            frame = reader.next(), if reading => match frame {
                Ok(frame) => {
                    last_request = Instant::now();
                    let bytes = frame.bytes.len();
                    let started = service.start(frame, peer);
                    match started {
                        // The usual case: answered at once, nothing older is waiting.
                        Started::Finished(finished) if pipeline.requests.is_empty() => {
                            if let Some(reason) = answer(&write, finished, limits).await {
                                return reason;
                            }
                        }
                        started => pipeline.push(bytes, started),
                    }
                }
                // A client that half-closes still gets its answers; one that is gone has nobody to answer to.
                Err(FrameError::Closed) => return CloseReason::Client,
                Err(FrameError::Io(_)) => return CloseReason::Io,
                // Requests before the bad one are answered first.
                Err(FrameError::Size { .. }) => read_end = Some(CloseReason::BadSize),
                Err(FrameError::Truncated { .. } | FrameError::Deadline { .. }) => {
                    read_end = Some(CloseReason::Truncated);
                }
            },
            () = alarm.as_mut() => {
                if draining {
                    return CloseReason::Stopping;
                }
                // Frames have their own deadline; a waiting request is not idle.
                let busy = answering || reader.in_frame();
                let until = if busy { Instant::now() } else { last_request } + limits.idle;
                if until <= Instant::now() {
                    return CloseReason::Idle;
                }
                alarm.as_mut().reset(until);
            }
            () = stopping.as_mut(), if !draining => {
                draining = true;
                alarm.as_mut().reset(Instant::now() + DRAIN_TIME);
            }
        }
    }
}

/// Writes what a request ended with. `Some` ends the connection.
async fn answer(write: &OwnedWriteHalf, finished: Finished, limits: &ConnectionLimits) -> Option<CloseReason> {
    let (reply, end) = match finished {
        Finished::Reply(reply) => (reply, None),
        Finished::LastReply(reply, reason) => (reply, Some(reason)),
        Finished::Nothing => return None,
        Finished::Close(reason) => return Some(reason),
    };
    let Reply { segments, charge } = reply;
    let mut outgoing = Outgoing::new(segments);
    // The socket's buffer usually takes it all at once: no timer is made then.
    match outgoing.try_write(write.as_ref()) {
        Ok(true) => return end,
        Ok(false) => {}
        Err(_) => return Some(CloseReason::Io),
    }
    let time = limits.write_time + Duration::from_secs(outgoing.len() as u64 / SLOWEST_BYTES_PER_SECOND);
    let written = timeout(time, outgoing.write(write.as_ref())).await;
    drop(charge);
    match written {
        Ok(Ok(())) => end,
        Ok(Err(_)) => Some(CloseReason::Io),
        Err(_) => {
            // Closing with a reset, so that the kernel does not keep what nobody reads.
            let _ = write.as_ref().set_zero_linger();
            Some(CloseReason::SlowReader)
        }
    }
}
