// SPDX-License-Identifier: Apache-2.0
//! Between what brokers ask the controller and its form on the wire. It must not know connections, nor who is the
//! controller.
//!
//! A refusal travels as a number with what the asker does not know itself; the asker puts the rest, which it asked with,
//! back in.
use odradek_metadata::{
    AllocateProducerIds, AllocateProducerIdsError, AlterPartition, AlterPartitionError, AlterPartitionRefusal,
    AlterPartitionReply, AlteredPartition, Endpoint, Heartbeat, HeartbeatReply, MayStop, PartitionKey, ProducerIdBlock,
    ProposedPartition, ProposedReplica, RegisterBroker, RegisterBrokerError, StaleHeartbeat, StopBlocker, StopReason,
    StopVerdict,
};
use odradek_model::{BrokerEpoch, BrokerId, ClusterId, DirectoryId, TopicId, TopicName};
use odradek_wire::private::{
    AllocateProducerIdsRequest, AllocateProducerIdsResponse, AlterPartitionRequest, AlterPartitionResponse,
    AlteredPartitionState, BrokerEndpoint, BrokerHeartbeatRequest, BrokerHeartbeatResponse, ControllerAnswer,
    DamagedLog, MayStopRequest, MayStopResponse, ProposedMember, ProposedPartitionState, RegisterBrokerRequest,
    RegisterBrokerResponse, StopBlockerState,
};

/// Bytes that are no request or answer of ours: the other broker is broken, or of a version that it may not be of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an impossible {0}")]
pub struct Impossible(pub(crate) &'static str);

/// -1 on the wire.
const NOT_CHECKED: BrokerEpoch = -1;

fn checked(epoch: BrokerEpoch) -> Option<BrokerEpoch> {
    (epoch != NOT_CHECKED).then_some(epoch)
}

pub(crate) fn register(command: &RegisterBroker) -> RegisterBrokerRequest {
    let endpoints = command.endpoints.iter().map(|endpoint| BrokerEndpoint {
        listener: (&endpoint.listener).into(),
        host: (&endpoint.host).into(),
        port: endpoint.port,
        security_protocol: endpoint.security_protocol,
    });
    let damaged = |key: &PartitionKey| DamagedLog { topic_id: key.topic.0, partition: key.partition };
    RegisterBrokerRequest {
        broker_id: command.broker_id.0,
        cluster_id: command.cluster_id.as_str().into(),
        incarnation: command.incarnation,
        directory_id: command.directory_id.0,
        endpoints: endpoints.collect(),
        rack: command.rack.as_ref().map(Into::into),
        boot_id: (&command.boot_id).into(),
        clean_shutdown_of: command.clean_shutdown_of.unwrap_or(NOT_CHECKED),
        damaged_logs: command.damaged_logs.iter().map(damaged).collect(),
        supported_feature_level: command.supported_feature_level,
    }
}

pub(crate) fn read_register(request: &RegisterBrokerRequest) -> Result<RegisterBroker, Impossible> {
    let endpoints = request.endpoints.iter().map(|endpoint| Endpoint {
        listener: (&endpoint.listener).into(),
        host: (&endpoint.host).into(),
        port: endpoint.port,
        security_protocol: endpoint.security_protocol,
    });
    let damaged = |log: &DamagedLog| PartitionKey { topic: TopicId(log.topic_id), partition: log.partition };
    Ok(RegisterBroker {
        broker_id: BrokerId(request.broker_id),
        cluster_id: ClusterId::new(&request.cluster_id).map_err(|_| Impossible("cluster id"))?,
        incarnation: request.incarnation,
        directory_id: DirectoryId(request.directory_id),
        endpoints: endpoints.collect(),
        rack: request.rack.as_ref().map(Into::into),
        boot_id: (&request.boot_id).into(),
        clean_shutdown_of: checked(request.clean_shutdown_of),
        damaged_logs: request.damaged_logs.iter().map(damaged).collect(),
        supported_feature_level: request.supported_feature_level,
    })
}

pub(crate) fn registered(
    controller: ControllerAnswer,
    reply: Result<BrokerEpoch, RegisterBrokerError>,
) -> RegisterBrokerResponse {
    let response = RegisterBrokerResponse { controller, ..RegisterBrokerResponse::default() };
    let error = match reply {
        Ok(broker_epoch) => return RegisterBrokerResponse { broker_epoch, ..response },
        Err(error) => error,
    };
    let (refusal, number, detail) = match error {
        RegisterBrokerError::OtherCluster { ours, .. } => (1, -1, ours.as_str().to_owned()),
        RegisterBrokerError::InvalidEndpoints(what) => (2, -1, what),
        RegisterBrokerError::InvalidBrokerId(_) => (3, -1, String::new()),
        RegisterBrokerError::LiveSession(_) => (4, -1, String::new()),
        RegisterBrokerError::DirectoryOfAnother { owner, .. } => (5, i64::from(owner.0), String::new()),
        RegisterBrokerError::FeatureLevel { present, .. } => (6, i64::from(present), String::new()),
        RegisterBrokerError::TooManyDamagedLogs(_) => (7, -1, String::new()),
        RegisterBrokerError::HandingOver => (8, -1, String::new()),
    };
    RegisterBrokerResponse { refusal, broker_epoch: number, detail: detail.into(), ..response }
}

pub(crate) fn read_registered(
    command: &RegisterBroker,
    response: &RegisterBrokerResponse,
) -> Result<Result<BrokerEpoch, RegisterBrokerError>, Impossible> {
    let number = || i32::try_from(response.broker_epoch).map_err(|_| Impossible("number in a refusal"));
    Ok(Err(match response.refusal {
        0 => return Ok(Ok(response.broker_epoch)),
        1 => RegisterBrokerError::OtherCluster {
            given: command.cluster_id.clone(),
            ours: ClusterId::new(&response.detail).map_err(|_| Impossible("cluster id"))?,
        },
        2 => RegisterBrokerError::InvalidEndpoints((&response.detail).into()),
        3 => RegisterBrokerError::InvalidBrokerId(command.broker_id),
        4 => RegisterBrokerError::LiveSession(command.broker_id),
        5 => RegisterBrokerError::DirectoryOfAnother { directory: command.directory_id, owner: BrokerId(number()?) },
        6 => RegisterBrokerError::FeatureLevel {
            supported: command.supported_feature_level.max(1),
            present: number()?.unsigned_abs(),
        },
        7 => RegisterBrokerError::TooManyDamagedLogs(command.damaged_logs.len()),
        8 => RegisterBrokerError::HandingOver,
        _ => return Err(Impossible("refusal")),
    }))
}

pub(crate) fn heartbeat(heartbeat: &Heartbeat) -> BrokerHeartbeatRequest {
    BrokerHeartbeatRequest {
        broker_id: heartbeat.broker_id.0,
        broker_epoch: heartbeat.broker_epoch,
        metadata_end: heartbeat.metadata_end,
        wants_fence: heartbeat.wants_fence,
        wants_shutdown: heartbeat.wants_shutdown,
    }
}

pub(crate) fn read_heartbeat(request: &BrokerHeartbeatRequest) -> Heartbeat {
    Heartbeat {
        broker_id: BrokerId(request.broker_id),
        broker_epoch: request.broker_epoch,
        metadata_end: request.metadata_end,
        wants_fence: request.wants_fence,
        wants_shutdown: request.wants_shutdown,
    }
}

pub(crate) fn heard(
    controller: ControllerAnswer,
    reply: Result<HeartbeatReply, StaleHeartbeat>,
) -> BrokerHeartbeatResponse {
    let response = BrokerHeartbeatResponse { controller, ..BrokerHeartbeatResponse::default() };
    match reply {
        Ok(HeartbeatReply { caught_up, fenced, may_stop }) => {
            BrokerHeartbeatResponse { caught_up, fenced, may_stop, ..response }
        }
        Err(StaleHeartbeat(..)) => BrokerHeartbeatResponse { refusal: 1, ..response },
    }
}

pub(crate) fn read_heard(
    heartbeat: &Heartbeat,
    response: &BrokerHeartbeatResponse,
) -> Result<Result<HeartbeatReply, StaleHeartbeat>, Impossible> {
    let BrokerHeartbeatResponse { caught_up, fenced, may_stop, .. } = *response;
    match response.refusal {
        0 => Ok(Ok(HeartbeatReply { caught_up, fenced, may_stop })),
        1 => Ok(Err(StaleHeartbeat(heartbeat.broker_id, heartbeat.broker_epoch))),
        _ => Err(Impossible("refusal")),
    }
}

pub(crate) fn alter(command: &AlterPartition) -> AlterPartitionRequest {
    let member = |replica: &ProposedReplica| ProposedMember {
        broker_id: replica.broker_id.0,
        broker_epoch: replica.broker_epoch.unwrap_or(NOT_CHECKED),
    };
    let partitions = command.partitions.iter().map(|proposed| ProposedPartitionState {
        topic_id: proposed.key.topic.0,
        partition: proposed.key.partition,
        leader_epoch: proposed.leader_epoch,
        partition_epoch: proposed.partition_epoch,
        isr: proposed.isr.iter().map(member).collect(),
        recovering: proposed.recovering,
    });
    AlterPartitionRequest {
        broker_id: command.broker_id.0,
        broker_epoch: command.broker_epoch,
        controller_epoch: command.controller_epoch,
        sequence: command.sequence.cast_signed(),
        partitions: partitions.collect(),
    }
}

pub(crate) fn read_alter(request: &AlterPartitionRequest) -> AlterPartition {
    let member = |member: &ProposedMember| ProposedReplica {
        broker_id: BrokerId(member.broker_id),
        broker_epoch: checked(member.broker_epoch),
    };
    let partitions = request.partitions.iter().map(|proposed| ProposedPartition {
        key: PartitionKey { topic: TopicId(proposed.topic_id), partition: proposed.partition },
        leader_epoch: proposed.leader_epoch,
        partition_epoch: proposed.partition_epoch,
        isr: proposed.isr.iter().map(member).collect(),
        recovering: proposed.recovering,
    });
    AlterPartition {
        broker_id: BrokerId(request.broker_id),
        broker_epoch: request.broker_epoch,
        controller_epoch: request.controller_epoch,
        sequence: request.sequence.cast_unsigned(),
        partitions: partitions.collect(),
    }
}

pub(crate) fn altered(controller: ControllerAnswer, reply: AlterPartitionReply) -> AlterPartitionResponse {
    let response = AlterPartitionResponse { controller, ..AlterPartitionResponse::default() };
    let partitions = match reply {
        Ok(partitions) => partitions,
        Err(refusal) => {
            let refusal = match refusal {
                AlterPartitionRefusal::StaleBrokerEpoch(..) => 1,
                AlterPartitionRefusal::Late(_) => 2,
                AlterPartitionRefusal::TooManyPartitions(_) => 3,
            };
            return AlterPartitionResponse { refusal, ..response };
        }
    };
    let partitions = partitions.into_iter().map(|(key, outcome)| {
        let state = AlteredPartitionState {
            topic_id: key.topic.0,
            partition: key.partition,
            ..AlteredPartitionState::default()
        };
        match outcome {
            Ok(altered) => AlteredPartitionState {
                leader: altered.leader.0,
                leader_epoch: altered.leader_epoch,
                partition_epoch: altered.partition_epoch,
                isr: altered.isr.iter().map(|replica| replica.0).collect(),
                recovering: altered.recovering,
                ..state
            },
            Err(error) => altered_error(&error, &state),
        }
    });
    AlterPartitionResponse { partitions: partitions.collect(), ..response }
}

fn altered_error(error: &AlterPartitionError, state: &AlteredPartitionState) -> AlteredPartitionState {
    let refuse = |refusal| AlteredPartitionState { refusal, ..state.clone() };
    match error {
        AlterPartitionError::UnknownTopicId => refuse(1),
        AlterPartitionError::UnknownPartition => refuse(2),
        AlterPartitionError::NotController => refuse(3),
        AlterPartitionError::FencedLeaderEpoch { present, .. } => {
            AlteredPartitionState { leader_epoch: *present, ..refuse(4) }
        }
        AlterPartitionError::NotLeader(_) => refuse(5),
        AlterPartitionError::StalePartitionEpoch { present, .. } => {
            AlteredPartitionState { partition_epoch: *present, ..refuse(6) }
        }
        AlterPartitionError::IsrNotWithinReplicas => refuse(7),
        AlterPartitionError::IsrWithoutLeader => refuse(8),
        AlterPartitionError::RecoveringNotAlone => refuse(9),
        AlterPartitionError::RecoveringAfterRecovered => refuse(10),
        AlterPartitionError::IneligibleReplica(replica) => AlteredPartitionState { leader: replica.0, ..refuse(11) },
        AlterPartitionError::NewLeaderElected => refuse(12),
    }
}

pub(crate) fn read_altered(
    command: &AlterPartition,
    response: &AlterPartitionResponse,
) -> Result<AlterPartitionReply, Impossible> {
    let refusal = match response.refusal {
        0 => None,
        1 => Some(AlterPartitionRefusal::StaleBrokerEpoch(command.broker_id, command.broker_epoch)),
        2 => Some(AlterPartitionRefusal::Late(command.sequence)),
        3 => Some(AlterPartitionRefusal::TooManyPartitions(command.partitions.len())),
        _ => return Err(Impossible("refusal")),
    };
    if let Some(refusal) = refusal {
        return Ok(Err(refusal));
    }
    if response.partitions.len() != command.partitions.len() {
        return Err(Impossible("number of partitions"));
    }
    let states = command.partitions.iter().zip(&response.partitions);
    let read = states.map(|(proposed, state)| {
        if (proposed.key.topic.0, proposed.key.partition) != (state.topic_id, state.partition) {
            return Err(Impossible("order of partitions"));
        }
        Ok((proposed.key, read_state(command.broker_id, proposed, state)?))
    });
    Ok(Ok(read.collect::<Result<_, Impossible>>()?))
}

fn read_state(
    proposer: BrokerId,
    proposed: &ProposedPartition,
    state: &AlteredPartitionState,
) -> Result<Result<AlteredPartition, AlterPartitionError>, Impossible> {
    Ok(Err(match state.refusal {
        0 => {
            return Ok(Ok(AlteredPartition {
                leader: BrokerId(state.leader),
                leader_epoch: state.leader_epoch,
                partition_epoch: state.partition_epoch,
                isr: state.isr.iter().copied().map(BrokerId).collect(),
                recovering: state.recovering,
            }));
        }
        1 => AlterPartitionError::UnknownTopicId,
        2 => AlterPartitionError::UnknownPartition,
        3 => AlterPartitionError::NotController,
        4 => AlterPartitionError::FencedLeaderEpoch { given: proposed.leader_epoch, present: state.leader_epoch },
        5 => AlterPartitionError::NotLeader(proposer),
        6 => {
            AlterPartitionError::StalePartitionEpoch { given: proposed.partition_epoch, present: state.partition_epoch }
        }
        7 => AlterPartitionError::IsrNotWithinReplicas,
        8 => AlterPartitionError::IsrWithoutLeader,
        9 => AlterPartitionError::RecoveringNotAlone,
        10 => AlterPartitionError::RecoveringAfterRecovered,
        11 => AlterPartitionError::IneligibleReplica(BrokerId(state.leader)),
        12 => AlterPartitionError::NewLeaderElected,
        _ => return Err(Impossible("refusal")),
    }))
}

pub(crate) fn allocate(command: &AllocateProducerIds) -> AllocateProducerIdsRequest {
    AllocateProducerIdsRequest { broker_id: command.broker_id.0, broker_epoch: command.broker_epoch }
}

pub(crate) fn read_allocate(request: &AllocateProducerIdsRequest) -> AllocateProducerIds {
    AllocateProducerIds { broker_id: BrokerId(request.broker_id), broker_epoch: request.broker_epoch }
}

pub(crate) fn allocated(
    controller: ControllerAnswer,
    reply: &Result<ProducerIdBlock, AllocateProducerIdsError>,
) -> AllocateProducerIdsResponse {
    let response = AllocateProducerIdsResponse { controller, ..AllocateProducerIdsResponse::default() };
    match *reply {
        Ok(ProducerIdBlock { first, len }) => AllocateProducerIdsResponse { first, len, ..response },
        Err(AllocateProducerIdsError::UnknownBroker(_)) => AllocateProducerIdsResponse { refusal: 1, ..response },
        Err(AllocateProducerIdsError::StaleBrokerEpoch { present, .. }) => {
            AllocateProducerIdsResponse { refusal: 2, first: present, ..response }
        }
        Err(AllocateProducerIdsError::Exhausted) => AllocateProducerIdsResponse { refusal: 3, ..response },
    }
}

pub(crate) fn read_allocated(
    command: &AllocateProducerIds,
    response: &AllocateProducerIdsResponse,
) -> Result<Result<ProducerIdBlock, AllocateProducerIdsError>, Impossible> {
    Ok(Err(match response.refusal {
        0 if response.first >= 0 && response.len >= 1 => {
            return Ok(Ok(ProducerIdBlock { first: response.first, len: response.len }));
        }
        1 => AllocateProducerIdsError::UnknownBroker(command.broker_id),
        2 => AllocateProducerIdsError::StaleBrokerEpoch { given: command.broker_epoch, present: response.first },
        3 => AllocateProducerIdsError::Exhausted,
        _ => return Err(Impossible("block of producer ids")),
    }))
}

pub(crate) fn may_stop(command: MayStop) -> MayStopRequest {
    MayStopRequest { broker_id: command.broker_id.0 }
}

pub(crate) fn read_may_stop(request: &MayStopRequest) -> MayStop {
    MayStop { broker_id: BrokerId(request.broker_id) }
}

pub(crate) fn stop_verdict(controller: ControllerAnswer, reply: Option<StopVerdict>) -> MayStopResponse {
    let response = MayStopResponse { controller, ..MayStopResponse::default() };
    let Some(verdict) = reply else { return MayStopResponse { refusal: 1, ..response } };
    let blocker = |blocker: &StopBlocker| {
        let (reason, left, needed) = match blocker.reason {
            StopReason::SoleReplica => (1, 0, 0),
            StopReason::LastInSync => (2, 0, 0),
            StopReason::LastEligible => (3, 0, 0),
            StopReason::UnderMinInSync { left, needed } => (4, left as u32, needed as u32),
        };
        StopBlockerState {
            topic: (&*blocker.topic).into(),
            partition: blocker.partition,
            reason,
            in_sync_left: left,
            in_sync_needed: needed,
        }
    };
    MayStopResponse {
        sole_replica: verdict.sole_replica as u32,
        last_in_sync: verdict.last_in_sync as u32,
        last_eligible: verdict.last_eligible as u32,
        under_min_in_sync: verdict.under_min_in_sync as u32,
        blockers: verdict.blockers.iter().map(blocker).collect(),
        ..response
    }
}

pub(crate) fn read_stop_verdict(response: &MayStopResponse) -> Result<Option<StopVerdict>, Impossible> {
    match response.refusal {
        0 => {}
        1 => return Ok(None),
        _ => return Err(Impossible("refusal")),
    }
    let blocker = |blocker: &StopBlockerState| {
        let reason = match blocker.reason {
            1 => StopReason::SoleReplica,
            2 => StopReason::LastInSync,
            3 => StopReason::LastEligible,
            4 => StopReason::UnderMinInSync {
                left: blocker.in_sync_left as usize,
                needed: blocker.in_sync_needed as usize,
            },
            _ => return Err(Impossible("reason against a stop")),
        };
        let topic = TopicName::new(&blocker.topic).map_err(|_| Impossible("topic name"))?;
        Ok(StopBlocker { topic, partition: blocker.partition, reason })
    };
    Ok(Some(StopVerdict {
        sole_replica: response.sole_replica as usize,
        last_in_sync: response.last_in_sync as usize,
        last_eligible: response.last_eligible as usize,
        under_min_in_sync: response.under_min_in_sync as usize,
        blockers: response.blockers.iter().map(blocker).collect::<Result<_, _>>()?,
    }))
}

#[cfg(test)]
mod tests;
