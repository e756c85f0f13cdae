// SPDX-License-Identifier: Apache-2.0
//! The disk of a simulated broker: plain memory, or the real metadata log on a disk that lies.

use std::cell::RefCell;
use std::fmt;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use odradek_coordination::Holder;
use odradek_coordination::quorum::{LogBatch, LogPosition, Promise, QuorumStorage, StorageError, VoterSet, VoterSets};
use odradek_disk::{Disk, Outage, SimulatedDisk};
use odradek_metadata::records::TopicRecord;
use odradek_metadata::{Image, MetadataBatch, MetadataLog, Record};
use odradek_model::{ControllerEpoch, Offset};
use odradek_runtime::metadata_node::{QuorumLog, QuorumLogError};

use super::{MemoryDisk, MemoryStorage};

/// Where the metadata log is on its disk.
const FOLDER: &str = "/data/metadata";

/// What survives a process.
#[derive(Debug)]
pub(super) enum Store {
    Memory(Rc<RefCell<MemoryDisk>>),
    Log(SimulatedDisk),
}

/// What a process has of it.
#[derive(Debug)]
pub(super) enum Storage {
    Memory(MemoryStorage),
    Log(Box<LogStorage>),
}

/// What can fail.
#[derive(Debug)]
pub(super) struct StoreError {
    text: String,
    fatal: bool,
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl StorageError for StoreError {
    fn is_fatal(&self) -> bool {
        self.fatal
    }
}

impl From<QuorumLogError> for StoreError {
    fn from(error: QuorumLogError) -> Self {
        Self { text: error.to_string(), fatal: error.is_fatal() }
    }
}

fn never<T>(outcome: Result<T, super::memory_storage::Malformed>) -> Result<T, StoreError> {
    outcome.map_err(|error| StoreError { text: error.to_string(), fatal: false })
}

impl Store {
    pub(super) fn memory() -> Self {
        Self::Memory(Rc::default())
    }

    /// A formatted folder (rule 9).
    pub(super) fn log(seed: u64) -> Self {
        let disk = SimulatedDisk::new(seed);
        disk.create_dir_all(Path::new("/data")).expect("a folder");
        disk.sync_dir(Path::new("/")).expect("synced");
        MetadataLog::format(&disk, Path::new(FOLDER)).expect("formats");
        Self::Log(disk)
    }

    pub(super) fn open(&self) -> Storage {
        match self {
            Self::Memory(disk) => Storage::Memory(MemoryStorage::open(disk)),
            Self::Log(disk) => {
                let opened = MetadataLog::open(Arc::new(disk.clone()), Path::new(FOLDER));
                let (log, _, _) =
                    opened.unwrap_or_else(|error| panic!("a log within the budget does not open: {error}"));
                Storage::Log(Box::new(LogStorage::new(log)))
            }
        }
    }

    /// The process or the machine dies; the member must be gone.
    pub(super) fn outage(&self, outage: Outage) {
        if let Self::Log(disk) = self {
            disk.restart(outage);
        }
    }

    /// Lets the process die in the middle of one of its next calls.
    pub(super) fn crash_at(&self, call: u64) {
        if let Self::Log(disk) = self {
            disk.crash_at(Some(call));
        }
    }

    /// The voter sets on it, while no process has it open.
    pub(super) fn voter_sets(&self) -> VoterSets {
        self.open().voter_sets().clone()
    }

    pub(super) fn is_crashed(&self) -> bool {
        matches!(self, Self::Log(disk) if disk.is_crashed())
    }
}

impl Storage {
    /// Records up to the end are committed: the image takes them in.
    pub(super) fn committed(&mut self, end: Offset) {
        if let Self::Log(storage) = self {
            storage.apply(end);
        }
    }

    /// Puts what is committed into a snapshot.
    pub(super) fn compact(&mut self, committed: Offset) -> Result<(), StoreError> {
        match self {
            Self::Memory(memory) => memory.compact(committed),
            Self::Log(storage) => storage.log.write_snapshot(&storage.image)?,
        }
        Ok(())
    }

    /// What the records of a batch say, as numbers that differ if they do.
    pub(super) fn numbers(&self, from: Offset, end: Offset) -> Vec<u64> {
        let mut numbers = Vec::new();
        while from + (numbers.len() as Offset) < end {
            let batches = self.read(from + numbers.len() as Offset, 1 << 20).expect("what is committed can be read");
            assert!(!batches.is_empty(), "what is committed is there");
            for batch in batches {
                match self {
                    Self::Memory(_) => numbers.extend(MemoryStorage::numbers(&batch.bytes)),
                    Self::Log(_) => numbers.extend(records(&batch).iter().map(number)),
                }
            }
        }
        numbers.truncate((end - from) as usize);
        numbers
    }
}

fn records(batch: &LogBatch) -> Vec<Record> {
    let batch = MetadataBatch::parse(batch.bytes.clone()).expect("a batch");
    batch.records().expect("its records")
}

fn number(record: &Record) -> u64 {
    let mut bytes = Vec::new();
    record.encode(&mut bytes);
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3))
}

/// The broker's own storage of a member, with the image of what is committed, as a broker keeps it.
#[derive(Debug)]
pub(super) struct LogStorage {
    log: QuorumLog,
    image: Image,
}

impl LogStorage {
    fn new(log: MetadataLog) -> Self {
        let log = QuorumLog::new(log).expect("what was stored");
        let image = log.committed_image().expect("a snapshot");
        Self { log, image }
    }

    fn apply(&mut self, end: Offset) {
        if self.image.end_offset() < self.log.start().end {
            self.image = self.log.committed_image().expect("a snapshot");
        }
        self.log.apply(&mut self.image, end).expect("committed records fit");
    }
}

impl QuorumStorage for Storage {
    type Records = [u64];
    type Error = StoreError;

    fn position(&self) -> LogPosition {
        match self {
            Self::Memory(memory) => memory.position(),
            Self::Log(storage) => storage.log.position(),
        }
    }

    fn start(&self) -> LogPosition {
        match self {
            Self::Memory(memory) => memory.start(),
            Self::Log(storage) => storage.log.start(),
        }
    }

    fn epoch_end(&self, epoch: ControllerEpoch) -> LogPosition {
        match self {
            Self::Memory(memory) => memory.epoch_end(epoch),
            Self::Log(storage) => storage.log.epoch_end(epoch),
        }
    }

    fn promised(&self) -> &Promise {
        match self {
            Self::Memory(memory) => memory.promised(),
            Self::Log(storage) => storage.log.promised(),
        }
    }

    fn promise(&mut self, epoch: ControllerEpoch, holder: &Holder) -> Result<bool, StoreError> {
        match self {
            Self::Memory(memory) => never(memory.promise(epoch, holder)),
            Self::Log(storage) => Ok(storage.log.promise(epoch, holder)?),
        }
    }

    fn voter_sets(&self) -> &VoterSets {
        match self {
            Self::Memory(memory) => memory.voter_sets(),
            Self::Log(storage) => storage.log.voter_sets(),
        }
    }

    fn store_voter_sets(&mut self, sets: VoterSets) -> Result<(), StoreError> {
        match self {
            Self::Memory(memory) => never(memory.store_voter_sets(sets)),
            Self::Log(storage) => Ok(storage.log.store_voter_sets(sets)?),
        }
    }

    fn append(&mut self, epoch: ControllerEpoch, records: &[u64]) -> Result<(), StoreError> {
        match self {
            Self::Memory(memory) => never(memory.append(epoch, records)),
            Self::Log(storage) => {
                let topic = |number: &u64| {
                    let id = Bytes::copy_from_slice(&(u128::from(*number) + 1).to_be_bytes());
                    Record::from(TopicRecord { id, name: format!("topic-{number}"), ..TopicRecord::default() })
                };
                storage.log.append(epoch, &records.iter().map(topic).collect::<Vec<_>>())?;
                Ok(())
            }
        }
    }

    fn append_epoch_record(
        &mut self,
        epoch: ControllerEpoch,
        holder: &Holder,
        recovered_without: &VoterSet,
    ) -> Result<(), StoreError> {
        match self {
            Self::Memory(memory) => never(memory.append_epoch_record(epoch, holder, recovered_without)),
            Self::Log(storage) => Ok(storage.log.append_epoch_record(epoch, holder, recovered_without)?),
        }
    }

    fn append_batches(&mut self, batches: &[LogBatch]) -> Result<(), StoreError> {
        match self {
            Self::Memory(memory) => never(memory.append_batches(batches)),
            Self::Log(storage) => Ok(storage.log.append_batches(batches)?),
        }
    }

    fn read(&self, from: Offset, max_bytes: usize) -> Result<Vec<LogBatch>, StoreError> {
        match self {
            Self::Memory(memory) => never(memory.read(from, max_bytes)),
            Self::Log(storage) => Ok(storage.log.read(from, max_bytes)?),
        }
    }

    fn truncate_to(&mut self, end: Offset) -> Result<(), StoreError> {
        match self {
            Self::Memory(memory) => never(memory.truncate_to(end)),
            Self::Log(storage) => Ok(storage.log.truncate_to(end)?),
        }
    }

    fn snapshot_bytes(&self) -> u64 {
        match self {
            Self::Memory(memory) => memory.snapshot_bytes(),
            Self::Log(storage) => storage.log.snapshot_bytes(),
        }
    }

    fn read_snapshot(&self, at: u64, max_bytes: usize) -> Result<Bytes, StoreError> {
        match self {
            Self::Memory(memory) => never(memory.read_snapshot(at, max_bytes)),
            Self::Log(storage) => Ok(storage.log.read_snapshot(at, max_bytes)?),
        }
    }

    fn install_snapshot(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        match self {
            Self::Memory(memory) => never(memory.install_snapshot(bytes)),
            Self::Log(storage) => {
                storage.log.install_snapshot(bytes)?;
                storage.image = storage.log.committed_image()?;
                Ok(())
            }
        }
    }
}
