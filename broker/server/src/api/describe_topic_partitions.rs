// SPDX-License-Identifier: Apache-2.0
//! DescribeTopicPartitions (75): topics in pages, with eligible leader replicas (KIP-966), by the newest committed
//! metadata (`DescribeTopicPartitionsRequestHandler` in Kafka).
use std::collections::BTreeSet;
use std::sync::Arc;

use odradek_metadata::{Image, PartitionImage, TopicImage};
use odradek_model::{BrokerId, TopicName};
use odradek_wire::ErrorCode;
use odradek_wire::messages::{
    Cursor, DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse, DescribeTopicPartitionsResponsePartition,
    DescribeTopicPartitionsResponseTopic,
};

use super::metadata::TOPIC_OPERATIONS;
use crate::broker::Broker;
use crate::dispatch::{Answer, Call};

/// Partitions of one page, whatever the request wants (`max.request.partition.size.limit`).
const PAGE_PARTITIONS: usize = 2000;

pub(crate) fn handle(
    broker: &Arc<Broker>,
    call: &Call<'_>,
    request: DescribeTopicPartitionsRequest,
) -> Answer<DescribeTopicPartitionsResponse> {
    let image = broker.image();
    let cursor = request.cursor.as_ref();
    let is_valid = cursor.is_none_or(|cursor| {
        let is_named = request.topics.is_empty() || request.topics.iter().any(|topic| topic.name == cursor.topic_name);
        is_named && cursor.partition_index >= 0
    });
    if !is_valid {
        // The response has no place for an error of the whole: each topic asked for has it.
        let refuse = |topic: &odradek_wire::messages::TopicRequest| DescribeTopicPartitionsResponseTopic {
            error_code: ErrorCode::InvalidRequest.code(),
            name: Some(topic.name.clone()),
            ..DescribeTopicPartitionsResponseTopic::default()
        };
        let topics = request.topics.iter().map(refuse).collect();
        return Answer::now(DescribeTopicPartitionsResponse { topics, ..DescribeTopicPartitionsResponse::default() });
    }
    let from: &str = cursor.map_or("", |cursor| &cursor.topic_name);
    let limit = usize::try_from(request.response_partition_limit).unwrap_or(0).clamp(1, PAGE_PARTITIONS);
    let mut page = Page { broker, image: &image, listener: &call.peer.listener, room: limit, topics: Vec::new() };
    let first = |name: &str| match cursor {
        Some(cursor) if *cursor.topic_name == *name => cursor.partition_index as usize,
        _ => 0,
    };
    let next_cursor = if request.topics.is_empty() {
        let mut topics = image.topics().filter(|topic| topic.name.as_str() >= from);
        topics.find_map(|topic| page.add(&topic.name, Some(topic), first(&topic.name)))
    } else {
        let names: BTreeSet<&str> = request.topics.iter().map(|topic| &*topic.name).collect();
        let mut names = names.into_iter().filter(|name| *name >= from);
        names.find_map(|name| page.add(name, image.topic(name).map(|topic| &**topic), first(name)))
    };
    Answer::now(DescribeTopicPartitionsResponse {
        topics: page.topics,
        next_cursor,
        ..DescribeTopicPartitionsResponse::default()
    })
}

struct Page<'a> {
    broker: &'a Broker,
    image: &'a Image,
    listener: &'a str,
    /// Partitions that still fit.
    room: usize,
    topics: Vec<DescribeTopicPartitionsResponseTopic>,
}

impl Page<'_> {
    /// Adds a topic from its partition `first` on; where the next page begins, if this one is full.
    fn add(&mut self, name: &str, topic: Option<&TopicImage>, first: usize) -> Option<Cursor> {
        let cursor = |index: usize| Cursor { topic_name: name.into(), partition_index: index as i32 };
        if self.room == 0 {
            return Some(cursor(0));
        }
        let mut described = DescribeTopicPartitionsResponseTopic {
            name: Some(name.into()),
            topic_authorized_operations: TOPIC_OPERATIONS,
            ..DescribeTopicPartitionsResponseTopic::default()
        };
        let Some(topic) = topic else {
            let valid = TopicName::new(name);
            let code =
                if valid.is_ok() { ErrorCode::UnknownTopicOrPartition } else { ErrorCode::InvalidTopicException };
            described.error_code = code.code();
            described.is_internal = valid.is_ok_and(|name| name.is_internal());
            self.topics.push(described);
            return None;
        };
        let partitions = topic.partitions.iter().enumerate().skip(first).take(self.room);
        described.topic_id = topic.id.0;
        described.is_internal = topic.name.is_internal();
        described.partitions = partitions.map(|(index, partition)| self.partition(index, partition)).collect();
        let shown = described.partitions.len();
        self.topics.push(described);
        self.room -= shown;
        let next = first.saturating_add(shown);
        (next < topic.partitions.len()).then(|| cursor(next))
    }

    fn partition(&self, index: usize, partition: &PartitionImage) -> DescribeTopicPartitionsResponsePartition {
        let is_reachable = |id: &BrokerId| {
            let member = self.image.broker(*id).filter(|member| !member.fenced);
            member.is_some_and(|member| self.broker.endpoint(member, self.listener).is_some())
        };
        let ids = |brokers: &[BrokerId]| brokers.iter().map(|id| id.0).collect::<Vec<i32>>();
        DescribeTopicPartitionsResponsePartition {
            partition_index: index as i32,
            leader_id: partition.leader.filter(is_reachable).map_or(-1, |leader| leader.0),
            leader_epoch: partition.leader_epoch,
            replica_nodes: ids(&partition.replicas),
            isr_nodes: ids(&partition.isr),
            eligible_leader_replicas: Some(ids(&partition.elr)),
            // Never needed here: a sole replica with an intact log is elected without it.
            last_known_elr: Some(Vec::new()),
            offline_replicas: partition.replicas.iter().filter(|id| !is_reachable(id)).map(|id| id.0).collect(),
            ..DescribeTopicPartitionsResponsePartition::default()
        }
    }
}
