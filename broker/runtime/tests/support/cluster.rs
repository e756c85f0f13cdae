// SPDX-License-Identifier: Apache-2.0
//! Three brokers in one process, over real sockets, with real files.
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use odradek_coordination::InProcessLease;
use odradek_model::ClusterId;
use odradek_runtime::config::{BrokerAddress, Config, Coordination, ListenerConfig};
use odradek_runtime::{Broker, PRIVATE_LISTENER, RunningBroker, StartError};
use odradek_server::peers::ClusterSecret;
use odradek_wire::client::Connection;
use odradek_wire::messages::{
    CreatableTopic, CreateTopicsRequest, MetadataRequest, MetadataRequestTopic, MetadataResponse,
    MetadataResponsePartition,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::ports::free_ports;
use super::{config, connect};

const BROKERS: i32 = 3;
const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) struct Cluster {
    pub(crate) configs: Vec<Config>,
    pub(crate) brokers: Vec<Option<RunningBroker>>,
    folder: tempfile::TempDir,
}

impl Cluster {
    /// With the Lease in the process.
    pub(crate) async fn start() -> Self {
        let cluster_id = ClusterId::new("three").unwrap();
        let lease = Arc::new(InProcessLease::new("lease", &cluster_id));
        Self::with(|_| Coordination::InProcess(Arc::clone(&lease) as _)).await
    }

    /// With the Lease in [`Cluster::lease_file`].
    pub(crate) async fn with_lease_file() -> Self {
        Self::with(|folder| Coordination::File(lease_file(folder))).await
    }

    async fn with(coordination: impl Fn(&Path) -> Coordination) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let secret = ClusterSecret::new(b"a secret of these three brokers").unwrap();
        let ports = free_ports::<{ BROKERS as usize }>();
        let address = |(id, port): (i32, &u16)| BrokerAddress { id, host: "127.0.0.1".into(), port: *port, rack: None };
        let all: Vec<_> = (0..).zip(&ports).map(address).collect();
        let configs: Vec<_> = (0..BROKERS)
            .map(|id| {
                let path = folder.path().join(format!("broker-{id}"));
                let mut config = config(Path::new(&path), &[]);
                config.cluster_id = Some(ClusterId::new("three").unwrap());
                config.broker_id = id;
                config.brokers.clone_from(&all);
                config.cluster_secret = Some(secret.clone());
                config.coordination = coordination(folder.path());
                config.listeners.push(ListenerConfig {
                    name: PRIVATE_LISTENER.to_owned(),
                    bind: format!("127.0.0.1:{}", ports[id as usize]).parse().unwrap(),
                    advertised: None,
                });
                config
            })
            .collect();
        let mut cluster = Self { configs, brokers: Vec::new(), folder };
        cluster.start_all().await;
        cluster
    }

    pub(crate) fn lease_file(&self) -> PathBuf {
        lease_file(self.folder.path())
    }

    pub(crate) async fn start_all(&mut self) {
        let began = Instant::now();
        let starting: Vec<_> = self.configs.iter().map(|config| tokio::spawn(Broker::start(config.clone()))).collect();
        self.brokers.clear();
        for broker in starting {
            self.brokers.push(Some(broker.await.unwrap().unwrap()));
        }
        println!("three brokers serve after {:?}", began.elapsed());
    }

    pub(crate) fn alive(&self) -> impl Iterator<Item = (usize, &RunningBroker)> {
        self.brokers.iter().enumerate().filter_map(|(id, broker)| Some((id, broker.as_ref()?)))
    }

    pub(crate) async fn until<T>(&self, what: &str, condition: impl Fn(&Self) -> Option<T>) -> (T, Duration) {
        let began = Instant::now();
        loop {
            if let Some(value) = condition(self) {
                return (value, began.elapsed());
            }
            assert!(began.elapsed() < PATIENCE, "{what}: not within 20 s");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// The one that leads, once all have heard of it.
    pub(crate) async fn controller(&self) -> (usize, Duration) {
        self.until("one controller that all know", |cluster| {
            let (leader, broker) = cluster.alive().find(|(_, broker)| broker.controller().leads)?;
            let epoch = broker.controller().epoch;
            let known = |b: &RunningBroker| b.controller().epoch == epoch && b.controller().controller.is_some();
            cluster.alive().all(|(_, broker)| known(broker)).then_some(leader)
        })
        .await
    }

    /// Until then the death of the first voter, or of one of two, stops the metadata.
    pub(crate) async fn three_voters(&self) -> Duration {
        let all_vote = |cluster: &Self| cluster.alive().all(|(_, b)| b.controller().voters == 3).then_some(());
        self.until("three voters", all_vote).await.1
    }

    pub(crate) async fn client(&self, id: usize) -> Connection {
        connect(self.brokers[id].as_ref().unwrap().address("plain").unwrap()).await
    }

    pub(crate) async fn restart(&mut self, id: usize) {
        self.brokers[id] = Some(self.start_one(id).await.unwrap());
    }

    pub(crate) async fn start_one(&self, id: usize) -> Result<RunningBroker, StartError> {
        Broker::start(self.configs[id].clone()).await
    }

    pub(crate) async fn kill(&mut self, id: usize) {
        self.brokers[id].take().unwrap().kill().await;
    }

    /// The end of a test: the last of three would wait for the others in vain.
    pub(crate) async fn kill_all(&mut self) {
        for broker in std::mem::take(&mut self.brokers).into_iter().flatten() {
            broker.kill().await;
        }
    }

    /// Asks a broker for the state of a partition until it is as wanted.
    pub(crate) async fn partition(
        &self,
        asked: usize,
        topic: &str,
        index: i32,
        wanted: impl Fn(&MetadataResponsePartition) -> bool,
    ) -> MetadataResponsePartition {
        let began = Instant::now();
        let mut client = self.client(asked).await;
        loop {
            let seen = metadata(&mut client, topic).await;
            let found = seen.topics[0].partitions.iter().find(|partition| partition.partition_index == index);
            if let Some(found) = found.filter(|found| wanted(found)) {
                return found.clone();
            }
            assert!(began.elapsed() < PATIENCE, "{topic}-{index}: {found:?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

fn lease_file(folder: &Path) -> PathBuf {
    folder.join("lease")
}

/// Creates a topic of three partitions with three replicas each.
pub(crate) async fn create(client: &mut Connection, topic: &str) -> i16 {
    let request = CreateTopicsRequest {
        topics: vec![CreatableTopic {
            name: topic.into(),
            num_partitions: 3,
            replication_factor: 3,
            ..CreatableTopic::default()
        }],
        timeout_ms: 10_000,
        ..CreateTopicsRequest::default()
    };
    client.call(request).await.unwrap().topics[0].error_code
}

pub(crate) async fn metadata(client: &mut Connection, topic: &str) -> MetadataResponse {
    let topics = Some(vec![MetadataRequestTopic { name: Some(topic.into()), ..MetadataRequestTopic::default() }]);
    client.call(MetadataRequest { topics, ..MetadataRequest::default() }).await.unwrap()
}

/// Status and body of a GET at a broker's HTTP port.
pub(crate) async fn get(broker: &RunningBroker, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(broker.http().unwrap()).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: broker\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}
