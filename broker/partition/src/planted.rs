// SPDX-License-Identifier: Apache-2.0
//! Mistakes that tests switch on to show that their checks would find them. In product builds nothing can be switched
//! on and every question is answered with no at compile time. Must not hold behaviour.

/// A mistake in the rules of replication.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(not(any(test, feature = "planted-bugs")), expect(unreachable_pub, reason = "exported for tests only"))]
pub enum PlantedBug {
    /// The high watermark waits for the committed ISR only, not for a member that is about to join.
    HighWatermarkFromCommittedIsr,
    /// A member that is about to leave the ISR no longer holds the high watermark back.
    ShrinkBeforeCommit,
    /// A follower's fetch counts whatever leader epoch it names.
    FetchEpochUnchecked,
    /// An answer to an earlier fetch is taken for the answer to the present one.
    LateAnswersTaken,
    /// A new follower cuts its log to its high watermark, as Kafka did before KIP-101.
    TruncateToHighWatermark,
    /// A follower may join the ISR below the offset where the leader's epoch began.
    JoinBelowEpochStart,
    /// Whoever fetches may join the ISR, also an earlier incarnation of the broker (before KIP-903).
    BrokerEpochUnchecked,
    /// The high watermark of a leader follows the slowest replica also down.
    HighWatermarkFalls,
    /// The high watermark moves below `min.insync.replicas` (before KIP-966).
    HighWatermarkMovesUnderMinIsr,
    /// A leader that stays leader in a new epoch keeps what it knew of followers.
    ProgressKeptOverEpochs,
    /// The same metadata once more settles an ISR change that is on its way.
    RepeatedMetadataSettles,
    /// An ISR change whose outcome is unknown is taken for refused.
    UnknownOutcomeReverted,
    /// A single other replica confirms that a leader still leads, however few make a high watermark move.
    OneWitnessIsEnough,
}

/// What is switched on.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Planted {
    #[cfg(any(test, feature = "planted-bugs"))]
    pub(crate) bug: Option<PlantedBug>,
}

impl Planted {
    #[cfg(any(test, feature = "planted-bugs"))]
    pub(crate) fn has(self, bug: PlantedBug) -> bool {
        self.bug == Some(bug)
    }

    #[cfg(not(any(test, feature = "planted-bugs")))]
    #[allow(clippy::unused_self, reason = "the same call as with bugs")]
    pub(crate) const fn has(self, _bug: PlantedBug) -> bool {
        false
    }
}
