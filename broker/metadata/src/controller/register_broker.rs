// SPDX-License-Identifier: Apache-2.0
//! A broker registers and gets its epoch.

use bytes::Bytes;
use odradek_model::{BrokerEpoch, BrokerId, ClusterId, DirectoryId};
use thiserror::Error;
use uuid::Uuid;

use super::Decision;
use crate::records::{EndpointRecord, RegisterBrokerRecord};
use crate::{Endpoint, Image};

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
    /// … or the epoch that its clean-shutdown marker holds. Kept for the elections of clusters of several brokers.
    pub clean_shutdown_of: Option<BrokerEpoch>,
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
}

/// Bound on the endpoints of a broker: as many listeners as a person would ever name, and a small record.
const MAX_ENDPOINTS: usize = 32;

pub(super) fn decide(image: &Image, command: &RegisterBroker) -> Decision<Result<BrokerEpoch, RegisterBrokerError>> {
    let refuse = |error| Decision { records: Vec::new(), reply: Err(error) };
    if let Some(ours) = image.cluster_id()
        && *ours != command.cluster_id
    {
        return refuse(RegisterBrokerError::OtherCluster { given: command.cluster_id.clone(), ours: ours.clone() });
    }
    if command.broker_id.0 < 0 {
        return refuse(RegisterBrokerError::InvalidBrokerId(command.broker_id));
    }
    if let Err(reason) = check_endpoints(&command.endpoints) {
        return refuse(RegisterBrokerError::InvalidEndpoints(reason));
    }
    if let Some(registered) = image.broker(command.broker_id)
        && registered.incarnation == command.incarnation
        && registered.endpoints == command.endpoints
        && registered.rack == command.rack
    {
        // The same request again, its answer having been lost.
        return Decision { records: Vec::new(), reply: Ok(registered.epoch) };
    }
    // Like Kafka's, an epoch is the offset at which the registration lands; a recovery may have jumped it further.
    let broker_epoch = image.end_offset().max(image.highest_broker_epoch() + 1);
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
        fenced: false,
    };
    Decision { records: vec![record.into()], reply: Ok(broker_epoch) }
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
