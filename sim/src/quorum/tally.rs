// SPDX-License-Identifier: Apache-2.0
//! How often each thing happened in a run. A fault that never occurs tests nothing, so the tests demand each of them.
//! Must not influence the run.

use std::ops::AddAssign;

macro_rules! happenings {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// What can happen in a run: faults, and what members make of them.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub enum Happening {
            $($(#[$doc])* $name,)*
        }

        impl Happening {
            /// All of them, in the order of their numbers.
            pub const ALL: &[Self] = &[$(Self::$name,)*];
        }
    };
}

happenings! {
    /// A process died between two calls.
    Killed,
    /// A process died in the middle of a change to its disk.
    CrashedInCall,
    /// The holder of the Lease was killed.
    HolderKilled,
    /// A process stood still for a while.
    Paused,
    /// A process was asked to stop cleanly.
    StoppedCleanly,
    /// A clean stop was through while the process still ran.
    Resigned,
    /// A folder was emptied.
    FolderEmptied,
    /// A broker whose folder was emptied became a voter again, with its new folder.
    EmptiedFolderVotesAgain,
    /// Links were cut.
    LinksCut,
    /// A message was lost at random.
    MessageLost,
    /// A message was very late.
    MessageLate,
    /// A message came twice.
    MessageRepeated,
    /// The Lease API was away for all.
    LeaseApiAway,
    /// The Lease API was cut off from one broker.
    LeaseApiCutOff,
    /// The Lease API refused a call for throttling.
    LeaseThrottled,
    /// A driver made such a call again after the time it was asked to wait.
    LeaseCallRepeated,
    /// An answer of the Lease API to a read was lost.
    LeaseReadLost,
    /// A write of the Lease landed whose outcome its writer was told to be unknown.
    LeaseWriteLandedUnseen,
    /// Such a write changed the voters.
    VoterChangeLandedUnseen,
    /// A write of the Lease was refused by compare-and-set.
    LeaseWriteRefused,
    /// A broker's watch missed a change of the Lease.
    WatchMissed,
    /// The Lease was deleted.
    LeaseDeleted,
    /// The Lease was rolled back to an earlier write of the same epoch.
    LeaseRolledBack,
    /// The Lease was rolled back to an earlier epoch.
    LeaseRolledBackByEpochs,
    /// A roll-back brought other voters back.
    LeaseRolledBackToOtherVoters,
    /// A stranger wrote itself into the Lease.
    LeaseStolen,
    /// As above, and raised the epoch.
    LeaseStolenWithItsEpoch,
    /// A stranger wrote a holder into the Lease that is none of ours.
    LeaseGarbled,
    /// As above, and raised the epoch.
    LeaseGarbledWithItsEpoch,
    /// Somebody put a proper holder, or none, into a Lease that was garbled.
    LeaseMended,
    /// A read of the Lease found a holder that is none of ours.
    LeaseFoundMalformed,
    /// A broker took a deleted or rolled back Lease for what it is.
    LeaseFoundFallen,
    /// A controller put the Lease back.
    LeaseRepaired,
    /// Brokers without a controller put the Lease back, after questions to all.
    LeaseRecovered,
    /// A voter was added.
    VoterAdded,
    /// A voter was dropped.
    VoterDropped,
    /// A broker put its records into a snapshot.
    SnapshotMade,
    /// A broker's log was replaced by another's snapshot.
    SnapshotInstalled,
    /// A broker began to lead.
    Led,
    /// A broker led no more.
    SteppedDown,
}

/// Counts of each.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Tally(Vec<u64>);

impl Tally {
    /// It happened once more.
    pub fn note(&mut self, happening: Happening) {
        self.0.resize(Happening::ALL.len(), 0);
        self.0[happening as usize] += 1;
    }

    /// How often it happened.
    pub fn count(&self, happening: Happening) -> u64 {
        self.0.get(happening as usize).copied().unwrap_or(0)
    }

    /// What never happened.
    pub fn missing(&self) -> Vec<Happening> {
        Happening::ALL.iter().copied().filter(|happening| self.count(*happening) == 0).collect()
    }

    /// One line for each.
    pub fn lines(&self) -> String {
        let line = |happening: &Happening| format!("{:>9} {happening:?}\n", self.count(*happening));
        Happening::ALL.iter().map(line).collect()
    }
}

impl AddAssign<&Self> for Tally {
    fn add_assign(&mut self, other: &Self) {
        self.0.resize(Happening::ALL.len(), 0);
        for happening in Happening::ALL {
            self.0[*happening as usize] += other.count(*happening);
        }
    }
}
