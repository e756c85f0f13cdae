// SPDX-License-Identifier: Apache-2.0
//! The replicas of this broker: images become roles, and what replicas want done is done. As `broker/taking_over.rs` and
//! `replica.rs` in the server do it.

use std::sync::Arc;

use odradek_metadata::{Image, PartitionKey};
use odradek_model::{TopicDefaults, TopicIdPartition, TopicName, TopicOverrides, TopicPartition, TopicSettings};
use odradek_partition::{Decided, Effect, FlushJob, MonotonicTime, Partition, PartitionSettings, ProduceOutcome};
use odradek_replication::{Change, Present, Proposal, ReplicaKey, TakingOver, Task, decided};

use super::control::Own;
use super::fetching::LANES;
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

fn small_segments(settings: &TopicSettings) -> TopicSettings {
    TopicSettings { segment_bytes: SEGMENT_BYTES, ..settings.clone() }
}

/// Those of a broker without settings of its own for topics.
fn topic_defaults() -> TopicDefaults {
    TopicDefaults { overrides: TopicOverrides::new() }
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
        let TakingOver { gone, changes, brokers_changed } = TakingOver::new(self.id, &before, image, &topic_defaults());
        let (mut any_gone, mut any_misstated) = (false, false);
        for topic in gone {
            for key in self.replicas.keys().filter(|key| key.topic == topic.id).copied().collect::<Vec<_>>() {
                any_gone = true;
                self.follow(key, None, true);
                self.delete(key);
            }
        }
        let mut followed = Vec::new();
        for change in &changes {
            let key = change.key;
            let obeyed = self.replicas.get(&key).map(|replica| &replica.settings);
            let was_here = obeyed.is_some();
            let task = change.task(obeyed.map_or(Present::Absent, Present::Open));
            match task {
                Task::Keep => {}
                Task::Open => {
                    let Some(is_misstated) = self.open(change, is_new) else { return };
                    any_misstated |= is_misstated;
                    self.tell(key, change.decided(), Some(&change.settings));
                }
                Task::Tell => self.tell(key, change.decided(), Some(&change.settings)),
                Task::Delete => {
                    any_gone = true;
                    self.delete(key);
                }
            }
            if was_here || self.replicas.contains_key(&key) {
                let fetcher = self.replicas.get(&key).and_then(|_| change.fetcher(LANES));
                followed.push((key, fetcher, change.is_changed));
            }
        }
        if any_gone || any_misstated {
            self.write_checkpoints();
        }
        *self.heard.0.lock().expect("nobody panics with it") = Arc::clone(image);
        self.applied = Arc::clone(image);
        for (key, fetcher, is_changed) in followed {
            self.follow(key, fetcher, is_changed);
        }
        if brokers_changed {
            self.each_replica(Partition::brokers_changed);
        }
        self.move_groups();
    }

    /// Whether the checkpoints say of it what does not hold; `None` if it does not open.
    fn open(&mut self, change: &Change<'_>, is_new: bool) -> Option<bool> {
        let Change { key, topic, .. } = change;
        let (settings, wall_ms) = (change.settings.clone(), self.wall_ms());
        let named = (&topic.name, topic.id, key.partition);
        let opened = self.folder.open_log(named, &small_segments(&settings), topic.always_flushed, is_new, wall_ms);
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
        self.replicas.insert(*key, replica);
        Some(is_misstated)
    }

    /// Tells a replica what the metadata says of it.
    fn tell(&mut self, key: ReplicaKey, decided: Decided, settings: Option<&TopicSettings>) {
        let now = self.monotonic();
        let Some(replica) = self.replicas.get_mut(&key) else { return };
        let changed = settings.filter(|settings| **settings != replica.settings);
        let (effects, outcome) = replica.partition.decide(decided, changed.map(small_segments).as_ref(), now);
        replica.undecided = outcome.is_err();
        if let Some(settings) = changed {
            replica.settings = settings.clone();
        }
        self.carry_out(key, effects);
        self.check_log(key);
    }

    /// Tells those again who could not obey.
    pub(super) fn decide_again(&mut self) {
        let undecided = self.replicas.iter().filter(|(_, replica)| replica.undecided).map(|(key, _)| *key);
        for key in undecided.collect::<Vec<_>>() {
            let partition = self.applied.partition(PartitionKey { topic: key.topic, partition: key.partition });
            if let Some(decided) = partition.map(|partition| decided(self.id, partition)) {
                self.tell(key, decided, None);
            }
        }
    }

    fn delete(&mut self, key: ReplicaKey) {
        let Some(mut replica) = self.replicas.remove(&key) else { return };
        let effects = replica.partition.close();
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
            let failed = replica.partition.maintain(wall_ms).is_err();
            let partition = &replica.partition;
            let (start, left) = if failed {
                // What it did is not certain, but nothing goes that is not committed.
                (partition.high_watermark(), None)
            } else {
                (partition.log_start_offset(), Some(partition.size_bytes()))
            };
            if start > before {
                self.out.push(Out::Shown(Shown::LogStartRaised { key, start, left }));
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
                    let after = self.random.between(1, 4);
                    self.out.push(Out::After(after, Input::Checkpoint));
                }
                Effect::ProposeIsr(change) => self.proposals.propose(key, change, now),
            }
        }
    }

    /// A produce with acks=all that waited is answered.
    fn produced(&mut self, parked: u64, outcome: ProduceOutcome) {
        let (from, call, key, base_offset) = match self.parked.remove(&parked) {
            Some(Parked::Produce { from, call, key, base_offset, .. }) => (from, call, key, base_offset),
            Some(Parked::Journal { key, leader_epoch, wait }) => {
                self.journal_settled(key, leader_epoch, wait, outcome);
                return;
            }
            _ => return,
        };
        let answer = match outcome {
            // It may have waited while another led in between, of which this leader never heard.
            ProduceOutcome::Committed => {
                let leader_epoch = self.replicas.get(&key).map_or(-1, |replica| replica.partition.leader_epoch());
                Ok(Produced { base_offset, leader_epoch })
            }
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
        // While the metadata does not know this broker nothing is sent.
        let command = self.applied.broker(self.id).map(|own| {
            let controller_epoch = self.node.member().controller.epoch;
            batch.command(self.id, own.epoch, controller_epoch)
        });
        match command {
            Some(command) => self.ask_for_isr(command, Own::Propose(batch)),
            None => self.proposals_answered(batch, None),
        }
        true
    }
}
