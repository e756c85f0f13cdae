// SPDX-License-Identifier: Apache-2.0
//! The controller's decisions: pure functions of image, command and time to records and reply.
//!
//! No I/O, no clock, no randomness: what is random (topic ids, the start of a placement) comes with the command. A
//! decision is final once its records are committed; only then may its reply be sent (coordination rule 11). Must not
//! know Kafka's error codes, though each error names its own.
//!
//! Decisions about partitions all end in one place, `PartitionChange`: it elects, keeps the ELR and counts epochs.
//! Who is alive is decided by [`Sessions`], a state machine of its own whose changes of state are commands too.
//! [`ActiveController`] drives all of it: events in, effects out.

mod active;
mod allocate_producer_ids;
mod alter_partition;
mod alter_settings;
mod broker_state;
mod create_partitions;
mod create_topics;
mod delete_topics;
mod elect_leaders;
mod feature_level;
mod look_after;
mod manual_assignment;
mod may_stop;
mod min_in_sync;
mod partition_change;
mod partition_updates;
mod placement;
mod planted;
mod reassignment;
mod register_broker;
mod replication_settings;
mod sessions;
mod stop_proof;
mod transition;

pub use active::{ActiveController, Effect, Event, MAX_WAITING, Ticket};
pub use allocate_producer_ids::{AllocateProducerIds, AllocateProducerIdsError, PRODUCER_ID_BLOCK, ProducerIdBlock};
pub use alter_partition::{
    AlterPartition, AlterPartitionError, AlterPartitionRefusal, AlterPartitionReply, AlteredPartition,
    ProposedPartition, ProposedReplica,
};
pub use alter_settings::{
    AlterSettings, AlterSettingsError, DYNAMIC_BROKER_SETTINGS, ResourceChanges, SettingOperation, SettingsResource,
};
pub use broker_state::{BrokerState, BrokerStateError, ChangeBrokerState, CordonBroker, UnregisterBroker};
pub use create_partitions::{CreatePartitions, CreatePartitionsError, MorePartitions};
pub use create_topics::{CreateTopicError, CreateTopics, CreatedTopic, MAX_PARTITIONS_PER_REQUEST, NewTopic};
pub use delete_topics::{DeleteTopicError, DeleteTopics, DeletedTopic, TopicReference};
pub use elect_leaders::{ElectLeaders, ElectLeadersError, ElectionKind};
pub use feature_level::{UpdateFeatureLevel, UpdateFeatureLevelError};
pub use may_stop::{MOST_STOP_BLOCKERS, MayStop, StopBlocker, StopReason, StopVerdict, may_stop};
pub use min_in_sync::{min_in_sync, min_in_sync_without_setting};
use odradek_model::{BrokerEpoch, ClusterId, Timestamp, TopicDefaults, TopicOverrides};
pub use planted::PlantedBug;
pub use reassignment::{
    AlterReassignments, OngoingReassignment, Reassignment, ReassignmentError, ongoing_reassignments,
};
pub use register_broker::{RegisterBroker, RegisterBrokerError};
pub use replication_settings::topic_setting_is_in_force;
pub use sessions::{
    Heartbeat, HeartbeatOutcome, HeartbeatReply, MonotonicMs, Probe, SESSION_TIMEOUT_MS, Sessions, StaleHeartbeat,
    StateChange,
};
pub use transition::StateReason;

use crate::{Image, REPLICATION_FEATURE_LEVEL, Record};

/// Settings that decisions depend on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ControllerSettings {
    /// `num.partitions`: partitions of a topic created with -1.
    pub default_partitions: i32,
    /// `default.replication.factor`: replicas of a topic created with -1; `None` is min(3, registered brokers).
    pub default_replication_factor: Option<i16>,
    /// What topics inherit, against which their own settings are checked. `min.insync.replicas` among them must be
    /// the same on all brokers, as leaders go by it too ([`min_in_sync`]).
    pub topic_defaults: TopicDefaults,
    /// A mistake to make.
    #[cfg(any(test, feature = "planted-bugs"))]
    pub planted: Option<PlantedBug>,
}

impl Default for ControllerSettings {
    fn default() -> Self {
        Self {
            default_partitions: 1,
            default_replication_factor: None,
            topic_defaults: TopicDefaults { overrides: TopicOverrides::new() },
            #[cfg(any(test, feature = "planted-bugs"))]
            planted: None,
        }
    }
}

/// Something to decide.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Command {
    /// A broker starts.
    RegisterBroker(RegisterBroker),
    /// Topics are wanted.
    CreateTopics(CreateTopics),
    /// Topics are not wanted any more.
    DeleteTopics(DeleteTopics),
    /// A broker needs producer ids.
    AllocateProducerIds(AllocateProducerIds),
    /// A broker is fenced, unfenced, or begins its controlled shutdown.
    ChangeBrokerState(ChangeBrokerState),
    /// New replicas are kept off a broker, or allowed again.
    CordonBroker(CordonBroker),
    /// A broker is gone for good.
    UnregisterBroker(UnregisterBroker),
    /// A leader proposes ISRs.
    AlterPartition(AlterPartition),
    /// Elections are asked for.
    ElectLeaders(ElectLeaders),
    /// Topics get more partitions.
    CreatePartitions(CreatePartitions),
    /// Settings change.
    AlterSettings(AlterSettings),
    /// Replicas move.
    AlterReassignments(AlterReassignments),
    /// An upgrade is finalised.
    UpdateFeatureLevel(UpdateFeatureLevel),
    /// A question: may a broker stop?
    MayStop(MayStop),
    /// Partitions without a leader try again: after a change of settings, and from time to time.
    ElectLeaderless,
    /// Preferred leaders that are in sync lead again: from time to time.
    BalanceLeaders,
    /// Internal topics get as many replicas as the brokers allow, up to three: after brokers joined, and from time to
    /// time.
    RaiseInternalTopics {
        /// Random: where placement begins.
        placement_seed: u64,
    },
}

impl Command {
    /// The feature level below which the command is refused: it may write records that older versions do not know.
    fn needed_feature_level(&self) -> u32 {
        match self {
            Self::RegisterBroker(_)
            | Self::CreateTopics(_)
            | Self::DeleteTopics(_)
            | Self::AllocateProducerIds(_)
            | Self::UpdateFeatureLevel(_)
            | Self::MayStop(_) => 0,
            Self::ChangeBrokerState(_)
            | Self::CordonBroker(_)
            | Self::UnregisterBroker(_)
            | Self::AlterPartition(_)
            | Self::ElectLeaders(_)
            | Self::CreatePartitions(_)
            | Self::AlterSettings(_)
            | Self::AlterReassignments(_)
            | Self::ElectLeaderless
            | Self::BalanceLeaders
            | Self::RaiseInternalTopics { .. } => REPLICATION_FEATURE_LEVEL,
        }
    }
}

/// Whether a decision did all that the command asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Progress {
    /// Yes.
    Complete,
    /// It did as much as one batch may hold: the same command again, on the image with its records.
    AskAgain,
}

/// The answer to the [`Command`] of the same kind.
#[derive(PartialEq, Debug)]
pub enum Reply {
    /// The broker's epoch.
    RegisterBroker(Result<BrokerEpoch, RegisterBrokerError>),
    /// Per topic name in the order of the request, duplicates once.
    CreateTopics(Vec<(String, Result<CreatedTopic, CreateTopicError>)>),
    /// Per entry of the request.
    DeleteTopics(Vec<(TopicReference, Result<DeletedTopic, DeleteTopicError>)>),
    /// The block.
    AllocateProducerIds(Result<ProducerIdBlock, AllocateProducerIdsError>),
    /// To [`Command::ChangeBrokerState`], [`Command::CordonBroker`] and [`Command::UnregisterBroker`].
    BrokerState(Result<Progress, BrokerStateError>),
    /// Per partition in the order of the request.
    AlterPartition(AlterPartitionReply),
    /// Per partition, by topic name and index.
    ElectLeaders(Vec<((String, i32), Result<(), ElectLeadersError>)>),
    /// Per topic name, duplicates once.
    CreatePartitions(Vec<(String, Result<(), CreatePartitionsError>)>),
    /// Per resource in the order of the request.
    AlterSettings(Vec<(SettingsResource, Result<(), AlterSettingsError>)>),
    /// Per entry of the request.
    AlterReassignments(Vec<Result<(), ReassignmentError>>),
    /// The level.
    UpdateFeatureLevel(Result<u32, UpdateFeatureLevelError>),
    /// What speaks against it; `None` if no such broker is registered.
    MayStop(Option<StopVerdict>),
    /// To [`Command::ElectLeaderless`], [`Command::BalanceLeaders`] and [`Command::RaiseInternalTopics`].
    Progress(Progress),
    /// The cluster is not upgraded yet (`UNSUPPORTED_VERSION`, 35).
    FeatureLevelTooLow {
        /// The level that the command needs.
        needed: u32,
        /// The cluster's.
        present: u32,
    },
}

/// What was decided: the records, to be appended as one batch, and the reply once they are committed. No records: the
/// reply is due once everything that the image holds is committed.
#[derive(PartialEq, Debug)]
pub struct Decision<R> {
    /// To append; may be empty.
    pub records: Vec<Record>,
    /// To answer.
    pub reply: R,
}

impl<R> Decision<R> {
    fn map<S>(self, f: impl FnOnce(R) -> S) -> Decision<S> {
        Decision { records: self.records, reply: f(self.reply) }
    }
}

/// Decides one command on the image of the controller's own log up to its end, committed or not.
pub fn decide(image: &Image, settings: &ControllerSettings, command: &Command, _now_ms: Timestamp) -> Decision<Reply> {
    let (needed, present) = (command.needed_feature_level(), image.feature_level());
    if present < needed {
        return Decision { records: Vec::new(), reply: Reply::FeatureLevelTooLow { needed, present } };
    }
    match command {
        Command::RegisterBroker(command) => {
            register_broker::decide(image, settings, command).map(Reply::RegisterBroker)
        }
        Command::CreateTopics(command) => create_topics::decide(image, settings, command).map(Reply::CreateTopics),
        Command::DeleteTopics(command) => delete_topics::decide(image, command).map(Reply::DeleteTopics),
        Command::AllocateProducerIds(command) => {
            allocate_producer_ids::decide(image, command).map(Reply::AllocateProducerIds)
        }
        Command::ChangeBrokerState(command) => {
            broker_state::change_state(image, settings, command).map(Reply::BrokerState)
        }
        Command::CordonBroker(command) => broker_state::cordon(image, command).map(Reply::BrokerState),
        Command::UnregisterBroker(command) => {
            broker_state::unregister(image, settings, command).map(Reply::BrokerState)
        }
        Command::AlterPartition(command) => {
            alter_partition::decide(image, settings, command).map(Reply::AlterPartition)
        }
        Command::ElectLeaders(command) => elect_leaders::decide(image, settings, command).map(Reply::ElectLeaders),
        Command::CreatePartitions(command) => create_partitions::decide(image, command).map(Reply::CreatePartitions),
        Command::AlterSettings(command) => alter_settings::decide(image, settings, command).map(Reply::AlterSettings),
        Command::AlterReassignments(command) => {
            reassignment::decide(image, settings, command).map(Reply::AlterReassignments)
        }
        Command::MayStop(command) => may_stop::decide(image, settings, *command).map(Reply::MayStop),
        Command::UpdateFeatureLevel(command) => feature_level::decide(image, command).map(Reply::UpdateFeatureLevel),
        Command::ElectLeaderless => look_after::elect_leaderless(image, settings).map(Reply::Progress),
        Command::BalanceLeaders => look_after::balance_leaders(image, settings).map(Reply::Progress),
        Command::RaiseInternalTopics { placement_seed } => {
            look_after::raise_internal_topics(image, settings, *placement_seed).map(Reply::Progress)
        }
    }
}

/// The feature level at which a new log begins.
pub const INITIAL_FEATURE_LEVEL: u32 = REPLICATION_FEATURE_LEVEL;

/// The records with which a new log begins, after its first epoch record.
pub fn bootstrap(image: &Image, cluster_id: &ClusterId) -> Vec<Record> {
    use crate::records::{ClusterRecord, FeatureLevelRecord};
    if image.cluster_id().is_some() {
        return Vec::new();
    }
    vec![
        ClusterRecord { cluster_id: cluster_id.as_str().to_owned() }.into(),
        FeatureLevelRecord { level: INITIAL_FEATURE_LEVEL }.into(),
    ]
}

/// As [`bootstrap`], of a version that knew level 1 only.
#[cfg(test)]
fn bootstrap_at_level_1(cluster_id: &ClusterId) -> [Record; 2] {
    use crate::records::{ClusterRecord, FeatureLevelRecord};
    [ClusterRecord { cluster_id: cluster_id.as_str().to_owned() }.into(), FeatureLevelRecord { level: 1 }.into()]
}

#[cfg(test)]
mod scenarios;
#[cfg(test)]
mod tests;
