// SPDX-License-Identifier: Apache-2.0
//! Every command and every answer of the controller comes back over the wire as it was.
use odradek_wire::Message as _;
use uuid::Uuid;

use super::*;

const TOPIC: TopicId = TopicId(Uuid::from_u128(9));

fn key(partition: i32) -> PartitionKey {
    PartitionKey { topic: TOPIC, partition }
}

fn registration() -> RegisterBroker {
    RegisterBroker {
        broker_id: BrokerId(3),
        cluster_id: ClusterId::new("cluster").unwrap(),
        incarnation: Uuid::from_u128(1),
        directory_id: DirectoryId(Uuid::from_u128(2)),
        endpoints: vec![Endpoint {
            listener: "plain".into(),
            host: "c-3.ns.svc".into(),
            port: 65_535,
            security_protocol: 3,
        }],
        rack: Some("a".into()),
        boot_id: "boot".into(),
        clean_shutdown_of: Some(44),
        damaged_logs: vec![key(7)],
        supported_feature_level: 2,
    }
}

#[test]
fn registrations_come_back() {
    for clean_shutdown_of in [Some(44), None] {
        let command = RegisterBroker { clean_shutdown_of, rack: None, ..registration() };
        let bytes = register(&command).to_bytes(0).unwrap();
        assert_eq!(read_register(&RegisterBrokerRequest::decode_whole(bytes, 0).unwrap()), Ok(command));
    }
    let bad = RegisterBrokerRequest { cluster_id: "no id/".into(), ..register(&registration()) };
    assert_eq!(read_register(&bad), Err(Impossible("cluster id")));
}

#[test]
fn answers_to_registrations_come_back() {
    let command = registration();
    let replies = [
        Ok(17),
        Err(RegisterBrokerError::OtherCluster {
            given: command.cluster_id.clone(),
            ours: ClusterId::new("other").unwrap(),
        }),
        Err(RegisterBrokerError::InvalidEndpoints("listener x is given twice".into())),
        Err(RegisterBrokerError::InvalidBrokerId(command.broker_id)),
        Err(RegisterBrokerError::LiveSession(command.broker_id)),
        Err(RegisterBrokerError::DirectoryOfAnother { directory: command.directory_id, owner: BrokerId(5) }),
        Err(RegisterBrokerError::FeatureLevel { supported: 2, present: 4 }),
        Err(RegisterBrokerError::TooManyDamagedLogs(1)),
        Err(RegisterBrokerError::HandingOver),
    ];
    for reply in replies {
        let response = registered(ControllerAnswer::default(), reply.clone());
        assert_eq!(read_registered(&command, &response), Ok(reply));
    }
    let unknown = RegisterBrokerResponse { refusal: 9, ..RegisterBrokerResponse::default() };
    assert_eq!(read_registered(&command, &unknown), Err(Impossible("refusal")));
}

#[test]
fn heartbeats_and_their_answers_come_back() {
    let command = Heartbeat {
        broker_id: BrokerId(3),
        broker_epoch: 44,
        metadata_end: 1234,
        wants_fence: true,
        wants_shutdown: false,
    };
    assert_eq!(read_heartbeat(&heartbeat(&command)), command);
    let replies = [
        Ok(HeartbeatReply { caught_up: true, fenced: false, may_stop: false }),
        Ok(HeartbeatReply { caught_up: false, fenced: true, may_stop: false }),
        Ok(HeartbeatReply { caught_up: false, fenced: false, may_stop: true }),
        Err(StaleHeartbeat(BrokerId(3), 44)),
    ];
    for reply in replies {
        assert_eq!(read_heard(&command, &heard(ControllerAnswer::default(), reply)), Ok(reply));
    }
}

fn proposals(count: i32) -> AlterPartition {
    let proposed = |partition| ProposedPartition {
        key: key(partition),
        leader_epoch: 5,
        partition_epoch: 6,
        isr: vec![
            ProposedReplica { broker_id: BrokerId(3), broker_epoch: None },
            ProposedReplica { broker_id: BrokerId(4), broker_epoch: Some(8) },
        ],
        recovering: partition == 1,
    };
    AlterPartition {
        broker_id: BrokerId(3),
        broker_epoch: 44,
        controller_epoch: 2,
        sequence: u64::MAX,
        partitions: (0..count).map(proposed).collect(),
    }
}

#[test]
fn proposals_and_their_answers_come_back() {
    let outcomes = [
        Ok(AlteredPartition {
            leader: BrokerId(3),
            leader_epoch: 5,
            partition_epoch: 7,
            isr: vec![BrokerId(3), BrokerId(4)],
            recovering: true,
        }),
        Err(AlterPartitionError::UnknownTopicId),
        Err(AlterPartitionError::UnknownPartition),
        Err(AlterPartitionError::NotController),
        Err(AlterPartitionError::FencedLeaderEpoch { given: 5, present: 9 }),
        Err(AlterPartitionError::NotLeader(BrokerId(3))),
        Err(AlterPartitionError::StalePartitionEpoch { given: 6, present: 9 }),
        Err(AlterPartitionError::IsrNotWithinReplicas),
        Err(AlterPartitionError::IsrWithoutLeader),
        Err(AlterPartitionError::RecoveringNotAlone),
        Err(AlterPartitionError::RecoveringAfterRecovered),
        Err(AlterPartitionError::IneligibleReplica(BrokerId(4))),
        Err(AlterPartitionError::NewLeaderElected),
    ];
    let command = proposals(outcomes.len() as i32);
    let bytes = alter(&command).to_bytes(0).unwrap();
    assert_eq!(read_alter(&AlterPartitionRequest::decode_whole(bytes, 0).unwrap()), command);
    let reply: AlterPartitionReply = Ok((0..).map(key).zip(outcomes).collect());
    assert_eq!(read_altered(&command, &altered(ControllerAnswer::default(), reply.clone())), Ok(reply));
    for refusal in [
        AlterPartitionRefusal::StaleBrokerEpoch(BrokerId(3), 44),
        AlterPartitionRefusal::Late(u64::MAX),
        AlterPartitionRefusal::TooManyPartitions(13),
    ] {
        let response = altered(ControllerAnswer::default(), Err(refusal.clone()));
        assert_eq!(read_altered(&command, &response), Ok(Err(refusal)));
    }
}

#[test]
fn answers_that_do_not_fit_the_proposals_are_impossible() {
    let command = proposals(2);
    let taken = |partition| (key(partition), Err::<AlteredPartition, _>(AlterPartitionError::UnknownTopicId));
    let answer = |partitions: &[i32]| {
        let reply = Ok(partitions.iter().copied().map(taken).collect());
        read_altered(&command, &altered(ControllerAnswer::default(), reply)).map(|_| ())
    };
    assert_eq!(answer(&[0, 1]), Ok(()));
    assert_eq!(answer(&[0]), Err(Impossible("number of partitions")));
    assert_eq!(answer(&[1, 0]), Err(Impossible("order of partitions")));
}

#[test]
fn blocks_of_producer_ids_come_back() {
    let command = AllocateProducerIds { broker_id: BrokerId(3), broker_epoch: 44 };
    assert_eq!(read_allocate(&allocate(&command)), command);
    let replies = [
        Ok(ProducerIdBlock { first: 5000, len: 1000 }),
        Err(AllocateProducerIdsError::UnknownBroker(BrokerId(3))),
        Err(AllocateProducerIdsError::StaleBrokerEpoch { given: 44, present: 45 }),
        Err(AllocateProducerIdsError::Exhausted),
    ];
    for reply in replies {
        let response = allocated(ControllerAnswer::default(), &reply);
        assert_eq!(read_allocated(&command, &response), Ok(reply));
    }
    let empty = AllocateProducerIdsResponse { first: 1, ..AllocateProducerIdsResponse::default() };
    assert_eq!(read_allocated(&command, &empty), Err(Impossible("block of producer ids")));
}

#[test]
fn what_speaks_against_a_stop_comes_back() {
    let command = MayStop { broker_id: BrokerId(3) };
    assert_eq!(read_may_stop(&may_stop(command)), command);
    let reasons = [
        StopReason::SoleReplica,
        StopReason::LastInSync,
        StopReason::LastEligible,
        StopReason::UnderMinInSync { left: 1, needed: 2 },
    ];
    let topic = TopicName::new("t").unwrap();
    let blockers = reasons.map(|reason| StopBlocker { topic: topic.clone(), partition: 7, reason });
    let verdict = StopVerdict {
        sole_replica: 40_000,
        last_in_sync: 2,
        last_eligible: 3,
        under_min_in_sync: 4,
        blockers: blockers.into(),
    };
    for reply in [Some(verdict), Some(StopVerdict::default()), None] {
        let bytes = stop_verdict(ControllerAnswer::default(), reply.clone()).to_bytes(0).unwrap();
        assert_eq!(read_stop_verdict(&MayStopResponse::decode_whole(bytes, 0).unwrap()), Ok(reply));
    }
    let unknown = MayStopResponse { refusal: 2, ..MayStopResponse::default() };
    assert_eq!(read_stop_verdict(&unknown), Err(Impossible("refusal")));
    let unknown = StopBlockerState { topic: "t".into(), reason: 5, ..StopBlockerState::default() };
    let unknown = MayStopResponse { blockers: vec![unknown], ..MayStopResponse::default() };
    assert_eq!(read_stop_verdict(&unknown), Err(Impossible("reason against a stop")));
}
