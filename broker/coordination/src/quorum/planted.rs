// SPDX-License-Identifier: Apache-2.0
//! Mistakes that tests can switch on, to show that they would be found. Without the feature `planted-bugs` the switch
//! is not there.

/// A mistake. The first eight are those of the protocol's own list; the one about compare-and-set is the Lease's, so
/// the simulation has it in its own.
#[cfg(feature = "planted-bugs")]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PlantedBug {
    /// One promise is enough with three voters and more.
    PromiseQuorumOfOne,
    /// A broker that is no voter takes the Lease.
    NonVoterTakes,
    /// The candidate leads without catching up.
    NoCatchUp,
    /// A pending voter set has no say in commits.
    CommitWithoutPendingSet,
    /// Voters are changed without the check of rule 6.
    ChangeWithoutCheck,
    /// A pending change is forgotten after a view of the same sequence.
    PendingForgottenAfterRead,
    /// Records of older epochs are counted.
    OlderEpochsCounted,
    /// A position is acknowledged though it does not match the controller's log.
    UnmatchedAcknowledged,
    /// A follower takes for committed what the controller has committed, though their logs were not matched.
    CommittedWithoutMatch,
    /// Recovery goes on before every member has answered (rule 10).
    RecoveryWithoutAll,
}

#[cfg(not(feature = "planted-bugs"))]
pub(super) use absent::PlantedBug;

#[cfg(not(feature = "planted-bugs"))]
mod absent {
    //! The same names, never switched on.
    #[derive(Clone, Copy)]
    pub(in super::super) enum PlantedBug {
        PromiseQuorumOfOne,
        NonVoterTakes,
        NoCatchUp,
        CommitWithoutPendingSet,
        ChangeWithoutCheck,
        PendingForgottenAfterRead,
        OlderEpochsCounted,
        UnmatchedAcknowledged,
        CommittedWithoutMatch,
        RecoveryWithoutAll,
    }
}

/// The switch.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Planted {
    #[cfg(feature = "planted-bugs")]
    pub(super) bug: Option<PlantedBug>,
}

impl Planted {
    #[cfg(feature = "planted-bugs")]
    pub(super) fn has(self, bug: PlantedBug) -> bool {
        self.bug == Some(bug)
    }

    #[cfg(not(feature = "planted-bugs"))]
    #[allow(clippy::unused_self)]
    pub(super) fn has(self, _: PlantedBug) -> bool {
        false
    }
}
