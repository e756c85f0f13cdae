// SPDX-License-Identifier: Apache-2.0
//! The format of batches: known bytes, round trips, and what is said about damaged bytes.

use odradek_model::TimestampType;
use odradek_records::{
    Batch, BatchBuilder, BatchError, BatchHeader, BatchOptions, Batches, Compression, HEADER_BYTES, MalformedRecord,
    RecordHeader, assign, increment_sequence,
};
use proptest::prelude::*;

/// CRC32C bit by bit, apart from the library that the product uses.
fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0x82f6_3b78 & (crc & 1).wrapping_neg()))
    })
}

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let digit = |byte: u8| char::from(byte).to_digit(16).expect("hex") as u8;
    digits.chunks(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect()
}

/// Two records, written by hand from the description of the format.
fn known() -> Vec<u8> {
    let mut bytes = hex("0000000000000005 00000000 00000003 02 00000000 0010 00000001
         0000018bcfe56800 0000018bcfe56805 0000000000002a2a 0007 0000000b 00000002
         1e 00 00 00 02 6b 06 76 61 6c 02 04 68 64 02 78
         16 00 0a 02 01 01 02 06 6e 75 6c 01");
    let length = (bytes.len() - 12) as u32;
    bytes[8..12].copy_from_slice(&length.to_be_bytes());
    let crc = crc32c(&bytes[21..]);
    bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    bytes
}

#[test]
fn the_reference_checksum_is_crc32c() {
    assert_eq!(crc32c(b"123456789"), 0xe306_9283);
}

#[test]
fn a_batch_written_by_hand_is_read() {
    let bytes = known();
    let batch = Batch::parse(&bytes).expect("a batch");
    batch.verify().expect("the checksum holds");
    let header = batch.header;
    assert_eq!((header.base_offset, header.last_offset(), header.next_offset()), (5, 6, 7));
    assert_eq!((header.partition_leader_epoch, header.record_count), (3, 2));
    assert_eq!((header.producer_id, header.producer_epoch, header.base_sequence), (0x2a2a, 7, 11));
    assert_eq!(header.last_sequence(), 12);
    assert!(header.is_transactional() && !header.is_control() && header.has_producer_id());
    assert_eq!(header.timestamp_type(), TimestampType::CreateTime);
    assert_eq!(header.compression(), Ok(Compression::None));
    assert_eq!(header.max_timestamp, 1_700_000_000_005);
    assert_eq!(header.size_bytes(), bytes.len());
    assert_eq!(header.to_prefix()[..], bytes[..HEADER_BYTES]);

    let records = batch.records().expect("records");
    let records: Vec<_> = records.iter().collect::<Result<_, _>>().expect("well-formed");
    assert_eq!(records.len(), 2);
    assert_eq!((records[0].key, records[0].value), (Some(&b"k"[..]), Some(&b"val"[..])));
    let headers: Vec<_> = records[0].headers.iter().collect();
    assert_eq!(headers, [RecordHeader { key: b"hd", value: Some(b"x") }]);
    assert_eq!((records[1].key, records[1].value, records[1].offset_delta), (None, None, 1));
    assert_eq!(header.record_timestamp(records[1].timestamp_delta), 1_700_000_000_005);
    assert_eq!(records[1].headers.iter().collect::<Vec<_>>(), [RecordHeader { key: b"nul", value: None }]);
}

#[test]
fn the_builder_writes_what_was_written_by_hand() {
    let mut builder = BatchBuilder::new(BatchOptions {
        base_offset: 5,
        partition_leader_epoch: 3,
        producer_id: 0x2a2a,
        producer_epoch: 7,
        base_sequence: 11,
        transactional: true,
        ..BatchOptions::default()
    });
    builder.append(1_700_000_000_000, Some(b"k"), Some(b"val"), &[RecordHeader { key: b"hd", value: Some(b"x") }]);
    builder.append(1_700_000_000_005, None, None, &[RecordHeader { key: b"nul", value: None }]);
    assert_eq!(builder.size_bytes(), known().len());
    assert_eq!(builder.build(), known());
}

#[test]
fn every_truncation_is_incomplete_and_every_flipped_bit_is_noticed() {
    let bytes = known();
    for length in 0..bytes.len() {
        assert!(matches!(Batch::parse(&bytes[..length]), Err(BatchError::Incomplete { .. })), "{length}");
    }
    for bit in 0..bytes.len() * 8 {
        let mut damaged = bytes.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        let noticed = Batch::parse(&damaged).and_then(|batch| batch.verify()).is_err();
        // Base offset and leader epoch are outside of the checksum: the log compares them with its own. Bit 7 is the
        // sign of the offset.
        let outside = bit / 8 < 8 || (12..16).contains(&(bit / 8));
        assert_eq!(noticed, !outside || bit == 7, "bit {bit}");
    }
}

#[test]
fn impossible_headers_are_refused() {
    let change = |at: usize, new: &[u8]| {
        let mut bytes = known();
        bytes[at..at + new.len()].copy_from_slice(new);
        BatchHeader::parse(&bytes).expect_err("refused")
    };
    assert_eq!(change(8, &48i32.to_be_bytes()), BatchError::Length(48));
    assert_eq!(change(8, &i32::MIN.to_be_bytes()), BatchError::Length(i32::MIN));
    assert_eq!(change(16, &[1]), BatchError::Magic(1));
    assert_eq!(change(16, &[0xff]), BatchError::Magic(-1));
    for (at, new) in [(0, &[0xff; 8][..]), (23, &[0xff; 4]), (57, &[0x80, 0, 0, 0])] {
        assert!(matches!(change(at, new), BatchError::Offsets { .. }));
    }
    assert!(matches!(change(0, &(i64::MAX - 1).to_be_bytes()), BatchError::Offsets { .. }));
    // A length of 2 GiB is only believed once the bytes are there.
    let mut huge = known();
    huge[8..12].copy_from_slice(&i32::MAX.to_be_bytes());
    assert!(matches!(Batch::parse(&huge), Err(BatchError::Incomplete { needed: 0x8000_000b, .. })));
}

#[test]
fn batches_are_walked_up_to_the_first_bad_one() {
    let one = known();
    let mut bytes = [one.clone(), one.clone(), one.clone()].concat();
    assert_eq!(Batches::new(&bytes).flatten().count(), 3);
    bytes.truncate(bytes.len() - 1);
    let mut batches = Batches::new(&bytes);
    assert!(batches.next().is_some_and(|batch| batch.is_ok()));
    assert!(batches.next().is_some_and(|batch| batch.is_ok()));
    assert!(matches!(batches.next(), Some(Err(BatchError::Incomplete { .. }))));
    assert!(batches.next().is_none());
    assert_eq!(batches.position(), 2 * one.len());
}

#[test]
fn records_must_be_as_many_as_declared() {
    for (declared, expected) in [(1u32, MalformedRecord::Count), (3, MalformedRecord::Ends)] {
        let mut bytes = known();
        bytes[57..61].copy_from_slice(&declared.to_be_bytes());
        let batch = Batch::parse(&bytes).expect("a header");
        let records = batch.records().expect("not compressed");
        assert_eq!(records.iter().last(), Some(Err(expected)));
    }
}

#[test]
fn stamping_changes_offsets_without_and_times_with_a_new_checksum() {
    let mut bytes = known();
    let crc = BatchHeader::parse(&bytes).expect("a batch").crc;
    assign(&mut bytes, 1_000, 9, None);
    let header = BatchHeader::parse(&bytes).expect("a batch");
    assert_eq!((header.base_offset, header.partition_leader_epoch, header.crc), (1_000, 9, crc));
    assign(&mut bytes, 2_000, 10, Some(77));
    let batch = Batch::parse(&bytes).expect("a batch");
    batch.verify().expect("a new checksum");
    assert_eq!(batch.header.timestamp_type(), TimestampType::LogAppendTime);
    assert_eq!((batch.header.max_timestamp, batch.header.record_timestamp(5)), (77, 77));
    assert!(batch.header.is_transactional());
}

#[test]
fn sequences_wrap_to_zero() {
    assert_eq!(increment_sequence(i32::MAX, 1), 0);
    assert_eq!(increment_sequence(i32::MAX - 1, 3), 1);
    assert_eq!(increment_sequence(5, 0), 5);
}

#[derive(Clone, Debug)]
struct OwnRecord {
    timestamp: i64,
    gap: i32,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

fn bytes(max: usize) -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(any::<u8>(), 0..max)
}

fn record() -> impl Strategy<Value = OwnRecord> {
    (
        any::<i64>(),
        0..1_000_000i32,
        proptest::option::of(bytes(40)),
        proptest::option::of(bytes(2_000)),
        proptest::collection::vec((bytes(20), proptest::option::of(bytes(20))), 0..4),
    )
        .prop_map(|(timestamp, gap, key, value, headers)| OwnRecord { timestamp, gap, key, value, headers })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn what_is_built_reads_back(records in proptest::collection::vec(record(), 1..40), codec in 0..5u8) {
        let compression = Compression::from_id(codec).expect("a codec");
        let mut builder = BatchBuilder::new(BatchOptions { compression, ..BatchOptions::default() });
        let mut delta = -1;
        for record in &records {
            delta += 1 + record.gap;
            let headers: Vec<_> = record.headers.iter()
                .map(|(key, value)| RecordHeader { key, value: value.as_deref() }).collect();
            builder.append_at(delta, record.timestamp, record.key.as_deref(), record.value.as_deref(), &headers);
        }
        let bytes = builder.build();
        prop_assert_eq!(crc32c(&bytes[21..]).to_be_bytes(), &bytes[17..21]);
        let batch = Batch::parse(&bytes).expect("a batch");
        batch.verify().expect("the checksum holds");
        prop_assert_eq!(batch.header.last_offset_delta, delta);
        let parsed = batch.records().expect("decompresses");
        prop_assert_eq!(parsed.len(), records.len());
        let mut delta = -1;
        for (read, written) in parsed.iter().zip(&records) {
            let read = read.expect("well-formed");
            delta += 1 + written.gap;
            prop_assert_eq!(read.offset_delta, delta);
            prop_assert_eq!(batch.header.record_timestamp(read.timestamp_delta), written.timestamp);
            prop_assert_eq!(read.key, written.key.as_deref());
            prop_assert_eq!(read.value, written.value.as_deref());
            let headers: Vec<_> = read.headers.iter()
                .map(|header| (header.key.to_vec(), header.value.map(<[u8]>::to_vec))).collect();
            prop_assert_eq!(&headers, &written.headers);
        }
    }

    #[test]
    fn no_bytes_make_a_reader_panic(bytes in bytes(400)) {
        for batch in Batches::new(&bytes).flatten() {
            if let Ok(records) = batch.records() {
                let _ = records.iter().count();
            }
        }
    }
}
