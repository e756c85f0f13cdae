// SPDX-License-Identifier: Apache-2.0
//! Groups move with the leadership of their journal: whoever begins to lead reads it, whoever ends answers all who wait.
//! While a journal is read its groups are "loading". It must not know the metadata.
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use odradek_groups::GroupCoordinator;
use odradek_model::LeaderEpoch;
use odradek_partition::ProduceOutcome;

use super::loading::{self, LoadError};
use super::{Coordinator, Coordinators, State};
use crate::replica::Replica;

/// When journals are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loading {
    /// Before the call returns, where what the journal holds is known to be committed: at start, before anything is
    /// served.
    AtOnce,
    /// Behind the call, except for those that hold nothing: requests are answered meanwhile.
    Behind,
}

impl Coordinators {
    /// Takes over the partitions of the offsets topic as they are led now, by their index: ends the coordinators of
    /// reigns that are over and begins those of new ones. Groups whose journal cannot be read are not served
    /// (NOT_COORDINATOR, as in Kafka) and nothing is written to it, so nothing is lost: repaired, they are back with the
    /// next start. Blocks if asked to load at once.
    pub fn load(self: &Arc<Self>, replicas: &[Option<Arc<Replica>>], when: Loading) {
        let mut started = Vec::new();
        let over: Vec<_> = {
            let mut partitions = self.partitions.write().unwrap_or_else(PoisonError::into_inner);
            let mut before = std::mem::take(&mut *partitions);
            before.resize(before.len().max(replicas.len()), None);
            let mut over = before.split_off(replicas.len());
            for (before, replica) in before.into_iter().zip(replicas) {
                let led = replica.as_ref().and_then(|replica| Some((replica, replica.view(None).ok()?.leader_epoch())));
                let now = match (before, led) {
                    (Some(before), Some((replica, epoch))) if before.is_of(replica, epoch) => Some(before),
                    (before, led) => {
                        over.push(before);
                        let begun = led.map(|(replica, epoch)| self.begin(replica, epoch));
                        started.extend(begun.clone());
                        begun
                    }
                };
                partitions.push(now);
            }
            over
        };
        for coordinator in over.iter().flatten() {
            self.unload_one(coordinator);
        }
        for coordinator in started {
            let (high_watermark, _, log_start) = coordinator.replica.checkpoints();
            let log_end = coordinator.replica.log_end();
            let is_committed = high_watermark >= log_end;
            if is_committed && (when == Loading::AtOnce || log_start == log_end) {
                self.load_one(&coordinator);
            } else {
                self.runtime.spawn(Arc::clone(self).load_behind(coordinator));
            }
        }
    }

    fn begin(&self, replica: &Arc<Replica>, leader_epoch: LeaderEpoch) -> Arc<Coordinator> {
        let state = State {
            machine: GroupCoordinator::new(self.settings.clone()),
            uncommitted: VecDeque::new(),
            awaits_commits: false,
            waiting: HashMap::new(),
            rewriting: false,
            held: VecDeque::new(),
        };
        Arc::new(Coordinator { replica: Arc::clone(replica), leader_epoch, state: Mutex::new(state) })
    }

    /// What the log holds beyond the high watermark may have been answered by the leader before: it is waited for, and
    /// read only then. It is committed unless this reign ends.
    async fn load_behind(self: Arc<Self>, coordinator: Arc<Coordinator>) {
        let replica = &coordinator.replica;
        let outcome = match replica.when_committed(replica.log_end()) {
            Some(Ok(outcome)) => Some(outcome),
            Some(Err(receiver)) => receiver.await.ok(),
            None => None,
        };
        match outcome {
            Some(ProduceOutcome::Committed | ProduceOutcome::NotEnoughReplicasAfterAppend) => {}
            Some(ProduceOutcome::NotLeader | ProduceOutcome::StorageFailed) | None => {
                self.drop_one(&coordinator);
                return;
            }
        }
        let this = Arc::clone(&self);
        let loaded = self.runtime.spawn_blocking(move || this.load_one(&coordinator));
        if let Err(error) = loaded.await {
            tracing::error!(%error, "loading groups");
        }
    }

    /// Reads a journal, then serves its groups. Blocks.
    fn load_one(self: &Arc<Self>, coordinator: &Arc<Coordinator>) {
        let mut machine = GroupCoordinator::new(self.settings.clone());
        let (replica, epoch) = (&coordinator.replica, coordinator.leader_epoch);
        match loading::load(replica, epoch, &mut machine, self.clock.now_ms()) {
            Ok(()) => {}
            Err(LoadError::Leadership(error)) => {
                tracing::debug!(partition = replica.index, %error, "no groups are loaded");
                self.drop_one(coordinator);
                return;
            }
            Err(error) => {
                let partition = replica.index;
                tracing::error!(partition, %error, "the groups of a journal that cannot be read are not served");
                self.drop_one(coordinator);
                return;
            }
        }
        // Under the lock that unloading takes out of: what is over does not begin again.
        let partitions = self.partitions.read().unwrap_or_else(PoisonError::into_inner);
        if !partitions.iter().flatten().any(|present| Arc::ptr_eq(present, coordinator)) {
            return;
        }
        let mut state = coordinator.lock();
        state.machine = machine;
        let effects = state.machine.loaded(self.clock.now_ms());
        drop(partitions);
        self.carry_out(coordinator, &mut state, effects);
    }

    /// Ends a coordinator that cannot serve.
    fn drop_one(self: &Arc<Self>, coordinator: &Arc<Coordinator>) {
        {
            let mut partitions = self.partitions.write().unwrap_or_else(PoisonError::into_inner);
            for partition in &mut *partitions {
                if partition.as_ref().is_some_and(|present| Arc::ptr_eq(present, coordinator)) {
                    *partition = None;
                }
            }
        }
        self.unload_one(coordinator);
    }
}

impl Coordinator {
    fn is_of(&self, replica: &Arc<Replica>, leader_epoch: LeaderEpoch) -> bool {
        Arc::ptr_eq(&self.replica, replica) && self.leader_epoch == leader_epoch
    }
}
