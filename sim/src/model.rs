// SPDX-License-Identifier: Apache-2.0
//! The rules of coordination by Lease as a small model, every reachable state of which is visited.
//!
//! Atomic steps: a broker takes the Lease (also with its answer lost), promises, leads, appends, replicates with
//! truncation, commits, sends a change of voters or a renewal, reads the Lease, restarts; the API server applies a
//! request at any later time or never; acknowledgements count whenever they arrive. Where the [`Bounds`] ask for it the
//! Lease has no voters yet (first take), folders are emptied (rule 9), and the Lease is deleted or rolled back and put
//! back or recovered (rule 10). Logs are matched by epochs alone, as in the product, though records also know who wrote
//! them.
//!
//! The properties: no two controllers ever commit different records at one offset, and no two ever lead the same epoch.
//! Reductions: fetching a tail and promising are one step each; fsync is part of the step; a broker that asks all members
//! of the voter sets (rule 10) gets all answers in one step; "every broker it knows" in rule 10's last sentence is every
//! broker; states that differ in the names of brokers alone are searched once (`symmetry`).
//!
//! Not in the model, and so for the simulation: times and whom a broker hears (rule 1 but for who may take), snapshots and
//! un-fsynced logs (parts of rules 3 and 9), what a controller decides before its epoch record is committed (rule 4), and
//! what is shown to readers (rule 11). A controller that does not step down (rule 8) breaks no property of the model:
//! promises and compare-and-set stand in its way.
//!
//! `tests/model.rs` has the bounds. `make model` prints of each search how many states there are and whether those were
//! all, or else up to how many steps they were.

mod state;
mod steps;
mod symmetry;

use std::collections::{HashSet, VecDeque};
use std::hash::{BuildHasherDefault, Hash, Hasher};

use state::State;

/// How far to search.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Bounds {
    /// Brokers, at most [`MAX_BROKERS`].
    pub brokers: usize,
    /// The voters at the start, the first so many brokers; none for a first take.
    pub voters: usize,
    /// The highest epoch.
    pub takes: u8,
    /// The longest log, at most [`MAX_LOG`].
    pub log: usize,
    /// Writes of the Lease.
    pub writes: u8,
    /// Whether voters change.
    pub changes: bool,
    /// Folders that are emptied.
    pub emptied: u8,
    /// Times that the Lease is deleted or rolled back.
    pub falls: u8,
    /// Brokers that are dead from the start, as a bit mask.
    pub dead: u16,
    /// States after which the search ends.
    pub states: usize,
}

impl Bounds {
    /// So many voters, all brokers; nothing special.
    pub fn of(brokers: usize, voters: usize, takes: u8, log: usize, writes: u8) -> Self {
        Self { brokers, voters, takes, log, writes, changes: true, emptied: 0, falls: 0, dead: 0, states: usize::MAX }
    }
}

/// Brokers that the model has room for.
pub const MAX_BROKERS: usize = 5;
/// Records that a log of the model has room for.
pub const MAX_LOG: usize = 5;
/// The highest epoch that the model has room for.
pub const MAX_EPOCH: usize = 6;

/// A rule that is broken on purpose.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mistake {
    /// Rule 1: a broker that is no voter takes the Lease.
    NonVoterTakes,
    /// Rule 2: a restart forgets what was promised.
    PromiseForgotten,
    /// Rule 2: whoever promised goes on following a lower epoch.
    FollowsLower,
    /// Rule 3: one promise is enough with three voters and more.
    PromiseQuorumOfOne,
    /// Rule 3: the candidate does not catch up from the best promise.
    NoCatchUp,
    /// Rule 5: records of older epochs are counted.
    OlderEpochsCounted,
    /// Rule 5: an acknowledgement counts before the logs were matched.
    UnmatchedAcknowledged,
    /// Rule 5: an acknowledgement counts for other epochs than that in which it was given.
    AcknowledgedForAnyEpoch,
    /// Rule 6: a change of voters without the check.
    ChangeWithoutCheck,
    /// Rule 6: commit without the pending set's quorum.
    CommitWithoutPendingSet,
    /// Rule 6: commit without the old set's quorum while a change is pending.
    CommitWithoutOldSet,
    /// Rule 6: another change while one is pending.
    SecondChangeWhilePending,
    /// Rule 7: a pending change is forgotten after a read of the same sequence.
    PendingForgottenAfterRead,
    /// Writes of the Lease without compare-and-set.
    LeaseWithoutCompareAndSet,
    /// Rule 9: an emptied folder keeps its identity.
    EmptiedFolderKeepsIdentity,
    /// Rule 10: a Lease that is missing is taken for that of a new cluster.
    FallenLeaseIsBootstrap,
    /// Rule 10: recovery goes on before all have answered.
    RecoveryWithoutAll,
    /// Rule 10: answers to the mere question are taken for promises.
    RecoveryWithoutPromises,
    /// Rule 10: a controller that puts a lost Lease back is content with a promise quorum.
    RepairWithPromiseQuorum,
    /// Rule 10: a taker of a Lease that names fewer than three voters does not ask for higher epochs.
    TakeWithoutAsking,
    /// Rule 10: nor does one that names four.
    TakeOfFourWithoutAsking,
}

/// What a search found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Found {
    /// States visited.
    pub states: usize,
    /// Whether these are all there are within the bounds, but for the names of brokers.
    pub complete: bool,
    /// Every history of so many steps was checked.
    pub depth: usize,
    /// The longest committed log.
    pub longest_commit: usize,
    /// The highest epoch that committed something.
    pub highest_epoch: u8,
    /// Two controllers that disagree, and the steps to them.
    pub violation: Option<String>,
}

/// Visits states breadth first until there are no more, the bound is reached, or the property is broken.
pub fn search(bounds: &Bounds, mistake: Option<Mistake>) -> Found {
    assert!(bounds.brokers <= MAX_BROKERS && bounds.log <= MAX_LOG && usize::from(bounds.takes) <= MAX_EPOCH);
    let start = symmetry::canonical(State::new(bounds), bounds);
    let mut seen: HashSet<u128, BuildHasherDefault<Fingerprinted>> = HashSet::default();
    let mut queue = VecDeque::from([start.clone()]);
    seen.insert(fingerprint(&start));
    let mut found = Found { states: 0, complete: true, depth: 0, longest_commit: 0, highest_epoch: 0, violation: None };
    let mut next = Vec::new();
    let mut left_at_depth = 1;
    while let Some(state) = queue.pop_front() {
        found.states += 1;
        found.longest_commit = found.longest_commit.max(state.committed.len());
        found.highest_epoch = found.highest_epoch.max(state.committed.last_epoch());
        if found.states >= bounds.states {
            found.complete = false;
            return found;
        }
        next.clear();
        if let Err(violation) = steps::all(&state, bounds, mistake, &mut next) {
            found.violation = Some(violation);
            return found;
        }
        for state in next.drain(..) {
            let state = symmetry::canonical(state, bounds);
            if seen.insert(fingerprint(&state)) {
                queue.push_back(state);
            }
        }
        left_at_depth -= 1;
        if left_at_depth == 0 && !queue.is_empty() {
            found.depth += 1;
            left_at_depth = queue.len();
        }
    }
    found
}

/// 128 bits of a state: two different states share them with a chance of 2^-70 among a hundred million.
fn fingerprint(state: &State) -> u128 {
    let mut low = Mixer(0x9e37_79b9_7f4a_7c15);
    let mut high = Mixer(0xc2b2_ae3d_27d4_eb4f);
    state.hash(&mut low);
    state.hash(&mut high);
    (u128::from(high.finish()) << 64) | u128::from(low.finish())
}

struct Mixer(u64);

impl Mixer {
    fn mix(&mut self, word: u64) {
        let product = u128::from(self.0 ^ word).wrapping_mul(0x9fb2_1c65_1e98_df25_a076_1d64_78bd_642f);
        self.0 = (product as u64) ^ ((product >> 64) as u64) ^ word.rotate_left(23);
    }
}

impl Hasher for Mixer {
    fn finish(&self) -> u64 {
        let mixed = (self.0 ^ (self.0 >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
        mixed ^ (mixed >> 32)
    }

    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.mix(u64::from_le_bytes(word) ^ ((chunk.len() as u64) << 56));
        }
    }

    fn write_u8(&mut self, number: u8) {
        self.mix(u64::from(number));
    }

    fn write_u16(&mut self, number: u16) {
        self.mix(u64::from(number));
    }

    fn write_usize(&mut self, number: usize) {
        self.mix(number as u64);
    }

    fn write_isize(&mut self, number: isize) {
        self.mix(number as u64);
    }
}

/// A set of fingerprints needs no further hashing.
#[derive(Default)]
struct Fingerprinted(u64);

impl Hasher for Fingerprinted {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {
        unreachable!("only whole fingerprints")
    }

    fn write_u128(&mut self, fingerprint: u128) {
        self.0 = fingerprint as u64;
    }
}
