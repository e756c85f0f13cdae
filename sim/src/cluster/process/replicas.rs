// SPDX-License-Identifier: Apache-2.0
//! The replicas of this broker: images become roles, and what replicas want done is done. As `broker/taking_over.rs` and
//! `replica.rs` in the server do it.

use std::sync::Arc;

use odradek_metadata::{
    AlterPartition, Image, PartitionImage, PartitionKey, ProposedPartition, ProposedReplica, TopicImage, min_in_sync,
};
use odradek_model::{TopicDefaults, TopicIdPartition, TopicName, TopicOverrides, TopicPartition, TopicSettings};
use odradek_partition::{
    Effect, FlushJob, Followership, Leadership, MonotonicTime, Partition, PartitionSettings, ProduceOutcome,
};
use odradek_replication::{Batch, Proposal, ReplicaKey};

use super::control::Own;
use super::serving::Parked;
use super::{Input, Out, Process, Shown};
use crate::cluster::folder::OpenedLog;
use crate::cluster::message::{Answer, Produced, Refusal};
use crate::cluster::profile::Planted;

/// Segments are closed after a few batches, so that there are several.
const SEGMENT_BYTES: u32 = 4_096;

/// One replica.
#[derive(Debug)]
pub(super) struct Replica {
    pub(super) partition: Partition,
    pub(super) topic: TopicName,
    pub(super) settings: TopicSettings,
    /// The sync that runs.
    flushing: Option<FlushJob>,
    /// Whether one waits for a thread.
    flush_waits: bool,
    /// Whether it could not obey the metadata yet.
    undecided: bool,
}

fn settings_of(topic: &TopicImage, partition: &PartitionImage) -> TopicSettings {
    let defaults = TopicDefaults { overrides: TopicOverrides::new() };
    let settings = TopicSettings::resolve(&topic.overrides, &defaults).expect("the controller has checked them");
    let needed = min_in_sync(topic, partition, &defaults);
    TopicSettings { min_insync_replicas: needed as i32, segment_bytes: SEGMENT_BYTES, ..settings }
}

fn statuses(image: &Image) -> impl Iterator<Item = (i32, i64, bool, bool)> {
    image.brokers().map(|broker| (broker.id.0, broker.epoch, broker.fenced, broker.shutting_down_at.is_some()))
}

impl Process {
    pub(super) fn remove_strays(&mut self, image: &Image) {
        let id = self.id;
        let outcome = self.folder.remove_strays(|name, topic, index| {
            let topic = image.topic_by_id(topic).filter(|topic| topic.name == *name);
            let partition = topic.and_then(|topic| topic.partitions.get(usize::try_from(index).ok()?));
            partition.is_some_and(|partition| partition.replicas.contains(&id))
        });
        if let Err(error) = outcome {
            self.fail(error.to_string());
        }
    }

    /// Takes over an image by its difference to the one before. `is_new` unless the broker opens its replicas.
    pub(super) fn take_over(&mut self, image: &Arc<Image>, is_new: bool) {
        let before = Arc::clone(&self.applied);
        let is_own = |key: &ReplicaKey| {
            let partition = image.partition(PartitionKey { topic: key.topic, partition: key.partition });
            partition.is_some_and(|partition| partition.replicas.contains(&self.id))
        };
        let gone: Vec<_> = self.replicas.keys().filter(|key| !is_own(key)).copied().collect();
        let any_gone = !gone.is_empty();
        for key in gone {
            self.delete(key);
        }
        let own = image.partitions_on(self.id).map(|(key, topic, partition)| {
            let key = ReplicaKey { topic: key.topic, partition: key.partition };
            (key, Arc::clone(topic), Arc::clone(partition))
        });
        let mut changed = Vec::new();
        let mut any_misstated = false;
        for (key, topic, partition) in own.collect::<Vec<_>>() {
            let known = before.topic_by_id(key.topic);
            let is_same_topic = known.is_some_and(|known| Arc::ptr_eq(known, &topic));
            let present = self.replicas.contains_key(&key);
            if is_same_topic && present {
                continue;
            }
            let same = known.and_then(|known| known.partitions.get(key.partition as usize));
            let is_changed = !same.is_some_and(|same| Arc::ptr_eq(same, &partition));
            if !present {
                let Some(is_misstated) = self.open(key, &topic, &partition, is_new) else { return };
                any_misstated |= is_misstated;
            }
            self.tell(key, &topic, &partition);
            changed.push((key, self.fetcher(key, &topic, &partition), is_changed));
        }
        // Where a topic is gone and another has its name, the checkpoints must not speak of the one before.
        if any_gone || any_misstated {
            self.write_checkpoints();
        }
        let brokers_changed = statuses(&before).ne(statuses(image));
        *self.heard.0.lock().expect("nobody panics with it") = Arc::clone(image);
        self.applied = Arc::clone(image);
        for (key, fetcher, is_changed) in changed {
            self.fetch(key, fetcher, is_changed);
        }
        if brokers_changed {
            self.each_replica(Partition::brokers_changed);
        }
        self.move_groups();
    }

    /// Whether the checkpoints say of it what does not hold; `None` if it does not open.
    fn open(&mut self, key: ReplicaKey, topic: &TopicImage, image: &PartitionImage, is_new: bool) -> Option<bool> {
        let (settings, wall_ms) = (settings_of(topic, image), self.wall_ms());
        let named = (&topic.name, topic.id, key.partition);
        let opened = self.folder.open_log(named, &settings, topic.always_flushed, is_new, wall_ms);
        let OpenedLog { log, high_watermark, is_misstated, is_damaged } = match opened {
            Ok(opened) => opened,
            Err(error) => {
                self.fail(format!("a log does not open: {error}"));
                return None;
            }
        };
        if is_damaged {
            self.damaged.push(PartitionKey { topic: key.topic, partition: key.partition });
        }
        let topic_partition = TopicPartition { topic: topic.name.clone(), partition: key.partition };
        let id = TopicIdPartition { id: topic.id, topic_partition };
        let (local, rules) = (self.local.clone(), PartitionSettings::new(&settings));
        let mut partition = Partition::new(id, local, rules, Box::new(log), high_watermark);
        if let Some(Planted::Partition(bug)) = self.planted {
            partition.plant(bug);
        }
        let (topic, flushing) = (topic.name.clone(), None);
        let replica = Replica { partition, topic, settings, flushing, flush_waits: false, undecided: false };
        self.replicas.insert(key, replica);
        Some(is_misstated)
    }

    /// Tells a replica what the metadata says of it.
    fn tell(&mut self, key: ReplicaKey, topic: &TopicImage, image: &PartitionImage) {
        let (settings, now, id) = (settings_of(topic, image), self.monotonic(), self.id);
        let Some(replica) = self.replicas.get_mut(&key) else { return };
        let mut effects = Vec::new();
        if replica.settings != settings {
            effects = replica.partition.update_settings(&settings);
            replica.settings = settings;
        }
        let (leader_epoch, partition_epoch) = (image.leader_epoch, image.partition_epoch);
        replica.undecided = false;
        match image.leader {
            Some(leader) if leader == id => {
                let (replicas, in_sync) = (image.replicas.clone(), image.isr.clone());
                let leadership = Leadership { leader_epoch, partition_epoch, replicas, in_sync };
                if let Ok(more) = replica.partition.lead(leadership, now) {
                    effects.extend(more);
                } else {
                    effects.extend(replica.partition.resign());
                    replica.undecided = true;
                }
            }
            Some(leader) => {
                let following = Followership { leader, leader_epoch, partition_epoch };
                effects.extend(replica.partition.follow(following, now));
            }
            None => effects.extend(replica.partition.resign()),
        }
        self.carry_out(key, effects);
        self.check_log(key);
    }

    /// Tells those again who could not obey.
    pub(super) fn decide_again(&mut self) {
        let undecided = self.replicas.iter().filter(|(_, replica)| replica.undecided).map(|(key, _)| *key);
        for key in undecided.collect::<Vec<_>>() {
            let image = Arc::clone(&self.applied);
            let topic = image.topic_by_id(key.topic);
            let partition = image.partition(PartitionKey { topic: key.topic, partition: key.partition });
            if let Some((topic, partition)) = topic.zip(partition) {
                self.tell(key, topic, partition);
            }
        }
    }

    fn delete(&mut self, key: ReplicaKey) {
        let Some(mut replica) = self.replicas.remove(&key) else { return };
        let effects = replica.partition.close();
        self.fetch(key, None, true);
        self.carry_out(key, effects);
        let (topic, index) = (replica.topic.clone(), key.partition);
        // What lies on the disk goes once nobody writes it any more.
        drop(replica);
        if let Err(error) = self.folder.set_aside(&topic, index)
            && !error.is_no_space()
        {
            self.fail(error.to_string());
        }
    }

    pub(super) fn tick_replicas(&mut self) {
        self.each_replica(Partition::tick);
    }

    fn each_replica(&mut self, call: fn(&mut Partition, MonotonicTime) -> Vec<Effect>) {
        let now = self.monotonic();
        for key in self.replicas.keys().copied().collect::<Vec<_>>() {
            if let Some(replica) = self.replicas.get_mut(&key) {
                let effects = call(&mut replica.partition, now);
                self.carry_out(key, effects);
            }
        }
    }

    /// Retention.
    pub(super) fn maintain_logs(&mut self) {
        let wall_ms = self.wall_ms();
        for key in self.replicas.keys().copied().collect::<Vec<_>>() {
            let Some(replica) = self.replicas.get_mut(&key) else { continue };
            let before = replica.partition.log_start_offset();
            // What fails is tried again, unless the log is in doubt.
            let _ = replica.partition.maintain(wall_ms);
            if replica.partition.log_start_offset() > before {
                self.out.push(Out::Shown(Shown::LogStartRaised(key)));
            }
            self.check_log(key);
        }
    }

    /// A log that a failure has left in doubt ends the process: only a restart finds out.
    pub(super) fn check_log(&mut self, key: ReplicaKey) {
        if self.replicas.get(&key).is_some_and(|replica| replica.partition.has_failed()) {
            self.fail(format!("the log of {key:?} has failed"));
        }
    }

    // === what replicas want done ===

    pub(super) fn carry_out(&mut self, key: ReplicaKey, effects: Vec<Effect>) {
        let now = self.monotonic();
        for effect in effects {
            match effect {
                Effect::WakeFetch(token) => {
                    if let Some(parked) = self.tokens.remove(&token) {
                        self.woken.push_back(parked);
                    }
                }
                Effect::WakeProduce { token, outcome } => {
                    if let Some(parked) = self.tokens.remove(&token) {
                        self.produced(parked, outcome);
                    }
                }
                Effect::WakeDeletion { .. } => unreachable!("nobody deletes records"),
                Effect::Flush => {
                    let after = if self.random.per_mille(50) { self.random.between(20, 600) } else { 1 };
                    if let Some(replica) = self.replicas.get_mut(&key)
                        && !std::mem::replace(&mut replica.flush_waits, true)
                    {
                        self.out.push(Out::After(after, Input::FlushBegins(key)));
                    }
                }
                Effect::Checkpoint => {
                    self.cut.push(key);
                    self.out.push(Out::Shown(Shown::LogCut(key)));
                    let after = self.random.between(1, 4);
                    self.out.push(Out::After(after, Input::Checkpoint));
                }
                Effect::ProposeIsr(change) => self.proposals.propose(key, change, now),
            }
        }
    }

    /// A produce with acks=all that waited is answered.
    fn produced(&mut self, parked: u64, outcome: ProduceOutcome) {
        let (from, call, base_offset, leader_epoch) = match self.parked.remove(&parked) {
            Some(Parked::Produce { from, call, base_offset, leader_epoch, .. }) => {
                (from, call, base_offset, leader_epoch)
            }
            Some(Parked::Journal { key, leader_epoch, wait }) => {
                self.journal_settled(key, leader_epoch, wait, outcome);
                return;
            }
            _ => return,
        };
        let answer = match outcome {
            ProduceOutcome::Committed => Ok(Produced { base_offset, leader_epoch }),
            ProduceOutcome::NotEnoughReplicasAfterAppend
            | ProduceOutcome::NotLeader
            | ProduceOutcome::StorageFailed => Err(Refusal::Again),
        };
        self.answer(from, call, Answer::Produced(answer));
    }

    pub(super) fn flush_begins(&mut self, key: ReplicaKey) {
        let after = self.random.between(1, 12);
        let Some(replica) = self.replicas.get_mut(&key) else { return };
        replica.flush_waits = false;
        if let Some(job) = replica.partition.flush_job() {
            replica.flushing = Some(job);
            self.out.push(Out::After(after, Input::FlushEnds(key)));
        }
    }

    pub(super) fn flush_ends(&mut self, key: ReplicaKey) {
        let Some(replica) = self.replicas.get_mut(&key) else { return };
        let Some(job) = replica.flushing.take() else { return };
        let result = (job.run)();
        let failed = result.as_ref().err().map(ToString::to_string);
        let effects = replica.partition.flushed(result);
        self.carry_out(key, effects);
        self.fetch_on(key);
        if let Some(reason) = failed {
            self.fail(format!("a sync failed: {reason}"));
        }
    }

    pub(super) fn checkpoint_cut(&mut self) {
        self.write_checkpoints();
        for key in std::mem::take(&mut self.cut) {
            if let Some(replica) = self.replicas.get_mut(&key) {
                replica.partition.checkpointed();
                self.fetch_on(key);
            }
        }
    }

    pub(super) fn write_checkpoints(&mut self) {
        if !self.has_recovered && self.replicas.is_empty() {
            return;
        }
        let at = |key: &ReplicaKey, replica: &Replica| TopicPartition {
            topic: replica.topic.clone(),
            partition: key.partition,
        };
        let of = |(key, replica): (&ReplicaKey, &Replica)| (at(key, replica), replica.partition.high_watermark());
        let high_watermarks = self.replicas.iter().map(of).collect();
        let of = |(key, replica): (&ReplicaKey, &Replica)| (at(key, replica), replica.partition.recovery_point());
        let recovery_points = self.replicas.iter().map(of).collect();
        let of = |(key, replica): (&ReplicaKey, &Replica)| (at(key, replica), replica.partition.log_start_offset());
        let log_starts = self.replicas.iter().map(of).collect();
        if let Err(error) = self.folder.checkpoint(high_watermarks, recovery_points, log_starts) {
            // On a full disk too: a log that was cut waits for its checkpoint; the process begins anew instead.
            self.fail(error.to_string());
        }
    }

    /// Closes all logs and marks the folder.
    pub(super) fn close_logs(&mut self) -> Result<(), String> {
        for key in self.replicas.keys().copied().collect::<Vec<_>>() {
            self.flush_ends(key);
            if let Some(replica) = self.replicas.get_mut(&key) {
                let effects = replica.partition.close();
                let closed = replica.partition.close_log();
                self.carry_out(key, effects);
                closed.map_err(|error| error.to_string())?;
            }
        }
        self.write_checkpoints();
        let epoch = self.applied.broker(self.id).filter(|own| own.incarnation == self.registration.incarnation);
        // Before it knew its registration it has opened nothing.
        match epoch.filter(|_| self.has_recovered) {
            Some(own) => self.folder.mark_clean(own.epoch).map_err(|error| error.to_string()),
            None => Ok(()),
        }
    }

    /// Sends the ISR changes that are due to the controller; whether there were any.
    pub(super) fn propose(&mut self) -> bool {
        let now = self.monotonic();
        let Some(batch) = self.proposals.next(now) else { return false };
        for Proposal { key, change } in &batch.proposals {
            self.out.push(Out::Shown(Shown::Proposed(*key, change.clone())));
        }
        if let Some(command) = self.proposal(&batch) {
            self.ask_for_isr(command, Own::Propose(batch.proposals));
        } else {
            self.proposals.finished();
            self.proposals_answered(batch.proposals, None);
        }
        true
    }

    /// `None` while the metadata does not know this broker.
    fn proposal(&self, batch: &Batch) -> Option<AlterPartition> {
        let partitions = batch.proposals.iter().map(|Proposal { key, change }| {
            let member = |member: &odradek_partition::IsrMember| ProposedReplica {
                broker_id: member.broker,
                broker_epoch: member.broker_epoch,
            };
            ProposedPartition {
                key: PartitionKey { topic: key.topic, partition: key.partition },
                leader_epoch: change.leader_epoch,
                partition_epoch: change.partition_epoch,
                isr: change.in_sync.iter().map(member).collect(),
                recovering: false,
            }
        });
        Some(AlterPartition {
            broker_id: self.id,
            broker_epoch: self.applied.broker(self.id)?.epoch,
            controller_epoch: self.node.member().controller.epoch,
            sequence: batch.sequence,
            partitions: partitions.collect(),
        })
    }
}
