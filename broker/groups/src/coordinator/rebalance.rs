// SPDX-License-Identifier: Apache-2.0
//! How a group goes from generation to generation: preparing, completing, assigning (`prepareRebalance`,
//! `completeClassicGroupJoin`, `classicGroupSync` in Kafka's `GroupMetadataManager`).

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use tracing::{debug, info};

use super::journalling::{After, Change};
use super::{GroupCoordinator, join_error, sync_error};
use crate::GroupError;
use crate::group::{Group, GroupState, Member};
use crate::messages::{RequestToken, Response, SyncGroup, SyncGroupResponse};
use crate::records::encode_group_value;
use crate::timers::Timer;

impl GroupCoordinator {
    pub(super) fn rebalance_or_complete(&mut self, group: &mut Group) {
        if group.state == GroupState::PreparingRebalance {
            self.complete_if_all_joined(group);
        } else {
            self.prepare_rebalance(group);
        }
    }

    /// Completes the join phase unless it is the first rebalance, whose wait always runs to its end.
    pub(super) fn complete_if_all_joined(&mut self, group: &mut Group) {
        if group.state == GroupState::PreparingRebalance
            && group.previous_state != GroupState::Empty
            && group.all_joined()
        {
            self.complete_join(group);
        }
    }

    pub(super) fn prepare_rebalance(&mut self, group: &mut Group) {
        if group.state == GroupState::CompletingRebalance {
            self.reset_assignments(group, GroupError::RebalanceInProgress);
        }
        group.pending_sync.clear();
        self.timers.cancel(&Timer::Sync(Arc::clone(&group.id)));
        let initial = group.state == GroupState::Empty;
        group.transition(GroupState::PreparingRebalance, self.now);
        info!(group = %group.id, generation = group.generation, members = group.members.len(), "preparing to rebalance");
        if initial {
            let delay = i64::from(self.settings.initial_rebalance_delay_ms);
            group.initial_wait = Some((delay, (group.rebalance_timeout_ms() - delay).max(0)));
            group.new_member_added = false;
            self.timers.schedule(Timer::Join(Arc::clone(&group.id)), self.now.saturating_add(delay));
        } else if group.all_joined() {
            self.complete_join(group);
        } else {
            self.wait_for_joins(group);
        }
    }

    fn wait_for_joins(&mut self, group: &mut Group) {
        group.initial_wait = None;
        let at = self.now.saturating_add(group.rebalance_timeout_ms());
        self.timers.schedule(Timer::Join(Arc::clone(&group.id)), at);
    }

    pub(super) fn join_timer(&mut self, id: &Arc<str>) {
        self.with_group(id, |this, group| {
            if group.state != GroupState::PreparingRebalance {
                return;
            }
            let initial = this.settings.initial_rebalance_delay_ms;
            match group.initial_wait {
                Some((delay, remaining)) if group.new_member_added && remaining > 0 => {
                    // Somebody came: wait for more, up to the rebalance timeout in all.
                    group.new_member_added = false;
                    let next = i64::from(initial).min(remaining);
                    group.initial_wait = Some((next, (remaining - delay).max(0)));
                    this.timers.schedule(Timer::Join(Arc::clone(&group.id)), this.now.saturating_add(next));
                }
                _ => this.complete_join(group),
            }
        });
    }

    /// Ends the join phase with those that have joined.
    pub(super) fn complete_join(&mut self, group: &mut Group) {
        self.timers.cancel(&Timer::Join(Arc::clone(&group.id)));
        group.initial_wait = None;
        let late: Vec<Arc<str>> = group
            .members
            .values()
            .filter(|member| member.awaiting_join.is_none() && member.instance.is_none())
            .map(|member| Arc::clone(&member.id))
            .collect();
        for id in late {
            debug!(group = %group.id, member = %id, "did not rejoin in time");
            if let Some(member) = group.remove(&id) {
                self.answer_removed(group, &member);
            }
        }
        if !group.elect_joined_leader() && !group.members.is_empty() {
            // Only static members are left and none has joined: their sessions decide.
            return self.wait_for_joins(group);
        }
        group.next_generation(self.now);
        if group.state == GroupState::Empty {
            info!(group = %group.id, generation = group.generation, "empty");
            let value = encode_group_value(&group.to_value(|_| Bytes::new()));
            self.append(vec![Change::Group { group: Arc::clone(&group.id), value: Some(value) }], After::Nothing);
            return;
        }
        info!(group = %group.id, generation = group.generation, members = group.members.len(), "generation begins");
        let ids: Vec<Arc<str>> = group.members.keys().cloned().collect();
        for id in ids {
            let response = group.join_response(&id);
            let Some(member) = group.members.get_mut(&id) else { continue };
            member.is_new = false;
            let parked = member.awaiting_join.take();
            group.pending_sync.insert(Arc::clone(&id));
            self.renew_session(group, &id);
            if let Some(token) = parked {
                self.reply(token, Response::Join(response));
            }
        }
        group.sync_generation = group.generation;
        let at = self.now.saturating_add(group.rebalance_timeout_ms());
        self.timers.schedule(Timer::Sync(Arc::clone(&group.id)), at);
    }

    /// A member is out of the group: its session ends and nothing of it stays parked.
    pub(super) fn answer_removed(&mut self, group: &Group, member: &Member) {
        self.end_session(group, &member.id);
        if let Some(token) = member.awaiting_join {
            self.reply(token, Response::Join(join_error(GroupError::UnknownMemberId, &Arc::from(""))));
        }
        if let Some(token) = member.awaiting_sync {
            self.reply(token, Response::Sync(sync_error(GroupError::UnknownMemberId)));
        }
    }

    pub(super) fn sync(&mut self, token: RequestToken, request: SyncGroup) {
        let refuse = |this: &mut Self, error| this.reply(token, Response::Sync(sync_error(error)));
        if request.group_id.is_empty() {
            return refuse(self, GroupError::InvalidGroupId);
        }
        let id = Arc::clone(&request.group_id);
        let found = self.with_group(&id, |this, group| {
            let error = check_sync(group, &request)
                .err()
                .or_else(|| (group.state == GroupState::PreparingRebalance).then_some(GroupError::RebalanceInProgress));
            match error {
                Some(error) => refuse(this, error),
                None => this.sync_group(token, request, group),
            }
        });
        if found.is_none() {
            refuse(self, GroupError::UnknownMemberId);
        }
    }

    fn sync_group(&mut self, token: RequestToken, request: SyncGroup, group: &mut Group) {
        let id = request.member_id;
        group.pending_sync.remove(&id);
        if group.pending_sync.is_empty() {
            self.timers.cancel(&Timer::Sync(Arc::clone(&group.id)));
        }
        let Some(member) = group.members.get_mut(&id) else { return };
        if group.state == GroupState::Stable {
            let response = SyncGroupResponse {
                error: None,
                protocol_type: group.protocol_type.clone(),
                protocol_name: group.protocol.clone(),
                assignment: member.assignment.clone(),
            };
            return self.reply(token, Response::Sync(response));
        }
        if let Some(old) = member.awaiting_sync.replace(token) {
            self.reply(old, Response::Sync(sync_error(GroupError::RebalanceInProgress)));
        }
        if group.is_leader(&id) {
            let given: BTreeMap<&Arc<str>, &Bytes> = request.assignments.iter().map(|(id, a)| (id, a)).collect();
            let value = group.to_value(|member| given.get(&member.id).copied().cloned().unwrap_or_default());
            let record = Change::Group { group: Arc::clone(&group.id), value: Some(encode_group_value(&value)) };
            let after = After::Assignment {
                group: Arc::clone(&group.id),
                generation: group.generation,
                assignments: request.assignments,
            };
            self.append(vec![record], after);
        }
    }

    /// The leader's assignments are stored, or refused.
    pub(super) fn assigned(
        &mut self,
        group: &mut Group,
        generation: i32,
        assignments: &[(Arc<str>, Bytes)],
        error: Option<GroupError>,
    ) {
        if group.state != GroupState::CompletingRebalance || group.generation != generation {
            return;
        }
        if let Some(error) = error {
            self.reset_assignments(group, error);
            return self.prepare_rebalance(group);
        }
        for member in group.members.values_mut() {
            member.assignment = Bytes::new();
        }
        for (id, assignment) in assignments {
            if let Some(member) = group.members.get_mut(id) {
                member.assignment = assignment.clone();
            }
        }
        self.answer_syncs(group, None);
        group.transition(GroupState::Stable, self.now);
    }

    fn reset_assignments(&mut self, group: &mut Group, error: GroupError) {
        for member in group.members.values_mut() {
            member.assignment = Bytes::new();
        }
        self.answer_syncs(group, Some(error));
    }

    fn answer_syncs(&mut self, group: &mut Group, error: Option<GroupError>) {
        let ids: Vec<Arc<str>> = group.members.keys().cloned().collect();
        for id in ids {
            let Some(member) = group.members.get_mut(&id) else { continue };
            let Some(token) = member.awaiting_sync.take() else { continue };
            let response = match error {
                Some(error) => sync_error(error),
                None => SyncGroupResponse {
                    error: None,
                    protocol_type: group.protocol_type.clone(),
                    protocol_name: group.protocol.clone(),
                    assignment: member.assignment.clone(),
                },
            };
            self.reply(token, Response::Sync(response));
            // Its session may have ended while it was parked, which was no reason to remove it.
            self.renew_session(group, &id);
        }
    }

    pub(super) fn sync_timer(&mut self, id: &Arc<str>) {
        self.with_group(id, |this, group| {
            let waits = matches!(group.state, GroupState::CompletingRebalance | GroupState::Stable);
            if group.generation != group.sync_generation || !waits || group.pending_sync.is_empty() {
                return;
            }
            for late in std::mem::take(&mut group.pending_sync) {
                debug!(group = %group.id, member = %late, "did not sync in time");
                if let Some(member) = group.remove(&late) {
                    this.answer_removed(group, &member);
                }
            }
            this.prepare_rebalance(group);
        });
    }
}

fn check_sync(group: &Group, request: &SyncGroup) -> Result<(), GroupError> {
    if group.state == GroupState::Empty {
        return Err(GroupError::UnknownMemberId);
    }
    group.check_member(&request.member_id, request.group_instance_id.as_deref())?;
    if request.generation_id != group.generation {
        return Err(GroupError::IllegalGeneration);
    }
    let differs = |given: &Option<Arc<str>>, ours: &Option<Arc<str>>| match (given, ours) {
        (Some(given), Some(ours)) => given != ours,
        _ => false,
    };
    if differs(&request.protocol_type, &group.protocol_type) || differs(&request.protocol_name, &group.protocol) {
        return Err(GroupError::InconsistentGroupProtocol);
    }
    Ok(())
}
