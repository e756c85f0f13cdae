// SPDX-License-Identifier: Apache-2.0
//! Accepts connections and gives each its task. It must not know what is served.
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::connection::{ConnectionLimits, serve};
use super::warnings::WarningGate;
use super::{CloseReason, Peer, Service};

/// Watches connections come and go: the metrics.
pub trait ConnectionObserver: Send + Sync + 'static {
    /// A connection was accepted on the listener.
    fn opened(&self, listener: &str);
    /// It ended.
    fn closed(&self, listener: &str, reason: CloseReason);
}

/// Counts connections over all listeners against max.connections.
#[derive(Debug)]
pub struct ConnectionCount {
    open: AtomicUsize,
    max: usize,
}

impl ConnectionCount {
    /// At most `max` connections.
    pub fn new(max: usize) -> Arc<Self> {
        Arc::new(Self { open: AtomicUsize::new(0), max })
    }

    /// Open connections now.
    pub fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    fn enter(self: &Arc<Self>) -> Option<Entered> {
        let before = self.open.fetch_add(1, Ordering::Relaxed);
        let entered = Entered(Arc::clone(self));
        (before < self.max).then_some(entered)
    }
}

struct Entered(Arc<ConnectionCount>);

impl Drop for Entered {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// One listening socket and what its connections share.
pub struct Listener<S> {
    /// Its name in the configuration.
    pub name: Arc<str>,
    /// What answers requests.
    pub service: Arc<S>,
    /// Limits of each connection.
    pub limits: Arc<ConnectionLimits>,
    /// The count it shares with the other listeners.
    pub connections: Arc<ConnectionCount>,
    /// Metrics.
    pub observer: Arc<dyn ConnectionObserver>,
    /// Tasks of connections, awaited when stopping.
    pub tasks: TaskTracker,
    /// Cancelled when the broker stops.
    pub stopping: CancellationToken,
}

/// Pause after a failed accept: descriptors have run out, usually, and come back as connections close.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

impl<S: Service> Listener<S> {
    /// Accepts until the broker stops.
    pub async fn run(self, socket: TcpListener) {
        let this = Arc::new(self);
        let warnings = Arc::new(WarningGate::default());
        loop {
            let accepted = tokio::select! {
                accepted = socket.accept() => accepted,
                () = this.stopping.cancelled() => return,
            };
            let (stream, address) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    if is_of_the_connection(&error) {
                        continue;
                    }
                    tracing::warn!(listener = %this.name, %error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            this.observer.opened(&this.name);
            let Some(entered) = this.connections.enter() else {
                this.end(&warnings, address, CloseReason::TooManyConnections);
                continue;
            };
            let listener = Arc::clone(&this);
            let warnings = Arc::clone(&warnings);
            this.tasks.spawn(async move {
                let peer = Peer::new(Arc::clone(&listener.name), address, listener.stopping.clone());
                let reason = serve(stream, &*listener.service, &listener.limits, &peer).await;
                listener.end(&warnings, address, reason);
                drop(entered);
            });
        }
    }

    fn end(&self, warnings: &WarningGate, address: std::net::SocketAddr, reason: CloseReason) {
        self.observer.closed(&self.name, reason);
        if !reason.is_suspicious() {
            tracing::debug!(listener = %self.name, %address, reason = reason.name(), "connection closed");
        } else if let Some(left_out) = warnings.admit() {
            tracing::warn!(
                listener = %self.name, %address, reason = reason.name(), left_out,
                "connection closed by the broker"
            );
        }
    }
}

fn is_of_the_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset
    )
}
