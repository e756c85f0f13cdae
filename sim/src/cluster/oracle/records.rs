// SPDX-License-Identifier: Apache-2.0
//! Records: acknowledged, read, and on the disks at the end.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use odradek_disk::{Disk, OpenMode, SimulatedDisk};
use odradek_metadata::PartitionImage;
use odradek_model::{BrokerId, LeaderEpoch, Offset, TopicId};
use odradek_records::Batches;
use odradek_replication::ReplicaKey;

use super::{Violation, at};
use crate::cluster::workload::Noted;

/// A record as it stands in a log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::cluster) struct Entry {
    pub(in crate::cluster) offset: Offset,
    pub(in crate::cluster) value: u64,
    pub(in crate::cluster) leader_epoch: LeaderEpoch,
}

/// The records of whole batches; what is not a good batch ends it.
pub(in crate::cluster) fn entries(bytes: &[u8]) -> Vec<Entry> {
    let mut entries = Vec::new();
    for batch in Batches::new(bytes).map_while(Result::ok) {
        if batch.verify().is_err() {
            break;
        }
        let records = batch.records().expect("plain records");
        for record in records.iter().map_while(Result::ok) {
            let value = record.value.and_then(|value| value.first_chunk::<8>());
            entries.push(Entry {
                offset: batch.header.base_offset + i64::from(record.offset_delta),
                value: u64::from_be_bytes(*value.expect("a record of a client")),
                leader_epoch: batch.header.partition_leader_epoch,
            });
        }
    }
    entries
}

/// What a log's folder holds, by its files.
pub(in crate::cluster) fn entries_on_disk(disk: &SimulatedDisk, folder: &Path) -> Vec<Entry> {
    let mut found = Vec::new();
    let Ok(listed) = disk.list(folder) else { return found };
    let is_segment = |name: &str| Path::new(name).extension().is_some_and(|extension| extension == "log");
    for entry in listed.into_iter().filter(|entry| is_segment(&entry.name)) {
        let file = disk.open(&folder.join(&entry.name), OpenMode::Read).expect("it is listed");
        let mut bytes = Vec::new();
        file.read_append(&mut bytes, entry.len as usize, 0).expect("it can be read");
        found.extend(entries(&bytes));
    }
    found
}

/// What is known of one partition.
#[derive(Debug, Default)]
struct Known {
    attempted: BTreeSet<u64>,
    /// Acknowledged by all in sync, or read by a consumer: committed.
    committed: BTreeMap<Offset, u64>,
    /// Epochs of those that were read.
    epochs: BTreeMap<Offset, LeaderEpoch>,
    /// The latest start that retention gave any of the logs.
    start: Offset,
}

/// See the module.
#[derive(Debug, Default)]
pub(in crate::cluster) struct Records {
    known: BTreeMap<ReplicaKey, Known>,
    /// What each client was told last by a broker of a partition: epoch, high watermark.
    told: BTreeMap<(usize, usize, ReplicaKey), (LeaderEpoch, Offset)>,
    /// The highest epoch in which a client had records acknowledged.
    acknowledged_in: BTreeMap<(usize, ReplicaKey), LeaderEpoch>,
    /// The end that each client was told last.
    ends: BTreeMap<(usize, ReplicaKey), Offset>,
    deleted: BTreeSet<TopicId>,
    /// Partitions of which acknowledged records may be lost: more broke than their replicas can bear.
    excused: BTreeSet<ReplicaKey>,
    pub(in crate::cluster) acknowledged: u64,
    pub(in crate::cluster) read: u64,
}

impl Records {
    /// From now on the partition may have lost what was acknowledged.
    pub(in crate::cluster) fn excuse(&mut self, key: ReplicaKey) {
        self.excused.insert(key);
    }

    pub(in crate::cluster) fn is_excused(&self, key: ReplicaKey) -> bool {
        self.excused.contains(&key)
    }

    /// Whether somebody has asked for the topic's deletion.
    pub(in crate::cluster) fn may_be_deleted(&self, topic: TopicId) -> bool {
        self.deleted.contains(&topic)
    }

    /// Behind the last record that a client was told is committed.
    fn known_end(&self, key: ReplicaKey) -> Offset {
        let last = self.known.get(&key).and_then(|known| known.committed.keys().next_back());
        last.map_or(0, |last| last + 1)
    }

    /// Whether a log that ends there lacks something that a client was told is committed.
    pub(in crate::cluster) fn lacks(&self, key: ReplicaKey, end: Offset) -> bool {
        !self.is_excused(key) && self.known_end(key) > end
    }

    /// What it means that one who may be elected lacks something.
    pub(in crate::cluster) fn lacking(
        &self,
        key: ReplicaKey,
        broker: BrokerId,
        end: Offset,
        partition: &PartitionImage,
    ) -> Violation {
        let committed = self.known_end(key);
        Violation(format!(
            "{}: broker {broker} may lead and its log ends at {end}, while all below {committed} was committed: {partition:?}",
            at(key)
        ))
    }

    /// Partitions with records.
    pub(in crate::cluster) fn keys(&self) -> impl Iterator<Item = ReplicaKey> {
        self.known.keys().copied()
    }

    pub(super) fn noted(&mut self, client: usize, noted: &Noted) -> Result<(), Violation> {
        match noted {
            Noted::Attempted { key, values } => {
                self.known.entry(*key).or_default().attempted.extend(values);
                Ok(())
            }
            Noted::Acknowledged { key, base_offset, leader_epoch, values } => {
                self.acknowledged += values.len() as u64;
                let highest = self.acknowledged_in.entry((client, *key)).or_insert(-1);
                *highest = (*highest).max(*leader_epoch);
                for (offset, value) in (*base_offset..).zip(values) {
                    let entry = Entry { offset, value: *value, leader_epoch: *leader_epoch };
                    self.commit(*key, entry, "acknowledged")?;
                }
                Ok(())
            }
            Noted::Read { key, from, is_leader, leader_epoch, high_watermark, records } => {
                // A follower that starts anew knows less than it knew.
                if *is_leader {
                    self.told((client, *from), *key, *leader_epoch, *high_watermark)?;
                }
                for entry in entries(records) {
                    self.read += 1;
                    if entry.offset >= *high_watermark {
                        continue;
                    }
                    self.commit(*key, entry, "read")?;
                    self.read_epoch(*key, entry)?;
                }
                Ok(())
            }
            Noted::OutOfOrder { key, .. } if self.is_excused(*key) => Ok(()),
            // A leader that was deposed and has not heard of it lacks what its successor acknowledged, as in Kafka; the
            // client begins anew with another epoch (KIP-360).
            Noted::OutOfOrder { key, leader_epoch }
                if self.acknowledged_in.get(&(client, *key)).is_some_and(|highest| leader_epoch < highest) =>
            {
                Ok(())
            }
            Noted::OutOfOrder { key, leader_epoch } => Err(Violation(format!(
                "{}: client {client} had everything acknowledged, and is told in epoch {leader_epoch} that something is \
                 missing",
                at(*key)
            ))),
            Noted::OutOfRange { key, .. } if self.is_excused(*key) => Ok(()),
            // Retention may have let go what comes next, but nothing that was not committed.
            Noted::OutOfRange { offset, start, end, .. } if offset < start && start <= end => Ok(()),
            Noted::OutOfRange { key, offset, .. } => {
                Err(Violation(format!("{}: client {client} had read up to {offset}, which is out of range", at(*key))))
            }
            Noted::Latest { key, offset } => {
                let before = self.ends.insert((client, *key), *offset).unwrap_or(0);
                if *offset < before && !self.is_excused(*key) {
                    let reason = format!("{}: client {client} was told of end {before}, then of {offset}", at(*key));
                    return Err(Violation(reason));
                }
                Ok(())
            }
            Noted::Deletes(topic) => {
                self.deleted.insert(*topic);
                Ok(())
            }
            Noted::CommitTried { .. } | Noted::Committed { .. } | Noted::OffsetFetched { .. } => Ok(()),
        }
    }

    fn told(
        &mut self,
        (client, from): (usize, usize),
        key: ReplicaKey,
        epoch: LeaderEpoch,
        end: Offset,
    ) -> Result<(), Violation> {
        let before = self.told.insert((client, from, key), (epoch, end)).unwrap_or((-1, 0));
        if epoch < before.0 || (epoch == before.0 && end < before.1) {
            let reason = format!(
                "{}: client {client} was told by {from} of high watermark {} in epoch {}, then of {end} in epoch {epoch}",
                at(key),
                before.1,
                before.0
            );
            return Err(Violation(reason));
        }
        Ok(())
    }

    fn commit(&mut self, key: ReplicaKey, entry: Entry, how: &str) -> Result<(), Violation> {
        let is_excused = self.is_excused(key);
        let known = self.known.entry(key).or_default();
        let Entry { offset, value, .. } = entry;
        if !known.attempted.contains(&value) {
            return Err(Violation(format!("{}: {value:x} was {how} at {offset}, and nobody wrote it", at(key))));
        }
        match known.committed.insert(offset, value) {
            Some(other) if other != value && !is_excused => {
                let reason = format!("{}: {value:x} was {how} at {offset}, where {other:x} was committed", at(key));
                Err(Violation(reason))
            }
            _ => Ok(()),
        }
    }

    /// Epochs rise with offsets, and a record's epoch stays.
    fn read_epoch(&mut self, key: ReplicaKey, entry: Entry) -> Result<(), Violation> {
        if self.is_excused(key) {
            return Ok(());
        }
        let epochs = &mut self.known.entry(key).or_default().epochs;
        let Entry { offset, leader_epoch, .. } = entry;
        let below = epochs.range(..offset).next_back().is_none_or(|(_, epoch)| *epoch <= leader_epoch);
        let above = epochs.range(offset + 1..).next().is_none_or(|(_, epoch)| *epoch >= leader_epoch);
        let same = epochs.insert(offset, leader_epoch).is_none_or(|epoch| epoch == leader_epoch);
        if below && above && same {
            Ok(())
        } else {
            Err(Violation(format!("{}: epoch {leader_epoch} at {offset} does not fit those around it", at(key))))
        }
    }

    /// Retention let one of the partition's logs begin there, of which so many bytes are `left`, if that is known, while
    /// so many are to be `kept`. The others may begin there too from now on: a follower has its leader's start.
    pub(in crate::cluster) fn log_start_raised(
        &mut self,
        key: ReplicaKey,
        start: Offset,
        (left, kept): (Option<u64>, Option<u64>),
    ) -> Result<(), Violation> {
        let known = self.known.entry(key).or_default();
        known.start = known.start.max(start);
        match left {
            Some(left) if kept.is_none_or(|kept| left < kept) => {
                Err(Violation(format!("{}: what is below {start} went, {left} bytes are left of {kept:?}", at(key))))
            }
            _ => Ok(()),
        }
    }

    /// After healing, when nothing is written any more: the replica's log holds all that is committed and that retention
    /// did not let go, each attempted record of a producer with sequences once and in order, and nothing else.
    pub(in crate::cluster) fn check_log(
        &self,
        key: ReplicaKey,
        broker: usize,
        log: &[Entry],
        is_idempotent: impl Fn(u64) -> bool,
    ) -> Result<(), Violation> {
        let Some(known) = self.known.get(&key) else { return Ok(()) };
        // How many bytes a log has at the end says nothing: one that led may have let segments go for a tail that was cut
        // off later.
        let start = log.first().map_or(known.start, |entry| entry.offset.min(known.start));
        let by_offset: BTreeMap<Offset, u64> = log.iter().map(|entry| (entry.offset, entry.value)).collect();
        let is_excused = self.is_excused(key);
        for (offset, value) in known.committed.range(start..).filter(|_| !is_excused) {
            if by_offset.get(offset) != Some(value) {
                let found = by_offset.get(offset);
                let reason = format!(
                    "{}: broker {broker} has {found:x?} at {offset}, where {value:x} was committed; its log is {:?}, and may \
                     begin at {}",
                    at(key),
                    log.first().zip(log.last()).map(|(first, last)| first.offset..last.offset + 1),
                    known.start
                );
                return Err(Violation(reason));
            }
        }
        let mut last: BTreeMap<u64, u64> = BTreeMap::new();
        for (place, entry) in log.iter().enumerate() {
            if entry.offset != log[0].offset + place as i64 {
                return Err(Violation(format!("{}: broker {broker} has a gap before {}", at(key), entry.offset)));
            }
            if !known.attempted.contains(&entry.value) {
                let reason = format!("{}: broker {broker} has {:x}, which nobody wrote", at(key), entry.value);
                return Err(Violation(reason));
            }
            let producer = entry.value >> 32;
            if is_idempotent(producer)
                && let Some(before) = last.insert(producer, entry.value)
                && before >= entry.value
            {
                let reason = format!("{}: broker {broker} has {:x} after {before:x}", at(key), entry.value);
                return Err(Violation(reason));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_leader_that_was_deposed_may_lack_what_was_acknowledged() {
        let key = ReplicaKey { topic: TopicId::ZERO, partition: 0 };
        let out_of_order = |leader_epoch| Noted::OutOfOrder { key, leader_epoch };
        let mut records = Records::default();
        records.noted(2, &out_of_order(7)).expect_err("nothing was acknowledged in a later epoch");
        let mut acknowledge = |client, base_offset, leader_epoch| {
            let values = vec![base_offset as u64];
            records.noted(client, &Noted::Attempted { key, values: values.clone() }).expect("noted");
            records.noted(client, &Noted::Acknowledged { key, base_offset, leader_epoch, values }).expect("good");
        };
        acknowledge(2, 0, 8);
        acknowledge(2, 1, 7);
        acknowledge(3, 2, 9);
        records.noted(2, &out_of_order(7)).expect("it lacks what the leader of epoch 8 took");
        records.noted(2, &out_of_order(8)).expect_err("it took it itself");
        records.noted(2, &out_of_order(9)).expect_err("it was elected with it");
        records.excuse(key);
        records.noted(2, &out_of_order(9)).expect("more broke than the replicas can bear");
    }

    #[test]
    fn what_is_gone_at_the_beginning_was_let_go_by_retention() {
        let key = ReplicaKey { topic: TopicId::ZERO, partition: 0 };
        let mut records = Records::default();
        let values = vec![70, 71, 72];
        records.noted(1, &Noted::Attempted { key, values: values.clone() }).expect("noted");
        records
            .noted(1, &Noted::Acknowledged { key, base_offset: 0, leader_epoch: 1, values: values.clone() })
            .expect("good");
        let log: Vec<_> =
            (0..).zip(&values).map(|(offset, value)| Entry { offset, value: *value, leader_epoch: 1 }).collect();
        let check = |records: &Records, log: &[Entry]| records.check_log(key, 1, log, |_| false);
        check(&records, &log).expect("whole");
        check(&records, &log[1..]).expect_err("nothing was let go");
        records.log_start_raised(key, 1, (Some(99), Some(100))).expect_err("too little is left");
        records.log_start_raised(key, 1, (Some(100), None)).expect_err("all is to be kept");
        records.log_start_raised(key, 1, (Some(100), Some(100))).expect("one went");
        check(&records, &log[1..]).expect("it begins where retention let one begin");
        check(&records, &log).expect("another has let nothing go yet");
        check(&records, &log[2..]).expect_err("more is gone");
        check(&records, &[]).expect_err("what is not gone is missing");
        records.log_start_raised(key, 3, (None, Some(100))).expect("not known");
        check(&records, &[]).expect("all may be gone");
    }
}
