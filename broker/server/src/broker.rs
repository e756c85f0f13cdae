// SPDX-License-Identifier: Apache-2.0
//! The broker as requests meet it: identity, image, replicas, coordinators, controller, budgets. It must not know the
//! wire protocol.
use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use odradek_disk::Disk;
use odradek_metadata::{BrokerImage, Command, CreateTopics, Image, NewTopic, Reply};
use odradek_model::{BrokerId, ClusterId, OFFSETS_TOPIC, TopicId, TopicSettings};

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::clock::{Clock, Random};
use crate::controller::ControllerHandle;
use crate::coordinators::Coordinators;
use crate::failure::Failure;
use crate::health::Health;
use crate::metrics::Metrics;
use crate::net::budget::Budget;
use crate::producer_ids::ProducerIds;
use crate::replica::Replica;
use crate::replicas::{Replicas, TopicReplicas};
use crate::settings::BrokerSettings;

/// Topics being created because somebody asked for them, at most: a client that asks for random names must not queue
/// up work. Those beyond are created when they are asked for again.
const AUTO_CREATIONS: usize = 100;

/// One broker.
#[derive(Debug)]
pub struct Broker {
    /// Its id.
    pub id: BrokerId,
    /// Its cluster.
    pub cluster_id: ClusterId,
    /// Its settings.
    pub settings: BrokerSettings,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub random: Arc<dyn Random>,
    /// Metrics.
    pub metrics: Arc<Metrics>,
    /// Its replicas.
    pub replicas: Replicas,
    /// Group coordinators.
    pub coordinators: Coordinators,
    /// The controller.
    pub controller: ControllerHandle,
    /// Ids for producers.
    pub producer_ids: ProducerIds,
    /// Memory for answers.
    pub reads: Arc<Budget>,
    /// Files.
    pub disk: Arc<dyn Disk>,
    /// Where the partitions' folders are.
    pub data_folder: PathBuf,
    /// What the probes see.
    pub health: Arc<Health>,
    /// How the broker says that it cannot go on.
    pub failure: Arc<Failure>,
    image: RwLock<Arc<Image>>,
    auto_creations: Mutex<HashSet<String>>,
}

/// What a broker is made of.
#[derive(Debug)]
pub struct BrokerParts {
    pub id: BrokerId,
    pub cluster_id: ClusterId,
    pub settings: BrokerSettings,
    pub clock: Arc<dyn Clock>,
    pub random: Arc<dyn Random>,
    pub metrics: Arc<Metrics>,
    pub controller: ControllerHandle,
    pub reads: Arc<Budget>,
    pub disk: Arc<dyn Disk>,
    pub data_folder: PathBuf,
    pub health: Arc<Health>,
    pub failure: Arc<Failure>,
}

impl Broker {
    /// A broker with an empty image.
    pub fn new(parts: BrokerParts) -> Arc<Self> {
        let coordinators = Coordinators::new(parts.settings.groups.clone(), Arc::clone(&parts.clock));
        Arc::new(Self {
            id: parts.id,
            cluster_id: parts.cluster_id,
            settings: parts.settings,
            clock: parts.clock,
            random: parts.random,
            metrics: parts.metrics,
            replicas: Replicas::default(),
            coordinators,
            controller: parts.controller,
            producer_ids: ProducerIds::default(),
            reads: parts.reads,
            disk: parts.disk,
            data_folder: parts.data_folder,
            health: parts.health,
            failure: parts.failure,
            image: RwLock::default(),
            auto_creations: Mutex::default(),
        })
    }

    /// The newest image.
    pub fn image(&self) -> Arc<Image> {
        Arc::clone(&self.image.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes over a new image: opens and removes replicas, then shows it. Blocks on the disk.
    pub fn publish(&self, image: Arc<Image>) {
        let before = self.image();
        let mut deleted = Vec::new();
        for topic in before.topics() {
            if image.topic_by_id(topic.id).is_none() {
                self.replicas.remove(topic.id);
                self.metrics.forget_topic(&topic.name);
                deleted.push((topic.name.clone(), topic.id));
            }
        }
        for topic in image.topics() {
            if before.topic_by_id(topic.id).is_some() {
                continue;
            }
            let settings = TopicSettings::resolve(&topic.overrides, &self.settings.topic_defaults)
                .unwrap_or_else(|error| {
                    tracing::error!(topic = %topic.name, %error, "stored settings are refused; defaults are used");
                    TopicSettings::default()
                });
            let metrics = self.metrics.topic(&topic.name);
            let partitions = topic.partitions.iter().enumerate().map(|(index, partition)| {
                partition.replicas.contains(&self.id).then(|| {
                    let replica = Replica::open(
                        topic.name.clone(), topic.id, index as i32, settings.clone(), metrics.clone());
                    Arc::new(replica)
                })
            });
            let partitions: Vec<_> = partitions.collect();
            if &*topic.name == OFFSETS_TOPIC {
                self.coordinators.load(&partitions);
            }
            self.replicas.insert(Arc::new(TopicReplicas { name: topic.name.clone(), id: topic.id, partitions, offline: 0 }));
        }
        *self.image.write().unwrap_or_else(PoisonError::into_inner) = image;
        if !deleted.is_empty() {
            let deleted: Vec<_> = deleted.iter().map(|(name, id)| (&**name, *id)).collect();
            self.coordinators.topics_deleted(&deleted);
        }
    }

    /// Opens all replicas at start, then shows the image. Blocks on the disk.
    pub fn recover(&self, image: Arc<Image>) {
        self.publish(image);
    }

    /// Starts what the broker does by itself.
    pub fn spawn_tasks(self: &Arc<Self>, tasks: &TaskTracker, stopping: &CancellationToken) {
        let (broker, stopping) = (Arc::clone(self), stopping.clone());
        tasks.spawn(async move { broker.coordinators.run_timers(stopping).await });
    }

    /// Flushes and marks all logs clean. Blocks.
    pub fn close(&self) {}

    /// Where clients of a listener reach a broker.
    pub fn endpoint(&self, broker: &BrokerImage, listener: &str) -> Option<(String, u16)> {
        let endpoint = broker.endpoints.iter().find(|endpoint| endpoint.listener == listener)?;
        Some((endpoint.host.clone(), endpoint.port))
    }

    /// A topic id that no topic has: random, and not one of those that Kafka keeps.
    pub fn new_topic_id(&self) -> TopicId {
        TopicId(self.random.uuid())
    }

    /// Creates a topic in the background because a client asked for it (rule 36).
    pub fn create_behind(self: &Arc<Self>, name: &str) {
        {
            let mut creations = self.auto_creations.lock().unwrap_or_else(PoisonError::into_inner);
            if creations.len() >= AUTO_CREATIONS || !creations.insert(name.to_owned()) {
                return;
            }
        }
        let broker = Arc::clone(self);
        let name = name.to_owned();
        tokio::spawn(async move {
            broker.create_one(&name, -1, -1, Vec::new()).await;
            broker.auto_creations.lock().unwrap_or_else(PoisonError::into_inner).remove(&name);
        });
    }

    /// Creates the topic in which groups are journalled, if there is none.
    pub async fn create_offsets_topic(&self) {
        let partitions = self.settings.number("offsets.topic.num.partitions") as i32;
        let segment = self.settings.number("offsets.topic.segment.bytes").to_string();
        self.create_one(OFFSETS_TOPIC, partitions, -1, vec![("segment.bytes".to_owned(), Some(segment))]).await;
    }

    async fn create_one(
        &self,
        name: &str,
        partitions: i32,
        replication_factor: i16,
        settings: Vec<(String, Option<String>)>,
    ) {
        let topic = NewTopic {
            name: name.to_owned(),
            id: self.new_topic_id(),
            partitions,
            replication_factor,
            assignments: Vec::new(),
            settings,
        };
        let command = Command::CreateTopics(CreateTopics {
            topics: vec![topic],
            validate_only: false,
            placement_seed: self.random.number(),
        });
        match self.controller.ask(command).await {
            Ok(Reply::CreateTopics(outcomes)) => {
                for (name, outcome) in outcomes {
                    match outcome {
                        Ok(_) => tracing::info!(topic = %name, "created because a client asked for it"),
                        Err(error) => tracing::info!(topic = %name, %error, "not created"),
                    }
                }
            }
            Ok(other) => unreachable!("a creation was answered with {other:?}"),
            Err(error) => tracing::warn!(topic = name, %error, "not created"),
        }
    }
}
