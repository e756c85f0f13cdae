// SPDX-License-Identifier: Apache-2.0
//! Beginning and ending a role, as the metadata says, and the passing of time. Must not know what a role does.

use odradek_model::{LeaderEpoch, TopicSettings};

use super::{Effect, Partition, ProduceOutcome, Role};
use crate::follower::{Follower, Followership};
use crate::isr::{IsrAnswer, IsrChange};
use crate::leader::{Leader, Leadership};
use crate::log_port::StorageError;
use crate::planted::PlantedBug;
use crate::time::MonotonicTime;

/// What the metadata decided for a replica.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Decided {
    /// It leads.
    Leads(Leadership),
    /// Another does.
    Follows(Followership),
    /// Nobody does.
    Leaderless,
}

impl Partition {
    /// Takes a decision, with the topic's settings of the same moment if they have changed. The two are taken one after
    /// the other, so that the larger minimum of in-sync replicas counts meanwhile. What is asked for is to be done in
    /// any case.
    ///
    /// # Errors
    /// The new epoch could not be stored: this replica leads nothing, and the same decision is to be given again later.
    pub fn decide(
        &mut self,
        decided: Decided,
        settings: Option<&TopicSettings>,
        now: MonotonicTime,
    ) -> (Vec<Effect>, Result<(), StorageError>) {
        let (stricter, others) = match settings {
            Some(new) if new.min_insync_replicas > self.settings.min_insync_replicas => (Some(new), None),
            others => (None, others),
        };
        let mut effects = stricter.map(|settings| self.update_settings(settings)).unwrap_or_default();
        let outcome = match decided {
            Decided::Leads(leadership) => self.lead(leadership, now).map(|led| effects.extend(led)),
            Decided::Follows(following) => {
                effects.extend(self.follow(following, now));
                Ok(())
            }
            Decided::Leaderless => {
                effects.extend(self.resign());
                Ok(())
            }
        };
        if outcome.is_err() {
            effects.extend(self.resign());
        }
        effects.extend(others.map(|settings| self.update_settings(settings)).unwrap_or_default());
        (effects, outcome)
    }

    /// The present reign, if this replica leads.
    pub fn leadership(&self) -> Option<&Leadership> {
        self.reign().map(|leader| &leader.leadership)
    }

    /// Whom this replica follows, if it does.
    pub fn following(&self) -> Option<Followership> {
        match &self.role {
            Role::Follower(follower) => Some(follower.following),
            Role::Idle | Role::Leader(_) => None,
        }
    }

    /// The leader epoch of the newest decision that was taken; -1 before the first.
    pub fn leader_epoch(&self) -> LeaderEpoch {
        self.epochs.0
    }

    /// Begins a reign, or continues it with another ISR or other replicas. A decision that is not newer than the
    /// present one is ignored: the same once more must not make the leader forget an ISR change that is on its way.
    /// The epoch and where it begins are durable before anything is served; if they cannot be stored this replica leads
    /// nothing, and [`Self::resign`] tells those who wait.
    pub fn lead(&mut self, leadership: Leadership, now: MonotonicTime) -> Result<Vec<Effect>, StorageError> {
        self.now = self.now.max(now);
        let epochs = (leadership.leader_epoch, leadership.partition_epoch);
        let again = epochs == self.epochs && !self.planted.has(PlantedBug::RepeatedMetadataSettles);
        if self.closed.is_some() || epochs < self.epochs || again {
            return Ok(Vec::new());
        }
        let mut effects = Vec::new();
        match &mut self.role {
            Role::Leader(leader) if leader.leadership.leader_epoch == leadership.leader_epoch => {
                leader.update(leadership, self.now);
            }
            role => {
                let before = std::mem::replace(role, Role::Idle);
                let start = self.log.log_end_offset();
                self.log.assign_epoch(leadership.leader_epoch, start)?;
                let mut leader = Leader::new(self.local.id, leadership, start, self.now);
                if let Role::Leader(before) = before {
                    if self.planted.has(PlantedBug::ProgressKeptOverEpochs) {
                        leader.followers = before.followers;
                    }
                    self.role = Role::Leader(leader);
                } else {
                    self.role = Role::Leader(leader);
                    effects = self.wake_all(ProduceOutcome::NotLeader);
                }
            }
        }
        self.epochs = epochs;
        if self.checkpoint_due {
            effects.push(Effect::Checkpoint);
        }
        effects.extend(self.advance());
        Ok(effects)
    }

    /// Follows a leader, from [`Self::next_step`] on. A decision that is not newer than the present one is ignored. The
    /// log stays as it is: the leader's answers tell where it differs.
    ///
    /// # Panics
    /// If the leader is this broker.
    pub fn follow(&mut self, following: Followership, now: MonotonicTime) -> Vec<Effect> {
        assert_ne!(following.leader, self.local.id, "a replica does not follow itself");
        self.now = self.now.max(now);
        let epochs = (following.leader_epoch, following.partition_epoch);
        if self.closed.is_some() || epochs <= self.epochs {
            return Vec::new();
        }
        let same_epoch = following.leader_epoch == self.epochs.0;
        self.epochs = epochs;
        match &mut self.role {
            Role::Follower(follower) if same_epoch => {
                follower.following = following;
                return Vec::new();
            }
            role => *role = Role::Follower(Follower::new(following)),
        }
        if self.planted.has(PlantedBug::TruncateToHighWatermark) {
            let cut = self.log.truncate_to(self.high_watermark, 0);
            tracing::debug!(?cut, "planted");
        }
        let mut effects = self.wake_all(ProduceOutcome::NotLeader);
        effects.extend(self.advance());
        effects
    }

    /// Ends the role (the partition has no leader): everyone who waits is woken and will find another leader.
    pub fn resign(&mut self) -> Vec<Effect> {
        self.role = Role::Idle;
        self.wake_all(ProduceOutcome::NotLeader)
    }

    /// Ends the partition's life here (deleted, or the broker stops): everyone who waits is woken, nothing is taken
    /// any more.
    pub fn close(&mut self) -> Vec<Effect> {
        self.close_with(ProduceOutcome::NotLeader)
    }

    pub(super) fn close_with(&mut self, outcome: ProduceOutcome) -> Vec<Effect> {
        self.role = Role::Idle;
        self.closed = Some(outcome);
        self.wake_all(outcome)
    }

    /// Lets time pass: members of the ISR that lag are proposed to leave, replicas outside of it that lag hold nothing
    /// back any more. To be called every half of `replica.lag.time.max.ms`, and when a broker has gone.
    pub fn tick(&mut self, now: MonotonicTime) -> Vec<Effect> {
        self.now = self.now.max(now);
        let (now, log_end, lag) = (self.now, self.log.log_end_offset(), self.local.replica_lag_time_max_ms);
        let Role::Leader(leader) = &mut self.role else {
            return Vec::new();
        };
        let proposed = leader.propose_leave(|progress| progress.is_caught_up(log_end, now, lag), self.planted);
        let mut effects: Vec<_> = proposed.into_iter().map(Effect::ProposeIsr).collect();
        effects.extend(self.advance());
        self.wake_deletions(&mut effects);
        effects
    }

    /// Lets time pass after the metadata of brokers has changed. Besides what [`Self::tick`] does, a follower that is caught
    /// up and could not join the ISR because it was fenced is proposed now: its next fetch may wait for records.
    pub fn brokers_changed(&mut self, now: MonotonicTime) -> Vec<Effect> {
        let mut effects = self.tick(now);
        let (now, planted, lag) = (self.now, self.planted, self.local.replica_lag_time_max_ms);
        let (high_watermark, log_end) = (self.high_watermark, self.log.log_end_offset());
        let Role::Leader(leader) = &mut self.role else {
            return effects;
        };
        let caught_up = leader.followers.iter().filter(|(_, progress)| progress.is_caught_up(log_end, now, lag));
        let caught_up: Vec<_> = caught_up.map(|(broker, _)| *broker).collect();
        let mut join = |broker| leader.propose_join(broker, high_watermark, &*self.local.brokers, planted);
        if let Some(change) = caught_up.into_iter().find_map(&mut join) {
            effects.push(Effect::ProposeIsr(change));
            effects.extend(self.advance());
        }
        effects
    }

    /// Reports the answer to an ISR change ([`Effect::ProposeIsr`]).
    pub fn isr_answered(&mut self, change: &IsrChange, answer: IsrAnswer) -> Vec<Effect> {
        let planted = self.planted;
        let Role::Leader(leader) = &mut self.role else {
            return Vec::new();
        };
        let again = leader.isr_answered(change, answer, planted);
        let mut effects: Vec<_> = again.into_iter().map(Effect::ProposeIsr).collect();
        effects.extend(self.advance());
        effects
    }

    /// The ISR change that is on its way, if any.
    pub fn pending_isr_change(&self) -> Option<&IsrChange> {
        self.reign().and_then(Leader::pending_change)
    }

    /// Reports that the checkpoints that [`Effect::Checkpoint`] asks for are durable.
    pub fn checkpointed(&mut self) {
        self.checkpoint_due = false;
    }

    /// Switches a mistake on.
    #[cfg(any(test, feature = "planted-bugs"))]
    pub fn plant(&mut self, bug: PlantedBug) {
        self.planted.bug = Some(bug);
    }
}
