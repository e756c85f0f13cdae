// SPDX-License-Identifier: Apache-2.0
//! A replica over a log in memory: appends, watermarks, waits, epochs, reads, and the cost of many waits.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use odradek_model::{
    BrokerId, LeaderEpoch, Offset, Timestamp, TopicId, TopicIdPartition, TopicName, TopicPartition, TopicSettings,
};
use odradek_partition::{
    Acks, AppendError, AppendRefusal, Effect, FlushDone, FlushJob, Isolation, Leadership, LeadershipError,
    ListOffsetsError, LocalBroker, LogAppended, LogReadError, MonotonicTime, OffsetSpec, Partition, PartitionSettings,
    ProduceOutcome, ProduceWait, ReadError, ReplicaLog, ReplicaReader, ReplicateRefusal, StorageError, TimedOffset,
    WaitToken, Waiting,
};
use odradek_records::{BatchBuilder, BatchHeader, BatchOptions, Batches, ValidatedBatch};
use proptest::prelude::*;

const NOW: Timestamp = 1_700_000_000_000;
const START: MonotonicTime = MonotonicTime(0);

#[derive(Debug, Default)]
struct State {
    start: Offset,
    batches: Vec<(BatchHeader, Vec<u8>)>,
    epochs: Vec<(LeaderEpoch, Offset)>,
    flushed: Offset,
    fail: bool,
    sealed: bool,
}

impl State {
    fn end(&self) -> Offset {
        self.batches.last().map_or(self.start, |(header, _)| header.next_offset())
    }
}

#[derive(Clone, Debug, Default)]
struct MemoryLog(Arc<Mutex<State>>);

impl MemoryLog {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().expect("no test panics with it")
    }
}

fn failure() -> StorageError {
    StorageError { no_space: true, message: "disk full".into() }
}

impl ReplicaLog for MemoryLog {
    fn append(
        &mut self,
        mut batch: ValidatedBatch,
        leader_epoch: LeaderEpoch,
        _now_ms: Timestamp,
    ) -> Result<LogAppended, AppendRefusal> {
        let mut state = self.state();
        if state.fail {
            return Err(failure().into());
        }
        let header = *batch.header();
        let repeated = |(stored, _): &&(BatchHeader, Vec<u8>)| {
            header.has_producer_id()
                && stored.producer_id == header.producer_id
                && stored.base_sequence == header.base_sequence
        };
        if let Some((stored, _)) = state.batches.iter().find(repeated) {
            let (base_offset, last_offset) = (stored.base_offset, stored.last_offset());
            return Ok(LogAppended { base_offset, last_offset, log_append_time_ms: None, duplicate: true });
        }
        batch.assign(state.end(), leader_epoch, None);
        let header = *batch.header();
        state.batches.push((header, batch.to_vec()));
        let (base_offset, last_offset) = (header.base_offset, header.last_offset());
        Ok(LogAppended { base_offset, last_offset, log_append_time_ms: None, duplicate: false })
    }

    fn append_replicated(&mut self, _batches: &[u8], _now_ms: Timestamp) -> Result<Offset, ReplicateRefusal> {
        unreachable!("these replicas follow nobody")
    }

    fn truncate_to(&mut self, _offset: Offset, _now_ms: Timestamp) -> Result<Offset, StorageError> {
        unreachable!("these replicas follow nobody")
    }

    fn truncate_fully(&mut self, _offset: Offset, _now_ms: Timestamp) -> Result<(), StorageError> {
        unreachable!("these replicas follow nobody")
    }

    fn log_start_offset(&self) -> Offset {
        self.state().start
    }

    fn log_end_offset(&self) -> Offset {
        self.state().end()
    }

    fn assign_epoch(&mut self, epoch: LeaderEpoch, start_offset: Offset) -> Result<(), StorageError> {
        let mut state = self.state();
        if state.fail {
            return Err(failure());
        }
        if state.epochs.last().is_none_or(|(last, _)| *last < epoch) {
            state.epochs.push((epoch, start_offset));
        }
        Ok(())
    }

    fn epoch_end(&self, epoch: LeaderEpoch) -> Option<(LeaderEpoch, Offset)> {
        let state = self.state();
        let next = state.epochs.iter().position(|(known, _)| *known > epoch);
        match next {
            None if state.epochs.last().is_some_and(|(last, _)| *last == epoch) => Some((epoch, state.end())),
            None => None,
            Some(0) => Some((epoch, state.epochs[0].1)),
            Some(next) => Some((state.epochs[next - 1].0, state.epochs[next].1)),
        }
    }

    fn epoch_at(&self, offset: Offset) -> Option<LeaderEpoch> {
        self.state().epochs.iter().rev().find(|(_, start)| *start <= offset).map(|(epoch, _)| *epoch)
    }

    fn recovery_point(&self) -> Offset {
        self.state().flushed
    }

    fn set_settings(&mut self, _settings: &TopicSettings) {}

    fn has_failed(&self) -> bool {
        false
    }

    fn has_sealed_unflushed(&self) -> bool {
        self.state().sealed
    }

    fn reader(&self) -> Arc<dyn ReplicaReader> {
        Arc::new(self.clone())
    }

    fn flush_job(&mut self) -> Option<FlushJob> {
        let through = self.state().end();
        let log = self.clone();
        let run = move || {
            let state = log.state();
            if state.fail {
                return Err(failure());
            }
            Ok(FlushDone { through, receipt: Box::new(through) })
        };
        Some(FlushJob { through, run: Box::new(run) })
    }

    fn flushed(&mut self, done: FlushDone) {
        let mut state = self.state();
        state.sealed = false;
        state.flushed = *done.receipt.downcast::<Offset>().expect("our own receipt");
    }

    fn advance_log_start(&mut self, offset: Offset) -> Result<(), StorageError> {
        self.state().start = offset;
        Ok(())
    }

    fn maintain(&mut self, _high_watermark: Offset, _now_ms: Timestamp) -> Result<bool, StorageError> {
        Ok(false)
    }

    fn size_bytes(&self) -> u64 {
        self.state().batches.iter().map(|(_, bytes)| bytes.len() as u64).sum()
    }

    fn close(&mut self) -> Result<(), StorageError> {
        Ok(())
    }
}

impl ReplicaReader for MemoryLog {
    fn is_hot(&self, _from: Offset) -> bool {
        true
    }

    fn log_start_offset(&self) -> Offset {
        self.state().start
    }

    fn read(&self, from: Offset, up_to: Offset, max_bytes: usize, first: bool) -> Result<Bytes, LogReadError> {
        let mut out = Vec::new();
        for (header, bytes) in &self.state().batches {
            if header.next_offset() <= from {
                continue;
            }
            let fits = out.len() + bytes.len() <= max_bytes || (out.is_empty() && first);
            if header.next_offset() > up_to || !fits {
                break;
            }
            out.extend_from_slice(bytes);
        }
        Ok(out.into())
    }

    fn offset_for_time(&self, timestamp: Timestamp, up_to: Offset) -> Result<Option<TimedOffset>, LogReadError> {
        let state = self.state();
        let found = state.batches.iter().find(|(header, _)| header.max_timestamp >= timestamp);
        Ok(found.filter(|(header, _)| header.base_offset < up_to).map(|(header, _)| timed(header)))
    }

    fn max_timestamp(&self, up_to: Offset) -> Result<Option<TimedOffset>, LogReadError> {
        let state = self.state();
        let below = state.batches.iter().filter(|(header, _)| header.base_offset < up_to);
        Ok(below.max_by_key(|(header, _)| header.max_timestamp).map(|(header, _)| timed(header)))
    }
}

fn timed(header: &BatchHeader) -> TimedOffset {
    let (timestamp, offset) = (header.max_timestamp, header.base_offset);
    TimedOffset { timestamp, offset, leader_epoch: Some(header.partition_leader_epoch) }
}

fn batch(records: usize, timestamp: Timestamp) -> ValidatedBatch {
    let mut builder = BatchBuilder::new(BatchOptions::default());
    for _ in 0..records {
        builder.append(timestamp, None, Some(b"value"), &[]);
    }
    builder.build_validated()
}

fn leadership(leader_epoch: LeaderEpoch, partition_epoch: i32, replicas: i32, in_sync: i32) -> Leadership {
    Leadership {
        leader_epoch,
        partition_epoch,
        replicas: (0..replicas).map(BrokerId).collect(),
        in_sync: (0..in_sync).map(BrokerId).collect(),
    }
}

fn id() -> TopicIdPartition {
    let topic = TopicName::new("orders").expect("a name");
    TopicIdPartition { id: TopicId::ZERO, topic_partition: TopicPartition { topic, partition: 3 } }
}

const PLAIN: PartitionSettings = PartitionSettings { min_insync_replicas: 1, flush_messages: None };

fn leading(settings: PartitionSettings) -> (Partition, MemoryLog) {
    let log = MemoryLog::default();
    let mut partition = Partition::new(id(), LocalBroker::alone(BrokerId(0)), settings, Box::new(log.clone()), 0);
    partition.lead(leadership(5, 1, 1, 1), START).expect("leads");
    (partition, log)
}

fn append(partition: &mut Partition, records: usize) -> Vec<Effect> {
    partition.append(batch(records, NOW), Acks::All, None, NOW).expect("appended").1
}

const READ: Isolation = Isolation::ReadUncommitted;

#[test]
fn one_replica_commits_what_it_appends() {
    let (mut partition, _) = leading(PLAIN);
    let (appended, effects) = partition.append(batch(3, NOW), Acks::All, Some(5), NOW).expect("appended");
    assert_eq!((appended.base_offset, appended.last_offset, appended.required_offset), (0, 2, 3));
    assert!(effects.is_empty());
    assert_eq!((partition.high_watermark(), partition.log_end_offset()), (3, 3));
    let wait = partition.wait_produce(WaitToken(1), appended.required_offset);
    assert_eq!(wait, Ok(ProduceWait::Done(ProduceOutcome::Committed)));
    let fetched = partition.view(Some(5)).expect("leads").read(1, 10_000, READ, true).expect("read");
    assert_eq!(Batches::new(&fetched.records).flatten().map(|batch| batch.header.base_offset).collect::<Vec<_>>(), [0]);
    assert_eq!((fetched.high_watermark, fetched.last_stable_offset, fetched.log_start_offset), (3, 3, 0));
}

#[test]
fn epochs_are_compared_and_only_leaders_serve() {
    let log = MemoryLog::default();
    let mut partition = Partition::new(id(), LocalBroker::alone(BrokerId(0)), PLAIN, Box::new(log.clone()), 0);
    assert!(matches!(partition.view(None), Err(LeadershipError::NotLeader)));
    partition.lead(leadership(5, 1, 1, 1), START).expect("leads");
    assert_eq!(partition.view(Some(4)).err(), Some(LeadershipError::Fenced { requested: 4, current: 5 }));
    assert_eq!(partition.view(Some(6)).err(), Some(LeadershipError::Unknown { requested: 6, current: 5 }));
    let refused = partition.append(batch(1, NOW), Acks::Leader, Some(4), NOW).expect_err("fenced");
    assert!(matches!(refused, AppendError::Leadership(LeadershipError::Fenced { .. })));
    append(&mut partition, 2);
    partition.lead(leadership(7, 2, 1, 1), START).expect("leads");
    append(&mut partition, 2);
    assert_eq!(log.state().epochs, [(5, 0), (7, 2)]);
    assert_eq!(partition.epoch_end(5, Some(7)), Ok(Some((5, 2))));
    assert_eq!(partition.epoch_end(6, None), Ok(Some((5, 2))));
    assert_eq!(partition.epoch_end(7, None), Ok(Some((7, 4))));
    assert_eq!(partition.epoch_end(8, None), Ok(None));
    assert_eq!(partition.epoch_end(-1, None), Ok(None));
    // Late news of an earlier decision changes nothing; the same epoch with another ISR is not a new reign.
    partition.lead(leadership(6, 9, 1, 1), START).expect("ignored");
    assert_eq!(partition.leadership().map(|leadership| leadership.leader_epoch), Some(7));
    partition.lead(leadership(7, 3, 2, 1), START).expect("leads on");
    assert_eq!(log.state().epochs.len(), 2);
    partition.resign();
    assert!(matches!(partition.view(Some(7)), Err(LeadershipError::NotLeader)));
}

#[test]
fn an_epoch_that_cannot_be_stored_is_not_begun() {
    let log = MemoryLog::default();
    log.state().fail = true;
    let mut partition = Partition::new(id(), LocalBroker::alone(BrokerId(0)), PLAIN, Box::new(log), 0);
    assert!(partition.lead(leadership(5, 1, 1, 1), START).expect_err("disk full").no_space);
    assert!(matches!(partition.view(None), Err(LeadershipError::NotLeader)));
}

#[test]
fn too_few_in_sync_replicas_refuse_and_freeze() {
    let settings = PartitionSettings { min_insync_replicas: 2, flush_messages: None };
    // With one replica the effective minimum is one.
    let (mut partition, _) = leading(settings);
    append(&mut partition, 1);
    assert_eq!(partition.high_watermark(), 1);
    // With two replicas of which one is in sync, acks=all is refused and acks=1 stays invisible (rule 13).
    partition.lead(leadership(5, 2, 2, 1), START).expect("leads on");
    assert!(partition.is_under_min_in_sync());
    let refused = partition.append(batch(1, NOW), Acks::All, None, NOW).expect_err("refused");
    assert!(matches!(refused, AppendError::NotEnoughReplicas { in_sync: 1, required: 2 }));
    partition.append(batch(1, NOW), Acks::Leader, None, NOW).expect("acks=1 is taken");
    assert_eq!((partition.high_watermark(), partition.log_end_offset()), (1, 2));
    assert_eq!(partition.wait_fetch(WaitToken(1), 1, 1, 1, READ), Ok(Waiting::Registered));
    let effects = partition.update_settings(&TopicSettings::default());
    assert_eq!(effects, [Effect::WakeFetch(WaitToken(1))]);
    assert_eq!(partition.high_watermark(), 2);
}

#[test]
fn flush_after_every_record_acknowledges_only_what_is_forced() {
    let (mut partition, log) = leading(PartitionSettings { min_insync_replicas: 1, flush_messages: Some(1) });
    assert_eq!(append(&mut partition, 2), [Effect::Flush]);
    assert_eq!(partition.high_watermark(), 0);
    assert_eq!(partition.wait_produce(WaitToken(1), 2), Ok(ProduceWait::Registered));
    let first = partition.flush_job().expect("something to force");
    assert!(partition.flush_job().is_none(), "one at a time");
    // Group commit: what comes while a sync runs waits for the next one.
    assert_eq!(append(&mut partition, 3), []);
    assert_eq!(partition.wait_produce(WaitToken(2), 5), Ok(ProduceWait::Registered));
    assert_eq!(first.through, 2);
    let result = (first.run)();
    let committed = |token| Effect::WakeProduce { token: WaitToken(token), outcome: ProduceOutcome::Committed };
    assert_eq!(partition.flushed(result), [Effect::Flush, committed(1)]);
    assert_eq!((partition.high_watermark(), log.state().flushed), (2, 2));
    let second = partition.flush_job().expect("something to force");
    let result = (second.run)();
    assert_eq!(partition.flushed(result), [committed(2)]);
    assert_eq!(partition.high_watermark(), 5);
}

#[test]
fn flush_after_some_records_is_asked_for_but_not_waited_for() {
    let (mut partition, _) = leading(PartitionSettings { min_insync_replicas: 1, flush_messages: Some(3) });
    assert_eq!(append(&mut partition, 2), []);
    assert_eq!(append(&mut partition, 1), [Effect::Flush]);
    assert_eq!(partition.high_watermark(), 3);
    let job = partition.flush_job().expect("something to force");
    let result = (job.run)();
    assert_eq!(partition.flushed(result), []);
    assert_eq!(append(&mut partition, 2), []);
}

#[test]
fn closed_segments_are_forced_in_the_background() {
    let (mut partition, log) = leading(PLAIN);
    assert_eq!(append(&mut partition, 1), []);
    log.state().sealed = true;
    assert_eq!(append(&mut partition, 1), [Effect::Flush]);
    let job = partition.flush_job().expect("something to force");
    assert_eq!(append(&mut partition, 1), [], "one at a time");
    assert_eq!(partition.flushed((job.run)()), []);
    assert_eq!((partition.high_watermark(), partition.recovery_point()), (3, 2));
}

#[test]
fn a_failed_sync_closes_the_partition() {
    let (mut partition, log) = leading(PartitionSettings { min_insync_replicas: 1, flush_messages: Some(1) });
    append(&mut partition, 1);
    assert_eq!(partition.wait_produce(WaitToken(1), 1), Ok(ProduceWait::Registered));
    assert_eq!(partition.wait_fetch(WaitToken(2), 0, 0, 1, READ), Ok(Waiting::Registered));
    let job = partition.flush_job().expect("something to force");
    log.state().fail = true;
    let result = (job.run)();
    let outcome = ProduceOutcome::StorageFailed;
    let expected = [Effect::WakeFetch(WaitToken(2)), Effect::WakeProduce { token: WaitToken(1), outcome }];
    assert_eq!(partition.flushed(result), expected);
    assert_eq!(partition.high_watermark(), 0);
    assert_eq!(partition.wait_produce(WaitToken(3), 1), Ok(ProduceWait::Done(outcome)));
    assert!(matches!(partition.view(None), Err(LeadershipError::Closed)));
    assert!(partition.flush_job().is_none(), "a failed sync is not tried again");
}

#[test]
fn a_refused_append_changes_nothing() {
    let (mut partition, log) = leading(PLAIN);
    append(&mut partition, 1);
    log.state().fail = true;
    let refused = partition.append(batch(1, NOW), Acks::All, None, NOW).expect_err("disk full");
    assert!(matches!(refused, AppendError::Log(AppendRefusal::Storage(StorageError { no_space: true, .. }))));
    assert_eq!((partition.high_watermark(), partition.log_end_offset()), (1, 1));
}

#[test]
fn a_repeated_batch_gets_its_first_offsets() {
    let (mut partition, _) = leading(PLAIN);
    let options = BatchOptions { producer_id: 1, producer_epoch: 0, base_sequence: 0, ..BatchOptions::default() };
    let build = || {
        let mut builder = BatchBuilder::new(options);
        builder.append(NOW, None, None, &[]).append(NOW, None, None, &[]);
        builder.build_validated()
    };
    let (first, _) = partition.append(build(), Acks::All, None, NOW).expect("appended");
    append(&mut partition, 4);
    let (again, effects) = partition.append(build(), Acks::All, None, NOW).expect("known");
    assert!(again.duplicate && !first.duplicate && effects.is_empty());
    assert_eq!((again.base_offset, again.last_offset, again.required_offset), (0, 1, 2));
    assert_eq!(partition.log_end_offset(), 6);
}

#[test]
fn reads_stay_within_the_log() {
    let (mut partition, _) = leading(PLAIN);
    for _ in 0..5 {
        append(&mut partition, 2);
    }
    partition.advance_log_start(4).expect("committed");
    partition.advance_log_start(11).expect("ignored: not committed");
    let view = partition.view(None).expect("leads");
    let out_of_range = |offset| ReadError::OffsetOutOfRange { offset, start: 4, end: 10 };
    for offset in [-1, 0, 3, 11] {
        let error = view.read(offset, 1_000, READ, true).expect_err("out of range");
        assert_eq!(error.to_string(), out_of_range(offset).to_string());
    }
    assert!(view.read(10, 1_000, READ, true).expect("the end").records.is_empty());
    let one = view.read(5, 1, READ, true).expect("one batch");
    assert_eq!(Batches::new(&one.records).flatten().map(|batch| batch.header.base_offset).collect::<Vec<_>>(), [4]);
    assert!(view.read(5, 1, READ, false).expect("none fits").records.is_empty());
    assert_eq!(one.log_start_offset, 4);
}

#[test]
fn offsets_are_listed_by_rule_32() {
    let (mut partition, _) = leading(PLAIN);
    for (records, timestamp) in [(1, NOW), (2, NOW + 50), (1, NOW + 20)] {
        partition.append(batch(records, timestamp), Acks::All, None, NOW).expect("appended");
    }
    partition.advance_log_start(1).expect("committed");
    let view = partition.view(None).expect("leads");
    let list = |spec| {
        let listed = view.list_offset(spec, READ).expect("listed");
        (listed.offset, listed.timestamp, listed.leader_epoch)
    };
    assert_eq!(list(OffsetSpec::Latest), (4, -1, Some(5)));
    assert_eq!(list(OffsetSpec::Earliest), (1, -1, Some(5)));
    assert_eq!(list(OffsetSpec::EarliestLocal), (1, -1, Some(5)));
    assert_eq!(list(OffsetSpec::Tiered), (-1, -1, None));
    assert_eq!(list(OffsetSpec::MaxTimestamp), (1, NOW + 50, Some(5)));
    assert_eq!(list(OffsetSpec::AtTime(NOW + 1)), (1, NOW + 50, Some(5)));
    assert_eq!(list(OffsetSpec::AtTime(NOW + 51)), (-1, -1, None));
}

#[test]
fn a_new_leader_says_the_end_is_not_available_until_its_log_is_committed() {
    let log = MemoryLog::default();
    let settings = PartitionSettings { min_insync_replicas: 2, flush_messages: None };
    let mut partition = Partition::new(id(), LocalBroker::alone(BrokerId(0)), settings, Box::new(log), 0);
    partition.lead(leadership(1, 1, 2, 1), START).expect("leads");
    partition.append(batch(3, NOW), Acks::Leader, None, NOW).expect("acks=1");
    partition.lead(leadership(2, 2, 2, 1), START).expect("leads");
    let view = partition.view(None).expect("leads");
    assert!(matches!(view.list_offset(OffsetSpec::Latest, READ), Err(ListOffsetsError::NotAvailable)));
    assert!(matches!(view.list_offset(OffsetSpec::AtTime(1), READ), Err(ListOffsetsError::NotAvailable)));
    assert_eq!(view.list_offset(OffsetSpec::Earliest, READ).expect("known").offset, 0);
    assert!(view.read(1, 1_000, READ, true).expect("nothing visible").records.is_empty());
}

#[test]
fn nothing_is_lost_between_a_look_and_a_wait() {
    let (mut partition, _) = leading(PLAIN);
    let seen = partition.view(None).expect("leads").visible_end(READ);
    append(&mut partition, 1);
    assert_eq!(partition.wait_fetch(WaitToken(1), 0, seen, 1, READ), Ok(Waiting::Ready));
    assert_eq!(partition.wait_fetch(WaitToken(1), 0, seen, 1_000, READ), Ok(Waiting::Ready));
    assert_eq!(partition.wait_fetch(WaitToken(1), 1, 1, 1, READ), Ok(Waiting::Registered));
    assert_eq!(append(&mut partition, 1), [Effect::WakeFetch(WaitToken(1))]);
    assert!(!partition.cancel(WaitToken(1)));
}

#[test]
fn fetches_wait_for_as_many_bytes_as_they_want() {
    let (mut partition, _) = leading(PLAIN);
    let size = batch(1, NOW).size_bytes() as u64;
    assert_eq!(partition.wait_fetch(WaitToken(1), 0, 0, 2 * size + 1, READ), Ok(Waiting::Registered));
    assert_eq!(partition.wait_fetch(WaitToken(2), 0, 0, 2 * size, READ), Ok(Waiting::Registered));
    assert_eq!(append(&mut partition, 1), []);
    assert_eq!(append(&mut partition, 1), [Effect::WakeFetch(WaitToken(2))]);
    assert_eq!(append(&mut partition, 1), [Effect::WakeFetch(WaitToken(1))]);
}

#[test]
fn closing_wakes_everyone_and_takes_nothing_more() {
    let (mut partition, _) = leading(PartitionSettings { min_insync_replicas: 1, flush_messages: Some(1) });
    append(&mut partition, 1);
    partition.wait_fetch(WaitToken(1), 0, 0, 1, READ).expect("room");
    partition.wait_fetch(WaitToken(2), 0, 0, 500, READ).expect("room");
    partition.wait_produce(WaitToken(3), 1).expect("room");
    let outcome = ProduceOutcome::NotLeader;
    let expected = [
        Effect::WakeFetch(WaitToken(1)),
        Effect::WakeFetch(WaitToken(2)),
        Effect::WakeProduce { token: WaitToken(3), outcome },
    ];
    assert_eq!(partition.close(), expected);
    assert_eq!(partition.waiting(), 0);
    assert_eq!(partition.wait_fetch(WaitToken(4), 0, 0, 1, READ), Ok(Waiting::Ready));
    assert_eq!(partition.wait_produce(WaitToken(5), 1), Ok(ProduceWait::Done(outcome)));
    assert!(matches!(
        partition.append(batch(1, NOW), Acks::All, None, NOW),
        Err(AppendError::Leadership(LeadershipError::Closed))
    ));
    assert!(partition.lead(leadership(9, 9, 1, 1), START).expect("ignored").is_empty());
    partition.close_log().expect("closed");
}

#[test]
fn a_closed_partition_removes_nothing() {
    let (mut partition, _) = leading(PLAIN);
    append(&mut partition, 5);
    partition.close();
    partition.advance_log_start(3).expect("ignored: the folder may be another topic's");
    assert!(!partition.maintain(NOW).expect("ignored"));
    assert_eq!(partition.log_start_offset(), 0);
}

#[test]
fn a_running_sync_is_known_until_its_end_is_reported() {
    let (mut partition, _) = leading(PartitionSettings { min_insync_replicas: 1, flush_messages: Some(1) });
    append(&mut partition, 1);
    let job = partition.flush_job().expect("something to force");
    partition.close();
    assert!(partition.is_flushing() && partition.flush_job().is_none());
    partition.flushed((job.run)());
    assert!(!partition.is_flushing());
    partition.close_log().expect("closed");
}

/// The share of a core that waits cost is what an append costs with them beside what it costs without.
#[test]
fn a_thousand_waiting_fetches_cost_an_append_nothing() {
    let steps = |waits: u64| {
        let (mut partition, _) = leading(PLAIN);
        for token in 0..waits {
            // They want far more bytes than will come: none is ever due.
            partition.wait_fetch(WaitToken(token), 0, 0, 1 << 40, READ).expect("room");
        }
        #[allow(clippy::disallowed_methods, reason = "a measurement")]
        let start = std::time::Instant::now();
        for _ in 0..2_000 {
            assert!(append(&mut partition, 1).is_empty());
        }
        start.elapsed()
    };
    steps(0);
    let (without, with) = (steps(0), steps(1_000));
    // A search over all of them would be 2,000,000 steps more; the bound is wide for a busy machine.
    assert!(with < without * 5 + std::time::Duration::from_millis(20), "{without:?} without, {with:?} with");
}

#[derive(Clone, Debug)]
enum Step {
    Append { records: usize },
    Fetch { back: i64, wanted: u64, stale: bool },
    Produce { back: i64 },
    Flush,
    Cancel(prop::sample::Index),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (1..4usize).prop_map(|records| Step::Append { records }),
        (0..4i64, 0..600u64, any::<bool>()).prop_map(|(back, wanted, stale)| Step::Fetch { back, wanted, stale }),
        (0..3i64).prop_map(|back| Step::Produce { back }),
        Just(Step::Flush),
        any::<prop::sample::Index>().prop_map(Step::Cancel),
    ]
}

proptest! {
    /// Whoever is registered is woken exactly when the high watermark serves it, whatever happens in between.
    #[test]
    fn wake_ups_are_neither_lost_nor_early(
        steps in proptest::collection::vec(step(), 1..80),
        flush in prop_oneof![Just(None), Just(Some(1)), Just(Some(4))],
    ) {
        let (mut partition, log) = leading(PartitionSettings { min_insync_replicas: 1, flush_messages: flush });
        let mut produces: Vec<(WaitToken, Offset)> = Vec::new();
        let mut fetches: Vec<(WaitToken, Offset, u64)> = Vec::new();
        let mut seen_before = 0;
        let mut flush_due = false;
        for (number, step) in steps.into_iter().enumerate() {
            let token = WaitToken(number as u64);
            let before = partition.high_watermark();
            let mut effects = Vec::new();
            match step {
                Step::Append { records } => effects = append(&mut partition, records),
                Step::Flush => {
                    if let Some(job) = partition.flush_job() {
                        let result = (job.run)();
                        flush_due = false;
                        effects = partition.flushed(result);
                    }
                }
                Step::Fetch { back, wanted, stale } => {
                    let seen = if stale { seen_before } else { before };
                    let offset = (partition.log_end_offset() - back).max(0);
                    match partition.wait_fetch(token, offset, seen, wanted, READ).expect("room") {
                        Waiting::Ready => prop_assert!(before > seen.max(offset)),
                        Waiting::Registered => {
                            prop_assert!(before <= seen.max(offset));
                            fetches.push((token, offset.max(seen), if offset > before { 1 } else { wanted }));
                        }
                    }
                }
                Step::Produce { back } => {
                    let required = (partition.log_end_offset() - back).max(1);
                    match partition.wait_produce(token, required).expect("room") {
                        ProduceWait::Done(outcome) => {
                            prop_assert_eq!(outcome, ProduceOutcome::Committed);
                            prop_assert!(before >= required);
                        }
                        ProduceWait::Registered => produces.push((token, required)),
                    }
                }
                Step::Cancel(index) => {
                    if !produces.is_empty() {
                        let (token, _) = produces.swap_remove(index.index(produces.len()));
                        prop_assert!(partition.cancel(token));
                    }
                }
            }
            let after = partition.high_watermark();
            prop_assert!(after >= before && after <= partition.log_end_offset());
            if flush == Some(1) {
                prop_assert!(after <= log.state().flushed, "nothing is visible that is not forced");
            }
            let visible: u64 = log.state().batches.iter()
                .filter(|(header, _)| header.next_offset() > before && header.next_offset() <= after)
                .map(|(_, bytes)| bytes.len() as u64).sum();
            let mut expected: Vec<_> = produces.iter().filter(|(_, required)| *required <= after)
                .map(|(token, _)| Effect::WakeProduce { token: *token, outcome: ProduceOutcome::Committed }).collect();
            produces.retain(|(_, required)| *required > after);
            fetches.retain_mut(|(token, offset, wanted)| {
                let due = if *wanted <= 1 { after > *offset } else { visible >= *wanted };
                if due {
                    expected.push(Effect::WakeFetch(*token));
                } else if *wanted > 1 {
                    *wanted = (*wanted - visible).max(1);
                    // A wait for bytes stays one when few are left: mark it by an offset below all.
                    if *wanted == 1 {
                        *offset = after;
                    }
                }
                !due
            });
            flush_due |= effects.contains(&Effect::Flush);
            effects.retain(|effect| *effect != Effect::Flush);
            let order = |effect: &Effect| match effect {
                Effect::WakeFetch(token) | Effect::WakeProduce { token, .. } => *token,
                other => panic!("not asked for: {other:?}"),
            };
            effects.sort_by_key(order);
            expected.sort_by_key(order);
            prop_assert_eq!(effects, expected);
            prop_assert_eq!(partition.waiting(), produces.len() + fetches.len());
            if flush == Some(1) && after < partition.log_end_offset() {
                prop_assert!(flush_due, "what waits for a sync has one asked for");
            }
            seen_before = before;
        }
    }
}
