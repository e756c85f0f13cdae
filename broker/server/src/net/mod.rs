// SPDX-License-Identifier: Apache-2.0
//! Sockets: listeners, connections, frames, byte budgets. It carries requests to a [`Service`] and answers
//! back; it must not know what a request means, nor partitions, groups or metadata.
pub mod budget;
pub mod connection;
pub mod frame;
pub mod introduction;
pub mod listener;
mod outgoing;
pub mod warnings;

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use budget::Charge;
use frame::Frame;
use introduction::{Introduced, Introduction};
pub use outgoing::Segment;

/// What a request needs to know about the connection it came by.
#[derive(Debug, Clone)]
pub struct Peer {
    /// Name of the listener, as configured.
    pub listener: Arc<str>,
    /// Address of the client.
    pub address: SocketAddr,
    /// Cancelled when the broker stops: whoever waits answers with what there is.
    pub stopping: CancellationToken,
    /// Whom it has proved to be, if it is a broker.
    pub introduction: Arc<Introduction>,
    /// Who asks, as Kafka writes it.
    pub principal: Arc<str>,
    /// Held by the request that another broker answers: so the requests of one connection get there in their order.
    pub forwarding: Arc<tokio::sync::Mutex<()>>,
}

/// Who is not authenticated (`KafkaPrincipal.ANONYMOUS`).
pub const ANONYMOUS: &str = "User:ANONYMOUS";

impl Peer {
    /// A connection that has said nothing yet.
    pub fn new(listener: Arc<str>, address: SocketAddr, stopping: CancellationToken) -> Self {
        Self {
            listener,
            address,
            stopping,
            introduction: Arc::default(),
            principal: ANONYMOUS.into(),
            forwarding: Arc::default(),
        }
    }

    /// The broker at the other end, once it has introduced itself.
    pub fn introduced(&self) -> Option<&Introduced> {
        self.introduction.introduced()
    }
}

/// An answer in the form the socket takes it: segments in order, records among them uncopied.
#[derive(Debug)]
pub struct Reply {
    /// Size prefix, header and body.
    pub segments: Vec<Segment>,
    /// What the answer's bytes are charged with until they are written.
    pub charge: Option<Charge>,
}

/// How a request ended.
#[derive(Debug)]
pub enum Finished {
    /// Write this, in the order of the requests.
    Reply(Reply),
    /// Nothing is written (acks=0, rule 7).
    Nothing,
    /// Write this, then close the connection.
    LastReply(Reply, CloseReason),
    /// Close the connection, after the answers of earlier requests (rules 2 and 7).
    Close(CloseReason),
}

/// What starting a request gives.
pub enum Started {
    /// It is finished already: the usual case, no future is made.
    Finished(Finished),
    /// It waits for something; other requests go on meanwhile.
    Waiting(Pin<Box<dyn Future<Output = Finished> + Send>>),
}

/// Starts requests. Called in the order in which a connection's requests arrived; must not block.
pub trait Service: Send + Sync + 'static {
    /// Starts the request in `frame`, whose bytes stay charged until the result is dropped.
    fn start(&self, frame: Frame, peer: &Peer) -> Started;
}

/// Why a connection was closed; the label of `odradek_connections_closed_total`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum CloseReason {
    /// The client closed.
    Client,
    /// No request for connections.max.idle.ms.
    Idle,
    /// The broker stops.
    Stopping,
    /// More connections than max.connections.
    TooManyConnections,
    /// A frame size outside what is allowed: garbage, TLS or HTTP bytes, or too large a request.
    BadSize,
    /// The client closed, or was too slow, inside a frame.
    Truncated,
    /// A request that cannot be decoded.
    Malformed,
    /// An API key or version that is not served (rule 2).
    UnknownRequest,
    /// An answer was not taken in time.
    SlowReader,
    /// A Produce without acknowledgement failed: closing is the only way to tell (rule 7).
    FailedWithoutAcks,
    /// An introduction that was not accepted.
    IntroductionRefused,
    /// What only brokers say, from somebody who is not introduced as the one it speaks for.
    NotIntroduced,
    /// It is not known whether this broker still leads what was to be read: who asks is to look elsewhere.
    Unconfirmed,
    /// The socket failed.
    Io,
}

impl CloseReason {
    /// All reasons, for metrics.
    pub const ALL: [Self; 14] = [
        Self::Client,
        Self::Idle,
        Self::Stopping,
        Self::TooManyConnections,
        Self::BadSize,
        Self::Truncated,
        Self::Malformed,
        Self::UnknownRequest,
        Self::SlowReader,
        Self::FailedWithoutAcks,
        Self::IntroductionRefused,
        Self::NotIntroduced,
        Self::Unconfirmed,
        Self::Io,
    ];

    /// The label.
    pub fn name(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Idle => "idle",
            Self::Stopping => "stopping",
            Self::TooManyConnections => "too_many_connections",
            Self::BadSize => "bad_size",
            Self::Truncated => "truncated",
            Self::Malformed => "malformed",
            Self::UnknownRequest => "unknown_request",
            Self::SlowReader => "slow_reader",
            Self::FailedWithoutAcks => "failed_without_acks",
            Self::IntroductionRefused => "introduction_refused",
            Self::NotIntroduced => "not_introduced",
            Self::Unconfirmed => "unconfirmed",
            Self::Io => "io",
        }
    }

    /// Whether an operator should hear of it.
    pub fn is_suspicious(self) -> bool {
        !matches!(self, Self::Client | Self::Idle | Self::Stopping | Self::Io)
    }
}
