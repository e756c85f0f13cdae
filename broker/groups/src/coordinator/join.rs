// SPDX-License-Identifier: Apache-2.0
//! JoinGroup (rules 38 and 39; `classicGroupJoin` in Kafka's `GroupMetadataManager`).

use std::collections::BTreeSet;
use std::sync::Arc;

use super::journalling::{After, Change, StaticMember};
use super::{GroupCoordinator, join_error};
use crate::GroupError;
use crate::group::{Group, GroupState, Member};
use crate::messages::{JoinGroup, RequestToken, Response};
use crate::records::{MAX_KEY_TEXT, encode_group_value};

/// A member's own texts may not be longer: the record keeps them with an int16 length, and a new id has 37 more bytes.
const MAX_TEXT: usize = MAX_KEY_TEXT - 128;

impl GroupCoordinator {
    pub(super) fn join(&mut self, token: RequestToken, mut request: JoinGroup) {
        let session = self.settings.min_session_timeout_ms..=self.settings.max_session_timeout_ms;
        if request.group_id.is_empty() || request.group_id.len() > MAX_KEY_TEXT {
            return self.refuse_join(token, GroupError::InvalidGroupId, &request.member_id);
        }
        if !session.contains(&request.session_timeout_ms) {
            return self.refuse_join(token, GroupError::InvalidSessionTimeout, &request.member_id);
        }
        if !texts(&request).all(|text| text.len() <= MAX_TEXT) {
            return self.refuse_join(token, GroupError::UnknownServerError, &request.member_id);
        }
        let mut names = BTreeSet::new();
        request.protocols.retain(|protocol| names.insert(Arc::clone(&protocol.name)));
        let id = Arc::clone(&request.group_id);
        let is_new_group = !self.groups.contains_key(&id);
        if is_new_group {
            if !request.member_id.is_empty() {
                return self.refuse_join(token, GroupError::UnknownMemberId, &request.member_id);
            }
            self.groups.insert(Arc::clone(&id), Box::new(Group::new(Arc::clone(&id), self.now)));
        }
        let first_append = self.next_append;
        self.with_group(&id, |this, group| this.join_group(token, request, group));
        if is_new_group && self.next_append == first_append {
            self.store_new_group(&id);
        }
    }

    /// A new group that somebody is in gets its first record.
    fn store_new_group(&mut self, id: &Arc<str>) {
        let Some(group) = self.groups.get(id) else { return };
        if group.members.is_empty() && group.pending_join.is_empty() {
            self.forget_if_void(id);
            return;
        }
        let empty = Group::new(Arc::clone(id), self.now);
        let value = encode_group_value(&empty.to_value(|member| member.assignment.clone()));
        let change = Change::Group { group: Arc::clone(id), value: Some(value) };
        self.append(vec![change], After::NewGroup(Arc::clone(id)));
    }

    fn refuse_join(&mut self, token: RequestToken, error: GroupError, member_id: &Arc<str>) {
        self.reply(token, Response::Join(join_error(error, member_id)));
    }

    fn join_group(&mut self, token: RequestToken, request: JoinGroup, group: &mut Group) {
        let nobody = Arc::from("");
        if !self.accepts(group, &request.member_id) {
            if let Some(member) = group.remove(&request.member_id) {
                self.answer_removed(group, &member);
            }
            return self.refuse_join(token, GroupError::GroupMaxSizeReached, &nobody);
        }
        if !group.supports(&request.protocol_type, &request.protocols) {
            return self.refuse_join(token, GroupError::InconsistentGroupProtocol, &request.member_id);
        }
        if !request.member_id.is_empty() {
            return self.join_existing(token, request, group);
        }
        let owner = request.group_instance_id.as_ref().unwrap_or(&request.client_id);
        let new_id: Arc<str> = Arc::from(format!("{owner}-{}", request.new_member_suffix));
        if let Some(instance) = &request.group_instance_id {
            match group.static_members.get(instance).cloned() {
                Some(old_id) => self.join_returning_static(token, &request, group, &old_id, &new_id),
                None => self.add_member(token, request, group, &new_id),
            }
        } else if request.requires_known_member_id {
            group.pending_join.insert(Arc::clone(&new_id));
            self.session(group, &new_id, i64::from(request.session_timeout_ms));
            self.refuse_join(token, GroupError::MemberIdRequired, &new_id);
        } else {
            self.add_member(token, request, group, &new_id);
        }
    }

    /// Whether the group has room for the member (KIP-389). In a rebalance those that have joined count, so that the
    /// last to rejoin are left out of a group that is over the limit.
    fn accepts(&self, group: &Group, member_id: &str) -> bool {
        let member = group.members.get(member_id);
        match group.state {
            GroupState::Empty => true,
            GroupState::PreparingRebalance => {
                member.is_some_and(|member| member.awaiting_join.is_some())
                    || group.awaiting_join_count() < self.settings.max_size
            }
            GroupState::CompletingRebalance | GroupState::Stable => {
                member.is_some() || group.members.len() < self.settings.max_size
            }
        }
    }

    fn join_existing(&mut self, token: RequestToken, request: JoinGroup, group: &mut Group) {
        let id = Arc::clone(&request.member_id);
        if group.pending_join.contains(&id) {
            if request.group_instance_id.is_some() {
                // A pending member is never static: its id was not given to this one.
                return self.refuse_join(token, GroupError::UnknownMemberId, &id);
            }
            return self.add_member(token, request, group, &id);
        }
        if let Err(error) = group.check_member(&id, request.group_instance_id.as_deref()) {
            return self.refuse_join(token, error, &id);
        }
        let unchanged = group.members.get(&id).is_some_and(|member| member.protocols == request.protocols);
        let rejoins = match group.state {
            GroupState::PreparingRebalance => true,
            // With the same metadata: the answer to its join may have been lost.
            GroupState::CompletingRebalance => !unchanged,
            // The leader may have reasons of its own, e.g. new partitions.
            GroupState::Stable => group.is_leader(&id) || !unchanged,
            GroupState::Empty => return self.refuse_join(token, GroupError::UnknownMemberId, &id),
        };
        if rejoins {
            self.update_member(token, &request, group, &id);
            return self.rebalance_or_complete(group);
        }
        let mut response = group.join_response(&id);
        if group.state == GroupState::Stable {
            response.members = Vec::new();
        }
        self.reply(token, Response::Join(response));
    }

    /// Puts the join in place of what the member said before, and parks it.
    fn update_member(&mut self, token: RequestToken, request: &JoinGroup, group: &mut Group, id: &Arc<str>) {
        group.update_member(id, &request.protocols, request.rebalance_timeout_ms, request.session_timeout_ms);
        let parked = group.members.get_mut(id).and_then(|member| member.awaiting_join.replace(token));
        if let Some(old) = parked {
            // A request is never left without an answer, even if its client has stopped waiting.
            self.refuse_join(old, GroupError::RebalanceInProgress, id);
        }
    }

    fn add_member(&mut self, token: RequestToken, request: JoinGroup, group: &mut Group, id: &Arc<str>) {
        if group.state == GroupState::PreparingRebalance && group.previous_state == GroupState::Empty {
            group.new_member_added = true;
        }
        if group.members.is_empty() {
            group.protocol_type = Some(Arc::clone(&request.protocol_type));
        }
        group.add(Member {
            id: Arc::clone(id),
            instance: request.group_instance_id,
            client_id: request.client_id,
            client_host: request.client_host,
            rebalance_timeout_ms: request.rebalance_timeout_ms,
            session_timeout_ms: request.session_timeout_ms,
            protocols: request.protocols,
            assignment: bytes::Bytes::new(),
            awaiting_join: Some(token),
            awaiting_sync: None,
            is_new: true,
        });
        // A parked new member cannot heartbeat; it gets a fixed time to be answered.
        self.session(group, id, self.settings.new_member_join_timeout_ms);
        self.rebalance_or_complete(group);
    }

    /// A static member is back without its id (KIP-345): it takes the place of its former self under a new one.
    fn join_returning_static(
        &mut self,
        token: RequestToken,
        request: &JoinGroup,
        group: &mut Group,
        old_id: &Arc<str>,
        new_id: &Arc<str>,
    ) {
        let Some(instance) = request.group_instance_id.clone() else { return };
        let old_leader = group.leader.clone();
        let (join, sync) = group.replace_static(&instance, old_id, new_id);
        if let Some(parked) = join {
            self.refuse_join(parked, GroupError::FencedInstanceId, old_id);
        }
        if let Some(parked) = sync {
            self.reply(parked, Response::Sync(super::sync_error(GroupError::FencedInstanceId)));
        }
        self.end_session(group, old_id);
        let Some(member) = group.members.get(new_id) else { return };
        let old_protocols = member.protocols.clone();
        let (old_rebalance_timeout_ms, old_session_timeout_ms) =
            (member.rebalance_timeout_ms, member.session_timeout_ms);
        let supports_skipping_assignment = request.supports_skipping_assignment;
        self.update_member(token, request, group, new_id);
        self.renew_session(group, new_id);
        match group.state {
            GroupState::Stable if group.select_protocol() == group.protocol => {
                let value = encode_group_value(&group.to_value(|member| member.assignment.clone()));
                let change = StaticMember {
                    group: Arc::clone(&group.id),
                    instance,
                    old_id: Arc::clone(old_id),
                    new_id: Arc::clone(new_id),
                    token,
                    old_protocols,
                    old_rebalance_timeout_ms,
                    old_session_timeout_ms,
                    old_leader,
                    supports_skipping_assignment,
                };
                let record = Change::Group { group: Arc::clone(&group.id), value: Some(value) };
                self.append(vec![record], After::StaticMember(Box::new(change)));
            }
            GroupState::Stable | GroupState::CompletingRebalance => self.prepare_rebalance(group),
            GroupState::PreparingRebalance => self.complete_if_all_joined(group),
            GroupState::Empty => unreachable!("an empty group has no static member to return"),
        }
    }
}

fn texts(request: &JoinGroup) -> impl Iterator<Item = &Arc<str>> {
    [&request.member_id, &request.client_id, &request.client_host, &request.protocol_type, &request.new_member_suffix]
        .into_iter()
        .chain(&request.group_instance_id)
        .chain(request.protocols.iter().map(|protocol| &protocol.name))
}
