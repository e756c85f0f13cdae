// SPDX-License-Identifier: Apache-2.0
//! A broker registers and gets its epoch (`ClusterControlManager.registerBroker` in Kafka).
//!
//! A new incarnation begins fenced: it leaves the ISRs of its earlier one, and without stop proof the ELRs as well. It
//! is unfenced when its heartbeats say that it has applied its own registration, and until then it must not act on any
//! image: an older one may still name it as leader of what it has lost. What its recovery finds damaged it tells by the
//! same registration once more, before it asks to be unfenced. At feature level 1 (a cluster of one broker, without
//! sessions) it is unfenced at once and nothing else changes. Whether a session of another incarnation is alive is asked
//! of [`Sessions::admit`](super::Sessions::admit) before.

use std::collections::BTreeSet;

use bytes::Bytes;
use odradek_model::{BrokerEpoch, BrokerId, ClusterId, DirectoryId};
use thiserror::Error;
use uuid::Uuid;

use super::partition_updates::{self, Changes, MAX_CHANGES};
use super::stop_proof::{LogsAfterStop, logs_after_stop};
use super::{ControllerSettings, Decision};
use crate::records::{EndpointRecord, RegisterBrokerRecord};
use crate::{BrokerImage, Endpoint, Image, PartitionKey, REPLICATION_FEATURE_LEVEL};

/// A broker starts, or starts anew.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RegisterBroker {
    /// The broker.
    pub broker_id: BrokerId,
    /// The cluster it believes to be part of.
    pub cluster_id: ClusterId,
    /// Its process: random, new with each start.
    pub incarnation: Uuid,
    /// Its data folder.
    pub directory_id: DirectoryId,
    /// Where it is reached; at least one.
    pub endpoints: Vec<Endpoint>,
    /// Its rack.
    pub rack: Option<String>,
    /// The kernel's boot id, empty if unknown. Stop proof is either the same directory and boot id as before …
    pub boot_id: String,
    /// … or the epoch that its clean-shutdown marker holds.
    pub clean_shutdown_of: Option<BrokerEpoch>,
    /// Replicas whose log its recovery found damaged before a torn tail, or missing in a folder that should have it.
    pub damaged_logs: Vec<PartitionKey>,
    /// The highest feature level that its version understands.
    pub supported_feature_level: u32,
}

/// Why a registration was refused.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum RegisterBrokerError {
    /// Of another cluster (`INCONSISTENT_CLUSTER_ID`).
    #[error("the broker belongs to cluster {given}, this is {ours}")]
    OtherCluster {
        /// The broker's.
        given: ClusterId,
        /// Ours.
        ours: ClusterId,
    },
    /// No endpoint, an empty listener name or one name twice (`INVALID_REQUEST`).
    #[error("invalid endpoints: {0}")]
    InvalidEndpoints(String),
    /// A negative id (`INVALID_REQUEST`).
    #[error("invalid broker id {0}")]
    InvalidBrokerId(BrokerId),
    /// Another process of that id has a live session (`DUPLICATE_BROKER_REGISTRATION`, 101).
    #[error("another process is registered as broker {0}; if it has stopped, its session ends by itself")]
    LiveSession(BrokerId),
    /// The data folder is registered by another broker (`INVALID_REGISTRATION`).
    #[error("the data folder {directory} is registered by broker {owner}")]
    DirectoryOfAnother {
        /// The folder.
        directory: DirectoryId,
        /// Whose it is.
        owner: BrokerId,
    },
    /// The broker's version is older than the cluster's level (`UNSUPPORTED_VERSION`).
    #[error("the broker supports feature levels up to {supported}, the cluster's is {present}")]
    FeatureLevel {
        /// The broker's.
        supported: u32,
        /// The cluster's.
        present: u32,
    },
    /// More damaged logs than a broker has (`INVALID_REQUEST`).
    #[error("{0} damaged logs given, at most {MAX_CHANGES} are allowed")]
    TooManyDamagedLogs(usize),
    /// Its partitions are so many that several decisions are needed: register again at once (`REQUEST_TIMED_OUT`).
    #[error("the partitions of the broker's earlier incarnation are still being handed over; try again")]
    HandingOver,
}

/// Bound on the endpoints of a broker: as many listeners as a person would ever name, and a small record.
const MAX_ENDPOINTS: usize = 32;

pub(super) fn decide(
    image: &Image,
    settings: &ControllerSettings,
    command: &RegisterBroker,
) -> Decision<Result<BrokerEpoch, RegisterBrokerError>> {
    if let Err(error) = check(image, command) {
        return Decision { records: Vec::new(), reply: Err(error) };
    }
    let before = image.broker(command.broker_id).map(AsRef::as_ref);
    let same_process = before.filter(|before| before.incarnation == command.incarnation);
    let several = image.feature_level() >= REPLICATION_FEATURE_LEVEL;
    if let Some(registered) = same_process
        && registered.endpoints == command.endpoints
        && registered.rack == command.rack
        && registered.supported_feature_level == command.supported_feature_level
    {
        // The same request again, its answer having been lost; or, after its recovery, what that found damaged.
        if !several {
            return Decision { records: Vec::new(), reply: Ok(registered.epoch) };
        }
        let is_damaged = newly_damaged(image, command);
        let Changes { records, complete } =
            partition_updates::lose_logs(image, settings, command.broker_id, is_damaged);
        let reply = if complete { Ok(registered.epoch) } else { Err(RegisterBrokerError::HandingOver) };
        return Decision { records, reply };
    }
    let mut records = Vec::new();
    if several && same_process.is_none() {
        let Changes { records: changes, complete } = hand_over(image, settings, before, command);
        records = changes;
        if !complete {
            return Decision { records, reply: Err(RegisterBrokerError::HandingOver) };
        }
    }
    // Like Kafka's, an epoch is no less than the offset at which the registration lands; a recovery may have jumped it
    // further.
    let landing = image.end_offset() + records.len() as i64;
    let broker_epoch = match same_process {
        Some(registered) if several => registered.epoch,
        _ => landing.max(image.highest_broker_epoch() + 1),
    };
    let record = RegisterBrokerRecord {
        broker_id: command.broker_id.0,
        broker_epoch,
        incarnation: Bytes::copy_from_slice(command.incarnation.as_bytes()),
        directory_id: Bytes::copy_from_slice(command.directory_id.0.as_bytes()),
        endpoints: command
            .endpoints
            .iter()
            .map(|endpoint| EndpointRecord {
                listener: endpoint.listener.clone(),
                host: endpoint.host.clone(),
                port: u32::from(endpoint.port),
                security_protocol: i32::from(endpoint.security_protocol),
            })
            .collect(),
        rack: command.rack.clone(),
        boot_id: command.boot_id.clone(),
        fenced: several && same_process.is_none_or(|registered| registered.fenced),
        registered_at: None,
        shutting_down_at: same_process.and_then(|registered| registered.shutting_down_at),
        cordoned: before.is_some_and(|before| before.cordoned),
        supported_feature_level: command.supported_feature_level,
    };
    records.push(record.into());
    Decision { records, reply: Ok(broker_epoch) }
}

fn check(image: &Image, command: &RegisterBroker) -> Result<(), RegisterBrokerError> {
    if let Some(ours) = image.cluster_id()
        && *ours != command.cluster_id
    {
        return Err(RegisterBrokerError::OtherCluster { given: command.cluster_id.clone(), ours: ours.clone() });
    }
    if command.broker_id.0 < 0 {
        return Err(RegisterBrokerError::InvalidBrokerId(command.broker_id));
    }
    check_endpoints(&command.endpoints).map_err(RegisterBrokerError::InvalidEndpoints)?;
    if command.damaged_logs.len() > MAX_CHANGES {
        return Err(RegisterBrokerError::TooManyDamagedLogs(command.damaged_logs.len()));
    }
    let (supported, present) = (command.supported_feature_level.max(1), image.feature_level());
    if supported < present {
        return Err(RegisterBrokerError::FeatureLevel { supported, present });
    }
    if present < REPLICATION_FEATURE_LEVEL {
        return Ok(());
    }
    let owner = image.brokers().find(|broker| broker.directory_id == command.directory_id);
    match owner.filter(|owner| owner.id != command.broker_id) {
        Some(owner) => {
            Err(RegisterBrokerError::DirectoryOfAnother { directory: command.directory_id, owner: owner.id })
        }
        None => Ok(()),
    }
}

/// What the earlier incarnation had, as far as the new one may keep it.
fn hand_over(
    image: &Image,
    settings: &ControllerSettings,
    before: Option<&BrokerImage>,
    command: &RegisterBroker,
) -> Changes {
    let newly_lost = |key| is_newly_lost(image, command, key);
    let is_damaged = newly_damaged(image, command);
    match logs_after_stop(settings, before, command) {
        LogsAfterStop::Proven => partition_updates::leave_with_losses(image, settings, command.broker_id, is_damaged),
        LogsAfterStop::Unproven => {
            partition_updates::leave_without_proof(image, settings, command.broker_id, is_damaged)
        }
        LogsAfterStop::Lost => partition_updates::leave_without_proof(image, settings, command.broker_id, newly_lost),
    }
}

fn is_newly_lost(image: &Image, command: &RegisterBroker, key: PartitionKey) -> bool {
    image.partition(key).is_some_and(|partition| !partition.lost_logs.contains(&command.broker_id))
}

/// Whether a log is among the damaged ones, and not known to be.
fn newly_damaged(image: &Image, command: &RegisterBroker) -> impl Fn(PartitionKey) -> bool {
    let damaged: BTreeSet<PartitionKey> = command.damaged_logs.iter().copied().collect();
    move |key| damaged.contains(&key) && is_newly_lost(image, command, key)
}

fn check_endpoints(endpoints: &[Endpoint]) -> Result<(), String> {
    if endpoints.is_empty() || endpoints.len() > MAX_ENDPOINTS {
        return Err(format!("{} given, 1 to {MAX_ENDPOINTS} are allowed", endpoints.len()));
    }
    for (i, endpoint) in endpoints.iter().enumerate() {
        if endpoint.listener.is_empty() || endpoint.host.is_empty() {
            return Err(format!("endpoint {i} has no listener name or no host"));
        }
        if endpoints[..i].iter().any(|other| other.listener == endpoint.listener) {
            return Err(format!("listener {} is given twice", endpoint.listener));
        }
    }
    Ok(())
}
