// SPDX-License-Identifier: Apache-2.0
//! The broker's volume. Pure. Never owned by the Cluster: data outlives it.

use k8s_openapi::api::core::v1::{PersistentVolumeClaim, PersistentVolumeClaimSpec, VolumeResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use odradek_crds::names;

use super::{ONLY_BROKER, labels};
use crate::cluster::validate::{Storage, Valid};

pub(super) fn volume_claim(valid: &Valid) -> Option<PersistentVolumeClaim> {
    let Storage::PersistentClaim { requested, class, .. } = &valid.storage else { return None };
    let additions = valid.template.persistent_volume_claim.as_ref().and_then(|claim| claim.metadata.clone());
    let additions = additions.unwrap_or_default();
    let mut all_labels = additions.labels;
    all_labels.extend(labels(valid));
    // Tools for delivery take what carries the instance of their application, has no owner and is not in
    // their repository for a leftover, and prune it. A volume has no owner.
    all_labels.remove("app.kubernetes.io/instance");
    let id = ONLY_BROKER.to_string();
    all_labels.insert(names::BROKER_ID.into(), id.clone());
    let mut annotations = additions.annotations;
    annotations.extend([
        (names::CLUSTER_ID_ANNOTATION.to_owned(), valid.cluster_id.clone()),
        (names::BROKER_ID.to_owned(), id),
        (names::BROKER_STATE_ANNOTATION.to_owned(), "active".to_owned()),
    ]);
    Some(PersistentVolumeClaim {
        metadata: ObjectMeta {
            name: Some(names::volume_claim(&valid.name, ONLY_BROKER)),
            namespace: Some(valid.namespace.clone()),
            labels: Some(all_labels),
            annotations: Some(annotations),
            ..ObjectMeta::default()
        },
        spec: Some(PersistentVolumeClaimSpec {
            access_modes: Some(vec!["ReadWriteOnce".into()]),
            storage_class_name: class.clone(),
            resources: Some(VolumeResourceRequirements {
                requests: Some([("storage".to_owned(), Quantity(requested.clone()))].into()),
                ..VolumeResourceRequirements::default()
            }),
            ..PersistentVolumeClaimSpec::default()
        }),
        status: None,
    })
}
