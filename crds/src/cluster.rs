// SPDX-License-Identifier: Apache-2.0
//! `Cluster`: the brokers of one Kafka cluster. Knows shapes and rules, not what is done with them.

// The schema derive repeats each struct inside a function, where `pub` reaches nobody.
#![allow(unreachable_pub)]

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::DeletionPolicy;
use crate::schema;
use crate::template::{Resources, Template};

/// The longest Cluster name. With `-<id>-0` behind it a pod's name stays a DNS label.
pub const CLUSTER_NAME_LENGTH_MAX: usize = 32;

/// What a user asks of a cluster.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "odradek.dev",
    version = "v1alpha1",
    kind = "Cluster",
    plural = "clusters",
    singular = "cluster",
    shortname = "odc",
    category = "odradek",
    namespaced,
    status = "ClusterStatus",
    derive = "PartialEq",
    doc = "A Kafka cluster run by Odradek.",
    validation = Rule::new("self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$') && self.metadata.name.size() <= 32").message("metadata.name must begin with a letter, hold only a-z, 0-9 and -, and have at most 32 characters"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "Available", type_ = "string", json_path = ".status.conditions[?(@.type==\"Available\")].status"),
    printcolumn(name = "Brokers", type_ = "integer", json_path = ".status.readyReplicas", description = "Brokers that are ready."),
    printcolumn(name = "Desired", type_ = "integer", json_path = ".spec.replicas", description = "Brokers asked for."),
    printcolumn(name = "Version", type_ = "string", json_path = ".spec.version"),
    printcolumn(name = "Rollout", type_ = "string", json_path = ".status.rollout.reason"),
    printcolumn(name = "Bootstrap", type_ = "string", json_path = ".status.listeners[0].bootstrapServers", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct ClusterSpec {
    /// The broker version, such as 0.1.0. The operator never changes it.
    #[schemars(length(min = 1, max = 32), regex(pattern = r"^[0-9]+\.[0-9]+\.[0-9]+(-[0-9A-Za-z.-]+)?$"))]
    pub version: String,

    /// An image to run instead of the one that belongs to the version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub image: Option<String>,

    /// How many brokers. There is no default: a dropped field must not drain a cluster.
    #[schemars(range(min = 1, max = 200))]
    pub replicas: i32,

    /// Where clients connect. Ports 9090 (brokers and operator) and 9404 (HTTP) are taken.
    #[schemars(length(min = 1, max = 16), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    #[x_kube(validation = Rule::new("self.all(a, self.exists_one(b, b.port == a.port))").message("each listener needs a port of its own"))]
    pub listeners: Vec<Listener>,

    /// Broker settings by Kafka's names; values are strings, numbers or booleans.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::settings")]
    pub config: BTreeMap<String, Value>,

    /// Where records are kept.
    pub storage: Storage,

    /// What a broker's container asks of its node and may use at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,

    /// Additions to the objects made for the Cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<Template>,

    /// While true the operator changes nothing and only reports.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused: Option<bool>,

    /// What happens to the volumes when the Cluster is deleted. Retain when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deletion_policy: Option<DeletionPolicy>,
}

/// One port on which clients connect.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Listener {
    /// The listener's name, unique in the Cluster.
    #[schemars(length(max = 11), regex(pattern = r"^[a-z][a-z0-9]{0,10}$"))]
    pub name: String,

    /// The port, on the broker and on its Services.
    #[schemars(range(min = 1, max = 65535))]
    #[x_kube(validation = Rule::new("self != 9090 && self != 9404").message("ports 9090 (brokers and operator) and 9404 (HTTP) are reserved"))]
    pub port: i32,

    /// How the listener is reached.
    #[serde(rename = "type")]
    pub type_: ListenerType,

    /// Only false so far.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("enum" = [false]))]
    pub tls: Option<bool>,
}

/// How a listener is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ListenerType {
    /// From inside the Kubernetes cluster, by the Services' names.
    Internal,
}

/// Where records are kept.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self.type == oldSelf.type").message("storage.type cannot change; create another Cluster and copy the data"),
    validation = Rule::new("self.type != 'persistent-claim' || (has(self.volumes) && self.volumes.size() == 1 && self.volumes.all(v, has(v.size)))").message("persistent-claim needs one volume with a size, for example volumes: [{id: 0, size: 10Gi}]")
)]
pub struct Storage {
    /// persistent-claim keeps data apart from the pod; ephemeral loses it with the pod.
    #[serde(rename = "type")]
    pub type_: StorageType,

    /// The volumes of each broker, one for now.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["id"]))]
    pub volumes: Vec<Volume>,
}

/// What kind of volume holds the records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum StorageType {
    /// A PersistentVolumeClaim that outlives pods and the Cluster.
    PersistentClaim,
    /// A folder of the node that goes away with the pod.
    Ephemeral,
}

/// One volume of each broker.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("(has(self.class) ? self.class : '') == (has(oldSelf.class) ? oldSelf.class : '')").message("a volume's class cannot change"),
    validation = Rule::new("!has(oldSelf.size) || (has(self.size) && quantity(self.size).compareTo(quantity(oldSelf.size)) >= 0)").message("a volume can only grow")
)]
pub struct Volume {
    /// The volume's number, 0 for now.
    #[schemars(range(min = 0, max = 0))]
    pub id: i32,

    /// The size, such as 10Gi. It can grow, never shrink.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 32))]
    #[x_kube(validation = Rule::new("isQuantity(self) && quantity(self).isGreaterThan(quantity('0'))").message("size must be a quantity above 0 such as 10Gi"))]
    pub size: Option<String>,

    /// The StorageClass; the cluster's default one when absent. It cannot change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub class: Option<String>,
}

/// What the operator found and did.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClusterStatus {
    /// The generation of the spec that the rest of the status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,

    /// Kafka's cluster id. It stays the same for as long as the volumes exist.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub cluster_id: Option<String>,

    /// The version that every broker runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub version: Option<String>,

    /// Brokers that exist.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replicas: Option<i32>,

    /// Brokers that are ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready_replicas: Option<i32>,

    /// How each listener is reached.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub listeners: Vec<ListenerStatus>,

    /// The brokers one by one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 200), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["id"]))]
    pub brokers: Vec<BrokerStatus>,

    /// How far the brokers have been brought to the newest spec.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<RolloutStatus>,

    /// Ready, Available, Reconciling, Stalled and one condition for each phase.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
}

/// How one listener is reached.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ListenerStatus {
    /// The listener's name.
    #[schemars(length(max = 11))]
    pub name: String,
    /// What a client's `bootstrap.servers` is set to.
    #[schemars(length(max = 1024))]
    pub bootstrap_servers: String,
    /// The address of each broker.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 200), extend("x-kubernetes-list-type" = "atomic"))]
    pub addresses: Vec<ListenerAddress>,
}

/// One broker's address on a listener.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ListenerAddress {
    /// The host name.
    #[schemars(length(max = 253))]
    pub host: String,
    /// The port.
    pub port: i32,
}

/// One broker.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BrokerStatus {
    /// Kafka's broker id.
    pub id: i32,
    /// The pod that runs it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub pod: Option<String>,
    /// Running, Starting, Stopping, Missing, or the reason why its container waits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub state: Option<String>,
    /// Whether its pod is ready.
    pub ready: bool,
    /// The revision of the StatefulSet that its pod runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub revision: Option<String>,
    /// The claim that holds its records.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub volume: Option<String>,
    /// What keeps it from being ready or replaced, in a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub blocked_by: Option<String>,
}

/// How far the brokers have been brought to the newest spec.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RolloutStatus {
    /// The revision that all brokers shall run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub target: Option<String>,
    /// Brokers that run it.
    pub updated: i32,
    /// Brokers in all.
    pub total: i32,
    /// The broker that is being replaced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current: Option<i32>,
    /// One word: Complete, Creating, Rolling, Paused or Blocked.
    #[schemars(length(max = 128))]
    pub reason: String,
}

impl Cluster {
    /// The deletion policy with its default.
    pub fn deletion_policy(&self) -> DeletionPolicy {
        self.spec.deletion_policy.unwrap_or_default()
    }
}
