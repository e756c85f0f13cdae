// SPDX-License-Identifier: Apache-2.0
//! OffsetCommit (8): stores where a group has read to. Names and ids are resolved here, as the coordinator knows none.
use std::sync::Arc;

use odradek_groups as groups;
use odradek_model::TopicId;
use odradek_wire::ErrorCode;
use odradek_wire::messages::{
    OffsetCommitRequest, OffsetCommitRequestTopic, OffsetCommitResponse, OffsetCommitResponsePartition,
    OffsetCommitResponseTopic,
};

use crate::broker::Broker;
use crate::dispatch::{Answer, Call};
use crate::error_table::group_code;

pub(crate) fn handle(
    broker: &Arc<Broker>,
    call: &Call<'_>,
    request: OffsetCommitRequest,
) -> Answer<OffsetCommitResponse> {
    let by_id = call.version >= 10;
    let image = broker.image();
    // Refused here: what no topic or partition stands for.
    let mut refused: Vec<OffsetCommitResponseTopic> = Vec::new();
    let mut topics = Vec::new();
    for topic in &request.topics {
        let found = if by_id { image.topic_by_id(TopicId(topic.topic_id)) } else { image.topic(&topic.name) };
        let Some(found) = found else {
            let code = if by_id { ErrorCode::UnknownTopicId } else { ErrorCode::UnknownTopicOrPartition };
            refused.push(refuse(topic, topic.partitions.iter().map(|p| p.partition_index), code));
            continue;
        };
        let exists = |partition: i32| usize::try_from(partition).is_ok_and(|p| p < found.partitions.len());
        let missing = topic.partitions.iter().map(|p| p.partition_index).filter(|p| !exists(*p));
        let missing = refuse(topic, missing, ErrorCode::UnknownTopicOrPartition);
        if !missing.partitions.is_empty() {
            refused.push(missing);
        }
        let partitions: Vec<_> = topic
            .partitions
            .iter()
            .filter(|p| exists(p.partition_index))
            .map(|p| groups::PartitionCommit {
                partition: p.partition_index,
                offset: p.committed_offset,
                leader_epoch: p.committed_leader_epoch,
                metadata: p.committed_metadata.as_deref().map(Into::into),
            })
            .collect();
        if !partitions.is_empty() {
            topics.push(groups::TopicCommit { topic: (*found.name).into(), topic_id: found.id, partitions });
        }
    }
    if topics.is_empty() {
        return Answer::now(OffsetCommitResponse { topics: refused, ..OffsetCommitResponse::default() });
    }
    let asked: Vec<(Arc<str>, TopicId, Vec<i32>)> = topics
        .iter()
        .map(|t| (Arc::clone(&t.topic), t.topic_id, t.partitions.iter().map(|p| p.partition).collect()))
        .collect();
    let commit = groups::OffsetCommit {
        group_id: (*request.group_id).into(),
        generation_id: request.generation_id_or_member_epoch,
        member_id: (*request.member_id).into(),
        group_instance_id: request.group_instance_id.as_deref().map(Into::into),
        retention_time_ms: request.retention_time_ms,
        knows_group_id_not_found: call.version >= 9,
        topics,
    };
    let group_id = Arc::clone(&commit.group_id);
    broker.coordinators.ask(&group_id, groups::Request::Commit(commit), move |outcome| {
        let results: Vec<_> = match outcome {
            Ok(groups::Response::Commit(response)) => {
                response.topics.into_iter().map(|t| (t.topic, t.topic_id, t.partitions)).collect()
            }
            Ok(other) => unreachable!("a commit was answered with {other:?}"),
            Err(error) => {
                let all = |partitions: Vec<i32>| partitions.into_iter().map(|p| (p, Some(error))).collect();
                asked.into_iter().map(|(topic, id, partitions)| (topic, id, all(partitions))).collect()
            }
        };
        // A topic stands once in the answer, with the partitions that were refused here and those that were not.
        let mut topics = refused;
        for (topic, topic_id, partitions) in results {
            let name = if by_id { "".into() } else { (&*topic).into() };
            let partitions = partitions.into_iter().map(|(partition_index, error)| OffsetCommitResponsePartition {
                partition_index,
                error_code: group_code(error),
            });
            let is_same = |known: &OffsetCommitResponseTopic| {
                if by_id { known.topic_id == topic_id.0 } else { known.name == name }
            };
            match topics.iter_mut().find(|known| is_same(known)) {
                Some(known) => known.partitions.extend(partitions),
                None => topics.push(OffsetCommitResponseTopic {
                    name,
                    topic_id: topic_id.0,
                    partitions: partitions.collect(),
                }),
            }
        }
        OffsetCommitResponse { topics, ..OffsetCommitResponse::default() }
    })
}

fn refuse(
    topic: &OffsetCommitRequestTopic,
    partitions: impl Iterator<Item = i32>,
    code: ErrorCode,
) -> OffsetCommitResponseTopic {
    OffsetCommitResponseTopic {
        name: topic.name.clone(),
        topic_id: topic.topic_id,
        partitions: partitions
            .map(|partition_index| OffsetCommitResponsePartition { partition_index, error_code: code.code() })
            .collect(),
    }
}
