// SPDX-License-Identifier: Apache-2.0
//! One replica as requests meet it: the partition behind a lock, and what waits for it. It must not know requests.
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use odradek_model::{LeaderEpoch, Offset, Timestamp, TimestampType, TopicId, TopicName, TopicSettings};
use odradek_records::{Batches, ProduceError, ProduceRules, ValidatedBatch, validate_produced};
use tokio::sync::Notify;

use crate::metrics::TopicMetrics;

/// What was appended.
#[derive(Debug, Clone, Copy)]
pub struct Appended {
    pub base_offset: Offset,
    pub last_offset: Offset,
    /// Only with LogAppendTime.
    pub log_append_time: Option<Timestamp>,
    pub log_start_offset: Offset,
}

/// What was read.
#[derive(Debug, Clone)]
pub struct ReadPart {
    pub records: Bytes,
    pub high_watermark: Offset,
    pub last_stable_offset: Offset,
    pub log_start_offset: Offset,
}

#[derive(Debug, thiserror::Error)]
pub enum AppendFailure {
    #[error(transparent)]
    Refused(#[from] ProduceError),
    #[error("storage: {0}")]
    Storage(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ReadFailure {
    #[error("offset out of range")]
    OutOfRange,
    #[error("leader epoch is too old")]
    FencedEpoch,
    #[error("leader epoch is not known yet")]
    UnknownEpoch,
    #[error("storage")]
    Storage,
}

#[derive(Debug)]
pub struct Replica {
    pub topic: TopicName,
    pub topic_id: TopicId,
    pub partition: i32,
    pub settings: TopicSettings,
    pub metrics: TopicMetrics,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    batches: Vec<(Offset, Offset, Bytes)>,
    end: Offset,
    waiting: Vec<Arc<Notify>>,
}

impl Replica {
    pub fn open(topic: TopicName, topic_id: TopicId, partition: i32, settings: TopicSettings, metrics: TopicMetrics) -> Self {
        Self { topic, topic_id, partition, settings, metrics, state: Mutex::default() }
    }
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
    pub fn leader_epoch(&self) -> LeaderEpoch {
        0
    }
    pub fn check_epoch(&self, current: LeaderEpoch) -> Result<(), ReadFailure> {
        match current {
            -1 => Ok(()),
            e if e < self.leader_epoch() => Err(ReadFailure::FencedEpoch),
            e if e > self.leader_epoch() => Err(ReadFailure::UnknownEpoch),
            _ => Ok(()),
        }
    }
    pub fn produce(&self, records: &Bytes, version: i16, now_ms: Timestamp) -> Result<Appended, AppendFailure> {
        let batch = validate_produced(records, &ProduceRules::new(&self.settings, version), now_ms)?;
        self.append(batch, now_ms)
    }
    pub fn append(&self, mut batch: ValidatedBatch, now_ms: Timestamp) -> Result<Appended, AppendFailure> {
        let append_time = (self.settings.timestamp_type == TimestampType::LogAppendTime).then_some(now_ms);
        let mut state = self.lock();
        let base = state.end;
        batch.assign(base, 0, append_time);
        let last = batch.header().last_offset();
        state.batches.push((base, last, Bytes::from(batch.to_vec())));
        state.end = last + 1;
        let waiting = std::mem::take(&mut state.waiting);
        drop(state);
        for waiter in waiting {
            waiter.notify_one();
        }
        Ok(Appended { base_offset: base, last_offset: last, log_append_time: append_time, log_start_offset: 0 })
    }
    pub fn has_more(&self, offset: Offset) -> bool {
        offset != self.lock().end
    }
    pub fn wait(&self, notify: &Arc<Notify>) {
        self.lock().waiting.push(Arc::clone(notify));
    }
    pub fn stop_waiting(&self, notify: &Arc<Notify>) {
        self.lock().waiting.retain(|w| !Arc::ptr_eq(w, notify));
    }
    pub fn read(&self, offset: Offset, max_bytes: usize, at_least_one: bool) -> Result<ReadPart, ReadFailure> {
        let state = self.lock();
        if offset < 0 || offset > state.end {
            return Err(ReadFailure::OutOfRange);
        }
        let mut out = Vec::new();
        for (_, last, bytes) in &state.batches {
            if *last < offset {
                continue;
            }
            if !(out.is_empty() && at_least_one) && out.len() + bytes.len() > max_bytes {
                break;
            }
            out.extend_from_slice(bytes);
        }
        Ok(ReadPart {
            records: Bytes::from(out),
            high_watermark: state.end,
            last_stable_offset: state.end,
            log_start_offset: 0,
        })
    }
    pub fn end_offset(&self) -> Offset {
        self.lock().end
    }
    pub fn start_offset(&self) -> Offset {
        0
    }
    pub fn size_bytes(&self) -> u64 {
        self.lock().batches.iter().map(|b| b.2.len() as u64).sum()
    }
    /// (timestamp, offset, epoch)
    pub fn offset_for_time(&self, timestamp: Timestamp) -> Result<Option<(Timestamp, Offset, LeaderEpoch)>, ReadFailure> {
        for (_, _, bytes) in &self.lock().batches {
            for batch in Batches::new(bytes).flatten() {
                if batch.header.max_timestamp >= timestamp {
                    return Ok(Some((batch.header.max_timestamp, batch.header.base_offset, 0)));
                }
            }
        }
        Ok(None)
    }
    pub fn max_timestamp(&self) -> Result<Option<(Timestamp, Offset, LeaderEpoch)>, ReadFailure> {
        Ok(self.lock()
            .batches
            .iter()
            .flat_map(|b| Batches::new(&b.2).flatten())
            .map(|b| (b.header.max_timestamp, b.header.last_offset(), 0))
            .max_by_key(|b| b.0))
    }
    pub fn epoch_end(&self, epoch: LeaderEpoch) -> (LeaderEpoch, Offset) {
        match epoch {
            0 => (0, self.end_offset()),
            _ => (-1, -1),
        }
    }
}
