// SPDX-License-Identifier: Apache-2.0
//! The metadata of the cluster: its records, the image they make, the controller's pure decisions, and the log.
//!
//! - [`records`]: one file per kind, ids for ever.
//! - [`Image`]: immutable, shared; [`apply`] makes the next one from a record.
//! - [`decide`]: (image, command, time) to (records, reply), pure.
//! - [`ActiveController`]: decisions, sessions and duties of the controller of several brokers; events in, effects out.
//! - [`MetadataLog`]: fsynced batches, epochs, promises, snapshots, over the disk port (rules 5, 9, 11 of the
//!   coordination protocol).
//!
//! The crate must not know the wire protocol, Kafka's error codes, Leases, tokio or clocks.

mod controller;
mod image;
mod log;
pub mod records;

pub use controller::{
    ActiveController, AllocateProducerIds, AllocateProducerIdsError, AlterPartition, AlterPartitionError,
    AlterPartitionRefusal, AlterPartitionReply, AlterReassignments, AlterSettings, AlterSettingsError,
    AlteredPartition, BrokerState, BrokerStateError, ChangeBrokerState, Command, ControllerSettings, CordonBroker,
    CreatePartitions, CreatePartitionsError, CreateTopicError, CreateTopics, CreatedTopic, DYNAMIC_BROKER_SETTINGS,
    Decision, DeleteTopicError, DeleteTopics, DeletedTopic, Effect, ElectLeaders, ElectLeadersError, ElectionKind,
    Event, Heartbeat, HeartbeatOutcome, HeartbeatReply, INITIAL_FEATURE_LEVEL, MAX_PARTITIONS_PER_REQUEST, MAX_WAITING,
    MOST_STOP_BLOCKERS, MayStop, MonotonicMs, MorePartitions, NewTopic, OngoingReassignment, PRODUCER_ID_BLOCK,
    PlantedBug, Probe, ProducerIdBlock, Progress, ProposedPartition, ProposedReplica, Reassignment, ReassignmentError,
    RegisterBroker, RegisterBrokerError, Reply, ResourceChanges, SESSION_TIMEOUT_MS, Sessions, SettingOperation,
    SettingsResource, StaleHeartbeat, StateChange, StateReason, StopBlocker, StopReason, StopVerdict, Ticket,
    TopicReference, UnregisterBroker, UpdateFeatureLevel, UpdateFeatureLevelError, bootstrap, decide, may_stop,
    min_in_sync, min_in_sync_without_setting, ongoing_reassignments, topic_setting_is_in_force,
};
pub use image::{
    ApplyError, BrokerImage, BrokerSettingsOf, ControllerImage, Endpoint, Image, PartitionImage, PartitionKey,
    REPLICATION_FEATURE_LEVEL, SUPPORTED_FEATURE_LEVEL, TopicImage, apply,
};
pub use log::{
    LogPosition, MAX_BATCH_BYTES, MAX_VOTERS_BYTES, MetadataBatch, MetadataLog, MetadataLogError, Promise,
    RecoveryReport, read_promise,
};
pub use records::Record;
