// SPDX-License-Identifier: Apache-2.0
//! What a run is like: how many brokers, which faults, which planted mistake.

use odradek_coordination::quorum::PlantedBug;

use crate::Random;

/// A mistake that a run must find.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Planted {
    /// In the members.
    Member(PlantedBug),
    /// The Lease is written without compare-and-set.
    LeaseWithoutCompareAndSet,
    /// An emptied folder keeps its identity (rule 9).
    EmptiedFolderKeepsIdentity,
}

/// See the module. Chances are per mille of the faults.
#[derive(Clone, PartialEq, Eq, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "kinds of faults, each there or not")]
pub struct Profile {
    /// Brokers.
    pub brokers: usize,
    /// Time of faults.
    pub faults_ms: u64,
    /// Shortest and longest pause between two faults.
    pub pause_ms: (u64, u64),
    /// Chance that a message is lost, per mille.
    pub loss: u64,
    /// Chance that a message is very late, per mille.
    pub delay: u64,
    /// Chance that an answer of the Lease API is lost, per mille; half of those writes land all the same, some late.
    pub lease_loss: u64,
    /// The session of brokers.
    pub session_ms: u64,
    /// How long a dead voter of three and more is kept.
    pub replace_voter_after_ms: u64,
    /// Bytes in one answer to a fetch.
    pub max_answer_bytes: usize,
    /// Chance, per mille, of trouble where it hurts: for the holder right after a take, and for writes that change the
    /// voters.
    pub aimed: u64,
    /// Whether the brokers have the real metadata log, on disks that crash in the middle of calls and lose what was not
    /// synced.
    pub real_log: bool,
    /// Whether folders are emptied.
    pub wipes: bool,
    /// Whether the Lease is deleted and rolled back.
    pub lease_falls: bool,
    /// Whether strangers write to the Lease.
    pub foreign_hands: bool,
    /// The mistake.
    pub planted: Option<Planted>,
}

impl Profile {
    /// The profile that a seed draws.
    pub fn of_seed(seed: u64) -> Self {
        let mut random = Random::new(seed ^ 0x5eed);
        let calm = Self {
            brokers: random.between(1, 6) as usize,
            faults_ms: 60_000,
            pause_ms: (500, 8_000),
            loss: 2,
            delay: 5,
            lease_loss: 10,
            session_ms: random.pick(&[6_000, 6_000, 1_500]),
            replace_voter_after_ms: 10_000,
            max_answer_bytes: random.pick(&[1, 64, 256]),
            aimed: random.pick(&[0, 0, 500, 900]),
            real_log: random.per_mille(300),
            wipes: random.per_mille(300),
            lease_falls: random.per_mille(300),
            foreign_hands: random.per_mille(300),
            planted: None,
        };
        if seed % 8 == 7 {
            // One take after another by the same three voters, which get one record at a time.
            return Self {
                brokers: 3,
                pause_ms: (20, 1_000),
                loss: 20,
                max_answer_bytes: 1,
                aimed: 900,
                real_log: false,
                wipes: false,
                lease_falls: false,
                foreign_hands: false,
                replace_voter_after_ms: 60_000,
                ..calm
            };
        }
        match random.between(0, 2) {
            0 => calm,
            1 => Self { pause_ms: (20, 1_500), loss: 50, delay: 50, lease_loss: 100, ..calm },
            // Voters change all the time, and what became of that is unknown for long.
            _ => Self {
                brokers: random.pick(&[2, 2, 3, 4, 5]),
                pause_ms: (100, 4_000),
                loss: 20,
                delay: 20,
                lease_loss: 350,
                replace_voter_after_ms: 500,
                ..calm
            },
        }
    }
}
