// SPDX-License-Identifier: Apache-2.0
//! One classic group: its members, generation and state (`ClassicGroup` in Kafka). Must not know timers, the journal or
//! the other groups; the coordinator moves it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use odradek_model::Timestamp;

use crate::codec::Reader;
use crate::records::{CommittedOffset, GroupValue, MemberValue};
use crate::{GroupError, JoinGroupResponse, JoinedMember, Protocol, RequestToken};

/// The protocol type whose subscriptions the coordinator can read.
const CONSUMER: &str = "consumer";

/// State of a classic group, by Kafka's names.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum GroupState {
    /// No members. Also before the first and after the last.
    Empty,
    /// Waiting for members to (re)join.
    PreparingRebalance,
    /// Waiting for the leader's assignment.
    CompletingRebalance,
    /// Members have their assignments.
    Stable,
}

impl GroupState {
    /// Kafka's name of the state.
    pub fn name(self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::PreparingRebalance => "PreparingRebalance",
            Self::CompletingRebalance => "CompletingRebalance",
            Self::Stable => "Stable",
        }
    }
}

/// A member of a group.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    pub(crate) id: Arc<str>,
    pub(crate) instance: Option<Arc<str>>,
    pub(crate) client_id: Arc<str>,
    pub(crate) client_host: Arc<str>,
    pub(crate) rebalance_timeout_ms: i32,
    pub(crate) session_timeout_ms: i32,
    /// In the order of preference, no name twice, at least one.
    pub(crate) protocols: Vec<Protocol>,
    pub(crate) assignment: Bytes,
    /// The JoinGroup that waits for the next generation.
    pub(crate) awaiting_join: Option<RequestToken>,
    /// The SyncGroup that waits for the assignment.
    pub(crate) awaiting_sync: Option<RequestToken>,
    /// Has not completed its first join: it does not heartbeat yet.
    pub(crate) is_new: bool,
}

impl Member {
    pub(crate) fn metadata(&self, protocol: Option<&str>) -> Bytes {
        let found = self.protocols.iter().find(|p| Some(p.name.as_ref()) == protocol);
        found.map(|p| p.metadata.clone()).unwrap_or_default()
    }

    /// Whether the end of its session is no reason to remove it: it is parked with us.
    pub(crate) fn is_parked(&self) -> bool {
        !self.is_new && (self.awaiting_join.is_some() || self.awaiting_sync.is_some())
    }
}

/// A group.
#[derive(Clone, Debug)]
pub(crate) struct Group {
    pub(crate) id: Arc<str>,
    pub(crate) state: GroupState,
    pub(crate) previous_state: GroupState,
    /// When the state was entered; `None` if an old record does not say.
    pub(crate) state_timestamp: Option<Timestamp>,
    pub(crate) generation: i32,
    pub(crate) protocol_type: Option<Arc<str>>,
    pub(crate) protocol: Option<Arc<str>>,
    pub(crate) leader: Option<Arc<str>>,
    pub(crate) members: BTreeMap<Arc<str>, Member>,
    /// Instance id to member id.
    pub(crate) static_members: BTreeMap<Arc<str>, Arc<str>>,
    /// Told their id, not joined yet.
    pub(crate) pending_join: BTreeSet<Arc<str>>,
    /// In this generation, not synced yet.
    pub(crate) pending_sync: BTreeSet<Arc<str>>,
    /// How many members speak a protocol.
    supported: BTreeMap<Arc<str>, usize>,
    /// Topics of protocol type `consumer`; `None` if unknown.
    pub(crate) subscribed: Option<BTreeSet<Arc<str>>>,
    /// A member came while the first rebalance waited.
    pub(crate) new_member_added: bool,
    /// Delay and what is left of the first rebalance's wait; `None` when the join timer is a rebalance timeout.
    pub(crate) initial_wait: Option<(i64, i64)>,
    /// The generation that the sync timer is for.
    pub(crate) sync_generation: i32,
}

impl Group {
    pub(crate) fn new(id: Arc<str>, now: Timestamp) -> Self {
        Self {
            id,
            state: GroupState::Empty,
            previous_state: GroupState::Empty,
            state_timestamp: Some(now),
            generation: 0,
            protocol_type: None,
            protocol: None,
            leader: None,
            members: BTreeMap::new(),
            static_members: BTreeMap::new(),
            pending_join: BTreeSet::new(),
            pending_sync: BTreeSet::new(),
            supported: BTreeMap::new(),
            subscribed: None,
            new_member_added: false,
            initial_wait: None,
            sync_generation: 0,
        }
    }

    /// The group that a stored generation makes after a restart.
    pub(crate) fn from_value(id: Arc<str>, value: &GroupValue) -> Self {
        let mut group = Self::new(id, 0);
        group.state_timestamp = (value.state_timestamp != -1).then_some(value.state_timestamp);
        group.generation = value.generation;
        group.protocol_type = (!value.protocol_type.is_empty()).then(|| Arc::clone(&value.protocol_type));
        group.protocol.clone_from(&value.protocol);
        group.leader.clone_from(&value.leader);
        group.state = if value.members.is_empty() { GroupState::Empty } else { GroupState::Stable };
        for member in &value.members {
            let name = value.protocol.clone().unwrap_or_else(|| Arc::from(""));
            let rebalance = member.rebalance_timeout_ms;
            group.add(Member {
                id: Arc::clone(&member.member_id),
                instance: member.group_instance_id.clone(),
                client_id: Arc::clone(&member.client_id),
                client_host: Arc::clone(&member.client_host),
                rebalance_timeout_ms: if rebalance == -1 { member.session_timeout_ms } else { rebalance },
                session_timeout_ms: member.session_timeout_ms,
                protocols: vec![Protocol { name, metadata: member.subscription.clone() }],
                assignment: member.assignment.clone(),
                awaiting_join: None,
                awaiting_sync: None,
                is_new: false,
            });
        }
        group.subscribed = group.compute_subscribed();
        group
    }

    /// The record of this generation, with the given assignments (empty where there is none).
    pub(crate) fn to_value(&self, assignment: impl Fn(&Member) -> Bytes) -> GroupValue {
        let member = |m: &Member| MemberValue {
            member_id: Arc::clone(&m.id),
            group_instance_id: m.instance.clone(),
            client_id: Arc::clone(&m.client_id),
            client_host: Arc::clone(&m.client_host),
            rebalance_timeout_ms: m.rebalance_timeout_ms,
            session_timeout_ms: m.session_timeout_ms,
            subscription: m.metadata(self.protocol.as_deref()),
            assignment: assignment(m),
        };
        GroupValue {
            protocol_type: self.protocol_type.clone().unwrap_or_else(|| Arc::from("")),
            generation: self.generation,
            protocol: self.protocol.clone(),
            leader: self.leader.clone(),
            state_timestamp: self.state_timestamp.unwrap_or(-1),
            members: self.members.values().map(member).collect(),
        }
    }

    pub(crate) fn transition(&mut self, state: GroupState, now: Timestamp) {
        use GroupState::{CompletingRebalance, Empty, PreparingRebalance, Stable};
        let allowed = match state {
            Empty | CompletingRebalance => matches!(self.state, PreparingRebalance),
            PreparingRebalance => matches!(self.state, Stable | CompletingRebalance | Empty),
            Stable => matches!(self.state, CompletingRebalance),
        };
        assert!(allowed, "a group does not go from {} to {}", self.state.name(), state.name());
        self.previous_state = self.state;
        self.state = state;
        self.state_timestamp = Some(now);
    }

    pub(crate) fn is_leader(&self, member_id: &str) -> bool {
        self.leader.as_deref() == Some(member_id)
    }

    /// Adds a member that fits the group.
    pub(crate) fn add(&mut self, member: Member) {
        if let Some(instance) = &member.instance {
            self.static_members.insert(Arc::clone(instance), Arc::clone(&member.id));
        }
        if self.leader.is_none() {
            self.leader = Some(Arc::clone(&member.id));
        }
        self.count_protocols(&member.protocols, true);
        self.pending_join.remove(&member.id);
        self.members.insert(Arc::clone(&member.id), member);
    }

    /// Removes a member or a pending one; another member becomes leader if it led.
    pub(crate) fn remove(&mut self, member_id: &str) -> Option<Member> {
        let removed = self.members.remove(member_id);
        if let Some(member) = &removed {
            self.count_protocols(&member.protocols, false);
            if let Some(instance) = &member.instance
                && self.static_members.get(instance).is_some_and(|id| **id == *member_id)
            {
                self.static_members.remove(instance);
            }
        }
        if self.is_leader(member_id) {
            self.leader = self.members.keys().next().cloned();
        }
        self.pending_join.remove(member_id);
        self.pending_sync.remove(member_id);
        removed
    }

    /// Puts what a join says in place of what the member said before.
    pub(crate) fn update_member(
        &mut self,
        member_id: &str,
        protocols: &[Protocol],
        rebalance_timeout_ms: i32,
        session_timeout_ms: i32,
    ) {
        let Some(member) = self.members.get_mut(member_id) else { return };
        member.rebalance_timeout_ms = rebalance_timeout_ms;
        member.session_timeout_ms = session_timeout_ms;
        let old = std::mem::replace(&mut member.protocols, protocols.to_vec());
        self.count_protocols(&old, false);
        self.count_protocols(protocols, true);
    }

    /// Gives a static member a new id, keeping all else; returns the requests parked under the old one.
    pub(crate) fn replace_static(
        &mut self,
        instance: &Arc<str>,
        old_id: &str,
        new_id: &Arc<str>,
    ) -> (Option<RequestToken>, Option<RequestToken>) {
        let Some(mut member) = self.members.remove(old_id) else { return (None, None) };
        let parked = (member.awaiting_join.take(), member.awaiting_sync.take());
        member.id = Arc::clone(new_id);
        member.is_new = false;
        self.members.insert(Arc::clone(new_id), member);
        if self.is_leader(old_id) {
            self.leader = Some(Arc::clone(new_id));
        }
        self.pending_sync.remove(old_id);
        self.static_members.insert(Arc::clone(instance), Arc::clone(new_id));
        parked
    }

    fn count_protocols(&mut self, protocols: &[Protocol], add: bool) {
        for protocol in protocols {
            let count = self.supported.entry(Arc::clone(&protocol.name)).or_default();
            *count = if add { *count + 1 } else { count.saturating_sub(1) };
            if *count == 0 {
                self.supported.remove(&protocol.name);
            }
        }
    }

    /// Whether a member that speaks these can be part of the group.
    pub(crate) fn supports(&self, protocol_type: &str, protocols: &[Protocol]) -> bool {
        if self.state == GroupState::Empty {
            return !protocol_type.is_empty() && !protocols.is_empty();
        }
        let all = self.members.len();
        self.protocol_type.as_deref() == Some(protocol_type)
            && protocols.iter().any(|p| self.supported.get(&p.name).copied().unwrap_or(0) == all)
    }

    /// The protocol that all speak and most prefer; by name among equals.
    pub(crate) fn select_protocol(&self) -> Option<Arc<str>> {
        let common = |name: &Arc<str>| self.supported.get(name).copied() == Some(self.members.len());
        let mut votes: BTreeMap<&Arc<str>, usize> = BTreeMap::new();
        for member in self.members.values() {
            if let Some(protocol) = member.protocols.iter().find(|p| common(&p.name)) {
                *votes.entry(&protocol.name).or_default() += 1;
            }
        }
        let most = votes.values().copied().max()?;
        votes.into_iter().find(|(_, count)| *count == most).map(|(name, _)| Arc::clone(name))
    }

    pub(crate) fn awaiting_join_count(&self) -> usize {
        self.members.values().filter(|member| member.awaiting_join.is_some()).count()
    }

    pub(crate) fn all_joined(&self) -> bool {
        self.pending_join.is_empty() && self.members.values().all(|member| member.awaiting_join.is_some())
    }

    /// The longest time that any member asks others to wait for it.
    pub(crate) fn rebalance_timeout_ms(&self) -> i64 {
        self.members.values().map(|member| i64::from(member.rebalance_timeout_ms)).max().unwrap_or(0).max(0)
    }

    /// Makes a member that has joined the leader, if the present one has not; false if nobody has.
    pub(crate) fn elect_joined_leader(&mut self) -> bool {
        let Some(leader) = &self.leader else { return false };
        if self.members.get(leader).is_some_and(|member| member.awaiting_join.is_some()) {
            return true;
        }
        let joined = self.members.values().find(|member| member.awaiting_join.is_some());
        match joined.map(|member| Arc::clone(&member.id)) {
            Some(id) => {
                self.leader = Some(id);
                true
            }
            None => false,
        }
    }

    /// Begins the next generation: with members it waits for their assignment, without it is empty.
    pub(crate) fn next_generation(&mut self, now: Timestamp) {
        self.generation = self.generation.checked_add(1).unwrap_or(0);
        self.protocol = if self.members.is_empty() { None } else { self.select_protocol() };
        self.subscribed = self.compute_subscribed();
        let next = if self.members.is_empty() { GroupState::Empty } else { GroupState::CompletingRebalance };
        self.transition(next, now);
        self.pending_sync.clear();
    }

    /// Whether a member may act under its id, and under its instance id if it has one (KIP-345).
    pub(crate) fn check_member(&self, member_id: &str, instance: Option<&str>) -> Result<(), GroupError> {
        if let Some(instance) = instance {
            match self.static_members.get(instance) {
                None => return Err(GroupError::UnknownMemberId),
                Some(id) if **id != *member_id => return Err(GroupError::FencedInstanceId),
                Some(_) => {}
            }
        }
        if self.members.contains_key(member_id) { Ok(()) } else { Err(GroupError::UnknownMemberId) }
    }

    /// The members as the leader learns them.
    pub(crate) fn joined_members(&self) -> Vec<JoinedMember> {
        let joined = |member: &Member| JoinedMember {
            member_id: Arc::clone(&member.id),
            group_instance_id: member.instance.clone(),
            metadata: member.metadata(self.protocol.as_deref()),
        };
        self.members.values().map(joined).collect()
    }

    /// A successful answer to a join of the present generation.
    pub(crate) fn join_response(&self, member_id: &Arc<str>) -> JoinGroupResponse {
        JoinGroupResponse {
            error: None,
            generation_id: self.generation,
            protocol_type: self.protocol_type.clone(),
            protocol_name: self.protocol.clone(),
            leader: self.leader.clone().unwrap_or_else(|| Arc::from("")),
            skip_assignment: false,
            member_id: Arc::clone(member_id),
            members: if self.is_leader(member_id) { self.joined_members() } else { Vec::new() },
        }
    }

    /// Whether the topic's offsets must not expire because members read it.
    pub(crate) fn is_subscribed(&self, topic: &str) -> bool {
        match &self.subscribed {
            Some(topics) => topics.contains(topic),
            None => self.protocol_type.as_deref() == Some(CONSUMER),
        }
    }

    /// From when on the retention of an offset counts; `None` if it cannot expire in this state (rule 42,
    /// `ClassicGroup.offsetExpirationCondition`).
    pub(crate) fn retention_base(&self, offset: &CommittedOffset) -> Option<Timestamp> {
        match &self.protocol_type {
            None => Some(offset.commit_timestamp),
            Some(_) if self.state == GroupState::Empty => Some(self.state_timestamp.unwrap_or(offset.commit_timestamp)),
            Some(kind) if **kind == *CONSUMER && self.subscribed.is_some() && self.state == GroupState::Stable => {
                Some(offset.commit_timestamp)
            }
            Some(_) => None,
        }
    }

    fn compute_subscribed(&self) -> Option<BTreeSet<Arc<str>>> {
        if self.protocol_type.as_deref() != Some(CONSUMER) {
            return None;
        }
        if self.members.is_empty() {
            return Some(BTreeSet::new());
        }
        let protocol = self.protocol.as_deref()?;
        let mut topics = BTreeSet::new();
        for member in self.members.values() {
            topics.extend(subscription_topics(&member.metadata(Some(protocol)))?);
        }
        Some(topics)
    }
}

/// The topics of a `ConsumerProtocolSubscription`: every version begins with version, topics. `None` if it is none.
fn subscription_topics(metadata: &[u8]) -> Option<Vec<Arc<str>>> {
    let mut reader = Reader::new("subscription", metadata);
    if reader.i16().ok()? < 0 {
        return None;
    }
    let count = reader.count(false).ok()?;
    (0..count).map(|_| reader.text(false).ok().map(Arc::from)).collect()
}
