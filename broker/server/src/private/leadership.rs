// SPDX-License-Identifier: Apache-2.0
//! Tells a leader by which leader epochs the replicas here act. It must not know what the leader makes of it.
use odradek_model::TopicId;
use odradek_replication::ReplicaKey;
use odradek_wire::private::{ConfirmLeadershipRequest, ConfirmLeadershipResponse, KnownLeadership};

use super::{PrivateRequest, reply};
use crate::broker::Broker;
use crate::net::{CloseReason, Finished, Started};

/// Most partitions in one question. A leader asks about the journals of groups that are read from at this moment, of
/// which there are 50 by default (`offsets.topic.num.partitions`); each costs a lock here.
pub(crate) const PARTITIONS_MAX: usize = 10_000;

pub(super) fn confirm(broker: &Broker, request: PrivateRequest<'_>) -> Result<Started, CloseReason> {
    let header = request.header;
    let asked: ConfirmLeadershipRequest = request.body()?;
    if asked.partitions.len() > PARTITIONS_MAX {
        return Err(CloseReason::Malformed);
    }
    let known = asked.partitions.into_iter().filter_map(|asked| {
        let replica = broker.replica(ReplicaKey { topic: TopicId(asked.topic_id), partition: asked.partition })?;
        let leader_epoch = replica.newest_epoch()?;
        Some(KnownLeadership { topic_id: asked.topic_id, partition: asked.partition, leader_epoch })
    });
    let response = ConfirmLeadershipResponse { partitions: known.collect() };
    Ok(Started::Finished(Finished::Reply(reply(header, &response)?)))
}
