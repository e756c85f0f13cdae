// SPDX-License-Identifier: Apache-2.0
//! Reading a partition without holding it: a snapshot of its watermarks with the log's reading side. Cheap to take
//! under the partition's lock, used outside of it. Must not know waiting or writing.

use std::sync::Arc;

use bytes::Bytes;
use odradek_log::FileRegion;
use odradek_model::{LeaderEpoch, Offset, Timestamp};

use crate::error::{LeadershipError, ListOffsetsError, ReadError};
use crate::log_port::{ReplicaReader, TimedOffset};

/// How much a consumer may see (KIP-98).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Isolation {
    /// Everything committed to the replicas: up to the high watermark.
    ReadUncommitted,
    /// Nothing of an open transaction: up to the last stable offset.
    ReadCommitted,
}

/// What ListOffsets asks for (rule 32).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OffsetSpec {
    /// -1: the end that the isolation allows.
    Latest,
    /// -2: the log start.
    Earliest,
    /// -3: the record with the largest timestamp (KIP-734).
    MaxTimestamp,
    /// -4: the first offset on local disk (KIP-405); without tiering the log start.
    EarliestLocal,
    /// -5 or -6: offsets of tiered data; there is none.
    Tiered,
    /// 0 or above: the first record with this timestamp or a later one.
    AtTime(Timestamp),
}

/// What ListOffsets answers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ListedOffset {
    /// The record's timestamp; -1 where Kafka gives none.
    pub timestamp: Timestamp,
    /// The offset; -1 if there is none.
    pub offset: Offset,
    /// Leader epoch of the record; `None` if unknown.
    pub leader_epoch: Option<LeaderEpoch>,
}

impl ListedOffset {
    const NONE: Self = Self { timestamp: -1, offset: -1, leader_epoch: None };
}

impl From<TimedOffset> for ListedOffset {
    fn from(found: TimedOffset) -> Self {
        Self { timestamp: found.timestamp, offset: found.offset, leader_epoch: found.leader_epoch }
    }
}

/// What a fetch gets.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fetched {
    /// Whole batches; the first may begin below the offset asked for.
    pub records: Bytes,
    /// As of the snapshot.
    pub high_watermark: Offset,
    /// As of the snapshot.
    pub last_stable_offset: Offset,
    /// As of the read.
    pub log_start_offset: Offset,
}

/// A replica's watermarks at one moment and its log's reading side.
#[derive(Clone, Debug)]
pub struct PartitionView {
    pub(crate) reader: Arc<dyn ReplicaReader>,
    pub(crate) leader_epoch: LeaderEpoch,
    pub(crate) epoch_start_offset: Offset,
    pub(crate) log_start_epoch: Option<LeaderEpoch>,
    pub(crate) high_watermark: Offset,
    pub(crate) last_stable_offset: Offset,
    pub(crate) log_end_offset: Offset,
}

impl PartitionView {
    /// The leader epoch of the snapshot.
    pub fn leader_epoch(&self) -> LeaderEpoch {
        self.leader_epoch
    }

    /// The offset below which everything is committed.
    pub fn high_watermark(&self) -> Offset {
        self.high_watermark
    }

    /// The offset below which no transaction is open. The high watermark until there are transactions.
    pub fn last_stable_offset(&self) -> Offset {
        self.last_stable_offset
    }

    /// The offset after the last record, committed or not.
    pub fn log_end_offset(&self) -> Offset {
        self.log_end_offset
    }

    /// First offset that can be read, now.
    pub fn log_start_offset(&self) -> Offset {
        self.reader.log_start_offset()
    }

    /// The end that a consumer may see.
    pub fn visible_end(&self, isolation: Isolation) -> Offset {
        match isolation {
            Isolation::ReadUncommitted => self.high_watermark,
            Isolation::ReadCommitted => self.last_stable_offset,
        }
    }

    /// Checks the leader epoch that a request names; `None` checks nothing.
    pub fn check_epoch(&self, requested: Option<LeaderEpoch>) -> Result<(), LeadershipError> {
        check_epoch(self.leader_epoch, requested)
    }

    /// Whether [`Self::read`] from `offset` may have to wait for the disk: it belongs on a thread that may block then.
    pub fn may_block(&self, offset: Offset, isolation: Isolation) -> bool {
        offset < self.visible_end(isolation) && !self.reader.is_hot(offset)
    }

    /// As [`Self::may_block`], for [`Self::read_for_follower`].
    pub fn may_block_for_follower(&self, offset: Offset) -> bool {
        offset < self.log_end_offset && !self.reader.is_hot(offset)
    }

    /// Batches from `offset` up to what the isolation allows, at most `max_bytes` but the first batch always if
    /// `first_batch_always`. Between the visible and the log's end there is nothing, without an error (rule 23).
    pub fn read(
        &self,
        offset: Offset,
        max_bytes: usize,
        isolation: Isolation,
        first_batch_always: bool,
    ) -> Result<Fetched, ReadError> {
        let start = self.log_start_offset();
        if offset < start || offset > self.log_end_offset {
            return Err(ReadError::OffsetOutOfRange { offset, start, end: self.log_end_offset });
        }
        let up_to = self.visible_end(isolation);
        let records = if offset < up_to && (max_bytes > 0 || first_batch_always) {
            self.reader.read(offset, up_to, max_bytes, first_batch_always)?
        } else {
            Bytes::new()
        };
        Ok(Fetched {
            records,
            high_watermark: self.high_watermark,
            last_stable_offset: self.last_stable_offset,
            log_start_offset: start,
        })
    }

    /// Where what [`Self::read`] would give lies, if it is `least` bytes or more and can be sent from there without
    /// waiting for the disk. `None` in any doubt, errors among them: [`Self::read`] tells.
    pub fn locate(&self, offset: Offset, max_bytes: usize, isolation: Isolation, least: usize) -> Option<FileRegion> {
        self.reader.locate(offset, self.visible_end(isolation), max_bytes, least)
    }

    /// Batches from `offset` up to the log's end, committed or not, for a follower whose fetch was found good
    /// ([`crate::Partition::follower_fetch`]).
    pub fn read_for_follower(
        &self,
        offset: Offset,
        max_bytes: usize,
        first_batch_always: bool,
    ) -> Result<Fetched, ReadError> {
        let log_start_offset = self.log_start_offset();
        let records = if offset < self.log_end_offset && (max_bytes > 0 || first_batch_always) {
            self.reader.read(offset, self.log_end_offset, max_bytes, first_batch_always)?
        } else {
            Bytes::new()
        };
        let (high_watermark, last_stable_offset) = (self.high_watermark, self.last_stable_offset);
        Ok(Fetched { records, high_watermark, last_stable_offset, log_start_offset })
    }

    /// Looks an offset up (rule 32). May block on the disk for times.
    pub fn list_offset(&self, spec: OffsetSpec, isolation: Isolation) -> Result<ListedOffset, ListOffsetsError> {
        let up_to = self.visible_end(isolation);
        match spec {
            OffsetSpec::Earliest | OffsetSpec::EarliestLocal => {
                let offset = self.log_start_offset();
                Ok(ListedOffset { timestamp: -1, offset, leader_epoch: self.log_start_epoch })
            }
            OffsetSpec::Tiered => Ok(ListedOffset::NONE),
            OffsetSpec::Latest => {
                self.check_committed()?;
                Ok(ListedOffset { timestamp: -1, offset: up_to, leader_epoch: Some(self.leader_epoch) })
            }
            OffsetSpec::MaxTimestamp => {
                self.check_committed()?;
                Ok(self.reader.max_timestamp(up_to)?.map_or(ListedOffset::NONE, ListedOffset::from))
            }
            OffsetSpec::AtTime(timestamp) => {
                self.check_committed()?;
                Ok(self.reader.offset_for_time(timestamp, up_to)?.map_or(ListedOffset::NONE, ListedOffset::from))
            }
        }
    }

    fn check_committed(&self) -> Result<(), ListOffsetsError> {
        if self.high_watermark < self.epoch_start_offset { Err(ListOffsetsError::NotAvailable) } else { Ok(()) }
    }
}

/// Rule 27.
pub(crate) fn check_epoch(current: LeaderEpoch, requested: Option<LeaderEpoch>) -> Result<(), LeadershipError> {
    match requested {
        Some(requested) if requested < current => Err(LeadershipError::Fenced { requested, current }),
        Some(requested) if requested > current => Err(LeadershipError::Unknown { requested, current }),
        _ => Ok(()),
    }
}
