// SPDX-License-Identifier: Apache-2.0
//! A leader proposes a new ISR (`ReplicationControlManager.alterPartition` in Kafka). The rules are checked in Kafka's
//! order, as the leader reacts to each in its own way.
//!
//! The leader takes a committed ISR from its image, in the order of the log, and not ahead of it from the reply: so it
//! knows every change of min ISR that the controller knew when it kept the ELR.
//!
//! A refused leader gives up the members that it proposed, and its high watermark may pass them. So no other copy of the
//! same proposal may be taken after a refusal, however late it comes: [`AlterPartition`] carries the epoch of the
//! controller it is for, and a number that rises with every request, which
//! [`ActiveController`](super::ActiveController) checks. The refusal of the *newest* request is the last word; that of
//! an earlier one is not, as the newest may still be taken. A proposal that is sent again names the same registrations
//! as at first: those under which the members were found to be caught up. The histories of the tests lost records
//! without each of these.

use std::collections::BTreeSet;

use odradek_model::{BrokerEpoch, BrokerId, ControllerEpoch, LeaderEpoch, PartitionEpoch, TopicId};
use thiserror::Error;

use super::partition_change::PartitionChange;
use super::partition_updates::{MAX_CHANGES, is_active};
use super::{ControllerSettings, Decision, PlantedBug};
use crate::records::RecordBody;
use crate::{Image, PartitionImage, PartitionKey, Record, TopicImage};

/// A member of a proposed ISR.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ProposedReplica {
    /// The replica.
    pub broker_id: BrokerId,
    /// The registration under which it fetched; `None` is not checked (-1 on the wire; the leader for itself).
    pub broker_epoch: Option<BrokerEpoch>,
}

/// The proposal for one partition.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ProposedPartition {
    /// The partition.
    pub key: PartitionKey,
    /// As the leader knows it.
    pub leader_epoch: LeaderEpoch,
    /// The state on which the proposal is based.
    pub partition_epoch: PartitionEpoch,
    /// The ISR wanted, the leader included.
    pub isr: Vec<ProposedReplica>,
    /// Whether the leader is still recovering from an unclean election.
    pub recovering: bool,
}

/// A leader's proposals. No partition stands twice: there is one change in flight for each.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AlterPartition {
    /// The leader.
    pub broker_id: BrokerId,
    /// Its registration.
    pub broker_epoch: BrokerEpoch,
    /// The controller for which it is meant.
    pub controller_epoch: ControllerEpoch,
    /// Above that of every earlier request of this registration, those sent again included.
    pub sequence: u64,
    /// The proposals.
    pub partitions: Vec<ProposedPartition>,
}

/// A partition after its proposal was taken.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AlteredPartition {
    /// The leader: the proposer.
    pub leader: BrokerId,
    /// Its epoch.
    pub leader_epoch: LeaderEpoch,
    /// The new state's epoch.
    pub partition_epoch: PartitionEpoch,
    /// The ISR, which a completed reassignment may have made smaller.
    pub isr: Vec<BrokerId>,
    /// Whether the leader is recovering.
    pub recovering: bool,
}

/// Why the whole request was refused.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum AlterPartitionRefusal {
    /// Not registered, or of an earlier registration (`STALE_BROKER_EPOCH`, 77).
    #[error("broker {0} is not registered with epoch {1}")]
    StaleBrokerEpoch(BrokerId, BrokerEpoch),
    /// A later request of the broker was answered already, or it is meant for another controller (`NOT_CONTROLLER`,
    /// 41). Nobody waits for this answer.
    #[error("the request came too late: request {0} of the broker, or another controller, has taken its place")]
    Late(u64),
    /// More partitions than a decision may change (`INVALID_REQUEST`, 42).
    #[error("{0} partitions given, at most {MAX_CHANGES} are allowed")]
    TooManyPartitions(usize),
}

/// Why a partition's proposal was refused, in the order in which the rules are checked.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum AlterPartitionError {
    /// `UNKNOWN_TOPIC_ID`, 100.
    #[error("no topic has this id")]
    UnknownTopicId,
    /// `UNKNOWN_TOPIC_OR_PARTITION`, 3: the leader waits for metadata.
    #[error("the topic has no such partition")]
    UnknownPartition,
    /// The leader knows a later epoch than this controller: it is none any more (`NOT_CONTROLLER`, 41).
    #[error("the epochs given are later than any this controller knows")]
    NotController,
    /// `FENCED_LEADER_EPOCH`, 74.
    #[error("leader epoch {given} is over, the present one is {present}")]
    FencedLeaderEpoch {
        /// The request's.
        given: LeaderEpoch,
        /// The image's.
        present: LeaderEpoch,
    },
    /// `INVALID_REQUEST`, 42.
    #[error("broker {0} does not lead the partition")]
    NotLeader(BrokerId),
    /// `INVALID_UPDATE_VERSION`, 95.
    #[error("partition epoch {given} is over, the present one is {present}")]
    StalePartitionEpoch {
        /// The request's.
        given: PartitionEpoch,
        /// The image's.
        present: PartitionEpoch,
    },
    /// Not distinct replicas (`INVALID_REQUEST`, 42).
    #[error("the ISR is empty or not within the replicas")]
    IsrNotWithinReplicas,
    /// `INVALID_REQUEST`, 42.
    #[error("the ISR does not hold the leader")]
    IsrWithoutLeader,
    /// `INVALID_REQUEST`, 42.
    #[error("a recovering leader is alone in its ISR")]
    RecoveringNotAlone,
    /// `INVALID_REQUEST`, 42.
    #[error("a leader that has recovered does not begin to recover")]
    RecoveringAfterRecovered,
    /// A member is not registered, fenced, going to stop, or of another registration (`INELIGIBLE_REPLICA`, 107).
    #[error("broker {0} may not be in sync now")]
    IneligibleReplica(BrokerId),
    /// Taken, and it completed a reassignment that gave the partition another leader, or none
    /// (`NEW_LEADER_ELECTED`, 108): the proposer waits for metadata.
    #[error("the change completed a reassignment, after which another broker leads")]
    NewLeaderElected,
}

type Outcome = Result<AlteredPartition, AlterPartitionError>;
/// Per partition in the order of the request.
pub type AlterPartitionReply = Result<Vec<(PartitionKey, Outcome)>, AlterPartitionRefusal>;

pub(super) fn decide(
    image: &Image,
    settings: &ControllerSettings,
    command: &AlterPartition,
) -> Decision<AlterPartitionReply> {
    let refuse = |error| Decision { records: Vec::new(), reply: Err(error) };
    let (id, epoch) = (command.broker_id, command.broker_epoch);
    if image.broker(id).is_none_or(|broker| broker.epoch != epoch) {
        return refuse(AlterPartitionRefusal::StaleBrokerEpoch(id, epoch));
    }
    if command.partitions.len() > MAX_CHANGES {
        return refuse(AlterPartitionRefusal::TooManyPartitions(command.partitions.len()));
    }
    let mut records = Vec::new();
    let mut seen = BTreeSet::new();
    let mut reply = Vec::with_capacity(command.partitions.len());
    for proposed in &command.partitions {
        let (record, outcome) = if seen.insert(proposed.key) {
            alter(image, settings, id, proposed).unwrap_or_else(|error| (None, Err(error)))
        } else {
            // A second proposal for a partition is based on the state before the first.
            let present = image.partition(proposed.key).map_or(0, |partition| partition.partition_epoch + 1);
            (None, Err(AlterPartitionError::StalePartitionEpoch { given: proposed.partition_epoch, present }))
        };
        records.extend(record);
        reply.push((proposed.key, outcome));
    }
    Decision { records, reply: Ok(reply) }
}

fn alter(
    image: &Image,
    settings: &ControllerSettings,
    proposer: BrokerId,
    proposed: &ProposedPartition,
) -> Result<(Option<Record>, Outcome), AlterPartitionError> {
    let topic = known_topic(image, proposed.key.topic)?;
    let partition = image.partition(proposed.key).ok_or(AlterPartitionError::UnknownPartition)?;
    check(image, settings, partition, proposer, proposed)?;
    let mut change = PartitionChange::new(settings, topic, proposed.key, partition);
    change.isr = proposed.isr.iter().map(|replica| replica.broker_id).collect();
    change.recovering = proposed.recovering;
    let record = change.build(|broker| is_active(image, broker));
    let altered = match record.as_ref().map(|record| &record.body) {
        Some(RecordBody::Partition(next)) if next.leader != proposer.0 => Err(AlterPartitionError::NewLeaderElected),
        Some(RecordBody::Partition(next)) => Ok(AlteredPartition {
            leader: proposer,
            leader_epoch: next.leader_epoch,
            partition_epoch: next.partition_epoch,
            isr: next.isr.iter().copied().map(BrokerId).collect(),
            recovering: next.recovering,
        }),
        _ => Ok(AlteredPartition {
            leader: proposer,
            leader_epoch: partition.leader_epoch,
            partition_epoch: partition.partition_epoch,
            isr: partition.isr.clone(),
            recovering: partition.recovering,
        }),
    };
    Ok((record, altered))
}

fn known_topic(image: &Image, id: TopicId) -> Result<&TopicImage, AlterPartitionError> {
    image.topic_by_id(id).map(AsRef::as_ref).ok_or(AlterPartitionError::UnknownTopicId)
}

fn check(
    image: &Image,
    settings: &ControllerSettings,
    partition: &PartitionImage,
    proposer: BrokerId,
    proposed: &ProposedPartition,
) -> Result<(), AlterPartitionError> {
    use AlterPartitionError as Error;
    if proposed.leader_epoch > partition.leader_epoch || proposed.partition_epoch > partition.partition_epoch {
        return Err(Error::NotController);
    }
    if proposed.leader_epoch < partition.leader_epoch {
        let (given, present) = (proposed.leader_epoch, partition.leader_epoch);
        return Err(Error::FencedLeaderEpoch { given, present });
    }
    if partition.leader != Some(proposer) {
        return Err(Error::NotLeader(proposer));
    }
    if proposed.partition_epoch < partition.partition_epoch && !settings.has(PlantedBug::PartitionEpochNotChecked) {
        let (given, present) = (proposed.partition_epoch, partition.partition_epoch);
        return Err(Error::StalePartitionEpoch { given, present });
    }
    let isr: Vec<BrokerId> = proposed.isr.iter().map(|replica| replica.broker_id).collect();
    let distinct = isr.iter().enumerate().all(|(i, broker)| !isr[..i].contains(broker));
    if isr.is_empty() || !distinct || !isr.iter().all(|broker| partition.replicas.contains(broker)) {
        return Err(Error::IsrNotWithinReplicas);
    }
    if !isr.contains(&proposer) {
        return Err(Error::IsrWithoutLeader);
    }
    if proposed.recovering && isr.len() > 1 {
        return Err(Error::RecoveringNotAlone);
    }
    if proposed.recovering && !partition.recovering {
        return Err(Error::RecoveringAfterRecovered);
    }
    let eligible = |replica: &ProposedReplica| {
        image
            .broker(replica.broker_id)
            .is_some_and(|broker| broker.is_active() && replica.broker_epoch.is_none_or(|epoch| epoch == broker.epoch))
    };
    match proposed.isr.iter().find(|replica| !eligible(replica)) {
        Some(replica) if !settings.has(PlantedBug::IneligibleReplicasAccepted) => {
            Err(Error::IneligibleReplica(replica.broker_id))
        }
        _ => Ok(()),
    }
}
