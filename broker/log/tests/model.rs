// SPDX-License-Identifier: Apache-2.0
//! Random appends, restarts, truncations, deletions and retention against a list of values.

mod harness;

use harness::{NOW_MS, batch, new_disk, open, options, read_all, small_settings};
use odradek_disk::Outage;
use odradek_log::LogSettings;
use odradek_model::Offset;
use proptest::prelude::*;

#[derive(Debug, Clone)]
enum Step {
    Append { bytes: usize },
    Flush,
    RestartClean,
    RestartAfterDeath,
    Truncate { back: i64 },
    AdvanceStart { by: i64 },
    RetainBytes { limit: u64 },
    RetainMs { limit: i64 },
    Read { at: i64, max_bytes: usize },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0..400usize).prop_map(|bytes| Step::Append { bytes }),
        1 => Just(Step::Flush),
        1 => Just(Step::RestartClean),
        1 => Just(Step::RestartAfterDeath),
        1 => (0..12i64).prop_map(|back| Step::Truncate { back }),
        1 => (0..12i64).prop_map(|by| Step::AdvanceStart { by }),
        1 => (0..6000u64).prop_map(|limit| Step::RetainBytes { limit }),
        1 => (0..40i64).prop_map(|limit| Step::RetainMs { limit }),
        4 => (-2..60i64, 0..2000usize).prop_map(|(at, max_bytes)| Step::Read { at, max_bytes }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_log_agrees_with_a_list(steps in prop::collection::vec(step(), 1..120)) {
        let disk = new_disk(5);
        let (mut log, _) = open(&disk, options(small_settings(), false, 0, 0));
        let mut values: Vec<Vec<u8>> = Vec::new();
        let mut now_ms = NOW_MS;
        for step in steps {
            now_ms += 1;
            let (start, end) = (log.log_start_offset(), log.log_end_offset());
            match step {
                Step::Append { bytes } => {
                    let value = format!("{now_ms} {}", "v".repeat(bytes)).into_bytes();
                    let at = log.append(batch(now_ms, &value), 0, now_ms).expect("appended").base_offset;
                    prop_assert_eq!(at as usize, values.len());
                    values.push(value);
                }
                Step::Flush => log.flush().expect("flushed"),
                Step::RestartClean => {
                    log.close_clean().expect("closed");
                    disk.restart(Outage::PowerLossOfAllUnsynced);
                    log = open(&disk, options(small_settings(), true, end, start)).0;
                }
                Step::RestartAfterDeath => {
                    let recovery_point = log.recovery_point();
                    disk.restart(Outage::ProcessDeath);
                    log = open(&disk, options(small_settings(), false, recovery_point, start)).0;
                }
                Step::Truncate { back } => {
                    let to = (end - back).max(start);
                    prop_assert_eq!(log.truncate_to(to, now_ms).expect("cut"), to);
                    values.truncate(to as usize);
                }
                Step::AdvanceStart { by } => {
                    let to = (start + by).min(end);
                    log.advance_log_start(to).expect("advanced");
                    prop_assert_eq!(log.log_start_offset(), to);
                }
                Step::RetainBytes { limit } => {
                    log.set_settings(LogSettings { retention_bytes: Some(limit), ..small_settings() });
                    let before = log.size_bytes();
                    let deleted = log.apply_retention(now_ms, end).expect("retained");
                    prop_assert_eq!(before - deleted.bytes, log.size_bytes());
                    // A segment wholly below the start goes in any case: nobody can read it.
                    let unreachable_only = log.log_start_offset() == start;
                    prop_assert!(unreachable_only || deleted.bytes <= before.saturating_sub(limit), "too much went");
                    log.set_settings(small_settings());
                }
                Step::RetainMs { limit } => {
                    log.set_settings(LogSettings { retention_ms: Some(limit), ..small_settings() });
                    log.apply_retention(now_ms, end).expect("retained");
                    for offset in start..log.log_start_offset() {
                        let text = String::from_utf8(values[offset as usize].clone()).expect("text");
                        let written: i64 = text.split(' ').next().expect("a time").parse().expect("a time");
                        prop_assert!(now_ms - written > limit, "offset {} went too early", offset);
                    }
                    log.set_settings(small_settings());
                }
                Step::Read { at, max_bytes } => {
                    let from = start + at;
                    let result = log.reader().read(from, max_bytes, end, true);
                    if from < start || from > end {
                        prop_assert!(result.is_err());
                    } else {
                        let slice = result.expect("readable");
                        prop_assert_eq!(slice.base_offset, from);
                        prop_assert_eq!(slice.next_offset > from, from < end);
                        let one = slice.next_offset == from + 1;
                        prop_assert!(slice.bytes.len() <= max_bytes || one, "over the limit only with one batch");
                        let strict = log.reader().read(from, max_bytes, end, false).expect("readable");
                        prop_assert!(strict.bytes.len() <= max_bytes);
                    }
                }
            }
            prop_assert_eq!(log.log_end_offset() as usize, values.len());
        }
        let start = log.log_start_offset();
        let expected: Vec<(Offset, Vec<u8>)> =
            values.iter().enumerate().skip(start as usize).map(|(at, value)| (at as Offset, value.clone())).collect();
        prop_assert_eq!(read_all(&log.reader()), expected);
    }
}
