// SPDX-License-Identifier: Apache-2.0
//! One file per API key: each turns one request into one answer. They must not know sockets, frames or each other.
#![expect(clippy::needless_pass_by_value, reason = "every handler has the same signature: it owns its request")]
pub(crate) mod alter_partition_reassignments;
pub(crate) mod api_versions;
pub(crate) mod create_partitions;
pub(crate) mod create_topics;
pub(crate) mod delete_topics;
pub(crate) mod describe_cluster;
pub(crate) mod describe_configs;
pub(crate) mod describe_groups;
pub(crate) mod describe_log_dirs;
pub(crate) mod describe_topic_partitions;
pub(crate) mod elect_leaders;
pub(crate) mod fetch;
pub(crate) mod find_coordinator;
pub(crate) mod heartbeat;
pub(crate) mod incremental_alter_configs;
pub(crate) mod init_producer_id;
pub(crate) mod join_group;
pub(crate) mod leave_group;
pub(crate) mod list_groups;
pub(crate) mod list_offsets;
pub(crate) mod list_partition_reassignments;
pub(crate) mod metadata;
pub(crate) mod offset_commit;
pub(crate) mod offset_fetch;
pub(crate) mod offset_for_leader_epoch;
pub(crate) mod produce;
pub(crate) mod sync_group;
pub(crate) mod unregister_broker;

use std::sync::Arc;

use odradek_metadata::{Command, Reply};
use odradek_model::TopicId;
use odradek_partition::Isolation;
use odradek_wire::ErrorCode;
use odradek_wire::messages::{LeaderIdAndEpoch, NodeEndpoint};

use crate::broker::Broker;
use crate::error_table::controller_code;
use crate::replica::Replica;
use crate::replicas::TopicReplicas;

/// The isolation level of a request: 1 is read_committed (KIP-98).
fn isolation(level: i8) -> Isolation {
    if level == 1 { Isolation::ReadCommitted } else { Isolation::ReadUncommitted }
}

/// This broker's replica of a partition, or Kafka's code for why there is none: no such partition, one whose log could
/// not be opened (`HostedPartition.Offline`), or one that other brokers have.
fn replica_of(topic: Option<&TopicReplicas>, index: i32) -> Result<&Arc<Replica>, ErrorCode> {
    let topic = topic.ok_or(ErrorCode::UnknownTopicOrPartition)?;
    topic.partition(index).ok_or_else(|| {
        if topic.offline.contains(&index) {
            ErrorCode::KafkaStorageError
        } else if topic.has(index) {
            ErrorCode::NotLeaderOrFollower
        } else {
            ErrorCode::UnknownTopicOrPartition
        }
    })
}

/// Who leads a partition by the newest metadata, for a client that has asked with an old leader in mind (rule 30,
/// KIP-951); and where, if that broker has the client's listener.
fn current_leader(
    broker: &Broker,
    listener: &str,
    topic: TopicId,
    index: i32,
) -> (LeaderIdAndEpoch, Option<NodeEndpoint>) {
    let image = broker.image();
    let index = usize::try_from(index).ok();
    let partition = image.topic_by_id(topic).and_then(|topic| topic.partitions.get(index?));
    let Some(partition) = partition else {
        return (LeaderIdAndEpoch::default(), None);
    };
    let node = partition.leader.and_then(|id| image.broker(id)).filter(|leader| !leader.fenced).and_then(|leader| {
        let (host, port) = broker.endpoint(leader, listener)?;
        let rack = leader.rack.as_deref().map(Into::into);
        Some(NodeEndpoint { node_id: leader.id.0, host: host.into(), port: i32::from(port), rack })
    });
    let leader_id = partition.leader.map_or(-1, |leader| leader.0);
    (LeaderIdAndEpoch { leader_id, leader_epoch: partition.leader_epoch }, node)
}

/// Why something was refused: Kafka's code and the reason in words.
type Refusal = (ErrorCode, String);

/// Has the controller decide. A refusal is one of the request as a whole: nobody decides, or the cluster is not upgraded
/// yet.
async fn decide(broker: &Broker, command: Command) -> Result<Reply, Refusal> {
    match broker.decide(command).await {
        Ok(Reply::FeatureLevelTooLow { needed, present }) => {
            let message = format!("the cluster is at feature level {present}, and this needs {needed}");
            Err((ErrorCode::UnsupportedVersion, message))
        }
        Ok(reply) => Ok(reply),
        Err(error) => Err((controller_code(&error), error.to_string())),
    }
}

/// Runs work that may wait for the disk on a thread that may block.
pub(crate) async fn on_blocking_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        // The process ends: nobody waits for the answer.
        Err(_) => std::future::pending().await,
    }
}
