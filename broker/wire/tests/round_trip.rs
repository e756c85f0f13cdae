// SPDX-License-Identifier: Apache-2.0
//! Random messages of every API, version and direction come back from the wire as they were; values that a
//! version cannot carry are refused; records are passed on, not copied.

mod bodies;

use bodies::{Body, DIRECTIONS, hex, versions};
use bytes::Bytes;
use odradek_wire::encode::Segment;
use odradek_wire::generate::Source;
use odradek_wire::messages::{
    ApiVersionsResponse, DeleteTopicsRequest, FetchRequest, FetchResponse, FetchableTopicResponse, ListOffsetsRequest,
    MetadataRequest, PartitionData, ReplicaState,
};
use odradek_wire::private::{
    EnvelopeRequest, EnvelopeResponse, FIRST_PRIVATE_KEY, PeerRequest, PrivateApiKey, PrivateHeader, QuorumBatch,
    QuorumFetched, QuorumMessage, QuorumSnapshotPart,
};
use odradek_wire::{
    AnyRequest, ApiKey, DecodeError, Decoder, EncodeError, Encoder, ErrorCode, Message, Records, RequestHeader, Text,
    api_versions, frame,
};

/// Random messages for each key, version and direction.
const VALUES: u64 = 100;

#[test]
fn every_message_comes_back() {
    for &key in ApiKey::ALL {
        for direction in DIRECTIONS {
            for version in versions(key) {
                for value in 0..VALUES {
                    let seed = (value << 32) | ((version as u64) << 16) | key.code() as u64;
                    let body = Body::generate(&mut Source::new(seed), key, version, direction);
                    let bytes = body.encode(version);
                    let what = format!("{} v{version} {direction}, seed {seed}", key.name());
                    assert_eq!(Body::decode(bytes, key, version, direction).as_ref(), Ok(&body), "{what}");
                }
            }
        }
    }
}

#[test]
fn headers_come_back_before_every_request() {
    for &key in ApiKey::ALL {
        // One above the newest as well: ApiVersions must be able to answer it.
        for version in key.min_version()..=key.max_version() + 1 {
            for client_id in [None, Some(Text::from_static("")), Some(Text::from_static("someone"))] {
                let header = RequestHeader { key, version, correlation_id: -7, client_id };
                let mut encoder = Encoder::new();
                header.encode(&mut encoder).expect("encodes");
                let mut decoder = Decoder::new(encoder.finish_contiguous().expect("is short"));
                assert_eq!(RequestHeader::decode(&mut decoder).as_ref(), Ok(&header));
                assert_eq!(decoder.finish(), Ok(()));
            }
        }
    }
}

/// Bytes by hand, so that encoder and decoder cannot be wrong together.
#[test]
fn known_bytes() {
    let request = MetadataRequest { topics: None, ..MetadataRequest::default() };
    assert_eq!(hex(&request.to_bytes(1).expect("encodes")), "ffffffff");
    assert_eq!(hex(&request.to_bytes(12).expect("encodes")), "00010000");
    assert_eq!(request.to_bytes(0), Err(EncodeError::NullNotAllowed { field: "MetadataRequest.topics", version: 0 }));

    let header = RequestHeader {
        key: ApiKey::ListOffsets,
        version: 1,
        correlation_id: 5,
        client_id: Some(Text::from_static("ab")),
    };
    let frame = frame::encode_request(&header, &ListOffsetsRequest { replica_id: -1, ..Default::default() });
    let frame = frame.expect("encodes").concat();
    assert_eq!(hex(&frame), "00000014000200010000000500026162ffffffff00000000");
}

#[test]
fn a_value_that_a_version_lacks_is_refused_unless_ignorable() {
    let follower =
        FetchRequest { replica_state: ReplicaState { replica_id: 3, replica_epoch: 9 }, ..FetchRequest::default() };
    assert_eq!(
        follower.to_bytes(14),
        Err(EncodeError::FieldNotInVersion { field: "FetchRequest.replica_state", version: 14 })
    );
    assert!(follower.to_bytes(15).is_ok());

    // Ignorable: left out in silence.
    let racked = FetchRequest { rack_id: Text::from_static("a"), ..FetchRequest::default() };
    let read = FetchRequest::decode_whole(racked.to_bytes(10).expect("encodes"), 10);
    assert_eq!(read, Ok(FetchRequest::default()));

    let names = DeleteTopicsRequest { topic_names: vec![Text::from_static("t")], ..Default::default() };
    assert!(names.to_bytes(5).is_ok());
    assert!(matches!(
        FetchRequest::default().to_bytes(19),
        Err(EncodeError::UnsupportedVersion { message: "FetchRequest", version: 19 })
    ));
}

#[test]
fn unknown_tagged_fields_are_skipped() {
    // Metadata v12 of no topic, with the tagged fields 7 (3 bytes) and 9 (none).
    let bytes = Bytes::from_static(&[1, 1, 0, 2, 7, 3, 0xde, 0xad, 0xbe, 9, 0]);
    let read = MetadataRequest::decode_whole(bytes, 12).expect("decodes");
    assert_eq!(read, MetadataRequest { topics: Some(Vec::new()), ..MetadataRequest::default() });
    // A known one must be as long as it says: finalized_features_epoch (tag 1) with a byte too many.
    let mut bytes = ApiVersionsResponse { finalized_features_epoch: 1, ..Default::default() }
        .to_bytes(3)
        .expect("encodes")
        .to_vec();
    let size = bytes.len() - 9;
    assert_eq!(bytes[size], 8);
    bytes[size] = 9;
    bytes.push(0);
    assert!(matches!(
        ApiVersionsResponse::decode_whole(bytes.into(), 3),
        Err(DecodeError::TrailingBytes { left: 1, .. })
    ));
}

#[test]
fn records_and_strings_share_memory() {
    let records = Bytes::from(vec![7; 100_000]);
    let response = FetchResponse {
        responses: vec![FetchableTopicResponse {
            topic: Text::from_static("t"),
            partitions: vec![PartitionData { records: Some(records.clone().into()), ..PartitionData::default() }],
            ..FetchableTopicResponse::default()
        }],
        ..FetchResponse::default()
    };
    let segments = frame::encode_response(1, ApiKey::Fetch, 12, &response).expect("encodes");
    assert!(segments.iter().any(|segment| segment.as_ptr() == records.as_ptr() && segment.len() == records.len()));
    let all = Bytes::from(segments.concat());
    let size = frame::check_size(all[..4].try_into().expect("four bytes"), 1 << 20);
    assert_eq!(size, Ok(all.len() - 4));

    let (_, read) = frame::decode_response::<FetchResponse>(all.slice(4..), ApiKey::Fetch, 12).expect("decodes");
    let inside = |bytes: &[u8]| all.as_ptr_range().contains(&bytes.as_ptr());
    assert!(inside(read.responses[0].topic.as_bytes()));
    let decoded = read.responses[0].partitions[0].records.clone().and_then(Records::into_bytes).expect("are there");
    assert!(inside(&decoded));
    assert!(!inside(read.responses[0].topic.detached().as_bytes()));
    assert_eq!(read, response);
}

#[test]
fn records_elsewhere_leave_a_gap_of_their_length() {
    let with = |records| FetchResponse {
        responses: vec![FetchableTopicResponse {
            topic: Text::from_static("t"),
            partitions: vec![PartitionData { records: Some(records), ..PartitionData::default() }],
            ..FetchableTopicResponse::default()
        }],
        ..FetchResponse::default()
    };
    let records = Bytes::from(vec![7; 5_000]);
    for version in [4, 11, 12, 17] {
        let encoded = |response: FetchResponse| {
            let mut encoder = Encoder::framed();
            response.encode(&mut encoder, version).expect("encodes");
            encoder
        };
        let elsewhere = encoded(with(Records::Elsewhere(records.len()))).finish_with_gaps().expect("has a gap");
        let filled: Vec<u8> = elsewhere
            .iter()
            .flat_map(|segment| match segment {
                Segment::Bytes(bytes) => bytes.clone(),
                Segment::Gap(length) => records.slice(..*length),
            })
            .collect();
        let whole = encoded(with(records.clone().into())).finish().expect("is whole").concat();
        assert_eq!(filled, whole, "version {version}");
        let refused = encoded(with(Records::Elsewhere(5_000))).finish();
        assert_eq!(refused, Err(EncodeError::Gap { length: 5_000 }));
    }
}

/// Rules 1 and 2 of what a compatible broker does: the v0 answer to an unknown version, and Produce from 0.
#[test]
fn api_versions_answers() {
    let offered = api_versions::response();
    assert_eq!(offered.api_keys.len(), ApiKey::ALL.len());
    let produce = offered.api_keys.iter().find(|api| api.api_key == 0).expect("is offered");
    assert_eq!((produce.min_version, produce.max_version), (0, 13));
    assert!(!api_versions::is_supported(ApiKey::Produce, 2));
    assert!(api_versions::is_supported(ApiKey::Produce, 3));

    let refusal = api_versions::unsupported_version_response();
    let segments = frame::encode_response(9, ApiKey::ApiVersions, 0, &refusal).expect("encodes");
    // Size, correlation id, error 35, one API: key 18, versions 0 to 5.
    assert_eq!(hex(&segments.concat()), "00000010000000090023000000010012000000 05".replace(' ', ""));
    assert_eq!(refusal.error_code, ErrorCode::UnsupportedVersion.code());
}

#[test]
fn an_unknown_key_is_an_error_by_number() {
    let mut decoder = Decoder::new(Bytes::from_static(&[0, 99, 0, 0, 0, 0, 0, 1, 0xff, 0xff]));
    assert_eq!(RequestHeader::decode(&mut decoder), Err(DecodeError::UnknownApiKey { key: 99 }));
    let mut decoder = Decoder::new(Bytes::new());
    assert!(matches!(
        AnyRequest::decode(&mut decoder, ApiKey::Produce, 2),
        Err(DecodeError::UnsupportedVersion { message: "ProduceRequest", version: 2 })
    ));
}

#[test]
fn every_private_message_comes_back() {
    for &key in PrivateApiKey::ALL {
        for value in 0..VALUES {
            // Checks that what it encodes comes back.
            let bytes = key.generate_both(&mut Source::new(value << 32 | u64::from(key.code().cast_unsigned())));
            assert!(bytes.iter().all(|bytes| !bytes.is_empty()));
        }
        let header = PrivateHeader { key, version: 3, correlation_id: -7 };
        let mut encoder = Encoder::new();
        header.encode(&mut encoder).expect("encodes");
        let bytes = encoder.finish_contiguous().expect("is short");
        assert!(PrivateHeader::is_private(&bytes));
        let mut decoder = Decoder::new(bytes);
        assert_eq!(PrivateHeader::decode(&mut decoder), Ok(header));
        assert_eq!(decoder.finish(), Ok(()));
        assert!(key.has_version(0) && !key.has_version(1) && !key.has_version(-1));
    }
}

/// Keys are for ever: a changed one would make brokers of two versions misunderstand each other.
#[test]
fn private_keys_are_fixed_and_never_advertised() {
    let keys: Vec<(i16, &str)> = PrivateApiKey::ALL.iter().map(|key| (key.code(), key.name())).collect();
    let expected = [
        (10_000, "Quorum"),
        (10_001, "Challenge"),
        (10_002, "Introduce"),
        (10_003, "RegisterBroker"),
        (10_004, "BrokerHeartbeat"),
        (10_005, "AlterPartition"),
        (10_006, "AllocateProducerIds"),
        (10_007, "Envelope"),
        (10_008, "ConfirmLeadership"),
        (10_009, "MayStop"),
    ];
    assert_eq!(keys, expected);
    assert!(api_versions::response().api_keys.iter().all(|api| api.api_key < FIRST_PRIVATE_KEY));
    let mut decoder = Decoder::new(Bytes::from_static(&[0x27, 0x10, 0, 0, 0, 0, 0, 1, 0xff, 0xff, 0]));
    assert_eq!(RequestHeader::decode(&mut decoder), Err(DecodeError::UnknownApiKey { key: 10_000 }));
}

#[test]
fn batches_snapshot_parts_and_enveloped_requests_share_the_frame() {
    let bytes = Bytes::from(vec![7; 100_000]);
    let batch = QuorumBatch { records: Some(bytes.clone()), ..QuorumBatch::default() };
    let fetched = QuorumFetched { batches: vec![batch; 2], ..QuorumFetched::default() };
    let part = QuorumSnapshotPart { part: Some(bytes.clone()), ..QuorumSnapshotPart::default() };
    let messages = [
        QuorumMessage { fetched: Some(fetched), ..QuorumMessage::default() },
        QuorumMessage { snapshot_part: Some(part), ..QuorumMessage::default() },
    ];
    let header = PrivateHeader { key: PrivateApiKey::Quorum, version: 0, correlation_id: 0 };
    for message in messages {
        let segments = header.encode_frame(&message).expect("encodes");
        assert!(segments.iter().any(|segment| segment.as_ptr() == bytes.as_ptr()), "sent uncopied");
        let frame = Bytes::from(segments.concat()).slice(frame::SIZE_LENGTH..);
        let mut decoder = Decoder::new(frame.clone());
        assert_eq!(PrivateHeader::decode(&mut decoder), Ok(header));
        let read = QuorumMessage::decode(&mut decoder, 0).expect("decodes");
        assert_eq!(read, message);
        let inside = |bytes: &Bytes| frame.as_ptr_range().contains(&bytes.as_ptr());
        let batches = read.fetched.iter().flat_map(|fetched| &fetched.batches);
        assert!(batches.filter_map(|batch| batch.records.as_ref()).all(inside));
        assert!(read.snapshot_part.iter().filter_map(|part| part.part.as_ref()).all(inside));
    }

    let request = EnvelopeRequest { request: Some(bytes.clone()), ..EnvelopeRequest::default() };
    let segments = request.encode_frame(0, 4, &Text::from_static("x")).expect("encodes");
    assert!(segments.iter().any(|segment| segment.as_ptr() == bytes.as_ptr()), "sent uncopied");
    let response = EnvelopeResponse { response: Some(bytes.clone()), ..EnvelopeResponse::default() };
    let header = PrivateHeader { key: PrivateApiKey::Envelope, version: 0, correlation_id: 4 };
    let frame = Bytes::from(header.encode_response(&response).expect("encodes").concat()).slice(frame::SIZE_LENGTH..);
    let (correlation_id, read) = EnvelopeRequest::decode_frame(frame.clone(), 0).expect("decodes");
    assert_eq!((correlation_id, &read), (4, &response));
    assert!(frame.as_ptr_range().contains(&read.response.expect("is there").as_ptr()));
}
