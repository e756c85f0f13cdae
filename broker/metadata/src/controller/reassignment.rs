// SPDX-License-Identifier: Apache-2.0
//! Replicas move to other brokers (`alterPartitionReassignments` and `PartitionReassignmentRevert` in Kafka).
//!
//! A reassignment in progress holds the target and what it removes as replicas; it is completed by the ISR change that
//! brings the last added replica in ([`PartitionChange`]), and cancelled by going back to the replicas without the added
//! ones. A new target during a reassignment is counted from those original replicas. Throttles are settings:
//! [`AlterSettings`](super::AlterSettings).

use std::collections::BTreeSet;
use std::sync::Arc;

use odradek_model::BrokerId;
use thiserror::Error;

use super::partition_change::{Election, PartitionChange};
use super::partition_updates::{MAX_CHANGES, is_active};
use super::{ControllerSettings, Decision, manual_assignment};
use crate::{Image, PartitionImage, PartitionKey, Record, TopicImage};

/// A wish for one partition.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reassignment {
    /// The topic's name.
    pub topic: String,
    /// The index.
    pub partition: i32,
    /// The replicas wanted, the preferred leader first; `None` cancels what is in progress.
    pub replicas: Option<Vec<i32>>,
}

/// Reassignments to start, change or cancel.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AlterReassignments {
    /// Which.
    pub reassignments: Vec<Reassignment>,
    /// Whether the number of replicas may change (KIP-860).
    pub allow_replication_factor_change: bool,
}

/// Why a reassignment was not started or cancelled.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum ReassignmentError {
    /// `UNKNOWN_TOPIC_OR_PARTITION`, 3.
    #[error("there is no such topic or partition")]
    UnknownPartition,
    /// Nothing to cancel (`NO_REASSIGNMENT_IN_PROGRESS`, 85).
    #[error("no reassignment of the partition is in progress")]
    NoneInProgress,
    /// `INVALID_REPLICA_ASSIGNMENT`, 39.
    #[error("{0}")]
    InvalidAssignment(String),
    /// `INVALID_REPLICATION_FACTOR`, 38.
    #[error("the number of replicas would change from {present} to {wanted}, which the request does not allow")]
    ReplicationFactorChanged {
        /// Without the replicas being added.
        present: usize,
        /// As given.
        wanted: usize,
    },
    /// The same partition twice in the request (`INVALID_REQUEST`, 42).
    #[error("the partition is named twice in the request")]
    Duplicate,
    /// More than one request may change (`INVALID_REQUEST`, 42).
    #[error("more than {MAX_CHANGES} partitions in one request")]
    TooMany,
}

/// Per entry of the request.
pub(super) type Answer = Vec<Result<(), ReassignmentError>>;

pub(super) fn decide(image: &Image, settings: &ControllerSettings, command: &AlterReassignments) -> Decision<Answer> {
    let mut records = Vec::new();
    let mut seen = BTreeSet::new();
    let reply = command
        .reassignments
        .iter()
        .map(|wish| {
            if !seen.insert((&wish.topic, wish.partition)) {
                return Err(ReassignmentError::Duplicate);
            }
            if records.len() == MAX_CHANGES {
                return Err(ReassignmentError::TooMany);
            }
            records.extend(alter(image, settings, wish, command.allow_replication_factor_change)?);
            Ok(())
        })
        .collect();
    Decision { records, reply }
}

fn alter(
    image: &Image,
    settings: &ControllerSettings,
    wish: &Reassignment,
    may_change_number: bool,
) -> Result<Option<Record>, ReassignmentError> {
    let topic = image.topic(&wish.topic).ok_or(ReassignmentError::UnknownPartition)?;
    let key = PartitionKey { topic: topic.id, partition: wish.partition };
    let partition = image.partition(key).ok_or(ReassignmentError::UnknownPartition)?;
    let Some(target) = &wish.replicas else {
        return cancel(image, settings, topic, key, partition);
    };
    let target = manual_assignment::check(image, target, &partition.replicas)
        .map_err(|reason| ReassignmentError::InvalidAssignment(format!("invalid replica assignment: {reason}")))?;
    let (present, wanted) = (partition.original_replicas().count(), target.len());
    if present != wanted && !may_change_number {
        return Err(ReassignmentError::ReplicationFactorChanged { present, wanted });
    }
    start(image, settings, topic, key, partition, &target)
}

/// The record that starts, or turns, the reassignment to the target; none if nothing changes. Added replicas that are
/// no longer wanted are dropped at once.
pub(super) fn start(
    image: &Image,
    settings: &ControllerSettings,
    topic: &TopicImage,
    key: PartitionKey,
    partition: &PartitionImage,
    target: &[BrokerId],
) -> Result<Option<Record>, ReassignmentError> {
    let original: Vec<BrokerId> = partition.original_replicas().collect();
    let mut change = PartitionChange::new(settings, topic, key, partition);
    change.removing = original.iter().copied().filter(|broker| !target.contains(broker)).collect();
    change.adding = target.iter().copied().filter(|broker| !original.contains(broker)).collect();
    change.replicas = target.iter().copied().chain(change.removing.iter().copied()).collect();
    finish(image, partition, change)
}

fn cancel(
    image: &Image,
    settings: &ControllerSettings,
    topic: &TopicImage,
    key: PartitionKey,
    partition: &PartitionImage,
) -> Result<Option<Record>, ReassignmentError> {
    if !partition.is_reassigning() {
        return Err(ReassignmentError::NoneInProgress);
    }
    let mut change = PartitionChange::new(settings, topic, key, partition);
    change.replicas = partition.original_replicas().collect();
    change.adding.clear();
    change.removing.clear();
    finish(image, partition, change)
}

/// Those that are no replicas any more leave the ISR; which is refused if only they hold what was committed.
fn finish(
    image: &Image,
    partition: &PartitionImage,
    mut change: PartitionChange<'_>,
) -> Result<Option<Record>, ReassignmentError> {
    let eligible = |broker: &BrokerId| partition.isr.contains(broker) || partition.elr.contains(broker);
    let would_lose = partition.replicas.iter().any(eligible) && !change.replicas.iter().any(eligible);
    if would_lose && change.election != Election::Unclean {
        let reason = "only replicas that the reassignment adds are in sync: to give them up would need an unclean \
                      leader election, which the topic does not allow";
        return Err(ReassignmentError::InvalidAssignment(reason.to_owned()));
    }
    let replicas = &change.replicas;
    change.isr.retain(|broker| replicas.contains(broker));
    Ok(change.build(|broker| is_active(image, broker)))
}

/// A reassignment in progress.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OngoingReassignment {
    /// The topic.
    pub topic: Arc<TopicImage>,
    /// The index.
    pub partition: i32,
    /// All replicas, added and removed ones included.
    pub replicas: Vec<BrokerId>,
    /// Those being added.
    pub adding: Vec<BrokerId>,
    /// Those being removed.
    pub removing: Vec<BrokerId>,
}

/// The reassignments in progress, by topic id and index (`ListPartitionReassignments`); to be asked of a committed
/// image.
pub fn ongoing_reassignments(image: &Image) -> impl Iterator<Item = OngoingReassignment> {
    image.reassigning_partitions().map(|(key, topic, partition)| OngoingReassignment {
        topic: Arc::clone(topic),
        partition: key.partition,
        replicas: partition.replicas.clone(),
        adding: partition.adding.clone(),
        removing: partition.removing.clone(),
    })
}
