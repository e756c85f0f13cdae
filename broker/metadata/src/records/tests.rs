// SPDX-License-Identifier: Apache-2.0
//! The stored form of the records.

use super::*;

fn id(byte: u8) -> Bytes {
    Bytes::from(vec![byte; 16])
}

fn one_of_each() -> Vec<Record> {
    let endpoint = EndpointRecord { listener: "PLAIN".into(), host: "h".into(), port: 9092, security_protocol: 0 };
    vec![
        ControllerChangeRecord {
            controller_epoch: 7,
            broker_id: 1,
            incarnation: "abc".into(),
            recovered_without: vec!["2:x".into()],
        }
        .into(),
        ClusterRecord { cluster_id: "c".into() }.into(),
        FeatureLevelRecord { level: 1 }.into(),
        RegisterBrokerRecord {
            broker_id: 1,
            broker_epoch: 5,
            incarnation: id(1),
            directory_id: id(2),
            endpoints: vec![endpoint],
            rack: Some("r".into()),
            boot_id: "b".into(),
            fenced: true,
            registered_at: Some(4),
            shutting_down_at: Some(6),
            cordoned: true,
            supported_feature_level: 2,
        }
        .into(),
        TopicRecord { id: id(3), name: "t".into(), always_flushed: true }.into(),
        TopicSettingRecord { topic_id: id(3), name: "retention.ms".into(), value: Some("1".into()) }.into(),
        PartitionRecord {
            topic_id: id(3),
            partition: 2,
            replicas: vec![1, 2],
            isr: vec![1],
            leader: 1,
            leader_epoch: 4,
            partition_epoch: 6,
            elr: vec![2],
            adding: vec![3],
            removing: vec![2],
            recovering: true,
            lost_logs: vec![3],
        }
        .into(),
        RemoveTopicRecord { id: id(3) }.into(),
        ProducerIdsRecord { broker_id: 1, broker_epoch: 5, next_producer_id: 1000 }.into(),
        UnregisterBrokerRecord { broker_id: 1, broker_epoch: 5 }.into(),
        BrokerChangeRecord {
            broker_id: 1,
            broker_epoch: 5,
            fenced: Some(false),
            shutting_down: true,
            cordoned: Some(true),
        }
        .into(),
        BrokerSettingRecord { broker_id: -1, name: "n".into(), value: Some("1".into()) }.into(),
    ]
}

#[test]
fn every_kind_reads_back_and_declares_its_fields() {
    for record in one_of_each() {
        let mut bytes = Vec::new();
        record.encode(&mut bytes);
        assert_eq!(bytes.len(), record.encoded_len());
        let mut rest = &bytes[..];
        // A field missing in the list of known fields would come back as unknown.
        assert_eq!(Record::decode(&mut rest), Ok(record));
        assert!(rest.is_empty());
        for cut in 0..bytes.len() {
            assert!(Record::decode(&mut &bytes[..cut]).is_err());
        }
    }
}

#[test]
fn stored_numbers_do_not_change() {
    let bytes: Vec<Vec<u8>> = one_of_each()
        .iter()
        .map(|record| {
            let mut bytes = Vec::new();
            record.encode(&mut bytes);
            bytes
        })
        .collect();
    assert_eq!(bytes[0], [1, 14, 0x08, 7, 0x10, 1, 0x1a, 3, b'a', b'b', b'c', 0x22, 3, b'2', b':', b'x']);
    assert_eq!(bytes[1], [2, 3, 0x0a, 1, b'c']);
    assert_eq!(bytes[2], [3, 2, 0x08, 1]);
    assert_eq!(bytes[8], [10, 7, 0x08, 1, 0x10, 5, 0x18, 0xe8, 7]);
    assert_eq!(bytes[9], [5, 4, 0x08, 1, 0x10, 5]);
    assert_eq!(bytes[10], [11, 10, 0x08, 1, 0x10, 5, 0x18, 0, 0x20, 1, 0x28, 1]);
    let kinds: Vec<u8> = bytes.iter().map(|b| b[0]).collect();
    assert_eq!(kinds, [1, 2, 3, 4, 6, 9, 8, 7, 10, 5, 11, 12]);
}

#[test]
fn unknown_fields_survive() {
    // FeatureLevel with level 1, then unknown fields 9 (varint 300), 10 (bytes) and 11 (fixed 4).
    let unknown = [0x48, 0xac, 0x02, 0x52, 2, 1, 2, 0x5d, 1, 2, 3, 4];
    let mut bytes = vec![3, 2 + unknown.len() as u8, 0x08, 1];
    bytes.extend_from_slice(&unknown);
    let record = Record::decode(&mut &bytes[..]).expect("decodes");
    assert_eq!(record.body, RecordBody::FeatureLevel(FeatureLevelRecord { level: 1 }));
    assert_eq!(record.unknown, &unknown[..]);
    let mut again = Vec::new();
    record.encode(&mut again);
    assert_eq!(again, bytes);
}

#[test]
fn an_unknown_kind_is_refused_by_number_and_hostile_lengths_are_errors() {
    assert_eq!(Record::decode(&mut &[99, 0][..]), Err(RecordError::UnknownKind(99)));
    for bytes in [&[3, 0xff, 0xff, 0xff, 0xff, 0x0f][..], &[3, 3, 0x0a, 0xff, 1][..], &[][..], &[0xff; 12][..]] {
        assert!(matches!(Record::decode(&mut &bytes[..]), Err(RecordError::Malformed(_))), "{bytes:?}");
    }
}
