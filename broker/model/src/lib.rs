// SPDX-License-Identifier: Apache-2.0
//! The nouns of the broker: identities, offsets, epochs and topic settings.
//!
//! Every other broker crate speaks in these types. The crate holds no behaviour beyond validation and parsing,
//! and must not know the wire protocol, the disk, a clock or any other crate of the workspace.

mod identity;
mod topic_name;
mod topic_settings;

pub use identity::{BrokerId, ClusterId, ClusterIdError, DirectoryId, TopicId, TopicIdPartition, TopicPartition};
pub use topic_name::{MAX_TOPIC_NAME_LENGTH, OFFSETS_TOPIC, TRANSACTION_STATE_TOPIC, TopicName, TopicNameError};
pub use topic_settings::{
    SettingDescription, SettingError, SettingKind, ThrottledReplicas, TimestampType, TopicDefaults, TopicOverrides,
    TopicSettings,
};

/// Position of a record in a partition, counted from 0. Negative values never name a record.
pub type Offset = i64;

/// Count of leader changes of one partition (KIP-101). -1 stands for "unknown" on the wire only.
pub type LeaderEpoch = i32;

/// Count of ISR and leader changes of one partition (`PartitionRegistration.partitionEpoch` in Kafka).
pub type PartitionEpoch = i32;

/// `leaseTransitions` of the controller Lease: rises with every take-over (coordination rule 1).
pub type ControllerEpoch = i64;

/// Given to a broker by each registration, rising over the life of the cluster; fences its earlier incarnations.
pub type BrokerEpoch = i64;

/// Milliseconds since the Unix epoch, UTC. -1 stands for "none" where Kafka's formats say so.
pub type Timestamp = i64;

/// Identity of a producer, unique in the cluster for ever (KIP-98). -1 stands for "not idempotent".
pub type ProducerId = i64;

/// Incarnation of a producer id (KIP-98). -1 stands for "not idempotent".
pub type ProducerEpoch = i16;

/// The producer id of batches written without idempotence.
pub const NO_PRODUCER_ID: ProducerId = -1;
/// The producer epoch of batches written without idempotence.
pub const NO_PRODUCER_EPOCH: ProducerEpoch = -1;
/// The base sequence of batches written without idempotence.
pub const NO_SEQUENCE: i32 = -1;
