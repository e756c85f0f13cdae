// SPDX-License-Identifier: Apache-2.0
//! Brokers on real sockets, each with a private listener and one for clients, and a controller that a test plays.
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use odradek_coordination::Holder;
use odradek_model::{BrokerId, ClusterId, DirectoryId};
use odradek_server::broker::Broker;
use odradek_server::controller::{Ask, ControllerInbox, ControllerStatus, Inbox, channel};
use odradek_server::dispatch::Dispatcher;
use odradek_server::net::budget::Budget;
use odradek_server::net::connection::ConnectionLimits;
use odradek_server::net::listener::{ConnectionCount, Listener};
use odradek_server::peers::{ClusterSecret, Identity, Peers, PeersSettings};
use odradek_wire::client::{ClientOptions, Connection};
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use super::{Counter, Folder, SetClock};

pub(crate) const SECRET: &[u8] = b"the secret of this cluster";
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);

pub(crate) fn identity(id: i32, cluster: &str, secret: &[u8]) -> Identity {
    Identity {
        cluster_id: ClusterId::new(cluster).unwrap(),
        holder: Holder { broker_id: BrokerId(id), incarnation: format!("process-{id}") },
        directory_id: DirectoryId(Uuid::from_u128(id as u128)),
        secret: Some(ClusterSecret::new(secret).unwrap()),
    }
}

/// Connections of a broker with this identity that tell of their losses.
pub(crate) fn peers(identity: Identity) -> (Arc<Peers>, mpsc::Receiver<BrokerId>) {
    let (lost, losses) = mpsc::channel();
    let settings = PeersSettings {
        identity,
        addresses: BTreeMap::new(),
        random: Arc::new(Counter::starting_at(1 << 20)),
        runtime: Handle::current(),
        on_loss: Arc::new(move |broker| lost.send(broker).unwrap_or_default()),
    };
    (Peers::new(settings), losses)
}

/// A broker with a private listener and one for clients.
pub(crate) struct Member {
    pub(crate) broker: Arc<Broker>,
    pub(crate) inbox: Option<ControllerInbox>,
    pub(crate) private: SocketAddr,
    pub(crate) plain: SocketAddr,
    pub(crate) requests: Arc<Budget>,
    pub(crate) stopping: CancellationToken,
    pub(crate) tasks: TaskTracker,
}

impl Member {
    pub(crate) async fn start(id: i32) -> Self {
        let (handle, inbox) = channel();
        let (peers, _) = peers(identity(id, "test", SECRET));
        let broker = Folder::new().broker_with(id, SetClock::new(), handle, peers);
        let (requests, stopping, tasks) = (Budget::new(8 << 20), CancellationToken::new(), TaskTracker::new());
        let mut addresses = Vec::new();
        for name in ["private", "plain"] {
            let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
            addresses.push(socket.local_addr().unwrap());
            let listener = Listener {
                name: name.into(),
                service: Arc::new(Dispatcher::new(Arc::clone(&broker))),
                limits: Arc::new(ConnectionLimits::new(Arc::clone(&requests))),
                connections: ConnectionCount::new(100),
                observer: Arc::clone(&broker.metrics) as _,
                tasks: tasks.clone(),
                stopping: stopping.clone(),
            };
            tasks.spawn(listener.run(socket));
        }
        let (private, plain) = (addresses[0], addresses[1]);
        Self { broker, inbox: Some(inbox), private, plain, requests, stopping, tasks }
    }

    pub(crate) fn knows(&self, others: &[&Self]) {
        self.broker.peers.set_addresses(others.iter().map(|other| other.entry()).collect());
    }

    pub(crate) fn entry(&self) -> (BrokerId, (String, u16)) {
        (self.broker.id, (self.private.ip().to_string(), self.private.port()))
    }

    /// Answers what this member's node is asked, on a thread as the real one.
    pub(crate) fn controls(&mut self, status: ControllerStatus, mut answer: impl FnMut(Ask) + Send + 'static) {
        let inbox = self.inbox.take().unwrap();
        inbox.show(status);
        std::thread::spawn(move || {
            loop {
                match inbox.next(PATIENCE) {
                    Inbox::Ask(ask) => answer(ask),
                    Inbox::Nothing => {}
                    Inbox::Closed => return,
                }
            }
        });
    }
}

pub(crate) async fn connect(address: SocketAddr) -> Connection {
    Connection::connect(address, ClientOptions::default()).await.unwrap()
}

/// Waits until a condition holds.
pub(crate) async fn until(what: &str, condition: impl Fn() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < PATIENCE, "{what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
