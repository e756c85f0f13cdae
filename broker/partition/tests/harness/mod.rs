// SPDX-License-Identifier: Apache-2.0
//! Replicas of one partition on simulated disks, driven by hand: who leads, who fetches, what the metadata says.
#![allow(dead_code, unreachable_pub, reason = "each test file uses its part")]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};

use odradek_disk::{Disk, SimulatedDisk};
use odradek_log::{Log, LogOptions, LogSettings};
use odradek_model::{BrokerId, LeaderEpoch, Offset, Timestamp, TopicId, TopicIdPartition, TopicName, TopicPartition};
use odradek_partition::{
    Acks, BrokerStatus, Brokers, Effect, FetchAnswer, FetchPlan, FollowError, FollowerFetch, FollowerFetchError,
    FollowerFetched, FollowerStep, Followership, IsrChange, LeaderOffsets, Leadership, LocalBroker, MonotonicTime,
    Partition, PartitionSettings,
};
use odradek_records::{BatchBuilder, BatchOptions, Batches, ValidatedBatch};

pub const NOW: Timestamp = 1_700_000_000_000;
pub const LAG: i64 = 1_000;
const ROOM: usize = 1 << 20;

pub fn id(broker: i32) -> BrokerId {
    BrokerId(broker)
}

/// What all brokers' metadata says of brokers. A broker's epoch is 10 + its id until a test changes it.
#[derive(Debug, Default)]
pub struct Registered(Mutex<BTreeMap<BrokerId, BrokerStatus>>);

impl Brokers for Registered {
    fn status(&self, broker: BrokerId) -> Option<BrokerStatus> {
        self.0.lock().expect("no test panics with it").get(&broker).copied()
    }
}

impl Registered {
    pub fn change(&self, broker: i32, change: impl FnOnce(&mut BrokerStatus)) {
        change(self.0.lock().expect("no test panics with it").get_mut(&id(broker)).expect("registered"));
    }
}

pub struct Replica {
    pub disk: SimulatedDisk,
    pub partition: Partition,
}

/// Replicas 0 and up, of which one leads by turns.
pub struct Replicas {
    pub registered: Arc<Registered>,
    pub each: Vec<Replica>,
    pub now: MonotonicTime,
    pub settings: PartitionSettings,
}

/// What a follower's step came to.
#[derive(Debug)]
pub struct Round {
    pub step: FollowerStep,
    pub leader_effects: Vec<Effect>,
    pub follower_effects: Vec<Effect>,
    pub result: Result<(), FollowError>,
}

pub fn plain(min_insync_replicas: i32) -> PartitionSettings {
    PartitionSettings { min_insync_replicas, flush_messages: None }
}

pub fn batch(records: usize) -> ValidatedBatch {
    let mut builder = BatchBuilder::new(BatchOptions::default());
    for _ in 0..records {
        builder.append(NOW, None, Some(&[7; 100]), &[]);
    }
    builder.build_validated()
}

fn partition_id() -> TopicIdPartition {
    let topic = TopicName::new("orders").expect("a name");
    TopicIdPartition { id: TopicId::ZERO, topic_partition: TopicPartition { topic, partition: 0 } }
}

impl Replicas {
    pub fn new(count: i32, settings: PartitionSettings) -> Self {
        let status = |broker: i32| BrokerStatus { epoch: 10 + i64::from(broker), fenced: false, shutting_down: false };
        let registered = (0..count).map(|broker| (id(broker), status(broker))).collect();
        let registered = Arc::new(Registered(Mutex::new(registered)));
        let mut replicas = Self { registered, each: Vec::new(), now: MonotonicTime(0), settings };
        for broker in 0..count {
            let disk = SimulatedDisk::new(1);
            disk.create_dir_all(Path::new("/data")).expect("made");
            let partition = replicas.open(broker, &disk, 0);
            replicas.each.push(Replica { disk, partition });
        }
        replicas
    }

    fn open(&self, broker: i32, disk: &SimulatedDisk, high_watermark: Offset) -> Partition {
        let options = LogOptions {
            dir: "/data/orders-0".into(),
            topic_id: TopicId::ZERO,
            settings: LogSettings { segment_bytes: 1_500, ..LogSettings::default() },
            clean: false,
            recovery_point: 0,
            log_start_offset: 0,
            expected: None,
        };
        let port: Arc<dyn Disk> = Arc::new(disk.clone());
        let (log, _) = Log::open(port, Arc::default(), options, NOW, &mut |_| {}).expect("opens");
        let brokers = Arc::clone(&self.registered) as Arc<dyn Brokers>;
        let local = LocalBroker { id: id(broker), replica_lag_time_max_ms: LAG, brokers };
        Partition::new(partition_id(), local, self.settings, Box::new(log), high_watermark)
    }

    /// The process dies and starts again, with a checkpointed high watermark.
    pub fn restart(&mut self, broker: i32, high_watermark: Offset) {
        let disk = self.each[broker as usize].disk.clone();
        disk.restart(odradek_disk::Outage::ProcessDeath);
        self.each[broker as usize].partition = self.open(broker, &disk, high_watermark);
    }

    pub fn on(&mut self, broker: i32) -> &mut Partition {
        &mut self.each[broker as usize].partition
    }

    pub fn pass(&mut self, ms: i64) {
        self.now.0 += ms;
    }

    /// One replica hears that it leads.
    pub fn lead(&mut self, leader: i32, epoch: LeaderEpoch, partition_epoch: i32, in_sync: &[i32]) -> Vec<Effect> {
        let replicas = (0..self.each.len() as i32).map(id).collect();
        let in_sync = in_sync.iter().copied().map(id).collect();
        let leadership = Leadership { leader_epoch: epoch, partition_epoch, replicas, in_sync };
        let now = self.now;
        self.on(leader).lead(leadership, now).expect("leads")
    }

    /// One replica hears that another leads.
    pub fn follow(
        &mut self,
        follower: i32,
        leader: i32,
        leader_epoch: LeaderEpoch,
        partition_epoch: i32,
    ) -> Vec<Effect> {
        let now = self.now;
        self.on(follower).follow(Followership { leader: id(leader), leader_epoch, partition_epoch }, now)
    }

    /// All hear who leads.
    pub fn elect(&mut self, leader: i32, epoch: LeaderEpoch, partition_epoch: i32, in_sync: &[i32]) {
        self.lead(leader, epoch, partition_epoch, in_sync);
        for follower in (0..self.each.len() as i32).filter(|follower| *follower != leader) {
            self.follow(follower, leader, epoch, partition_epoch);
        }
    }

    pub fn append(&mut self, leader: i32, records: usize) -> Vec<Effect> {
        self.on(leader).append(batch(records), Acks::Leader, None, NOW).expect("appended").1
    }

    /// The next fetch of a follower.
    pub fn plan(&mut self, follower: i32) -> FetchPlan {
        match self.on(follower).next_step() {
            FollowerStep::Fetch(plan) => plan,
            step => panic!("{step:?} instead of a fetch"),
        }
    }

    pub fn request(&self, follower: i32, plan: &FetchPlan) -> FollowerFetch {
        FollowerFetch {
            replica: id(follower),
            broker_epoch: self.registered.status(id(follower)).expect("registered").epoch,
            leader_epoch: plan.leader_epoch,
            fetch_offset: plan.fetch_offset,
            last_fetched_epoch: plan.last_fetched_epoch,
            log_start_offset: plan.log_start_offset,
        }
    }

    /// A leader judges a fetch and reads for it.
    pub fn serve(
        &mut self,
        leader: i32,
        request: &FollowerFetch,
    ) -> Result<(FetchAnswer, Vec<Effect>), FollowerFetchError> {
        let now = self.now;
        let (fetched, effects) = self.on(leader).follower_fetch(request, now)?;
        let answer = match fetched {
            FollowerFetched::Diverging { epoch, end_offset } => FetchAnswer::Diverging { epoch, end_offset },
            FollowerFetched::Read(view) => {
                let fetched = view.read_for_follower(request.fetch_offset, ROOM, true).expect("readable");
                FetchAnswer::Records {
                    records: fetched.records,
                    high_watermark: fetched.high_watermark,
                    log_start_offset: fetched.log_start_offset,
                }
            }
        };
        Ok((answer, effects))
    }

    /// One step of a follower, with the answer that the leader gives.
    pub fn round(&mut self, follower: i32) -> Round {
        let step = self.on(follower).next_step();
        let mut leader_effects = Vec::new();
        let (follower_effects, result) = match step {
            FollowerStep::Fetch(plan) => {
                let request = self.request(follower, &plan);
                let answer = match self.serve(plan.leader.0, &request) {
                    Ok((answer, effects)) => {
                        leader_effects = effects;
                        answer
                    }
                    Err(FollowerFetchError::OffsetOutOfRange { .. }) => FetchAnswer::OutOfRange,
                    Err(error) => panic!("{error}"),
                };
                self.on(follower).fetch_answered(&plan, answer, NOW)
            }
            FollowerStep::AskOffsets(plan) => {
                let leader = self.on(plan.leader.0);
                let offsets = LeaderOffsets { log_start: leader.log_start_offset(), log_end: leader.log_end_offset() };
                self.on(follower).offsets_answered(&plan, offsets, NOW)
            }
            FollowerStep::AwaitCheckpoint => {
                self.on(follower).checkpointed();
                (Vec::new(), Ok(()))
            }
            FollowerStep::AwaitFlush | FollowerStep::Nothing => (Vec::new(), Ok(())),
        };
        Round { step, leader_effects, follower_effects, result }
    }

    /// Steps until the follower has what the leader has; how many it took.
    pub fn catch_up(&mut self, follower: i32) -> usize {
        for rounds in 1..20 {
            let round = self.round(follower);
            round.result.expect("acted upon");
            let FollowerStep::Fetch(plan) = round.step else { continue };
            let leader = plan.leader.0;
            if self.batches(follower) == self.batches(leader) && plan.fetch_offset == self.end(leader) {
                return rounds;
            }
        }
        panic!("does not catch up: {:?}", self.batches(follower));
    }

    pub fn end(&self, broker: i32) -> Offset {
        self.each[broker as usize].partition.log_end_offset()
    }

    pub fn high_watermark(&self, broker: i32) -> Offset {
        self.each[broker as usize].partition.high_watermark()
    }

    /// Offset after, and epoch of, each batch in a log; every checksum is looked at.
    pub fn batches(&self, broker: i32) -> Vec<(Offset, LeaderEpoch)> {
        let partition = &self.each[broker as usize].partition;
        let view = partition.replica_view(None).expect("has a role");
        let (mut from, mut batches) = (partition.log_start_offset(), Vec::new());
        while from < partition.log_end_offset() {
            // A read ends with its segment.
            let read = view.read_for_follower(from, ROOM, true).expect("readable");
            for batch in Batches::new(&read.records) {
                let batch = batch.expect("whole");
                batch.verify().expect("undamaged");
                from = batch.header.next_offset();
                batches.push((from, batch.header.partition_leader_epoch));
            }
        }
        batches
    }
}

/// The ISR change among effects, of which there is exactly one.
pub fn proposed(effects: &[Effect]) -> IsrChange {
    let changes: Vec<_> = effects
        .iter()
        .filter_map(|effect| match effect {
            Effect::ProposeIsr(change) => Some(change.clone()),
            _ => None,
        })
        .collect();
    let [change] = &changes[..] else { panic!("{} changes in {effects:?}", changes.len()) };
    change.clone()
}

/// The brokers of a proposed ISR.
pub fn members(change: &IsrChange) -> Vec<i32> {
    change.in_sync.iter().map(|member| member.broker.0).collect()
}
