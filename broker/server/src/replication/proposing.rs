// SPDX-License-Identifier: Apache-2.0
//! Sends the ISR changes of all leaders on this broker to the controller, one command at a time, and tells each leader
//! what became of its own. That a change was committed is learned from the metadata alone.
use std::collections::HashMap;
use std::sync::Arc;

use odradek_metadata::{
    AlterPartition, AlterPartitionError, AlterPartitionRefusal, AlterPartitionReply, PartitionKey, ProposedPartition,
    ProposedReplica,
};
use odradek_partition::{IsrAnswer, IsrMember};
use odradek_replication::{Batch, Proposal, ReplicaKey};

use super::{IsrUnavailable, Links, Replication, sleep_until, time_until};
use crate::broker::Broker;

pub(super) async fn run(replication: Arc<Replication>, links: Links) {
    loop {
        let Some(broker) = links.broker.upgrade() else { return };
        let (batch, due) = {
            let mut proposals = replication.proposals();
            (proposals.next(broker.clock.monotonic()), proposals.due_at())
        };
        let Some(batch) = batch else {
            let wait = due.map(|due| time_until(due, broker.clock.as_ref()));
            drop(broker);
            tokio::select! {
                () = replication.proposed.notified() => {}
                () = sleep_until(wait) => {}
                () = links.stopping.cancelled() => return,
            }
            continue;
        };
        let answer = match command(&broker, &batch, links.isr_changes.controller_epoch()) {
            Some(command) => tokio::select! {
                answer = links.isr_changes.alter_partition(command) => answer,
                () = links.stopping.cancelled() => return,
            },
            None => Err(IsrUnavailable("this broker is not registered".to_owned())),
        };
        replication.proposals().finished();
        tell(&broker, batch.proposals, answer);
    }
}

/// `None` while the metadata does not know this broker.
fn command(broker: &Broker, batch: &Batch, controller_epoch: i64) -> Option<AlterPartition> {
    let member = |member: &IsrMember| ProposedReplica { broker_id: member.broker, broker_epoch: member.broker_epoch };
    let partitions = batch.proposals.iter().map(|Proposal { key, change }| ProposedPartition {
        key: PartitionKey { topic: key.topic, partition: key.partition },
        leader_epoch: change.leader_epoch,
        partition_epoch: change.partition_epoch,
        isr: change.in_sync.iter().map(member).collect(),
        // A leader that proposes an ISR has what its followers are compared with.
        recovering: false,
    });
    Some(AlterPartition {
        broker_id: broker.id,
        broker_epoch: broker.image().broker(broker.id)?.epoch,
        controller_epoch,
        sequence: batch.sequence,
        partitions: partitions.collect(),
    })
}

fn tell(broker: &Broker, proposals: Vec<Proposal>, answer: Result<AlterPartitionReply, IsrUnavailable>) {
    let outcomes: HashMap<ReplicaKey, IsrAnswer> = match answer {
        Ok(Ok(outcomes)) => outcomes
            .into_iter()
            .map(|(key, outcome)| {
                let key = ReplicaKey { topic: key.topic, partition: key.partition };
                (key, outcome.as_ref().map_or_else(answer_to, |_| IsrAnswer::Accepted))
            })
            .collect(),
        Ok(Err(
            error @ (AlterPartitionRefusal::StaleBrokerEpoch(..)
            | AlterPartitionRefusal::Late(_)
            | AlterPartitionRefusal::TooManyPartitions(_)),
        )) => {
            tracing::debug!(%error, "ISR changes are sent again");
            HashMap::new()
        }
        Err(error) => {
            tracing::debug!(%error, "ISR changes are sent again");
            HashMap::new()
        }
    };
    for Proposal { key, change } in proposals {
        let answer = outcomes.get(&key).copied().unwrap_or(IsrAnswer::Retry);
        if let Some(replica) = broker.replica(key) {
            tracing::debug!(topic = %replica.topic, index = replica.index, ?change, ?answer, "an ISR change");
            replica.isr_answered(&change, answer);
        }
    }
}

/// What a refusal means to the leader (`Partition.scala`).
fn answer_to(error: &AlterPartitionError) -> IsrAnswer {
    match error {
        AlterPartitionError::IneligibleReplica(_) => IsrAnswer::Refused,
        AlterPartitionError::UnknownTopicId
        | AlterPartitionError::UnknownPartition
        | AlterPartitionError::FencedLeaderEpoch { .. }
        | AlterPartitionError::NotLeader(_)
        | AlterPartitionError::StalePartitionEpoch { .. }
        | AlterPartitionError::IsrNotWithinReplicas
        | AlterPartitionError::IsrWithoutLeader
        | AlterPartitionError::RecoveringNotAlone
        | AlterPartitionError::RecoveringAfterRecovered
        | AlterPartitionError::NewLeaderElected => IsrAnswer::AwaitMetadata,
        AlterPartitionError::NotController => IsrAnswer::Retry,
    }
}
