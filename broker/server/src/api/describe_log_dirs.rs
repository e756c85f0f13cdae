// SPDX-License-Identifier: Apache-2.0
//! DescribeLogDirs (35): the size of this broker's replicas, and of the volume that they are on
//! (`ReplicaManager.describeLogDirs` in Kafka). There is one folder, and no copy from one folder to another.
use std::collections::HashSet;
use std::sync::Arc;

use odradek_wire::ErrorCode;
use odradek_wire::messages::{
    DescribeLogDirsPartition, DescribeLogDirsRequest, DescribeLogDirsResponse, DescribeLogDirsResult,
    DescribeLogDirsTopic,
};

use super::on_blocking_thread;
use crate::broker::Broker;
use crate::dispatch::{Answer, Answered, Call};
use crate::replica::Replica;

pub(crate) fn handle(
    broker: &Arc<Broker>,
    _call: &Call<'_>,
    request: DescribeLogDirsRequest,
) -> Answer<DescribeLogDirsResponse> {
    let broker = Arc::clone(broker);
    // The file system is asked for its size.
    Answer::later(async move {
        let result = on_blocking_thread(move || describe(&broker, &request)).await;
        Answered::from(DescribeLogDirsResponse { results: vec![result], ..DescribeLogDirsResponse::default() })
    })
}

fn describe(broker: &Broker, request: &DescribeLogDirsRequest) -> DescribeLogDirsResult {
    let log_dir = broker.folder.path().display().to_string().into();
    let space = match broker.folder.space() {
        Ok(space) => space,
        Err(error) => {
            tracing::warn!(%error, "the volume's size is unknown");
            let error_code = ErrorCode::KafkaStorageError.code();
            return DescribeLogDirsResult { error_code, log_dir, ..DescribeLogDirsResult::default() };
        }
    };
    let wanted: Option<HashSet<(&str, i32)>> = request.topics.as_ref().map(|topics| {
        topics.iter().flat_map(|topic| topic.partitions.iter().map(|index| (&*topic.topic, *index))).collect()
    });
    let is_wanted =
        |replica: &Replica| wanted.as_ref().is_none_or(|wanted| wanted.contains(&(&*replica.topic, replica.index)));
    let mut topics: Vec<DescribeLogDirsTopic> = Vec::new();
    for topic in broker.replicas.topics() {
        let replicas = topic.partitions.iter().flatten().filter(|replica| is_wanted(replica));
        let partitions: Vec<_> = replicas.map(|replica| partition(replica)).collect();
        if !partitions.is_empty() {
            topics.push(DescribeLogDirsTopic { name: (*topic.name).into(), partitions });
        }
    }
    topics.sort_by(|one, other| one.name.cmp(&other.name));
    DescribeLogDirsResult {
        log_dir,
        topics,
        total_bytes: i64::try_from(space.total_bytes).unwrap_or(i64::MAX),
        usable_bytes: i64::try_from(space.free_bytes).unwrap_or(i64::MAX),
        is_cordoned: broker.image().broker(broker.id).is_some_and(|member| member.cordoned),
        ..DescribeLogDirsResult::default()
    }
}

fn partition(replica: &Replica) -> DescribeLogDirsPartition {
    let (high_watermark, ..) = replica.checkpoints();
    DescribeLogDirsPartition {
        partition_index: replica.index,
        partition_size: i64::try_from(replica.size_bytes()).unwrap_or(i64::MAX),
        // As in Kafka how far the log ends below the high watermark: not 0 only on a follower that is behind.
        offset_lag: (high_watermark - replica.log_end()).max(0),
        is_future_key: false,
    }
}
