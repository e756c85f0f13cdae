// SPDX-License-Identifier: Apache-2.0
//! Brokers on real sockets that speak to each other on their private listeners: introductions, what is refused without
//! one, hostile bytes, messages of the quorum, probes, and records that a follower fetches.
#![allow(clippy::unwrap_used, reason = "a test says what went wrong by failing")]
mod support;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use odradek_coordination::quorum::{Input, Message, MessageBody};
use odradek_metadata::records::{PartitionRecord, RegisterBrokerRecord, TopicRecord};
use odradek_metadata::{Image, Record, apply};
use odradek_model::{BrokerId, DirectoryId, TopicId};
use odradek_records::{BatchBuilder, BatchOptions};
use odradek_replication::ReplicaKey;
use odradek_server::controller::{Ask, ControllerStatus, QuorumNetwork as _};
use odradek_server::peers::{Identity, Lane, PeerError, Peers};
use odradek_wire::ErrorCode;
use odradek_wire::client::Connection;
use odradek_wire::messages::{
    FetchRequest, MetadataRequest, PartitionProduceData, ProduceRequest, ReplicaState, TopicProduceData,
};
use odradek_wire::private::{BrokerHeartbeatRequest, ChallengeRequest, IntroduceRequest, PrivateApiKey, PrivateHeader};
use support::members::{Member, PATIENCE, SECRET, connect, identity, peers, until};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use uuid::Uuid;

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
