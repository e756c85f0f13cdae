// SPDX-License-Identifier: Apache-2.0
//! Topics get more partitions (`ReplicationControlManager.createPartitions` in Kafka).

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use odradek_model::BrokerId;
use thiserror::Error;

use super::create_topics::MAX_PARTITIONS_PER_REQUEST;
use super::placement::{self, PlacementError, Placer};
use super::{Decision, manual_assignment};
use crate::records::PartitionRecord;
use crate::{Image, Record};

/// A topic to widen.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MorePartitions {
    /// The topic's name.
    pub topic: String,
    /// Partitions in all, more than there are.
    pub count: i32,
    /// Brokers of each new partition; `None` places them.
    pub assignments: Option<Vec<Vec<i32>>>,
}

/// Topics to widen.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CreatePartitions {
    /// Which.
    pub topics: Vec<MorePartitions>,
    /// Only say what would happen.
    pub validate_only: bool,
    /// Random: where placement begins.
    pub placement_seed: u64,
}

/// Why a topic was not widened.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum CreatePartitionsError {
    /// `UNKNOWN_TOPIC_OR_PARTITION`, 3.
    #[error("there is no such topic")]
    UnknownTopic,
    /// No more than there are (`INVALID_PARTITIONS`, 37).
    #[error("{0}")]
    InvalidPartitions(String),
    /// `INVALID_REPLICA_ASSIGNMENT`, 39.
    #[error("{0}")]
    InvalidAssignment(String),
    /// Fewer brokers than the topic has replicas (`INVALID_REPLICATION_FACTOR`, 38).
    #[error("{0}")]
    InvalidReplicationFactor(String),
    /// Twice in the request (`INVALID_REQUEST`, 42).
    #[error("the topic is named twice in the request")]
    Duplicate,
    /// More than [`MAX_PARTITIONS_PER_REQUEST`] (`POLICY_VIOLATION`, 44).
    #[error("the request asks for more than {MAX_PARTITIONS_PER_REQUEST} partitions")]
    TooManyPartitions,
}

/// Per topic name, duplicates once.
pub(super) type Answer = Vec<(String, Result<(), CreatePartitionsError>)>;

pub(super) fn decide(image: &Image, command: &CreatePartitions) -> Decision<Answer> {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    command.topics.iter().for_each(|topic| *counts.entry(&topic.topic).or_default() += 1);
    let mut placer = Placer::new(placement::placeable(image), command.placement_seed);
    let mut records: Vec<Record> = Vec::new();
    let mut answered = BTreeSet::new();
    let mut reply = Vec::new();
    for topic in command.topics.iter().filter(|topic| answered.insert(&topic.topic)) {
        let outcome = if counts[topic.topic.as_str()] > 1 {
            Err(CreatePartitionsError::Duplicate)
        } else {
            widen(image, &mut placer, topic, records.len()).map(|new| records.extend(new))
        };
        reply.push((topic.topic.clone(), outcome));
    }
    if command.validate_only {
        records.clear();
    }
    Decision { records, reply }
}

fn widen(
    image: &Image,
    placer: &mut Placer<'_>,
    wish: &MorePartitions,
    asked_before: usize,
) -> Result<Vec<Record>, CreatePartitionsError> {
    let topic = image.topic(&wish.topic).ok_or(CreatePartitionsError::UnknownTopic)?;
    let present = topic.partitions.len();
    let more =
        usize::try_from(wish.count).unwrap_or(0).checked_sub(present).filter(|more| *more > 0).ok_or_else(|| {
            let name = &topic.name;
            CreatePartitionsError::InvalidPartitions(format!(
                "topic {name} has {present} partitions; {} would not be an increase",
                wish.count
            ))
        })?;
    if asked_before + more > MAX_PARTITIONS_PER_REQUEST {
        return Err(CreatePartitionsError::TooManyPartitions);
    }
    let replication_factor = topic.partitions.first().map_or(1, |partition| partition.original_replicas().count());
    let assignments = match &wish.assignments {
        Some(assignments) => assigned(image, assignments, more, replication_factor)?,
        None => placer.place(more, replication_factor).map_err(|error| {
            CreatePartitionsError::InvalidReplicationFactor(placement_message(replication_factor, error))
        })?,
    };
    let id = Bytes::copy_from_slice(topic.id.0.as_bytes());
    assignments
        .iter()
        .enumerate()
        .map(|(at, replicas)| {
            let index = (present + at) as i32;
            first_record(image, &id, index, replicas).ok_or_else(|| {
                let reason = format!("all brokers of partition {index} are fenced or going to stop");
                match wish.assignments {
                    Some(_) => CreatePartitionsError::InvalidAssignment(reason),
                    None => CreatePartitionsError::InvalidReplicationFactor(reason),
                }
            })
        })
        .collect()
}

fn assigned(
    image: &Image,
    assignments: &[Vec<i32>],
    more: usize,
    replication_factor: usize,
) -> Result<Vec<Vec<BrokerId>>, CreatePartitionsError> {
    let refuse = CreatePartitionsError::InvalidAssignment;
    if assignments.len() != more {
        return Err(refuse(format!("{more} partitions are to be added, {} assignments are given", assignments.len())));
    }
    let check = |replicas: &Vec<i32>| {
        if replicas.len() != replication_factor {
            let given = replicas.len();
            return Err(refuse(format!(
                "{given} replicas are given, the topic's partitions have {replication_factor}"
            )));
        }
        manual_assignment::check(image, replicas, &[])
            .map_err(|reason| refuse(format!("invalid replica assignment: {reason}")))
    };
    assignments.iter().map(check).collect()
}

/// The first record of a partition; `None` if none of its replicas could be in sync.
pub(super) fn first_record(image: &Image, topic_id: &Bytes, index: i32, replicas: &[BrokerId]) -> Option<Record> {
    let isr = manual_assignment::first_isr(image, replicas);
    let leader = *isr.first()?;
    let ids = |brokers: &[BrokerId]| brokers.iter().map(|broker| broker.0).collect();
    let record = PartitionRecord {
        topic_id: topic_id.clone(),
        partition: index,
        replicas: ids(replicas),
        isr: ids(&isr),
        leader: leader.0,
        ..PartitionRecord::default()
    };
    Some(record.into())
}

/// Why replicas could not be placed, as Kafka says it.
pub(super) fn placement_message(replication_factor: usize, error: PlacementError) -> String {
    let reason = match error {
        PlacementError::TooFewBrokers(available) => format!(
            "The target replication factor of {replication_factor} cannot be reached because only {available} \
             broker(s) are registered."
        ),
        PlacementError::AllFenced => "All brokers are currently fenced or in controlled shutdown.".to_owned(),
    };
    format!("Unable to replicate the partition {replication_factor} time(s): {reason}")
}
