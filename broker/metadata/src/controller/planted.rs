// SPDX-License-Identifier: Apache-2.0
//! Mistakes that tests switch on, to see that they would be found. Only test builds can make them: this crate's own
//! tests, or those with the feature `planted-bugs` (the simulation).

use super::ControllerSettings;

/// A mistake in a decision. In a product build none can be switched on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PlantedBug {
    /// A broker that comes back without stop proof stays in the ELR.
    ElrKeepsUnprovenReplicas,
    /// Every registration counts as proven.
    StopProofNotChecked,
    /// The ELR stays when the ISR has reached min ISR again.
    ElrKeptAtMinInSync,
    /// An ISR change is taken from an older partition epoch.
    PartitionEpochNotChecked,
    /// An ISR change may name fenced brokers and earlier registrations.
    IneligibleReplicasAccepted,
    /// A replica outside ISR and ELR leads although nobody allowed it.
    UncleanElectionWithoutPermission,
    /// A sole replica leads although its log is lost.
    LostLogElected,
    /// A new leader has the old leader's epoch if it was elected from the ELR.
    LeaderEpochNotRaised,
    /// A reassignment is complete before its new replicas are in sync.
    ReassignmentCompletedEarly,
}

impl PlantedBug {
    /// All, for the tests that look for each.
    pub const ALL: [Self; 9] = [
        Self::ElrKeepsUnprovenReplicas,
        Self::StopProofNotChecked,
        Self::ElrKeptAtMinInSync,
        Self::PartitionEpochNotChecked,
        Self::IneligibleReplicasAccepted,
        Self::UncleanElectionWithoutPermission,
        Self::LostLogElected,
        Self::LeaderEpochNotRaised,
        Self::ReassignmentCompletedEarly,
    ];
}

impl ControllerSettings {
    /// Whether the mistake is switched on.
    #[cfg(any(test, feature = "planted-bugs"))]
    pub(super) fn has(&self, bug: PlantedBug) -> bool {
        self.planted == Some(bug)
    }

    /// Never in a product build.
    #[cfg(not(any(test, feature = "planted-bugs")))]
    #[expect(clippy::unused_self, reason = "the same call in test builds")]
    pub(super) const fn has(&self, _bug: PlantedBug) -> bool {
        false
    }
}
