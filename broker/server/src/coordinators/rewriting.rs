// SPDX-License-Identifier: Apache-2.0
//! Keeps a journal small: the live state is written anew at its head, and once that is on the disk everything before
//! it goes. Requests that would append are held back while the journal is at its bound
//! ([`must_hold_back`](odradek_groups::must_hold_back)), and answered "not available" if that takes too long.
use std::sync::Arc;
use std::time::Duration;

use odradek_groups::{Effect, GroupError, JournalRecord, Request, RequestToken, must_hold_back, should_rewrite};
use odradek_model::{Offset, Timestamp};

use super::{Coordinator, Coordinators, State};

/// Records of a rewrite go into batches of this size: far below any segment's, and one is read in one go.
const REWRITE_BATCH_BYTES: usize = 256 * 1024;

/// A sync of the journal may be under way when a rewrite ends, and reaches less far: the cut is tried again after a
/// pause that doubles up to the longest. It ends by itself: a sync succeeds, or fails and closes the partition.
const CUT_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_CUT_PAUSE: Duration = Duration::from_millis(200);

/// How often it is looked at how long requests have been held back: a tenth of the default of
/// `offsets.commit.timeout.ms`, after which they are answered "not available".
const HOLD_LOOK: Duration = Duration::from_millis(500);

/// A request that waits for the journal to be cut.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) token: RequestToken,
    pub(super) request: Request,
    since: Timestamp,
}

/// What became of an attempt to cut.
enum Cut {
    Done,
    /// The rewrite is not yet on the disk, or not on all replicas.
    Again,
}

impl Coordinators {
    /// Begins a rewrite if the journal has grown enough.
    pub(super) fn rewrite_if_due(self: &Arc<Self>, coordinator: &Arc<Coordinator>, state: &mut State) {
        let replica = &coordinator.replica;
        let segment_bytes = u64::from(replica.settings().segment_bytes);
        if state.rewriting || !should_rewrite(replica.size_bytes(), state.machine.live_bytes(), segment_bytes) {
            return;
        }
        let Some(Effect::Append { token, records }) = state.machine.rewrite() else {
            return;
        };
        let mut outcome = None;
        let mut first = None;
        let mut rest = records.as_slice();
        while !rest.is_empty() && !matches!(outcome, Some(Err(_))) {
            let mut bytes = 0;
            let fits = |record: &&JournalRecord| {
                bytes += record.key.len() + record.value.as_ref().map_or(0, bytes::Bytes::len);
                bytes <= REWRITE_BATCH_BYTES
            };
            let count = rest.iter().take_while(fits).count().max(1);
            let appended = self.append(coordinator, &rest[..count]);
            first = first.or(appended.as_ref().ok().map(|appended| appended.base_offset));
            outcome = Some(appended);
            rest = &rest[count..];
        }
        let is_written = matches!(outcome, Some(Ok(_)));
        // Nothing to write is written.
        let committed = match outcome {
            Some(outcome) => self.committed(coordinator, state, token, outcome),
            None => Some(Ok(())),
        };
        let effects = committed.map(|outcome| state.machine.appended(token, outcome, self.clock.now_ms()));
        let effects = effects.unwrap_or_default();
        let Some(first) = first.filter(|_| is_written) else {
            self.carry_out(coordinator, state, effects);
            return;
        };
        state.rewriting = true;
        self.carry_out(coordinator, state, effects);
        let end = replica.log_end();
        let (this, coordinator) = (Arc::clone(self), Arc::clone(coordinator));
        self.runtime.spawn(async move { this.finish_rewrite(&coordinator, first, end).await });
    }

    /// Cuts the journal once its rewrite is on the disk, then lets those go on who were held back.
    async fn finish_rewrite(self: Arc<Self>, coordinator: &Arc<Coordinator>, first: Offset, end: Offset) {
        let attempt = || {
            let tried = Arc::clone(coordinator);
            self.runtime.spawn_blocking(move || tried.cut(first, end))
        };
        let mut cutting = attempt();
        let mut pause = CUT_PAUSE;
        loop {
            tokio::select! {
                outcome = &mut cutting => match outcome {
                    Ok(Cut::Again) => {
                        tokio::time::sleep(pause).await;
                        pause = (pause * 2).min(LONGEST_CUT_PAUSE);
                        cutting = attempt();
                    }
                    Ok(Cut::Done) | Err(_) => break,
                },
                () = tokio::time::sleep(HOLD_LOOK) => {}
            }
            self.expire_held(coordinator);
        }
        let mut state = coordinator.lock();
        state.rewriting = false;
        while !is_at_bound(coordinator, &state) {
            let Some(Held { token, request, .. }) = state.held.pop_front() else { break };
            if !state.is_awaited(token) {
                continue;
            }
            let effects = state.machine.handle(token, request, self.clock.now_ms());
            self.carry_out(coordinator, &mut state, effects);
        }
    }

    /// Takes the request in if it has to wait for the journal to be cut; else gives it back.
    pub(super) fn hold_back(
        &self,
        coordinator: &Coordinator,
        state: &mut State,
        token: RequestToken,
        request: Request,
    ) -> Option<Request> {
        if !request.may_append() || (state.held.is_empty() && !is_at_bound(coordinator, state)) {
            return Some(request);
        }
        // Bounded by the requests of open connections, whose bytes are charged until they are answered: those of closed
        // ones go each time the queue has doubled.
        if state.held.len() >= 64 && state.held.len().is_power_of_two() {
            let waiting = std::mem::take(&mut state.held);
            state.held = waiting.into_iter().filter(|held| state.is_awaited(held.token)).collect();
        }
        state.held.push_back(Held { token, request, since: self.clock.now_ms() });
        None
    }

    /// Answers those who have been held back for too long.
    fn expire_held(self: &Arc<Self>, coordinator: &Arc<Coordinator>) {
        let mut state = coordinator.lock();
        let due = self.clock.now_ms().saturating_sub(self.settings.offsets_commit_timeout_ms);
        let mut refused = 0;
        while state.held.front().is_some_and(|held| held.since <= due) {
            let Some(Held { token, request, .. }) = state.held.pop_front() else { break };
            let response = request.refused(GroupError::CoordinatorNotAvailable);
            self.carry_out(coordinator, &mut state, vec![Effect::Reply { token, response }]);
            refused += 1;
        }
        if refused > 0 {
            let partition = coordinator.replica.index;
            tracing::warn!(partition, refused, "the journal of groups is at its bound and the disk is slow");
        }
    }
}

/// Whether what is appended now would take the journal beyond its bound.
fn is_at_bound(coordinator: &Coordinator, state: &State) -> bool {
    let replica = &coordinator.replica;
    let segment_bytes = u64::from(replica.settings().segment_bytes);
    state.rewriting && must_hold_back(replica.size_bytes(), state.machine.live_bytes(), segment_bytes)
}

impl Coordinator {
    /// Removes what lies before a rewrite that begins at `first`, once all of it (up to `end`) is on the disk here and on
    /// all replicas in sync. Blocks.
    fn cut(&self, first: Offset, end: Offset) -> Cut {
        let flushed = self.replica.flush();
        let (high_watermark, recovery_point, _) = self.replica.checkpoints();
        if recovery_point < end || high_watermark < end {
            if self.replica.view(None).is_err() {
                // The partition is closed or led elsewhere: there is nothing to keep small any more.
                return Cut::Done;
            }
            tracing::debug!(partition = self.replica.index, flushed, "a rewritten journal is not synced yet");
            return Cut::Again;
        }
        if let Err(error) = self.replica.advance_log_start(first) {
            tracing::warn!(partition = self.replica.index, %error, "the journal of groups is not cut");
        }
        Cut::Done
    }
}

impl State {
    /// Whether somebody still listens for the answer; forgets the request if not.
    fn is_awaited(&mut self, token: RequestToken) -> bool {
        let awaited = self.waiting.get(&token).is_some_and(|sender| !sender.is_closed());
        if !awaited {
            self.waiting.remove(&token);
        }
        awaited
    }
}
