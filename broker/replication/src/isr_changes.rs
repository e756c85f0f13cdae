// SPDX-License-Identifier: Apache-2.0
//! ISR changes as the controller hears them, and what its answers mean to the leaders that proposed them
//! (`AlterPartitionManager.scala`, `Partition.scala`). Must not know how a command travels.

use std::collections::HashMap;

use odradek_metadata::{
    AlterPartition, AlterPartitionError, AlterPartitionReply, PartitionKey, ProposedPartition, ProposedReplica,
};
use odradek_model::{BrokerEpoch, BrokerId, ControllerEpoch};
use odradek_partition::{IsrAnswer, IsrMember};

use crate::{Batch, Proposal, ReplicaKey};

impl Batch {
    /// The command to send, of broker `own` in its present registration, to the newest controller that it has heard of.
    pub fn command(
        &self,
        own: BrokerId,
        broker_epoch: BrokerEpoch,
        controller_epoch: ControllerEpoch,
    ) -> AlterPartition {
        let member =
            |member: &IsrMember| ProposedReplica { broker_id: member.broker, broker_epoch: member.broker_epoch };
        let partitions = self.proposals.iter().map(|Proposal { key, change }| ProposedPartition {
            key: PartitionKey { topic: key.topic, partition: key.partition },
            leader_epoch: change.leader_epoch,
            partition_epoch: change.partition_epoch,
            isr: change.in_sync.iter().map(member).collect(),
            // A leader that proposes an ISR has what its followers are compared with.
            recovering: false,
        });
        let (sequence, partitions) = (self.sequence, partitions.collect());
        AlterPartition { broker_id: own, broker_epoch, controller_epoch, sequence, partitions }
    }

    /// What each leader is to be told. `None` if nobody answered: the command may have been obeyed. What the answer does
    /// not name, and a command that was refused as a whole, is sent again.
    pub fn answers(self, reply: Option<AlterPartitionReply>) -> Vec<(Proposal, IsrAnswer)> {
        let outcomes: HashMap<ReplicaKey, IsrAnswer> = match reply {
            Some(Ok(outcomes)) => outcomes
                .into_iter()
                .map(|(key, outcome)| {
                    let key = ReplicaKey { topic: key.topic, partition: key.partition };
                    (key, outcome.as_ref().map_or_else(answer_to, |_| IsrAnswer::Accepted))
                })
                .collect(),
            Some(Err(_)) | None => HashMap::new(),
        };
        let answer = |proposal: Proposal| {
            let answer = outcomes.get(&proposal.key).copied().unwrap_or(IsrAnswer::Retry);
            (proposal, answer)
        };
        self.proposals.into_iter().map(answer).collect()
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

#[cfg(test)]
mod tests {
    use odradek_metadata::AlterPartitionRefusal;
    use odradek_partition::IsrChange;

    use super::*;
    use crate::scenarios::key;

    fn batch() -> Batch {
        let leader = IsrMember { broker: BrokerId(1), broker_epoch: None };
        let follower = IsrMember { broker: BrokerId(2), broker_epoch: Some(12) };
        let change = |epoch| IsrChange {
            leader_epoch: epoch,
            partition_epoch: epoch + 1,
            in_sync: vec![leader, follower],
            attempt: 1,
        };
        let proposal = |partition| Proposal { key: key(7, partition), change: change(partition) };
        Batch { sequence: 5, proposals: (0..4).map(proposal).collect() }
    }

    #[test]
    fn a_command_names_the_incarnations_that_were_seen() {
        let command = batch().command(BrokerId(1), 11, 3);
        assert_eq!((command.broker_id, command.broker_epoch, command.controller_epoch), (BrokerId(1), 11, 3));
        assert_eq!((command.sequence, command.partitions.len()), (5, 4));
        let second = &command.partitions[1];
        assert_eq!((second.key.partition, second.leader_epoch, second.partition_epoch), (1, 1, 2));
        let members: Vec<_> = second.isr.iter().map(|member| (member.broker_id.0, member.broker_epoch)).collect();
        assert_eq!((members, second.recovering), (vec![(1, None), (2, Some(12))], false));
    }

    #[test]
    fn what_is_not_answered_is_sent_again() {
        let at = |partition| PartitionKey { topic: key(7, 0).topic, partition };
        let reply = vec![
            (at(0), Err(AlterPartitionError::NewLeaderElected)),
            (at(1), Err(AlterPartitionError::IneligibleReplica(BrokerId(2)))),
            (at(2), Err(AlterPartitionError::NotController)),
        ];
        let answers = |reply| batch().answers(reply).into_iter().map(|(_, answer)| answer).collect::<Vec<_>>();
        let mixed = [IsrAnswer::AwaitMetadata, IsrAnswer::Refused, IsrAnswer::Retry, IsrAnswer::Retry];
        assert_eq!(answers(Some(Ok(reply))), mixed);
        assert_eq!(answers(None), [IsrAnswer::Retry; 4]);
        assert_eq!(answers(Some(Err(AlterPartitionRefusal::Late(5)))), [IsrAnswer::Retry; 4]);
    }
}
