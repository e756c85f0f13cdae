// SPDX-License-Identifier: Apache-2.0
//! Connections by themselves, with a service that answers by the first byte of a frame: bounds, deadlines, order.
#![allow(clippy::unwrap_used, reason = "a test says what went wrong by failing")]
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use odradek_server::net::budget::Budget;
use odradek_server::net::connection::{ConnectionLimits, IN_FLIGHT_REQUESTS};
use odradek_server::net::frame::Frame;
use odradek_server::net::listener::{ConnectionCount, ConnectionObserver, Listener};
use odradek_server::net::{CloseReason, Finished, Peer, Reply, Service, Started};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// `e` echoes, `w` echoes after 300 ms, `b` answers with 64 MiB, `h` never answers.
#[derive(Default)]
struct ByFirstByte {
    started: AtomicUsize,
}

impl Service for ByFirstByte {
    fn start(&self, frame: Frame, _peer: &Peer) -> Started {
        self.started.fetch_add(1, Ordering::SeqCst);
        let reply = |bytes: Bytes| {
            let size = Bytes::copy_from_slice(&(bytes.len() as u32).to_be_bytes());
            Finished::Reply(Reply { segments: vec![size.into(), bytes.into()], charge: None })
        };
        let bytes = frame.bytes.clone();
        match bytes[0] {
            b'e' => Started::Finished(reply(bytes)),
            b'w' => Started::Waiting(Box::pin(async move {
                tokio::time::sleep(Duration::from_millis(300)).await;
                reply(frame.bytes)
            })),
            b'b' => Started::Finished(reply(Bytes::from(vec![0; 64 << 20]))),
            _ => Started::Waiting(Box::pin(std::future::pending())),
        }
    }
}

#[derive(Default)]
struct Seen(Mutex<Vec<CloseReason>>);

impl ConnectionObserver for Seen {
    fn opened(&self, _listener: &str) {}
    fn closed(&self, _listener: &str, reason: CloseReason) {
        self.0.lock().unwrap().push(reason);
    }
}

struct Server {
    address: SocketAddr,
    service: Arc<ByFirstByte>,
    seen: Arc<Seen>,
    requests: Arc<Budget>,
    tasks: TaskTracker,
    stopping: CancellationToken,
}

impl Server {
    async fn start(change: impl FnOnce(&mut ConnectionLimits), connections: usize) -> Self {
        let requests = Budget::new(32 << 20);
        let mut limits = ConnectionLimits::new(Arc::clone(&requests));
        change(&mut limits);
        let (service, seen) = (Arc::new(ByFirstByte::default()), Arc::new(Seen::default()));
        let (tasks, stopping) = (TaskTracker::new(), CancellationToken::new());
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let listener = Listener {
            name: "test".into(),
            service: Arc::clone(&service),
            limits: Arc::new(limits),
            connections: ConnectionCount::new(connections),
            observer: Arc::clone(&seen) as _,
            tasks: tasks.clone(),
            stopping: stopping.clone(),
        };
        tasks.spawn(listener.run(socket));
        Self { address, service, seen, requests, tasks, stopping }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    async fn wait_for(&self, reason: CloseReason) {
        let begun = Instant::now();
        while !self.seen.0.lock().unwrap().contains(&reason) {
            assert!(begun.elapsed() < Duration::from_secs(5), "{reason:?}: {:?}", self.seen.0.lock().unwrap());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

fn frame(kind: u8, number: u8, size: usize) -> Vec<u8> {
    let mut bytes = (size as u32).to_be_bytes().to_vec();
    bytes.resize(4 + size, number);
    bytes[4] = kind;
    bytes
}

async fn answer(stream: &mut TcpStream) -> Vec<u8> {
    let size = stream.read_u32().await.unwrap();
    let mut bytes = vec![0; size as usize];
    stream.read_exact(&mut bytes).await.unwrap();
    bytes
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_keep_the_order_of_requests_of_all_sizes() {
    let server = Server::start(|_| {}, 100).await;
    let mut stream = server.connect().await;
    let begun = Instant::now();
    let sizes = [8, 20_000, 9, 300_000, 16_384, 1_000_000, 8];
    for (number, size) in sizes.into_iter().enumerate() {
        // Every second one takes 300 ms; together they take as long as one.
        let kind = if number % 2 == 0 { b'w' } else { b'e' };
        stream.write_all(&frame(kind, number as u8, size)).await.unwrap();
    }
    for (number, size) in sizes.into_iter().enumerate() {
        let bytes = answer(&mut stream).await;
        assert_eq!((bytes.len(), bytes[size - 1]), (size, number as u8));
    }
    assert!(begun.elapsed() < Duration::from_millis(1100), "{:?}", begun.elapsed());
    drop(stream);
    server.wait_for(CloseReason::Client).await;
    assert_eq!(server.requests.used(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frame_that_arrives_byte_by_byte_is_one_frame() {
    let server = Server::start(|_| {}, 100).await;
    let mut stream = server.connect().await;
    for byte in frame(b'e', 5, 40) {
        stream.write_all(&[byte]).await.unwrap();
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(answer(&mut stream).await.len(), 40);
}

#[tokio::test(flavor = "multi_thread")]
async fn unanswered_requests_are_bounded() {
    let server = Server::start(|_| {}, 100).await;
    let mut stream = server.connect().await;
    for _ in 0..IN_FLIGHT_REQUESTS + 20 {
        stream.write_all(&frame(b'h', 0, 8)).await.unwrap();
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(server.service.started.load(Ordering::SeqCst), IN_FLIGHT_REQUESTS);
    // Nobody else is held up.
    let mut other = server.connect().await;
    other.write_all(&frame(b'e', 1, 8)).await.unwrap();
    assert_eq!(answer(&mut other).await.len(), 8);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_read_is_closed_and_gives_its_bytes_back() {
    let server = Server::start(|limits| limits.write_time = Duration::ZERO, 100).await;
    // 64 MiB at 256 KiB/s would be 256 s; the time is counted for what is left, so this one only starts the wait.
    let mut stream = server.connect().await;
    stream.write_all(&frame(b'b', 0, 8)).await.unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(server.seen.0.lock().unwrap().is_empty());
    let mut other = server.connect().await;
    other.write_all(&frame(b'e', 1, 8)).await.unwrap();
    assert_eq!(answer(&mut other).await.len(), 8);
    drop(stream);
    server.wait_for(CloseReason::Io).await;
    drop(other);
    server.wait_for(CloseReason::Client).await;
    assert_eq!(server.requests.used(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_connections_are_closed_and_waiting_ones_are_not() {
    let server = Server::start(|limits| limits.idle = Duration::from_millis(300), 100).await;
    let mut waiting = server.connect().await;
    waiting.write_all(&frame(b'h', 0, 8)).await.unwrap();
    let mut idle = server.connect().await;
    assert_eq!(idle.read(&mut [0; 8]).await.unwrap(), 0);
    server.wait_for(CloseReason::Idle).await;
    tokio::time::sleep(Duration::from_millis(700)).await;
    assert_eq!(server.seen.0.lock().unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_over_the_maximum_are_closed_at_once() {
    let server = Server::start(|_| {}, 2).await;
    let (mut first, _second) = (server.connect().await, server.connect().await);
    first.write_all(&frame(b'e', 0, 8)).await.unwrap();
    answer(&mut first).await;
    let mut third = server.connect().await;
    assert_eq!(third.read(&mut [0; 8]).await.unwrap_or(0), 0);
    server.wait_for(CloseReason::TooManyConnections).await;
    drop(first);
    server.wait_for(CloseReason::Client).await;
    let mut fourth = server.connect().await;
    fourth.write_all(&frame(b'e', 0, 8)).await.unwrap();
    assert_eq!(answer(&mut fourth).await.len(), 8);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_lets_requests_finish_and_then_closes() {
    let server = Server::start(|_| {}, 100).await;
    let mut stream = server.connect().await;
    stream.write_all(&frame(b'w', 3, 8)).await.unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    server.stopping.cancel();
    assert_eq!(answer(&mut stream).await[7], 3);
    assert_eq!(stream.read(&mut [0; 8]).await.unwrap(), 0);
    server.tasks.close();
    tokio::time::timeout(Duration::from_secs(2), server.tasks.wait()).await.unwrap();
    assert!(TcpStream::connect(server.address).await.is_err());
}
