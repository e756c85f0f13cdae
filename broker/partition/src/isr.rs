// SPDX-License-Identifier: Apache-2.0
//! The in-sync replicas as their leader sees them: who may join, who must leave, and the one change on its way to the
//! controller (KIP-497, `Partition.scala`). Must not know watermarks' consequences or how a change travels.
//!
//! A change is proposed for the partition epoch that is known here. Until its outcome is known, the **maximal ISR**
//! counts: who joins counts at once, who leaves until that is committed. Either way the high watermark waits for
//! everyone who might be elected, whatever the controller decided.

use odradek_model::{BrokerEpoch, BrokerId, LeaderEpoch, PartitionEpoch};

use crate::brokers::{BrokerStatus, Brokers};
use crate::leader::Leader;
use crate::planted::{Planted, PlantedBug};
use crate::progress::Progress;

/// A member of a proposed ISR.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct IsrMember {
    /// Who.
    pub broker: BrokerId,
    /// Of the incarnation whose fetches the leader has seen (KIP-903); the controller refuses another. `None` (-1 on
    /// the wire) for the leader itself, whose own epoch stands in the request, and for a member that has not fetched
    /// in this reign: if that has gone meanwhile, the partition epoch has risen and the change is refused for it.
    pub broker_epoch: Option<BrokerEpoch>,
}

/// An ISR that a leader proposes to the controller (AlterPartition). It always declares the leader recovered.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct IsrChange {
    /// The leader's epoch.
    pub leader_epoch: LeaderEpoch,
    /// The partition epoch that the change is based on.
    pub partition_epoch: PartitionEpoch,
    /// The whole new ISR, the leader first.
    pub in_sync: Vec<IsrMember>,
    /// Counts what this leader sends for this partition epoch, from 1 on, other changes after a refusal included.
    ///
    /// When attempt n is refused so that the leader goes back to the old ISR ([`IsrAnswer::Refused`]), no attempt
    /// below n may take effect any more. Either attempts reach the controller in order, or the controller remembers,
    /// until the partition epoch rises, the attempt that it refused, and refuses lower ones.
    pub attempt: u32,
}

/// What became of a proposed change, by the error code of the answer. That it was committed is learned from the
/// metadata alone ([`crate::Partition::lead`]), in order with everything else that the controller decides.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum IsrAnswer {
    /// 0: it is committed and will come with the metadata.
    Accepted,
    /// INELIGIBLE_REPLICA 107, OPERATION_NOT_ATTEMPTED 55: surely not done, and the partition epoch was right.
    Refused,
    /// UNKNOWN_TOPIC_OR_PARTITION 3, INVALID_REQUEST 42, FENCED_LEADER_EPOCH 74, INVALID_UPDATE_VERSION 95,
    /// UNKNOWN_TOPIC_ID 100, NEW_LEADER_ELECTED 108: what is known here is old; metadata that settles it is on its way.
    AwaitMetadata,
    /// Anything else, no answer among it: the outcome is unknown, the same is to be sent again.
    Retry,
}

/// A change whose outcome is not known.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct PendingChange {
    change: IsrChange,
    joining: Option<BrokerId>,
    leaving: Vec<BrokerId>,
}

impl Leader {
    /// Whether a broker is in the maximal ISR.
    pub(crate) fn is_in_maximal_isr(&self, broker: BrokerId, planted: Planted) -> bool {
        let pending = self.pending.as_ref();
        if planted.has(PlantedBug::ShrinkBeforeCommit)
            && pending.is_some_and(|pending| pending.leaving.contains(&broker))
        {
            return false;
        }
        let joining = pending.is_some_and(|pending| pending.joining == Some(broker));
        self.leadership.in_sync.contains(&broker)
            || (joining && !planted.has(PlantedBug::HighWatermarkFromCommittedIsr))
    }

    /// The change on its way.
    pub(crate) fn pending_change(&self) -> Option<&IsrChange> {
        self.pending.as_ref().map(|pending| &pending.change)
    }

    /// Members of the maximal ISR.
    pub(crate) fn maximal_isr_len(&self) -> usize {
        let joining = self.pending.as_ref().is_some_and(|pending| pending.joining.is_some());
        self.leadership.in_sync.len() + usize::from(joining)
    }

    /// Proposes that a follower joins, if it may: at or above the high watermark **and** where this leader's epoch
    /// began (otherwise it could be elected without what is committed between this leader's high watermark and its
    /// end), and eligible. `None` while another change is on its way.
    pub(crate) fn propose_join(
        &mut self,
        broker: BrokerId,
        high_watermark: i64,
        brokers: &dyn Brokers,
        planted: Planted,
    ) -> Option<IsrChange> {
        if self.pending.is_some() || self.leadership.in_sync.contains(&broker) {
            return None;
        }
        let progress = self.followers.get(&broker)?;
        let has_all = progress.log_end.is_some_and(|end| {
            end >= high_watermark && (end >= self.epoch_start_offset || planted.has(PlantedBug::JoinBelowEpochStart))
        });
        if !has_all || !is_eligible(progress, brokers.status(broker), planted) {
            return None;
        }
        let in_sync = self.leadership.in_sync.iter().copied().chain([broker]).collect();
        Some(self.propose(in_sync, Some(broker), Vec::new(), planted))
    }

    /// Proposes that all members leave who have not been at the leader's end for the lag time. `is_caught_up` judges
    /// a follower. `None` while another change is on its way.
    pub(crate) fn propose_leave(
        &mut self,
        is_caught_up: impl Fn(&Progress) -> bool,
        planted: Planted,
    ) -> Option<IsrChange> {
        if self.pending.is_some() {
            return None;
        }
        let lags = |broker: &BrokerId| {
            *broker != self.local && self.followers.get(broker).is_none_or(|progress| !is_caught_up(progress))
        };
        let (leaving, staying): (Vec<_>, Vec<_>) = self.leadership.in_sync.iter().partition(|broker| lags(broker));
        if leaving.is_empty() {
            return None;
        }
        Some(self.propose(staying, None, leaving, planted))
    }

    fn propose(
        &mut self,
        mut in_sync: Vec<BrokerId>,
        joining: Option<BrokerId>,
        leaving: Vec<BrokerId>,
        planted: Planted,
    ) -> IsrChange {
        let local = self.local;
        in_sync.sort_by_key(|broker| (*broker != local, broker.0));
        let member = |broker: BrokerId| {
            let progress = self.followers.get(&broker).filter(|_| !planted.has(PlantedBug::BrokerEpochUnchecked));
            IsrMember { broker, broker_epoch: progress.and_then(|progress| progress.broker_epoch) }
        };
        let change = IsrChange {
            leader_epoch: self.leadership.leader_epoch,
            partition_epoch: self.leadership.partition_epoch,
            in_sync: in_sync.into_iter().map(member).collect(),
            attempt: self.next_attempt(),
        };
        self.pending = Some(PendingChange { change: change.clone(), joining, leaving });
        change
    }

    fn next_attempt(&mut self) -> u32 {
        self.attempts = self.attempts.saturating_add(1);
        self.attempts
    }

    /// Takes the answer to a change. Answers to any but the latest attempt at the pending one are late and mean
    /// nothing. The change to send again, if any.
    pub(crate) fn isr_answered(
        &mut self,
        change: &IsrChange,
        answer: IsrAnswer,
        planted: Planted,
    ) -> Option<IsrChange> {
        self.pending.as_ref().filter(|pending| pending.change == *change)?;
        match answer {
            IsrAnswer::Retry if planted.has(PlantedBug::UnknownOutcomeReverted) => self.pending = None,
            IsrAnswer::Retry => {
                let attempt = self.next_attempt();
                let pending = self.pending.as_mut()?;
                pending.change.attempt = attempt;
                return Some(pending.change.clone());
            }
            IsrAnswer::Refused => self.pending = None,
            IsrAnswer::Accepted | IsrAnswer::AwaitMetadata => {}
        }
        None
    }
}

/// Whether the metadata lets a follower into the ISR: unfenced, not stopping, and the incarnation that fetched is the
/// one that is registered (KIP-903).
pub(crate) fn is_eligible(progress: &Progress, status: Option<BrokerStatus>, planted: Planted) -> bool {
    status.is_some_and(|status| {
        let same_incarnation =
            progress.broker_epoch == Some(status.epoch) || planted.has(PlantedBug::BrokerEpochUnchecked);
        !status.fenced && !status.shutting_down && same_incarnation
    })
}
