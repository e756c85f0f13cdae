// SPDX-License-Identifier: Apache-2.0
//! From a Cluster and what was found to what can be built, or every reason why not. Pure.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ResourceRequirements;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::{Resource, ResourceExt};
use odradek_crds::cluster::{Listener, StorageType};
use odradek_crds::template::{Resources, Template};
use odradek_crds::{Cluster, names};
use uuid::Uuid;

use super::build::ONLY_BROKER;
use super::fetch::Observed;
use super::status::PhaseFailure;
use super::{plan, settings, volume};
use crate::context::BrokerImages;
use crate::kafka::wire::kafka_id;

/// Broker versions that this operator can run.
pub const KNOWN_VERSIONS: &[&str] = &[env!("CARGO_PKG_VERSION")];

/// Annotation of the StatefulSet: what its image was chosen by.
pub const IMAGE_SOURCE_ANNOTATION: &str = "odradek.dev/image-source";

/// Where records are kept.
#[derive(Clone, Debug, PartialEq)]
pub enum Storage {
    /// A claim that outlives pod and Cluster.
    PersistentClaim {
        /// What is asked for.
        size: String,
        /// What the claim asks for: never less than it asks for already.
        requested: String,
        /// The StorageClass; the default one when absent.
        class: Option<String>,
    },
    /// A folder of the node.
    Ephemeral {
        /// Its limit, if any.
        size: Option<String>,
    },
}

/// A Cluster that can be built.
#[derive(Clone, Debug)]
pub struct Valid {
    /// Its name.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// The owner reference for what is made for it.
    pub owner: OwnerReference,
    /// Kafka's cluster id.
    pub cluster_id: String,
    /// The brokers' version.
    pub version: String,
    /// The resolved image.
    pub image: String,
    /// What the image was chosen by.
    pub image_source: String,
    /// When nodes pull it.
    pub image_pull_policy: Option<String>,
    /// Where clients connect.
    pub listeners: Vec<Listener>,
    /// Broker settings as text.
    pub config: BTreeMap<String, String>,
    /// Where records are kept.
    pub storage: Storage,
    /// Whether the broker had a volume before.
    pub had_volume: bool,
    /// Why the broker may be neither started on its volume nor stopped while it has it.
    pub volume_fault: Option<PhaseFailure>,
    /// Whether the broker is kept from starting: its volume is not what it must be, and no pod has it.
    pub held_back: bool,
    /// The container's resources.
    pub resources: Option<ResourceRequirements>,
    /// The user's additions.
    pub template: Template,
    /// Whether to change nothing.
    pub paused: bool,
}

/// Why a Cluster cannot be built; only an edit helps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// In one word.
    pub reason: &'static str,
    /// With the field's path, what is allowed, and what to do.
    pub message: String,
}

fn refusal(reason: &'static str, message: impl Into<String>) -> Refusal {
    Refusal { reason, message: message.into() }
}

/// Checks everything at once, so that a user sees all faults and not one after another.
pub fn validate(cluster: &Cluster, observed: &Observed, images: &BrokerImages) -> Result<Valid, Vec<Refusal>> {
    let spec = &cluster.spec;
    let name = cluster.name_any();
    let mut refusals = Vec::new();

    if spec.replicas != 1 {
        refusals.push(refusal(
            "ReplicasUnsupported",
            format!("spec.replicas: {} is not possible yet, this version runs one broker; set it to 1", spec.replicas),
        ));
    }
    if spec.image.as_deref().unwrap_or_default().is_empty() && !KNOWN_VERSIONS.contains(&spec.version.as_str()) {
        refusals.push(refusal(
            "UnknownVersion",
            format!(
                "spec.version: {:?} is unknown to this operator; known: {}; set one of them, update the operator, or name an image in spec.image",
                spec.version,
                KNOWN_VERSIONS.join(", ")
            ),
        ));
    }
    let config = settings::broker_settings(&spec.config).unwrap_or_else(|faults| {
        refusals.push(refusal("InvalidConfig", faults.join("; ")));
        BTreeMap::new()
    });
    let own_stateful_set = plan::own_stateful_set(cluster, observed);
    let own_id = cluster.uid().and_then(|uid| Uuid::parse_str(&uid).ok()).map(minted);
    let had_volume = volume::had_before(cluster, own_stateful_set, own_id.as_deref());
    let cluster_id = cluster_id(cluster, observed, had_volume, own_id, &mut refusals);
    let storage = storage(cluster, observed, &mut refusals);
    let volume_fault = match storage {
        Storage::PersistentClaim { .. } => {
            volume::fault(&name, &cluster_id, had_volume, observed.volume_claim.as_ref())
        }
        Storage::Ephemeral { .. } => None,
    };
    let held_back = volume_fault.is_some() && !observed.pod.as_ref().is_some_and(plan::is_on_a_node);

    let Some(owner) = cluster.controller_owner_ref(&()) else {
        refusals.push(refusal("Incomplete", "the Cluster has no uid"));
        return Err(refusals);
    };
    if !refusals.is_empty() {
        return Err(refusals);
    }
    let (image, image_source) = image(cluster, observed, images);
    Ok(Valid {
        namespace: cluster.namespace().unwrap_or_default(),
        owner,
        cluster_id,
        version: spec.version.clone(),
        image,
        image_source,
        image_pull_policy: images.pull_policy.clone(),
        listeners: spec.listeners.clone(),
        config,
        storage,
        had_volume,
        volume_fault,
        held_back,
        resources: spec.resources.as_ref().map(requirements),
        template: spec.template.clone().unwrap_or_default(),
        paused: spec.paused.unwrap_or(false),
        name,
    })
}

/// The Kafka cluster id. Once there was a volume it stays, whatever happens to the volume: the StatefulSet
/// carries it, and the status. Before that it is the id of the volumes that are found, else one made from
/// the Cluster's uid, so that two passes cannot mint two.
fn cluster_id(
    cluster: &Cluster,
    observed: &Observed,
    had_volume: bool,
    own_id: Option<String>,
    refusals: &mut Vec<Refusal>,
) -> String {
    let name = cluster.name_any();
    // Matched by name and cluster id; a label alone makes no volume ours.
    let mut active: BTreeMap<i32, String> = BTreeMap::new();
    let named = observed.volume_claim.iter().map(|claim| &claim.metadata);
    for claim in observed.labelled_claims.iter().chain(named) {
        let annotation = |key: &str| claim.annotations.as_ref().and_then(|all| all.get(key));
        let broker = claim.name.as_deref().and_then(|claim| names::broker_of_volume_claim(&name, claim));
        // One that is going takes its data with it: nothing new begins with its id.
        let adoptable = had_volume || claim.deletion_timestamp.is_none();
        if let (true, Some(broker), Some(id)) = (adoptable, broker, annotation(names::CLUSTER_ID_ANNOTATION))
            && annotation(names::BROKER_STATE_ANNOTATION).is_none_or(|state| state != "retired")
        {
            active.insert(broker, id.clone());
        }
    }
    let mut ids: Vec<&String> = active.values().collect();
    ids.sort();
    ids.dedup();
    if ids.len() > 1 {
        refusals.push(refusal(
            "VolumesFound",
            format!(
                "the volumes {} belong to different Kafka clusters; delete or rename those that are not wanted",
                listed(&name, &active)
            ),
        ));
    }
    let count = i32::try_from(active.len()).unwrap_or(i32::MAX);
    let is_the_active_set = active.keys().copied().eq(0..cluster.spec.replicas);
    if !active.is_empty() && !is_the_active_set {
        refusals.push(refusal(
            "VolumesFound",
            format!(
                "an earlier Cluster of this name left {count} volume(s): {}; set spec.replicas to {count} to adopt them, or delete them to begin anew",
                listed(&name, &active)
            ),
        ));
    }
    let carried = plan::own_stateful_set(cluster, observed)
        .and_then(|existing| existing.metadata.annotations.as_ref()?.get(names::CLUSTER_ID_ANNOTATION));
    let recorded = cluster.status.as_ref().and_then(|status| status.cluster_id.as_ref());
    let found = active.get(&ONLY_BROKER);
    let known = if had_volume { carried.or(recorded).or(found) } else { found };
    known.cloned().or(own_id).unwrap_or_else(|| {
        refusals.push(refusal("Incomplete", "the Cluster has no uid to mint a Kafka cluster id from"));
        String::new()
    })
}

fn listed(cluster: &str, active: &BTreeMap<i32, String>) -> String {
    active.keys().take(10).map(|id| names::volume_claim(cluster, *id)).collect::<Vec<_>>().join(", ")
}

/// A uid in Kafka's form of ids: 22 characters of URL-safe base64. A leading `-`, which command lines
/// take for an option, becomes `_` (Kafka's `Uuid.randomUuid` avoids it too).
fn minted(uid: Uuid) -> String {
    let mut text = kafka_id(uid);
    if text.starts_with('-') {
        text.replace_range(..1, "_");
    }
    text
}

fn storage(cluster: &Cluster, observed: &Observed, refusals: &mut Vec<Refusal>) -> Storage {
    let spec = &cluster.spec.storage;
    let volume = spec.volumes.first();
    let size = volume.and_then(|volume| volume.size.clone());
    if spec.type_ == StorageType::Ephemeral {
        return Storage::Ephemeral { size };
    }
    let Some(size) = size else {
        refusals.push(refusal(
            "InvalidStorage",
            "spec.storage.volumes[0].size: required for persistent-claim, for example 10Gi",
        ));
        return Storage::Ephemeral { size: None };
    };
    let existing = observed
        .volume_claim
        .as_ref()
        .and_then(|claim| claim.spec.as_ref()?.resources.as_ref()?.requests.as_ref()?.get("storage"))
        .map(|quantity| quantity.0.clone());
    // A claim that was grown by hand stays as large as it is: a claim cannot shrink.
    let requested = match existing {
        Some(existing) if bytes(&existing) > bytes(&size) => existing,
        _ => size.clone(),
    };
    let class = volume.and_then(|volume| volume.class.clone()).filter(|class| !class.is_empty());
    Storage::PersistentClaim { size, requested, class }
}

/// A quantity's value, for comparisons of sizes; 0 for what the API server would not have accepted.
pub fn bytes(quantity: &str) -> f64 {
    let split =
        quantity.find(|c: char| !(c.is_ascii_digit() || matches!(c, '.' | '+' | '-'))).unwrap_or(quantity.len());
    let (number, suffix) = quantity.split_at(split);
    let number: f64 = number.parse().unwrap_or(0.0);
    let factor = match suffix {
        "" => 1.0,
        "n" => 1e-9,
        "u" => 1e-6,
        "m" => 1e-3,
        "k" => 1e3,
        "M" => 1e6,
        "G" => 1e9,
        "T" => 1e12,
        "P" => 1e15,
        "E" => 1e18,
        "Ki" => 1024.0,
        "Mi" => 1024.0_f64.powi(2),
        "Gi" => 1024.0_f64.powi(3),
        "Ti" => 1024.0_f64.powi(4),
        "Pi" => 1024.0_f64.powi(5),
        "Ei" => 1024.0_f64.powi(6),
        _ => return quantity.parse().unwrap_or(0.0),
    };
    number * factor
}

fn image(cluster: &Cluster, observed: &Observed, images: &BrokerImages) -> (String, String) {
    if let Some(image) = cluster.spec.image.as_ref().filter(|image| !image.is_empty()) {
        return (image.clone(), "spec.image".into());
    }
    let version = &cluster.spec.version;
    let source = format!("version {version}");
    // An operator that was updated, or moved to another registry, must not roll every cluster: the
    // image stays for as long as version and image do.
    let kept = plan::own_stateful_set(cluster, observed).and_then(|existing| {
        let chosen_by = existing.metadata.annotations.as_ref()?.get(IMAGE_SOURCE_ANNOTATION)?;
        if *chosen_by != source {
            return None;
        }
        existing.spec.as_ref()?.template.spec.as_ref()?.containers.first()?.image.clone()
    });
    (kept.unwrap_or_else(|| format!("{}:{version}", images.repository)), source)
}

fn requirements(resources: &Resources) -> ResourceRequirements {
    let quantities = |given: &BTreeMap<String, IntOrString>| {
        (!given.is_empty()).then(|| {
            given
                .iter()
                .map(|(name, quantity)| {
                    let text = match quantity {
                        IntOrString::Int(number) => number.to_string(),
                        IntOrString::String(text) => text.clone(),
                    };
                    (name.clone(), Quantity(text))
                })
                .collect()
        })
    };
    ResourceRequirements {
        requests: quantities(&resources.requests),
        limits: quantities(&resources.limits),
        ..ResourceRequirements::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minted_id_has_kafkas_form_and_stays_the_same() {
        let uid = Uuid::parse_str("01234567-89ab-cdef-0123-456789abcdef").unwrap();
        assert_eq!(minted(uid), "ASNFZ4mrze8BI0VniavN7w");
        assert!(minted(Uuid::from_u128(u128::MAX << 122)).starts_with('_'));
        let dash = Uuid::parse_str("fb000000-0000-4000-8000-000000000000").unwrap();
        assert!(!minted(dash).starts_with('-'));
    }

    #[test]
    fn sizes_compare_across_units() {
        assert!(bytes("10Gi") > bytes("10G"));
        assert!((bytes("1.5Gi") - 1_610_612_736.0).abs() < 1.0);
        assert!((bytes("1e3") - 1000.0).abs() < 1e-9);
    }
}
