// SPDX-License-Identifier: Apache-2.0
//! The controller's decisions for one partition, as far as replication depends on them: registration, fencing,
//! election from ISR and ELR, and the rules of AlterPartition in their order. Never an unclean election.

use odradek_model::{BrokerEpoch, BrokerId, LeaderEpoch, PartitionEpoch};

use crate::{BrokerStatus, Brokers, IsrAnswer, IsrChange};

pub(super) const BROKERS: usize = 3;

/// All brokers, which are the replicas in order of preference.
pub(super) fn all_brokers() -> impl DoubleEndedIterator<Item = BrokerId> {
    (0..BROKERS as i32).map(BrokerId)
}

/// What the metadata says at one moment.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Metadata {
    pub(super) leader: Option<BrokerId>,
    pub(super) leader_epoch: LeaderEpoch,
    pub(super) partition_epoch: PartitionEpoch,
    pub(super) in_sync: Vec<BrokerId>,
    pub(super) eligible: Vec<BrokerId>,
    pub(super) brokers: [BrokerStatus; BROKERS],
}

impl Brokers for Metadata {
    fn status(&self, broker: BrokerId) -> Option<BrokerStatus> {
        self.brokers.get(broker.0 as usize).copied()
    }
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Controller {
    pub(super) now: Metadata,
    pub(super) min_in_sync: usize,
    /// The highest attempt refused at the present partition epoch (see `IsrChange::attempt`).
    refused_attempt: u32,
    /// Whether it remembers that.
    pub(super) remembers_refusals: bool,
}

impl Controller {
    pub(super) fn new(in_sync: Vec<BrokerId>, min_in_sync: usize) -> Self {
        let status = |broker: usize| BrokerStatus { epoch: broker as BrokerEpoch, fenced: false, shutting_down: false };
        let now = Metadata {
            leader: Some(BrokerId(0)),
            leader_epoch: 1,
            partition_epoch: 1,
            in_sync,
            eligible: Vec::new(),
            brokers: [status(0), status(1), status(2)],
        };
        Self { now, min_in_sync, refused_attempt: 0, remembers_refusals: true }
    }

    fn status(&mut self, broker: BrokerId) -> &mut BrokerStatus {
        &mut self.now.brokers[broker.0 as usize]
    }

    /// AlterPartition.
    pub(super) fn alter(&mut self, sender: BrokerId, sender_epoch: BrokerEpoch, change: &IsrChange) -> IsrAnswer {
        if self.status(sender).epoch != sender_epoch {
            return IsrAnswer::Retry; // 77: the sender registers anew.
        }
        let now = &self.now;
        if change.leader_epoch > now.leader_epoch || change.partition_epoch > now.partition_epoch {
            return IsrAnswer::Retry; // 41
        }
        if change.leader_epoch < now.leader_epoch {
            return IsrAnswer::AwaitMetadata; // 74
        }
        if now.leader != Some(sender) {
            return IsrAnswer::AwaitMetadata; // 42
        }
        if change.partition_epoch < now.partition_epoch {
            return IsrAnswer::AwaitMetadata; // 95
        }
        let members: Vec<_> = change.in_sync.iter().map(|member| member.broker).collect();
        assert!(members.contains(&sender), "a leader proposes itself among the others");
        let eligible = change.in_sync.iter().all(|member| {
            let status = now.brokers[member.broker.0 as usize];
            !status.fenced && member.broker_epoch.is_none_or(|epoch| epoch == status.epoch)
        });
        let overtaken = self.remembers_refusals && change.attempt <= self.refused_attempt;
        if !eligible || overtaken {
            self.refused_attempt = self.refused_attempt.max(change.attempt);
            return IsrAnswer::Refused; // 107
        }
        self.set_in_sync(members, None);
        IsrAnswer::Accepted
    }

    /// Sets the ISR, keeps the ELR, and elects if the leader is not valid any more.
    fn set_in_sync(&mut self, in_sync: Vec<BrokerId>, unclean: Option<BrokerId>) {
        let min = self.min_in_sync;
        let now = &mut self.now;
        if in_sync.len() >= min {
            now.eligible.clear();
        } else {
            let mut eligible = now.eligible.clone();
            eligible.extend(&now.in_sync);
            eligible.retain(|broker| !in_sync.contains(broker) && unclean != Some(*broker));
            eligible.sort_unstable_by_key(|broker| broker.0);
            eligible.dedup();
            now.eligible = eligible;
        }
        now.in_sync = in_sync;
        self.elect(None);
        self.now.partition_epoch += 1;
        self.refused_attempt = 0;
    }

    /// Keeps a valid leader, or elects one from the ISR, or from the ELR if that is empty.
    fn elect(&mut self, preferred: Option<BrokerId>) {
        let now = &self.now;
        let valid = |broker: &BrokerId| {
            let among = if now.in_sync.is_empty() { &now.eligible } else { &now.in_sync };
            among.contains(broker) && !now.brokers[broker.0 as usize].fenced
        };
        let elected = preferred.or(now.leader).filter(valid).or_else(|| all_brokers().find(valid));
        if elected == now.leader {
            return;
        }
        if let Some(elected) = elected.filter(|_| now.in_sync.is_empty()) {
            self.now.in_sync = vec![elected];
            self.now.eligible.retain(|broker| *broker != elected);
        }
        self.now.leader = elected;
        self.now.leader_epoch += 1;
    }

    /// A broker is not counted on any more.
    pub(super) fn fence(&mut self, broker: BrokerId) {
        self.status(broker).fenced = true;
        self.leave(broker, false);
    }

    fn leave(&mut self, broker: BrokerId, unclean: bool) {
        let known = self.now.in_sync.contains(&broker) || (unclean && self.now.eligible.contains(&broker));
        if known {
            let in_sync = self.now.in_sync.iter().copied().filter(|member| *member != broker).collect();
            self.set_in_sync(in_sync, unclean.then_some(broker));
        }
    }

    /// A broker comes back; without proof that it lost nothing it is neither in sync nor electable.
    pub(super) fn register(&mut self, broker: BrokerId, unclean: bool) {
        let epoch = 1 + self.now.brokers.iter().map(|status| status.epoch).max().expect("there are brokers");
        *self.status(broker) = BrokerStatus { epoch, fenced: true, shutting_down: false };
        self.leave(broker, unclean);
    }

    /// A registered broker is counted on again.
    pub(super) fn unfence(&mut self, broker: BrokerId) {
        self.status(broker).fenced = false;
        if self.now.leader.is_none() {
            self.elect(None);
            if self.now.leader.is_some() {
                self.now.partition_epoch += 1;
                self.refused_attempt = 0;
            }
        }
    }

    /// The leadership moves to another member of the ISR; false if that is not possible.
    pub(super) fn move_leader(&mut self, broker: BrokerId) -> bool {
        let before = self.now.leader;
        self.elect(Some(broker));
        if self.now.leader == before {
            return false;
        }
        self.now.partition_epoch += 1;
        self.refused_attempt = 0;
        true
    }
}
