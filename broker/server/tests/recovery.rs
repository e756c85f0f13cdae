// SPDX-License-Identifier: Apache-2.0
//! The progress of a start moves while one log recovers, not only from log to log.
#![allow(clippy::unwrap_used, reason = "a test says what went wrong by failing")]
use std::path::PathBuf;
use std::sync::Arc;

use odradek_disk::{Disk, SimulatedDisk};
use odradek_model::{TopicId, TopicName, TopicSettings};
use odradek_partition::{Acks, Leadership, LocalBroker, MonotonicTime};
use odradek_records::{BatchBuilder, BatchOptions};
use odradek_server::folder::{ReplicaFolder, WantedLog};
use odradek_server::health::Health;

const MIB: u64 = 1 << 20;

#[test]
fn bytes_move_within_one_log() {
    let simulated = SimulatedDisk::new(1);
    let path = PathBuf::from("/data");
    simulated.create_dir_all(&path).unwrap();
    let disk: Arc<dyn Disk> = Arc::new(simulated);
    let topic = TopicName::new("t").unwrap();
    let settings = TopicSettings::default();
    let wanted = |is_new| WantedLog {
        topic: &topic,
        topic_id: TopicId(uuid::Uuid::from_u128(7)),
        index: 0,
        settings: &settings,
        always_flushed: false,
        producer_id_expiration_ms: 86_400_000,
        local: LocalBroker::alone(odradek_model::BrokerId(0)),
        is_new,
    };

    let folder = ReplicaFolder::open(Arc::clone(&disk), path.clone()).unwrap();
    let health = Health::default();
    let mut partition = folder.open_partition(&wanted(true), 0, &mut health.recovery(0)).unwrap().partition;
    assert_eq!(health.bytes_recovered(), 0);
    let leadership = Leadership {
        leader_epoch: 0,
        partition_epoch: 0,
        replicas: vec![odradek_model::BrokerId(0)],
        in_sync: vec![odradek_model::BrokerId(0)],
    };
    partition.lead(leadership, MonotonicTime(0)).unwrap();
    for _ in 0..40 {
        let mut batch = BatchBuilder::new(BatchOptions::default());
        batch.append(1, None, Some(&vec![7; 200_000]), &[]);
        partition.append(batch.build_validated(), Acks::All, None, 1).unwrap();
    }
    drop(partition);

    // No clean marker: every byte has to be looked at.
    let folder = ReplicaFolder::open(disk, path).unwrap();
    let bytes = folder.bytes_of(&topic, 0);
    assert!(bytes > 7 * MIB);
    health.expect(1, bytes);
    let mut recovery = health.recovery(bytes);
    let report = folder.open_partition(&wanted(false), 2, &mut recovery).unwrap().report;
    assert_eq!((report.log_end_offset, report.cut), (40, None));
    let within = health.bytes_recovered();
    assert!((bytes - 2 * MIB..=bytes).contains(&within), "{within} of {bytes} were told");
    assert!(health.progress_json().contains("\"logsRecovered\":0,"), "{}", health.progress_json());
    recovery.finish();
    assert_eq!(health.bytes_recovered(), bytes);
    assert!(health.progress_json().contains("\"logsRecovered\":1,"), "{}", health.progress_json());
}

#[test]
fn progress_is_counted_in_steps_and_never_beyond_the_log() {
    let health = Health::default();
    let mut recovery = health.recovery(3 * MIB);
    recovery.advance(100);
    assert_eq!(health.bytes_recovered(), 0);
    recovery.advance(MIB + 5);
    assert_eq!(health.bytes_recovered(), MIB + 5);
    recovery.advance(99 * MIB);
    assert_eq!(health.bytes_recovered(), 3 * MIB);
    recovery.finish();
    assert_eq!(health.bytes_recovered(), 3 * MIB);
}
