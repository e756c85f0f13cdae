// SPDX-License-Identifier: Apache-2.0
//! What `validate_produced` accepts and how it refuses, rule by rule.

use bytes::Bytes;
use odradek_model::TimestampType;
use odradek_records::{
    Batch, BatchBuilder, BatchHeader, BatchOptions, Compression, DECOMPRESSED_BYTES_MAX, HEADER_BYTES, MalformedRecord,
    ProduceError, ProduceRules, RecordHeader, compress, validate_produced,
};
use proptest::prelude::*;

const NOW: i64 = 1_700_000_000_000;
const HOUR: i64 = 3_600_000;

fn rules() -> ProduceRules {
    ProduceRules {
        produce_version: 12,
        max_message_bytes: 1_048_588,
        segment_bytes: 1 << 30,
        timestamp_type: TimestampType::CreateTime,
        timestamp_before_max_ms: i64::MAX,
        timestamp_after_max_ms: HOUR,
        compacted: false,
        transactions: false,
        decompressed_bytes_max: DECOMPRESSED_BYTES_MAX,
    }
}

fn builder(options: BatchOptions, timestamps: &[i64]) -> BatchBuilder {
    let mut builder = BatchBuilder::new(options);
    for timestamp in timestamps {
        builder.append(*timestamp, Some(b"key"), Some(b"value"), &[RecordHeader { key: b"h", value: None }]);
    }
    builder
}

fn with(options: BatchOptions) -> Bytes {
    builder(options, &[NOW, NOW + 5, NOW + 1]).build()
}

fn plain() -> Bytes {
    with(BatchOptions::default())
}

/// The batch with other bytes at a place, and a checksum that fits.
fn change(batch: &[u8], at: usize, new: &[u8]) -> Bytes {
    let mut bytes = batch.to_vec();
    bytes[at..at + new.len()].copy_from_slice(new);
    seal(bytes)
}

fn seal(mut bytes: Vec<u8>) -> Bytes {
    let length = (bytes.len() - 12) as u32;
    bytes[8..12].copy_from_slice(&length.to_be_bytes());
    let crc = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, &bytes[21..]) as u32;
    bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    bytes.into()
}

fn refused(batch: &Bytes, rules: &ProduceRules) -> ProduceError {
    validate_produced(batch, rules, NOW).expect_err("refused")
}

#[test]
fn good_batches_of_every_codec_are_taken_byte_for_byte() {
    for compression in Compression::ALL {
        let batch = with(BatchOptions { compression, ..BatchOptions::default() });
        let validated = validate_produced(&batch, &rules(), NOW).expect("accepted");
        assert_eq!(validated.to_vec(), batch, "{compression:?}");
        assert_eq!(validated.size_bytes(), batch.len());
    }
}

#[test]
fn exactly_one_whole_batch() {
    let batch = plain();
    for length in 0..batch.len() {
        assert_eq!(refused(&batch.slice(..length), &rules()), ProduceError::NoBatch { available: length });
    }
    let two = Bytes::from([&batch[..], &batch[..]].concat());
    assert_eq!(refused(&two, &rules()), ProduceError::SeveralBatches { surplus: batch.len() });
    let tail = Bytes::from([&batch[..], &[0]].concat());
    assert_eq!(refused(&tail, &rules()), ProduceError::SeveralBatches { surplus: 1 });
}

#[test]
fn only_magic_2() {
    for magic in [0, 1] {
        assert_eq!(refused(&change(&plain(), 16, &[magic]), &rules()), ProduceError::OldMagic(magic as i8));
    }
    assert!(matches!(refused(&change(&plain(), 16, &[3]), &rules()), ProduceError::Corrupt(_)));
    let mut short = plain().to_vec();
    short[8..12].copy_from_slice(&13u32.to_be_bytes());
    assert!(matches!(refused(&short.clone().into(), &rules()), ProduceError::Corrupt(_)));
    short[8..12].copy_from_slice(&48u32.to_be_bytes());
    assert!(matches!(refused(&short.into(), &rules()), ProduceError::Corrupt(_)));
}

#[test]
fn the_checksum_comes_before_what_the_header_says() {
    let batch = plain();
    for at in 17..batch.len() {
        let mut damaged = batch.to_vec();
        damaged[at] ^= 0x20;
        assert!(matches!(refused(&damaged.into(), &rules()), ProduceError::Checksum { .. }), "byte {at}");
    }
}

#[test]
fn zstd_needs_version_7_and_unknown_codecs_are_refused() {
    let batch = with(BatchOptions { compression: Compression::Zstd, ..BatchOptions::default() });
    let old = ProduceRules { produce_version: 6, ..rules() };
    assert_eq!(refused(&batch, &old), ProduceError::ZstdTooEarly(6));
    assert!(validate_produced(&batch, &ProduceRules { produce_version: 7, ..rules() }, NOW).is_ok());
    for codec in 5..8 {
        assert_eq!(refused(&change(&plain(), 21, &[0, codec]), &rules()), ProduceError::UnknownCompression(codec));
    }
}

#[test]
fn offsets_count_control_and_sequence() {
    assert_eq!(refused(&change(&plain(), 0, &7i64.to_be_bytes()), &rules()), ProduceError::BaseOffset(7));
    for (last, count) in [(2, 4), (3, 3), (-1, 0), (-1, 3), (2, -3), (i32::MAX, i32::MIN)] {
        let batch = change(&change(&plain(), 23, &i32::to_be_bytes(last)), 57, &i32::to_be_bytes(count));
        let expected = ProduceError::Count { record_count: count, last_offset_delta: last };
        assert_eq!(refused(&batch, &rules()), expected);
    }
    let control = with(BatchOptions { control: true, ..BatchOptions::default() });
    assert_eq!(refused(&control, &rules()), ProduceError::Control);
    let idempotent = BatchOptions { producer_id: 9, producer_epoch: 0, base_sequence: -1, ..BatchOptions::default() };
    assert_eq!(refused(&with(idempotent), &rules()), ProduceError::Sequence { producer_id: 9, base_sequence: -1 });
    let good = BatchOptions { base_sequence: 0, ..idempotent };
    assert!(validate_produced(&with(good), &rules(), NOW).is_ok());
}

#[test]
fn transactions_only_with_a_producer_and_where_they_exist() {
    let lost = BatchOptions { transactional: true, ..BatchOptions::default() };
    assert_eq!(refused(&with(lost), &rules()), ProduceError::TransactionalWithoutProducer);
    let good = BatchOptions { producer_id: 1, producer_epoch: 0, base_sequence: 0, ..lost };
    assert_eq!(refused(&with(good), &rules()), ProduceError::TransactionsUnsupported);
    assert!(validate_produced(&with(good), &ProduceRules { transactions: true, ..rules() }, NOW).is_ok());
}

#[test]
fn sizes() {
    let batch = plain();
    let size = batch.len();
    let max = size as u32 - 1;
    let small = ProduceRules { max_message_bytes: max, ..rules() };
    assert_eq!(refused(&batch, &small), ProduceError::TooLarge { size, max });
    let segment = ProduceRules { segment_bytes: max, ..rules() };
    assert_eq!(refused(&batch, &segment), ProduceError::LargerThanSegment { size, max });
    let exact = ProduceRules { max_message_bytes: max + 1, segment_bytes: max + 1, ..rules() };
    assert!(validate_produced(&batch, &exact, NOW).is_ok());
}

#[test]
fn inner_offsets_are_0_1_2() {
    for compression in Compression::ALL {
        let mut builder = BatchBuilder::new(BatchOptions { compression, ..BatchOptions::default() });
        builder.append_at(0, NOW, None, None, &[]).append_at(2, NOW, None, None, &[]);
        let batch = change(&builder.build(), 23, &1i32.to_be_bytes());
        let ProduceError::Records { timestamps: false, errors, total: 1 } = refused(&batch, &rules()) else {
            panic!("{compression:?}")
        };
        assert_eq!(errors[0].batch_index, 1);
    }
}

#[test]
fn compacted_topics_need_keys_and_say_which() {
    let compacted = ProduceRules { compacted: true, ..rules() };
    assert!(validate_produced(&plain(), &compacted, NOW).is_ok());
    for compression in Compression::ALL {
        let mut builder = BatchBuilder::new(BatchOptions { compression, ..BatchOptions::default() });
        builder.append(NOW, Some(b""), None, &[]);
        for _ in 0..300 {
            builder.append(NOW, None, Some(b"v"), &[]);
        }
        let ProduceError::Records { timestamps: false, errors, total: 300 } = refused(&builder.build(), &compacted)
        else {
            panic!("{compression:?}")
        };
        assert_eq!(errors.len(), 100);
        assert_eq!(errors.iter().map(|error| error.batch_index).collect::<Vec<_>>(), (1..=100).collect::<Vec<_>>());
    }
}

#[test]
fn create_times_lie_within_their_bounds() {
    let bounded = ProduceRules { timestamp_before_max_ms: 1_000, ..rules() };
    for (timestamp, accepted) in [
        (NOW + HOUR, true),
        (NOW + HOUR + 1, false),
        (NOW - 1_000, true),
        (NOW - 1_001, false),
        (-1, true),
        (i64::MAX, false),
        (i64::MIN, false),
    ] {
        for compression in Compression::ALL {
            let options = BatchOptions { compression, ..BatchOptions::default() };
            let batch = builder(options, &[NOW, timestamp]).build();
            match validate_produced(&batch, &bounded, NOW) {
                Ok(_) => assert!(accepted, "{timestamp}"),
                Err(ProduceError::Records { timestamps: true, errors, total: 1 }) => {
                    assert!(!accepted, "{timestamp}");
                    assert_eq!(errors[0].batch_index, 1);
                }
                Err(error) => panic!("{timestamp}: {error}"),
            }
            let append_time = ProduceRules { timestamp_type: TimestampType::LogAppendTime, ..bounded.clone() };
            assert!(validate_produced(&batch, &append_time, NOW).is_ok());
        }
    }
    let text = refused(&builder(BatchOptions::default(), &[NOW - 1_001]).build(), &bounded).to_string();
    assert!(text.contains("1 records of the batch were refused for invalid timestamps: 0: its timestamp"), "{text}");
}

#[test]
fn a_wrong_maximum_is_replaced_and_sealed_again() {
    for compression in Compression::ALL {
        let good = with(BatchOptions { compression, ..BatchOptions::default() });
        let wrong = change(&good, 35, &(NOW + 999).to_be_bytes());
        let validated = validate_produced(&wrong, &rules(), NOW).expect("accepted");
        assert_eq!(validated.header().max_timestamp, NOW + 5);
        assert_eq!(validated.to_vec(), good);
    }
}

#[test]
fn the_clients_timestamp_type_is_not_believed() {
    let options = BatchOptions { timestamp_type: TimestampType::LogAppendTime, ..BatchOptions::default() };
    let batch = with(options);
    let validated = validate_produced(&batch, &rules(), NOW).expect("accepted as CreateTime");
    assert_eq!(validated.header().timestamp_type(), TimestampType::CreateTime);
    let bytes = validated.to_vec();
    Batch::parse(&bytes).expect("a batch").verify().expect("sealed again");
    let append_time = ProduceRules { timestamp_type: TimestampType::LogAppendTime, ..rules() };
    assert!(matches!(refused(&batch, &append_time), ProduceError::Records { timestamps: true, total: 3, .. }));
}

#[test]
fn the_log_stamps_offset_epoch_and_its_own_time() {
    let batch = plain();
    let mut validated = validate_produced(&batch, &rules(), NOW).expect("accepted");
    validated.assign(1_000, 4, None);
    let bytes = validated.to_vec();
    let stamped = Batch::parse(&bytes).expect("a batch");
    stamped.verify().expect("offset and epoch are outside of the checksum");
    assert_eq!((stamped.header.base_offset, stamped.header.partition_leader_epoch), (1_000, 4));
    assert_eq!(bytes[16..], batch[16..]);
    validated.assign(2_000, 5, Some(NOW + 70));
    let bytes = validated.to_vec();
    let stamped = Batch::parse(&bytes).expect("a batch");
    stamped.verify().expect("sealed again");
    assert_eq!(stamped.header.timestamp_type(), TimestampType::LogAppendTime);
    assert_eq!((stamped.header.max_timestamp, stamped.header.base_offset), (NOW + 70, 2_000));
}

#[test]
fn damage_behind_a_right_checksum_is_invalid() {
    for compression in [Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd] {
        let good = with(BatchOptions { compression, ..BatchOptions::default() });
        let cut = seal(good[..good.len() - 3].to_vec());
        let text = refused(&cut, &rules());
        let expected = matches!(text, ProduceError::Decompress(_) | ProduceError::Malformed { .. });
        // LZ4's end mark has no successor that matters: its last four bytes may be missing only as a whole.
        assert!(expected, "{compression:?}: {text}");
    }
}

#[test]
fn bombs_are_too_large() {
    let zeros = vec![0; 8 << 20];
    for compression in [Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd] {
        let mut builder = BatchBuilder::new(BatchOptions { compression, ..BatchOptions::default() });
        builder.append(NOW, None, Some(&zeros), &[]);
        let batch = builder.build();
        assert!(batch.len() < 1_048_588, "{compression:?}");
        assert!(validate_produced(&batch, &rules(), NOW).is_ok(), "{compression:?}: a large record is passed over");
        let limited = ProduceRules { decompressed_bytes_max: 1 << 20, ..rules() };
        assert_eq!(refused(&batch, &limited), ProduceError::DecompressedTooLarge { max: 1 << 20 });
    }
}

#[test]
fn a_batch_that_claims_many_records_costs_nothing() {
    let batch = change(&change(&plain(), 23, &(i32::MAX - 1).to_be_bytes()), 57, &i32::MAX.to_be_bytes());
    let expected = ProduceError::Malformed { batch_index: 3, error: MalformedRecord::Ends };
    assert_eq!(refused(&batch, &rules()), expected);
}

/// One batch with these record bytes, whatever they are, under each codec.
fn framed(codec: Compression, payload: &[u8], count: i32) -> Bytes {
    let mut bytes = plain()[..HEADER_BYTES].to_vec();
    bytes[22] = codec.id();
    bytes[23..27].copy_from_slice(&(count - 1).to_be_bytes());
    bytes[57..61].copy_from_slice(&count.to_be_bytes());
    bytes.extend(compress(codec, payload));
    seal(bytes)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Reading in place and reading a stream must judge alike, also records larger than the window.
    #[test]
    fn every_codec_is_judged_alike(
        sizes in proptest::collection::vec(prop_oneof![4 => 0..300usize, 1 => 131_000..131_200usize, 1 => 0..400_000usize], 1..6),
        headers in 0..3usize,
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3),
        near_start: bool,
        cut in prop_oneof![3 => Just(0usize), 1 => 0..20usize],
    ) {
        let value = vec![7; 400_000];
        let mut builder = BatchBuilder::new(BatchOptions::default());
        for size in &sizes {
            let headers = vec![RecordHeader { key: b"name", value: Some(&value[..size / 2]) }; headers];
            builder.append(NOW, Some(b"k"), Some(&value[..*size]), &headers);
        }
        let mut payload = builder.build()[HEADER_BYTES..].to_vec();
        for (index, byte) in damage {
            let within = if near_start { payload.len().min(12) } else { payload.len() };
            payload[index.index(within)] = byte;
        }
        payload.truncate(payload.len() - cut);
        let count = sizes.len() as i32;
        let loose = ProduceRules { max_message_bytes: u32::MAX, ..rules() };
        let expected = validate_produced(&framed(Compression::None, &payload, count), &loose, NOW);
        for codec in [Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd] {
            let found = validate_produced(&framed(codec, &payload, count), &loose, NOW);
            match (&expected, &found) {
                (Ok(expected), Ok(found)) => {
                    prop_assert_eq!(expected.header().max_timestamp, found.header().max_timestamp);
                }
                // In place and piecewise the first thing noticed of several may differ, the record not.
                (
                    Err(ProduceError::Malformed { batch_index: expected, .. }),
                    Err(ProduceError::Malformed { batch_index: found, .. }),
                ) => prop_assert_eq!(expected, found),
                _ => prop_assert_eq!(&expected.as_ref().err(), &found.as_ref().err()),
            }
        }
    }

    /// Whatever a client sends is judged without a panic, and what is accepted is a batch that reads back whole.
    #[test]
    fn mutated_batches_are_judged_and_what_passes_reads_back(
        codec in 0..5u8,
        records in 1..60usize,
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
    ) {
        let compression = Compression::from_id(codec).expect("a codec");
        let timestamps = vec![NOW; records];
        let mut bytes = builder(BatchOptions { compression, ..BatchOptions::default() }, &timestamps).build().to_vec();
        for (index, byte) in damage {
            let at = 21 + index.index(bytes.len() - 21);
            bytes[at] = byte;
        }
        let batch = seal(bytes);
        if let Ok(validated) = validate_produced(&batch, &rules(), NOW) {
            let bytes = validated.to_vec();
            let header = BatchHeader::parse(&bytes).expect("accepted batches parse");
            let batch = Batch::parse(&bytes).expect("accepted batches are whole");
            batch.verify().expect("accepted batches have their checksum");
            let records = batch.records().expect("accepted batches decompress");
            let mut max = -1;
            for (index, record) in records.iter().enumerate() {
                let record = record.expect("accepted records are well-formed");
                prop_assert_eq!(record.offset_delta, index as i32);
                max = max.max(header.record_timestamp(record.timestamp_delta));
            }
            prop_assert_eq!(header.max_timestamp, max);
        }
    }
}
