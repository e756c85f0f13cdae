// SPDX-License-Identifier: Apache-2.0
//! RegisterBroker: a broker starts (Kafka's BrokerRegistration, with what Odradek needs beyond it).
//! It must not know what a controller does with it.

use odradek_wire_derive::Wire;
use uuid::Uuid;

use super::ControllerAnswer;
use crate::text::Text;

/// The registration.
#[derive(Clone, Debug, PartialEq, Wire)]
#[wire(versions = "0", flexible = "0+")]
pub struct RegisterBrokerRequest {
    /// The broker.
    pub broker_id: i32,
    /// The cluster that it believes to be part of.
    pub cluster_id: Text,
    /// Its process.
    pub incarnation: Uuid,
    /// Its data folder.
    pub directory_id: Uuid,
    /// Where it is reached.
    pub endpoints: Vec<BrokerEndpoint>,
    /// Its rack.
    #[wire(nullable = "0+", default = None)]
    pub rack: Option<Text>,
    /// The kernel's boot id, empty if unknown.
    pub boot_id: Text,
    /// The broker epoch that its clean-shutdown marker holds, or -1.
    #[wire(default = -1)]
    pub clean_shutdown_of: i64,
    /// Replicas whose logs are damaged or missing.
    pub damaged_logs: Vec<DamagedLog>,
    /// The highest feature level that its version understands.
    pub supported_feature_level: u32,
}

/// An address of a broker.
#[derive(Clone, Debug, PartialEq, Wire)]
pub struct BrokerEndpoint {
    /// Name of the listener.
    pub listener: Text,
    /// As advertised.
    pub host: Text,
    /// As advertised.
    pub port: u16,
    /// Kafka's number of the security protocol.
    pub security_protocol: i16,
}

/// A replica whose log is damaged or missing.
#[derive(Clone, Debug, PartialEq, Wire)]
pub struct DamagedLog {
    /// The topic.
    pub topic_id: Uuid,
    /// The index.
    pub partition: i32,
}

/// The broker's epoch, or why there is none.
#[derive(Clone, Debug, PartialEq, Wire)]
#[wire(versions = "0", flexible = "0+")]
pub struct RegisterBrokerResponse {
    /// Who answers.
    pub controller: ControllerAnswer,
    /// 0, or why the registration was refused: 1 of another cluster, 2 invalid endpoints, 3 invalid broker id, 4 another
    /// process has a live session, 5 the folder is another broker's, 6 feature level, 7 too many damaged logs, 8 the
    /// partitions are being handed over.
    pub refusal: i8,
    /// The epoch; with a refusal the number that goes with it: 5 the owner, 6 the level present.
    #[wire(default = -1)]
    pub broker_epoch: i64,
    /// With a refusal the text that goes with it: 1 the cluster, 2 what is wrong.
    pub detail: Text,
}
