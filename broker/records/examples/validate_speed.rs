// SPDX-License-Identifier: Apache-2.0
//! How long judging a produced batch takes, by codec, batch size and record size, beside the checksum alone.
//! Run it with `cargo run --release -p odradek-records --example validate_speed`.
#![allow(clippy::print_stdout, clippy::disallowed_methods, reason = "a measurement for people")]

use std::time::Instant;

use odradek_model::TimestampType;
use odradek_records::{
    BatchBuilder, BatchOptions, Compression, DECOMPRESSED_BYTES_MAX, ProduceRules, validate_produced,
};

const NOW_MS: i64 = 1_700_000_000_000;
/// Long enough that timer and start cost nothing, short enough for twenty rows.
const MEASURED_BYTES: usize = 256 << 20;

fn main() {
    let rules = ProduceRules {
        produce_version: 12,
        max_message_bytes: 2 << 20,
        segment_bytes: 1 << 30,
        timestamp_type: TimestampType::CreateTime,
        timestamp_before_max_ms: i64::MAX,
        timestamp_after_max_ms: 3_600_000,
        compacted: false,
        transactions: false,
        decompressed_bytes_max: DECOMPRESSED_BYTES_MAX,
    };
    println!("codec   plain bytes  records  stored bytes  ns/record  CPU s per plain GB");
    for compression in Compression::ALL {
        for (batch_bytes, record_bytes) in [(16 << 10, 100), (16 << 10, 1_024), (1_000_000, 100), (1_000_000, 1_024)] {
            let mut builder = BatchBuilder::new(BatchOptions { compression, ..BatchOptions::default() });
            let mut state = 1u64;
            while builder.size_bytes() + record_bytes < batch_bytes {
                let value: Vec<u8> = (0..record_bytes)
                    .map(|_| {
                        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                        b'a' + (state >> 60) as u8
                    })
                    .collect();
                builder.append(NOW_MS, Some(&value[..8]), Some(&value[8..]), &[]);
            }
            let (plain, records) = (builder.size_bytes(), builder.len());
            let batch = builder.build();
            let rounds = (MEASURED_BYTES / plain).max(1);
            let start = Instant::now();
            for _ in 0..rounds {
                let validated = validate_produced(&batch, &rules, NOW_MS).expect("a good batch");
                assert_eq!(validated.size_bytes(), batch.len());
            }
            let seconds = start.elapsed().as_secs_f64();
            println!(
                "{:<7} {plain:>11} {records:>8} {:>13} {:>10.1} {:>19.3}",
                compression.name(),
                batch.len(),
                seconds * 1e9 / (rounds * records) as f64,
                seconds / (rounds * plain) as f64 * 1e9,
            );
        }
    }
}
