// SPDX-License-Identifier: Apache-2.0
//! Heartbeat, LeaveGroup and the end of sessions (rule 40).

use std::sync::Arc;

use tracing::info;

use super::GroupCoordinator;
use crate::GroupError;
use crate::group::{Group, GroupState};
use crate::messages::{Heartbeat, LeaveGroup, LeaveGroupResponse, MemberIdentity, RequestToken, Response};
use crate::timers::Timer;

impl GroupCoordinator {
    pub(super) fn heartbeat(&mut self, token: RequestToken, request: &Heartbeat) {
        let error = if request.group_id.is_empty() {
            Some(GroupError::InvalidGroupId)
        } else {
            self.with_group(&request.group_id, |this, group| this.beat(group, request))
                .unwrap_or(Some(GroupError::UnknownMemberId))
        };
        self.reply(token, Response::Heartbeat(error));
    }

    fn beat(&mut self, group: &mut Group, request: &Heartbeat) -> Option<GroupError> {
        if let Err(error) = group.check_member(&request.member_id, request.group_instance_id.as_deref()) {
            return Some(error);
        }
        if request.generation_id != group.generation {
            return Some(GroupError::IllegalGeneration);
        }
        match group.state {
            GroupState::Empty => Some(GroupError::UnknownMemberId),
            GroupState::PreparingRebalance => {
                self.renew_session(group, &request.member_id);
                Some(GroupError::RebalanceInProgress)
            }
            GroupState::CompletingRebalance | GroupState::Stable => {
                self.renew_session(group, &request.member_id);
                None
            }
        }
    }

    pub(super) fn leave(&mut self, token: RequestToken, request: LeaveGroup) {
        if request.group_id.is_empty() {
            let error = Some(GroupError::InvalidGroupId);
            return self.reply(token, Response::Leave(LeaveGroupResponse { error, members: Vec::new() }));
        }
        let first_append = self.next_append;
        let LeaveGroup { group_id, members } = request;
        let outcomes = self.with_group(&group_id, |this, group| {
            let outcomes: Vec<_> = members.iter().map(|member| this.leave_one(group, member)).collect();
            if outcomes.contains(&None) {
                match group.state {
                    GroupState::Stable | GroupState::CompletingRebalance => this.prepare_rebalance(group),
                    GroupState::PreparingRebalance => this.complete_if_all_joined(group),
                    GroupState::Empty => {}
                }
            }
            outcomes
        });
        let outcomes = outcomes.unwrap_or_else(|| vec![Some(GroupError::UnknownMemberId); members.len()]);
        let response = LeaveGroupResponse { error: None, members: members.into_iter().zip(outcomes).collect() };
        self.reply_after(first_append, token, Response::Leave(response));
    }

    fn leave_one(&mut self, group: &mut Group, member: &MemberIdentity) -> Option<GroupError> {
        let id = if member.member_id.is_empty() {
            // An administrator removes a static member by its instance id alone.
            let instance = member.group_instance_id.as_ref();
            match instance.and_then(|instance| group.static_members.get(instance)).cloned() {
                Some(id) => id,
                None => return Some(GroupError::UnknownMemberId),
            }
        } else if group.pending_join.contains(&member.member_id) {
            group.remove(&member.member_id);
            self.end_session(group, &member.member_id);
            return None;
        } else if let Err(error) = group.check_member(&member.member_id, member.group_instance_id.as_deref()) {
            return Some(error);
        } else {
            Arc::clone(&member.member_id)
        };
        info!(group = %group.id, member = %id, "leaves");
        if let Some(removed) = group.remove(&id) {
            self.answer_removed(group, &removed);
        }
        None
    }

    /// The session of a member, or of one that was told its id, is over.
    pub(super) fn session_timer(&mut self, group_id: &Arc<str>, member_id: &Arc<str>) {
        self.with_group(group_id, |this, group| {
            if group.pending_join.contains(member_id) {
                group.remove(member_id);
                if group.state == GroupState::PreparingRebalance && group.all_joined() {
                    this.complete_join(group);
                }
                return;
            }
            let Some(member) = group.members.get(member_id) else { return };
            if member.is_parked() {
                return;
            }
            info!(group = %group.id, member = %member_id, "session over");
            if let Some(removed) = group.remove(member_id) {
                this.answer_removed(group, &removed);
            }
            match group.state {
                GroupState::Stable | GroupState::CompletingRebalance => this.prepare_rebalance(group),
                GroupState::PreparingRebalance if group.all_joined() => this.complete_join(group),
                GroupState::PreparingRebalance | GroupState::Empty => {}
            }
        });
        self.timers.cancel(&Timer::Session(Arc::clone(group_id), Arc::clone(member_id)));
    }
}
