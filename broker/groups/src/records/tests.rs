// SPDX-License-Identifier: Apache-2.0
//! The records' bytes, written out by hand from Kafka's schemas.

use std::sync::Arc;

use bytes::Bytes;
use odradek_model::TopicId;

use super::*;

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(|b| !b.is_ascii_whitespace()).collect();
    let digit = |b: u8| char::from(b).to_digit(16).expect("hex") as u8;
    digits.chunks(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect()
}

#[test]
fn keys_are_kafkas() {
    assert_eq!(offset_key("g", "t", 3), hex("0001 0001 67 0001 74 00000003"));
    assert_eq!(group_key("g"), hex("0002 0001 67"));
    let offset = RecordKey::Offset { group: Arc::from("g"), topic: Arc::from("t"), partition: 3 };
    assert_eq!(RecordKey::decode(&hex("0001 0001 67 0001 74 00000003")), Ok(offset.clone()));
    // Type 0 is the same in Kafka's older form.
    assert_eq!(RecordKey::decode(&hex("0000 0001 67 0001 74 00000003")), Ok(offset));
    assert_eq!(RecordKey::decode(&hex("0003 0001 67")), Err(RecordError::UnknownType(3)));
    assert!(RecordKey::decode(&hex("0001 0005 67")).is_err());
}

fn offset() -> CommittedOffset {
    CommittedOffset {
        offset: 5,
        leader_epoch: 7,
        metadata: Arc::from("m"),
        commit_timestamp: 9,
        expire_timestamp: None,
        topic_id: TopicId(uuid::Uuid::from_u128(1)),
    }
}

#[test]
fn offsets_are_written_as_version_4_or_with_an_expiry_as_version_1() {
    // offset, leader epoch, compact metadata, commit time, one tagged field: tag 0, 16 bytes.
    let v4 = hex("0004 0000000000000005 00000007 02 6d 0000000000000009 01 00 10 00000000000000000000000000000001");
    assert_eq!(encode_offset_value(&offset()), v4);
    assert_eq!(decode_offset_value(&v4), Ok(offset()));
    let without_id = CommittedOffset { topic_id: TopicId::ZERO, ..offset() };
    let v4 = hex("0004 0000000000000005 00000007 02 6d 0000000000000009 00");
    assert_eq!(encode_offset_value(&without_id), v4);
    assert_eq!(decode_offset_value(&v4), Ok(without_id.clone()));
    let v1 = hex("0001 0000000000000005 0001 6d 0000000000000009 000000000000000a");
    let expiring = CommittedOffset { expire_timestamp: Some(10), leader_epoch: -1, ..without_id.clone() };
    assert_eq!(encode_offset_value(&expiring), v1);
    assert_eq!(decode_offset_value(&v1), Ok(expiring));
    let unknown = CommittedOffset { leader_epoch: -1, ..without_id.clone() };
    assert_eq!(decode_offset_value(&hex("0000 0000000000000005 0001 6d 0000000000000009")), Ok(unknown.clone()));
    assert_eq!(decode_offset_value(&hex("0002 0000000000000005 0001 6d 0000000000000009")), Ok(unknown));
    let v3 = hex("0003 0000000000000005 00000007 0001 6d 0000000000000009");
    assert_eq!(decode_offset_value(&v3), Ok(without_id));
    // Unknown tags are skipped, unknown versions refused.
    let tagged = hex(
        "0004 0000000000000005 00000007 02 6d 0000000000000009 02 00 10 00000000000000000000000000000001 05 02 ffff",
    );
    assert_eq!(decode_offset_value(&tagged), Ok(offset()));
    let error = RecordError::Version { what: "offset commit value", version: 5, newest: 4 };
    assert_eq!(decode_offset_value(&hex("0005")), Err(error));
}

fn group() -> GroupValue {
    GroupValue {
        protocol_type: Arc::from("consumer"),
        generation: 2,
        protocol: Some(Arc::from("range")),
        leader: Some(Arc::from("a-1")),
        state_timestamp: 9,
        members: vec![MemberValue {
            member_id: Arc::from("a-1"),
            group_instance_id: Some(Arc::from("i")),
            client_id: Arc::from("a"),
            client_host: Arc::from("/h"),
            rebalance_timeout_ms: 30,
            session_timeout_ms: 10,
            subscription: Bytes::from_static(&[1, 2]),
            assignment: Bytes::from_static(&[3]),
        }],
    }
}

#[test]
fn groups_are_written_as_version_3_and_all_versions_are_read() {
    let v3 = hex("0003 0008 636f6e73756d6572 00000002 0005 72616e6765 0003 612d31 0000000000000009 00000001
         0003 612d31 0001 69 0001 61 0002 2f68 0000001e 0000000a 00000002 0102 00000001 03");
    assert_eq!(encode_group_value(&group()), v3);
    assert_eq!(decode_group_value(&v3), Ok(group()));
    let v4 = hex("0004 09 636f6e73756d6572 00000002 06 72616e6765 04 612d31 0000000000000009 02
         04 612d31 02 69 02 61 03 2f68 0000001e 0000000a 03 0102 02 03 00 00");
    assert_eq!(decode_group_value(&v4), Ok(group()));
    let mut older = group();
    older.members[0].group_instance_id = None;
    let v2 = hex("0002 0008 636f6e73756d6572 00000002 0005 72616e6765 0003 612d31 0000000000000009 00000001
         0003 612d31 0001 61 0002 2f68 0000001e 0000000a 00000002 0102 00000001 03");
    assert_eq!(decode_group_value(&v2), Ok(older.clone()));
    older.state_timestamp = -1;
    let v1 = hex("0001 0008 636f6e73756d6572 00000002 0005 72616e6765 0003 612d31 00000001
         0003 612d31 0001 61 0002 2f68 0000001e 0000000a 00000002 0102 00000001 03");
    assert_eq!(decode_group_value(&v1), Ok(older.clone()));
    older.members[0].rebalance_timeout_ms = -1;
    let v0 = hex("0000 0008 636f6e73756d6572 00000002 0005 72616e6765 0003 612d31 00000001
         0003 612d31 0001 61 0002 2f68 0000000a 00000002 0102 00000001 03");
    assert_eq!(decode_group_value(&v0), Ok(older));
    // An empty group: no protocol, no leader.
    let empty = GroupValue {
        protocol_type: Arc::from(""),
        generation: 0,
        protocol: None,
        leader: None,
        state_timestamp: 9,
        members: vec![],
    };
    let bytes = hex("0003 0000 00000000 ffff ffff 0000000000000009 00000000");
    assert_eq!(encode_group_value(&empty), bytes);
    assert_eq!(decode_group_value(&bytes), Ok(empty));
}

#[test]
fn cut_records_and_hostile_lengths_are_errors() {
    for value in [encode_offset_value(&offset()), encode_group_value(&group())] {
        for cut in 0..value.len() {
            assert!(decode_offset_value(&value[..cut]).is_err() || decode_group_value(&value[..cut]).is_err());
        }
    }
    let group = encode_group_value(&group());
    for cut in 0..group.len() {
        assert!(decode_group_value(&group[..cut]).is_err(), "{cut}");
    }
    // Two billion members claimed; a compact length past 32 bits.
    assert!(decode_group_value(&hex("0003 0000 00000000 ffff ffff 0000000000000009 7fffffff")).is_err());
    assert!(decode_group_value(&hex("0004 ffffffff7f")).is_err());
    assert!(decode_offset_value(&hex("0004 0000000000000005 00000007 ffffffff0f")).is_err());
}
