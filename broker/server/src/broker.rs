// SPDX-License-Identifier: Apache-2.0
//! The broker as requests meet it: identity, image, replicas, coordinators, controller, budgets. It must not know the
//! wire protocol. How an image is taken over stands in `broker/taking_over.rs`.
mod lost_leaders;
mod newest_image;
mod taking_over;

use std::collections::{BTreeSet, HashSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use odradek_metadata::{BrokerImage, Command, CreateTopics, Image, NewTopic, PartitionKey, Reply};
use odradek_model::{BrokerId, ClusterId, OFFSETS_TOPIC, Offset, TopicId};
use odradek_partition::LocalBroker;
use odradek_replication::ReplicaKey;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::clock::{Clock, Random};
use crate::controller::{ControllerHandle, ControllerUnavailable};
use crate::coordinators::Coordinators;
use crate::failure::Failure;
use crate::fetch_sessions::FetchSessions;
use crate::folder::ReplicaFolder;
use crate::forwarding;
use crate::health::Health;
use crate::metrics::Metrics;
use crate::net::budget::Budget;
use crate::peers::{ControllerClient, Peers};
use crate::producer_ids::ProducerIds;
use crate::replica::{Replica, ReplicaContext};
use crate::replicas::Replicas;
use crate::replication::{ControllerOf, IsrChanges, ReplicaSource, Replication};
use crate::settings::BrokerSettings;

pub(crate) use self::lost_leaders::LeadersOf;
use self::newest_image::NewestImage;

/// Topics being created because somebody asked for them, at most: a client that asks for random names must not queue
/// up work. Those beyond are created when they are asked for again.
const AUTO_CREATIONS: usize = 100;
/// How long an answer waits until this broker has applied what it says. Others may be ahead of us, never for ever.
const REACH_DEADLINE: Duration = Duration::from_secs(1);

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
    /// The metadata node of this process, which is the controller while this broker leads.
    pub controller: ControllerHandle,
    /// The controller, wherever it is.
    pub controller_client: ControllerClient,
    /// The other brokers.
    pub peers: Arc<Peers>,
    /// Ids for producers.
    pub producer_ids: ProducerIds,
    /// What clients that fetch have named before.
    pub fetch_sessions: FetchSessions,
    /// Memory for answers.
    pub reads: Arc<Budget>,
    /// Where its logs are.
    pub folder: Arc<ReplicaFolder>,
    /// What the probes see.
    pub health: Arc<Health>,
    /// How the broker says that it cannot go on.
    pub failure: Arc<Failure>,
    /// Fetching from other brokers, and what replicas ask of them.
    pub replication: Arc<Replication>,
    replica_context: ReplicaContext,
    /// This broker and the others, as its replicas see them.
    local: LocalBroker,
    newest_image: Arc<NewestImage>,
    applied: watch::Sender<Offset>,
    /// Held while an image is taken over, so that each meets the whole of the one before.
    taking_over: Mutex<()>,
    /// Replicas that could not take what was decided for them: it is tried again.
    undecided: Mutex<BTreeSet<ReplicaKey>>,
    auto_creations: Mutex<HashSet<String>>,
    /// Replicas whose logs recovery found damaged or gone. Bounded by the replicas.
    damaged: Mutex<Vec<PartitionKey>>,
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
    pub peers: Arc<Peers>,
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
        let replication = Arc::new(Replication::new(&parts.settings));
        let newest_image = Arc::<NewestImage>::default();
        let local = LocalBroker {
            id: parts.id,
            replica_lag_time_max_ms: parts.settings.number("replica.lag.time.max.ms"),
            brokers: Arc::clone(&newest_image) as _,
        };
        let slots = parts.settings.number("max.incremental.fetch.session.cache.slots") as usize;
        Arc::new(Self {
            id: parts.id,
            cluster_id: parts.cluster_id,
            settings: parts.settings,
            clock: Arc::clone(&parts.clock),
            random: parts.random,
            metrics: parts.metrics,
            replicas: Replicas::default(),
            coordinators,
            controller_client: ControllerClient::new(parts.controller.clone(), Arc::clone(&parts.peers)),
            controller: parts.controller,
            peers: parts.peers,
            producer_ids: ProducerIds::default(),
            fetch_sessions: FetchSessions::new(slots),
            reads: parts.reads,
            folder: parts.folder,
            replica_context: ReplicaContext {
                runtime: parts.runtime,
                failure: Arc::clone(&parts.failure),
                replication: Arc::clone(&replication),
                clock: parts.clock,
            },
            replication,
            local,
            health: parts.health,
            failure: parts.failure,
            newest_image,
            applied: watch::Sender::new(0),
            taking_over: Mutex::default(),
            undecided: Mutex::default(),
            auto_creations: Mutex::default(),
            damaged: Mutex::default(),
        })
    }

    /// The newest image.
    pub fn image(&self) -> Arc<Image> {
        self.newest_image.get()
    }

    /// The end of the newest image that was taken over: what the metadata says up to there is done here.
    pub fn applied(&self) -> watch::Receiver<Offset> {
        self.applied.subscribe()
    }

    /// Waits until this broker has applied the metadata below `end`, for a second at most.
    pub async fn reach(&self, end: Offset) {
        let mut applied = self.applied();
        let reached = applied.wait_for(|applied| *applied >= end);
        if tokio::time::timeout(REACH_DEADLINE, reached).await.is_err() {
            tracing::warn!(end, "an answer did not wait any longer for this broker's own metadata");
        }
    }

    /// Has the controller in this process decide; answers once that is committed and this broker has applied it.
    ///
    /// # Errors
    /// [`ControllerUnavailable`]
    pub async fn decide(&self, command: Command) -> Result<Reply, ControllerUnavailable> {
        let decided = self.controller.decide(command).await?;
        self.reach(decided.end).await;
        Ok(decided.reply)
    }

    /// A replica of this broker.
    pub fn replica(&self, key: ReplicaKey) -> Option<Arc<Replica>> {
        self.replicas.topic_by_id(key.topic)?.partition(key.partition).cloned()
    }

    /// Begins to replicate: fetches what this broker follows and proposes ISR changes, over the connections to the other
    /// brokers, until `stopping`. May be called before there is an image; the first call counts.
    pub fn start_replication(self: &Arc<Self>, tasks: &TaskTracker, stopping: &CancellationToken) {
        let controller = Arc::new(ControllerOf(Arc::downgrade(self)));
        self.replicate_by(Arc::clone(&self.peers) as _, controller, tasks, stopping);
    }

    /// As [`Self::start_replication`], over what is given.
    pub fn replicate_by(
        self: &Arc<Self>,
        source: Arc<dyn ReplicaSource>,
        isr_changes: Arc<dyn IsrChanges>,
        tasks: &TaskTracker,
        stopping: &CancellationToken,
    ) {
        self.replication.start(self, source, isr_changes, tasks, self.replica_context.runtime.clone(), stopping);
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

    /// Starts what the broker does by itself: replication, timers of groups, retention, checkpoints.
    pub fn spawn_tasks(self: &Arc<Self>, tasks: &TaskTracker, stopping: &CancellationToken) {
        self.start_replication(tasks, stopping);
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
        // Twice in the time after which a follower has left the ISR (`ReplicaManager.startup`).
        self.repeat(tasks, stopping, every("replica.lag.time.max.ms") / 2, |broker| {
            broker.decide_again();
            broker.tick_leaders();
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
                let epoch = self.image().broker(self.id).map(|broker| broker.epoch);
                if clean { self.folder.mark_clean(epoch) } else { Ok(()) }
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
        if !self.controller_client.leads_here() {
            let given = settings.clone();
            match forwarding::create_topic(self, name, partitions, replication_factor, given).await {
                // This broker leads by now.
                Err(_) if self.controller_client.leads_here() => {}
                outcome => {
                    match outcome {
                        Ok(()) => tracing::info!(topic = name, "created because a client asked for it"),
                        Err(error) => tracing::info!(topic = name, error, "not created"),
                    }
                    return;
                }
            }
        }
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
        match self.decide(command).await {
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
