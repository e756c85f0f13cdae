// SPDX-License-Identifier: Apache-2.0
//! ListPartitionReassignments (46): which replicas are being moved, by the newest committed metadata.
use std::collections::BTreeMap;
use std::sync::Arc;

use odradek_metadata::{PartitionImage, PartitionKey, ongoing_reassignments};
use odradek_model::BrokerId;
use odradek_wire::messages::{
    ListPartitionReassignmentsRequest, ListPartitionReassignmentsResponse, OngoingPartitionReassignment,
    OngoingTopicReassignment,
};

use crate::broker::Broker;
use crate::dispatch::{Answer, Call};

pub(crate) fn handle(
    broker: &Arc<Broker>,
    _call: &Call<'_>,
    request: ListPartitionReassignmentsRequest,
) -> Answer<ListPartitionReassignmentsResponse> {
    let image = broker.image();
    let mut topics: Vec<OngoingTopicReassignment> = Vec::new();
    if let Some(wanted) = &request.topics {
        for topic in wanted {
            let Some(id) = image.topic(&topic.name).map(|topic| topic.id) else { continue };
            let ongoing = topic.partition_indexes.iter().filter_map(|index| {
                let partition = image.partition(PartitionKey { topic: id, partition: *index })?;
                let PartitionImage { replicas, adding, removing, .. } = &**partition;
                partition.is_reassigning().then(|| reassignment(*index, replicas, adding, removing))
            });
            let partitions: Vec<_> = ongoing.collect();
            if !partitions.is_empty() {
                topics.push(OngoingTopicReassignment { name: topic.name.clone(), partitions });
            }
        }
    } else {
        let mut by_name: BTreeMap<String, Vec<OngoingPartitionReassignment>> = BTreeMap::new();
        for ongoing in ongoing_reassignments(&image) {
            let partition = reassignment(ongoing.partition, &ongoing.replicas, &ongoing.adding, &ongoing.removing);
            by_name.entry(ongoing.topic.name.to_string()).or_default().push(partition);
        }
        let topic = |(name, partitions): (String, _)| OngoingTopicReassignment { name: name.into(), partitions };
        topics.extend(by_name.into_iter().map(topic));
    }
    Answer::now(ListPartitionReassignmentsResponse {
        error_message: None,
        topics,
        ..ListPartitionReassignmentsResponse::default()
    })
}

fn reassignment(
    partition_index: i32,
    replicas: &[BrokerId],
    adding: &[BrokerId],
    removing: &[BrokerId],
) -> OngoingPartitionReassignment {
    let ids = |brokers: &[BrokerId]| brokers.iter().map(|broker| broker.0).collect();
    OngoingPartitionReassignment {
        partition_index,
        replicas: ids(replicas),
        adding_replicas: ids(adding),
        removing_replicas: ids(removing),
    }
}
