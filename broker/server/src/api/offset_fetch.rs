// SPDX-License-Identifier: Apache-2.0
//! OffsetFetch (9): where groups have read to; from version 8 on several groups at once. Unlike Kafka's, an answer is never
//! older than a commit that was acknowledged before the question. Where that cannot be made certain the connection is
//! closed: of the errors that name the reason, `NOT_COORDINATOR` leaves a partition without fetcher in librdkafka (its
//! issue 5586), and the others end Java's consumer or keep it where it is.
use std::sync::Arc;

use odradek_groups as groups;
use odradek_metadata::Image;
use odradek_model::TopicId;
use odradek_wire::ErrorCode;
use odradek_wire::messages::{
    OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchResponse, OffsetFetchResponseGroup,
    OffsetFetchResponsePartition, OffsetFetchResponsePartitions, OffsetFetchResponseTopic, OffsetFetchResponseTopics,
};

use crate::broker::Broker;
use crate::coordinators::Reading;
use crate::dispatch::{Answer, Answered, Call};
use crate::error_table::group_code;
use crate::net::CloseReason;

/// A group's part of the answer: known at once, or from its coordinator.
struct Part {
    group_id: Arc<str>,
    /// Topic ids that no topic has: refused per partition.
    refused: Vec<OffsetFetchResponseTopics>,
    /// What was asked for, to answer per partition when the whole group failed (version 1).
    asked: Option<Vec<(Arc<str>, Vec<i32>)>>,
    outcome: Reading,
}

pub(crate) fn handle(
    broker: &Arc<Broker>,
    call: &Call<'_>,
    request: OffsetFetchRequest,
) -> Answer<OffsetFetchResponse> {
    let version = call.version;
    let image = broker.image();
    let mut parts = Vec::new();
    if version < 8 {
        let topics = request.topics.as_ref().map(|topics| {
            let topic = |name: &str, partitions: &[i32]| groups::TopicFetch {
                topic: name.into(),
                topic_id: image.topic(name).map_or(TopicId::ZERO, |t| t.id),
                partitions: partitions.to_vec(),
            };
            topics.iter().map(|t| topic(&t.name, &t.partition_indexes)).collect::<Vec<_>>()
        });
        parts.push(ask(broker, &request.group_id, topics, request.require_stable, Vec::new()));
    } else {
        for group in &request.groups {
            let (topics, refused) = resolve(&image, group, version);
            parts.push(ask(broker, &group.group_id, topics, request.require_stable, refused));
        }
    }
    if parts.iter().all(|part| part.outcome.is_ready()) {
        let parts = parts.into_iter().map(|part| {
            let Part { group_id, refused, asked, outcome } = part;
            (group_id, refused, asked, outcome.take_ready())
        });
        return Answer::now(respond(version, &image, parts.collect()));
    }
    Answer::LaterIfAny(Box::pin(async move {
        let mut done = Vec::with_capacity(parts.len());
        for Part { group_id, refused, asked, outcome } in parts {
            let outcome = outcome.wait().await.map_err(|_| CloseReason::Unconfirmed)?;
            done.push((group_id, refused, asked, outcome));
        }
        Ok(Answered::from(respond(version, &image, done)))
    }))
}

fn resolve(
    image: &Image,
    group: &OffsetFetchRequestGroup,
    version: i16,
) -> (Option<Vec<groups::TopicFetch>>, Vec<OffsetFetchResponseTopics>) {
    let Some(topics) = &group.topics else {
        return (None, Vec::new());
    };
    let mut found = Vec::new();
    let mut refused = Vec::new();
    for topic in topics {
        let partitions = topic.partition_indexes.clone();
        if version < 10 {
            let topic_id = image.topic(&topic.name).map_or(TopicId::ZERO, |t| t.id);
            found.push(groups::TopicFetch { topic: (*topic.name).into(), topic_id, partitions });
        } else if let Some(known) = image.topic_by_id(TopicId(topic.topic_id)) {
            found.push(groups::TopicFetch { topic: (*known.name).into(), topic_id: known.id, partitions });
        } else {
            let partitions = partitions.into_iter().map(|partition_index| OffsetFetchResponsePartitions {
                partition_index,
                committed_offset: -1,
                committed_leader_epoch: -1,
                metadata: Some("".into()),
                error_code: ErrorCode::UnknownTopicId.code(),
            });
            refused.push(OffsetFetchResponseTopics {
                topic_id: topic.topic_id,
                partitions: partitions.collect(),
                ..OffsetFetchResponseTopics::default()
            });
        }
    }
    (Some(found), refused)
}

fn ask(
    broker: &Arc<Broker>,
    group_id: &str,
    topics: Option<Vec<groups::TopicFetch>>,
    require_stable: bool,
    refused: Vec<OffsetFetchResponseTopics>,
) -> Part {
    let group_id: Arc<str> = group_id.into();
    let asked =
        topics.as_ref().map(|topics| topics.iter().map(|t| (Arc::clone(&t.topic), t.partitions.clone())).collect());
    let fetch = groups::OffsetFetch { group_id: Arc::clone(&group_id), topics, require_stable };
    let outcome = broker.coordinators.read(fetch);
    Part { group_id, refused, asked, outcome }
}

type Done = (
    Arc<str>,
    Vec<OffsetFetchResponseTopics>,
    Option<Vec<(Arc<str>, Vec<i32>)>>,
    Result<groups::Response, groups::GroupError>,
);

fn respond(version: i16, image: &Image, done: Vec<Done>) -> OffsetFetchResponse {
    let mut response = OffsetFetchResponse::default();
    for (group_id, refused, asked, outcome) in done {
        let (error, topics) = match outcome {
            Ok(groups::Response::Fetch(fetched)) => (fetched.error, fetched.topics),
            Ok(other) => unreachable!("an offset fetch was answered with {other:?}"),
            Err(error) => (Some(error), Vec::new()),
        };
        if version >= 8 {
            response.groups.push(group_part(version, image, &group_id, refused, error, topics));
            continue;
        }
        response.error_code = group_code(error);
        if version < 2 && error.is_some() {
            // Version 1 has no error of the whole: every partition says it.
            response.topics = asked
                .into_iter()
                .flatten()
                .map(|(name, partitions)| OffsetFetchResponseTopic {
                    name: (&*name).into(),
                    partitions: partitions
                        .into_iter()
                        .map(|partition_index| OffsetFetchResponsePartition {
                            partition_index,
                            committed_offset: -1,
                            committed_leader_epoch: -1,
                            metadata: Some("".into()),
                            error_code: group_code(error),
                        })
                        .collect(),
                })
                .collect();
        } else {
            response.topics = topics
                .into_iter()
                .map(|topic| OffsetFetchResponseTopic {
                    name: (&*topic.topic).into(),
                    partitions: topic
                        .partitions
                        .into_iter()
                        .map(|p| OffsetFetchResponsePartition {
                            partition_index: p.partition,
                            committed_offset: p.offset,
                            committed_leader_epoch: p.leader_epoch,
                            metadata: Some((&*p.metadata).into()),
                            error_code: 0,
                        })
                        .collect(),
                })
                .collect();
        }
    }
    response
}

fn group_part(
    version: i16,
    image: &Image,
    group_id: &str,
    refused: Vec<OffsetFetchResponseTopics>,
    error: Option<groups::GroupError>,
    topics: Vec<groups::TopicOffsets>,
) -> OffsetFetchResponseGroup {
    let mut parts = Vec::with_capacity(topics.len() + refused.len());
    for topic in topics {
        let mut topic_id = topic.topic_id;
        if version >= 10 && topic_id.is_zero() {
            // All were asked for: a topic that is gone has no id to be named by.
            let Some(known) = image.topic(&topic.topic) else { continue };
            topic_id = known.id;
        }
        parts.push(OffsetFetchResponseTopics {
            name: if version >= 10 { "".into() } else { (&*topic.topic).into() },
            topic_id: topic_id.0,
            partitions: topic
                .partitions
                .into_iter()
                .map(|p| OffsetFetchResponsePartitions {
                    partition_index: p.partition,
                    committed_offset: p.offset,
                    committed_leader_epoch: p.leader_epoch,
                    metadata: Some((&*p.metadata).into()),
                    error_code: 0,
                })
                .collect(),
        });
    }
    if error.is_none() {
        parts.extend(refused);
    }
    OffsetFetchResponseGroup { group_id: group_id.into(), topics: parts, error_code: group_code(error) }
}
