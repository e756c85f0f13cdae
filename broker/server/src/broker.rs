// SPDX-License-Identifier: Apache-2.0
//! The broker as requests meet it: identity, image, replicas, coordinators, controller, budgets. It must not know the
//! wire protocol.
use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use odradek_disk::DiskError;
use odradek_metadata::{BrokerImage, Command, CreateTopics, Image, NewTopic, PartitionImage, Reply, TopicImage};
use odradek_model::{BrokerId, ClusterId, OFFSETS_TOPIC, TopicId, TopicPartition, TopicSettings};

use odradek_partition::{Leadership, LocalBroker, MonotonicTime};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::clock::{Clock, Random};
use crate::controller::ControllerHandle;
use crate::coordinators::Coordinators;
use crate::failure::Failure;
use crate::folder::{ReplicaFolder, WantedLog};
use crate::health::Health;
use crate::metrics::{Metrics, TopicMetrics};
use crate::net::budget::Budget;
use crate::producer_ids::ProducerIds;
use crate::replica::{Replica, ReplicaContext, ReplicaParts};
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
    pub coordinators: Arc<Coordinators>,
    /// The controller.
    pub controller: ControllerHandle,
    /// Ids for producers.
    pub producer_ids: ProducerIds,
    /// Memory for answers.
    pub reads: Arc<Budget>,
    /// Where its logs are.
    pub folder: Arc<ReplicaFolder>,
    /// What the probes see.
    pub health: Arc<Health>,
    /// How the broker says that it cannot go on.
    pub failure: Arc<Failure>,
    replica_context: ReplicaContext,
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
    pub folder: Arc<ReplicaFolder>,
    pub runtime: Handle,
    pub health: Arc<Health>,
    pub failure: Arc<Failure>,
}

impl Broker {
    /// A broker with an empty image.
    pub fn new(parts: BrokerParts) -> Arc<Self> {
        let coordinators =
            Coordinators::new(parts.settings.groups.clone(), Arc::clone(&parts.clock), parts.runtime.clone());
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
            folder: parts.folder,
            replica_context: ReplicaContext { runtime: parts.runtime, failure: Arc::clone(&parts.failure) },
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

    /// Opens all replicas at start, with progress, then shows the image. Blocks on the disk.
    pub fn recover(&self, image: Arc<Image>) -> Result<(), DiskError> {
        let known = image.topics().map(|topic| (topic.name.to_string(), topic.id)).collect();
        let deleted = self.folder.find_deleted(&known, || self.random.uuid())?;
        // Their wait is over: the broker that renamed them is gone.
        self.remove_later(deleted, Duration::ZERO);
        let own = |partition: &PartitionImage| partition.replicas.contains(&self.id);
        let logs = image.topics().flat_map(|topic| {
            let indexes = topic.partitions.iter().enumerate().filter(|(_, partition)| own(partition));
            indexes.map(|(index, _)| self.folder.bytes_of(&topic.name, index as i32))
        });
        let (count, bytes) = logs.fold((0, 0), |(count, sum), bytes| (count + 1, sum + bytes));
        self.health.expect(count, bytes);
        self.take_over(image, false);
        Ok(())
    }

    /// Takes over a new image: opens and removes replicas, then shows it. Blocks on the disk.
    pub fn publish(&self, image: Arc<Image>) {
        self.take_over(image, true);
    }

    fn take_over(&self, image: Arc<Image>, is_new: bool) {
        let before = self.image();
        let mut deleted = Vec::new();
        for topic in before.topics() {
            if image.topic_by_id(topic.id).is_none() {
                self.delete_replicas(topic.id);
                self.metrics.forget_topic(&topic.name);
                deleted.push((topic.name.clone(), topic.id));
            }
        }
        let mut wanted = Vec::new();
        for topic in image.topics().filter(|topic| before.topic_by_id(topic.id).is_none()) {
            let settings = TopicSettings::resolve(&topic.overrides, &self.settings.topic_defaults);
            let settings = settings.unwrap_or_else(|error| {
                tracing::error!(topic = %topic.name, %error, "stored settings are refused; defaults are used");
                TopicSettings::default()
            });
            let metrics = self.metrics.topic(&topic.name);
            for index in 0..topic.partitions.len() {
                wanted.push((Arc::clone(topic), index, settings.clone(), metrics.clone()));
            }
        }
        let opened = in_parallel(&wanted, |(topic, index, settings, metrics)| {
            let partition = &topic.partitions[*index];
            let own = partition.replicas.contains(&self.id);
            own.then(|| self.open_replica(topic, *index, partition, settings, metrics, is_new))
        });
        let mut topics: BTreeMap<TopicId, TopicReplicas> = BTreeMap::new();
        for ((topic, index, ..), replica) in wanted.iter().zip(opened) {
            let entry = topics.entry(topic.id).or_insert_with(|| TopicReplicas {
                name: topic.name.clone(),
                id: topic.id,
                partitions: Vec::new(),
                offline: Vec::new(),
            });
            if matches!(replica, Some(None)) {
                entry.offline.push(*index as i32);
            }
            entry.partitions.push(replica.flatten());
        }
        let changed = !deleted.is_empty() || !topics.is_empty();
        let new: Vec<TopicPartition> = wanted
            .iter()
            .map(|(topic, index, ..)| TopicPartition { topic: topic.name.clone(), partition: *index as i32 })
            .collect();
        for topic in topics.into_values() {
            if &*topic.name == OFFSETS_TOPIC {
                self.coordinators.load(&topic.partitions);
            }
            self.replicas.insert(Arc::new(topic));
        }
        if is_new && changed {
            // The checkpoints know partitions by name: a topic that comes back under its name must not meet, after a
            // kill, the log start and the recovery point of the one that was deleted. Nothing is served before.
            let written = (self.folder.checkpoint_logs(&self.replicas))
                .and_then(|()| self.folder.checkpoint_high_watermarks(&self.replicas));
            if let Err(error) = written {
                // On a full disk a deletion is what helps, and what the checkpoints say of a topic that is gone harms
                // only one that has its name.
                if error.is_no_space() && !new.iter().any(|at| self.folder.is_checkpointed(at)) {
                    tracing::warn!(%error, "checkpoints are not written after a change of topics");
                } else {
                    self.replica_context.failure.fail(format!("checkpoints after a change of topics: {error}"));
                }
            }
        }
        *self.image.write().unwrap_or_else(PoisonError::into_inner) = image;
        if !deleted.is_empty() {
            let deleted: Vec<_> = deleted.iter().map(|(name, id)| (&**name, *id)).collect();
            self.coordinators.topics_deleted(&deleted);
        }
    }

    /// `None` if it cannot be opened; it is offline then, and the others serve.
    fn open_replica(
        &self,
        topic: &TopicImage,
        index: usize,
        image: &PartitionImage,
        settings: &TopicSettings,
        metrics: &TopicMetrics,
        is_new: bool,
    ) -> Option<Arc<Replica>> {
        let index = index as i32;
        let wanted = WantedLog {
            topic: &topic.name,
            topic_id: topic.id,
            index,
            settings,
            producer_id_expiration_ms: self.settings.number("producer.id.expiration.ms"),
            local: LocalBroker::alone(self.id),
            is_new,
        };
        if is_new {
            self.set_stray_aside(topic, index);
        }
        let bytes = if is_new { 0 } else { self.folder.bytes_of(&topic.name, index) };
        let mut recovery = self.health.recovery(bytes);
        let mut partition = match self.folder.open_partition(&wanted, self.clock.now_ms(), &mut recovery) {
            Ok((partition, report)) => {
                if let Some(cut) = &report.cut {
                    tracing::warn!(topic = %topic.name, index, cut, bytes = report.bytes_cut, "the log's torn end is cut");
                }
                partition
            }
            Err(error) => {
                tracing::error!(topic = %topic.name, index, %error, "the replica is offline");
                return None;
            }
        };
        let mut effects = Vec::new();
        if image.leader == Some(self.id) {
            let leadership = Leadership {
                leader_epoch: image.leader_epoch,
                partition_epoch: image.partition_epoch,
                replicas: image.replicas.clone(),
                in_sync: image.isr.clone(),
            };
            // Nobody follows a broker that is alone: no time matters.
            match partition.lead(leadership, MonotonicTime(0)) {
                Ok(asked) => effects = asked,
                Err(error) => {
                    tracing::error!(topic = %topic.name, index, %error, "the replica is offline");
                    return None;
                }
            }
        }
        if !is_new {
            recovery.finish();
        }
        let parts = ReplicaParts {
            topic: topic.name.clone(),
            topic_id: topic.id,
            index,
            settings: settings.clone(),
            metrics: metrics.clone(),
            partition,
        };
        let replica = Replica::new(parts, self.replica_context.clone());
        replica.begin(effects);
        Some(replica)
    }

    /// What lies under the name of a new topic is of one that was deleted and whose folder could not be renamed.
    fn set_stray_aside(&self, topic: &TopicImage, index: i32) {
        let renamed = self.folder.has_partition(&topic.name, index).and_then(|is_there| {
            is_there.then(|| self.folder.rename_deleted(&topic.name, index, self.random.uuid())).transpose()
        });
        match renamed {
            Ok(Some(path)) => {
                tracing::warn!(topic = %topic.name, index, "a deleted partition's folder is set aside and removed");
                self.remove_later(vec![path], Duration::ZERO);
            }
            Ok(None) => {}
            // Opening refuses the folder of another topic.
            Err(error) => tracing::warn!(topic = %topic.name, index, %error, "a deleted partition's folder stays"),
        }
    }

    fn delete_replicas(&self, id: TopicId) {
        let Some(topic) = self.replicas.remove(id) else { return };
        let mut renamed = Vec::new();
        for replica in topic.partitions.iter().flatten() {
            replica.delete();
            match self.folder.rename_deleted(&replica.topic, replica.index, self.random.uuid()) {
                Ok(path) => renamed.push(path),
                // The next start finds it as a stray.
                Err(error) => tracing::warn!(%error, "a deleted partition's folder stays for now"),
            }
        }
        self.remove_later(renamed, self.settings.time("log.segment.delete.delay.ms"));
    }

    /// Removes renamed folders after a while; what a stop prevents, the next start does.
    fn remove_later(&self, folders: Vec<PathBuf>, delay: Duration) {
        if folders.is_empty() {
            return;
        }
        let folder = Arc::clone(&self.folder);
        self.replica_context.runtime.spawn(async move {
            tokio::time::sleep(delay).await;
            let removed = tokio::task::spawn_blocking(move || {
                for path in folders {
                    if let Err(error) = folder.remove(&path) {
                        tracing::warn!(%error, "a deleted partition's folder stays until the next start");
                    }
                }
            });
            let _ = removed.await;
        });
    }

    /// Starts what the broker does by itself: timers of groups, retention, checkpoints.
    pub fn spawn_tasks(self: &Arc<Self>, tasks: &TaskTracker, stopping: &CancellationToken) {
        let (broker, stop) = (Arc::clone(self), stopping.clone());
        tasks.spawn(async move { broker.coordinators.run_timers(stop).await });
        let every = |name: &str| self.settings.time(name);
        self.repeat(tasks, stopping, every("replica.high.watermark.checkpoint.interval.ms"), |broker| {
            if let Err(error) = broker.folder.checkpoint_high_watermarks(&broker.replicas) {
                tracing::warn!(%error, "high watermarks are not checkpointed");
            }
        });
        self.repeat(tasks, stopping, every("log.flush.offset.checkpoint.interval.ms"), |broker| {
            if let Err(error) = broker.folder.checkpoint_logs(&broker.replicas) {
                tracing::warn!(%error, "recovery points are not checkpointed");
            }
        });
        self.repeat(tasks, stopping, every("log.retention.check.interval.ms"), |broker| {
            for replica in broker.replicas.all() {
                if let Err(error) = replica.maintain(broker.clock.now_ms()) {
                    tracing::warn!(topic = %replica.topic, index = replica.index, %error, "retention failed");
                }
            }
        });
    }

    /// Runs work that blocks, again and again, each time after a pause.
    fn repeat(self: &Arc<Self>, tasks: &TaskTracker, stopping: &CancellationToken, pause: Duration, work: fn(&Self)) {
        let (broker, stopping) = (Arc::clone(self), stopping.clone());
        tasks.spawn(async move {
            loop {
                tokio::select! {
                    () = tokio::time::sleep(pause) => {}
                    () = stopping.cancelled() => return,
                }
                let broker = Arc::clone(&broker);
                if tokio::task::spawn_blocking(move || work(&broker)).await.is_err() {
                    return;
                }
            }
        });
    }

    /// Flushes and closes all logs and marks them clean. Blocks.
    pub fn close(&self) {
        let replicas = self.replicas.all();
        for replica in &replicas {
            replica.close();
        }
        let closed = in_parallel(&replicas, |replica| {
            replica.close_log().map_err(|error| {
                tracing::error!(topic = %replica.topic, index = replica.index, %error, "the log is not closed cleanly");
            })
        });
        let outcome = (self.folder.checkpoint_high_watermarks(&self.replicas))
            .and_then(|()| self.folder.checkpoint_logs(&self.replicas))
            .and_then(|()| {
                // A replica that could not be opened was not closed either: the next start has to recover it.
                let clean = closed.iter().all(Result::is_ok) && self.replicas.offline() == 0;
                if clean { self.folder.mark_clean() } else { Ok(()) }
            });
        if let Err(error) = outcome {
            tracing::error!(%error, "the next start has to recover");
        }
    }

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
        // Neither age nor size takes anything from the journal of groups: it is kept small by being written anew.
        let settings = [("segment.bytes", segment), ("retention.ms", "-1".into()), ("retention.bytes", "-1".into())];
        let settings = settings.map(|(name, value): (_, String)| (name.to_owned(), Some(value)));
        self.create_one(OFFSETS_TOPIC, partitions, -1, settings.into()).await;
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

/// Threads that open or close logs: more would wait for the same disk.
const DISK_THREADS: usize = 8;

/// Does work that waits for the disk on several items at a time; the results are in the items' order.
fn in_parallel<T: Sync, R: Send>(items: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    if items.len() <= 1 {
        return items.iter().map(work).collect();
    }
    let next = AtomicUsize::new(0);
    let results: Vec<Mutex<Option<R>>> = items.iter().map(|_| Mutex::new(None)).collect();
    std::thread::scope(|scope| {
        for _ in 0..DISK_THREADS.min(items.len()) {
            scope.spawn(|| {
                while let Some(index) = Some(next.fetch_add(1, Ordering::Relaxed)).filter(|i| *i < items.len()) {
                    let result = work(&items[index]);
                    *results[index].lock().unwrap_or_else(PoisonError::into_inner) = Some(result);
                }
            });
        }
    });
    let taken = results.into_iter().map(|slot| slot.into_inner().unwrap_or_else(PoisonError::into_inner));
    taken.map(|result| result.expect("every item was worked on")).collect()
}
