// SPDX-License-Identifier: Apache-2.0
//! Somebody asks for elections (`ReplicationControlManager.electLeaders` in Kafka; rule 49).

use std::collections::BTreeSet;
use std::sync::Arc;

use odradek_model::BrokerId;
use thiserror::Error;

use super::partition_change::{Election, PartitionChange};
use super::partition_updates::{MAX_CHANGES, is_active};
use super::{ControllerSettings, Decision};
use crate::records::RecordBody;
use crate::{Image, PartitionKey, Record, TopicImage};

/// Which leader is wanted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ElectionKind {
    /// The preferred one.
    Preferred,
    /// Anybody alive, where there is no leader: acknowledged records may be lost.
    Unclean,
}

/// Elections.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ElectLeaders {
    /// Which leader is wanted.
    pub kind: ElectionKind,
    /// The partitions by topic name and index; `None` is all that need it.
    pub partitions: Option<Vec<(String, i32)>>,
}

/// Why a partition has no new leader.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum ElectLeadersError {
    /// `UNKNOWN_TOPIC_OR_PARTITION`, 3.
    #[error("there is no such topic or partition")]
    UnknownPartition,
    /// It has the leader that is wanted (`ELECTION_NOT_NEEDED`, 84).
    #[error("the partition has the leader that is wanted")]
    NotNeeded,
    /// The preferred leader is not alive or not in sync (`PREFERRED_LEADER_NOT_AVAILABLE`, 80).
    #[error("the preferred leader, broker {0}, is not available")]
    PreferredLeaderNotAvailable(BrokerId),
    /// No replica is alive (`ELIGIBLE_LEADERS_NOT_AVAILABLE`, 83).
    #[error("no replica is available")]
    EligibleLeadersNotAvailable,
    /// More than a decision may change: ask again for the rest (`REQUEST_TIMED_OUT`, 7).
    #[error("more than {MAX_CHANGES} partitions need an election; ask again for the rest")]
    TooMany,
}

/// Per partition, by topic name and index.
pub(super) type Answer = Vec<((String, i32), Result<(), ElectLeadersError>)>;

pub(super) fn decide(image: &Image, settings: &ControllerSettings, command: &ElectLeaders) -> Decision<Answer> {
    let mut records = Vec::new();
    let mut elect = |name: &str, index: i32| {
        let key = image.topic(name).map(|topic| PartitionKey { topic: topic.id, partition: index });
        if records.len() == MAX_CHANGES {
            return Err(ElectLeadersError::TooMany);
        }
        let record = elect(image, settings, command.kind, key.ok_or(ElectLeadersError::UnknownPartition)?)?;
        records.push(record);
        Ok(())
    };
    let reply = if let Some(partitions) = &command.partitions {
        let mut seen = BTreeSet::new();
        let once = partitions.iter().filter(|partition| seen.insert(*partition));
        once.map(|(name, index)| ((name.clone(), *index), elect(name, *index))).collect()
    } else {
        // Those that have the leader that is wanted are not named in the answer.
        let needing: Vec<(String, i32)> = match command.kind {
            ElectionKind::Preferred => image.unbalanced_partitions().map(name_of).collect(),
            ElectionKind::Unclean => image.leaderless_partitions().map(name_of).collect(),
        };
        needing
            .into_iter()
            .map(|(name, index)| {
                let outcome = elect(&name, index);
                ((name, index), outcome)
            })
            .collect()
    };
    Decision { records, reply }
}

fn name_of<P>((key, topic, _): (PartitionKey, &Arc<TopicImage>, P)) -> (String, i32) {
    (topic.name.to_string(), key.partition)
}

fn elect(
    image: &Image,
    settings: &ControllerSettings,
    kind: ElectionKind,
    key: PartitionKey,
) -> Result<Record, ElectLeadersError> {
    let partition = image.partition(key).ok_or(ElectLeadersError::UnknownPartition)?;
    let topic = image.topic_by_id(key.topic).ok_or(ElectLeadersError::UnknownPartition)?;
    let (needed, election, unavailable) = match kind {
        ElectionKind::Preferred => {
            let unavailable = ElectLeadersError::PreferredLeaderNotAvailable(partition.preferred_leader());
            (!partition.has_preferred_leader(), Election::Preferred, unavailable)
        }
        ElectionKind::Unclean => {
            (partition.leader.is_none(), Election::Unclean, ElectLeadersError::EligibleLeadersNotAvailable)
        }
    };
    if !needed {
        return Err(ElectLeadersError::NotNeeded);
    }
    let mut change = PartitionChange::new(settings, topic, key, partition);
    change.election = election;
    match change.build(|broker| is_active(image, broker)) {
        Some(record) if matches!(&record.body, RecordBody::Partition(next) if next.leader >= 0) => Ok(record),
        _ => Err(unavailable),
    }
}
