// SPDX-License-Identifier: Apache-2.0
//! From a valid Cluster to the objects that make it. Pure: the same input yields the same objects.

mod broker_config;
mod services;
mod stateful_set;
mod volume_claim;

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, Service, ServiceAccount};
use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use odradek_crds::names;
use odradek_crds::template::TemplateMetadata;

use super::validate::Valid;
use crate::OPERATOR;

/// The id of the only broker, until a Cluster can have more.
pub const ONLY_BROKER: i32 = 0;

/// Everything that makes a Cluster.
#[derive(Clone, Debug, PartialEq)]
pub struct Objects {
    /// The brokers' identity in Kubernetes.
    pub service_account: ServiceAccount,
    /// The broker's configuration.
    pub config_map: ConfigMap,
    /// How clients, brokers and the operator find it.
    pub services: Vec<Service>,
    /// The broker's volume, unless it is ephemeral.
    pub volume_claim: Option<PersistentVolumeClaim>,
    /// The broker.
    pub stateful_set: StatefulSet,
    /// Which evictions are allowed.
    pub disruption_budget: PodDisruptionBudget,
}

/// Builds every object.
pub fn build(valid: &Valid) -> Objects {
    let config_map = broker_config::config_map(valid);
    let stateful_set = stateful_set::stateful_set(valid, &config_map);
    Objects {
        service_account: service_account(valid),
        services: services::services(valid),
        volume_claim: volume_claim::volume_claim(valid),
        disruption_budget: disruption_budget(valid),
        config_map,
        stateful_set,
    }
}

/// Labels of everything that is made for a Cluster. No version among them: a pod's labels would roll
/// it at every update.
fn labels(valid: &Valid) -> BTreeMap<String, String> {
    [
        ("app.kubernetes.io/name", "odradek"),
        ("app.kubernetes.io/component", "broker"),
        ("app.kubernetes.io/instance", valid.name.as_str()),
        ("app.kubernetes.io/managed-by", OPERATOR),
        (names::CLUSTER_LABEL, valid.name.as_str()),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .collect()
}

/// Labels by which all brokers' pods are found.
fn cluster_selector(valid: &Valid) -> BTreeMap<String, String> {
    [(names::CLUSTER_LABEL.to_owned(), valid.name.clone()), ("app.kubernetes.io/component".into(), "broker".into())]
        .into()
}

/// Labels by which one broker's pod is found; a StatefulSet's selector can never change.
fn broker_selector(valid: &Valid, id: i32) -> BTreeMap<String, String> {
    [(names::CLUSTER_LABEL.to_owned(), valid.name.clone()), (names::BROKER_ID.to_owned(), id.to_string())].into()
}

/// Metadata of an owned object. The user's additions come first: what the operator sets wins.
fn owned_metadata(valid: &Valid, name: String, additions: Option<&TemplateMetadata>) -> ObjectMeta {
    let mut all_labels = additions.map(|given| given.labels.clone()).unwrap_or_default();
    all_labels.extend(labels(valid));
    let annotations = additions.map(|given| given.annotations.clone()).unwrap_or_default();
    ObjectMeta {
        name: Some(name),
        namespace: Some(valid.namespace.clone()),
        labels: Some(all_labels),
        annotations: (!annotations.is_empty()).then_some(annotations),
        owner_references: Some(vec![valid.owner.clone()]),
        ..ObjectMeta::default()
    }
}

fn service_account(valid: &Valid) -> ServiceAccount {
    ServiceAccount {
        metadata: owned_metadata(valid, names::service_account(&valid.name), None),
        automount_service_account_token: Some(false),
        ..ServiceAccount::default()
    }
}

/// With one broker no eviction keeps the cluster available, but none would be ever allowed with 1: so 0.
fn disruption_budget(valid: &Valid) -> PodDisruptionBudget {
    PodDisruptionBudget {
        metadata: owned_metadata(valid, names::disruption_budget(&valid.name), None),
        spec: Some(PodDisruptionBudgetSpec {
            min_available: Some(IntOrString::Int(0)),
            selector: Some(LabelSelector { match_labels: Some(cluster_selector(valid)), ..LabelSelector::default() }),
            unhealthy_pod_eviction_policy: Some("IfHealthyBudget".into()),
            ..PodDisruptionBudgetSpec::default()
        }),
        status: None,
    }
}
