// SPDX-License-Identifier: Apache-2.0
//! Three brokers in one process that replicate: real requests between them, metadata decided as the controller decides
//! it, a network that can be cut.
#![allow(clippy::unwrap_used, reason = "a test says what went wrong by failing")]
mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use odradek_coordination::Holder;
use odradek_groups as groups;
use odradek_metadata::records::{
    EndpointRecord, FeatureLevelRecord, PartitionRecord, RegisterBrokerRecord, TopicRecord,
};
use odradek_metadata::{
    AlterPartition, AlterPartitionReply, AlterReassignments, BrokerState, ChangeBrokerState, Command,
    ControllerSettings, CreateTopics, Image, NewTopic, PartitionImage, Reassignment, Record, Reply, apply, decide,
};
use odradek_model::{BrokerId, ControllerEpoch, DirectoryId, OFFSETS_TOPIC, TopicId};
use odradek_records::{BatchBuilder, BatchOptions};
use odradek_replication::{FetcherId, ReplicaKey};
use odradek_server::broker::Broker;
use odradek_server::coordinators::Unconfirmed;
use odradek_server::net::introduction::Introduced;
use odradek_server::net::{CloseReason, Finished, Peer, Started};
use odradek_server::replication::{IsrChanges, IsrUnavailable, ReplicaSource, SourceError, SourceFuture};
use odradek_wire::messages::{
    FetchPartition, FetchRequest, FetchResponse, FetchTopic, ListOffsetsRequest, ListOffsetsResponse,
    OffsetFetchRequest, OffsetFetchRequestGroup, PartitionData, PartitionProduceData, ProduceRequest, ProduceResponse,
    ReplicaState, TopicProduceData,
};
use odradek_wire::private::{ConfirmLeadershipRequest, ConfirmLeadershipResponse};
use odradek_wire::{ErrorCode, Request};
use support::{Folder, SetClock, decode, decode_private, start, start_from, start_private};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

/// How long a wait may take that must end.
const PATIENCE: Duration = Duration::from_secs(20);
const TOPIC: TopicId = TopicId(Uuid::from_u128(77));
const KEY: ReplicaKey = ReplicaKey { topic: TOPIC, partition: 0 };

/// The metadata, the brokers, and who reaches whom.
#[derive(Debug)]
struct Shared {
    image: Mutex<Arc<Image>>,
    brokers: Mutex<BTreeMap<BrokerId, Arc<Broker>>>,
    cut_off: Mutex<BTreeSet<BrokerId>>,
    /// Of each replica's Fetch request the session's epoch and how many partitions it names.
    fetches: Mutex<Vec<(i32, usize)>>,
}

impl Shared {
    fn reach(&self, from: BrokerId, to: BrokerId) -> Result<Arc<Broker>, SourceError> {
        let cut_off = self.cut_off.lock().unwrap();
        let broker = self.brokers.lock().unwrap().get(&to).cloned();
        broker.filter(|_| !cut_off.contains(&from) && !cut_off.contains(&to)).ok_or(SourceError("cut off".to_owned()))
    }

    fn add(&self, records: &[Record]) {
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

    fn decide(&self, command: &Command) -> Reply {
        let image = Arc::clone(&self.image.lock().unwrap());
        let decision = decide(&image, &ControllerSettings::default(), command, 0);
        self.add(&decision.records);
        decision.reply
    }

    fn partition(&self) -> Arc<PartitionImage> {
        Arc::clone(&self.image.lock().unwrap().topic_by_id(TOPIC).unwrap().partitions[0])
    }
}

/// The other brokers as one of them sees them.
#[derive(Debug)]
struct Network {
    shared: Arc<Shared>,
    from: BrokerId,
}

impl Network {
    fn peer(&self) -> Peer {
        let peer = Peer::new("private".into(), "127.0.0.1:1".parse().unwrap(), CancellationToken::new());
        let holder = Holder { broker_id: self.from, incarnation: "test".to_owned() };
        assert!(peer.introduction.accept(Introduced { holder, directory_id: DirectoryId(Uuid::nil()) }));
        peer
    }

    async fn ask<R: Request>(&self, to: BrokerId, request: R, deadline: Duration) -> Result<R::Response, SourceError> {
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

struct Cluster {
    shared: Arc<Shared>,
    folders: Vec<Folder>,
    clocks: Vec<Arc<SetClock>>,
    tasks: TaskTracker,
    stopping: CancellationToken,
}

impl Cluster {
    /// Three brokers, each in a rack of its own, and a topic of one partition on these.
    fn new(replicas: &[i32]) -> Self {
        Self::with(replicas, &[], &[])
    }

    /// With settings of the brokers and of the topic besides.
    fn with(replicas: &[i32], given: &[(&str, &str)], of_topic: &[(&str, &str)]) -> Self {
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

    fn create(&self, name: &str, id: TopicId, replicas: &[i32], settings: &[(&str, &str)]) {
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

    fn reassign(&self, replicas: &[i32]) -> Reply {
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

    fn broker(&self, id: i32) -> Arc<Broker> {
        Arc::clone(&self.shared.brokers.lock().unwrap()[&BrokerId(id)])
    }

    fn cut_off(&self, id: i32) {
        self.shared.cut_off.lock().unwrap().insert(BrokerId(id));
    }

    fn set_state(&self, id: i32, state: BrokerState) {
        let change = ChangeBrokerState { broker_id: BrokerId(id), broker_epoch: 100 + i64::from(id), state };
        match self.shared.decide(&Command::ChangeBrokerState(change)) {
            Reply::BrokerState(Ok(_)) => {}
            other => panic!("answered with {other:?}"),
        }
    }

    /// The broker is back: it hears of the metadata, and others of it.
    fn connect(&self, id: i32) {
        self.shared.cut_off.lock().unwrap().remove(&BrokerId(id));
        self.set_state(id, BrokerState::Unfenced);
        self.shared.add(&[]);
    }

    async fn produce(&self, id: i32, value: &str, acks: i16) -> i16 {
        let broker = self.broker(id);
        let response = answered::<ProduceRequest>(start(&broker, &produce(value, acks), 13)).await;
        code(&response)
    }

    /// What a broker's replica holds, committed or not.
    fn log_end(&self, id: i32) -> Option<i64> {
        self.broker(id).replica(KEY).map(|replica| replica.log_end())
    }

    fn high_watermark(&self, id: i32) -> i64 {
        self.broker(id).replica(KEY).unwrap().checkpoints().0
    }

    fn isr(&self) -> BTreeSet<i32> {
        self.shared.partition().isr.iter().map(|broker| broker.0).collect()
    }

    /// What a consumer of a rack gets from a broker.
    async fn consume(&self, id: i32, offset: i64, rack: &str) -> PartitionData {
        let request = fetch(offset, rack);
        let broker = self.broker(id);
        let mut response = answered::<FetchRequest>(start(&broker, &request, 18)).await;
        response.responses[0].partitions.remove(0)
    }

    async fn stop(self) {
        self.stopping.cancel();
        self.tasks.close();
        timeout(PATIENCE, self.tasks.wait()).await.expect("every task ends");
    }
}

async fn answered<R: Request>(started: Started) -> R::Response {
    let finished = match started {
        Started::Finished(finished) => finished,
        Started::Waiting(waiting) => timeout(PATIENCE, waiting).await.expect("an answer"),
    };
    decode::<R>(finished, R::MAX_VERSION)
}

fn produce(value: &str, acks: i16) -> ProduceRequest {
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

fn code(response: &ProduceResponse) -> i16 {
    response.responses[0].partition_responses[0].error_code
}

fn fetch(offset: i64, rack: &str) -> FetchRequest {
    let partition = FetchPartition { fetch_offset: offset, partition_max_bytes: 1 << 20, ..FetchPartition::default() };
    FetchRequest {
        max_wait_ms: 0,
        topics: vec![FetchTopic { topic_id: TOPIC.0, partitions: vec![partition], ..FetchTopic::default() }],
        rack_id: rack.into(),
        ..FetchRequest::default()
    }
}

/// Waits until something holds.
async fn eventually(what: &str, holds: impl Fn() -> bool) {
    let begin = Instant::now();
    while !holds() {
        assert!(begin.elapsed() < PATIENCE, "{what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_acknowledged_by_all_is_on_all() {
    let cluster = Cluster::new(&[0, 1, 2]);
    assert_eq!(cluster.produce(0, "a", -1).await, 0);
    assert_eq!([0, 1, 2].map(|id| cluster.log_end(id)), [Some(1); 3], "before the acknowledgement");
    assert_eq!(cluster.produce(1, "b", -1).await, 6, "a follower takes nothing");
    eventually("followers learn what is committed", || (0..3).all(|id| cluster.high_watermark(id) == 1)).await;
    // Without a rack, or with one of nobody's, the leader is read from; so is a follower, up to what it knows.
    for (id, rack) in [(0, ""), (0, "rack9"), (1, ""), (2, "rack0")] {
        let data = cluster.consume(id, 0, rack).await;
        assert_eq!((data.error_code, data.preferred_read_replica, data.high_watermark), (0, -1, 1), "{id} {rack}");
        assert!(!data.records.unwrap().is_empty());
    }
    let data = cluster.consume(0, 0, "rack2").await;
    assert_eq!((data.error_code, data.preferred_read_replica), (0, 2));
    assert!(data.records.unwrap().is_empty());
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_records_are_acknowledged_one_after_the_other_without_waiting_for_a_timer() {
    let cluster = Cluster::new(&[0, 1, 2]);
    assert_eq!(cluster.produce(0, "first", -1).await, 0);
    let begin = Instant::now();
    for number in 0..50 {
        assert_eq!(cluster.produce(0, &number.to_string(), -1).await, 0);
    }
    // A wait of 500 ms for each would take 25 s.
    assert!(begin.elapsed() < Duration::from_secs(8), "{:?}", begin.elapsed());
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_requests_of_an_idle_follower_name_no_partition() {
    let cluster = Cluster::new(&[0, 1, 2]);
    for number in 0..20u128 {
        cluster.create(&format!("more{number}"), TopicId(Uuid::from_u128(900 + number)), &[0, 1, 2], &[]);
    }
    assert_eq!(cluster.produce(0, "a", -1).await, 0);
    let idle = || {
        let fetches = cluster.shared.fetches.lock().unwrap();
        let mut last = fetches.iter().rev().take(4);
        fetches.len() >= 4 && last.all(|(epoch, named)| *epoch > 0 && *named == 0)
    };
    eventually("both followers have named all that there is", idle).await;
    let counts = cluster.broker(0).fetch_sessions.counts();
    assert_eq!((counts.sessions, counts.partitions), (2, 2 * 21));
    assert_eq!(cluster.produce(0, "b", -1).await, 0, "who is not named is asked for");
    eventually("followers learn what is committed", || (0..3).all(|id| cluster.high_watermark(id) == 2)).await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_partition_does_not_wait_for_the_fetch_that_waits_for_others() {
    let cluster = Cluster::new(&[0, 1, 2]);
    assert_eq!(cluster.produce(0, "a", -1).await, 0);
    let mut waits = Vec::new();
    for number in 0..10u128 {
        // By now both followers wait at the leader, for half a second, and neither names what comes next.
        tokio::time::sleep(Duration::from_millis(30)).await;
        let id = TopicId(Uuid::from_u128(500 + number));
        cluster.create(&format!("new{number}"), id, &[0, 1, 2], &[]);
        let mut request = produce("b", -1);
        request.topic_data[0].topic_id = id.0;
        let begin = Instant::now();
        let response = answered::<ProduceRequest>(start(&cluster.broker(0), &request, 13)).await;
        assert_eq!(code(&response), 0);
        waits.push(begin.elapsed());
    }
    waits.sort_unstable();
    assert!(waits[5] < Duration::from_millis(150), "{waits:?}");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_was_cut_off_cuts_what_nobody_else_has() {
    let cluster = Cluster::new(&[0, 1, 2]);
    assert_eq!(cluster.produce(0, "a", -1).await, 0);
    cluster.cut_off(0);
    // It does not know yet, and what it takes is committed nowhere.
    let broker = cluster.broker(0);
    let waiting = start(&broker, &produce("lost", -1), 13);
    assert_eq!(cluster.produce(0, "lost too", 1).await, 0);
    assert_eq!(cluster.log_end(0), Some(3));
    cluster.set_state(0, BrokerState::Fenced);
    let leader = cluster.shared.partition().leader.unwrap().0;
    assert_ne!(leader, 0);
    assert_eq!(cluster.isr(), BTreeSet::from([1, 2]));
    assert_eq!(cluster.produce(leader, "b", -1).await, 0);

    cluster.connect(0);
    let response = answered::<ProduceRequest>(waiting).await;
    assert_eq!(code(&response), 6, "whoever waited is sent to the new leader");
    let named = &response.responses[0].partition_responses[0].current_leader;
    assert_eq!(named.leader_id, leader);
    assert_eq!(response.node_endpoints[0].host.as_str(), format!("host{leader}"));
    eventually("the old leader is back in sync", || cluster.isr() == BTreeSet::from([0, 1, 2])).await;
    assert_eq!(cluster.log_end(0), Some(2));
    eventually("all is committed on it", || cluster.high_watermark(0) == 2).await;
    let (theirs, ours) = (cluster.consume(leader, 0, "").await, cluster.consume(0, 0, "").await);
    assert_eq!(theirs.records, ours.records);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_that_falls_behind_leaves_the_isr_and_comes_back() {
    let cluster = Cluster::new(&[0, 1, 2]);
    assert_eq!(cluster.produce(0, "a", -1).await, 0);
    cluster.cut_off(2);
    // Acknowledged once the leader has had the follower removed.
    assert_eq!(cluster.produce(0, "b", -1).await, 0);
    assert_eq!(cluster.isr(), BTreeSet::from([0, 1]));
    assert_eq!((cluster.log_end(1), cluster.log_end(2)), (Some(2), Some(1)));
    cluster.cut_off(1);
    // Who has all there is does not lag, however silent; with this record it does.
    assert_eq!(cluster.produce(0, "c", 1).await, 0);
    eventually("the second one leaves too", || cluster.isr() == BTreeSet::from([0])).await;
    // Fewer than the minimum of two: nothing more is acknowledged, and nothing more is shown.
    assert_eq!(cluster.produce(0, "d", -1).await, 19);
    assert_eq!(cluster.produce(0, "d", 1).await, 0);
    assert_eq!((cluster.log_end(0), cluster.high_watermark(0)), (Some(4), 2));
    cluster.shared.cut_off.lock().unwrap().clear();
    cluster.shared.add(&[]);
    eventually("both are back", || cluster.isr() == BTreeSet::from([0, 1, 2])).await;
    eventually("all is committed", || (0..3).all(|id| cluster.high_watermark(id) == 4)).await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_moves_to_another_broker_with_all_it_has() {
    let cluster = Cluster::new(&[0, 1]);
    assert_eq!(cluster.produce(0, "a", -1).await, 0);
    assert_eq!(cluster.log_end(2), None);
    let not_here = cluster.consume(2, 0, "").await;
    assert_eq!((not_here.error_code, not_here.current_leader.leader_id), (6, 0));
    let moved = AlterReassignments {
        reassignments: vec![Reassignment { topic: "t".to_owned(), partition: 0, replicas: Some(vec![1, 2]) }],
        allow_replication_factor_change: true,
    };
    let reply = cluster.shared.decide(&Command::AlterReassignments(moved));
    eventually("it is moved", || cluster.isr() == BTreeSet::from([1, 2])).await;
    let partition = cluster.shared.partition();
    assert!(!partition.is_reassigning(), "{reply:?}");
    assert_eq!(cluster.log_end(2), Some(1));
    eventually("the first one has it no more", || cluster.log_end(0).is_none()).await;
    let disk = cluster.folders[0].folder.has_partition(&odradek_model::TopicName::new("t").unwrap(), 0);
    assert!(!disk.unwrap(), "its folder is gone");
    let leader = partition.leader.unwrap().0;
    assert_eq!(cluster.produce(leader, "b", -1).await, 0);
    assert_eq!((cluster.log_end(1), cluster.log_end(2)), (Some(2), Some(2)));
    assert_eq!(cluster.produce(0, "c", -1).await, 6);
    cluster.stop().await;
}

fn commit(offset: i64) -> groups::Request {
    let partition = groups::PartitionCommit { partition: 0, offset, leader_epoch: -1, metadata: None };
    groups::Request::Commit(groups::OffsetCommit {
        group_id: "g".into(),
        generation_id: -1,
        member_id: "".into(),
        group_instance_id: None,
        retention_time_ms: -1,
        knows_group_id_not_found: true,
        topics: vec![groups::TopicCommit { topic: "t".into(), topic_id: TOPIC, partitions: vec![partition] }],
    })
}

fn committed_offset() -> groups::OffsetFetch {
    groups::OffsetFetch { group_id: "g".into(), topics: None, require_stable: false }
}

/// The committed offset by a broker's coordinator, or why it does not tell.
async fn committed(broker: &Broker) -> Result<i64, groups::GroupError> {
    let read = timeout(PATIENCE, broker.coordinators.read(committed_offset()).wait()).await.expect("an end");
    match read.expect("who leads is certain")? {
        groups::Response::Fetch(response) => match response.error {
            Some(error) => Err(error),
            None => Ok(response.topics.first().map_or(-1, |topic| topic.partitions[0].offset)),
        },
        other => panic!("no offsets but {other:?}"),
    }
}

async fn commit_on(broker: &Broker, offset: i64) -> Option<groups::GroupError> {
    match timeout(PATIENCE, broker.coordinators.start("g", commit(offset)).wait()).await.expect("an answer") {
        Ok(groups::Response::Commit(response)) => response.topics[0].partitions[0].1,
        Ok(other) => panic!("no commit but {other:?}"),
        Err(error) => Some(error),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn groups_move_with_the_leadership_of_their_journal() {
    let cluster = Cluster::new(&[0, 1, 2]);
    let journal = TopicId(Uuid::from_u128(78));
    cluster.create(OFFSETS_TOPIC, journal, &[0, 1, 2], &[]);
    assert_eq!(commit_on(&cluster.broker(0), 5).await, None);
    assert_eq!(committed(&cluster.broker(0)).await, Ok(5));
    assert_eq!(committed(&cluster.broker(1)).await, Err(groups::GroupError::NotCoordinator));
    let on_all = |id| cluster.broker(id).replica(ReplicaKey { topic: journal, partition: 0 }).unwrap().log_end();
    assert_eq!([0, 1, 2].map(on_all), [1; 3], "a commit is answered when all have it");

    cluster.cut_off(0);
    // The one that is cut off cannot have this committed.
    let old = cluster.broker(0);
    let lost = old.coordinators.start("g", commit(99));
    cluster.set_state(0, BrokerState::Fenced);
    let leader = cluster.shared.image.lock().unwrap().topic_by_id(journal).unwrap().partitions[0].leader.unwrap();
    let new = cluster.broker(leader.0);
    let begin = Instant::now();
    while committed(&new).await == Err(groups::GroupError::CoordinatorLoadInProgress) {
        assert!(begin.elapsed() < PATIENCE, "the journal is loaded");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(committed(&new).await, Ok(5));
    assert_eq!(commit_on(&new, 6).await, None);
    // It does not know that another leads, and tells nobody what was committed once.
    let reading = tokio::spawn(old.coordinators.read(committed_offset()).wait());
    let begin = Instant::now();
    while !reading.is_finished() {
        assert!(begin.elapsed() < PATIENCE, "the wait ends");
        cluster.clocks[0].advance(100);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(reading.await.unwrap(), Err(Unconfirmed));
    let request = OffsetFetchRequest {
        groups: vec![OffsetFetchRequestGroup { group_id: "g".into(), ..OffsetFetchRequestGroup::default() }],
        ..OffsetFetchRequest::default()
    };
    let Started::Waiting(answer) = start(&old, &request, 9) else { panic!("it is not certain who leads") };
    let again = old.coordinators.read(committed_offset());

    cluster.connect(0);
    // Who waits when it learns that another leads is sent there.
    let answer = timeout(PATIENCE, answer).await.expect("an end");
    assert!(matches!(answer, Finished::Close(CloseReason::Unconfirmed)), "{answer:?}");
    assert_eq!(timeout(PATIENCE, again.wait()).await.expect("an end"), Err(Unconfirmed));
    match timeout(PATIENCE, lost.wait()).await.expect("it is answered when the leadership is gone") {
        Ok(groups::Response::Commit(response)) => {
            assert_eq!(response.topics[0].partitions[0].1, Some(groups::GroupError::NotCoordinator));
        }
        other => assert!(matches!(other, Err(groups::GroupError::NotCoordinator)), "{other:?}"),
    }
    assert_eq!(committed(&old).await, Err(groups::GroupError::NotCoordinator));
    // And back again, by its own log, which has cut what it had alone.
    eventually("it is back in sync", || {
        let image = cluster.shared.image.lock().unwrap();
        image.topic_by_id(journal).unwrap().partitions[0].isr.contains(&BrokerId(0))
    })
    .await;
    cluster.shared.decide(&Command::BalanceLeaders);
    let begin = Instant::now();
    while committed(&old).await.is_err() {
        assert!(begin.elapsed() < PATIENCE, "the first one coordinates again");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(committed(&old).await, Ok(6));
    assert_eq!(committed(&new).await, Err(groups::GroupError::NotCoordinator));
    cluster.stop().await;
}

/// 400 KB at 100 KB per second: the first second's at once, and one answer ahead of the rate, so two seconds. Those in
/// sync are not slowed.
async fn a_throttled_move_takes_its_time(given: (&str, &str), of_topic: &[(&str, &str)]) {
    let cluster = Cluster::with(&[0, 1], &[given], of_topic);
    for _ in 0..40 {
        assert_eq!(cluster.produce(0, &"x".repeat(10_000), -1).await, 0);
    }
    let begin = Instant::now();
    cluster.reassign(&[0, 1, 2]);
    for _ in 0..20 {
        assert_eq!(cluster.produce(0, "y", -1).await, 0);
    }
    assert!(begin.elapsed() < Duration::from_millis(1500), "who is in sync is not slowed: {:?}", begin.elapsed());
    eventually("it is moved", || cluster.isr() == BTreeSet::from([0, 1, 2])).await;
    assert!(begin.elapsed() > Duration::from_millis(1500), "{:?}", begin.elapsed());
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_that_is_added_keeps_its_rate() {
    a_throttled_move_takes_its_time(("follower.replication.throttled.rate", "100000"), &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_sends_throttled_replicas_no_more_than_its_rate() {
    let listed = [("leader.replication.throttled.replicas", "*")];
    a_throttled_move_takes_its_time(("leader.replication.throttled.rate", "100000"), &listed).await;
}

#[tokio::test(flavor = "multi_thread")]
#[allow(clippy::print_stdout, reason = "who wants to know the times sees them")]
async fn an_image_costs_what_has_changed_in_it() {
    let cluster = Cluster::new(&[0, 1, 2]);
    // Broker 0 follows 1000 partitions of 200 topics.
    let topics = 0..200u128;
    let id = |number: u128| Bytes::copy_from_slice(Uuid::from_u128(1000 + number).as_bytes());
    let mut records = Vec::new();
    for number in topics {
        records.push(Record::from(TopicRecord {
            id: id(number),
            name: format!("many{number}"),
            ..TopicRecord::default()
        }));
        records.extend((0..5).map(|partition| {
            Record::from(PartitionRecord {
                topic_id: id(number),
                partition,
                replicas: vec![1, 0],
                isr: vec![1, 0],
                leader: 1,
                ..PartitionRecord::default()
            })
        }));
    }
    let broker = cluster.broker(0);
    // The others do not hear of it: opening files is not what is measured.
    cluster.cut_off(1);
    cluster.cut_off(2);
    let begin = Instant::now();
    cluster.shared.add(&records);
    println!("1000 replicas opened in {:?}", begin.elapsed());
    assert_eq!(broker.replicas.all().len(), 1001);
    let change = |number: u128, leader_epoch| PartitionRecord {
        topic_id: id(number),
        partition: 3,
        replicas: vec![1, 0],
        isr: vec![1, 0],
        leader: 0,
        leader_epoch,
        partition_epoch: 1,
        ..PartitionRecord::default()
    };
    let begin = Instant::now();
    for number in 0..10 {
        cluster.shared.add(&[change(number, 1).into()]);
    }
    let each = begin.elapsed() / 10;
    println!("an image with one change among 1000 partitions: {each:?}");
    let led = |number: u128| {
        let key = ReplicaKey { topic: TopicId(Uuid::from_u128(1000 + number)), partition: 3 };
        broker.replica(key).unwrap().leads()
    };
    assert!((0..10).all(led) && !led(10));
    assert!(each < Duration::from_millis(100), "{each:?}");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_fetches_as_a_replica_but_that_broker() {
    let cluster = Cluster::new(&[0, 1, 2]);
    let request = FetchRequest { replica_state: ReplicaState { replica_id: 1, replica_epoch: 101 }, ..fetch(0, "") };
    let response = answered::<FetchRequest>(start(&cluster.broker(0), &request, 18)).await;
    assert_eq!((response.error_code, response.responses[0].partitions[0].error_code), (31, 31));
    let another = Network { shared: Arc::clone(&cluster.shared), from: BrokerId(2) };
    let response = another.ask(BrokerId(0), request, PATIENCE).await.unwrap();
    assert_eq!(response.error_code, 31);
    let listed = ListOffsetsRequest { replica_id: 1, ..ListOffsetsRequest::default() };
    assert!(another.ask(BrokerId(0), listed, PATIENCE).await.unwrap().topics.is_empty());
    cluster.stop().await;
}

/// Where the journal of the group `g` is; two of three replicas commit.
fn with_journal(replicas: &[i32]) -> Cluster {
    let cluster = Cluster::new(&[0, 1, 2]);
    cluster.create(OFFSETS_TOPIC, TopicId(Uuid::from_u128(78)), replicas, &[]);
    cluster
}

#[tokio::test(flavor = "multi_thread")]
async fn committed_offsets_are_read_on_with_one_other_while_nobody_elects() {
    let cluster = with_journal(&[0, 1, 2]);
    assert_eq!(commit_on(&cluster.broker(0), 5).await, None);
    // One replica has gone, and with it, nobody says so, the controller: it is still in the ISR.
    cluster.cut_off(2);
    assert_eq!(committed(&cluster.broker(0)).await, Ok(5));
    // Two that have gone may have gone on together.
    cluster.cut_off(1);
    let alone = cluster.broker(0).coordinators.read(committed_offset());
    assert!(!alone.is_ready());
    let wait = alone.wait();
    tokio::pin!(wait);
    assert!(timeout(Duration::from_millis(50), &mut wait).await.is_err());
    cluster.shared.cut_off.lock().unwrap().remove(&BrokerId(1));
    cluster.clocks[0].advance(100);
    // The task slept by the time that this clock does not show: the next image wakes it.
    cluster.shared.add(&[]);
    let read = timeout(PATIENCE, wait).await.expect("the other one answers again");
    assert!(matches!(read, Ok(Ok(groups::Response::Fetch(ref fetched))) if fetched.error.is_none()), "{read:?}");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_alone_in_the_isr_asks_nobody() {
    let cluster = with_journal(&[0, 1]);
    assert_eq!(commit_on(&cluster.broker(0), 5).await, None);
    cluster.cut_off(1);
    cluster.set_state(1, BrokerState::Fenced);
    let read = cluster.broker(0).coordinators.read(committed_offset());
    assert!(read.is_ready(), "nobody else can lead");
    assert!(read.take_ready().is_ok());
    cluster.stop().await;
}

fn numbered(sequence: i32) -> ProduceRequest {
    let options =
        BatchOptions { producer_id: 7, producer_epoch: 0, base_sequence: sequence, ..BatchOptions::default() };
    let mut batch = BatchBuilder::new(options);
    batch.append(1_700_000_000_000, None, Some(b"v"), &[]);
    let mut request = produce("", -1);
    request.topic_data[0].partition_data[0].records = Some(batch.build());
    request
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_leader_knows_the_last_five_batches_of_a_producer_and_their_offsets() {
    let cluster = Cluster::new(&[0, 1, 2]);
    let ask = async |broker: i32, sequence| {
        let response = answered::<ProduceRequest>(start(&cluster.broker(broker), &numbered(sequence), 13)).await;
        let partition = &response.responses[0].partition_responses[0];
        (partition.error_code, partition.base_offset)
    };
    for sequence in 0..6 {
        assert_eq!(ask(0, sequence).await, (0, i64::from(sequence)));
    }
    cluster.cut_off(0);
    cluster.set_state(0, BrokerState::Fenced);
    let leader = cluster.shared.partition().leader.unwrap().0;
    for sequence in (1..6).rev() {
        assert_eq!(ask(leader, sequence).await, (0, i64::from(sequence)), "as the first answer would have been");
    }
    // As in Kafka: what is older cannot be told from a gap.
    assert_eq!(ask(leader, 0).await, (ErrorCode::OutOfOrderSequenceNumber.code(), -1));
    assert_eq!(ask(leader, 6).await, (0, 6));
    cluster.stop().await;
}
