// SPDX-License-Identifier: Apache-2.0
//! What a run is like: how many brokers, which faults, which planted mistake.

use odradek_coordination::quorum::PlantedBug as QuorumBug;
use odradek_metadata::PlantedBug as ControllerBug;
use odradek_partition::PlantedBug as PartitionBug;

use crate::Random;

/// What retention is by, and how much is kept: a few segments, written in seconds.
pub(super) const RETENTION: &str = "retention.bytes";
pub(super) const RETENTION_BYTES: u64 = 12_288;

/// A mistake that a run must find.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Planted {
    /// In the replicas.
    Partition(PartitionBug),
    /// In the controller's decisions.
    Controller(ControllerBug),
    /// In the quorum.
    Quorum(QuorumBug),
    /// A broker does not tell the controller which of its logs it has found damaged.
    DamageNotTold,
    /// A damaged log looks whole to the next start, though the controller was not told.
    DamageForgotten,
}

/// What a profile dwells on. Each has every fault; this one comes more often than the others.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Emphasis {
    /// A little of everything.
    Calm,
    /// Processes die, pause and stop all the time.
    Restarts,
    /// Links are cut in one or both directions; messages are lost and late.
    Network,
    /// Machines lose power; disks are full and slow, and crash in the middle of a call.
    Disks,
    /// Replicas move, leaders are elected, topics come and go.
    Churn,
    /// Leaders change all the time, some brokers hear of it late, and messages of earlier reigns arrive.
    Elections,
    /// As [`Self::Elections`] over slow links, with fetches that leaders read long after the followers gave them up; and
    /// power is lost meanwhile.
    Stale,
    /// More breaks than the cluster can bear: what is lost must be seen to be lost.
    Beyond,
}

impl Emphasis {
    /// All.
    pub const ALL: [Self; 8] = [
        Self::Calm,
        Self::Restarts,
        Self::Network,
        Self::Disks,
        Self::Churn,
        Self::Elections,
        Self::Stale,
        Self::Beyond,
    ];
}

/// See the module. Chances are per mille.
#[derive(Clone, PartialEq, Eq, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is there or not, whatever the others")]
pub struct Profile {
    /// What it dwells on.
    pub emphasis: Emphasis,
    /// Brokers that are there from the start.
    pub brokers: usize,
    /// Brokers that come while it runs.
    pub joining: usize,
    /// Whether brokers stand in three racks, and consumers read in theirs.
    pub racks: bool,
    /// Whether one of them leaves while it runs: its replicas are moved away, then it is stopped and unregistered.
    pub leaving: bool,
    /// Topics with two partitions each that stay for the whole run.
    pub topics: usize,
    /// Replicas of each partition.
    pub replicas: usize,
    /// `min.insync.replicas`.
    pub min_in_sync: usize,
    /// Whether the first topic has `flush.messages=1`.
    pub flushes: bool,
    /// Whether the second topic keeps its newest bytes only.
    pub retention: bool,
    /// Whether there is a topic besides whose partitions have one replica each.
    pub sole: bool,
    /// Time of faults.
    pub faults_ms: u64,
    /// Shortest and longest pause between two faults.
    pub pause_ms: (u64, u64),
    /// Chance that a message is lost.
    pub loss: u64,
    /// Chance that a message is late.
    pub delay: u64,
    /// Soonest and latest arrival of a message that is not.
    pub latency_ms: (u64, u64),
    /// Chance that the connection of a follower's fetch breaks, and the leader reads it all the same, later.
    pub stale_fetches: u64,
    /// Bytes of one partition in an answer to a fetch. Small, so that many answers are needed.
    pub answer_bytes: usize,
    /// Chance that an answer of the Lease API is lost.
    pub lease_loss: u64,
    /// `replica.lag.time.max.ms`.
    pub lag_ms: i64,
    /// Shortest and longest pause between two commands of the administrator.
    pub admin_ms: (u64, u64),
    /// Chance that a broker takes an image over late.
    pub image_lag: u64,
    /// Whether the administrator does little but move leaders.
    pub moves_leaders: bool,
    /// The mistake.
    pub planted: Option<Planted>,
}

impl Profile {
    /// The profile that a seed draws.
    pub fn of_seed(seed: u64) -> Self {
        Self::with(seed, Emphasis::ALL[(seed % Emphasis::ALL.len() as u64) as usize])
    }

    /// The profile of a seed with that emphasis.
    pub fn with(seed: u64, emphasis: Emphasis) -> Self {
        let mut random = Random::new(seed ^ 0xc1a5);
        let brokers = random.pick(&[1, 2, 3, 3, 3, 3, 4, 5, 7]);
        let replicas = if brokers > 2 { random.pick(&[3, 3, 3, 2]) } else { brokers };
        let calm = Self {
            emphasis,
            brokers,
            joining: usize::from(brokers < 7 && random.per_mille(200)),
            racks: random.per_mille(500),
            leaving: brokers > replicas && random.per_mille(300),
            topics: 2,
            replicas,
            min_in_sync: if replicas == 3 { random.pick(&[2, 2, 2, 1]) } else { 1 },
            flushes: random.per_mille(250),
            retention: random.per_mille(300),
            sole: brokers > 1 && random.per_mille(200),
            faults_ms: 30_000,
            pause_ms: (1_000, 6_000),
            loss: 1,
            delay: 5,
            latency_ms: (1, 3),
            stale_fetches: 2,
            answer_bytes: 2_048,
            lease_loss: 10,
            lag_ms: random.pick(&[1_500, 4_000, 10_000]),
            admin_ms: (2_000, 8_000),
            image_lag: 50,
            moves_leaders: false,
            planted: None,
        };
        // To move everything away takes a dozen commands.
        let calm = if calm.leaving { Self { admin_ms: (100, 900), ..calm } } else { calm };
        match emphasis {
            Emphasis::Calm => calm,
            Emphasis::Restarts => Self { pause_ms: (200, 2_500), ..calm },
            Emphasis::Network => Self { pause_ms: (300, 3_000), loss: 10, delay: 30, lease_loss: 100, ..calm },
            Emphasis::Disks | Emphasis::Beyond => Self { pause_ms: (300, 3_000), ..calm },
            Emphasis::Elections => Self {
                brokers: calm.replicas.max(2),
                replicas: calm.replicas.max(2),
                joining: 0,
                leaving: false,
                lag_ms: random.pick(&[300, 1_500]),
                delay: 60,
                image_lag: 300,
                moves_leaders: true,
                admin_ms: (50, 500),
                pause_ms: (200, 2_000),
                ..calm
            },
            Emphasis::Stale => Self {
                brokers: calm.replicas.max(2),
                replicas: calm.replicas.max(2),
                joining: 0,
                leaving: false,
                lag_ms: random.pick(&[300, 1_500]),
                delay: 20,
                latency_ms: random.pick(&[(1, 3), (2, 10), (5, 25)]),
                stale_fetches: 100,
                answer_bytes: random.pick(&[1_000, 2_048]),
                image_lag: 300,
                moves_leaders: true,
                admin_ms: (50, 800),
                pause_ms: (200, 2_000),
                ..calm
            },
            Emphasis::Churn if calm.leaving => Self { pause_ms: (500, 4_000), ..calm },
            Emphasis::Churn => Self { admin_ms: (100, 1_500), pause_ms: (500, 4_000), ..calm },
        }
    }
}
