// SPDX-License-Identifier: Apache-2.0
//! Scenarios of clusters of several brokers: each decision is applied, and what must hold of every image is checked.

mod alter_partition;
mod elections;
mod history;
mod internal_topics;
mod may_stop;
mod partitions;
mod reassignment;
mod recovery;
mod registration;
mod settings;

use std::collections::BTreeSet;
use std::sync::Arc;

use odradek_model::{BrokerId, DirectoryId, TopicId};
use uuid::Uuid;

use super::*;
use crate::{Endpoint, PartitionImage, PartitionKey};

/// A cluster at the newest feature level.
pub(in crate::controller) struct Cluster {
    pub(super) image: Image,
    pub(super) settings: ControllerSettings,
}

impl Cluster {
    /// Without brokers.
    pub(super) fn empty() -> Self {
        let mut cluster = Self { image: Image::empty(), settings: ControllerSettings::default() };
        for record in bootstrap(&cluster.image, &cluster_id()) {
            cluster.image.apply_mut(1, &record).expect("fits");
        }
        let upgrade = UpdateFeatureLevel { level: REPLICATION_FEATURE_LEVEL, validate_only: false };
        assert_eq!(cluster.decide(&Command::UpdateFeatureLevel(upgrade)), Reply::UpdateFeatureLevel(Ok(2)));
        cluster
    }

    /// With brokers 1 to `count`, unfenced.
    pub(super) fn of(count: i32) -> Self {
        let mut cluster = Self::empty();
        for id in 1..=count {
            cluster.join(id);
        }
        cluster
    }

    /// Decides, applies and checks.
    pub(super) fn decide(&mut self, command: &Command) -> Reply {
        self.try_decide(command).unwrap_or_else(|violation| panic!("{violation}\n{command:?}"))
    }

    /// As [`Cluster::decide`]; the error says what does not hold.
    pub(super) fn try_decide(&mut self, command: &Command) -> Result<Reply, String> {
        let Decision { records, reply } = decide(&self.image, &self.settings, command, 0);
        for record in &records {
            self.image.apply_mut(1, record).map_err(|error| format!("{error}: {record:?}"))?;
        }
        check(&self.image)?;
        Ok(reply)
    }

    /// A new broker registers and is unfenced.
    pub(super) fn join(&mut self, id: i32) {
        self.register(&start_of(id)).expect("registers");
        self.set(id, BrokerState::Unfenced);
    }

    pub(super) fn register(&mut self, command: &RegisterBroker) -> Result<BrokerEpoch, RegisterBrokerError> {
        match self.decide(&Command::RegisterBroker(command.clone())) {
            Reply::RegisterBroker(reply) => reply,
            other => panic!("{other:?}"),
        }
    }

    /// The broker's process ended and starts anew; it is not unfenced yet.
    pub(super) fn restart(&mut self, id: i32, change: impl FnOnce(&mut RegisterBroker)) {
        let mut command = start_of(id);
        command.incarnation = Uuid::from_u128(self.image.end_offset() as u128 + 1000);
        change(&mut command);
        self.register(&command).expect("registers");
    }

    pub(super) fn epoch(&self, id: i32) -> BrokerEpoch {
        self.image.broker(BrokerId(id)).expect("registered").epoch
    }

    pub(super) fn set(&mut self, id: i32, state: BrokerState) {
        let command = ChangeBrokerState { broker_id: BrokerId(id), broker_epoch: self.epoch(id), state };
        assert_eq!(
            self.decide(&Command::ChangeBrokerState(command)),
            Reply::BrokerState(Ok(Progress::Complete)),
            "broker {id} becomes {state:?}"
        );
    }

    /// A topic with these replicas.
    pub(super) fn topic(&mut self, name: &str, replicas: &[&[i32]], settings: &[(&str, &str)]) -> TopicId {
        let id = TopicId(Uuid::from_u128(self.image.end_offset() as u128 + 1));
        let assignments = replicas.iter().enumerate().map(|(index, replicas)| (index as i32, replicas.to_vec()));
        let topic = NewTopic {
            name: name.into(),
            id,
            partitions: -1,
            replication_factor: -1,
            assignments: assignments.collect(),
            settings: settings.iter().map(|(name, value)| ((*name).into(), Some((*value).into()))).collect(),
        };
        let command = CreateTopics { topics: vec![topic], validate_only: false, placement_seed: 0 };
        match self.decide(&Command::CreateTopics(command)) {
            Reply::CreateTopics(reply) => reply.into_iter().for_each(|(_, outcome)| drop(outcome.expect("created"))),
            other => panic!("{other:?}"),
        }
        id
    }

    pub(super) fn key(&self, name: &str, partition: i32) -> PartitionKey {
        PartitionKey { topic: self.image.topic(name).expect("there").id, partition }
    }

    pub(super) fn partition(&self, name: &str, partition: i32) -> &PartitionImage {
        self.image.partition(self.key(name, partition)).expect("there")
    }

    /// `replicas | leader @ leader epoch . partition epoch | isr | elr`, and what else there is.
    pub(super) fn show(&self, name: &str) -> String {
        show(self.partition(name, 0))
    }

    /// The leader of a topic's first partition proposes an ISR, with what it knows.
    pub(super) fn propose(&mut self, name: &str, isr: &[i32]) -> Result<AlteredPartition, AlterPartitionError> {
        let proposal = self.proposal(name, isr);
        self.propose_this(self.partition(name, 0).leader.expect("a leader").0, proposal)
    }

    pub(super) fn proposal(&self, name: &str, isr: &[i32]) -> ProposedPartition {
        let partition = self.partition(name, 0);
        ProposedPartition {
            key: self.key(name, 0),
            leader_epoch: partition.leader_epoch,
            partition_epoch: partition.partition_epoch,
            isr: isr
                .iter()
                .map(|id| ProposedReplica {
                    broker_id: BrokerId(*id),
                    broker_epoch: self.image.broker(BrokerId(*id)).map(|broker| broker.epoch),
                })
                .collect(),
            recovering: false,
        }
    }

    pub(super) fn propose_this(
        &mut self,
        proposer: i32,
        proposal: ProposedPartition,
    ) -> Result<AlteredPartition, AlterPartitionError> {
        let command = AlterPartition {
            broker_id: BrokerId(proposer),
            broker_epoch: self.epoch(proposer),
            controller_epoch: 1,
            sequence: 0,
            partitions: vec![proposal],
        };
        match self.decide(&Command::AlterPartition(command)) {
            Reply::AlterPartition(Ok(mut reply)) => reply.pop().expect("one answer").1,
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn elect(&mut self, kind: ElectionKind, name: &str) -> Result<(), ElectLeadersError> {
        let command = ElectLeaders { kind, partitions: Some(vec![(name.into(), 0)]) };
        match self.decide(&Command::ElectLeaders(command)) {
            Reply::ElectLeaders(mut reply) => reply.pop().expect("one answer").1,
            other => panic!("{other:?}"),
        }
    }

    /// Sets (or with none deletes) a setting of a topic.
    pub(super) fn alter(&mut self, topic: &str, name: &str, value: Option<&str>) -> Result<(), AlterSettingsError> {
        let operation = value.map_or(SettingOperation::Delete, |value| SettingOperation::Set(Some(value.into())));
        let changes = vec![(name.to_owned(), operation)];
        let resources = vec![ResourceChanges { resource: SettingsResource::Topic(topic.into()), changes }];
        match self.decide(&Command::AlterSettings(AlterSettings { resources, validate_only: false })) {
            Reply::AlterSettings(mut reply) => reply.pop().expect("one answer").1,
            other => panic!("{other:?}"),
        }
    }

    /// Starts, or without replicas cancels, a reassignment of a topic's first partition.
    pub(super) fn reassign(&mut self, topic: &str, replicas: Option<&[i32]>) -> Result<(), ReassignmentError> {
        let reassignment = Reassignment { topic: topic.into(), partition: 0, replicas: replicas.map(<[i32]>::to_vec) };
        let command = AlterReassignments { reassignments: vec![reassignment], allow_replication_factor_change: true };
        match self.decide(&Command::AlterReassignments(command)) {
            Reply::AlterReassignments(mut reply) => reply.pop().expect("one answer"),
            other => panic!("{other:?}"),
        }
    }
}

pub(super) fn cluster_id() -> ClusterId {
    ClusterId::new("c").expect("an id")
}

/// The first registration of a broker, with a folder and a kernel of its own.
pub(super) fn start_of(id: i32) -> RegisterBroker {
    RegisterBroker {
        broker_id: BrokerId(id),
        cluster_id: cluster_id(),
        incarnation: Uuid::from_u128(id as u128),
        directory_id: DirectoryId(Uuid::from_u128(id as u128)),
        endpoints: vec![Endpoint { listener: "PLAIN".into(), host: "h".into(), port: 9092, security_protocol: 0 }],
        rack: None,
        boot_id: format!("boot of {id}"),
        clean_shutdown_of: None,
        damaged_logs: vec![],
        supported_feature_level: REPLICATION_FEATURE_LEVEL,
    }
}

pub(super) fn show(partition: &PartitionImage) -> String {
    let ids = |brokers: &[BrokerId]| brokers.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    let leader = partition.leader.map_or("none".to_owned(), |leader| leader.to_string());
    let mut parts = vec![
        ids(&partition.replicas),
        format!("{leader} @ {}.{}", partition.leader_epoch, partition.partition_epoch),
        ids(&partition.isr),
        ids(&partition.elr),
    ];
    if partition.is_reassigning() {
        parts.push(format!("+{} -{}", ids(&partition.adding), ids(&partition.removing)));
    }
    if partition.recovering {
        parts.push("recovering".to_owned());
    }
    if !partition.lost_logs.is_empty() {
        parts.push(format!("lost {}", ids(&partition.lost_logs)));
    }
    parts.join(" | ")
}

/// What must hold of every image after a decision. That partitions are sound in themselves, and that epochs do not go
/// back, is checked by the image as it takes the records.
pub(super) fn check(image: &Image) -> Result<(), String> {
    let all: Vec<(PartitionKey, &PartitionImage)> = image
        .topics()
        .flat_map(|topic| {
            let key = |index: usize| PartitionKey { topic: topic.id, partition: index as i32 };
            topic.partitions.iter().enumerate().map(move |(index, partition)| (key(index), partition.as_ref()))
        })
        .collect();
    let holds = |holds: bool, what: &str, partition: &PartitionImage| {
        if holds { Ok(()) } else { Err(format!("{what}: {}", show(partition))) }
    };
    for (_, partition) in &all {
        let active = |id: &BrokerId| image.broker(*id).is_some_and(|broker| broker.is_active());
        holds(partition.isr.iter().all(active), "a member of the ISR is fenced or going to stop", partition)?;
        let registered = |id: &BrokerId| image.broker(*id).is_some();
        holds(partition.elr.iter().all(registered), "a member of the ELR is not registered", partition)?;
        holds(partition.leader.is_some() || partition.isr.is_empty(), "an ISR without a leader", partition)?;
        holds(!partition.recovering || partition.isr.len() <= 1, "recovering with others in sync", partition)?;
    }
    let found = |is: &dyn Fn(&PartitionImage) -> bool| -> BTreeSet<PartitionKey> {
        all.iter().filter(|(_, partition)| is(partition)).map(|(key, _)| *key).collect()
    };
    let same = |what: &str, indexed: Vec<PartitionKey>, is: &dyn Fn(&PartitionImage) -> bool| {
        let indexed: BTreeSet<PartitionKey> = indexed.into_iter().collect();
        if indexed == found(is) { Ok(()) } else { Err(format!("the index of {what} differs from the partitions")) }
    };
    same("leaderless", image.leaderless_partitions().map(|found| found.0).collect(), &|p| p.leader.is_none())?;
    same("unbalanced", image.unbalanced_partitions().map(|found| found.0).collect(), &|p| !p.has_preferred_leader())?;
    same(
        "reassigning",
        image.reassigning_partitions().map(|found| found.0).collect(),
        &PartitionImage::is_reassigning,
    )?;
    for id in (0..8).map(BrokerId) {
        same("replicas", image.partitions_on(id).map(|found| found.0).collect(), &|p| p.replicas.contains(&id))?;
        if image.leadership_count(id) != found(&|p| p.leader == Some(id)).len() {
            return Err(format!("the count of leaderships of {id} differs from the partitions"));
        }
    }
    Ok(())
}
