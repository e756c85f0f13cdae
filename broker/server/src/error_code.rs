// SPDX-License-Identifier: Apache-2.0
//! Kafka's error codes that this broker answers with.

macro_rules! codes {
    ($($name:ident = $number:literal,)*) => {
        /// An error code of Kafka's protocol (`org.apache.kafka.common.protocol.Errors`).
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[allow(missing_docs)]
        pub enum ErrorCode { $($name = $number,)* }
        impl ErrorCode {
            /// The number on the wire.
            pub fn code(self) -> i16 { self as i16 }
        }
    };
}
codes! {
    UnknownServerError = -1, None = 0, OffsetOutOfRange = 1, CorruptMessage = 2, UnknownTopicOrPartition = 3,
    LeaderNotAvailable = 5, NotLeaderOrFollower = 6, RequestTimedOut = 7, MessageTooLarge = 10,
    CoordinatorLoadInProgress = 14, CoordinatorNotAvailable = 15, NotCoordinator = 16, InvalidTopicException = 17,
    RecordListTooLarge = 18, NotEnoughReplicas = 19, InvalidRequiredAcks = 21, IllegalGeneration = 22,
    InconsistentGroupProtocol = 23, InvalidGroupId = 24, UnknownMemberId = 25, InvalidSessionTimeout = 26,
    RebalanceInProgress = 27, OffsetMetadataTooLarge = 12, InvalidTimestamp = 32, UnsupportedVersion = 35,
    TopicAlreadyExists = 36, InvalidPartitions = 37, InvalidReplicationFactor = 38, InvalidReplicaAssignment = 39,
    InvalidConfig = 40, NotController = 41, InvalidRequest = 42, PolicyViolation = 44,
    OutOfOrderSequenceNumber = 45, InvalidProducerEpoch = 47, InvalidTxnState = 48, KafkaStorageError = 56,
    GroupIdNotFound = 69, ListenerNotFound = 72, FencedLeaderEpoch = 74, UnknownLeaderEpoch = 75,
    UnsupportedCompressionType = 76, MemberIdRequired = 79, GroupMaxSizeReached = 81, FencedInstanceId = 82,
    InvalidRecord = 87, UnknownTopicId = 100, MismatchedEndpointType = 114, RebootstrapRequired = 129,
}
