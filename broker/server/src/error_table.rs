// SPDX-License-Identifier: Apache-2.0
//! The one table from our errors to Kafka's codes. Every match is exhaustive: a new error does not compile without
//! its code.
use odradek_groups::GroupError;
use odradek_metadata::{CreateTopicError, DeleteTopicError};
use odradek_records::ProduceError;

use crate::error_code::ErrorCode;
use crate::replica::ReadFailure;

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

/// Of a read.
pub(crate) fn read_code(failure: ReadFailure) -> ErrorCode {
    match failure {
        ReadFailure::OutOfRange => ErrorCode::OffsetOutOfRange,
        ReadFailure::FencedEpoch => ErrorCode::FencedLeaderEpoch,
        ReadFailure::UnknownEpoch => ErrorCode::UnknownLeaderEpoch,
        ReadFailure::Storage => ErrorCode::KafkaStorageError,
    }
}
