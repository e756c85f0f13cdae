// SPDX-License-Identifier: Apache-2.0
//! What tools ask of all coordinators, or of one: which groups there are and who is in them. Changes nothing.
use odradek_groups::{GroupDescription, GroupError, GroupSummary};

use super::Coordinators;

impl Coordinators {
    /// The groups that this broker coordinates, by partition of the offsets topic and id.
    ///
    /// # Errors
    /// That some are still being loaded. Those that another broker has taken over are left out.
    pub(crate) fn list(&self) -> Result<Vec<GroupSummary>, GroupError> {
        let mut groups = Vec::new();
        for coordinator in self.all() {
            let state = coordinator.lock();
            match state.machine.check_serving() {
                Ok(()) => groups.extend(state.machine.groups()),
                Err(GroupError::NotCoordinator) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(groups)
    }

    /// One group.
    ///
    /// # Errors
    /// As `GroupCoordinator::describe`; [`GroupError::NotCoordinator`] if this broker does not coordinate it.
    pub(crate) fn describe(&self, group_id: &str) -> Result<GroupDescription, GroupError> {
        let coordinator = self.coordinator_of(group_id).ok_or(GroupError::NotCoordinator)?;
        coordinator.lock().machine.describe(group_id)
    }
}
