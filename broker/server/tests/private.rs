// SPDX-License-Identifier: Apache-2.0
//! Brokers on real sockets that speak to each other on their private listeners: introductions, what is refused without
//! one, messages of the quorum, probes, and clients' requests that another broker answers.
#![allow(clippy::unwrap_used, reason = "a test says what went wrong by failing")]
mod support;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use bytes::Bytes;
use odradek_coordination::Holder;
use odradek_coordination::quorum::{Input, Message, MessageBody};
use odradek_metadata::records::{PartitionRecord, RegisterBrokerRecord, TopicRecord};
use odradek_metadata::{
    AlterPartition, AlterPartitionRefusal, Command, CreatedTopic, Heartbeat, HeartbeatReply, Image, ProducerIdBlock,
    Record, RegisterBroker, RegisterBrokerError, Reply, StaleHeartbeat, apply,
};
use odradek_model::{BrokerId, ClusterId, DirectoryId, TopicId};
use odradek_records::{BatchBuilder, BatchOptions};
use odradek_replication::ReplicaKey;
use odradek_server::broker::Broker;
use odradek_server::controller::{
    Ask, ControllerInbox, ControllerStatus, ControllerUnavailable, Decided, Inbox, QuorumNetwork as _, channel,
};
use odradek_server::dispatch::Dispatcher;
use odradek_server::net::budget::Budget;
use odradek_server::net::connection::ConnectionLimits;
use odradek_server::net::listener::{ConnectionCount, Listener};
use odradek_server::peers::{ClusterSecret, ControllerClientError, Identity, Lane, PeerError, Peers, PeersSettings};
use odradek_wire::client::{ClientOptions, Connection};
use odradek_wire::messages::{
    CreatableTopic, CreateTopicsRequest, FetchRequest, MetadataRequest, MetadataRequestTopic, PartitionProduceData,
    ProduceRequest, ReplicaState, TopicProduceData,
};
use odradek_wire::private::{BrokerHeartbeatRequest, ChallengeRequest, IntroduceRequest, PrivateApiKey, PrivateHeader};
use odradek_wire::{ErrorCode, Message as _};
use support::{Folder, SetClock, publish};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

const SECRET: &[u8] = b"the secret of this cluster";
const PATIENCE: Duration = Duration::from_secs(5);

fn identity(id: i32, cluster: &str, secret: &[u8]) -> Identity {
    Identity {
        cluster_id: ClusterId::new(cluster).unwrap(),
        holder: Holder { broker_id: BrokerId(id), incarnation: format!("process-{id}") },
        directory_id: DirectoryId(Uuid::from_u128(id as u128)),
        secret: Some(ClusterSecret::new(secret).unwrap()),
    }
}

/// Connections of a broker with this identity that tell of their losses.
fn peers(identity: Identity) -> (Arc<Peers>, mpsc::Receiver<BrokerId>) {
    let (lost, losses) = mpsc::channel();
    let settings = PeersSettings {
        identity,
        addresses: BTreeMap::new(),
        random: Arc::new(support::Counter::starting_at(1 << 20)),
        runtime: Handle::current(),
        on_loss: Arc::new(move |broker| lost.send(broker).unwrap_or_default()),
    };
    (Peers::new(settings), losses)
}

/// A broker with a private listener and one for clients.
struct Member {
    broker: Arc<Broker>,
    inbox: Option<ControllerInbox>,
    private: SocketAddr,
    plain: SocketAddr,
    requests: Arc<Budget>,
    stopping: CancellationToken,
    tasks: TaskTracker,
}

impl Member {
    async fn start(id: i32) -> Self {
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

    fn knows(&self, others: &[&Self]) {
        self.broker.peers.set_addresses(others.iter().map(|other| other.entry()).collect());
    }

    fn entry(&self) -> (BrokerId, (String, u16)) {
        (self.broker.id, (self.private.ip().to_string(), self.private.port()))
    }

    /// Answers what this member's node is asked, on a thread as the real one.
    fn controls(&mut self, status: ControllerStatus, mut answer: impl FnMut(Ask) + Send + 'static) {
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

fn leading(epoch: i64) -> ControllerStatus {
    ControllerStatus { epoch, leads: true, ..ControllerStatus::default() }
}

fn following(epoch: i64, controller: i32) -> ControllerStatus {
    ControllerStatus { epoch, controller: Some(BrokerId(controller)), ..ControllerStatus::default() }
}

async fn connect(address: SocketAddr) -> Connection {
    Connection::connect(address, ClientOptions::default()).await.unwrap()
}

/// Waits until a condition holds.
async fn until(what: &str, condition: impl Fn() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < PATIENCE, "{what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_introduction_is_refused_by_name() {
    let member = Member::start(2).await;
    let ask = async |from: Identity, to: i32| {
        let (peers, _losses) = peers(from);
        peers.set_addresses(BTreeMap::from([(BrokerId(to), member.entry().1)]));
        peers.call(BrokerId(to), Lane::Control, &MetadataRequest::default(), PATIENCE).await
    };
    assert!(ask(identity(1, "test", SECRET), 2).await.is_ok());
    let cases = [
        (identity(1, "test", b"another secret of a cluster"), 2, ErrorCode::SaslAuthenticationFailed),
        (identity(1, "other", SECRET), 2, ErrorCode::InconsistentClusterId),
        (identity(1, "test", SECRET), 3, ErrorCode::InvalidRequest),
        (identity(2, "test", SECRET), 2, ErrorCode::InvalidRequest),
    ];
    for (from, to, expected) in cases {
        match ask(from, to).await {
            Err(PeerError::Refused { broker, code, message }) => {
                assert_eq!((broker, code), (BrokerId(to), expected), "{message}");
                assert!(!message.is_empty());
            }
            other => panic!("{other:?} instead of {expected}"),
        }
    }
    let silent = Identity { secret: None, ..identity(1, "test", SECRET) };
    assert!(matches!(ask(silent, 2).await, Err(PeerError::NoSecret)));
    assert!(matches!(ask(identity(1, "test", SECRET), 7).await, Err(PeerError::Refused { .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_introduction_needs_a_challenge_of_its_own_and_a_refusal_ends_the_connection() {
    let member = Member::start(2).await;
    let claim = IntroduceRequest {
        cluster_id: "test".into(),
        broker_id: 1,
        incarnation: "process-1".into(),
        intended_broker_id: 2,
        ..IntroduceRequest::default()
    };
    let expect_end = async |mut connection: Connection, code: ErrorCode| {
        let refused = connection.call_peer(&claim, PATIENCE, 1 << 20).await.unwrap();
        assert_eq!((refused.error_code, refused.proof.len()), (code.code(), 0), "{:?}", refused.error_message);
        assert!(connection.call(MetadataRequest::default()).await.is_err(), "closed");
    };
    expect_end(connect(member.private).await, ErrorCode::InvalidRequest).await;
    let mut guessing = connect(member.private).await;
    let first = guessing.call_peer(&ChallengeRequest {}, PATIENCE, 1 << 20).await.unwrap();
    let second = guessing.call_peer(&ChallengeRequest {}, PATIENCE, 1 << 20).await.unwrap();
    assert_ne!(first.challenge, second.challenge);
    expect_end(guessing, ErrorCode::SaslAuthenticationFailed).await;
    until("all is given back", || member.requests.used() == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_registers_with_the_controller_and_closed_connections_open_again() {
    let (mut one, mut two) = (Member::start(1).await, Member::start(2).await);
    one.knows(&[&two]);
    one.controls(following(1, 2), |_| {});
    two.controls(leading(1), |ask| {
        let Ask::Decide(command, answer) = ask else { return };
        let Command::RegisterBroker(command) = *command else { panic!("{command:?}") };
        let reply = if command.rack.is_some() { Ok(17) } else { Err(RegisterBrokerError::LiveSession(BrokerId(1))) };
        let _ = answer.send(Ok(Decided { reply: Reply::RegisterBroker(reply), epoch: 1, end: 5 }));
    });
    let registration = |rack: Option<&str>| RegisterBroker {
        broker_id: BrokerId(1),
        cluster_id: ClusterId::new("test").unwrap(),
        incarnation: Uuid::from_u128(1),
        directory_id: DirectoryId(Uuid::from_u128(1)),
        endpoints: Vec::new(),
        rack: rack.map(Into::into),
        boot_id: String::new(),
        clean_shutdown_of: None,
        damaged_logs: Vec::new(),
        supported_feature_level: 2,
    };
    let client = &one.broker.controller_client;
    assert_eq!(client.register(&registration(Some("a")), PATIENCE).await.unwrap(), Ok(17));
    let refused = client.register(&registration(None), PATIENCE).await.unwrap();
    assert_eq!(refused, Err(RegisterBrokerError::LiveSession(BrokerId(1))));
    one.broker.peers.close(BrokerId(2));
    assert_eq!(client.register(&registration(Some("a")), PATIENCE).await.unwrap(), Ok(17));
    // A broker cannot be registered by another.
    let other = RegisterBroker { broker_id: BrokerId(3), ..registration(Some("a")) };
    assert!(client.register(&other, Duration::from_millis(300)).await.is_err());
}

/// Who answers must know the secret as well: else somebody at a broker's old address could play the controller.
#[tokio::test(flavor = "multi_thread")]
async fn who_answers_without_the_secret_is_not_believed() {
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    let truth = Member::start(2).await;
    // Passes everything on to a real broker, but spoils the last byte of the answer to the introduction.
    tokio::spawn(async move {
        let (mut near, _) = socket.accept().await.unwrap();
        let mut far = TcpStream::connect(truth.private).await.unwrap();
        for exchange in 0.. {
            for is_answer in [false, true] {
                let (from, to) = if is_answer { (&mut far, &mut near) } else { (&mut near, &mut far) };
                let Ok(size) = from.read_u32().await else { return };
                let mut frame = vec![0; size as usize];
                from.read_exact(&mut frame).await.unwrap();
                if is_answer && exchange == 2 {
                    let last_of_proof = frame.len() - 2;
                    frame[last_of_proof] ^= 1;
                }
                to.write_u32(size).await.unwrap();
                to.write_all(&frame).await.unwrap();
            }
        }
    });
    let (peers, _losses) = peers(identity(1, "test", SECRET));
    peers.set_addresses(BTreeMap::from([(BrokerId(2), (address.ip().to_string(), address.port()))]));
    let answer = peers.call(BrokerId(2), Lane::Control, &MetadataRequest::default(), PATIENCE).await;
    assert!(matches!(answer, Err(PeerError::Impostor(BrokerId(2)))), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_not_introduced_is_not_heard() {
    let member = Member::start(2).await;
    let heartbeat = BrokerHeartbeatRequest { broker_id: 1, ..BrokerHeartbeatRequest::default() };
    let mut private = connect(member.private).await;
    assert!(private.call_peer(&heartbeat, PATIENCE, 1 << 20).await.is_err(), "closed");
    assert!(!private.is_open());
    // Clients' listeners know no private request at all.
    let mut plain = connect(member.plain).await;
    assert!(plain.call_peer(&ChallengeRequest {}, PATIENCE, 1 << 20).await.is_err(), "closed");
    // A consumer may read by the private listener, but nobody may say that he is a replica.
    let fetch = |replica_id: i32| FetchRequest {
        replica_state: ReplicaState { replica_id, replica_epoch: 1 },
        session_epoch: -1,
        ..FetchRequest::default()
    };
    for address in [member.private, member.plain] {
        let mut client = connect(address).await;
        let refused = client.call(fetch(1)).await.unwrap();
        assert_eq!(refused.error_code, ErrorCode::ClusterAuthorizationFailed.code());
        assert_eq!(client.call(fetch(-1)).await.unwrap().error_code, 0);
    }
    // A broker is itself, and no other.
    let (peers, _losses) = peers(identity(1, "test", SECRET));
    peers.set_addresses(BTreeMap::from([member.entry()]));
    let ask = async |id| peers.call(BrokerId(2), Lane::Replication(0), &fetch(id), PATIENCE).await.unwrap().error_code;
    assert_eq!(ask(1).await, 0);
    assert_eq!(ask(3).await, ErrorCode::ClusterAuthorizationFailed.code());
    let other = BrokerHeartbeatRequest { broker_id: 3, ..heartbeat };
    assert!(peers.call(BrokerId(2), Lane::Heartbeat, &other, PATIENCE).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_bytes_on_the_private_port_harm_nobody() {
    let member = Member::start(2).await;
    let mut state = 1_u64;
    let mut random = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as u8
    };
    let valid = |key: PrivateApiKey| {
        let header = PrivateHeader { key, version: 0, correlation_id: 7 };
        let frame = header.encode_frame(&ChallengeRequest {}).unwrap();
        frame.concat()
    };
    for round in 0..400_usize {
        let key = PrivateApiKey::ALL[round % PrivateApiKey::ALL.len()];
        let mut bytes = valid(key);
        match round % 4 {
            // Random bodies of messages that exist.
            0 => bytes.extend((0..round).map(|_| random())),
            // Huge claims in place of counts.
            1 => bytes.extend([0xff, 0xff, 0xff, 0xff, 0x0f].repeat(20)),
            // A frame that is cut.
            2 => bytes.extend([0; 100]),
            // Keys that do not exist, versions that are not there.
            _ => {
                bytes[4] = 0x27;
                bytes[5] = 0x10 | (random() & 0x0f);
                bytes[7] = random();
            }
        }
        let size = (bytes.len() - 4) as u32 + if round % 4 == 2 { 1000 } else { 0 };
        bytes[..4].copy_from_slice(&size.to_be_bytes());
        let mut stream = TcpStream::connect(member.private).await.unwrap();
        stream.write_all(&bytes).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut rest = Vec::new();
        let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut rest)).await;
        assert!(read.is_ok(), "round {round}: neither answered nor closed");
        assert!(rest.len() < 4096, "round {round}: {} bytes", rest.len());
    }
    until("all is given back", || member.requests.used() == 0).await;
    assert!(connect(member.private).await.call(MetadataRequest::default()).await.is_ok());
}

fn message(from: &Identity, request: u64) -> Message {
    let body = MessageBody::Announce(request as i64);
    Message { sender: from.holder.clone(), directory_id: from.directory_id, request, body }
}

/// Collects the quorum's messages that a member receives.
fn received(member: &mut Member) -> Arc<Mutex<Vec<Message>>> {
    let messages = Arc::<Mutex<Vec<Message>>>::default();
    let seen = Arc::clone(&messages);
    member.controls(ControllerStatus::default(), move |ask| {
        if let Ask::Quorum(input) = ask
            && let Input::Received(message) = *input
        {
            seen.lock().unwrap().push(message);
        }
    });
    messages
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_of_the_quorum_arrive_in_order_and_from_their_sender_only() {
    let mut member = Member::start(2).await;
    let messages = received(&mut member);
    let one = identity(1, "test", SECRET);
    let (peers, losses) = peers(one.clone());
    peers.set_addresses(BTreeMap::from([member.entry()]));
    for request in 0..10 {
        peers.send(BrokerId(2), message(&one, request));
    }
    until("ten messages", || messages.lock().unwrap().len() == 10).await;
    let expected: Vec<Message> = (0..10).map(|request| message(&one, request)).collect();
    assert_eq!(*messages.lock().unwrap(), expected);
    // As another process of the broker, from another folder, as another broker: never heard, and the connection ends.
    let mut other_process = message(&one, 90);
    other_process.sender.incarnation = "earlier".into();
    let mut other_folder = message(&one, 91);
    other_folder.directory_id = DirectoryId(Uuid::from_u128(77));
    for forged in [other_process, other_folder, message(&identity(3, "test", SECRET), 92)] {
        peers.send(BrokerId(2), forged);
        assert_eq!(losses.recv_timeout(PATIENCE), Ok(BrokerId(2)));
    }
    peers.send(BrokerId(2), message(&one, 11));
    until("one more", || messages.lock().unwrap().len() == 11).await;
    assert_eq!(messages.lock().unwrap()[10], message(&one, 11));
    // Sending to nobody is harmless.
    peers.send(BrokerId(9), message(&one, 12));
}

async fn probe(peers: &Peers, broker: i32) -> bool {
    let (sender, receiver) = tokio::sync::oneshot::channel();
    peers.probe(BrokerId(broker), Box::new(move |accepted| sender.send(accepted).unwrap()));
    receiver.await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn losses_are_told_at_once_and_probes_tell_life_from_death() {
    let mut member = Member::start(2).await;
    let messages = received(&mut member);
    let one = identity(1, "test", SECRET);
    let (peers, losses) = peers(one.clone());
    assert!(!probe(&peers, 2).await, "no address");
    peers.set_addresses(BTreeMap::from([member.entry()]));
    assert!(probe(&peers, 2).await);
    peers.send(BrokerId(2), message(&one, 1));
    until("a message", || !messages.lock().unwrap().is_empty()).await;
    assert!(losses.try_recv().is_err(), "nothing was lost yet");
    // A process that ends closes its sockets: no message is needed to find that out.
    member.stopping.cancel();
    member.tasks.close();
    member.tasks.wait().await;
    assert_eq!(losses.recv_timeout(PATIENCE), Ok(BrokerId(2)));
    assert!(!probe(&peers, 2).await);
    let before = Instant::now();
    peers.send(BrokerId(2), message(&one, 2));
    assert_eq!(losses.recv_timeout(PATIENCE), Ok(BrokerId(2)), "refused");
    assert!(before.elapsed() < Duration::from_secs(1));
    // A machine that does not answer at all: the probe has an end. Port 1 of a documentation address.
    peers.set_addresses(BTreeMap::from([(BrokerId(2), ("192.0.2.1".to_owned(), 1))]));
    let before = Instant::now();
    assert!(!probe(&peers, 2).await);
    assert!(before.elapsed() < Duration::from_secs(2), "{:?}", before.elapsed());
}

/// The answer of the fake controller to one topic.
fn created(name: &str) -> Reply {
    let topic = CreatedTopic {
        name: odradek_model::TopicName::new(name).unwrap(),
        id: TopicId(support::TOPIC_ID),
        partitions: 1,
        replication_factor: 1,
        settings: odradek_model::TopicSettings::default(),
        overrides: odradek_model::TopicOverrides::default(),
    };
    Reply::CreateTopics(vec![(name.to_owned(), Ok(topic))])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clients_request_is_answered_by_the_controller_and_found_here() {
    let (mut one, mut two) = (Member::start(1).await, Member::start(2).await);
    one.knows(&[&two]);
    one.controls(following(3, 2), |_| {});
    let (follower, controller) = (Arc::downgrade(&one.broker), Arc::downgrade(&two.broker));
    let runtime = Handle::current();
    two.controls(leading(3), move |ask| {
        let Ask::Decide(command, answer) = ask else { return };
        let Command::CreateTopics(command) = *command else { panic!("{command:?}") };
        let name = command.topics[0].name.clone();
        let Some(broker) = controller.upgrade() else { return };
        publish(&broker, &name, &[false]);
        let end = broker.image().end_offset();
        // The other broker learns of it a while later.
        let follower = follower.clone();
        let late = name.clone();
        runtime.spawn(async move {
            tokio::time::sleep(Duration::from_millis(200)).await;
            publish(&follower.upgrade().unwrap(), &late, &[false]);
        });
        let _ = answer.send(Ok(Decided { reply: created(&name), epoch: 3, end }));
    });
    let mut client = connect(one.plain).await;
    let request = CreateTopicsRequest {
        topics: vec![CreatableTopic { name: "orders".into(), num_partitions: 1, ..CreatableTopic::default() }],
        ..CreateTopicsRequest::default()
    };
    // Every version comes back in the form that the client asked for.
    for version in CreateTopicsRequest::MIN_VERSION..=CreateTopicsRequest::MAX_VERSION {
        let response = client.call_version(&request, version).await.unwrap();
        assert_eq!(response.topics[0].name, "orders");
        assert_eq!(response.topics[0].error_code, 0, "{:?}", response.topics[0].error_message);
        assert!(one.broker.image().topic("orders").is_some(), "found here as soon as it is answered");
    }
    until("all is given back", || one.requests.used() == 0 && two.requests.used() == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_is_missed_here_is_created_by_the_controller() {
    let (mut one, mut two) = (Member::start(1).await, Member::start(2).await);
    one.knows(&[&two]);
    one.controls(following(3, 2), |_| {});
    let asked = Arc::<Mutex<Vec<Command>>>::default();
    let seen = Arc::clone(&asked);
    two.controls(leading(3), move |ask| {
        let Ask::Decide(command, answer) = ask else { return };
        seen.lock().unwrap().push(*command);
        let _ = answer.send(Ok(Decided { reply: created("orders"), epoch: 3, end: 0 }));
    });
    let request = MetadataRequest {
        topics: Some(vec![MetadataRequestTopic { name: Some("orders".into()), ..MetadataRequestTopic::default() }]),
        ..MetadataRequest::default()
    };
    let answer = connect(one.plain).await.call(request).await.unwrap();
    assert_ne!(answer.topics[0].error_code, 0, "not there yet");
    until("the controller is asked", || !asked.lock().unwrap().is_empty()).await;
    let Command::CreateTopics(command) = &asked.lock().unwrap()[0] else { panic!("another command") };
    let topic = &command.topics[0];
    assert_eq!((&*topic.name, topic.partitions, topic.replication_factor), ("orders", -1, -1));
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_of_one_connection_keep_their_order_and_others_do_not_wait() {
    let (mut one, mut two) = (Member::start(1).await, Member::start(2).await);
    one.knows(&[&two]);
    one.controls(following(3, 2), |_| {});
    let order = Arc::<Mutex<Vec<String>>>::default();
    let seen = Arc::clone(&order);
    let runtime = Handle::current();
    two.controls(leading(3), move |ask| {
        let Ask::Decide(command, answer) = ask else { return };
        let Command::CreateTopics(command) = *command else { panic!("{command:?}") };
        let name = command.topics[0].name.clone();
        seen.lock().unwrap().push(name.clone());
        // The commit of the slow one takes a while; the controller goes on with others.
        let wait = if name == "slow" { 500 } else { 0 };
        runtime.spawn(async move {
            tokio::time::sleep(Duration::from_millis(wait)).await;
            let _ = answer.send(Ok(Decided { reply: created(&name), epoch: 3, end: 0 }));
        });
    });
    let request = |name: &str| CreateTopicsRequest {
        topics: vec![CreatableTopic { name: name.into(), num_partitions: 1, ..CreatableTopic::default() }],
        ..CreateTopicsRequest::default()
    };
    let frame = |name: &str, correlation_id| {
        let header = odradek_wire::RequestHeader {
            key: odradek_wire::ApiKey::CreateTopics,
            version: 7,
            correlation_id,
            client_id: None,
        };
        odradek_wire::frame::encode_request(&header, &request(name)).unwrap().concat()
    };
    let mut pipelined = TcpStream::connect(one.plain).await.unwrap();
    pipelined.write_all(&[frame("slow", 1), frame("next", 2)].concat()).await.unwrap();
    until("the slow one is under way", || !order.lock().unwrap().is_empty()).await;
    let begun = Instant::now();
    connect(one.plain).await.call(request("other")).await.unwrap();
    assert!(begun.elapsed() < Duration::from_millis(400), "it waited: {:?}", begun.elapsed());
    for expected in [1, 2] {
        let size = pipelined.read_u32().await.unwrap();
        let mut answer = vec![0; size as usize];
        pipelined.read_exact(&mut answer).await.unwrap();
        assert_eq!(answer[..4], i32::to_be_bytes(expected));
    }
    assert_eq!(*order.lock().unwrap(), ["slow", "other", "next"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_envelope_is_opened_by_one_who_does_not_lead_or_holds_what_anybody_answers() {
    let (mut one, mut two) = (Member::start(1).await, Member::start(2).await);
    one.knows(&[&two]);
    one.controls(following(3, 2), |_| {});
    two.controls(following(3, 1), |_| {});
    let peer = odradek_server::net::Peer::new("plain".into(), one.plain, CancellationToken::new());
    let short = Duration::from_millis(300);
    let asked = one.broker.controller_client.forward(&peer, Bytes::from_static(&[0; 20]), short).await;
    assert!(matches!(asked, Err(ControllerClientError::NotCarriedOut(_))), "{asked:?}");
    // Two leads now: a Produce, an ApiVersions and a private request in an envelope end the connection.
    let mut two = Member::start(2).await;
    one.knows(&[&two]);
    two.controls(leading(3), |ask| panic!("{ask:?}"));
    for key in [0_i16, 18, 10_004, 10_007, 99] {
        let bytes = [&key.to_be_bytes()[..], &[0; 20]].concat();
        let asked = one.broker.controller_client.forward(&peer, bytes.into(), short).await;
        assert!(matches!(asked, Err(ControllerClientError::Unknown(_))), "{key}: {asked:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_brokers_own_requests_reach_the_controller_by_a_hint_and_old_answers_are_not_believed() {
    let (mut one, mut two, mut three) = (Member::start(1).await, Member::start(2).await, Member::start(3).await);
    one.knows(&[&two, &three]);
    one.controls(following(1, 2), |_| {});
    two.controls(following(4, 3), |ask| {
        let elsewhere = ControllerUnavailable::NotController { controller: Some(BrokerId(3)), epoch: 4 };
        match ask {
            Ask::Heartbeat(_, answer) => drop(answer.send(Err(elsewhere))),
            Ask::Decide(_, answer) => drop(answer.send(Err(elsewhere))),
            other => panic!("{other:?}"),
        }
    });
    let epoch = Arc::new(std::sync::atomic::AtomicI64::new(4));
    let answered_epoch = Arc::clone(&epoch);
    three.controls(leading(4), move |ask| {
        let epoch = answered_epoch.load(std::sync::atomic::Ordering::SeqCst);
        match ask {
            Ask::Heartbeat(heartbeat, answer) => {
                let reply = if heartbeat.broker_epoch == 7 {
                    Ok(HeartbeatReply { caught_up: true, fenced: false, may_stop: false })
                } else {
                    Err(StaleHeartbeat(heartbeat.broker_id, heartbeat.broker_epoch))
                };
                let _ = answer.send(Ok((epoch, reply)));
            }
            Ask::Decide(command, answer) => {
                let reply = match *command {
                    Command::AllocateProducerIds(_) => {
                        Reply::AllocateProducerIds(Ok(ProducerIdBlock { first: 1000, len: 1000 }))
                    }
                    Command::AlterPartition(command) if command.sequence == 5 => {
                        Reply::AlterPartition(Err(AlterPartitionRefusal::Late(5)))
                    }
                    Command::AlterPartition(_) => Reply::FeatureLevelTooLow { needed: 2, present: 1 },
                    other => panic!("{other:?}"),
                };
                let _ = answer.send(Ok(Decided { reply, epoch, end: 9 }));
            }
            Ask::ConnectionLost(_) => {}
            other => panic!("{other:?}"),
        }
    });
    let client = &one.broker.controller_client;
    let heartbeat = |broker_epoch| Heartbeat {
        broker_id: BrokerId(1),
        broker_epoch,
        metadata_end: 3,
        wants_fence: false,
        wants_shutdown: false,
    };
    // Broker 2 is believed to be the controller, and says that it is broker 3.
    let (heard, reply) = client.heartbeat(&heartbeat(7), PATIENCE).await.unwrap();
    assert_eq!((heard, reply), (4, Ok(HeartbeatReply { caught_up: true, fenced: false, may_stop: false })));
    let (_, stale) = client.heartbeat(&heartbeat(6), PATIENCE).await.unwrap();
    assert_eq!(stale, Err(StaleHeartbeat(BrokerId(1), 6)));
    let command = odradek_metadata::AllocateProducerIds { broker_id: BrokerId(1), broker_epoch: 7 };
    let block = client.allocate_producer_ids(&command, PATIENCE).await.unwrap();
    assert_eq!(block, Ok(ProducerIdBlock { first: 1000, len: 1000 }));
    let proposals = |sequence| AlterPartition {
        broker_id: BrokerId(1),
        broker_epoch: 7,
        controller_epoch: 4,
        sequence,
        partitions: Vec::new(),
    };
    let (_, late) = client.alter_partition(&proposals(5), PATIENCE).await.unwrap();
    assert_eq!(late, Err(AlterPartitionRefusal::Late(5)));
    let low = client.alter_partition(&proposals(6), PATIENCE).await;
    assert!(matches!(low, Err(ControllerClientError::FeatureLevelTooLow { needed: 2, present: 1 })), "{low:?}");
    // An answer of an epoch below the highest heard of.
    epoch.store(3, std::sync::atomic::Ordering::SeqCst);
    let old = client.alter_partition(&proposals(5), PATIENCE).await;
    assert!(matches!(old, Err(ControllerClientError::Unknown(_))), "{old:?}");
    let old = client.heartbeat(&heartbeat(7), Duration::from_millis(300)).await;
    assert!(matches!(old, Err(ControllerClientError::Unknown(_))), "{old:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_leads_asks_itself() {
    let mut one = Member::start(1).await;
    one.controls(leading(2), |ask| match ask {
        Ask::Decide(_, answer) => {
            let _ = answer.send(Err(ControllerUnavailable::Busy));
        }
        Ask::Heartbeat(_, answer) => {
            let reply = HeartbeatReply { caught_up: true, fenced: true, may_stop: true };
            let _ = answer.send(Ok((2, Ok(reply))));
        }
        other => panic!("{other:?}"),
    });
    let heartbeat =
        Heartbeat { broker_id: BrokerId(1), broker_epoch: 1, metadata_end: 0, wants_fence: true, wants_shutdown: true };
    let (epoch, reply) = one.broker.controller_client.heartbeat(&heartbeat, PATIENCE).await.unwrap();
    assert_eq!((epoch, reply), (2, Ok(HeartbeatReply { caught_up: true, fenced: true, may_stop: true })));
    let command = odradek_metadata::AllocateProducerIds { broker_id: BrokerId(1), broker_epoch: 7 };
    let busy = one.broker.controller_client.allocate_producer_ids(&command, Duration::from_millis(200)).await;
    assert!(matches!(busy, Err(ControllerClientError::NotCarriedOut(_))), "{busy:?}");
}

/// Metadata with brokers 1 and 2 and a partition of both, led by the first.
fn replicated_topic(id: Uuid) -> Arc<Image> {
    let broker = |broker_id: i32| {
        Record::from(RegisterBrokerRecord {
            broker_id,
            broker_epoch: i64::from(broker_id),
            incarnation: Bytes::copy_from_slice(&[broker_id as u8; 16]),
            directory_id: Bytes::copy_from_slice(&[broker_id as u8; 16]),
            ..RegisterBrokerRecord::default()
        })
    };
    let id = Bytes::copy_from_slice(id.as_bytes());
    let partition = PartitionRecord {
        topic_id: id.clone(),
        replicas: vec![1, 2],
        isr: vec![1, 2],
        leader: 1,
        leader_epoch: 1,
        ..PartitionRecord::default()
    };
    let topic = TopicRecord { id, name: "t".to_owned(), ..TopicRecord::default() };
    let records = [broker(1), broker(2), topic.into(), partition.into()];
    let image = records.iter().fold(Image::empty(), |image, record| apply(&image, 0, record).unwrap());
    Arc::new(image)
}

#[tokio::test(flavor = "multi_thread")]
async fn records_are_fetched_over_an_introduced_connection() {
    let (leader, follower) = (Member::start(1).await, Member::start(2).await);
    follower.knows(&[&leader]);
    let id = Uuid::from_u128(5);
    let key = ReplicaKey { topic: TopicId(id), partition: 0 };
    for member in [&leader, &follower] {
        member.broker.publish(replicated_topic(id));
        member.broker.start_replication(&member.tasks, &member.stopping);
    }
    let mut connection = connect(leader.plain).await;
    for number in 1..=3 {
        let mut batch = BatchBuilder::new(BatchOptions::default());
        batch.append(1_700_000_000_000, None, Some(b"x"), &[]);
        let request = ProduceRequest {
            acks: -1,
            timeout_ms: 5_000,
            topic_data: vec![TopicProduceData {
                topic_id: id,
                partition_data: vec![PartitionProduceData { index: 0, records: Some(batch.build()) }],
                ..TopicProduceData::default()
            }],
            ..ProduceRequest::default()
        };
        let response = connection.call(request).await.unwrap();
        assert_eq!(response.responses[0].partition_responses[0].error_code, 0);
        assert_eq!(follower.broker.replica(key).unwrap().log_end(), number, "before the acknowledgement");
    }
    for member in [leader, follower] {
        member.stopping.cancel();
        member.tasks.close();
        tokio::time::timeout(PATIENCE, member.tasks.wait()).await.expect("every task ends");
    }
}
