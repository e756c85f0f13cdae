// SPDX-License-Identifier: Apache-2.0
//! What brokers on real sockets ask of a controller: their own requests, and those of clients that another broker answers.
#![allow(clippy::unwrap_used, reason = "a test says what went wrong by failing")]
mod support;

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use odradek_metadata::{
    AlterPartition, AlterPartitionRefusal, Command, CreatedTopic, Heartbeat, HeartbeatReply, ProducerIdBlock,
    RegisterBroker, RegisterBrokerError, Reply, StaleHeartbeat,
};
use odradek_model::{BrokerId, ClusterId, DirectoryId, TopicId};
use odradek_server::controller::{Ask, ControllerStatus, ControllerUnavailable, Decided};
use odradek_server::peers::ControllerClientError;
use odradek_wire::Message as _;
use odradek_wire::messages::{CreatableTopic, CreateTopicsRequest, MetadataRequest, MetadataRequestTopic};
use support::members::{Member, PATIENCE, connect, until};
use support::publish;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

fn leading(epoch: i64) -> ControllerStatus {
    ControllerStatus { epoch, leads: true, ..ControllerStatus::default() }
}

fn following(epoch: i64, controller: i32) -> ControllerStatus {
    ControllerStatus { epoch, controller: Some(BrokerId(controller)), ..ControllerStatus::default() }
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
