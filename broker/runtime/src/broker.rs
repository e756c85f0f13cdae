// SPDX-License-Identifier: Apache-2.0
//! Starts one broker from its configuration, and stops it. Order of a start: sockets, folder, metadata, logs, serving;
//! so that a port in use or a foreign folder is found before anything is changed.
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use odradek_disk::{Disk, RealDisk};
use odradek_metadata::{
    Command, Controller, ControllerSettings, Endpoint, RegisterBroker, RegisterBrokerError, Reply,
    SUPPORTED_FEATURE_LEVEL,
};
use odradek_model::BrokerId;
use odradek_server::broker::BrokerParts;
use odradek_server::clock::{Clock, Random};
use odradek_server::controller;
use odradek_server::dispatch::Dispatcher;
use odradek_server::failure::Failure;
use odradek_server::folder::ReplicaFolder;
use odradek_server::health::{Health, Phase};
use odradek_server::http::{self, MetricsSource};
use odradek_server::metrics::{Metrics, Snapshot};
use odradek_server::net::budget::Budget;
use odradek_server::net::connection::ConnectionLimits;
use odradek_server::net::listener::{ConnectionCount, Listener};
use odradek_server::peers::Peers;
use odradek_server::replica::Replica;
use odradek_wire::ApiKey;
use odradek_wire::private::PrivateApiKey;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::{Config, ConfigError};
use crate::memory::{self, MemoryPlan};
use crate::storage::{Storage, StorageError, Wanted};
use crate::system::{SystemClock, SystemRandom, boot_id};
use crate::threads::raise_open_files;

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
    /// The metadata could not be written.
    #[error("{0}")]
    Controller(#[from] odradek_metadata::ControllerError),
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
    storage: Storage,
    advertised: Vec<Endpoint>,
    addresses: Vec<(String, SocketAddr)>,
    http: Option<SocketAddr>,
    health: Arc<Health>,
    stopping: CancellationToken,
    stopped: CancellationToken,
    connections: TaskTracker,
    tasks: TaskTracker,
    failure: Arc<Failure>,
}

impl Broker {
    /// Starts a broker; returns when it serves.
    pub async fn start(config: Config) -> Result<RunningBroker, StartError> {
        start(config).await
    }
}

async fn start(config: Config) -> Result<RunningBroker, StartError> {
    let open_files = raise_open_files();
    let mut sockets = Vec::new();
    for listener in &config.listeners {
        sockets.push((listener, listen(&listener.name, listener.bind).await?));
    }
    let http_socket = match config.http {
        Some(address) => Some(listen("http", address).await?),
        None => None,
    };

    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let random: Arc<dyn Random> = Arc::new(SystemRandom);
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let health = Arc::new(Health::default());
    let failure = Arc::new(Failure::default());
    let (stopping, stopped) = (CancellationToken::new(), CancellationToken::new());
    let id = BrokerId(config.broker_id);

    let opened = {
        let (disk, random, config) = (Arc::clone(&disk), Arc::clone(&random), config.clone());
        let settings = ControllerSettings {
            default_partitions: config.settings.number("num.partitions") as i32,
            default_replication_factor: config.settings.given_number("default.replication.factor").map(|n| n as i16),
            topic_defaults: config.settings.topic_defaults.clone(),
        };
        blocking(move || {
            let cluster_id = config.cluster_id.as_ref();
            let wanted = Wanted { path: &config.data_folder, cluster_id, broker_id: id };
            let (storage, metadata) = Storage::open(&disk, &wanted, settings, random.as_ref())?;
            let folder = ReplicaFolder::open(disk, config.data_folder.clone())?;
            Ok::<_, StorageError>((storage, metadata, folder))
        })
        .await?
    };
    let (storage, mut metadata, folder) = opened?;

    let addresses: Vec<_> = sockets.iter().map(|(l, socket)| (l.name.clone(), local(socket, l.bind))).collect();
    let advertised: Vec<Endpoint> = sockets
        .iter()
        .map(|(listener, socket)| {
            let own = local(socket, listener.bind);
            let (host, port) = listener.advertised.clone().unwrap_or_else(|| (own.ip().to_string(), own.port()));
            // Port 0 was asked for: the one that was given is told.
            let port = if port == 0 { own.port() } else { port };
            Endpoint { listener: listener.name.clone(), host, port, security_protocol: 0 }
        })
        .collect();

    let plan = MemoryPlan::from_limit(config.memory_limit_bytes.unwrap_or_else(memory::limit));
    let queued = config.settings.number("queued.max.request.bytes");
    let requests = Budget::new(usize::try_from(queued).unwrap_or(plan.requests));
    let reads = Budget::new(plan.reads);
    let public = ApiKey::ALL.iter().map(|key| (key.code(), key.name()));
    let private = PrivateApiKey::ALL.iter().map(|key| (key.code(), key.name()));
    let metrics = Arc::new(Metrics::new(public.chain(private)));
    let (handle, inbox) = controller::channel();
    // Nothing leads to other brokers yet.
    let peers = Peers::alone(
        storage.folder.identity().cluster_id.clone(),
        id,
        Arc::clone(&random),
        tokio::runtime::Handle::current(),
    );
    let broker = odradek_server::broker::Broker::new(BrokerParts {
        id,
        cluster_id: storage.folder.identity().cluster_id.clone(),
        settings: config.settings.clone(),
        clock: Arc::clone(&clock),
        random: Arc::clone(&random),
        metrics: Arc::clone(&metrics),
        controller: handle,
        peers,
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
        tasks.spawn(http::serve(socket, Arc::clone(&health), source, stopped.clone()));
    }

    // Registration and recovery, on a thread that may block.
    let registration = RegisterBroker {
        broker_id: id,
        cluster_id: broker.cluster_id.clone(),
        incarnation: storage.incarnation,
        directory_id: storage.folder.identity().directory_id,
        endpoints: advertised.clone(),
        rack: config.rack.clone(),
        boot_id: boot_id(),
        clean_shutdown_of: None,
        damaged_logs: Vec::new(),
        supported_feature_level: SUPPORTED_FEATURE_LEVEL,
    };
    let recovering = Arc::clone(&broker);
    let now_ms = clock.now_ms();
    let metadata: Controller = blocking(move || {
        register(&mut metadata, registration, now_ms)?;
        recovering.recover(metadata.image()).map_err(StorageError::from)?;
        Ok::<_, StartError>(metadata)
    })
    .await??;
    spawn_controller(inbox, metadata, &broker, Arc::clone(&clock), Arc::clone(&failure))?;

    let limits = Arc::new(ConnectionLimits {
        max_request_bytes: config.settings.number("socket.request.max.bytes") as usize,
        idle: config.settings.time("connections.max.idle.ms"),
        ..ConnectionLimits::new(Arc::clone(&requests))
    });
    // Half of the open files are for connections, half for segments and their indexes.
    let most = (config.settings.number("max.connections") as u64).min(open_files / 2).max(1);
    let count = ConnectionCount::new(usize::try_from(most).unwrap_or(usize::MAX));
    let connections = TaskTracker::new();
    let service = Arc::new(Dispatcher::new(Arc::clone(&broker)));
    for (listener, socket) in sockets {
        let listener = Listener {
            name: listener.name.as_str().into(),
            service: Arc::clone(&service),
            limits: Arc::clone(&limits),
            connections: Arc::clone(&count),
            observer: Arc::clone(&metrics) as _,
            tasks: connections.clone(),
            stopping: stopping.clone(),
        };
        connections.spawn(listener.run(socket));
    }
    broker.spawn_tasks(&tasks, &stopping);
    health.enter(Phase::Serving);
    tracing::info!(broker = %id, cluster = %broker.cluster_id, listeners = ?addresses, "serving");
    Ok(RunningBroker {
        broker,
        storage,
        advertised,
        addresses,
        http,
        health,
        stopping,
        stopped,
        connections,
        tasks,
        failure,
    })
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

    /// Waits until the broker cannot go on.
    pub async fn failed(&self) -> RunError {
        RunError(self.failure.wait().await)
    }

    /// Stops cleanly: no new connections, requests in flight finish, logs are flushed and marked clean.
    pub async fn shutdown(self) {
        self.health.enter(Phase::Stopping);
        self.stopping.cancel();
        // Members that wait for a rebalance are sent away, else they would hold their connections open.
        let broker = Arc::clone(&self.broker);
        let _ = blocking(move || broker.coordinators.unload()).await;
        self.connections.close();
        if tokio::time::timeout(DRAIN_TIME, self.connections.wait()).await.is_err() {
            tracing::warn!("some connections did not finish in time");
        }
        self.broker.controller.stop(true).await;
        let clean = self.failure.reason().is_none();
        let broker = Arc::clone(&self.broker);
        let storage = self.storage;
        let closed = blocking(move || {
            if clean {
                broker.close();
                if let Err(error) = storage.release() {
                    tracing::warn!(%error, "the controller Lease was not released");
                }
            }
        })
        .await;
        if let Err(error) = closed {
            tracing::error!(%error, "stopping");
        }
        self.stopped.cancel();
        self.tasks.close();
        let _ = tokio::time::timeout(Duration::from_secs(1), self.tasks.wait()).await;
        tracing::info!("stopped");
    }
}

fn register(metadata: &mut Controller, registration: RegisterBroker, now_ms: i64) -> Result<(), StartError> {
    match metadata.execute(&Command::RegisterBroker(registration), now_ms)? {
        Reply::RegisterBroker(outcome) => {
            outcome?;
            Ok(())
        }
        other => unreachable!("a registration was answered with {other:?}"),
    }
}

fn spawn_controller(
    inbox: controller::ControllerInbox,
    metadata: Controller,
    broker: &Arc<odradek_server::broker::Broker>,
    clock: Arc<dyn Clock>,
    failure: Arc<Failure>,
) -> Result<(), StartError> {
    // Weak: the broker holds the way to the controller, which must not hold the broker.
    let broker = Arc::downgrade(broker);
    let publish = move |image| {
        if let Some(broker) = broker.upgrade() {
            broker.publish(image);
        }
    };
    // Before anybody may ask who the controller is.
    let epoch = metadata.leading().unwrap_or_default();
    inbox.show(controller::ControllerStatus { epoch, leads: true, ..controller::ControllerStatus::default() });
    std::thread::Builder::new()
        .name("controller".to_owned())
        .spawn(move || run_controller(&inbox, metadata, clock.as_ref(), publish, |reason| failure.fail(reason)))
        .map(|_| ())
        .map_err(|error| StartError::Thread(format!("controller thread: {error}")))
}

/// Carries out commands until told to stop, or the log fails.
fn run_controller(
    inbox: &controller::ControllerInbox,
    mut metadata: Controller,
    clock: &dyn Clock,
    publish: impl Fn(Arc<odradek_metadata::Image>),
    failed: impl Fn(String),
) {
    use odradek_server::controller::{Ask, ControllerUnavailable, Decided, Inbox};
    let epoch = metadata.leading().unwrap_or_default();
    loop {
        match inbox.next(Duration::from_secs(60)) {
            Inbox::Ask(Ask::Decide(command, answer)) => {
                let before = metadata.image().end_offset();
                let outcome = metadata.execute(&command, clock.now_ms());
                let image = metadata.image();
                let end = image.end_offset();
                if end != before {
                    publish(image);
                }
                let not_controller = ControllerUnavailable::NotController { controller: None, epoch };
                let _ = match outcome {
                    Ok(reply) => answer.send(Ok(Decided { reply, epoch, end })),
                    Err(odradek_metadata::ControllerError::Log(error)) if error.is_fatal() => {
                        failed(format!("metadata log: {error}"));
                        return;
                    }
                    Err(_) => answer.send(Err(not_controller)),
                };
            }
            Inbox::Ask(Ask::Stop { done, .. }) => {
                drop(metadata);
                let _ = done.send(());
                return;
            }
            Inbox::Ask(_) | Inbox::Nothing => {}
            Inbox::Closed => return,
        }
    }
}

async fn listen(name: &str, address: SocketAddr) -> Result<TcpListener, StartError> {
    TcpListener::bind(address).await.map_err(|error| StartError::Listen { name: name.to_owned(), address, error })
}

fn local(socket: &TcpListener, bind: SocketAddr) -> SocketAddr {
    socket.local_addr().unwrap_or(bind)
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, StartError> {
    tokio::task::spawn_blocking(work).await.map_err(|error| StartError::Thread(error.to_string()))
}

/// Gives `/metrics` what is read off the broker.
struct Source {
    broker: Arc<odradek_server::broker::Broker>,
    requests: Arc<Budget>,
}

impl MetricsSource for Source {
    fn render(&self) -> String {
        let broker = &self.broker;
        let replicas = broker.replicas.all();
        let log_sizes = replicas.iter().map(|r| (r.topic.clone(), r.index, r.size_bytes())).collect();
        let count = |is: fn(&Replica) -> bool| replicas.iter().filter(|replica| is(replica)).count() as i64;
        let snapshot = Snapshot {
            log_sizes,
            offline_partitions: broker.image().leaderless_partitions().count() as i64,
            led: count(Replica::leads),
            under_replicated: count(Replica::is_under_replicated),
            under_min_in_sync: count(Replica::is_under_min_in_sync),
            is_controller: true,
            offline_replicas: broker.replicas.offline() as i64,
            request_budget: (self.requests.used() as u64, self.requests.total() as u64),
            read_budget: (broker.reads.used() as u64, broker.reads.total() as u64),
        };
        broker.metrics.render(&snapshot)
    }
}
