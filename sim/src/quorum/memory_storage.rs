// SPDX-License-Identifier: Apache-2.0
//! Storage of a member in memory, shared with the simulation so that it outlives the process. Every call is durable, as
//! the port demands.

use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;

use bytes::Bytes;
use odradek_coordination::Holder;
use odradek_coordination::quorum::{LogBatch, LogPosition, Promise, QuorumStorage, StorageError, VoterSet, VoterSets};
use odradek_model::{ControllerEpoch, Offset};

/// A record: its epoch and what it says.
type Entry = (ControllerEpoch, u64);

/// What is on the disk.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct MemoryDisk {
    promise: Promise,
    voter_sets: VoterSets,
    /// All records since offset 0; those below `snapshot` are in the snapshot.
    entries: Vec<Entry>,
    snapshot: usize,
}

impl MemoryDisk {
    /// The voter sets on it.
    pub fn voter_sets(&self) -> &VoterSets {
        &self.voter_sets
    }

    /// Puts the records below the offset into the snapshot.
    pub fn compact(&mut self, end: Offset) {
        self.snapshot = self.snapshot.max(end as usize);
    }
}

/// Bytes that are none of ours.
#[derive(Debug)]
pub struct Malformed;

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("malformed bytes")
    }
}

impl StorageError for Malformed {
    fn is_fatal(&self) -> bool {
        false
    }
}

/// The port over a [`MemoryDisk`]. Keeps copies of what the port returns by reference.
#[derive(Debug)]
pub struct MemoryStorage {
    disk: Rc<RefCell<MemoryDisk>>,
    promise: Promise,
    voter_sets: VoterSets,
}

impl MemoryStorage {
    /// Opens the disk.
    pub fn open(disk: &Rc<RefCell<MemoryDisk>>) -> Self {
        let (promise, voter_sets) = (disk.borrow().promise.clone(), disk.borrow().voter_sets.clone());
        Self { disk: Rc::clone(disk), promise, voter_sets }
    }

    /// What the records of a batch say.
    pub(super) fn numbers(batch: &[u8]) -> Vec<u64> {
        decode(batch).expect("a batch of ours").into_iter().map(|(_, number)| number).collect()
    }

    /// Puts the records below the offset into the snapshot.
    pub(super) fn compact(&mut self, end: Offset) {
        self.disk.borrow_mut().compact(end);
    }
}

fn encode(entries: &[Entry]) -> Bytes {
    entries.iter().flat_map(|(epoch, value)| [epoch.to_be_bytes(), value.to_be_bytes()].concat()).collect()
}

fn decode(bytes: &[u8]) -> Result<Vec<Entry>, Malformed> {
    let number = |bytes: &[u8]| u64::from_be_bytes(bytes.try_into().expect("8 bytes"));
    let entries = bytes.chunks_exact(16);
    if !entries.remainder().is_empty() {
        return Err(Malformed);
    }
    Ok(entries.map(|entry| (number(&entry[..8]) as i64, number(&entry[8..]))).collect())
}

fn position(entries: &[Entry]) -> LogPosition {
    LogPosition { epoch: entries.last().map_or(0, |(epoch, _)| *epoch), end: entries.len() as i64 }
}

impl QuorumStorage for MemoryStorage {
    type Records = [u64];
    type Error = Malformed;

    fn position(&self) -> LogPosition {
        position(&self.disk.borrow().entries)
    }

    fn start(&self) -> LogPosition {
        let disk = self.disk.borrow();
        position(&disk.entries[..disk.snapshot])
    }

    fn epoch_end(&self, epoch: ControllerEpoch) -> LogPosition {
        let disk = self.disk.borrow();
        let end = disk.entries.partition_point(|(other, _)| *other <= epoch);
        // What is in the snapshot has no epochs but its last one.
        if end < disk.snapshot { LogPosition::default() } else { position(&disk.entries[..end]) }
    }

    fn promised(&self) -> &Promise {
        &self.promise
    }

    fn promise(&mut self, epoch: ControllerEpoch, holder: &Holder) -> Result<bool, Malformed> {
        let holder = Some(holder.clone());
        if epoch < self.promise.epoch || (epoch == self.promise.epoch && holder != self.promise.holder) {
            return Ok(false);
        }
        self.promise = Promise { epoch, holder };
        self.disk.borrow_mut().promise = self.promise.clone();
        Ok(true)
    }

    fn voter_sets(&self) -> &VoterSets {
        &self.voter_sets
    }

    fn store_voter_sets(&mut self, sets: VoterSets) -> Result<(), Malformed> {
        assert!(sets.pending.len() <= 1, "one change at a time");
        self.disk.borrow_mut().voter_sets = sets.clone();
        self.voter_sets = sets;
        Ok(())
    }

    fn append(&mut self, epoch: ControllerEpoch, records: &[u64]) -> Result<(), Malformed> {
        assert_eq!(epoch, self.promise.epoch, "a controller first promises itself");
        assert!(epoch >= self.position().epoch);
        self.disk.borrow_mut().entries.extend(records.iter().map(|record| (epoch, *record)));
        Ok(())
    }

    fn append_epoch_record(
        &mut self,
        epoch: ControllerEpoch,
        holder: &Holder,
        _recovered_without: &VoterSet,
    ) -> Result<(), Malformed> {
        // Two that led one epoch would write different ones.
        let who = holder.incarnation.bytes().fold(u64::from(holder.broker_id.0 as u32), |hash, byte| {
            hash.wrapping_mul(31).wrapping_add(u64::from(byte))
        });
        self.append(epoch, &[(1 << 63) | ((epoch as u64) << 32) | (who & 0xffff_ffff)])
    }

    fn append_batches(&mut self, batches: &[LogBatch]) -> Result<(), Malformed> {
        let mut entries = Vec::new();
        for batch in batches {
            entries.extend(decode(&batch.bytes)?);
        }
        self.disk.borrow_mut().entries.extend(entries);
        Ok(())
    }

    fn read(&self, from: Offset, max_bytes: usize) -> Result<Vec<LogBatch>, Malformed> {
        let disk = self.disk.borrow();
        assert!(from as usize >= disk.snapshot, "below the log");
        let mut batches = Vec::new();
        let mut at = from as usize;
        let mut left = max_bytes;
        while let Some((epoch, _)) = disk.entries.get(at) {
            // Batches of up to three records of one epoch.
            let of_epoch = disk.entries[at..].iter().take(3).take_while(|(other, _)| other == epoch).count();
            let bytes = encode(&disk.entries[at..at + of_epoch]);
            if !batches.is_empty() && bytes.len() > left {
                break;
            }
            left = left.saturating_sub(bytes.len());
            let (base_offset, end_offset) = (at as i64, (at + of_epoch) as i64);
            batches.push(LogBatch { epoch: *epoch, base_offset, end_offset, bytes });
            at += of_epoch;
        }
        Ok(batches)
    }

    fn truncate_to(&mut self, end: Offset) -> Result<(), Malformed> {
        let mut disk = self.disk.borrow_mut();
        assert!(end as usize >= disk.snapshot, "a snapshot is committed");
        disk.entries.truncate(end as usize);
        Ok(())
    }

    fn snapshot_bytes(&self) -> u64 {
        16 * self.disk.borrow().snapshot as u64
    }

    fn read_snapshot(&self, at: u64, max_bytes: usize) -> Result<Bytes, Malformed> {
        let disk = self.disk.borrow();
        let bytes = encode(&disk.entries[..disk.snapshot]);
        let end = bytes.len().min(at as usize + max_bytes);
        Ok(bytes.slice(at as usize..end))
    }

    fn install_snapshot(&mut self, bytes: &[u8]) -> Result<(), Malformed> {
        let entries = decode(bytes)?;
        let mut disk = self.disk.borrow_mut();
        disk.snapshot = entries.len();
        disk.entries = entries;
        Ok(())
    }
}
