// SPDX-License-Identifier: Apache-2.0
//! The groups as tools see them: ListGroups and DescribeGroups (`listGroups` and `describeGroups` in Kafka's
//! `GroupMetadataManager`). Changes nothing.

use std::sync::Arc;

use bytes::Bytes;

use super::{GroupCoordinator, Phase};
use crate::GroupError;
use crate::group::{Group, GroupState, Member};

/// A group as listings show it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GroupSummary {
    /// Its id.
    pub group_id: Arc<str>,
    /// Its state.
    pub state: GroupState,
    /// Empty for a group that only keeps offsets.
    pub protocol_type: Arc<str>,
    /// Its generation.
    pub generation: i32,
    /// Ids of its members.
    pub members: Vec<Arc<str>>,
}

/// A group with its members.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GroupDescription {
    /// Its state.
    pub state: GroupState,
    /// Empty for a group that only keeps offsets.
    pub protocol_type: Arc<str>,
    /// The protocol that the members use; empty unless the group is stable.
    pub protocol: Arc<str>,
    /// In the order of their ids.
    pub members: Vec<MemberDescription>,
}

/// One member.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MemberDescription {
    /// Its id.
    pub member_id: Arc<str>,
    /// Of a static member (KIP-345).
    pub group_instance_id: Option<Arc<str>>,
    /// The client's name for itself.
    pub client_id: Arc<str>,
    /// Where it connects from.
    pub client_host: Arc<str>,
    /// What it says under the group's protocol; empty unless the group is stable.
    pub metadata: Bytes,
    /// What the leader gave to it last.
    pub assignment: Bytes,
}

impl GroupCoordinator {
    /// Whether the groups are known here.
    ///
    /// # Errors
    /// Why not: still loading, or no longer the coordinator.
    pub fn check_serving(&self) -> Result<(), GroupError> {
        match self.phase {
            Phase::Active => Ok(()),
            Phase::Loading => Err(GroupError::CoordinatorLoadInProgress),
            Phase::Unloaded => Err(GroupError::NotCoordinator),
        }
    }

    /// The groups in the order of their ids.
    pub fn groups(&self) -> impl Iterator<Item = GroupSummary> {
        self.groups.values().map(|group| GroupSummary {
            group_id: Arc::clone(&group.id),
            state: group.state,
            protocol_type: protocol_type(group),
            generation: group.generation,
            members: group.members.keys().cloned().collect(),
        })
    }

    /// One group.
    ///
    /// # Errors
    /// [`GroupError::GroupIdNotFound`], or as [`Self::check_serving`].
    pub fn describe(&self, group_id: &str) -> Result<GroupDescription, GroupError> {
        self.check_serving()?;
        let group = self.groups.get(group_id).ok_or(GroupError::GroupIdNotFound)?;
        // Between generations there is no protocol that the members agree on.
        let protocol = group.protocol.clone().filter(|_| group.state == GroupState::Stable);
        let member = |member: &Member| MemberDescription {
            member_id: Arc::clone(&member.id),
            group_instance_id: member.instance.clone(),
            client_id: Arc::clone(&member.client_id),
            client_host: Arc::clone(&member.client_host),
            metadata: protocol.as_deref().map_or_else(Bytes::new, |name| member.metadata(Some(name))),
            assignment: member.assignment.clone(),
        };
        Ok(GroupDescription {
            state: group.state,
            protocol_type: protocol_type(group),
            members: group.members.values().map(member).collect(),
            protocol: protocol.unwrap_or_else(|| Arc::from("")),
        })
    }
}

fn protocol_type(group: &Group) -> Arc<str> {
    group.protocol_type.clone().unwrap_or_else(|| Arc::from(""))
}
