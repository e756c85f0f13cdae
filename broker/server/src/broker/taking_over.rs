// SPDX-License-Identifier: Apache-2.0
//! Takes an image over as [`odradek_replication::TakingOver`] says: replicas are opened, told what was decided, or
//! removed, then the image is shown. It must not know requests.
use std::path::PathBuf;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use odradek_disk::DiskError;
use odradek_metadata::{BrokerSettingsOf, Image, PartitionImage, PartitionKey, TopicImage};
use odradek_model::{OFFSETS_TOPIC, TopicId, TopicName, TopicPartition, TopicSettings};
use odradek_replication::{Change, Present, TakingOver, Task, decided};

use super::{Broker, in_parallel};
use crate::coordinators::Loading;
use crate::folder::{OpenedLog, WantedLog};
use crate::health::Phase;
use crate::replica::{Replica, ReplicaParts};
use crate::replicas::TopicReplicas;

/// Kafka's names; dynamic, of one broker or of all.
const FOLLOWER_RATE: &str = "follower.replication.throttled.rate";
const LEADER_RATE: &str = "leader.replication.throttled.rate";

/// A change, and what this broker has of the partition so far.
struct Found<'a> {
    change: Change<'a>,
    replica: Option<Arc<Replica>>,
    /// It could not be opened before.
    is_offline: bool,
}

/// What came of it.
#[derive(Debug, Default)]
struct Taken {
    replica: Option<Arc<Replica>>,
    is_offline: bool,
    /// What the checkpoints on the disk say of it does not hold.
    is_misstated: bool,
    /// The folder of a replica that is another broker's now.
    renamed: Option<PathBuf>,
}

impl Broker {
    /// Opens all replicas at start, with progress, then shows the image. Blocks on the disk. Gives the replicas whose logs
    /// are damaged or gone, which the controller must hear of before it elects this broker.
    #[allow(clippy::needless_pass_by_value, reason = "the caller has no use for it any more")]
    pub fn recover(&self, image: Arc<Image>) -> Result<Vec<PartitionKey>, DiskError> {
        let is_wanted = |name: &TopicName, id: TopicId, index: i32| {
            let topic = image.topic(name).filter(|topic| topic.id == id);
            let partition = topic.zip(usize::try_from(index).ok()).and_then(|(topic, i)| topic.partitions.get(i));
            partition.is_some_and(|partition| partition.replicas.contains(&self.id))
        };
        let deleted = self.folder.find_deleted(is_wanted, || self.random.uuid())?;
        // Their wait is over: the broker that renamed them is gone.
        self.remove_later(deleted, Duration::ZERO);
        let logs = image.partitions_on(self.id);
        let bytes = logs.map(|(key, topic, _)| self.folder.bytes_of(&topic.name, key.partition));
        let (count, bytes) = bytes.fold((0, 0), |(count, sum), bytes| (count + 1, sum + bytes));
        self.health.expect(count, bytes);
        self.take_over(&image, false);
        self.folder.recovered()?;
        Ok(std::mem::take(&mut self.damaged.lock().unwrap_or_else(PoisonError::into_inner)))
    }

    /// The controller knows what [`recover`](Self::recover) found damaged: the next start does not tell it again. To be
    /// called before these replicas can be in sync again. Blocks on the disk.
    pub fn damage_is_told(&self, told: &[PartitionKey]) {
        let image = self.image();
        for key in told {
            // Of a topic that is gone, so is the folder.
            let Some(topic) = image.topic_by_id(key.topic) else { continue };
            let at = TopicPartition { topic: topic.name.clone(), partition: key.partition };
            if let Err(error) = self.folder.damage_is_told(&at) {
                // A replica that is in sync again would be called damaged by the next start.
                self.replica_context.failure.fail(format!("the mark of a damaged log stays: {error}"));
            }
        }
    }

    /// Takes over a new image: opens, moves and removes replicas, then shows it. Blocks on the disk.
    #[allow(clippy::needless_pass_by_value, reason = "the caller has no use for it any more")]
    pub fn publish(&self, image: Arc<Image>) {
        self.take_over(&image, true);
    }

    fn take_over(&self, image: &Arc<Image>, is_new: bool) {
        let _one_at_a_time = self.taking_over.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.image();
        let TakingOver { gone, changes, brokers_changed } =
            TakingOver::new(self.id, &before, image, &self.settings.topic_defaults);
        let deleted = self.delete_topics(&gone);
        let changes: Vec<_> = changes.into_iter().map(|change| self.find(change)).collect();
        let taken = in_parallel(&changes, |found| self.take(found, is_new));
        self.show(&changes, &taken);
        self.throttle(image);
        self.remove_later(
            taken.iter().filter_map(|taken| taken.renamed.clone()).collect(),
            self.settings.time("log.segment.delete.delay.ms"),
        );
        let any_removed = !deleted.is_empty() || taken.iter().any(|taken| taken.renamed.is_some());
        let any_misstated = taken.iter().any(|taken| taken.is_misstated);
        if any_removed || any_misstated {
            self.checkpoint(any_misstated);
        }
        let end = image.end_offset();
        let of_offsets = changes.iter().map(|found| found.change.topic).find(|topic| &*topic.name == OFFSETS_TOPIC);
        if let Some(replicas) = of_offsets.and_then(|topic| self.replicas.topic_by_id(topic.id)) {
            // A start leads only some images after the one it recovered with; clients come after all of them.
            let starts = self.health.phase() == Phase::Starting;
            self.coordinators.load(&replicas.partitions, if starts { Loading::AtOnce } else { Loading::Behind });
        }
        self.newest_image.set(Arc::clone(image));
        // A fetch names this broker's registration.
        self.fetch(&changes, &taken);
        self.replication.leadership_changed();
        if brokers_changed {
            // Who is gone holds nothing back any more, and who is back may join.
            for replica in self.replicas.all() {
                replica.brokers_changed();
            }
        }
        if !deleted.is_empty() {
            let deleted: Vec<_> = deleted.iter().map(|(name, id)| (&**name, *id)).collect();
            self.coordinators.topics_deleted(&deleted);
        }
        self.applied.send_replace(end);
    }

    /// Removes the replicas of topics that are gone.
    fn delete_topics(&self, gone: &[&Arc<TopicImage>]) -> Vec<(TopicName, TopicId)> {
        let mut renamed = Vec::new();
        for topic in gone {
            if let Some(replicas) = self.replicas.remove(topic.id) {
                for replica in replicas.partitions.iter().flatten() {
                    self.replication.follow(replica.key(), None, true, self.clock.monotonic());
                    renamed.extend(self.delete(replica));
                }
            }
            self.metrics.forget_topic(&topic.name);
        }
        self.remove_later(renamed, self.settings.time("log.segment.delete.delay.ms"));
        gone.iter().map(|topic| (topic.name.clone(), topic.id)).collect()
    }

    fn find<'a>(&self, change: Change<'a>) -> Found<'a> {
        let index = change.key.partition;
        let replicas = self.replicas.topic_by_id(change.key.topic);
        let replica = replicas.as_ref().and_then(|replicas| replicas.partition(index)).cloned();
        Found { change, replica, is_offline: replicas.is_some_and(|replicas| replicas.offline.contains(&index)) }
    }

    /// Does what a change asks for. Blocks on the disk.
    fn take(&self, found: &Found<'_>, is_new: bool) -> Taken {
        let Found { change, replica, is_offline } = found;
        let settings = replica.as_ref().map(|replica| replica.settings());
        let present = match &settings {
            Some(settings) => Present::Open(settings),
            None if *is_offline => Present::Offline,
            None => Present::Absent,
        };
        let task = change.task(present);
        match (task, replica) {
            (Task::Tell, Some(replica)) => self.tell(replica, change.partition, &change.settings),
            (Task::Delete, replica) => {
                // The folder of one that is offline is a stray of the next start.
                let renamed = replica.as_ref().and_then(|replica| self.delete(replica));
                return Taken { renamed, ..Taken::default() };
            }
            (Task::Open, _) => {
                let (replica, is_misstated) = self.open(change, is_new);
                return Taken { is_offline: replica.is_none(), is_misstated, replica, renamed: None };
            }
            _ => {}
        }
        Taken { replica: replica.clone(), is_offline: *is_offline, ..Taken::default() }
    }

    /// Shows requests which replicas there are.
    fn show(&self, changes: &[Found<'_>], taken: &[Taken]) {
        let mut all = changes.iter().zip(taken).peekable();
        while let Some((first, _)) = all.peek() {
            let topic = first.change.topic;
            let mut replicas =
                TopicReplicas { name: topic.name.clone(), id: topic.id, partitions: Vec::new(), offline: Vec::new() };
            while let Some((found, taken)) = all.next_if(|(found, _)| found.change.key.topic == topic.id) {
                if taken.is_offline {
                    replicas.offline.push(found.change.key.partition);
                }
                replicas.partitions.push(taken.replica.clone());
            }
            self.replicas.insert(Arc::new(replicas));
        }
    }

    /// Has followed partitions fetched by who is to fetch them now.
    fn fetch(&self, changes: &[Found<'_>], taken: &[Taken]) {
        let now = self.clock.monotonic();
        for (Found { change, replica, .. }, taken) in changes.iter().zip(taken) {
            if replica.is_some() || taken.replica.is_some() {
                let fetcher = taken.replica.as_ref().and_then(|_| change.fetcher(self.replication.lanes()));
                self.replication.follow(change.key, fetcher, change.is_changed, now);
            }
        }
    }

    fn throttle(&self, image: &Image) {
        let rate = |name: &str| {
            let given = |of| image.broker_settings(of).and_then(|settings| settings.get(name));
            let given = given(BrokerSettingsOf::Broker(self.id)).or_else(|| given(BrokerSettingsOf::AllBrokers));
            let rate = given.and_then(|text| text.parse().ok()).unwrap_or_else(|| self.settings.number(name));
            u64::try_from(rate).ok().filter(|rate| *rate < i64::MAX as u64)
        };
        self.replication.throttle(rate(FOLLOWER_RATE), rate(LEADER_RATE), self.clock.monotonic());
    }

    /// The checkpoints know partitions by name: a topic that comes back under its name must not meet, after a kill, the
    /// log start and the recovery point of the one that was deleted. Nothing is served before. A name that they do not
    /// have can wait for the next ones: three files durably written cost 20 ms on a usual disk.
    fn checkpoint(&self, any_misstated: bool) {
        let logs = self.folder.checkpoint_logs(&self.replicas);
        let outcome = logs.and_then(|()| self.folder.checkpoint_high_watermarks(&self.replicas));
        if let Err(error) = outcome {
            // On a full disk a deletion is what helps, and what the checkpoints say of a topic that is gone harms only
            // one that has its name.
            if error.is_no_space() && !any_misstated {
                tracing::warn!(%error, "checkpoints are not written after a change of topics");
            } else {
                self.replica_context.failure.fail(format!("checkpoints after a change of topics: {error}"));
            }
        }
    }

    /// Tells a replica what the metadata says of it. If it cannot obey, it is told again later.
    fn tell(&self, replica: &Arc<Replica>, partition: &PartitionImage, settings: &TopicSettings) {
        let outcome = replica.decide(decided(self.id, partition), settings);
        let mut undecided = self.undecided.lock().unwrap_or_else(PoisonError::into_inner);
        match outcome {
            Ok(()) => {
                undecided.remove(&replica.key());
            }
            Err(error) => {
                tracing::error!(topic = %replica.topic, index = replica.index, %error, "the replica cannot lead yet");
                undecided.insert(replica.key());
            }
        }
    }

    /// Tells those again who could not obey. Blocks on the disk.
    pub(super) fn decide_again(&self) {
        let _one_at_a_time = self.taking_over.lock().unwrap_or_else(PoisonError::into_inner);
        let undecided = self.undecided.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let image = self.image();
        for key in undecided {
            let partition = image.partition(PartitionKey { topic: key.topic, partition: key.partition });
            match (self.replica(key), partition) {
                (Some(replica), Some(partition)) => self.tell(&replica, partition, &replica.settings()),
                _ => {
                    self.undecided.lock().unwrap_or_else(PoisonError::into_inner).remove(&key);
                }
            }
        }
    }

    /// Lets time pass for all leaders.
    pub(super) fn tick_leaders(&self) {
        for replica in self.replicas.all() {
            replica.tick();
        }
    }

    /// The replica, and whether what the checkpoints on the disk say of it does not hold. `None` if it cannot be opened;
    /// it is offline then, and the others serve.
    fn open(&self, change: &Change<'_>, is_new: bool) -> (Option<Arc<Replica>>, bool) {
        let (topic, index, settings) = (change.topic, change.key.partition, &change.settings);
        let at = TopicPartition { topic: topic.name.clone(), partition: index };
        let wanted = WantedLog {
            topic: &topic.name,
            topic_id: topic.id,
            index,
            settings,
            always_flushed: topic.always_flushed,
            producer_id_expiration_ms: self.settings.number("producer.id.expiration.ms"),
            local: self.local.clone(),
            is_new,
        };
        if is_new {
            self.set_stray_aside(topic, index);
        }
        let bytes = if is_new { 0 } else { self.folder.bytes_of(&topic.name, index) };
        let mut recovery = self.health.recovery(bytes);
        let opened = self.folder.open_partition(&wanted, self.clock.now_ms(), &mut recovery);
        let OpenedLog { partition, report, is_misstated } = match opened {
            Ok(opened) => opened,
            Err(error) => {
                tracing::error!(topic = %topic.name, index, %error, "the replica is offline");
                if !is_new {
                    self.note_damage(change, "it cannot be opened");
                }
                return (None, is_new && self.folder.is_checkpointed(&at));
            }
        };
        if let Some(cut) = &report.cut {
            tracing::warn!(topic = %topic.name, index, cut, bytes = report.bytes_cut, "the log's end is cut");
        }
        if let Some(damage) = &report.damage {
            self.note_damage(change, damage);
        }
        if !is_new {
            recovery.finish();
        }
        let parts = ReplicaParts {
            topic: topic.name.clone(),
            topic_id: topic.id,
            index,
            settings: settings.clone(),
            metrics: self.metrics.topic(&topic.name),
            partition,
        };
        let replica = Replica::new(parts, self.replica_context.clone());
        if let Err(error) = replica.decide(change.decided(), settings) {
            tracing::error!(topic = %topic.name, index, %error, "the replica is offline");
            return (None, is_misstated);
        }
        (Some(replica), is_misstated)
    }

    fn note_damage(&self, change: &Change<'_>, why: &str) {
        tracing::error!(
            topic = %change.topic.name, index = change.key.partition, why,
            "the replica's log is damaged: it is not elected before the leader has filled it again"
        );
        let key = PartitionKey { topic: change.key.topic, partition: change.key.partition };
        self.damaged.lock().unwrap_or_else(PoisonError::into_inner).push(key);
    }

    /// What lies under the name of a new replica is of a topic that was deleted, or of a replica that was moved away,
    /// and whose folder could not be renamed.
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

    /// Ends a replica; its folder, renamed. Blocks on the disk.
    fn delete(&self, replica: &Arc<Replica>) -> Option<PathBuf> {
        replica.delete();
        self.folder
            .rename_deleted(&replica.topic, replica.index, self.random.uuid())
            // The next start finds it as a stray.
            .inspect_err(|error| tracing::warn!(%error, "a deleted partition's folder stays for now"))
            .ok()
    }
}
