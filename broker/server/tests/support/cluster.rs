// SPDX-License-Identifier: Apache-2.0
//! Broker 0 of a cluster whose controller decides in a thread beside it, without a log; of the other brokers there is
//! only what the metadata says.
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use odradek_metadata::records::{ClusterRecord, FeatureLevelRecord};
use odradek_metadata::{
    BrokerState, ChangeBrokerState, Command, ControllerSettings, Decision, Endpoint, Image, REPLICATION_FEATURE_LEVEL,
    RegisterBroker, Reply, decide,
};
use odradek_model::{BrokerId, ClusterId, ControllerEpoch, DirectoryId};
use odradek_server::broker::Broker;
use odradek_server::controller::{Ask, ControllerInbox, ControllerStatus, Decided, Inbox, channel};
use odradek_server::peers::Peers;
use odradek_wire::Request;
use odradek_wire::messages::{CreatableReplicaAssignment, CreatableTopic, CreateTopicsRequest};
use tokio::runtime::Handle;
use uuid::Uuid;

use super::{Counter, Folder, SetClock, later};

const EPOCH: ControllerEpoch = 1;

/// A broker with a controller.
pub(crate) struct Cluster {
    pub(crate) broker: Arc<Broker>,
    image: Arc<Mutex<Image>>,
    /// Holds the files.
    _folder: Folder,
}

/// No other brokers.
fn alone() -> Arc<Peers> {
    let cluster_id = ClusterId::new("test").unwrap();
    Peers::alone(cluster_id, BrokerId(0), Arc::new(Counter::default()), Handle::current())
}

impl Cluster {
    /// Brokers 0 to `brokers` - 1, unfenced.
    pub(crate) fn new(brokers: i32) -> Self {
        Self::with_peers(brokers, alone())
    }

    /// As [`Self::new`], with connections to the other brokers.
    pub(crate) fn with_peers(brokers: i32, peers: Arc<Peers>) -> Self {
        let cluster = Self::of(REPLICATION_FEATURE_LEVEL, peers);
        for id in 0..brokers {
            cluster.join(id);
        }
        cluster
    }

    /// Without brokers.
    pub(crate) fn at_level(level: u32) -> Self {
        Self::of(level, alone())
    }

    fn of(level: u32, peers: Arc<Peers>) -> Self {
        let (handle, inbox) = channel();
        inbox.show(ControllerStatus {
            epoch: EPOCH,
            controller: Some(BrokerId(0)),
            leads: true,
            ..ControllerStatus::default()
        });
        let folder = Folder::new();
        let broker = folder.broker_with(0, SetClock::new(), handle, peers);
        let mut image = Image::empty();
        let cluster_record = ClusterRecord { cluster_id: "test".to_owned() }.into();
        for record in [cluster_record, FeatureLevelRecord { level }.into()] {
            image.apply_mut(EPOCH, &record).unwrap();
        }
        broker.publish(Arc::new(image.clone()));
        let image = Arc::new(Mutex::new(image));
        let (controllers, weak) = (Arc::clone(&image), Arc::downgrade(&broker));
        std::thread::spawn(move || run(&inbox, &controllers, &weak));
        Self { broker, image, _folder: folder }
    }

    /// Registers and unfences a broker, reached at `host` on the listener `test`.
    fn join(&self, id: i32) {
        let endpoint = Endpoint { listener: "test".into(), host: "host".into(), port: 9092, security_protocol: 0 };
        let registered = self.decide(&Command::RegisterBroker(RegisterBroker {
            broker_id: BrokerId(id),
            cluster_id: ClusterId::new("test").unwrap(),
            incarnation: Uuid::from_u128(id as u128 + 1),
            directory_id: DirectoryId(Uuid::from_u128(id as u128 + 1)),
            endpoints: vec![endpoint],
            rack: None,
            boot_id: "boot".into(),
            clean_shutdown_of: None,
            damaged_logs: Vec::new(),
            supported_feature_level: REPLICATION_FEATURE_LEVEL,
        }));
        assert!(matches!(registered, Reply::RegisterBroker(Ok(_))), "{registered:?}");
        self.set(id, BrokerState::Unfenced);
    }

    pub(crate) fn set(&self, id: i32, state: BrokerState) {
        let broker_epoch = self.image().broker(BrokerId(id)).unwrap().epoch;
        let changed = self.decide(&Command::ChangeBrokerState(ChangeBrokerState {
            broker_id: BrokerId(id),
            broker_epoch,
            state,
        }));
        assert!(matches!(changed, Reply::BrokerState(Ok(_))), "{changed:?}");
    }

    /// Decides here and now; the broker learns what follows.
    pub(crate) fn decide(&self, command: &Command) -> Reply {
        decide_and_publish(&self.image, &self.broker, command)
    }

    /// What the broker knows.
    pub(crate) fn image(&self) -> Arc<Image> {
        self.broker.image()
    }

    /// Creates a topic with these replicas.
    pub(crate) async fn topic(&self, name: &str, replicas: &[&[i32]]) {
        let assignment = |(index, replicas): (i32, &&[i32])| CreatableReplicaAssignment {
            partition_index: index,
            broker_ids: replicas.to_vec(),
        };
        let request = CreateTopicsRequest {
            topics: vec![CreatableTopic {
                name: name.into(),
                num_partitions: -1,
                replication_factor: -1,
                assignments: (0..).zip(replicas).map(assignment).collect(),
                ..CreatableTopic::default()
            }],
            ..CreateTopicsRequest::default()
        };
        let created = self.ask(&request, 7).await;
        assert_eq!(created.topics[0].error_code, 0, "{:?}", created.topics[0].error_message);
    }

    /// The answer to a request.
    pub(crate) async fn ask<R: Request>(&self, request: &R, version: i16) -> R::Response {
        later(&self.broker, request, version).await
    }
}

fn run(inbox: &ControllerInbox, image: &Mutex<Image>, broker: &Weak<Broker>) {
    loop {
        match inbox.next(Duration::from_mins(1)) {
            Inbox::Ask(Ask::Decide(command, answer)) => {
                let Some(broker) = broker.upgrade() else { return };
                let reply = decide_and_publish(image, &broker, &command);
                let end = image.lock().unwrap().end_offset();
                let _ = answer.send(Ok(Decided { reply, epoch: EPOCH, end }));
            }
            Inbox::Ask(_) | Inbox::Nothing => {}
            Inbox::Closed => return,
        }
    }
}

fn decide_and_publish(image: &Mutex<Image>, broker: &Broker, command: &Command) -> Reply {
    let mut image = image.lock().unwrap();
    let Decision { records, reply } = decide(&image, &ControllerSettings::default(), command, 0);
    for record in &records {
        image.apply_mut(EPOCH, record).unwrap();
    }
    if !records.is_empty() {
        broker.publish(Arc::new(image.clone()));
    }
    reply
}
