// SPDX-License-Identifier: Apache-2.0
//! What a run is like: how many brokers, which faults, which planted mistake.

use odradek_coordination::quorum::PlantedBug as QuorumBug;
use odradek_metadata::PlantedBug as ControllerBug;
use odradek_partition::PlantedBug as PartitionBug;

use crate::Random;

/// A mistake that a run must find.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Planted {
    /// In the replicas.
    Partition(PartitionBug),
    /// In the controller's decisions.
    Controller(ControllerBug),
    /// In the quorum.
    Quorum(QuorumBug),
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
    /// More breaks than the cluster can bear: what is lost must be seen to be lost.
    Beyond,
}

impl Emphasis {
    /// All.
    pub const ALL: [Self; 7] =
        [Self::Calm, Self::Restarts, Self::Network, Self::Disks, Self::Churn, Self::Elections, Self::Beyond];
}

/// See the module. Chances are per mille.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Profile {
    /// What it dwells on.
    pub emphasis: Emphasis,
    /// Brokers that are there from the start.
    pub brokers: usize,
    /// Brokers that come while it runs.
    pub joining: usize,
    /// Topics with two partitions each that stay for the whole run.
    pub topics: usize,
    /// Replicas of each partition.
    pub replicas: usize,
    /// `min.insync.replicas`.
    pub min_in_sync: usize,
    /// Whether the first topic has `flush.messages=1`.
    pub flushes: bool,
    /// Time of faults.
    pub faults_ms: u64,
    /// Shortest and longest pause between two faults.
    pub pause_ms: (u64, u64),
    /// Chance that a message is lost.
    pub loss: u64,
    /// Chance that a message is late.
    pub delay: u64,
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
            topics: 2,
            replicas,
            min_in_sync: if replicas == 3 { random.pick(&[2, 2, 2, 1]) } else { 1 },
            flushes: random.per_mille(250),
            faults_ms: 30_000,
            pause_ms: (1_000, 6_000),
            loss: 1,
            delay: 5,
            lease_loss: 10,
            lag_ms: random.pick(&[1_500, 4_000, 10_000]),
            admin_ms: (2_000, 8_000),
            image_lag: 50,
            moves_leaders: false,
            planted: None,
        };
        match emphasis {
            Emphasis::Calm => calm,
            Emphasis::Restarts => Self { pause_ms: (200, 2_500), ..calm },
            Emphasis::Network => Self { pause_ms: (300, 3_000), loss: 10, delay: 30, lease_loss: 100, ..calm },
            Emphasis::Disks | Emphasis::Beyond => Self { pause_ms: (300, 3_000), ..calm },
            Emphasis::Elections => Self {
                brokers: calm.replicas.max(2),
                replicas: calm.replicas.max(2),
                joining: 0,
                lag_ms: random.pick(&[300, 1_500]),
                delay: 60,
                image_lag: 300,
                moves_leaders: true,
                admin_ms: (50, 500),
                pause_ms: (200, 2_000),
                ..calm
            },
            Emphasis::Churn => Self { admin_ms: (100, 1_500), pause_ms: (500, 4_000), ..calm },
        }
    }
}
