// SPDX-License-Identifier: Apache-2.0
//! Three brokers in one process that replicate: real requests between them, metadata decided as the controller decides
//! it, a network that can be cut.
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::{Folder, SetClock, decode, decode_private, start, start_from, start_private};
use bytes::Bytes;
use odradek_coordination::Holder;
use odradek_metadata::records::{EndpointRecord, FeatureLevelRecord, RegisterBrokerRecord};
use odradek_metadata::{
    AlterPartition, AlterPartitionReply, AlterReassignments, BrokerState, ChangeBrokerState, Command,
    ControllerSettings, CreateTopics, Image, NewTopic, PartitionImage, Reassignment, Record, Reply, apply, decide,
};
use odradek_model::{BrokerId, ControllerEpoch, DirectoryId, TopicId};
use odradek_records::{BatchBuilder, BatchOptions};
use odradek_replication::{FetcherId, ReplicaKey};
use odradek_server::broker::Broker;
use odradek_server::net::introduction::Introduced;
use odradek_server::net::{Peer, Started};
use odradek_server::replication::{IsrChanges, IsrUnavailable, ReplicaSource, SourceError, SourceFuture};
use odradek_wire::Request;
use odradek_wire::messages::{
    FetchPartition, FetchRequest, FetchResponse, FetchTopic, ListOffsetsRequest, ListOffsetsResponse, PartitionData,
    PartitionProduceData, ProduceRequest, ProduceResponse, TopicProduceData,
};
use odradek_wire::private::{ConfirmLeadershipRequest, ConfirmLeadershipResponse};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;
/// How long a wait may take that must end.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
pub(crate) const TOPIC: TopicId = TopicId(Uuid::from_u128(77));
pub(crate) const KEY: ReplicaKey = ReplicaKey { topic: TOPIC, partition: 0 };

/// The metadata, the brokers, and who reaches whom.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) image: Mutex<Arc<Image>>,
    pub(crate) brokers: Mutex<BTreeMap<BrokerId, Arc<Broker>>>,
    pub(crate) cut_off: Mutex<BTreeSet<BrokerId>>,
    /// Of each replica's Fetch request the session's epoch and how many partitions it names.
    pub(crate) fetches: Mutex<Vec<(i32, usize)>>,
}

impl Shared {
    pub(crate) fn reach(&self, from: BrokerId, to: BrokerId) -> Result<Arc<Broker>, SourceError> {
        let cut_off = self.cut_off.lock().unwrap();
        let broker = self.brokers.lock().unwrap().get(&to).cloned();
        broker.filter(|_| !cut_off.contains(&from) && !cut_off.contains(&to)).ok_or(SourceError("cut off".to_owned()))
    }

    pub(crate) fn add(&self, records: &[Record]) {
        let mut image = self.image.lock().unwrap();
        let epoch = image.epoch();
        let next = records.iter().fold((**image).clone(), |image, record| apply(&image, epoch, record).unwrap());
        *image = Arc::new(next);
        let cut_off = self.cut_off.lock().unwrap().clone();
        for (id, broker) in self.brokers.lock().unwrap().iter().filter(|(id, _)| !cut_off.contains(id)) {
            assert_eq!(broker.id, *id);
            broker.publish(Arc::clone(&image));
        }
    }

    pub(crate) fn decide(&self, command: &Command) -> Reply {
        let image = Arc::clone(&self.image.lock().unwrap());
        let decision = decide(&image, &ControllerSettings::default(), command, 0);
        self.add(&decision.records);
        decision.reply
    }

    pub(crate) fn partition(&self) -> Arc<PartitionImage> {
        Arc::clone(&self.image.lock().unwrap().topic_by_id(TOPIC).unwrap().partitions[0])
    }
}

/// The other brokers as one of them sees them.
#[derive(Debug)]
pub(crate) struct Network {
    pub(crate) shared: Arc<Shared>,
    pub(crate) from: BrokerId,
}

impl Network {
    pub(crate) fn peer(&self) -> Peer {
        let peer = Peer::new("private".into(), "127.0.0.1:1".parse().unwrap(), CancellationToken::new());
        let holder = Holder { broker_id: self.from, incarnation: "test".to_owned() };
        assert!(peer.introduction.accept(Introduced { holder, directory_id: DirectoryId(Uuid::nil()) }));
        peer
    }

    pub(crate) async fn ask<R: Request>(
        &self,
        to: BrokerId,
        request: R,
        deadline: Duration,
    ) -> Result<R::Response, SourceError> {
        let broker = self.shared.reach(self.from, to)?;
        let finished = match start_from(&broker, &request, R::MAX_VERSION, &self.peer()) {
            Started::Finished(finished) => finished,
            Started::Waiting(waiting) => {
                timeout(deadline, waiting).await.map_err(|_| SourceError("no answer".to_owned()))?
            }
        };
        self.shared.reach(self.from, to)?;
        Ok(decode::<R>(finished, R::MAX_VERSION))
    }
}

impl ReplicaSource for Network {
    fn fetch(
        &self,
        from: FetcherId,
        request: FetchRequest,
        deadline: Duration,
    ) -> SourceFuture<'_, FetchResponse, SourceError> {
        let named = request.topics.iter().map(|topic| topic.partitions.len()).sum();
        self.shared.fetches.lock().unwrap().push((request.session_epoch, named));
        Box::pin(self.ask(from.leader, request, deadline))
    }

    fn list_offsets(
        &self,
        from: FetcherId,
        request: ListOffsetsRequest,
        deadline: Duration,
    ) -> SourceFuture<'_, ListOffsetsResponse, SourceError> {
        Box::pin(self.ask(from.leader, request, deadline))
    }

    fn confirm_leadership(
        &self,
        of: BrokerId,
        request: ConfirmLeadershipRequest,
        _: Duration,
    ) -> SourceFuture<'_, ConfirmLeadershipResponse, SourceError> {
        Box::pin(async move {
            let broker = self.shared.reach(self.from, of)?;
            let Started::Finished(finished) = start_private(&broker, &request, &self.peer()) else {
                panic!("the answer is not there at once");
            };
            self.shared.reach(self.from, of)?;
            Ok(decode_private::<ConfirmLeadershipRequest>(finished))
        })
    }
}

impl IsrChanges for Network {
    fn controller_epoch(&self) -> ControllerEpoch {
        0
    }

    fn alter_partition(&self, command: AlterPartition) -> SourceFuture<'_, AlterPartitionReply, IsrUnavailable> {
        Box::pin(async move {
            if self.shared.cut_off.lock().unwrap().contains(&self.from) {
                return Err(IsrUnavailable("cut off".to_owned()));
            }
            match self.shared.decide(&Command::AlterPartition(command)) {
                Reply::AlterPartition(reply) => Ok(reply),
                other => panic!("answered with {other:?}"),
            }
        })
    }
}

pub(crate) struct Cluster {
    pub(crate) shared: Arc<Shared>,
    pub(crate) folders: Vec<Folder>,
    pub(crate) clocks: Vec<Arc<SetClock>>,
    pub(crate) tasks: TaskTracker,
    pub(crate) stopping: CancellationToken,
}

impl Cluster {
    /// Three brokers, each in a rack of its own, and a topic of one partition on these.
    pub(crate) fn new(replicas: &[i32]) -> Self {
        Self::with(replicas, &[], &[])
    }

    /// With settings of the brokers and of the topic besides.
    pub(crate) fn with(replicas: &[i32], given: &[(&str, &str)], of_topic: &[(&str, &str)]) -> Self {
        let shared = Arc::new(Shared {
            image: Mutex::default(),
            brokers: Mutex::default(),
            cut_off: Mutex::default(),
            fetches: Mutex::default(),
        });
        let (tasks, stopping) = (TaskTracker::new(), CancellationToken::new());
        let folders: Vec<_> = (0..3).map(|_| Folder::new()).collect();
        let clocks: Vec<_> = (0..3).map(|_| SetClock::new()).collect();
        for (id, folder) in (0..).zip(&folders) {
            let mut settings = vec![
                ("replica.fetch.backoff.ms", "50"),
                ("replica.lag.time.max.ms", "1500"),
                ("log.segment.delete.delay.ms", "0"),
            ];
            settings.extend(given);
            let broker = folder.member(id, Arc::clone(&clocks[id as usize]), &settings);
            let network = Arc::new(Network { shared: Arc::clone(&shared), from: BrokerId(id) });
            broker.replicate_by(Arc::clone(&network) as _, network, &tasks, &stopping);
            broker.spawn_tasks(&tasks, &stopping);
            shared.brokers.lock().unwrap().insert(BrokerId(id), broker);
        }
        let mut records: Vec<Record> = vec![FeatureLevelRecord { level: 2 }.into()];
        records.extend((0..3).map(|id| {
            let host = format!("host{id}");
            let endpoint = EndpointRecord { listener: "test".into(), host, port: 9092, security_protocol: 0 };
            Record::from(RegisterBrokerRecord {
                broker_id: id,
                broker_epoch: 100 + i64::from(id),
                incarnation: Bytes::copy_from_slice(&[id as u8; 16]),
                directory_id: Bytes::copy_from_slice(&[id as u8; 16]),
                endpoints: vec![endpoint],
                rack: Some(format!("rack{id}")),
                supported_feature_level: 2,
                ..RegisterBrokerRecord::default()
            })
        }));
        shared.add(&records);
        let cluster = Self { shared, folders, clocks, tasks, stopping };
        cluster.create("t", TOPIC, replicas, of_topic);
        cluster
    }

    pub(crate) fn create(&self, name: &str, id: TopicId, replicas: &[i32], settings: &[(&str, &str)]) {
        let topic = NewTopic {
            name: name.to_owned(),
            id,
            partitions: -1,
            replication_factor: -1,
            assignments: vec![(0, replicas.to_vec())],
            settings: settings.iter().map(|(name, value)| ((*name).to_owned(), Some((*value).to_owned()))).collect(),
        };
        let created = CreateTopics { topics: vec![topic], validate_only: false, placement_seed: 0 };
        match self.shared.decide(&Command::CreateTopics(created)) {
            Reply::CreateTopics(outcomes) => assert!(outcomes[0].1.is_ok(), "{outcomes:?}"),
            other => panic!("answered with {other:?}"),
        }
    }

    pub(crate) fn reassign(&self, replicas: &[i32]) -> Reply {
        let moved = AlterReassignments {
            reassignments: vec![Reassignment {
                topic: "t".to_owned(),
                partition: 0,
                replicas: Some(replicas.to_vec()),
            }],
            allow_replication_factor_change: true,
        };
        self.shared.decide(&Command::AlterReassignments(moved))
    }

    pub(crate) fn broker(&self, id: i32) -> Arc<Broker> {
        Arc::clone(&self.shared.brokers.lock().unwrap()[&BrokerId(id)])
    }

    pub(crate) fn cut_off(&self, id: i32) {
        self.shared.cut_off.lock().unwrap().insert(BrokerId(id));
    }

    pub(crate) fn set_state(&self, id: i32, state: BrokerState) {
        let change = ChangeBrokerState { broker_id: BrokerId(id), broker_epoch: 100 + i64::from(id), state };
        match self.shared.decide(&Command::ChangeBrokerState(change)) {
            Reply::BrokerState(Ok(_)) => {}
            other => panic!("answered with {other:?}"),
        }
    }

    /// The broker is back: it hears of the metadata, and others of it.
    pub(crate) fn connect(&self, id: i32) {
        self.shared.cut_off.lock().unwrap().remove(&BrokerId(id));
        self.set_state(id, BrokerState::Unfenced);
        self.shared.add(&[]);
    }

    pub(crate) async fn produce(&self, id: i32, value: &str, acks: i16) -> i16 {
        let broker = self.broker(id);
        let response = answered::<ProduceRequest>(start(&broker, &produce(value, acks), 13)).await;
        code(&response)
    }

    /// What a broker's replica holds, committed or not.
    pub(crate) fn log_end(&self, id: i32) -> Option<i64> {
        self.broker(id).replica(KEY).map(|replica| replica.log_end())
    }

    pub(crate) fn high_watermark(&self, id: i32) -> i64 {
        self.broker(id).replica(KEY).unwrap().checkpoints().0
    }

    pub(crate) fn isr(&self) -> BTreeSet<i32> {
        self.shared.partition().isr.iter().map(|broker| broker.0).collect()
    }

    /// What a consumer of a rack gets from a broker.
    pub(crate) async fn consume(&self, id: i32, offset: i64, rack: &str) -> PartitionData {
        let request = fetch(offset, rack);
        let broker = self.broker(id);
        let mut response = answered::<FetchRequest>(start(&broker, &request, 18)).await;
        response.responses[0].partitions.remove(0)
    }

    pub(crate) async fn stop(self) {
        self.stopping.cancel();
        self.tasks.close();
        timeout(PATIENCE, self.tasks.wait()).await.expect("every task ends");
    }
}

pub(crate) async fn answered<R: Request>(started: Started) -> R::Response {
    let finished = match started {
        Started::Finished(finished) => finished,
        Started::Waiting(waiting) => timeout(PATIENCE, waiting).await.expect("an answer"),
    };
    decode::<R>(finished, R::MAX_VERSION)
}

pub(crate) fn produce(value: &str, acks: i16) -> ProduceRequest {
    let mut batch = BatchBuilder::new(BatchOptions::default());
    batch.append(1_700_000_000_000, None, Some(value.as_bytes()), &[]);
    let data = PartitionProduceData { index: 0, records: Some(batch.build()) };
    ProduceRequest {
        acks,
        timeout_ms: 15_000,
        topic_data: vec![TopicProduceData {
            topic_id: TOPIC.0,
            partition_data: vec![data],
            ..TopicProduceData::default()
        }],
        ..ProduceRequest::default()
    }
}

pub(crate) fn code(response: &ProduceResponse) -> i16 {
    response.responses[0].partition_responses[0].error_code
}

pub(crate) fn fetch(offset: i64, rack: &str) -> FetchRequest {
    let partition = FetchPartition { fetch_offset: offset, partition_max_bytes: 1 << 20, ..FetchPartition::default() };
    FetchRequest {
        max_wait_ms: 0,
        topics: vec![FetchTopic { topic_id: TOPIC.0, partitions: vec![partition], ..FetchTopic::default() }],
        rack_id: rack.into(),
        ..FetchRequest::default()
    }
}

/// Waits until something holds.
pub(crate) async fn eventually(what: &str, holds: impl Fn() -> bool) {
    let begin = Instant::now();
    while !holds() {
        assert!(begin.elapsed() < PATIENCE, "{what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
