// SPDX-License-Identifier: Apache-2.0
//! The coordinator of all groups whose journal is one partition of `__consumer_offsets`.
//!
//! Decisions are made on the newest state, committed or not; answers that depend on a write are given when it is
//! committed; reads see committed offsets. A refused write is undone alone: members and generations live in memory and
//! reach the journal only as whole generations.

mod commit;
mod describing;
mod expiry;
mod join;
mod journalling;
mod member;
mod rebalance;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

pub use describing::{GroupDescription, GroupSummary, MemberDescription};
use journalling::InFlight;
use odradek_model::Timestamp;
use tracing::debug;

use crate::cell::Cell;
use crate::group::{Group, GroupState};
use crate::messages::{
    AppendToken, Effect, JoinGroupResponse, LeaveGroupResponse, OffsetFetch, OffsetFetchResponse, Request,
    RequestToken, Response, SyncGroupResponse,
};
use crate::records::{CommittedOffset, RecordKey};
use crate::timers::{Timer, Timers};
use crate::{GroupError, GroupSettings};

/// Whether the coordinator serves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    Loading,
    Active,
    Unloaded,
}

/// Offsets of a group by topic and partition.
type TopicCells = BTreeMap<Arc<str>, BTreeMap<i32, Cell<CommittedOffset>>>;

/// State of the groups of one journal partition. See the crate for the order of calls.
#[derive(Debug)]
pub struct GroupCoordinator {
    settings: GroupSettings,
    phase: Phase,
    now: Timestamp,
    /// The machines. A group is here while it has members, a record or an offset.
    groups: BTreeMap<Arc<str>, Box<Group>>,
    /// The journal's record of each group, encoded.
    values: BTreeMap<Arc<str>, Cell<bytes::Bytes>>,
    offsets: BTreeMap<Arc<str>, TopicCells>,
    /// Records of kinds that this program does not know (other group protocols, a newer program), as they were read.
    /// They are written anew with the rest; bounded by the journal that they come from.
    foreign: BTreeMap<bytes::Bytes, bytes::Bytes>,
    /// Bytes of the committed records, with the overhead of a record each.
    live_bytes: u64,
    timers: Timers,
    next_append: AppendToken,
    /// Bounded by the requests the caller lets in: each has at most one append, and timers one per group.
    in_flight: BTreeMap<AppendToken, InFlight>,
    /// Fetches that wait for the appends up to a token (KIP-447).
    waiting_fetches: Vec<(AppendToken, RequestToken, OffsetFetch)>,
    rewriting: Option<AppendToken>,
    /// Keys whose value in a rewrite was refused elsewhere; see [`Self::appended`].
    uncorrected: BTreeSet<RecordKey>,
    effects: Vec<Effect>,
}

impl GroupCoordinator {
    /// An empty coordinator that is loading: requests are answered with "loading" until [`Self::loaded`].
    pub fn new(settings: GroupSettings) -> Self {
        Self {
            settings,
            phase: Phase::Loading,
            now: 0,
            groups: BTreeMap::new(),
            values: BTreeMap::new(),
            offsets: BTreeMap::new(),
            foreign: BTreeMap::new(),
            live_bytes: 0,
            timers: Timers::default(),
            next_append: AppendToken(0),
            in_flight: BTreeMap::new(),
            waiting_fetches: Vec::new(),
            rewriting: None,
            uncorrected: BTreeSet::new(),
            effects: Vec::new(),
        }
    }

    /// Serves a request; its reply may come from a later call.
    pub fn handle(&mut self, token: RequestToken, request: Request, now_ms: Timestamp) -> Vec<Effect> {
        self.now = now_ms;
        let refused = match self.phase {
            Phase::Active => None,
            Phase::Loading => Some(GroupError::CoordinatorLoadInProgress),
            Phase::Unloaded => Some(GroupError::NotCoordinator),
        };
        match (refused, request) {
            // A member that only wants to stay alive must not be disturbed by loading, as in Kafka.
            (Some(GroupError::CoordinatorLoadInProgress), Request::Heartbeat(_)) => {
                self.reply(token, Response::Heartbeat(None));
            }
            (Some(error), request) => self.reply(token, request.refused(error)),
            (None, Request::Join(request)) => self.join(token, request),
            (None, Request::Sync(request)) => self.sync(token, request),
            (None, Request::Heartbeat(request)) => self.heartbeat(token, &request),
            (None, Request::Leave(request)) => self.leave(token, request),
            (None, Request::Commit(request)) => self.commit(token, &request),
            (None, Request::Fetch(request)) => self.fetch(token, request),
        }
        self.take_effects()
    }

    /// When [`Self::tick`] is wanted next, in milliseconds since the epoch.
    pub fn next_deadline(&self) -> Option<Timestamp> {
        self.timers.next()
    }

    /// Does all that is due: sessions, rebalances, expiry of offsets.
    pub fn tick(&mut self, now_ms: Timestamp) -> Vec<Effect> {
        self.now = now_ms;
        if self.phase == Phase::Active {
            while let Some(timer) = self.timers.pop_due(now_ms) {
                match timer {
                    Timer::Join(group) => self.join_timer(&group),
                    Timer::Sync(group) => self.sync_timer(&group),
                    Timer::Session(group, member) => self.session_timer(&group, &member),
                    Timer::Expiry => self.expire_offsets(),
                }
            }
        }
        self.take_effects()
    }

    /// The partition moved away or the broker stops: every waiting request is answered, nothing is served any more.
    pub fn unload(&mut self) -> Vec<Effect> {
        let error = GroupError::NotCoordinator;
        for (_, in_flight) in std::mem::take(&mut self.in_flight) {
            if let Some((token, response)) = in_flight.reply() {
                self.reply(token, failed(response, error));
            }
        }
        for (_, token, _) in std::mem::take(&mut self.waiting_fetches) {
            self.reply(token, Response::Fetch(fetch_error(error)));
        }
        for (_, mut group) in std::mem::take(&mut self.groups) {
            for (token, response) in parked_answers(&mut group, error) {
                self.reply(token, response);
            }
        }
        self.phase = Phase::Unloaded;
        self.timers.clear();
        self.values.clear();
        self.offsets.clear();
        self.foreign.clear();
        self.live_bytes = 0;
        self.rewriting = None;
        self.uncorrected.clear();
        self.take_effects()
    }

    /// Bytes that [`Self::rewrite`] would write, with the overhead of a record each. What is not committed yet does not
    /// count.
    pub fn live_bytes(&self) -> u64 {
        self.live_bytes
    }

    fn reply(&mut self, token: RequestToken, response: Response) {
        self.effects.push(Effect::Reply { token, response });
    }

    fn take_effects(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.effects)
    }

    /// Runs `f` on the group with the rest of the coordinator at hand; `None` if there is no such group.
    fn with_group<R>(&mut self, id: &str, f: impl FnOnce(&mut Self, &mut Group) -> R) -> Option<R> {
        let (key, mut group) = self.groups.remove_entry(id)?;
        let result = f(self, &mut group);
        self.groups.insert(key, group);
        Some(result)
    }

    /// Forgets a group that nothing speaks for: no members, no record, no offsets, neither kept nor on their way.
    fn forget_if_void(&mut self, id: &str) {
        let void = self.groups.get(id).is_some_and(|group| {
            group.state == GroupState::Empty && group.members.is_empty() && group.pending_join.is_empty()
        });
        if void && !self.values.contains_key(id) && !self.offsets.contains_key(id) {
            debug!(group = id, "forgotten");
            self.remove_group(id);
        }
    }

    fn remove_group(&mut self, id: &str) {
        if let Some((key, _)) = self.groups.remove_entry(id) {
            self.timers.cancel(&Timer::Join(Arc::clone(&key)));
            self.timers.cancel(&Timer::Sync(key));
        }
    }

    fn session(&mut self, group: &Group, member_id: &Arc<str>, timeout_ms: i64) {
        let timer = Timer::Session(Arc::clone(&group.id), Arc::clone(member_id));
        self.timers.schedule(timer, self.now.saturating_add(timeout_ms));
    }

    /// Starts the member's session anew.
    fn renew_session(&mut self, group: &Group, member_id: &str) {
        if let Some(member) = group.members.get(member_id) {
            let (id, timeout) = (Arc::clone(&member.id), i64::from(member.session_timeout_ms));
            self.session(group, &id, timeout);
        }
    }

    fn end_session(&mut self, group: &Group, member_id: &str) {
        self.timers.cancel(&Timer::Session(Arc::clone(&group.id), Arc::from(member_id)));
    }
}

/// Answers to all requests parked in a group.
fn parked_answers(group: &mut Group, error: GroupError) -> Vec<(RequestToken, Response)> {
    let mut answers = Vec::new();
    for member in group.members.values_mut() {
        if let Some(token) = member.awaiting_join.take() {
            answers.push((token, Response::Join(join_error(error, &member.id))));
        }
        if let Some(token) = member.awaiting_sync.take() {
            answers.push((token, Response::Sync(sync_error(error))));
        }
    }
    answers
}

fn join_error(error: GroupError, member_id: &Arc<str>) -> JoinGroupResponse {
    JoinGroupResponse {
        error: Some(error),
        generation_id: -1,
        protocol_type: None,
        protocol_name: None,
        leader: Arc::from(""),
        skip_assignment: false,
        member_id: Arc::clone(member_id),
        members: Vec::new(),
    }
}

fn sync_error(error: GroupError) -> SyncGroupResponse {
    SyncGroupResponse { error: Some(error), protocol_type: None, protocol_name: None, assignment: bytes::Bytes::new() }
}

fn fetch_error(error: GroupError) -> OffsetFetchResponse {
    OffsetFetchResponse { error: Some(error), topics: Vec::new() }
}

impl Request {
    /// The answer that refuses the request as a whole.
    pub fn refused(&self, error: GroupError) -> Response {
        match self {
            Self::Join(request) => Response::Join(join_error(error, &request.member_id)),
            Self::Sync(_) => Response::Sync(sync_error(error)),
            Self::Heartbeat(_) => Response::Heartbeat(Some(error)),
            Self::Leave(_) => Response::Leave(LeaveGroupResponse { error: Some(error), members: Vec::new() }),
            Self::Commit(request) => Response::Commit(commit::refused(request, error)),
            Self::Fetch(_) => Response::Fetch(fetch_error(error)),
        }
    }
}

/// A response that was ready when the write below it failed.
fn failed(response: Response, error: GroupError) -> Response {
    match response {
        Response::Join(response) => Response::Join(join_error(error, &response.member_id)),
        Response::Sync(_) => Response::Sync(sync_error(error)),
        Response::Heartbeat(_) => Response::Heartbeat(Some(error)),
        Response::Leave(_) => Response::Leave(LeaveGroupResponse { error: Some(error), members: Vec::new() }),
        Response::Commit(mut response) => {
            for topic in &mut response.topics {
                for partition in &mut topic.partitions {
                    partition.1 = Some(error);
                }
            }
            Response::Commit(response)
        }
        Response::Fetch(_) => Response::Fetch(fetch_error(error)),
    }
}

#[cfg(test)]
mod tests;
