// SPDX-License-Identifier: Apache-2.0
//! What Metadata answers while a leader has just been lost: with the next one as soon as there is one, and at once
//! whatever the loss has nothing to do with.
#![allow(clippy::unwrap_used, reason = "a test says what went wrong by failing")]
mod support;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use odradek_coordination::Holder;
use odradek_metadata::BrokerState;
use odradek_model::{BrokerId, ClusterId, DirectoryId};
use odradek_server::controller::{QuorumNetwork as _, channel};
use odradek_server::dispatch::Dispatcher;
use odradek_server::net::budget::Budget;
use odradek_server::net::connection::ConnectionLimits;
use odradek_server::net::listener::{ConnectionCount, Listener};
use odradek_server::net::{Finished, Peer, Started};
use odradek_server::peers::{ClusterSecret, Identity, Lane, PeerError, Peers, PeersSettings};
use odradek_wire::messages::{MetadataRequest, MetadataRequestTopic, MetadataResponse};
use support::cluster::Cluster;
use support::{Counter, Folder, SetClock, decode, start, start_from};
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

const VERSION: i16 = 12;
const LONGEST_WAIT: Duration = Duration::from_millis(500);
const PATIENCE: Duration = Duration::from_secs(10);

fn peers(id: i32) -> Arc<Peers> {
    Peers::new(PeersSettings {
        identity: Identity {
            cluster_id: ClusterId::new("test").unwrap(),
            holder: Holder { broker_id: BrokerId(id), incarnation: format!("process-{id}") },
            directory_id: DirectoryId(Uuid::from_u128(id as u128)),
            secret: Some(ClusterSecret::new(b"the secret of this cluster").unwrap()),
        },
        addresses: BTreeMap::new(),
        random: Arc::new(Counter::starting_at(1 << 20)),
        runtime: Handle::current(),
        on_loss: Arc::new(|_| {}),
    })
}

/// Broker 0 of three, which leads `own`; broker 1 leads `lost`, and broker 2 nothing.
struct Survivor {
    cluster: Cluster,
    peers: Arc<Peers>,
}

impl Survivor {
    async fn start() -> Self {
        let peers = peers(0);
        let cluster = Cluster::with_peers(3, Arc::clone(&peers));
        cluster.topic("lost", &[&[1, 0]]).await;
        cluster.topic("own", &[&[0, 1]]).await;
        Self { cluster, peers }
    }

    /// A connection to the broker is refused.
    async fn loses(&self, broker: i32) {
        self.finds(broker, nobody().await);
        let asked = self.peers.call(BrokerId(broker), Lane::Control, &MetadataRequest::default(), PATIENCE).await;
        assert!(matches!(asked, Err(PeerError::Connect(_))), "{asked:?}");
    }

    fn finds(&self, broker: i32, at: SocketAddr) {
        self.peers.set_addresses(BTreeMap::from([(BrokerId(broker), (at.ip().to_string(), at.port()))]));
    }

    fn ask(&self, topics: Option<&[&str]>) -> Started {
        let named = |name: &&str| MetadataRequestTopic { name: Some((*name).into()), ..Default::default() };
        let topics = topics.map(|names| names.iter().map(named).collect());
        start(&self.cluster.broker, &MetadataRequest { topics, ..MetadataRequest::default() }, VERSION)
    }

    /// The leader in an answer that must not wait for a decision, and whether it came soon.
    async fn leader_soon(&self, topic: &str) -> (i32, bool) {
        let (leader, took) = awaited(self.ask(Some(&[topic]))).await;
        (leader, took < LONGEST_WAIT / 4)
    }

    /// Whether the answer waits for a decision.
    async fn waits(started: Started) -> bool {
        match started {
            Started::Finished(_) => false,
            Started::Waiting(waiting) => timeout(LONGEST_WAIT / 4, waiting).await.is_err(),
        }
    }
}

/// Where connections are refused.
async fn nobody() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

fn leader(finished: Finished) -> i32 {
    let response: MetadataResponse = decode::<MetadataRequest>(finished, VERSION);
    response.topics[0].partitions[0].leader_id
}

/// An answer that is waited for, and how long that took; 0 if it was there at once.
async fn awaited(started: Started) -> (i32, Duration) {
    let begun = Instant::now();
    match started {
        Started::Finished(finished) => (leader(finished), Duration::ZERO),
        Started::Waiting(waiting) => (leader(waiting.await), begun.elapsed()),
    }
}

/// A machine that is busy may let any wait end late: what has to be quick must be so once in ten times.
async fn sometimes(what: &str, attempt: impl AsyncFn() -> bool) {
    for _ in 0..10 {
        if attempt().await {
            return;
        }
    }
    panic!("never: {what}");
}

#[tokio::test(flavor = "multi_thread")]
async fn metadata_names_the_leader_that_follows_a_lost_one() {
    sometimes("the next leader, before the wait is over", async || {
        let survivor = Survivor::start().await;
        assert_eq!(survivor.leader_soon("lost").await.0, 1, "who cannot be asked is named");
        survivor.loses(1).await;
        let answers = [Some(&["lost"][..]), Some(&["lost", "own"]), None].map(|topics| survivor.ask(topics));
        let answers = answers.map(|answer| tokio::spawn(awaited(answer)));
        tokio::time::sleep(Duration::from_millis(20)).await;
        let any_early = answers.iter().any(tokio::task::JoinHandle::is_finished);
        survivor.cluster.set(1, BrokerState::Fenced);
        let (next_leader, soon) = survivor.leader_soon("lost").await;
        assert_eq!(next_leader, 0);
        let mut all_are_new = soon && !any_early;
        for answer in answers {
            let (next_leader, took) = answer.await.unwrap();
            all_are_new &= next_leader == 0 && took < LONGEST_WAIT;
        }
        all_are_new
    })
    .await;
}

/// The client has lost the leader a moment before this broker has.
#[tokio::test(flavor = "multi_thread")]
async fn the_question_itself_finds_out_that_a_leader_is_lost() {
    sometimes("the next leader, before the wait is over", async || {
        let survivor = Survivor::start().await;
        survivor.finds(1, nobody().await);
        let answer = tokio::spawn(awaited(survivor.ask(Some(&["lost"]))));
        tokio::time::sleep(Duration::from_millis(20)).await;
        let is_early = answer.is_finished();
        survivor.cluster.set(1, BrokerState::Fenced);
        let (next_leader, took) = answer.await.unwrap();
        !is_early && next_leader == 0 && took < LONGEST_WAIT
    })
    .await;
}

/// It is paused, or its network is broken: 100 ms, and once in a while only.
#[tokio::test(flavor = "multi_thread")]
async fn a_silent_leader_is_named_and_left_alone() {
    sometimes("100 ms, and then at once", async || {
        let survivor = Survivor::start().await;
        let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
        survivor.finds(1, silent.local_addr().unwrap());
        let (old_leader, took) = awaited(survivor.ask(Some(&["lost"]))).await;
        assert_eq!(old_leader, 1);
        assert!(took >= Duration::from_millis(100), "{took:?}");
        let (old_leader, soon) = survivor.leader_soon("lost").await;
        assert_eq!(old_leader, 1);
        soon && took < LONGEST_WAIT / 2
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_loss_has_nothing_to_do_with_is_answered_at_once() {
    sometimes("waits for a lost leader", async || {
        let survivor = Survivor::start().await;
        survivor.loses(2).await;
        let any_waits = Survivor::waits(survivor.ask(None)).await;
        survivor.loses(1).await;
        let by_id = |name: &str| {
            let topic_id = survivor.cluster.image().topic(name).unwrap().id.0;
            let topics = vec![MetadataRequestTopic { name: None, topic_id }];
            let request = MetadataRequest { topics: Some(topics), ..MetadataRequest::default() };
            start(&survivor.cluster.broker, &request, VERSION)
        };
        for answer in
            [survivor.ask(Some(&["own"])), survivor.ask(Some(&[])), survivor.ask(Some(&["missing"])), by_id("own")]
        {
            assert!(matches!(answer, Started::Finished(_)), "it has nothing to do with others");
        }
        let waiting = [survivor.ask(None), survivor.ask(Some(&["own", "lost"])), by_id("lost")];
        let waiting = waiting.map(|answer| tokio::spawn(awaited(answer)));
        tokio::time::sleep(LONGEST_WAIT / 4).await;
        !any_waits && waiting.iter().all(|answer| !answer.is_finished())
    })
    .await;
}

/// Only this broker cannot reach the leader: its clients must not pay for that with each question.
#[tokio::test(flavor = "multi_thread")]
async fn a_loss_that_nobody_else_sees_delays_metadata_once() {
    sometimes("a wait", async || {
        let survivor = Survivor::start().await;
        survivor.loses(1).await;
        let (old_leader, took) = awaited(survivor.ask(Some(&["lost"]))).await;
        assert_eq!(old_leader, 1);
        let mut all_soon = true;
        for _ in 0..5 {
            survivor.loses(1).await;
            let (old_leader, soon) = survivor.leader_soon("lost").await;
            assert_eq!(old_leader, 1);
            all_soon &= soon;
        }
        all_soon && took > LONGEST_WAIT / 2 && took < 2 * LONGEST_WAIT
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_reached_again_was_not_lost() {
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    let broker = Folder::new().broker_with(1, SetClock::new(), channel().0, peers(1));
    let (stopping, tasks) = (CancellationToken::new(), TaskTracker::new());
    let listener = Listener {
        name: "private".into(),
        service: Arc::new(Dispatcher::new(Arc::clone(&broker))),
        limits: Arc::new(ConnectionLimits::new(Budget::new(8 << 20))),
        connections: ConnectionCount::new(100),
        observer: Arc::clone(&broker.metrics) as _,
        tasks: tasks.clone(),
        stopping: stopping.clone(),
    };
    tasks.spawn(listener.run(socket));
    sometimes("an answer as soon as the leader is reached", async || {
        let survivor = Survivor::start().await;
        survivor.loses(1).await;
        let waiting = survivor.ask(Some(&["lost"]));
        let waited = matches!(waiting, Started::Waiting(_));
        let answer = tokio::spawn(awaited(waiting));
        survivor.finds(1, address);
        let (done, accepted) = tokio::sync::oneshot::channel();
        survivor.peers.probe(BrokerId(1), Box::new(move |is_accepted| done.send(is_accepted).unwrap()));
        let accepted = accepted.await.unwrap();
        assert_eq!(survivor.leader_soon("lost").await.0, 1);
        let (same_leader, took) = answer.await.unwrap();
        assert_eq!(same_leader, 1);
        accepted && waited && took < LONGEST_WAIT / 2
    })
    .await;
    stopping.cancel();
}

/// A connection of a broker that stops answers what it has taken in.
#[tokio::test(flavor = "multi_thread")]
async fn a_stop_does_not_wait_for_a_leader() {
    sometimes("an answer at the stop", async || {
        let survivor = Survivor::start().await;
        survivor.loses(1).await;
        let stopping = CancellationToken::new();
        let peer = Peer::new("test".into(), "127.0.0.1:1".parse().unwrap(), stopping.clone());
        let topics = vec![MetadataRequestTopic { name: Some("lost".into()), ..Default::default() }];
        let request = MetadataRequest { topics: Some(topics), ..MetadataRequest::default() };
        let started = start_from(&survivor.cluster.broker, &request, VERSION, &peer);
        let waited = matches!(started, Started::Waiting(_));
        stopping.cancel();
        let (old_leader, took) = awaited(started).await;
        assert_eq!(old_leader, 1);
        waited && took < LONGEST_WAIT / 2
    })
    .await;
}
