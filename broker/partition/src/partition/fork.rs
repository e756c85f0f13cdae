// SPDX-License-Identifier: Apache-2.0
//! Copies of a replica for searches that try what happens next in every order. Tests only.

use std::hash::{Hash, Hasher};

use super::{Partition, Role};
use crate::brokers::LocalBroker;
use crate::follower::{FetchPlan, FollowerStep};
use crate::log_port::ReplicaLog;
use crate::waits::Waits;

impl Partition {
    /// The same replica over a copy of its log, without those who wait.
    pub(crate) fn fork(&self, local: LocalBroker, log: Box<dyn ReplicaLog>) -> Self {
        let role = match &self.role {
            Role::Idle => Role::Idle,
            Role::Leader(leader) => Role::Leader(leader.clone()),
            Role::Follower(follower) => Role::Follower(follower.clone()),
        };
        Self {
            id: self.id.clone(),
            local,
            reader: log.reader(),
            log,
            role,
            waits: Waits::default(),
            closed: self.closed,
            settings: self.settings,
            epochs: self.epochs,
            now: self.now,
            high_watermark: self.high_watermark,
            flush_running: self.flush_running,
            checkpoint_due: self.checkpoint_due,
            next_ask: self.next_ask,
            planted: self.planted,
        }
    }

    /// Whether the answer to this fetch is the one that is waited for.
    pub(crate) fn waits_for(&self, plan: Option<FetchPlan>) -> bool {
        match &self.role {
            Role::Follower(follower) => follower.asked == plan.map(FollowerStep::Fetch),
            Role::Idle | Role::Leader(_) => false,
        }
    }

    /// Everything that decides what the replica does next, but for its log and how many questions it has asked.
    pub(crate) fn fingerprint(&self, hasher: &mut impl Hasher) {
        match &self.role {
            Role::Idle => 0.hash(hasher),
            Role::Leader(leader) => leader.hash(hasher),
            Role::Follower(follower) => (follower.following, follower.phase).hash(hasher),
        }
        (self.epochs, self.now, self.high_watermark, self.checkpoint_due).hash(hasher);
    }
}
