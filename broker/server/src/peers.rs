// SPDX-License-Identifier: Apache-2.0
//! Connections to the other brokers: opened when needed, introduced, and opened again when they fail.
//!
//! Each (broker, lane) has a connection of its own, so that what is slow on one does not delay another: a heartbeat
//! never stands behind a fetch of 10 MiB. On a lane one request is under way at a time; callers wait in their order and
//! within their deadlines. Messages of the quorum are not answered and go out one behind the other (`quorum_lane`).
//!
//! It must not know what is asked, nor who is the controller: `controller_client` and the fetchers do.
mod controller_client;
mod lane;
mod losses;
mod pulse;
mod quorum_lane;

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, Weak};
use std::time::Duration;

use odradek_coordination::Holder;
use odradek_coordination::quorum::Message;
use odradek_model::{BrokerId, ClusterId, DirectoryId};
use odradek_wire::client::ClientError;
use odradek_wire::{ErrorCode, frame};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::time::{Instant, timeout, timeout_at};

pub use odradek_wire::private::PeerRequest;

use crate::clock::Random;
use crate::controller::QuorumNetwork;
use crate::net::warnings::WarningGate;
pub use crate::private::authentication::{ClusterSecret, ClusterSecretError, Identity};
pub use crate::private::commands::Impossible;
pub use controller_client::{ControllerClient, ControllerClientError, Forwarded};
use lane::{Address, LaneConnection};
use losses::Losses;
use pulse::Pulses;
use quorum_lane::Outbox;

/// What travels on a connection of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Lane {
    /// Messages of the metadata quorum.
    Quorum,
    /// Heartbeats to the controller.
    Heartbeat,
    /// A broker's other requests to the controller.
    Control,
    /// A leader's questions whether it still leads.
    Leadership,
    /// Whether the other process lives.
    Pulse,
    /// An administrator's questions, which delay nothing of the brokers' own.
    Question,
    /// Clients' requests that the controller answers.
    Forwarding(u8),
    /// Fetches of replicas that are in sync or nearly so, and what else followers ask leaders.
    Replication(u8),
    /// Fetches of replicas that are being added and are far behind.
    Reassignment(u8),
}

impl Lane {
    /// Largest response taken in, in bytes. A Fetch answer has what a leader gives at most (`fetch.max.bytes`, 55 MiB)
    /// or one batch, which came in one request; the others are as bounded as the requests that they answer.
    fn max_response_size(self) -> usize {
        match self {
            Self::Replication(_) | Self::Reassignment(_) => frame::MAX_REQUEST_SIZE + (56 << 20),
            Self::Quorum
            | Self::Heartbeat
            | Self::Control
            | Self::Leadership
            | Self::Pulse
            | Self::Question
            | Self::Forwarding(_) => frame::MAX_REQUEST_SIZE,
        }
    }
}

/// Why another broker gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum PeerError {
    /// Nobody has said where the broker is.
    #[error("no address of broker {0} is known")]
    NoAddress(BrokerId),
    /// This broker cannot introduce itself.
    #[error("this broker has no cluster secret")]
    NoSecret,
    /// No connection could be opened, or it broke before the request was sent.
    #[error("cannot connect: {0}")]
    Connect(#[source] ClientError),
    /// The other broker did not accept the introduction.
    #[error("broker {broker} refuses this broker: {code}: {message}")]
    Refused {
        /// The other.
        broker: BrokerId,
        /// Its reason.
        code: ErrorCode,
        /// Its reason in words.
        message: String,
    },
    /// Whoever answers there does not know the cluster secret.
    #[error("who answers at the address of broker {0} does not know the cluster secret")]
    Impostor(BrokerId),
    /// The call failed after its first byte may have been sent.
    #[error(transparent)]
    Call(ClientError),
    /// The deadline passed.
    #[error("no answer within the deadline")]
    TimedOut {
        /// Whether the request may have arrived.
        may_have_arrived: bool,
    },
}

impl PeerError {
    /// Whether the other broker may have received the request, and carried it out.
    pub fn may_have_arrived(&self) -> bool {
        match self {
            Self::Call(error) => !matches!(error, ClientError::NoCommonVersion { .. } | ClientError::Encode(_)),
            Self::TimedOut { may_have_arrived } => *may_have_arrived,
            Self::NoAddress(_) | Self::NoSecret | Self::Connect(_) | Self::Refused { .. } | Self::Impostor(_) => false,
        }
    }
}

/// Told of a broker to or from which a connection was refused or reset. Must not block.
pub type OnLoss = Arc<dyn Fn(BrokerId) + Send + Sync>;

/// What connections to other brokers need.
pub struct PeersSettings {
    /// Who this broker is.
    pub identity: Identity,
    /// Where other brokers' private listeners are by configuration. It goes before what the metadata says.
    pub addresses: BTreeMap<BrokerId, (String, u16)>,
    /// For challenges.
    pub random: Arc<dyn Random>,
    /// Where connections live.
    pub runtime: Handle,
    /// See the type.
    pub on_loss: OnLoss,
}

/// The way to the other brokers.
pub struct Peers {
    identity: Identity,
    configured: BTreeMap<BrokerId, Address>,
    registered: RwLock<BTreeMap<BrokerId, Address>>,
    random: Arc<dyn Random>,
    runtime: Handle,
    on_loss: OnLoss,
    losses: Losses,
    pulses: Pulses,
    warnings: WarningGate,
    /// For tasks that must not keep it alive.
    this: Weak<Self>,
    /// Bounded by the brokers.
    outboxes: Mutex<HashMap<BrokerId, Arc<Outbox>>>,
    /// Bounded by the brokers and the lanes that callers have.
    lanes: Mutex<Lanes>,
}

type Lanes = HashMap<(BrokerId, Lane), Arc<tokio::sync::Mutex<LaneConnection>>>;

impl fmt::Debug for Peers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Peers").field("identity", &self.identity).finish_non_exhaustive()
    }
}

impl Peers {
    /// Without connections.
    pub fn new(settings: PeersSettings) -> Arc<Self> {
        Arc::new_cyclic(|this| Self {
            identity: settings.identity,
            configured: settings.addresses,
            registered: RwLock::default(),
            random: settings.random,
            runtime: settings.runtime,
            on_loss: settings.on_loss,
            losses: Losses::default(),
            pulses: Pulses::default(),
            warnings: WarningGate::default(),
            this: Weak::clone(this),
            outboxes: Mutex::default(),
            lanes: Mutex::default(),
        })
    }

    /// Those of a broker that has no others.
    pub fn alone(cluster_id: ClusterId, broker_id: BrokerId, random: Arc<dyn Random>, runtime: Handle) -> Arc<Self> {
        let holder = Holder { broker_id, incarnation: random.uuid().to_string() };
        let directory_id = DirectoryId(random.uuid());
        let identity = Identity { cluster_id, holder, directory_id, secret: None };
        Self::new(PeersSettings { identity, addresses: BTreeMap::new(), random, runtime, on_loss: Arc::new(|_| {}) })
    }

    /// Who this broker is to others.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Where brokers' private listeners are by their registrations. Connections to other addresses end with their
    /// present request.
    pub fn set_addresses(&self, addresses: BTreeMap<BrokerId, (String, u16)>) {
        *self.registered.write().unwrap_or_else(PoisonError::into_inner) = addresses;
    }

    /// Sends one request on the broker's lane and awaits the response, within the deadline. A failed connection is
    /// opened anew by the next call, after a short back-off.
    ///
    /// # Errors
    /// [`PeerError`]; [`PeerError::may_have_arrived`] says whether it is known that nothing came of it.
    pub async fn call<R: PeerRequest>(
        &self,
        to: BrokerId,
        lane: Lane,
        request: &R,
        deadline: Duration,
    ) -> Result<R::Response, PeerError> {
        let until = Instant::now() + deadline;
        let not_sent = PeerError::TimedOut { may_have_arrived: false };
        let connection = self.lane(to, lane);
        let Ok(mut connection) = timeout_at(until, connection.lock()).await else { return Err(not_sent) };
        let Ok(ready) = timeout_at(until, connection.ready(self, to)).await else { return Err(not_sent) };
        let left = until.saturating_duration_since(Instant::now());
        match ready?.call_peer(request, left, lane.max_response_size()).await {
            Ok(response) => Ok(response),
            Err(ClientError::TimedOut { .. }) => Err(PeerError::TimedOut { may_have_arrived: true }),
            Err(error) => {
                self.tell_if_lost(to, &error);
                Err(PeerError::Call(error))
            }
        }
    }

    /// Ends the connections to a broker that is gone for good, each after its present request.
    pub fn close(&self, broker: BrokerId) {
        self.losses.forget(broker);
        self.pulses.forget(broker);
        self.lock_lanes().retain(|(id, _), _| *id != broker);
        if let Some(outbox) = self.outboxes.lock().unwrap_or_else(PoisonError::into_inner).remove(&broker) {
            outbox.close();
        }
    }

    fn outbox(&self, to: BrokerId) -> Arc<Outbox> {
        let mut outboxes = self.outboxes.lock().unwrap_or_else(PoisonError::into_inner);
        let outbox = outboxes.entry(to).or_insert_with(|| {
            let outbox = Arc::<Outbox>::default();
            self.runtime.spawn(quorum_lane::run(Weak::clone(&self.this), to, Arc::clone(&outbox)));
            outbox
        });
        Arc::clone(outbox)
    }

    fn lane(&self, to: BrokerId, lane: Lane) -> Arc<tokio::sync::Mutex<LaneConnection>> {
        Arc::clone(self.lock_lanes().entry((to, lane)).or_default())
    }

    fn lock_lanes(&self) -> MutexGuard<'_, Lanes> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn address(&self, broker: BrokerId) -> Option<Address> {
        let registered = || self.registered.read().unwrap_or_else(PoisonError::into_inner).get(&broker).cloned();
        self.configured.get(&broker).cloned().or_else(registered)
    }

    fn random(&self) -> &dyn Random {
        self.random.as_ref()
    }

    fn warn_of_connection(&self, broker: BrokerId, error: &PeerError) {
        // What is wrong with secrets and addresses does not go away by itself.
        let is_lasting = matches!(error, PeerError::NoSecret | PeerError::Refused { .. } | PeerError::Impostor(_));
        if !is_lasting {
            tracing::debug!(%broker, %error, "no connection to a broker");
        } else if let Some(left_out) = self.warnings.admit() {
            tracing::warn!(%broker, %error, left_out, "no connection to a broker");
        }
    }

    fn tell_if_lost(&self, broker: BrokerId, error: &ClientError) {
        if lane::is_loss(error) {
            self.lost(broker);
        }
    }

    fn lost(&self, broker: BrokerId) {
        self.losses.lost(broker, Instant::now());
        (self.on_loss)(broker);
    }

    /// Brokers to which connections were refused or reset, for the first time after that moment, and when; none that was
    /// reached since.
    pub(crate) fn lost_since(&self, moment: Instant) -> Vec<(BrokerId, Instant)> {
        self.losses.since(moment)
    }

    /// Says that the cluster decided nothing about a lost broker for as long as anybody waits for it. Its losses are not
    /// told by [`Self::lost_since`] for a while.
    pub(crate) fn lost_in_vain(&self, broker: BrokerId) {
        self.losses.in_vain(broker, Instant::now());
    }

    /// Changes when a broker is lost or reached again.
    pub(crate) fn losses(&self) -> watch::Receiver<impl Sized + use<>> {
        self.losses.changes()
    }
}

/// Opening a connection as a proof that a broker's process lives: a few round trips, so 500 ms are long within a cluster
/// and short against a session.
const PROBE_TIME: Duration = Duration::from_millis(500);

impl QuorumNetwork for Peers {
    fn send(&self, to: BrokerId, message: Message) {
        self.outbox(to).push(&message);
    }

    fn probe(&self, broker: BrokerId, done: Box<dyn FnOnce(bool) + Send>) {
        let peers = Weak::clone(&self.this);
        self.runtime.spawn(async move {
            let Some(peers) = peers.upgrade() else { return done(false) };
            let accepted = match peers.address(broker) {
                Some(address) => {
                    matches!(timeout(PROBE_TIME, lane::introduce(&peers, broker, &address)).await, Ok(Ok(_)))
                }
                None => false,
            };
            done(accepted);
        });
    }
}

impl Drop for Peers {
    fn drop(&mut self) {
        for outbox in self.outboxes.lock().unwrap_or_else(PoisonError::into_inner).values() {
            outbox.close();
        }
    }
}
