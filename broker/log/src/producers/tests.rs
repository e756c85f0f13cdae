// SPDX-License-Identifier: Apache-2.0
//! Rules of idempotence, and snapshots cut and damaged at every byte.

use super::*;
use odradek_records::{BatchBuilder, BatchOptions};

fn batch(producer_id: i64, epoch: i16, base_sequence: i32, count: usize, base_offset: i64) -> BatchHeader {
    let mut builder = BatchBuilder::new(BatchOptions {
        producer_id,
        producer_epoch: epoch,
        base_sequence,
        base_offset,
        ..BatchOptions::default()
    });
    for _ in 0..count {
        builder.append(1000 + base_offset, None, Some(b"v"), &[]);
    }
    *builder.build_validated().header()
}

#[test]
fn the_last_five_batches_are_known_again_and_older_ones_are_gaps() {
    let mut producers = Producers::default();
    for i in 0..6 {
        let header = batch(9, 0, i * 2, 2, i64::from(i) * 2);
        assert_eq!(producers.check(&header).expect("in order"), None);
        producers.apply(&header);
    }
    for i in 1..6 {
        let duplicate = producers.check(&batch(9, 0, i * 2, 2, 99)).expect("known").expect("a duplicate");
        assert_eq!((duplicate.first_offset(), duplicate.last_offset), (i64::from(i) * 2, i64::from(i) * 2 + 1));
    }
    for (first, count) in [(0, 2), (13, 1), (10, 1), (11, 2)] {
        let error = producers.check(&batch(9, 0, first, count, 99)).expect_err("out of order");
        assert!(matches!(error, AppendError::OutOfOrderSequence { expected: 12, .. }), "{first}: {error}");
    }
}

#[test]
fn epochs_only_rise_and_begin_at_zero() {
    let mut producers = Producers::default();
    assert_eq!(producers.check(&batch(9, 3, 77, 1, 0)).expect("an unknown producer may begin anywhere"), None);
    producers.apply(&batch(9, 3, 77, 1, 0));
    let error = producers.check(&batch(9, 2, 78, 1, 1)).expect_err("stale");
    assert!(matches!(error, AppendError::InvalidProducerEpoch { found: 2, current: 3, .. }), "{error}");
    let error = producers.check(&batch(9, 4, 78, 1, 1)).expect_err("a new epoch begins at 0");
    assert!(matches!(error, AppendError::OutOfOrderSequence { expected: 0, .. }), "{error}");
    assert_eq!(producers.check(&batch(9, 4, 0, 1, 1)).expect("begins at 0"), None);
}

#[test]
fn sequences_wrap_to_zero() {
    let mut producers = Producers::default();
    let wrapping = batch(9, 0, i32::MAX - 1, 4, 0);
    producers.apply(&wrapping);
    assert_eq!(wrapping.last_sequence(), 1);
    assert!(producers.check(&wrapping).expect("known").is_some());
    assert_eq!(producers.check(&batch(9, 0, 2, 1, 4)).expect("in order"), None);
    let mut producers = Producers::default();
    producers.apply(&batch(9, 0, i32::MAX, 1, 0));
    assert_eq!(producers.check(&batch(9, 0, 0, 1, 1)).expect("in order"), None);
}

#[test]
fn idle_producers_are_forgotten() {
    let mut producers = Producers::default();
    producers.apply(&batch(1, 0, 0, 1, 0));
    producers.apply(&batch(2, 0, 0, 1, 500));
    assert_eq!(producers.expire(2000, 1001), 0);
    assert_eq!(producers.expire(2000, 1000), 1);
    assert_eq!(producers.check(&batch(1, 0, 42, 1, 501)).expect("unknown again"), None);
}

#[test]
fn snapshots_keep_the_last_batch_and_no_damage_goes_unseen() {
    let mut producers = Producers::default();
    producers.apply(&batch(1, 5, 10, 3, 0));
    producers.apply(&batch(1, 5, 13, 2, 3));
    producers.apply(&batch(7, 0, 0, 1, 5));
    let bytes = producers.encode_snapshot();
    assert_eq!(bytes.len(), 10 + 2 * 46);
    let read = Producers::decode_snapshot(&bytes).expect("whole");
    assert_eq!(read.encode_snapshot(), bytes);
    assert!(read.check(&batch(1, 5, 13, 2, 9)).expect("known").is_some());
    assert!(read.check(&batch(1, 5, 10, 3, 9)).is_err(), "only the last batch is in a snapshot");
    for cut in 0..bytes.len() {
        assert_eq!(Producers::decode_snapshot(&bytes[..cut]), None, "cut at {cut}");
        let mut damaged = bytes.clone();
        damaged[cut] ^= 0x40;
        assert_eq!(Producers::decode_snapshot(&damaged), None, "damaged at {cut}");
    }
}
