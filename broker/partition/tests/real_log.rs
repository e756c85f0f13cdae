// SPDX-License-Identifier: Apache-2.0
//! A replica over the real log on a real disk: what is written is read, found, forced and there after a restart.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use odradek_disk::RealDisk;
use odradek_log::{Log, LogOptions, LogSettings, SegmentCache};
use odradek_model::{BrokerId, Offset, TopicId, TopicIdPartition, TopicName, TopicPartition, TopicSettings};
use odradek_partition::{
    Acks, AppendError, AppendRefusal, Effect, Isolation, Leadership, LocalBroker, MonotonicTime, OffsetSpec, Partition,
    PartitionSettings, ProduceOutcome, ProduceWait, ReadError, ReplicaLog, WaitToken,
};
use odradek_records::{
    BatchBuilder, BatchOptions, Batches, Compression, ProduceRules, ValidatedBatch, validate_produced,
};

const NOW: i64 = 1_700_000_000_000;
const READ: Isolation = Isolation::ReadUncommitted;

fn open(dir: &Path, settings: &TopicSettings, clean: bool, recovery_point: Offset) -> Partition {
    let topic = TopicName::new("orders").expect("a name");
    let id = TopicIdPartition { id: TopicId::ZERO, topic_partition: TopicPartition { topic, partition: 0 } };
    let options = LogOptions {
        dir: dir.join("orders-0"),
        topic_id: id.id,
        settings: LogSettings::new(settings),
        clean,
        recovery_point,
        log_start_offset: 0,
        expected: None,
    };
    let cache = Arc::new(SegmentCache::new(16, 1 << 20));
    let (log, _) = Log::open(Arc::new(RealDisk), cache, options, NOW, &mut |_| {}).expect("opens");
    Partition::new(id, LocalBroker::alone(BrokerId(1)), PartitionSettings::new(settings), Box::new(log), 0)
}

fn lead(partition: &mut Partition, leader_epoch: i32) -> Vec<Effect> {
    let alone = vec![BrokerId(1)];
    let leadership =
        Leadership { leader_epoch, partition_epoch: leader_epoch, replicas: alone.clone(), in_sync: alone };
    partition.lead(leadership, MonotonicTime(0)).expect("leads")
}

/// What a client sent, judged.
fn produced(compression: Compression, sequence: i32, records: usize, timestamp: i64) -> ValidatedBatch {
    let options = BatchOptions {
        compression,
        producer_id: 77,
        producer_epoch: 0,
        base_sequence: sequence,
        ..BatchOptions::default()
    };
    let mut builder = BatchBuilder::new(options);
    for record in 0..records {
        builder.append(timestamp, Some(format!("{sequence}+{record}").as_bytes()), Some(&[7; 100]), &[]);
    }
    let sent: Bytes = builder.build();
    validate_produced(&sent, &ProduceRules::new(&TopicSettings::default(), 12), NOW).expect("accepted")
}

fn offsets(records: &[u8]) -> Vec<Offset> {
    Batches::new(records)
        .map(|batch| {
            let batch = batch.expect("whole");
            batch.verify().expect("undamaged");
            batch.header.base_offset
        })
        .collect()
}

#[test]
fn what_is_produced_is_read_found_and_there_after_a_restart() {
    let dir = tempfile::tempdir().expect("a folder");
    let settings = TopicSettings::default();
    let mut partition = open(dir.path(), &settings, false, 0);
    lead(&mut partition, 1);
    let mut sequence = 0;
    for (number, compression) in Compression::ALL.into_iter().enumerate() {
        let batch = produced(compression, sequence, 10, NOW + number as i64 * 10);
        let (appended, _) = partition.append(batch, Acks::All, None, NOW).expect("appended");
        assert_eq!((appended.base_offset, appended.last_offset), (i64::from(sequence), i64::from(sequence) + 9));
        sequence += 10;
    }
    let (again, effects) =
        partition.append(produced(Compression::Zstd, 40, 10, NOW + 40), Acks::All, None, NOW).expect("known");
    assert!(again.duplicate && effects.is_empty());
    assert_eq!((again.base_offset, again.required_offset), (40, 50));
    let gap = partition.append(produced(Compression::None, 60, 1, NOW), Acks::All, None, NOW).expect_err("a gap");
    assert!(matches!(gap, AppendError::Log(AppendRefusal::OutOfOrderSequence { found: 60, expected: 50, .. })));

    let check = |partition: &Partition, epoch| {
        let view = partition.view(Some(epoch)).expect("leads");
        assert_eq!(offsets(&view.read(0, 1 << 20, READ, true).expect("read").records), [0, 10, 20, 30, 40]);
        assert_eq!(offsets(&view.read(25, 1, READ, true).expect("read").records), [20]);
        assert!(view.read(25, 1, READ, false).expect("read").records.is_empty());
        assert!(view.read(50, 1, READ, true).expect("read").records.is_empty());
        assert!(matches!(view.read(51, 1, READ, true), Err(ReadError::OffsetOutOfRange { end: 50, .. })));
        let list = |spec| view.list_offset(spec, READ).expect("listed");
        assert_eq!((list(OffsetSpec::Earliest).offset, list(OffsetSpec::Latest).offset), (0, 50));
        let found = list(OffsetSpec::AtTime(NOW + 11));
        assert_eq!((found.offset, found.timestamp, found.leader_epoch), (20, NOW + 20, Some(1)));
        assert_eq!(list(OffsetSpec::MaxTimestamp).offset, 40);
        assert_eq!(list(OffsetSpec::AtTime(NOW + 41)).offset, -1);
    };
    check(&partition, 1);
    partition.close();
    partition.close_log().expect("closed");

    let mut partition = open(dir.path(), &settings, true, 50);
    assert_eq!(partition.high_watermark(), 0, "nothing counts before a leader says so");
    lead(&mut partition, 2);
    assert_eq!(partition.high_watermark(), 50);
    check(&partition, 2);
    assert_eq!(partition.epoch_end(1, Some(2)), Ok(Some((1, 50))));
    // The producer's state came back with the log.
    let (again, _) =
        partition.append(produced(Compression::Zstd, 40, 10, NOW + 40), Acks::All, None, NOW).expect("known");
    assert!(again.duplicate);
    partition.append(produced(Compression::None, 50, 1, NOW), Acks::All, None, NOW).expect("goes on");
}

#[test]
fn with_flush_messages_1_a_record_is_acknowledged_when_it_is_forced() {
    let dir = tempfile::tempdir().expect("a folder");
    let settings = TopicSettings { flush_messages: Some(1), ..TopicSettings::default() };
    let mut partition = open(dir.path(), &settings, false, 0);
    lead(&mut partition, 1);
    let (appended, effects) =
        partition.append(produced(Compression::None, 0, 3, NOW), Acks::All, None, NOW).expect("appended");
    assert_eq!(effects, [Effect::Flush]);
    assert_eq!(partition.wait_produce(WaitToken(1), appended.required_offset), Ok(ProduceWait::Registered));
    assert!(partition.view(None).expect("leads").read(0, 1 << 20, READ, true).expect("read").records.is_empty());
    let job = partition.flush_job().expect("something to force");
    let result = (job.run)();
    let outcome = ProduceOutcome::Committed;
    assert_eq!(partition.flushed(result), [Effect::WakeProduce { token: WaitToken(1), outcome }]);
    assert_eq!((partition.high_watermark(), partition.recovery_point()), (3, 3));
    assert!(partition.flush_job().is_none(), "nothing is left to force");
}

#[test]
fn retention_takes_what_is_committed_and_reads_then_are_out_of_range() {
    let dir = tempfile::tempdir().expect("a folder");
    let settings = TopicSettings { retention_ms: Some(1_000), ..TopicSettings::default() };
    let mut partition = open(dir.path(), &settings, false, 0);
    lead(&mut partition, 1);
    partition.append(produced(Compression::None, 0, 3, NOW), Acks::All, None, NOW).expect("appended");
    assert!(!partition.maintain(NOW + 1_000).expect("kept"));
    assert!(partition.maintain(NOW + 1_002).expect("gone"));
    assert_eq!((partition.log_start_offset(), partition.log_end_offset()), (3, 3));
    let view = partition.view(None).expect("leads");
    assert!(matches!(view.read(2, 1 << 20, READ, true), Err(ReadError::OffsetOutOfRange { start: 3, .. })));
}

#[test]
fn new_settings_of_the_topic_leave_the_brokers_own_alone() {
    let dir = tempfile::tempdir().expect("a folder");
    let options = LogOptions {
        dir: dir.path().join("orders-0"),
        topic_id: TopicId::ZERO,
        settings: LogSettings { producer_id_expiration_ms: 1_000, ..LogSettings::default() },
        clean: false,
        recovery_point: 0,
        log_start_offset: 0,
        expected: None,
    };
    let (mut log, _) = Log::open(Arc::new(RealDisk), Arc::default(), options, NOW, &mut |_| {}).expect("opens");
    let settings = TopicSettings { retention_ms: Some(5), ..TopicSettings::default() };
    ReplicaLog::set_settings(&mut log, &settings);
    assert_eq!((log.settings().retention_ms, log.settings().producer_id_expiration_ms), (Some(5), 1_000));
}
