// SPDX-License-Identifier: Apache-2.0
//! The metadata of the cluster: its records, the image they make, the controller's pure decisions, and the log.
//!
//! - [`records`]: one file per kind, ids for ever.
//! - [`Image`]: immutable, shared; [`apply`] makes the next one from a record.
//! - [`decide`]: (image, command, time) to (records, reply), pure.
//! - [`MetadataLog`]: fsynced batches, epochs, promises, snapshots, over the disk port (rules 5, 9, 11 of the
//!   coordination protocol).
//! - [`Controller`]: the three together, for the one voter that there is so far.
//!
//! The crate must not know the wire protocol, Kafka's error codes, Leases, tokio or clocks.

mod controller;
mod image;
mod log;
pub mod records;
mod voter;

pub use controller::{
    AllocateProducerIds, AllocateProducerIdsError, Command, ControllerSettings, CreateTopicError, CreateTopics,
    CreatedTopic, Decision, DeleteTopicError, DeleteTopics, DeletedTopic, MAX_PARTITIONS_PER_REQUEST, NewTopic,
    PRODUCER_ID_BLOCK, ProducerIdBlock, RegisterBroker, RegisterBrokerError, Reply, TopicReference, bootstrap, decide,
};
pub use image::{
    ApplyError, BrokerImage, ControllerImage, Endpoint, Image, PartitionImage, SUPPORTED_FEATURE_LEVEL, TopicImage,
    apply,
};
pub use log::{LogPosition, MAX_BATCH_BYTES, MetadataLog, MetadataLogError, Promise, RecoveryReport};
pub use records::Record;
pub use voter::{Controller, ControllerError};
