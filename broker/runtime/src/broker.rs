// SPDX-License-Identifier: Apache-2.0
//! Starts one broker from its configuration, and stops it. Order of a start: sockets, folder, private listener, metadata
//! node, registration, logs, serving; so that a port in use or a foreign folder is found before anything is changed.
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use odradek_coordination::{FileLease, LeaseError};
use odradek_disk::Disk;
use odradek_metadata::{
    ControllerSettings, Endpoint, Image, RegisterBroker, RegisterBrokerError, SESSION_TIMEOUT_MS,
    SUPPORTED_FEATURE_LEVEL,
};
use odradek_model::BrokerId;
use odradek_server::broker::BrokerParts;
use odradek_server::clock::{Clock, Random};
use odradek_server::controller::{self, Ask, ControllerHandle, ControllerStatus, QuorumNetwork};
use odradek_server::dispatch::Dispatcher;
use odradek_server::failure::Failure;
use odradek_server::folder::ReplicaFolder;
use odradek_server::health::{Health, Phase};
use odradek_server::http::{self, MetricsSource, StopAdviser};
use odradek_server::metrics::{Metrics, Snapshot};
use odradek_server::net::budget::Budget;
use odradek_server::net::connection::ConnectionLimits;
use odradek_server::net::listener::{ConnectionCount, Listener};
use odradek_server::peers::{ClusterSecret, Identity, Peers, PeersSettings};
use odradek_server::private::PRIVATE_LISTENER;
use odradek_server::replica::Replica;
use odradek_server::stop_advice::StopAdvice;
use odradek_wire::ApiKey;
use odradek_wire::private::PrivateApiKey;
use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::{Config, ConfigError, Coordination, ListenerConfig};
use crate::coordination::{self, KubernetesLeases, LocalLease};
use crate::lifecycle::task::{self as lifecycle, LifecycleHandle, LifecycleParts};
use crate::machine::{Machine, Sockets};
use crate::memory::{self, MemoryPlan};
use crate::metadata_node::{self, MetadataNode, NodeIdentity, NodeParts, NodeSettings, QuorumLog};
use crate::recovery_order::RecoveryOrder;
use crate::storage::{Storage, StorageError, Wanted};
use crate::system::{SystemClock, SystemRandom, boot_id, pod_uid};
use crate::threads::raise_open_files;
use crate::view::View;

/// How long requests in flight may take to finish when the broker stops. Connections end after 10 s themselves.
const DRAIN_TIME: Duration = Duration::from_secs(15);

/// Why a broker did not start. One line each; nothing was changed in the folder by those that name it.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A port is taken, or an address is not this machine's.
    #[error("cannot listen on {address} ({name}): {error}")]
    Listen {
        /// The listener.
        name: String,
        /// Where.
        address: SocketAddr,
        /// Why not.
        error: io::Error,
    },
    /// The data folder.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The controller did not take the broker.
    #[error("the broker was not registered: {0}")]
    Register(#[from] RegisterBrokerError),
    /// The broker could not go on.
    #[error(transparent)]
    Failed(#[from] RunError),
    /// A thread could not be started, or one ended early.
    #[error("{0}")]
    Thread(String),
}

/// Why a running broker has to stop.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct RunError(pub String);

/// Starts brokers.
#[derive(Debug)]
pub struct Broker;

/// A broker that serves.
#[derive(Debug)]
pub struct RunningBroker {
    broker: Arc<odradek_server::broker::Broker>,
    /// Its locks are held as long as this is there.
    storage: Storage,
    kubernetes: Option<Arc<KubernetesLeases>>,
    lifecycle: LifecycleHandle,
    advertised: Vec<Endpoint>,
    addresses: Vec<(String, SocketAddr)>,
    http: Option<SocketAddr>,
    health: Arc<Health>,
    stopping: CancellationToken,
    stopped: CancellationToken,
    connections: TaskTracker,
    private_connections: TaskTracker,
    tasks: TaskTracker,
    failure: Arc<Failure>,
}

impl Broker {
    /// Starts a broker in a process of its own; returns when it serves.
    pub async fn start(config: Config) -> Result<RunningBroker, StartError> {
        start(config, Machine::default()).await
    }

    /// Starts a broker that shares its process with others; returns when it serves.
    pub async fn start_on(machine: Machine, config: Config) -> Result<RunningBroker, StartError> {
        start(config, machine).await
    }
}

async fn start(config: Config, machine: Machine) -> Result<RunningBroker, StartError> {
    let open_files = raise_open_files();
    let Machine { disk, gate, sockets: mut bound } = machine;
    let mut sockets = Vec::new();
    for listener in &config.listeners {
        sockets.push((listener.clone(), listen(&mut bound, &listener.name, listener.bind).await?));
    }
    let http_socket = match config.http {
        Some(address) => Some(listen(&mut bound, "http", address).await?),
        None => None,
    };

    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let random: Arc<dyn Random> = Arc::new(SystemRandom);
    let health = Arc::new(Health::default());
    let failure = Arc::new(Failure::default());
    let (stopping, stopped) = (CancellationToken::new(), CancellationToken::new());
    let id = BrokerId(config.broker_id);

    let local_lease = LocalLease::of(&config, &disk);
    let (pod_uid, file) = (pod_uid(), local_lease.as_ref().and_then(LocalLease::file));
    let Opened { storage, log, folder, order, restarted } =
        open(&config, &disk, &random, file, pod_uid.as_deref()).await?;
    let identity = storage.folder.identity().clone();
    let kubernetes = match &config.coordination {
        Coordination::Kubernetes { cluster_name } => {
            let pod_uid = pod_uid.ok_or_else(|| {
                let reason = "POD_UID is not set, by which a restarted container is known".to_owned();
                StorageError::from(LeaseError::Unavailable(reason))
            })?;
            let leases = KubernetesLeases::of(cluster_name, &identity.cluster_id, storage.holder(), &pod_uid);
            let leases = leases.map_err(StorageError::from)?;
            leases.take_broker_lease(restarted, &health).await?;
            Some(leases)
        }
        _ => None,
    };

    let addresses: Vec<_> = sockets.iter().map(|(l, socket)| (l.name.clone(), local(socket, l.bind))).collect();
    let advertised = advertised(&sockets);
    let plan = MemoryPlan::from_limit(config.memory_limit_bytes.unwrap_or_else(memory::limit));
    let queued = config.settings.number("queued.max.request.bytes");
    let requests = Budget::new(usize::try_from(queued).unwrap_or(plan.requests));
    let reads = Budget::new(plan.reads);
    let public = ApiKey::ALL.iter().map(|key| (key.code(), key.name()));
    let private = PrivateApiKey::ALL.iter().map(|key| (key.code(), key.name()));
    let metrics = Arc::new(Metrics::new(public.chain(private)));
    let (handle, inbox) = controller::channel();
    let clean_shutdown_of = folder.clean_shutdown_of();
    let peers = peers(&config, &disk, &storage, &handle, &random)?;
    let broker = odradek_server::broker::Broker::new(BrokerParts {
        id,
        cluster_id: identity.cluster_id.clone(),
        settings: config.settings.clone(),
        clock: Arc::clone(&clock),
        random: Arc::clone(&random),
        metrics: Arc::clone(&metrics),
        controller: handle.clone(),
        peers: Arc::clone(&peers),
        reads: Arc::clone(&reads),
        folder: Arc::new(folder),
        runtime: tokio::runtime::Handle::current(),
        health: Arc::clone(&health),
        failure: Arc::clone(&failure),
    });

    let tasks = TaskTracker::new();
    let http = http_socket.as_ref().and_then(|socket| socket.local_addr().ok());
    if let Some(socket) = http_socket {
        let source = Arc::new(Source { broker: Arc::clone(&broker), requests: Arc::clone(&requests) });
        let adviser = Arc::clone(&source);
        tasks.spawn(http::serve(socket, Arc::clone(&health), source, adviser, stopped.clone()));
    }

    // Brokers that wait for this one must be able to talk to it, so the private listener is open before anything waits
    // for them.
    let listeners = Listeners::new(&config, open_files, &requests, &metrics, &broker);
    let (connections, private_connections) = (TaskTracker::new(), TaskTracker::new());
    let (private, clients): (Vec<_>, Vec<_>) = sockets.into_iter().partition(|(l, _)| l.name == PRIVATE_LISTENER);
    for (listener, socket) in private {
        listeners.open(&listener, socket, &private_connections, &stopped);
    }

    let network: Arc<dyn QuorumNetwork> = peers;
    let (images_sender, images) = watch::channel(Arc::new(Image::empty()));
    let mut node = MetadataNode::new(
        NodeIdentity {
            cluster_id: identity.cluster_id.clone(),
            holder: storage.holder(),
            voter: storage.voter(),
            brokers: coordination::known_brokers(&config),
        },
        NodeSettings {
            quorum: coordination::quorum_settings(&config),
            controller: controller_settings(&config),
            session_timeout_ms: SESSION_TIMEOUT_MS,
        },
        log,
        random.number(),
    )
    .map_err(StorageError::from)?;
    if let Some(order) = &order {
        node.recover_without(order.voters.clone());
    }
    let lease = match (&kubernetes, &local_lease) {
        (Some(leases), _) => {
            tasks.spawn(Arc::clone(leases).hold(Arc::clone(&failure), stopped.clone()));
            let controller = Arc::clone(&leases.controller);
            tasks.spawn(metadata_node::lease::watch(controller, handle.clone(), stopped.clone()));
            leases.calls()
        }
        (None, Some(lease)) => lease.calls(identity.cluster_id.clone(), Arc::clone(&random)),
        (None, None) => unreachable!("a Lease is local or on Kubernetes"),
    };
    let parts = NodeParts {
        node,
        inbox,
        handle,
        lease,
        network,
        clock: Arc::clone(&clock),
        random: Arc::clone(&random),
        images: images_sender,
        failure: Arc::clone(&failure),
        order,
        gate,
    };
    tasks.spawn(end_of_tasks(EndsNode(broker.controller.clone()), stopped.clone()));
    metadata_node::spawn(parts).map_err(|error| StartError::Thread(format!("metadata thread: {error}")))?;

    let registration = RegisterBroker {
        broker_id: id,
        cluster_id: identity.cluster_id,
        incarnation: storage.incarnation,
        directory_id: identity.directory_id,
        endpoints: advertised.clone(),
        rack: config.rack.clone(),
        boot_id: boot_id(),
        clean_shutdown_of,
        damaged_logs: Vec::new(),
        supported_feature_level: SUPPORTED_FEATURE_LEVEL,
    };
    let mut lifecycle = lifecycle::spawn(LifecycleParts {
        broker: Arc::clone(&broker),
        registration,
        images,
        failure: Arc::clone(&failure),
        tasks: tasks.clone(),
        stopped: stopped.clone(),
    });
    let serving = tokio::select! {
        serving = &mut lifecycle.serving => serving.unwrap_or_else(|_| Err(StartError::Thread("the broker's life ended".into()))),
        reason = failure.wait() => Err(RunError(reason).into()),
    };
    if let Err(error) = serving {
        stopping.cancel();
        stopped.cancel();
        broker.controller.stop(false).await;
        return Err(error);
    }
    for (listener, socket) in clients {
        listeners.open(&listener, socket, &connections, &stopping);
    }
    broker.spawn_tasks(&tasks, &stopping);
    health.enter(Phase::Serving);
    tracing::info!(broker = %id, cluster = %broker.cluster_id, listeners = ?addresses, "serving");
    Ok(RunningBroker {
        broker,
        storage,
        kubernetes,
        lifecycle,
        advertised,
        addresses,
        http,
        health,
        stopping,
        stopped,
        connections,
        private_connections,
        tasks,
        failure,
    })
}

/// Tells the node's thread that the broker's tasks are gone, which it would not notice otherwise while it sleeps. After an
/// orderly end it is gone itself.
struct EndsNode(ControllerHandle);

impl Drop for EndsNode {
    fn drop(&mut self) {
        let (done, _) = oneshot::channel();
        self.0.outcome(Ask::Stop { hand_over: false, done });
    }
}

/// Does nothing until the broker has stopped, or is dropped with the other tasks when it is killed.
async fn end_of_tasks(node: EndsNode, stopped: CancellationToken) {
    stopped.cancelled().await;
    drop(node);
}

struct Opened {
    storage: Storage,
    log: QuorumLog,
    folder: ReplicaFolder,
    order: Option<RecoveryOrder>,
    /// Whether the last process was in this pod.
    restarted: bool,
}

/// Opens the data folder, on a thread that may block.
async fn open(
    config: &Config,
    disk: &Arc<dyn Disk>,
    random: &Arc<dyn Random>,
    lease: Option<&Arc<FileLease>>,
    pod_uid: Option<&str>,
) -> Result<Opened, StartError> {
    let (disk, random, config) = (Arc::clone(disk), Arc::clone(random), config.clone());
    let (lease, pod_uid) = (lease.cloned(), pod_uid.map(str::to_owned));
    let opened = blocking(move || {
        let wanted = Wanted {
            path: &config.data_folder,
            cluster_id: config.cluster_id.as_ref(),
            broker_id: BrokerId(config.broker_id),
            lease: lease.as_deref(),
            shared_lease_file: match &config.coordination {
                Coordination::File(path) => Some(path),
                _ => None,
            },
            pod_uid: pod_uid.as_deref(),
        };
        let (storage, log, restarted) = Storage::open(&disk, &wanted, random.as_ref())?;
        let order = RecoveryOrder::find(&disk, &config.data_folder)?;
        let mut folder = ReplicaFolder::open(disk, config.data_folder.clone())?;
        folder.set_kernel(&boot_id())?;
        Ok::<_, StorageError>(Opened { storage, log, folder, order, restarted })
    });
    Ok(opened.await??)
}

/// The way to the other brokers; without a secret nobody else is spoken with.
fn peers(
    config: &Config,
    disk: &Arc<dyn Disk>,
    storage: &Storage,
    node: &ControllerHandle,
    random: &Arc<dyn Random>,
) -> Result<Arc<Peers>, StartError> {
    let node = node.clone();
    let others = config.brokers.iter().filter(|broker| broker.id != config.broker_id);
    Ok(Peers::new(PeersSettings {
        identity: Identity {
            cluster_id: storage.folder.identity().cluster_id.clone(),
            holder: storage.holder(),
            directory_id: storage.folder.identity().directory_id,
            secret: cluster_secret(config, disk.as_ref())?,
        },
        addresses: others.map(|broker| (BrokerId(broker.id), (broker.host.clone(), broker.port))).collect(),
        random: Arc::clone(random),
        runtime: tokio::runtime::Handle::current(),
        on_loss: Arc::new(move |broker| node.connection_lost(broker)),
    }))
}

/// Longest file with a secret: whoever puts more there means another file.
const LARGEST_SECRET: usize = 4096;

fn cluster_secret(config: &Config, disk: &dyn Disk) -> Result<Option<ClusterSecret>, StartError> {
    if let Some(secret) = &config.cluster_secret {
        return Ok(Some(secret.clone()));
    }
    let Some(path) = &config.cluster_secret_file else { return Ok(None) };
    let refuse = |problem: String| {
        let key = format!("clusterSecretFile {}", path.display());
        StartError::from(ConfigError::Value { key, problem })
    };
    let bytes = odradek_disk::read_small_file(disk, path, LARGEST_SECRET).map_err(|error| refuse(error.to_string()))?;
    let bytes = bytes.ok_or_else(|| refuse("no such file".to_owned()))?;
    // Editors end files with a line feed, which is no part of a secret.
    ClusterSecret::new(bytes.trim_ascii_end()).map(Some).map_err(|error| refuse(error.to_string()))
}

#[allow(clippy::needless_update, reason = "test builds have a mistake to switch on besides")]
fn controller_settings(config: &Config) -> ControllerSettings {
    ControllerSettings {
        default_partitions: config.settings.number("num.partitions") as i32,
        default_replication_factor: config.settings.given_number("default.replication.factor").map(|n| n as i16),
        topic_defaults: config.settings.topic_defaults.clone(),
        ..ControllerSettings::default()
    }
}

fn advertised(sockets: &[(ListenerConfig, TcpListener)]) -> Vec<Endpoint> {
    let endpoints = sockets.iter().map(|(listener, socket)| {
        let own = local(socket, listener.bind);
        let (host, port) = listener.advertised.clone().unwrap_or_else(|| (own.ip().to_string(), own.port()));
        // Port 0 was asked for: the one that was given is told.
        let port = if port == 0 { own.port() } else { port };
        Endpoint { listener: listener.name.clone(), host, port, security_protocol: 0 }
    });
    endpoints.collect()
}

/// What all listeners of a broker share.
struct Listeners {
    service: Arc<Dispatcher>,
    limits: Arc<ConnectionLimits>,
    count: Arc<ConnectionCount>,
    metrics: Arc<Metrics>,
}

impl Listeners {
    fn new(
        config: &Config,
        open_files: u64,
        requests: &Arc<Budget>,
        metrics: &Arc<Metrics>,
        broker: &Arc<odradek_server::broker::Broker>,
    ) -> Self {
        let limits = Arc::new(ConnectionLimits {
            max_request_bytes: config.settings.number("socket.request.max.bytes") as usize,
            idle: config.settings.time("connections.max.idle.ms"),
            ..ConnectionLimits::new(Arc::clone(requests))
        });
        // Half of the open files are for connections, half for segments and their indexes.
        let most = (config.settings.number("max.connections") as u64).min(open_files / 2).max(1);
        let count = ConnectionCount::new(usize::try_from(most).unwrap_or(usize::MAX));
        let service = Arc::new(Dispatcher::new(Arc::clone(broker)));
        Self { service, limits, count, metrics: Arc::clone(metrics) }
    }

    fn open(&self, listener: &ListenerConfig, socket: TcpListener, tasks: &TaskTracker, stopping: &CancellationToken) {
        let listener = Listener {
            name: listener.name.as_str().into(),
            service: Arc::clone(&self.service),
            limits: Arc::clone(&self.limits),
            connections: Arc::clone(&self.count),
            observer: Arc::clone(&self.metrics) as _,
            tasks: tasks.clone(),
            stopping: stopping.clone(),
        };
        tasks.spawn(listener.run(socket));
    }
}

impl RunningBroker {
    /// Where a listener listens.
    pub fn address(&self, listener: &str) -> Option<SocketAddr> {
        self.addresses.iter().find(|(name, _)| name == listener).map(|(_, address)| *address)
    }

    /// `host:port` that clients of a listener are told.
    pub fn advertised(&self, listener: &str) -> Option<String> {
        let endpoint = self.advertised.iter().find(|endpoint| endpoint.listener == listener)?;
        let host = if endpoint.host.contains(':') { format!("[{}]", endpoint.host) } else { endpoint.host.clone() };
        Some(format!("{host}:{}", endpoint.port))
    }

    /// Where probes and metrics are.
    pub fn http(&self) -> Option<SocketAddr> {
        self.http
    }

    /// What the broker knows of the controller, and whether it is it.
    pub fn controller(&self) -> ControllerStatus {
        self.broker.controller.status().borrow().clone()
    }

    /// What it knows of the cluster.
    pub fn view(&self) -> View {
        View::of(&self.broker.image(), &self.broker.controller.status().borrow())
    }

    /// Waits until the broker cannot go on. What it gives back does not borrow the broker.
    pub fn failed(&self) -> impl Future<Output = RunError> + Send + use<> {
        let failure = Arc::clone(&self.failure);
        async move { RunError(failure.wait().await) }
    }

    /// Stops cleanly: what it leads goes to others, requests in flight finish, no new connections come, the controller
    /// Lease is given back, logs are flushed and marked clean.
    pub async fn shutdown(self) {
        self.stop(true).await;
    }

    /// As [`shutdown`](Self::shutdown), but hands nothing over: for a cluster of which all brokers stop at once, the last of
    /// which would wait in vain for the others.
    pub async fn shutdown_with_all(self) {
        self.stop(false).await;
    }

    async fn stop(self, hand_over: bool) {
        self.health.enter(Phase::Stopping);
        if hand_over && self.failure.reason().is_none() {
            self.lifecycle.stop().await;
        }
        self.stopping.cancel();
        // Members that wait for a rebalance are sent away, else they would hold their connections open.
        let broker = Arc::clone(&self.broker);
        let _ = blocking(move || broker.coordinators.unload()).await;
        self.connections.close();
        if tokio::time::timeout(DRAIN_TIME, self.connections.wait()).await.is_err() {
            tracing::warn!("some connections did not finish in time");
        }
        self.broker.controller.stop(hand_over).await;
        let clean = self.failure.reason().is_none();
        let broker = Arc::clone(&self.broker);
        let closed = blocking(move || {
            if clean {
                broker.close();
            }
        })
        .await;
        if let Err(error) = closed {
            tracing::error!(%error, "stopping");
        }
        if let Some(leases) = &self.kubernetes {
            leases.release().await;
        }
        self.end().await;
        tracing::info!("stopped");
    }

    /// Ends as if the process had been killed, as far as that is possible inside of one: nothing is handed over, flushed
    /// or marked. For tests of what the others do then.
    pub async fn kill(self) {
        self.stopping.cancel();
        self.broker.controller.stop(false).await;
        self.end().await;
    }

    async fn end(self) {
        self.stopped.cancel();
        self.private_connections.close();
        self.tasks.close();
        let private = self.private_connections.wait();
        let _ = tokio::time::timeout(Duration::from_secs(1), async { tokio::join!(private, self.tasks.wait()) }).await;
        // The locks of the folder and of the id are given back when all is over.
        drop(self.storage);
    }
}

async fn listen(sockets: &mut Sockets, name: &str, address: SocketAddr) -> Result<TcpListener, StartError> {
    sockets.take(name, address).await.map_err(|error| StartError::Listen { name: name.to_owned(), address, error })
}

fn local(socket: &TcpListener, bind: SocketAddr) -> SocketAddr {
    socket.local_addr().unwrap_or(bind)
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, StartError> {
    tokio::task::spawn_blocking(work).await.map_err(|error| StartError::Thread(error.to_string()))
}

/// Gives the HTTP port what is read off the broker, or asked through it.
struct Source {
    broker: Arc<odradek_server::broker::Broker>,
    requests: Arc<Budget>,
}

impl MetricsSource for Source {
    fn render(&self) -> String {
        let broker = &self.broker;
        let controller = broker.controller.status().borrow().clone();
        let replicas = broker.replicas.all();
        let log_sizes = replicas.iter().map(|r| (r.topic.clone(), r.index, r.size_bytes())).collect();
        let count = |is: fn(&Replica) -> bool| replicas.iter().filter(|replica| is(replica)).count() as i64;
        let sessions = broker.fetch_sessions.counts();
        let snapshot = Snapshot {
            log_sizes,
            offline_partitions: broker.image().leaderless_partitions().count() as i64,
            led: count(Replica::leads),
            under_replicated: count(Replica::is_under_replicated),
            under_min_in_sync: count(Replica::is_under_min_in_sync),
            is_controller: controller.leads,
            controller_epoch: controller.epoch,
            lease_age_seconds: controller.lease_answered_at.map(|at| at.elapsed().as_secs_f64()),
            lease_is_fallen: controller.lease_is_fallen,
            offline_replicas: broker.replicas.offline() as i64,
            fetch_sessions: (sessions.sessions as u64, sessions.partitions as u64),
            request_budget: (self.requests.used() as u64, self.requests.total() as u64),
            read_budget: (broker.reads.used() as u64, broker.reads.total() as u64),
        };
        broker.metrics.render(&snapshot)
    }
}

impl StopAdviser for Source {
    fn may_stop(&self, broker: Option<i32>) -> Pin<Box<dyn Future<Output = StopAdvice> + Send + '_>> {
        Box::pin(self.broker.may_stop(broker.map(BrokerId)))
    }
}
