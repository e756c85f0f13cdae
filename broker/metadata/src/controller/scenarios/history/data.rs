// SPDX-License-Identifier: Apache-2.0
//! The modelled half of a history: logs that lose what was not synced, processes with what they know, and chance.

use std::collections::BTreeMap;

use odradek_model::DirectoryId;
use uuid::Uuid;

use super::super::*;
use crate::PartitionImage;

/// SplitMix64: small, and the same everywhere.
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    pub(super) fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            let at = self.below(last as u64 + 1) as usize;
            items.swap(last, at);
        }
    }
}

/// One replica's records, each with the leader epoch of its append.
#[derive(Clone, Default)]
pub(super) struct Log {
    pub(super) records: Vec<(i32, u64)>,
    /// So many are on the disk for certain.
    pub(super) synced: usize,
    /// Emptied or damaged since it last held everything.
    pub(super) lost: bool,
}

impl Log {
    pub(super) fn holds(&self, records: &[(i32, u64)]) -> bool {
        self.records.starts_with(records)
    }

    /// Cuts what the source does not have, and takes some of what it has.
    pub(super) fn copy(&mut self, source: &[(i32, u64)], most: usize) {
        let same = self.records.iter().zip(source).take_while(|(mine, theirs)| mine == theirs).count();
        self.records.truncate(same);
        self.synced = self.synced.min(same);
        self.records.extend(source[same..].iter().take(most).copied());
        self.lost &= self.records.len() < source.len();
    }

    pub(super) fn lose_power(&mut self, random: &mut Random) {
        let kept = self.synced + random.below((self.records.len() - self.synced) as u64 + 1) as usize;
        self.records.truncate(kept);
    }

    pub(super) fn wipe(&mut self) {
        *self = Self { lost: true, ..Self::default() };
    }
}

/// A leader's volatile state for one partition.
pub(super) struct Leadership {
    pub(super) epoch: i32,
    /// The end of its log when it began.
    pub(super) start: usize,
    pub(super) high_watermark: usize,
    /// The end of each follower's log, and the registration under which it fetched.
    pub(super) fetched: BTreeMap<i32, (usize, BrokerEpoch)>,
    /// The change in flight.
    pub(super) pending: Option<Pending>,
}

/// An ISR that a leader has proposed; its members count for the high watermark until it is settled.
pub(super) struct Pending {
    /// The partition epoch on which it is based.
    pub(super) base: i32,
    pub(super) isr: Vec<ProposedReplica>,
    /// Of the newest request.
    pub(super) sequence: u64,
}

pub(super) struct Process {
    pub(super) id: i32,
    pub(super) up: bool,
    pub(super) epoch: BrokerEpoch,
    pub(super) image: Image,
    pub(super) logs: Vec<Log>,
    pub(super) leaderships: Vec<Option<Leadership>>,
    pub(super) marker: Option<BrokerEpoch>,
    pub(super) boot: u32,
    pub(super) directory: u128,
    pub(super) damaged: Vec<usize>,
    /// Its machine lost power or data, and it has not registered since.
    pub(super) ruined: bool,
    starts: u128,
}

impl Process {
    pub(super) fn new(id: i32, partitions: usize, cluster: &Cluster) -> Self {
        Self {
            id,
            up: true,
            epoch: cluster.epoch(id),
            image: Image::empty(),
            logs: vec![Log::default(); partitions],
            leaderships: (0..partitions).map(|_| None).collect(),
            marker: None,
            boot: 0,
            directory: 0,
            damaged: vec![],
            ruined: false,
            starts: 0,
        }
    }

    /// A topic's first partition as the process knows it.
    pub(super) fn partition(&self, name: &str) -> Option<Arc<PartitionImage>> {
        self.image.topic(name).map(|topic| Arc::clone(&topic.partitions[0]))
    }

    /// Takes the state it sees; whether it begins to lead.
    pub(super) fn follow(&mut self, index: usize, seen: &PartitionImage) -> bool {
        let leadership = &mut self.leaderships[index];
        if seen.leader != Some(BrokerId(self.id)) {
            *leadership = None;
            return false;
        }
        match leadership {
            Some(present) if present.epoch == seen.leader_epoch => {
                // A later state settles what was proposed before.
                if present.pending.as_ref().is_some_and(|pending| pending.base < seen.partition_epoch) {
                    present.pending = None;
                }
                false
            }
            _ => {
                let start = self.logs[index].records.len();
                let (epoch, fetched) = (seen.leader_epoch, BTreeMap::new());
                *leadership = Some(Leadership { epoch, start, high_watermark: 0, fetched, pending: None });
                true
            }
        }
    }

    /// The registration of its next process.
    pub(super) fn registration(&mut self, keys: &[PartitionKey]) -> RegisterBroker {
        self.starts += 1;
        let first = start_of(self.id);
        RegisterBroker {
            incarnation: Uuid::from_u128(self.id as u128 + 1000 * self.starts),
            directory_id: if self.directory == 0 {
                first.directory_id
            } else {
                DirectoryId(Uuid::from_u128(self.id as u128 + 1000 * self.directory))
            },
            boot_id: format!("boot {} of {}", self.boot, self.id),
            clean_shutdown_of: self.marker,
            damaged_logs: self.damaged.iter().map(|index| keys[*index]).collect(),
            ..first
        }
    }

    pub(super) fn started(&mut self, epoch: BrokerEpoch) {
        self.up = true;
        self.epoch = epoch;
        self.marker = None;
        self.damaged.clear();
        self.ruined = false;
        self.leaderships.iter_mut().for_each(|leadership| *leadership = None);
    }
}
