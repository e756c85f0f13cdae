// SPDX-License-Identifier: Apache-2.0
//! Damage to one log of a broker that is down. Only such as recovery can see: it takes bytes below the recovery point, and
//! those of a log that was closed, for what they are, and only misses them where they are gone. Must not know what
//! becomes of it.

use std::path::Path;
use std::sync::Arc;

use odradek_disk::{Disk, OpenMode, Outage, SimulatedDisk};
use odradek_log::{
    HIGH_WATERMARK_CHECKPOINT, LOG_START_CHECKPOINT, RECOVERY_POINT_CHECKPOINT, read_offset_checkpoint, read_topic_id,
};
use odradek_model::{BrokerId, Offset, TopicPartition};
use odradek_records::Batches;
use odradek_replication::ReplicaKey;

use super::{ALONE_MS, Faults, Later};
use crate::Random;
use crate::cluster::folder::{self, DATA, log_folder};
use crate::cluster::profile::Emphasis;
use crate::cluster::tally::Happening;
use crate::cluster::world::World;

/// The checksum of a batch and what it covers begin here.
const CHECKED_FROM: u64 = 17;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Harm {
    /// A bit of a batch is turned.
    Turned,
    /// A batch and all that comes after it are cut off.
    CutOff,
    /// The folder is gone.
    Gone,
}

/// A batch as it lies in its segment.
#[derive(Clone, Copy, Debug)]
struct Place {
    /// Counts the segments.
    segment: usize,
    position: u64,
    size: u64,
    base_offset: Offset,
    next_offset: Offset,
}

/// A log, and what the checkpoints say of it.
struct Target {
    at: TopicPartition,
    segments: Vec<String>,
    batches: Vec<Place>,
    /// Whether the checkpoints know it.
    is_known: bool,
    known_end: Offset,
    recovery_point: Offset,
    log_start: Offset,
}

impl Faults {
    /// A process is killed, and one of its logs harmed. If partitions are to survive it, it waits for a whole cluster as a
    /// loss of power does.
    pub(super) fn damage_log(&mut self, world: &mut World, id: usize, attempts: u32) {
        let is_borne = world.may_lose_power(id);
        if !is_borne && world.profile.emphasis != Emphasis::Beyond {
            if attempts > 1 {
                self.later(world, 50, 800, Later::DamageLog(id, attempts - 1));
            }
            return;
        }
        self.kill(world, id, Outage::ProcessDeath);
        let Some((key, harm)) = world.harm_a_log(id) else { return };
        world.tell(|| format!("{harm:?} at {id}: {} of {}", key.partition, key.topic));
        world.note_damage(id, key);
        if is_borne {
            world.tally.note(Happening::LogDamaged);
            self.quiet_until = world.now + ALONE_MS;
            world.expect_leaderless_if_sole(key);
        } else {
            world.tally.note(Happening::LogDamagedBeyond);
            world.may_be_leaderless.insert(key);
        }
    }
}

impl World {
    /// From now on the partition may lack a leader for ever, if it has one replica.
    fn expect_leaderless_if_sole(&mut self, key: ReplicaKey) {
        let at = odradek_metadata::PartitionKey { topic: key.topic, partition: key.partition };
        // Another that is only being added may be taken away again.
        let is_sole = self.newest_image.partition(at).is_some_and(|p| p.replicas.len() - p.adding.len() <= 1);
        if is_sole {
            self.may_be_leaderless.insert(key);
        }
    }

    /// Harms one log of a machine without a process, if there is one that can be.
    fn harm_a_log(&mut self, id: usize) -> Option<(ReplicaKey, Harm)> {
        let (disk, image) = (self.machines[id].disk.clone(), Arc::clone(&self.newest_image));
        disk.crash_at(None);
        let is_kept = folder::is_kept(&disk, &self.machines[id].kernel());
        let is_clean = folder::is_clean(&disk);
        let replicas: Vec<_> = image
            .partitions_on(BrokerId(id as i32))
            .map(|(key, topic, _)| (key, TopicPartition { topic: topic.name.clone(), partition: key.partition }))
            .filter(|(key, at)| {
                let found = read_topic_id(&disk, &log_folder(&at.topic, at.partition));
                found.is_ok_and(|found| found == Some(key.topic))
            })
            .collect();
        if replicas.is_empty() {
            return None;
        }
        let first = self.random.between(0, replicas.len() as u64 - 1) as usize;
        let harms = [Harm::Turned, Harm::CutOff, Harm::Gone];
        let first_harm = self.random.between(0, harms.len() as u64 - 1) as usize;
        for (key, at) in replicas.iter().cycle().skip(first).take(replicas.len()) {
            let target = Target::read(&disk, at);
            for harm in harms.iter().cycle().skip(first_harm).take(harms.len()) {
                // After a loss of power a log may end anywhere.
                let is_seen = match harm {
                    Harm::Turned => is_kept && !is_clean,
                    Harm::CutOff => is_kept,
                    Harm::Gone => true,
                };
                if is_seen && target.harm(&disk, *harm, &mut self.random) {
                    return Some((ReplicaKey { topic: key.topic, partition: key.partition }, *harm));
                }
            }
        }
        None
    }
}

impl Target {
    fn read(disk: &SimulatedDisk, at: &TopicPartition) -> Self {
        let dir = log_folder(&at.topic, at.partition);
        let checkpointed = |name: &str| {
            let (offsets, _) = read_offset_checkpoint(disk, &Path::new(DATA).join(name)).expect("a small file");
            offsets.get(at).copied()
        };
        let (high_watermark, log_start) = (checkpointed(HIGH_WATERMARK_CHECKPOINT), checkpointed(LOG_START_CHECKPOINT));
        let recovery_point = checkpointed(RECOVERY_POINT_CHECKPOINT);
        let is_segment = |name: &str| Path::new(name).extension().is_some_and(|extension| extension == "log");
        let listed = disk.list(&dir).expect("it is there");
        let segments: Vec<_> = listed.into_iter().filter(|entry| is_segment(&entry.name)).collect();
        let mut batches = Vec::new();
        for (segment, entry) in segments.iter().enumerate() {
            let file = disk.open(&dir.join(&entry.name), OpenMode::Read).expect("it is listed");
            let mut bytes = Vec::new();
            file.read_append(&mut bytes, entry.len as usize, 0).expect("it can be read");
            let mut position = 0;
            for batch in Batches::new(&bytes).map_while(Result::ok) {
                let size = batch.bytes.len() as u64;
                let (base_offset, next_offset) = (batch.header.base_offset, batch.header.next_offset());
                batches.push(Place { segment, position, size, base_offset, next_offset });
                position += size;
            }
        }
        Self {
            at: at.clone(),
            segments: segments.into_iter().map(|entry| entry.name).collect(),
            batches,
            is_known: high_watermark.or(recovery_point).or(log_start).is_some(),
            known_end: high_watermark.unwrap_or(0).max(recovery_point.unwrap_or(0)),
            recovery_point: recovery_point.unwrap_or(0),
            log_start: log_start.unwrap_or(0),
        }
    }

    /// Does it, durably, if that can be seen afterwards.
    fn harm(&self, disk: &SimulatedDisk, harm: Harm, random: &mut Random) -> bool {
        let dir = log_folder(&self.at.topic, self.at.partition);
        let place = |random: &mut Random, is_meant: &dyn Fn(&Place) -> bool| {
            let meant: Vec<Place> = self.batches.iter().filter(|place| is_meant(place)).copied().collect();
            (!meant.is_empty()).then(|| random.pick(&meant))
        };
        match harm {
            Harm::Turned => {
                let from = self.recovery_point.max(self.log_start);
                let Some(place) = place(random, &|place| place.next_offset > from) else { return false };
                let byte = random.between(CHECKED_FROM, place.size - 1);
                let mask = 1 << random.between(0, 7);
                disk.corrupt(&dir.join(&self.segments[place.segment]), place.position + byte, mask);
            }
            Harm::CutOff => {
                let (start, end) = (self.log_start, self.known_end);
                let is_known = |place: &Place| start < end && place.base_offset < end;
                let Some(place) = place(random, &is_known) else { return false };
                for later in &self.segments[place.segment + 1..] {
                    disk.remove_file(&dir.join(later)).expect("it was listed");
                }
                let file = disk.open(&dir.join(&self.segments[place.segment]), OpenMode::ReadWrite);
                let file = file.expect("it was listed");
                file.truncate(place.position).expect("cut");
                file.sync().expect("synced");
                disk.sync_dir(&dir).expect("synced");
            }
            Harm::Gone => {
                if !self.is_known {
                    return false;
                }
                for entry in disk.list(&dir).expect("it is there") {
                    disk.remove_file(&dir.join(&entry.name)).expect("it was listed");
                }
                disk.sync_dir(&dir).expect("synced");
                disk.remove_dir_all(&dir).expect("it was there");
                disk.sync_dir(Path::new(DATA)).expect("synced");
            }
        }
        true
    }
}
