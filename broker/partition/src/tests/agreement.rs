// SPDX-License-Identifier: Apache-2.0
//! The log that the searches use behaves as the real one does, as far as replication can tell.

use std::path::Path;
use std::sync::Arc;

use odradek_disk::{Disk, SimulatedDisk};
use odradek_log::{Log, LogOptions, LogSettings};
use odradek_model::{LeaderEpoch, Offset, TopicId};
use proptest::prelude::*;

use super::small_log::{Contents, SmallLog, produced};
use crate::ReplicaLog;

#[derive(Clone, Debug)]
enum Step {
    /// A reign begins, some epochs after the latest.
    Assign {
        ahead: LeaderEpoch,
    },
    Append,
    /// A leader's batch, some epochs after the latest.
    Replicate {
        ahead: LeaderEpoch,
    },
    Truncate {
        back: Offset,
    },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (1..3).prop_map(|ahead| Step::Assign { ahead }),
        Just(Step::Append),
        (0..3).prop_map(|ahead| Step::Replicate { ahead }),
        (0..4i64).prop_map(|back| Step::Truncate { back }),
    ]
}

fn real_log() -> Log {
    let disk = SimulatedDisk::new(1);
    disk.create_dir_all(Path::new("/data")).expect("made");
    let options = LogOptions {
        dir: "/data/orders-0".into(),
        topic_id: TopicId::ZERO,
        settings: LogSettings { segment_bytes: 200, ..LogSettings::default() },
        clean: false,
        recovery_point: 0,
        log_start_offset: 0,
        expected: None,
    };
    let disk: Arc<dyn Disk> = Arc::new(disk);
    Log::open(disk, Arc::default(), options, 0, &mut |_| {}).expect("opens").0
}

fn apply(log: &mut dyn ReplicaLog, step: &Step) {
    let end = log.log_end_offset();
    let latest = log.epoch_at(end).unwrap_or(0);
    match step {
        Step::Assign { ahead } => log.assign_epoch(latest + ahead, end).expect("stored"),
        Step::Append => {
            log.append(produced(), latest, 0).expect("appended");
        }
        Step::Replicate { ahead } => {
            let mut batch = produced();
            batch.assign(end, latest + ahead, None);
            log.append_replicated(&batch.to_vec(), 0).expect("appended");
        }
        Step::Truncate { back } => {
            let to = (end - back).max(0);
            assert_eq!(log.truncate_to(to, 0).expect("cut"), to);
        }
    }
}

proptest! {
    #[test]
    fn the_small_log_agrees_with_the_real_one(steps in proptest::collection::vec(step(), 0..40)) {
        let (mut real, mut small) = (real_log(), SmallLog::new(Contents::default()));
        for step in &steps {
            apply(&mut real, step);
            apply(&mut small, step);
            let end = small.log_end_offset();
            prop_assert_eq!(ReplicaLog::log_end_offset(&real), end);
            for offset in 0..=end {
                prop_assert_eq!(ReplicaLog::epoch_at(&real, offset), small.epoch_at(offset), "at {}", offset);
            }
            let latest = small.epoch_at(end).unwrap_or(0);
            for epoch in 0..latest + 2 {
                prop_assert_eq!(ReplicaLog::epoch_end(&real, epoch), small.epoch_end(epoch), "of {}", epoch);
            }
            let (real, small) = (ReplicaLog::reader(&real), small.reader());
            for offset in 0..end {
                let read = |reader: &dyn crate::ReplicaReader| reader.read(offset, offset + 1, 1_000, true);
                prop_assert_eq!(read(&*real).expect("read"), read(&*small).expect("read"));
            }
        }
    }
}
