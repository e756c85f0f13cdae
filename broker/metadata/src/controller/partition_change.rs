// SPDX-License-Identifier: Apache-2.0
//! One step of one partition: what is wanted goes in, the record of the next state comes out (`PartitionChangeBuilder`
//! and `PartitionReassignmentReplicas` in Kafka).
//!
//! The only place that elects leaders, keeps the ELR and counts epochs:
//! 1. A reassignment whose new replicas are all in sync is completed.
//! 2. While the ISR is below min ISR, replicas that leave it go to the ELR, unless they came back without stop proof.
//! 3. A leader is elected ([`Election`]). Departures from Kafka: the last known leader is not elected by itself; a sole
//!    assigned replica whose log is intact is (it is then [recovering](PartitionImage::recovering)).
//! 4. The leader epoch rises with each new leader, also with none, and when a reassignment drops a replica; the
//!    partition epoch with every record.
//!
//! Must not know why the step is taken.

use bytes::Bytes;
use odradek_model::BrokerId;

use super::min_in_sync::TopicRules;
use super::{ControllerSettings, PlantedBug};
use crate::records::PartitionRecord;
use crate::{PartitionImage, PartitionKey, Record, TopicImage};

/// Who may lead, besides the members of the ISR, or of the ELR when the ISR is empty.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Election {
    /// The present leader stays if it can; else the first that can.
    Online,
    /// The preferred leader if it can; else as [`Election::Online`].
    Preferred,
    /// As [`Election::Online`], and if nobody can, any replica that is alive.
    Unclean,
}

/// A step in the making; its fields are what the partition shall be.
pub(super) struct PartitionChange<'a> {
    key: PartitionKey,
    partition: &'a PartitionImage,
    rules: TopicRules,
    settings: &'a ControllerSettings,
    pub(super) election: Election,
    pub(super) isr: Vec<BrokerId>,
    pub(super) replicas: Vec<BrokerId>,
    pub(super) adding: Vec<BrokerId>,
    pub(super) removing: Vec<BrokerId>,
    pub(super) recovering: bool,
    /// Came back without stop proof to records that need one, or is gone for good: neither in ISR nor in ELR.
    pub(super) without_proof: Option<BrokerId>,
    /// Its log is lost.
    pub(super) lost_log: Option<BrokerId>,
    elr: Vec<BrokerId>,
}

impl<'a> PartitionChange<'a> {
    /// The step that changes nothing, except that it elects a leader if the present one cannot go on.
    pub(super) fn new(
        settings: &'a ControllerSettings,
        topic: &TopicImage,
        key: PartitionKey,
        partition: &'a PartitionImage,
    ) -> Self {
        let rules = TopicRules::of(topic, &settings.topic_defaults);
        Self {
            key,
            partition,
            rules,
            settings,
            election: if rules.unclean_leader_election { Election::Unclean } else { Election::Online },
            isr: partition.isr.clone(),
            replicas: partition.replicas.clone(),
            adding: partition.adding.clone(),
            removing: partition.removing.clone(),
            recovering: partition.recovering,
            without_proof: None,
            lost_log: None,
            elr: partition.elr.clone(),
        }
    }

    /// The record of the next state, if it differs. `may_lead` says who is alive.
    pub(super) fn build(mut self, may_lead: impl Fn(BrokerId) -> bool) -> Option<Record> {
        let old = self.partition;
        self.isr.retain(|broker| Some(*broker) != self.without_proof && Some(*broker) != self.lost_log);
        self.complete_reassignment();
        self.update_elr();
        let mut lost_logs = self.lost_logs();
        let leader = self.elect(&may_lead, &lost_logs);
        // Elected with permission: what it has is the partition's log from now on.
        lost_logs.retain(|broker| !self.isr.contains(broker));
        let dropped = old.replicas.iter().any(|broker| !self.replicas.contains(broker));
        let from_elr = leader.is_some_and(|leader| old.elr.contains(&leader));
        let keeps_epoch = from_elr && self.settings.has(PlantedBug::LeaderEpochNotRaised);
        let new_epoch = (leader != old.leader || dropped) && !keeps_epoch;
        let unchanged = leader == old.leader
            && self.isr == old.isr
            && same_members(&self.elr, &old.elr)
            && self.replicas == old.replicas
            && same_members(&self.adding, &old.adding)
            && same_members(&self.removing, &old.removing)
            && self.recovering == old.recovering
            && same_members(&lost_logs, &old.lost_logs);
        if unchanged {
            return None;
        }
        let ids = |brokers: &[BrokerId]| brokers.iter().map(|broker| broker.0).collect();
        let record = PartitionRecord {
            topic_id: Bytes::copy_from_slice(self.key.topic.0.as_bytes()),
            partition: self.key.partition,
            replicas: ids(&self.replicas),
            isr: ids(&self.isr),
            leader: leader.map_or(-1, |leader| leader.0),
            leader_epoch: old.leader_epoch + i32::from(new_epoch),
            partition_epoch: old.partition_epoch + 1,
            elr: ids(&self.elr),
            adding: ids(&self.adding),
            removing: ids(&self.removing),
            recovering: self.recovering,
            lost_logs: ids(&lost_logs),
        };
        Some(record.into())
    }

    fn min_in_sync(&self) -> usize {
        self.rules.min_in_sync(self.replicas.len() - self.adding.len())
    }

    /// Complete when all added replicas are in sync and somebody remains; if replicas become fewer, only when all that
    /// remain are in sync, so that the ISR does not shrink for nothing.
    fn complete_reassignment(&mut self) {
        if self.adding.is_empty() && self.removing.is_empty() {
            return;
        }
        let stays = |broker: &BrokerId| !self.removing.contains(broker);
        let isr: Vec<BrokerId> = self.isr.iter().copied().filter(stays).collect();
        let replicas: Vec<BrokerId> = self.replicas.iter().copied().filter(stays).collect();
        let early = self.settings.has(PlantedBug::ReassignmentCompletedEarly) && !replicas.is_empty();
        let in_sync = |brokers: &[BrokerId]| brokers.iter().all(|broker| isr.contains(broker));
        let complete = !isr.is_empty()
            && in_sync(&self.adding)
            && (self.adding.len() >= self.removing.len() || in_sync(&replicas));
        if complete || early {
            self.isr = isr;
            self.replicas = replicas;
            self.adding.clear();
            self.removing.clear();
        }
    }

    fn update_elr(&mut self) {
        if self.isr.len() >= self.min_in_sync() && !self.settings.has(PlantedBug::ElrKeptAtMinInSync) {
            self.elr.clear();
            return;
        }
        let unproven = if self.settings.has(PlantedBug::ElrKeepsUnprovenReplicas) { None } else { self.without_proof };
        let was_eligible = |broker: &BrokerId| self.partition.isr.contains(broker) || self.elr.contains(broker);
        let elr = self.replicas.iter().copied().filter(|broker| {
            was_eligible(broker)
                && !self.isr.contains(broker)
                && Some(*broker) != unproven
                && Some(*broker) != self.lost_log
        });
        self.elr = elr.collect();
    }

    /// A log stays lost until its replica is in sync again.
    fn lost_logs(&self) -> Vec<BrokerId> {
        let is_lost = |broker: &BrokerId| {
            (self.partition.lost_logs.contains(broker) || self.lost_log == Some(*broker)) && !self.isr.contains(broker)
        };
        self.replicas.iter().copied().filter(is_lost).collect()
    }

    fn elect(&mut self, may_lead: &impl Fn(BrokerId) -> bool, lost_logs: &[BrokerId]) -> Option<BrokerId> {
        if let Some(leader) = self.clean_leader(may_lead) {
            if !self.isr.contains(&leader) {
                self.isr = vec![leader];
                self.elr.retain(|broker| *broker != leader);
                // One in sync may be enough for the high watermark to move: then the others are not eligible any more.
                if self.min_in_sync() <= 1 && !self.settings.has(PlantedBug::ElrKeptAtMinInSync) {
                    self.elr.clear();
                }
            }
            return Some(leader);
        }
        let leader = self.unclean_leader(may_lead, lost_logs)?;
        self.isr = vec![leader];
        self.elr.clear();
        self.recovering = true;
        Some(leader)
    }

    fn clean_leader(&self, may_lead: &impl Fn(BrokerId) -> bool) -> Option<BrokerId> {
        let eligible = |broker: &BrokerId| {
            (self.isr.contains(broker) || (self.isr.is_empty() && self.elr.contains(broker))) && may_lead(*broker)
        };
        let preferred = Some(self.replicas[0]).filter(|_| self.election == Election::Preferred);
        let order = preferred.into_iter().chain(self.partition.leader).chain(self.replicas.iter().copied());
        order.into_iter().find(eligible)
    }

    /// Somebody who may lack what was committed: the sole replica if its log is intact, or with permission anybody,
    /// those with an intact log first.
    fn unclean_leader(&self, may_lead: &impl Fn(BrokerId) -> bool, lost_logs: &[BrokerId]) -> Option<BrokerId> {
        let alive = || self.replicas.iter().copied().filter(|broker| may_lead(*broker));
        let intact = |broker: &BrokerId| !lost_logs.contains(broker) || self.settings.has(PlantedBug::LostLogElected);
        let sole = self.replicas.len() == 1 && self.isr.is_empty() && self.elr.is_empty();
        let anybody =
            self.election == Election::Unclean || self.settings.has(PlantedBug::UncleanElectionWithoutPermission);
        let with_permission = || alive().find(intact).or_else(|| alive().next());
        if anybody { with_permission() } else { alive().find(|broker| sole && intact(broker)) }
    }
}

/// Both lists are of distinct brokers.
fn same_members(some: &[BrokerId], others: &[BrokerId]) -> bool {
    some.len() == others.len() && some.iter().all(|broker| others.contains(broker))
}
