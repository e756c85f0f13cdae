// SPDX-License-Identifier: Apache-2.0
//! What the tests of single rooms of the broker share: a disk whose syncs wait, a clock that is set, a broker without
//! sockets and controller, and requests to it.
#![allow(clippy::unwrap_used, reason = "a test says what went wrong by failing")]
#![allow(dead_code, reason = "each test binary uses a part")]
pub(crate) mod cluster;
pub(crate) mod replicating;

use std::path::PathBuf;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use bytes::{Buf, Bytes};
use odradek_disk::{BeginningCall, Disk, SimulatedDisk};
use odradek_metadata::records::{EndpointRecord, PartitionRecord, RegisterBrokerRecord, TopicRecord};
use odradek_metadata::{Image, Record, apply};
use odradek_model::{BrokerId, ClusterId, TopicId, TopicName, TopicOverrides, TopicSettings};
use odradek_partition::{Leadership, LocalBroker, MonotonicTime};
use odradek_server::broker::{Broker, BrokerParts};
use odradek_server::clock::{Clock, Random};
use odradek_server::controller::{self, ControllerHandle};
use odradek_server::dispatch::Dispatcher;
use odradek_server::failure::Failure;
use odradek_server::folder::{ReplicaFolder, WantedLog};
use odradek_server::health::Health;
use odradek_server::metrics::{Metrics, TopicMetrics};
use odradek_server::net::budget::Budget;
use odradek_server::net::frame::Frame;
use odradek_server::net::{Finished, Peer, Segment, Service, Started};
use odradek_server::peers::Peers;
use odradek_server::replica::{Replica, ReplicaContext, ReplicaParts};
use odradek_server::replicas::TopicReplicas;
use odradek_server::settings::BrokerSettings;
use odradek_wire::private::PeerRequest;
use odradek_wire::{Request, RequestHeader, frame};
use tokio::runtime::Handle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// Lets syncs through, or not.
#[derive(Debug)]
pub(crate) struct Gate {
    open: Mutex<bool>,
    changed: Condvar,
}

impl Gate {
    pub(crate) fn set(&self, open: bool) {
        *self.open.lock().unwrap() = open;
        self.changed.notify_all();
    }

    fn pass(&self) {
        let mut open = self.open.lock().unwrap();
        while !*open {
            open = self.changed.wait(open).unwrap();
        }
    }
}

/// A clock that stands until it is moved.
#[derive(Debug)]
pub(crate) struct SetClock(AtomicI64);

impl SetClock {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self(AtomicI64::new(1_700_000_000_000)))
    }

    pub(crate) fn advance(&self, milliseconds: i64) {
        self.0.fetch_add(milliseconds, Ordering::SeqCst);
    }
}

impl Clock for SetClock {
    fn now_ms(&self) -> i64 {
        self.0.load(Ordering::SeqCst)
    }
}

#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn starting_at(first: u64) -> Self {
        Self(AtomicU64::new(first))
    }
}

impl Random for Counter {
    fn bytes(&self) -> [u8; 16] {
        u128::from(self.0.fetch_add(1, Ordering::SeqCst)).to_le_bytes()
    }
}

/// A data folder on a disk whose files are synced only while the gate is open.
pub(crate) struct Folder {
    pub(crate) gate: Arc<Gate>,
    pub(crate) folder: Arc<ReplicaFolder>,
}

impl Folder {
    pub(crate) fn new() -> Self {
        let (disk, gate) = (SimulatedDisk::new(1), Arc::new(Gate { open: Mutex::new(true), changed: Condvar::new() }));
        let passed = Arc::clone(&gate);
        disk.before_calls(move |call| {
            if let BeginningCall::Sync(_) = call {
                passed.pass();
            }
        });
        let path = PathBuf::from("/data");
        disk.create_dir_all(&path).unwrap();
        let folder = Arc::new(ReplicaFolder::open(Arc::new(disk), path).unwrap());
        Self { gate, folder }
    }

    /// A replica that this broker leads, with a new log.
    pub(crate) fn replica(&self, topic: &str, settings: &[(&str, &str)]) -> Arc<Replica> {
        let topic = TopicName::new(topic).unwrap();
        let overrides: TopicOverrides = settings.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        let settings = TopicSettings::resolve(&overrides, &BrokerSettings::default().topic_defaults).unwrap();
        let topic_id = TopicId(TOPIC_ID);
        let wanted = WantedLog {
            topic: &topic,
            topic_id,
            index: 0,
            settings: &settings,
            always_flushed: false,
            local: LocalBroker::alone(BrokerId(0)),
            producer_id_expiration_ms: 86_400_000,
            is_new: true,
        };
        let health = Health::default();
        let mut partition = self.folder.open_partition(&wanted, 0, &mut health.recovery(0)).unwrap().partition;
        let this = vec![BrokerId(0)];
        let leadership = Leadership { leader_epoch: 3, partition_epoch: 0, replicas: this.clone(), in_sync: this };
        partition.lead(leadership, MonotonicTime(0)).unwrap();
        let metrics = TopicMetrics::default();
        let parts = ReplicaParts { topic, topic_id, index: 0, settings, metrics, partition };
        let context = ReplicaContext {
            runtime: Handle::current(),
            failure: Arc::new(Failure::default()),
            replication: Arc::default(),
            clock: SetClock::new(),
        };
        Replica::new(parts, context)
    }

    /// A broker that knows no topics and has no controller.
    pub(crate) fn broker(&self, clock: Arc<SetClock>) -> Arc<Broker> {
        self.member(0, clock, &[])
    }

    /// As [`Self::broker`], with an id and settings.
    pub(crate) fn member(&self, id: i32, clock: Arc<SetClock>, settings: &[(&str, &str)]) -> Arc<Broker> {
        let cluster_id = ClusterId::new("test").unwrap();
        let peers = Peers::alone(cluster_id, BrokerId(id), Arc::new(Counter::default()), Handle::current());
        let settings = settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let settings = BrokerSettings::parse(settings.collect()).unwrap();
        self.broker_of(id, clock, settings, controller::channel().0, peers)
    }

    /// A broker that knows no topics.
    pub(crate) fn broker_with(
        &self,
        id: i32,
        clock: Arc<SetClock>,
        controller: ControllerHandle,
        peers: Arc<Peers>,
    ) -> Arc<Broker> {
        self.broker_of(id, clock, BrokerSettings::default(), controller, peers)
    }

    fn broker_of(
        &self,
        id: i32,
        clock: Arc<SetClock>,
        settings: BrokerSettings,
        controller: ControllerHandle,
        peers: Arc<Peers>,
    ) -> Arc<Broker> {
        Broker::new(BrokerParts {
            id: BrokerId(id),
            cluster_id: ClusterId::new("test").unwrap(),
            settings,
            clock,
            random: Arc::new(Counter::default()),
            metrics: Arc::new(Metrics::new([])),
            controller,
            peers,
            reads: Budget::new(64 << 20),
            folder: Arc::clone(&self.folder),
            runtime: Handle::current(),
            health: Arc::new(Health::default()),
            failure: Arc::new(Failure::default()),
        })
    }
}

/// Gives a broker a topic with these partitions; `None` is one that could not be opened.
pub(crate) fn add_topic(broker: &Broker, name: &str, partitions: Vec<Option<Arc<Replica>>>) {
    let indexes = (0..).zip(&partitions);
    let offline = indexes.filter(|(_, replica)| replica.is_none()).map(|(index, _)| index).collect();
    let (name, id) = (TopicName::new(name).unwrap(), TopicId(TOPIC_ID));
    broker.replicas.insert(Arc::new(TopicReplicas { name, id, partitions, offline }));
}

/// The id of the one topic.
pub(crate) const TOPIC_ID: uuid::Uuid = uuid::Uuid::from_u128(7);

/// Publishes metadata with this broker at `host:9092` on the listener `test`, and a topic whose partitions are led by it
/// or by nobody, in leader epoch 3.
pub(crate) fn publish(broker: &Broker, name: &str, led: &[bool]) {
    let id = Bytes::copy_from_slice(TOPIC_ID.as_bytes());
    let endpoint = EndpointRecord { listener: "test".into(), host: "host".into(), port: 9092, security_protocol: 0 };
    let mut records: Vec<Record> = vec![
        RegisterBrokerRecord {
            broker_id: 0,
            broker_epoch: 1,
            incarnation: Bytes::from_static(&[1; 16]),
            directory_id: Bytes::from_static(&[2; 16]),
            endpoints: vec![endpoint],
            ..RegisterBrokerRecord::default()
        }
        .into(),
        TopicRecord { id: id.clone(), name: name.to_owned(), ..TopicRecord::default() }.into(),
    ];
    for (partition, led) in led.iter().enumerate() {
        let partition = PartitionRecord {
            topic_id: id.clone(),
            partition: partition as i32,
            replicas: vec![0],
            isr: vec![0],
            leader: if *led { 0 } else { -1 },
            leader_epoch: 3,
            ..PartitionRecord::default()
        };
        records.push(partition.into());
    }
    let empty = Image::empty();
    let epoch = empty.epoch();
    let image = records.iter().fold(empty, |image, record| apply(&image, epoch, record).unwrap());
    broker.publish(Arc::new(image));
}

/// Starts a request as its connection would.
pub(crate) fn start<R: Request>(broker: &Arc<Broker>, request: &R, version: i16) -> Started {
    let peer = Peer::new("test".into(), "127.0.0.1:1".parse().unwrap(), CancellationToken::new());
    start_from(broker, request, version, &peer)
}

/// As [`start`], on a connection with a past.
pub(crate) fn start_from<R: Request>(broker: &Arc<Broker>, request: &R, version: i16, peer: &Peer) -> Started {
    let header = RequestHeader { key: R::KEY, version, correlation_id: 1, client_id: None };
    let mut bytes = Bytes::from(frame::encode_request(&header, request).unwrap().concat());
    bytes.advance(frame::SIZE_LENGTH);
    let frame = Frame { bytes, charge: Budget::new(1 << 20).open() };
    Dispatcher::new(Arc::clone(broker)).start(frame, peer)
}

/// As [`start_from`], for what only brokers ask.
pub(crate) fn start_private<R: PeerRequest>(broker: &Arc<Broker>, request: &R, peer: &Peer) -> Started {
    let mut bytes = Bytes::from(request.encode_frame(0, 1, &"".into()).unwrap().concat());
    bytes.advance(frame::SIZE_LENGTH);
    let frame = Frame { bytes, charge: Budget::new(1 << 20).open() };
    Dispatcher::new(Arc::clone(broker)).start(frame, peer)
}

pub(crate) fn decode_private<R: PeerRequest>(finished: Finished) -> R::Response {
    let Finished::Reply(reply) = finished else { panic!("no reply but {finished:?}") };
    let mut bytes = joined(reply.segments);
    bytes.advance(frame::SIZE_LENGTH);
    R::decode_frame(bytes, 0).unwrap().1
}

/// The answer to a request that is answered at once.
pub(crate) fn answer<R: Request>(broker: &Arc<Broker>, request: &R, version: i16) -> R::Response {
    match start(broker, request, version) {
        Started::Finished(finished) => decode::<R>(finished, version),
        Started::Waiting(_) => panic!("the answer is not there at once"),
    }
}

/// The answer to a request, at once or later.
pub(crate) async fn later<R: Request>(broker: &Arc<Broker>, request: &R, version: i16) -> R::Response {
    let finished = match start(broker, request, version) {
        Started::Finished(finished) => finished,
        Started::Waiting(waiting) => timeout(Duration::from_secs(20), waiting).await.expect("an answer"),
    };
    decode::<R>(finished, version)
}

pub(crate) fn decode<R: Request>(finished: Finished, version: i16) -> R::Response {
    let Finished::Reply(reply) = finished else { panic!("no reply but {finished:?}") };
    let mut bytes = joined(reply.segments);
    bytes.advance(frame::SIZE_LENGTH);
    frame::decode_response::<R::Response>(bytes, R::KEY, version).unwrap().1
}

fn joined(segments: Vec<Segment>) -> Bytes {
    let bytes = segments.into_iter().map(|segment| match segment {
        Segment::Bytes(bytes) => bytes,
        Segment::File(mut region) => region.read(region.len()).unwrap().into(),
    });
    bytes.flatten().collect()
}
