// SPDX-License-Identifier: Apache-2.0
//! The one table from our errors to Kafka's codes. Every match is exhaustive: a new error does not compile without
//! its code.
use odradek_groups::GroupError;
use odradek_metadata::{
    AlterSettingsError, BrokerStateError, CreatePartitionsError, CreateTopicError, DeleteTopicError, ElectLeadersError,
    ReassignmentError, SettingsResource,
};
use odradek_partition::{
    AppendError, AppendRefusal, FollowerFetchError, LeadershipError, ListOffsetsError, ProduceOutcome, ReadError,
};
use odradek_records::ProduceError;
use odradek_wire::ErrorCode;

use crate::controller::ControllerUnavailable;

/// Of a group operation.
pub(crate) fn group_code(error: Option<GroupError>) -> i16 {
    let code = match error {
        None => ErrorCode::None,
        Some(GroupError::UnknownMemberId) => ErrorCode::UnknownMemberId,
        Some(GroupError::IllegalGeneration) => ErrorCode::IllegalGeneration,
        Some(GroupError::InconsistentGroupProtocol) => ErrorCode::InconsistentGroupProtocol,
        Some(GroupError::InvalidSessionTimeout) => ErrorCode::InvalidSessionTimeout,
        Some(GroupError::RebalanceInProgress) => ErrorCode::RebalanceInProgress,
        Some(GroupError::MemberIdRequired) => ErrorCode::MemberIdRequired,
        Some(GroupError::FencedInstanceId) => ErrorCode::FencedInstanceId,
        Some(GroupError::GroupMaxSizeReached) => ErrorCode::GroupMaxSizeReached,
        Some(GroupError::InvalidGroupId) => ErrorCode::InvalidGroupId,
        Some(GroupError::GroupIdNotFound) => ErrorCode::GroupIdNotFound,
        Some(GroupError::OffsetMetadataTooLarge) => ErrorCode::OffsetMetadataTooLarge,
        Some(GroupError::CoordinatorLoadInProgress) => ErrorCode::CoordinatorLoadInProgress,
        Some(GroupError::CoordinatorNotAvailable) => ErrorCode::CoordinatorNotAvailable,
        Some(GroupError::NotCoordinator) => ErrorCode::NotCoordinator,
        Some(GroupError::UnknownServerError) => ErrorCode::UnknownServerError,
    };
    code.code()
}

/// Of a command that no controller decided. All of these are tried again by clients.
pub(crate) fn controller_code(error: &ControllerUnavailable) -> ErrorCode {
    match error {
        ControllerUnavailable::NotController { .. } | ControllerUnavailable::Stopped => ErrorCode::NotController,
        ControllerUnavailable::Busy | ControllerUnavailable::TimedOut => ErrorCode::RequestTimedOut,
    }
}

/// Of a topic's creation.
pub(crate) fn create_topic_code(error: &CreateTopicError) -> ErrorCode {
    match error {
        CreateTopicError::AlreadyExists(_) => ErrorCode::TopicAlreadyExists,
        CreateTopicError::InvalidName(_) | CreateTopicError::Collides { .. } => ErrorCode::InvalidTopicException,
        CreateTopicError::InvalidRequest(_) => ErrorCode::InvalidRequest,
        CreateTopicError::InvalidPartitions(_) => ErrorCode::InvalidPartitions,
        CreateTopicError::InvalidReplicationFactor(_) => ErrorCode::InvalidReplicationFactor,
        CreateTopicError::InvalidAssignment(_) => ErrorCode::InvalidReplicaAssignment,
        CreateTopicError::InvalidSetting(_) | CreateTopicError::NullSetting(_) => ErrorCode::InvalidConfig,
        CreateTopicError::TooManyPartitions => ErrorCode::PolicyViolation,
    }
}

/// Of a topic's deletion.
pub(crate) fn delete_topic_code(error: DeleteTopicError) -> ErrorCode {
    match error {
        DeleteTopicError::UnknownName => ErrorCode::UnknownTopicOrPartition,
        DeleteTopicError::UnknownId => ErrorCode::UnknownTopicId,
        DeleteTopicError::NoReference | DeleteTopicError::Duplicate => ErrorCode::InvalidRequest,
    }
}

/// Of new partitions.
pub(crate) fn create_partitions_code(error: &CreatePartitionsError) -> ErrorCode {
    match error {
        CreatePartitionsError::UnknownTopic => ErrorCode::UnknownTopicOrPartition,
        CreatePartitionsError::InvalidPartitions(_) => ErrorCode::InvalidPartitions,
        CreatePartitionsError::InvalidAssignment(_) => ErrorCode::InvalidReplicaAssignment,
        CreatePartitionsError::InvalidReplicationFactor(_) => ErrorCode::InvalidReplicationFactor,
        CreatePartitionsError::Duplicate => ErrorCode::InvalidRequest,
        CreatePartitionsError::TooManyPartitions => ErrorCode::PolicyViolation,
    }
}

/// Of a change of settings. As in Kafka a setting of a broker that cannot take effect makes the request invalid, one of
/// a topic the setting (`ConfigAdminManager.validateBrokerConfigChange`).
pub(crate) fn alter_settings_code(resource: &SettingsResource, error: &AlterSettingsError) -> ErrorCode {
    match (error, resource) {
        (AlterSettingsError::UnknownTopic, _) => ErrorCode::UnknownTopicOrPartition,
        (AlterSettingsError::UnknownBroker(_), _) => ErrorCode::BrokerIdNotRegistered,
        (AlterSettingsError::InvalidSetting(_) | AlterSettingsError::NoList(_), _)
        | (AlterSettingsError::InvalidChange(_), SettingsResource::Topic(_)) => ErrorCode::InvalidConfig,
        (AlterSettingsError::InvalidChange(_), SettingsResource::Broker(_))
        | (AlterSettingsError::Duplicate(_) | AlterSettingsError::TooMany, _) => ErrorCode::InvalidRequest,
    }
}

/// Of a reassignment.
pub(crate) fn reassignment_code(error: &ReassignmentError) -> ErrorCode {
    match error {
        ReassignmentError::UnknownPartition => ErrorCode::UnknownTopicOrPartition,
        ReassignmentError::NoneInProgress => ErrorCode::NoReassignmentInProgress,
        ReassignmentError::InvalidAssignment(_) => ErrorCode::InvalidReplicaAssignment,
        ReassignmentError::ReplicationFactorChanged { .. } => ErrorCode::InvalidReplicationFactor,
        ReassignmentError::Duplicate | ReassignmentError::TooMany => ErrorCode::InvalidRequest,
    }
}

/// Of an election (rule 49).
pub(crate) fn elect_leaders_code(error: &ElectLeadersError) -> ErrorCode {
    match error {
        ElectLeadersError::UnknownPartition => ErrorCode::UnknownTopicOrPartition,
        ElectLeadersError::NotNeeded => ErrorCode::ElectionNotNeeded,
        ElectLeadersError::PreferredLeaderNotAvailable(_) => ErrorCode::PreferredLeaderNotAvailable,
        ElectLeadersError::EligibleLeadersNotAvailable => ErrorCode::EligibleLeadersNotAvailable,
        ElectLeadersError::TooMany => ErrorCode::RequestTimedOut,
    }
}

/// Of a broker's unregistration.
pub(crate) fn broker_state_code(error: &BrokerStateError) -> ErrorCode {
    match error {
        BrokerStateError::UnknownBroker(_) => ErrorCode::BrokerIdNotRegistered,
        BrokerStateError::StaleBrokerEpoch { .. } => ErrorCode::StaleBrokerEpoch,
    }
}

/// Of a produced batch that was refused.
pub(crate) fn produce_code(error: &ProduceError) -> ErrorCode {
    match error {
        ProduceError::NoBatch { .. }
        | ProduceError::SeveralBatches { .. }
        | ProduceError::OldMagic(_)
        | ProduceError::BaseOffset(_)
        | ProduceError::Count { .. }
        | ProduceError::Control
        | ProduceError::Sequence { .. }
        | ProduceError::TransactionalWithoutProducer
        | ProduceError::Malformed { .. }
        | ProduceError::Decompress(_)
        | ProduceError::Records { timestamps: false, .. } => ErrorCode::InvalidRecord,
        ProduceError::Records { timestamps: true, .. } => ErrorCode::InvalidTimestamp,
        ProduceError::ZstdTooEarly(_) | ProduceError::UnknownCompression(_) => ErrorCode::UnsupportedCompressionType,
        ProduceError::TooLarge { .. } | ProduceError::DecompressedTooLarge { .. } => ErrorCode::MessageTooLarge,
        ProduceError::LargerThanSegment { .. } => ErrorCode::RecordListTooLarge,
        ProduceError::Corrupt(_) | ProduceError::Checksum { .. } => ErrorCode::CorruptMessage,
        ProduceError::TransactionsUnsupported => ErrorCode::InvalidTxnState,
    }
}

/// Of an append that the partition refused.
pub(crate) fn append_code(error: &AppendError) -> ErrorCode {
    match error {
        AppendError::Leadership(error) => leadership_code(error),
        AppendError::NotEnoughReplicas { .. } => ErrorCode::NotEnoughReplicas,
        AppendError::Log(AppendRefusal::OutOfOrderSequence { .. }) => ErrorCode::OutOfOrderSequenceNumber,
        AppendError::Log(AppendRefusal::InvalidProducerEpoch { .. }) => ErrorCode::InvalidProducerEpoch,
        AppendError::Log(AppendRefusal::Storage(_)) => ErrorCode::KafkaStorageError,
    }
}

/// Of a produce that waited.
pub(crate) fn produce_outcome_code(outcome: ProduceOutcome) -> ErrorCode {
    match outcome {
        ProduceOutcome::Committed => ErrorCode::None,
        ProduceOutcome::NotEnoughReplicasAfterAppend => ErrorCode::NotEnoughReplicasAfterAppend,
        ProduceOutcome::NotLeader => ErrorCode::NotLeaderOrFollower,
        ProduceOutcome::StorageFailed => ErrorCode::KafkaStorageError,
    }
}

/// Of a request that speaks of another leadership (rule 27).
pub(crate) fn leadership_code(error: &LeadershipError) -> ErrorCode {
    match error {
        LeadershipError::NotLeader | LeadershipError::Closed => ErrorCode::NotLeaderOrFollower,
        LeadershipError::Fenced { .. } => ErrorCode::FencedLeaderEpoch,
        LeadershipError::Unknown { .. } => ErrorCode::UnknownLeaderEpoch,
    }
}

/// Of a read.
pub(crate) fn read_code(error: &ReadError) -> ErrorCode {
    match error {
        ReadError::Leadership(error) => leadership_code(error),
        ReadError::OffsetOutOfRange { .. } => ErrorCode::OffsetOutOfRange,
        ReadError::Storage(_) => ErrorCode::KafkaStorageError,
    }
}

/// Of a follower's fetch.
pub(crate) fn follower_fetch_code(error: &FollowerFetchError) -> ErrorCode {
    match error {
        FollowerFetchError::Leadership(error) => leadership_code(error),
        FollowerFetchError::NotAReplica { .. } => ErrorCode::UnknownLeaderEpoch,
        FollowerFetchError::StaleBrokerEpoch { .. } => ErrorCode::NotLeaderOrFollower,
        FollowerFetchError::OffsetOutOfRange { .. } => ErrorCode::OffsetOutOfRange,
    }
}

/// Of a look-up of an offset; the code for a new leader came with version 5 (KIP-207).
pub(crate) fn list_offsets_code(error: &ListOffsetsError, version: i16) -> ErrorCode {
    match error {
        ListOffsetsError::Leadership(error) => leadership_code(error),
        ListOffsetsError::NotAvailable if version < 5 => ErrorCode::LeaderNotAvailable,
        ListOffsetsError::NotAvailable => ErrorCode::OffsetNotAvailable,
        ListOffsetsError::Storage(_) => ErrorCode::KafkaStorageError,
    }
}

/// What a group's coordinator is told of an append that its journal refused.
pub(crate) fn journal_error(error: &AppendError) -> odradek_groups::AppendError {
    match error {
        AppendError::Leadership(_) => odradek_groups::AppendError::NotLeader,
        AppendError::NotEnoughReplicas { .. } => odradek_groups::AppendError::NotEnoughReplicas,
        AppendError::Log(AppendRefusal::Storage(_)) => odradek_groups::AppendError::Storage,
        AppendError::Log(AppendRefusal::OutOfOrderSequence { .. } | AppendRefusal::InvalidProducerEpoch { .. }) => {
            odradek_groups::AppendError::Other
        }
    }
}
