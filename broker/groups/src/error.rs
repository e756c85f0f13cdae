// SPDX-License-Identifier: Apache-2.0
//! What a group operation can answer instead of success, and what a failed journal append means to a client.
//! Must not know the numbers of Kafka's error codes: the server has the one table for them.

use thiserror::Error;

/// Why a request, a member or a partition of a request was refused.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Error)]
pub enum GroupError {
    /// The member is not (any more) one of the group (`UNKNOWN_MEMBER_ID`).
    #[error("the member is not part of the group")]
    UnknownMemberId,
    /// The generation is not the group's present one (`ILLEGAL_GENERATION`).
    #[error("the generation is not the group's present one")]
    IllegalGeneration,
    /// No protocol is common to all members, or another protocol type (`INCONSISTENT_GROUP_PROTOCOL`).
    #[error("the protocols do not match the group's")]
    InconsistentGroupProtocol,
    /// Outside [`GroupSettings`](crate::GroupSettings) (`INVALID_SESSION_TIMEOUT`).
    #[error("the session timeout is outside the allowed range")]
    InvalidSessionTimeout,
    /// The member has to join again (`REBALANCE_IN_PROGRESS`).
    #[error("the group is rebalancing")]
    RebalanceInProgress,
    /// Join again with the member id of this answer (`MEMBER_ID_REQUIRED`, KIP-394).
    #[error("join again with the given member id")]
    MemberIdRequired,
    /// Another member has taken the group instance id over (`FENCED_INSTANCE_ID`, KIP-345).
    #[error("another member has this group instance id")]
    FencedInstanceId,
    /// The group is full (`GROUP_MAX_SIZE_REACHED`, KIP-389).
    #[error("the group has its maximum number of members")]
    GroupMaxSizeReached,
    /// The empty text is no group id here (`INVALID_GROUP_ID`).
    #[error("the group id is invalid")]
    InvalidGroupId,
    /// No such group (`GROUP_ID_NOT_FOUND`).
    #[error("the group does not exist")]
    GroupIdNotFound,
    /// Metadata of a committed offset is over the limit (`OFFSET_METADATA_TOO_LARGE`).
    #[error("the metadata of the offset is too large")]
    OffsetMetadataTooLarge,
    /// The journal is still being read (`COORDINATOR_LOAD_IN_PROGRESS`).
    #[error("the coordinator is loading the group")]
    CoordinatorLoadInProgress,
    /// The journal cannot be written at present (`COORDINATOR_NOT_AVAILABLE`).
    #[error("the coordinator is not available")]
    CoordinatorNotAvailable,
    /// This broker does not lead the journal's partition (`NOT_COORDINATOR`).
    #[error("this broker is not the coordinator of the group")]
    NotCoordinator,
    /// What was to be stored is larger than the journal accepts, or another unexpected failure
    /// (`UNKNOWN_SERVER_ERROR`).
    #[error("the coordinator could not store the change")]
    UnknownServerError,
}

/// Why the journal refused an append, as its partition says it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Error)]
pub enum AppendError {
    /// The partition does not exist here.
    #[error("the journal partition does not exist here")]
    UnknownPartition,
    /// Fewer replicas in sync than the topic asks for.
    #[error("too few replicas of the journal are in sync")]
    NotEnoughReplicas,
    /// Not replicated in time; it may still be.
    #[error("the journal was not replicated in time")]
    TimedOut,
    /// This broker does not lead the partition.
    #[error("this broker does not lead the journal partition")]
    NotLeader,
    /// The disk failed or is full.
    #[error("the journal cannot be stored")]
    Storage,
    /// The batch is larger than the topic allows.
    #[error("the change is too large for the journal")]
    TooLarge,
    /// Anything else.
    #[error("the journal refused the change")]
    Other,
}

impl From<AppendError> for GroupError {
    /// What the client is told (rule 44; `CoordinatorOperationExceptionHelper` in Kafka).
    fn from(error: AppendError) -> Self {
        match error {
            AppendError::UnknownPartition | AppendError::NotEnoughReplicas | AppendError::TimedOut => {
                Self::CoordinatorNotAvailable
            }
            AppendError::NotLeader | AppendError::Storage => Self::NotCoordinator,
            AppendError::TooLarge | AppendError::Other => Self::UnknownServerError,
        }
    }
}
