// SPDX-License-Identifier: Apache-2.0
//! Takes an image over by its difference to the one before: replicas are opened, given their roles and settings, or
//! removed, then the image is shown. What did not change costs a comparison of pointers. It must not know requests.
use std::path::PathBuf;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use odradek_disk::DiskError;
use odradek_metadata::{BrokerSettingsOf, Image, PartitionImage, PartitionKey, TopicImage, min_in_sync};
use odradek_model::{OFFSETS_TOPIC, TopicId, TopicName, TopicPartition, TopicSettings};
use odradek_partition::{Followership, Leadership};
use odradek_replication::{FetcherId, ReplicaKey, fetcher_of};

use super::{Broker, in_parallel};
use crate::coordinators::Loading;
use crate::folder::{OpenedLog, WantedLog};
use crate::health::Phase;
use crate::replica::{Decided, Replica, ReplicaParts};
use crate::replicas::TopicReplicas;

/// Kafka's names; dynamic, of one broker or of all.
const FOLLOWER_RATE: &str = "follower.replication.throttled.rate";
const LEADER_RATE: &str = "leader.replication.throttled.rate";

/// One partition of a topic that is new or has changed.
struct Change<'a> {
    topic: &'a TopicImage,
    index: i32,
    partition: &'a PartitionImage,
    settings: TopicSettings,
    /// This broker's replica so far.
    present: Option<Arc<Replica>>,
    /// It could not be opened before.
    is_offline: bool,
    /// Whether the partition itself has changed, not its neighbours alone.
    is_changed: bool,
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
        let deleted = self.delete_topics(&before, image);
        let topics: Vec<_> = image
            .topics()
            .filter(|topic| before.topic_by_id(topic.id).is_none_or(|known| !Arc::ptr_eq(known, topic)))
            .collect();
        let changes: Vec<_> = topics.iter().flat_map(|topic| self.changes(&before, topic)).collect();
        let taken = in_parallel(&changes, |change| self.take(change, is_new));
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
        let brokers_changed = statuses(&before).ne(statuses(image));
        let end = image.end_offset();
        for topic in topics.iter().filter(|topic| &*topic.name == OFFSETS_TOPIC) {
            if let Some(replicas) = self.replicas.topic_by_id(topic.id) {
                // A start leads only some images after the one it recovered with; clients come after all of them.
                let starts = self.health.phase() == Phase::Starting;
                self.coordinators.load(&replicas.partitions, if starts { Loading::AtOnce } else { Loading::Behind });
            }
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
    fn delete_topics(&self, before: &Image, image: &Image) -> Vec<(TopicName, TopicId)> {
        let gone: Vec<_> = before.topics().filter(|topic| image.topic_by_id(topic.id).is_none()).collect();
        let mut renamed = Vec::new();
        for topic in &gone {
            if let Some(replicas) = self.replicas.remove(topic.id) {
                for replica in replicas.partitions.iter().flatten() {
                    self.replication.follow(replica.key(), None, true, self.clock.monotonic());
                    renamed.extend(self.delete(replica));
                }
            }
            self.metrics.forget_topic(&topic.name);
        }
        self.remove_later(renamed, self.settings.time("log.segment.delete.delay.ms"));
        gone.into_iter().map(|topic| (topic.name.clone(), topic.id)).collect()
    }

    fn changes<'a>(&self, before: &Image, topic: &'a Arc<TopicImage>) -> Vec<Change<'a>> {
        let known = before.topic_by_id(topic.id);
        let replicas = self.replicas.topic_by_id(topic.id);
        let settings = TopicSettings::resolve(&topic.overrides, &self.settings.topic_defaults);
        let settings = settings.unwrap_or_else(|error| {
            tracing::error!(topic = %topic.name, %error, "stored settings are refused; defaults are used");
            TopicSettings::default()
        });
        let change = |(index, partition): (usize, &'a Arc<PartitionImage>)| {
            let same = known.and_then(|known| known.partitions.get(index)).is_some_and(|k| Arc::ptr_eq(k, partition));
            let index = index as i32;
            // The leader counts as the controller does, which keeps those who may be elected by it.
            let needed = min_in_sync(topic, partition, &self.settings.topic_defaults);
            Change {
                topic,
                index,
                partition,
                settings: TopicSettings { min_insync_replicas: needed as i32, ..settings.clone() },
                present: replicas.as_ref().and_then(|replicas| replicas.partition(index)).cloned(),
                is_offline: replicas.as_ref().is_some_and(|replicas| replicas.offline.contains(&index)),
                is_changed: !same,
            }
        };
        topic.partitions.iter().enumerate().map(change).collect()
    }

    /// Does what a change asks for. Blocks on the disk.
    fn take(&self, change: &Change<'_>, is_new: bool) -> Taken {
        let is_own = change.partition.replicas.contains(&self.id);
        match &change.present {
            Some(replica) if is_own => {
                if change.is_changed || *replica.settings() != change.settings {
                    self.tell(replica, change.partition, &change.settings);
                }
                Taken { replica: Some(Arc::clone(replica)), ..Taken::default() }
            }
            Some(replica) => Taken { renamed: self.delete(replica), ..Taken::default() },
            None if !is_own => Taken::default(),
            None if change.is_offline => Taken { is_offline: true, ..Taken::default() },
            None => {
                let (replica, is_misstated) = self.open(change, is_new);
                Taken { is_offline: replica.is_none(), is_misstated, replica, renamed: None }
            }
        }
    }

    /// Shows requests which replicas there are.
    fn show(&self, changes: &[Change<'_>], taken: &[Taken]) {
        let mut all = changes.iter().zip(taken).peekable();
        while let Some((first, _)) = all.peek() {
            let topic = first.topic;
            let mut replicas =
                TopicReplicas { name: topic.name.clone(), id: topic.id, partitions: Vec::new(), offline: Vec::new() };
            while let Some((change, taken)) = all.next_if(|(change, _)| change.topic.id == topic.id) {
                if taken.is_offline {
                    replicas.offline.push(change.index);
                }
                replicas.partitions.push(taken.replica.clone());
            }
            self.replicas.insert(Arc::new(replicas));
        }
    }

    /// Has followed partitions fetched by who is to fetch them now.
    fn fetch(&self, changes: &[Change<'_>], taken: &[Taken]) {
        let now = self.clock.monotonic();
        for (change, taken) in changes.iter().zip(taken) {
            if change.present.is_some() || taken.replica.is_some() {
                // A change of the topic's settings may move it into the throttled lane, or out of it.
                let fetcher = if taken.replica.is_some() { self.fetcher(change) } else { None };
                self.replication.follow(change.key(), fetcher, change.is_changed, now);
            }
        }
    }

    /// Who fetches a partition of this broker.
    fn fetcher(&self, change: &Change<'_>) -> Option<FetcherId> {
        let (partition, id) = (change.partition, self.id);
        let leader = partition.leader.filter(|leader| *leader != id)?;
        let is_slowed = partition.adding.contains(&id) || change.settings.follower_throttled.contains(change.index, id);
        let is_added = is_slowed && !partition.isr.contains(&id);
        Some(fetcher_of(leader, change.key(), is_added, self.replication.lanes()))
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
        let outcome = replica.decide(self.decided(partition), settings);
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

    fn decided(&self, partition: &PartitionImage) -> Decided {
        let (leader_epoch, partition_epoch) = (partition.leader_epoch, partition.partition_epoch);
        match partition.leader {
            Some(leader) if leader == self.id => Decided::Leads(Leadership {
                leader_epoch,
                partition_epoch,
                replicas: partition.replicas.clone(),
                in_sync: partition.isr.clone(),
            }),
            Some(leader) => Decided::Follows(Followership { leader, leader_epoch, partition_epoch }),
            None => Decided::Leaderless,
        }
    }

    /// Tells those again who could not obey. Blocks on the disk.
    pub(super) fn decide_again(&self) {
        let _one_at_a_time = self.taking_over.lock().unwrap_or_else(PoisonError::into_inner);
        let undecided = self.undecided.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let image = self.image();
        for key in undecided {
            let topic = image.topic_by_id(key.topic);
            let partition = topic.zip(usize::try_from(key.partition).ok()).and_then(|(t, i)| t.partitions.get(i));
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
        let &Change { topic, index, partition: image, ref settings, .. } = change;
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
                return (None, is_new && self.folder.is_checkpointed(&change.at()));
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
        if let Err(error) = replica.decide(self.decided(image), settings) {
            tracing::error!(topic = %topic.name, index, %error, "the replica is offline");
            return (None, is_misstated);
        }
        (Some(replica), is_misstated)
    }

    fn note_damage(&self, change: &Change<'_>, why: &str) {
        tracing::error!(
            topic = %change.topic.name, index = change.index, why,
            "the replica's log is damaged: it is not elected before the leader has filled it again"
        );
        let key = PartitionKey { topic: change.topic.id, partition: change.index };
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

impl Change<'_> {
    fn key(&self) -> ReplicaKey {
        ReplicaKey { topic: self.topic.id, partition: self.index }
    }

    fn at(&self) -> TopicPartition {
        TopicPartition { topic: self.topic.name.clone(), partition: self.index }
    }
}

/// What replicas ask about brokers.
fn statuses(image: &Image) -> impl Iterator<Item = (i32, i64, bool, bool)> {
    image.brokers().map(|broker| (broker.id.0, broker.epoch, broker.fenced, broker.shutting_down_at.is_some()))
}
