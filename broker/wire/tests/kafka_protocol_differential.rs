// SPDX-License-Identifier: Apache-2.0
//! Our codec against the `kafka-protocol` crate, for every API, version and direction that both have.
//! Random messages of ours must be read by the crate and written back byte for byte, and what the crate
//! wrote must be read by us as the value we began with; what the crate writes of its own defaults must be
//! read by us and written back likewise. The crate covers Kafka
//! 4.1: what it lacks is listed here, and compared with Kafka's own classes in `java_differential.rs`.
#![allow(clippy::print_stdout, reason = "the list of what was compared is this test's report")]

mod bodies;

use bodies::{Body, DIRECTIONS, hex, versions};
use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::{ApiKey as TheirKey, RequestKind, ResponseKind};
use odradek_wire::ApiKey;
use odradek_wire::generate::Source;

/// Random messages for each key, version and direction.
const VALUES: u64 = 30;

/// (key, version, direction) triples compared when this test was written; fewer means that cover was lost.
const COVERED: usize = 332;

/// The bytes as the crate reads and writes them again.
fn through_theirs(key: ApiKey, version: i16, direction: &str, ours: Bytes) -> Result<Bytes, String> {
    let their_key = TheirKey::try_from(key.code()).map_err(|()| "unknown key".to_owned())?;
    let mut rest = ours;
    let mut written = BytesMut::new();
    if direction == "request" {
        RequestKind::decode(their_key, &mut rest, version).and_then(|value| value.encode(&mut written, version))
    } else {
        ResponseKind::decode(their_key, &mut rest, version).and_then(|value| value.encode(&mut written, version))
    }
    .map_err(|error| format!("{error:#}"))?;
    if rest.is_empty() { Ok(written.freeze()) } else { Err(format!("{} bytes left", rest.len())) }
}

/// Whether the crate's own types take this version; its `valid_versions` name some that they do not.
fn both_have(key: ApiKey, version: i16, direction: &str) -> bool {
    let probe = Body::generate(&mut Source::new(1), key, version, direction).encode(version);
    through_theirs(key, version, direction, probe).is_ok()
}

#[test]
fn the_crate_reads_and_writes_what_we_do() {
    let mut covered = 0;
    let mut lacking = Vec::new();
    for &key in ApiKey::ALL {
        for direction in DIRECTIONS {
            let mut shared = Vec::new();
            for version in versions(key) {
                if !both_have(key, version, direction) {
                    lacking.push(format!("{} v{version} {direction}", key.name()));
                    continue;
                }
                for value in 0..VALUES {
                    let seed = (value << 32) | ((version as u64) << 16) | key.code() as u64;
                    let body = Body::generate(&mut Source::new(seed), key, version, direction);
                    let ours = body.encode(version);
                    let what = format!("{} v{version} {direction}, seed {seed}", key.name());
                    let theirs = through_theirs(key, version, direction, ours.clone())
                        .unwrap_or_else(|error| panic!("{what}: {error}"));
                    assert_eq!(hex(&theirs), hex(&ours), "{what}: written back");
                    assert_eq!(Body::decode(theirs, key, version, direction).as_ref(), Ok(&body), "{what}: read back");
                }
                shared.push(version);
                covered += 1;
            }
            println!("{:>2} {} {direction}: {shared:?}", key.code(), key.name());
        }
    }
    println!("{covered} triples of (key, version, direction) compared with kafka-protocol, {VALUES} values each");
    println!("the crate lacks: {}", lacking.join(", "));
    assert!(covered >= COVERED, "{covered} triples are compared, {COVERED} were before");
}

/// The other way round: messages that the crate makes by itself, with nothing set.
#[test]
fn we_read_and_write_what_the_crate_does() {
    let mut compared = 0;
    for &key in ApiKey::ALL {
        for direction in DIRECTIONS {
            for version in versions(key).filter(|&version| both_have(key, version, direction)) {
                let Some(theirs) = their_default(key, version, direction) else { continue };
                let what = format!("{} v{version} {direction}", key.name());
                let body = Body::decode(theirs.clone(), key, version, direction)
                    .unwrap_or_else(|error| panic!("{what}: {error}"));
                assert_eq!(hex(&body.encode(version)), hex(&theirs), "{what}");
                compared += 1;
            }
        }
    }
    println!("{compared} messages of kafka-protocol compared");
    assert!(compared > 100, "{compared}");
}

/// The crate's encoding of its default value; `None` if it refuses to write that in this version.
fn their_default(key: ApiKey, version: i16, direction: &str) -> Option<Bytes> {
    macro_rules! defaults {
        ($($name:ident),*) => {
            match (key, direction) {
                $(
                    (ApiKey::$name, "request") => RequestKind::$name(Default::default()).encode_with(version),
                    (ApiKey::$name, _) => ResponseKind::$name(Default::default()).encode_with(version),
                )*
            }
        };
    }
    trait EncodeWith {
        fn encode_with(&self, version: i16) -> Option<Bytes>;
    }
    impl EncodeWith for RequestKind {
        fn encode_with(&self, version: i16) -> Option<Bytes> {
            let mut written = BytesMut::new();
            self.encode(&mut written, version).ok().map(|()| written.freeze())
        }
    }
    impl EncodeWith for ResponseKind {
        fn encode_with(&self, version: i16) -> Option<Bytes> {
            let mut written = BytesMut::new();
            self.encode(&mut written, version).ok().map(|()| written.freeze())
        }
    }
    defaults!(
        Produce,
        Fetch,
        ListOffsets,
        Metadata,
        OffsetCommit,
        OffsetFetch,
        FindCoordinator,
        JoinGroup,
        Heartbeat,
        LeaveGroup,
        SyncGroup,
        DescribeGroups,
        ListGroups,
        ApiVersions,
        CreateTopics,
        DeleteTopics,
        InitProducerId,
        OffsetForLeaderEpoch,
        DescribeConfigs,
        DescribeLogDirs,
        CreatePartitions,
        ElectLeaders,
        IncrementalAlterConfigs,
        AlterPartitionReassignments,
        ListPartitionReassignments,
        DescribeCluster,
        UnregisterBroker,
        DescribeTopicPartitions
    )
}
