// SPDX-License-Identifier: Apache-2.0
//! Waits until what a coordinator wrote to its journal is on all replicas in sync, and tells it so, in the order in which
//! it wrote. It must not know what was written.
use std::sync::Arc;

use odradek_groups::{AppendError, AppendToken};
use odradek_partition::{Appended, ProduceOutcome};
use tokio::sync::oneshot;

use super::{Coordinator, Coordinators, State};

/// An append whose coordinator has not been told of its outcome.
#[derive(Debug)]
pub(super) struct Uncommitted {
    token: AppendToken,
    outcome: Outcome,
}

#[derive(Debug)]
enum Outcome {
    /// It waits for its turn.
    Known(Result<(), AppendError>),
    /// Not all replicas have it yet.
    Awaited(oneshot::Receiver<ProduceOutcome>),
}

impl Coordinators {
    /// The outcome of an append, if it is known and the coordinator's turn; else it is told later.
    pub(super) fn committed(
        self: &Arc<Self>,
        coordinator: &Arc<Coordinator>,
        state: &mut State,
        token: AppendToken,
        appended: Result<Appended, AppendError>,
    ) -> Option<Result<(), AppendError>> {
        let outcome = match appended.map(|appended| coordinator.replica.when_committed(appended.required_offset)) {
            Ok(Some(Ok(outcome))) => Outcome::Known(journalled(outcome)),
            Ok(Some(Err(receiver))) => Outcome::Awaited(receiver),
            // Too many wait for the partition.
            Ok(None) => Outcome::Known(Err(AppendError::TimedOut)),
            Err(error) => Outcome::Known(Err(error)),
        };
        match outcome {
            Outcome::Known(outcome) if !state.awaits_commits => Some(outcome),
            outcome => {
                state.uncommitted.push_back(Uncommitted { token, outcome });
                if !state.awaits_commits {
                    state.awaits_commits = true;
                    self.runtime.spawn(Arc::clone(self).await_commits(Arc::clone(coordinator)));
                }
                None
            }
        }
    }

    async fn await_commits(self: Arc<Self>, coordinator: Arc<Coordinator>) {
        loop {
            let next = {
                let mut state = coordinator.lock();
                let next = state.uncommitted.pop_front();
                state.awaits_commits = next.is_some();
                next
            };
            let Some(Uncommitted { token, outcome }) = next else { return };
            let outcome = match outcome {
                Outcome::Known(outcome) => outcome,
                // The partition goes away with those who wait for it.
                Outcome::Awaited(receiver) => receiver.await.map_or(Err(AppendError::NotLeader), journalled),
            };
            let mut state = coordinator.lock();
            let effects = state.machine.appended(token, outcome, self.clock.now_ms());
            self.carry_out(&coordinator, &mut state, effects);
        }
    }
}

/// What a coordinator makes of the end of a wait.
fn journalled(outcome: ProduceOutcome) -> Result<(), AppendError> {
    match outcome {
        // In the latter case too it is committed; what comes next is refused.
        ProduceOutcome::Committed | ProduceOutcome::NotEnoughReplicasAfterAppend => Ok(()),
        ProduceOutcome::NotLeader => Err(AppendError::NotLeader),
        ProduceOutcome::StorageFailed => Err(AppendError::Storage),
    }
}
