// SPDX-License-Identifier: Apache-2.0
//! What really happened in histories, counted: a fault that never occurs tests nothing.

use std::collections::BTreeMap;
use std::ops::AddAssign;

/// Something worth counting.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Happening {
    /// A process was killed; the machine lived on.
    Kill,
    /// A machine lost power, within the budget.
    PowerLoss,
    /// A machine lost power while no other had all that it had acknowledged.
    PowerLossBeyond,
    /// A process was paused.
    Pause,
    /// A broker stopped as it was asked to.
    CleanStop,
    /// All brokers were stopped cleanly and started, one after another.
    RollingRestart,
    /// A broker joined the running cluster.
    Join,
    /// A broker was emptied, stopped and unregistered.
    Leave,
    /// Links were cut in both directions.
    LinksCut,
    /// Links were cut in one direction.
    LinksCutOneWay,
    /// A message was lost.
    MessageLost,
    /// The Lease API was away.
    LeaseApiAway,
    /// The Lease API was out of one broker's reach.
    LeaseApiCutOff,
    /// A write of the Lease landed, and nobody was told.
    LeaseWriteWithoutAnswer,
    /// The Lease was deleted.
    LeaseDeleted,
    /// The Lease was put back to an earlier state.
    LeaseRolledBack,
    /// A process ended in the middle of a call of its disk.
    CrashInACall,
    /// A disk was full for a while.
    DiskFull,
    /// A command of the administrator was decided.
    AdminCommand,
    /// Replicas of a partition were moved.
    Reassignment,
    /// The settings of a topic changed.
    SettingsAltered,
    /// A machine lost its folder, within the budget.
    FolderEmptied,
    /// A machine lost its folder while no other had all that it had acknowledged.
    FolderEmptiedBeyond,
    /// A log was damaged while its broker was down, within the budget.
    LogDamaged,
    /// A log was damaged while no other replica had all that was acknowledged.
    LogDamagedBeyond,
    /// A start found a log damaged.
    DamageFound,
    /// The Lease API refused most calls for a while.
    LeaseApiThrottled,
    /// A stranger wrote himself into the Lease.
    LeaseStolen,
    /// A follower's fetch was read long after the follower had given it up.
    StaleFetch,
    /// A partition's leader was moved away and back at once.
    LeadersFlipped,
    /// A consumer read from a follower in its rack.
    ReadFromFollower,
    /// Retention let the beginning of a log go.
    LogStartRaised,
    /// A group's offset was committed.
    OffsetCommitted,
    /// A coordinator read a commit that its client had given up.
    LateCommit,
    /// A producer asked for the leader's acknowledgement alone.
    ProduceToLeader,
    /// A producer asked for no acknowledgement.
    ProduceUnanswered,
    /// A partition had no leader at the end, and was to have none.
    LeaderlessAtEnd,
}

impl Happening {
    /// All.
    pub const ALL: [Self; 37] = [
        Self::Kill,
        Self::PowerLoss,
        Self::PowerLossBeyond,
        Self::Pause,
        Self::CleanStop,
        Self::RollingRestart,
        Self::Join,
        Self::Leave,
        Self::LinksCut,
        Self::LinksCutOneWay,
        Self::MessageLost,
        Self::LeaseApiAway,
        Self::LeaseApiCutOff,
        Self::LeaseWriteWithoutAnswer,
        Self::LeaseDeleted,
        Self::LeaseRolledBack,
        Self::CrashInACall,
        Self::DiskFull,
        Self::AdminCommand,
        Self::Reassignment,
        Self::SettingsAltered,
        Self::FolderEmptied,
        Self::FolderEmptiedBeyond,
        Self::LogDamaged,
        Self::LogDamagedBeyond,
        Self::DamageFound,
        Self::LeaseApiThrottled,
        Self::LeaseStolen,
        Self::StaleFetch,
        Self::LeadersFlipped,
        Self::ReadFromFollower,
        Self::LogStartRaised,
        Self::OffsetCommitted,
        Self::LateCommit,
        Self::ProduceToLeader,
        Self::ProduceUnanswered,
        Self::LeaderlessAtEnd,
    ];
}

/// How often each occurred.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Tally(BTreeMap<Happening, u64>);

impl Tally {
    /// Once more.
    pub fn note(&mut self, happening: Happening) {
        *self.0.entry(happening).or_default() += 1;
    }

    /// What never occurred.
    pub fn missing(&self) -> Vec<Happening> {
        Happening::ALL.into_iter().filter(|happening| !self.0.contains_key(happening)).collect()
    }

    /// One line each.
    pub fn lines(&self) -> String {
        let lines = self.0.iter().map(|(happening, count)| format!("{count:>8} {happening:?}"));
        lines.collect::<Vec<_>>().join("\n")
    }
}

impl AddAssign<&Tally> for Tally {
    fn add_assign(&mut self, other: &Tally) {
        for (happening, count) in &other.0 {
            *self.0.entry(*happening).or_default() += count;
        }
    }
}
