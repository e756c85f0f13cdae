// SPDX-License-Identifier: Apache-2.0
//! What may be done with the broker's volume. Pure.
//!
//! A volume that held records is never made anew in silence: a broker on an empty one would come up as a
//! healthy cluster without data. As long as the volume is not what it must be, no broker is started on it
//! and no pod that still has it is stopped.

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use odradek_crds::{Cluster, names};

use super::build::ONLY_BROKER;
use super::status::PhaseFailure;
use crate::apply::{ApplyError, Belonging, Verdict, judge};

/// Whether the Cluster's broker had a volume before: its StatefulSet is made only after the volume, its
/// version is told only once a pod runs, and an id that is not the Cluster's own came from a volume.
pub fn had_before(cluster: &Cluster, own_stateful_set: Option<&StatefulSet>, own_id: Option<&str>) -> bool {
    let status = cluster.status.as_ref();
    let recorded = status.and_then(|status| status.cluster_id.as_deref());
    own_stateful_set.is_some()
        || status.is_some_and(|status| status.version.is_some())
        || recorded.is_some_and(|recorded| Some(recorded) != own_id)
}

/// Why the broker must not be started on the claim, nor stopped while it has it; `None` if all is well, or
/// if the claim is still to be made.
pub fn fault(
    cluster: &str,
    cluster_id: &str,
    had_before: bool,
    claim: Option<&PersistentVolumeClaim>,
) -> Option<PhaseFailure> {
    let name = names::volume_claim(cluster, ONLY_BROKER);
    let annotation = names::CLUSTER_ID_ANNOTATION;
    let fault = |reason, stalled, message| Some(PhaseFailure { reason, message, stalled });
    let Some(claim) = claim else {
        if !had_before {
            return None;
        }
        return fault(
            "VolumeMissing",
            true,
            format!(
                "PersistentVolumeClaim {name}, which held the records of broker {ONLY_BROKER}, is gone, and an empty \
                 one is not made in its place; restore it with the annotation {annotation}: {cluster_id}, or delete \
                 the Cluster and create it again to begin empty"
            ),
        );
    };
    let metadata = &claim.metadata;
    let holds = metadata.annotations.as_ref().and_then(|all| all.get(annotation));
    if metadata.deletion_timestamp.is_some() {
        if !had_before {
            return fault(
                "WaitingForRemoval",
                false,
                ApplyError::Leaving { kind: "PersistentVolumeClaim".into(), name }.to_string(),
            );
        }
        return fault(
            "VolumeBeingDeleted",
            true,
            format!(
                "PersistentVolumeClaim {name} was deleted and goes with its records once no pod mounts it; the \
                 operator does not restart the broker any more: copy the records away before its pod ends"
            ),
        );
    }
    if let Verdict::Foreign(reason) = judge(metadata, &Belonging::ClusterId(cluster_id.into())) {
        let message = ApplyError::NameTaken { kind: "PersistentVolumeClaim".into(), name, reason }.to_string();
        let message = if had_before && holds.is_none() {
            format!("{message}; if it is the restored volume, annotate it with {annotation}: {cluster_id}")
        } else {
            message
        };
        return fault("NameTaken", true, message);
    }
    if claim.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Lost") {
        return fault(
            "VolumeLost",
            true,
            format!(
                "PersistentVolumeClaim {name} has lost its PersistentVolume; restore the volume, or delete claim and \
                 Cluster and create the Cluster again to begin empty"
            ),
        );
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const OWN: &str = "own-id";

    fn cluster(status: &serde_json::Value) -> Cluster {
        serde_json::from_value(json!({
            "apiVersion": "odradek.dev/v1alpha1", "kind": "Cluster",
            "metadata": {"name": "c", "uid": "u"},
            "spec": {
                "version": "0.1.0", "replicas": 1,
                "listeners": [{"name": "plain", "port": 9092, "type": "internal"}],
                "storage": {"type": "persistent-claim", "volumes": [{"id": 0, "size": "1Gi"}]},
            },
            "status": status,
        }))
        .unwrap()
    }

    fn claim(metadata: &serde_json::Value, phase: &str) -> PersistentVolumeClaim {
        serde_json::from_value(json!({"metadata": metadata, "status": {"phase": phase}})).unwrap()
    }

    fn reason(had_before: bool, claim: Option<&PersistentVolumeClaim>) -> Option<(&'static str, bool)> {
        fault("c", OWN, had_before, claim).map(|fault| (fault.reason, fault.stalled))
    }

    #[test]
    fn a_volume_is_made_only_for_a_broker_that_never_had_one() {
        assert_eq!(reason(false, None), None);
        assert_eq!(reason(true, None), Some(("VolumeMissing", true)));
    }

    #[test]
    fn that_there_was_a_volume_is_known_from_each_of_three_marks() {
        let nothing = cluster(&json!({"clusterId": OWN}));
        assert!(!had_before(&nothing, None, Some(OWN)), "an id of its own says nothing about a volume");
        assert!(had_before(&nothing, Some(&StatefulSet::default()), Some(OWN)));
        assert!(had_before(&cluster(&json!({"clusterId": OWN, "version": "0.1.0"})), None, Some(OWN)));
        assert!(had_before(&cluster(&json!({"clusterId": "adopted"})), None, Some(OWN)));
    }

    #[test]
    fn only_a_whole_volume_of_the_same_cluster_will_do() {
        let ours = json!({"name": "data-c-0", "annotations": {"odradek.dev/cluster-id": OWN}});
        assert_eq!(reason(true, Some(&claim(&ours, "Bound"))), None);
        assert_eq!(reason(true, Some(&claim(&ours, "Pending"))), None);
        assert_eq!(reason(true, Some(&claim(&ours, "Lost"))), Some(("VolumeLost", true)));
        let mut going = ours;
        going["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        assert_eq!(reason(true, Some(&claim(&going, "Bound"))), Some(("VolumeBeingDeleted", true)));
        assert_eq!(reason(false, Some(&claim(&going, "Bound"))), Some(("WaitingForRemoval", false)));
        let other = json!({"name": "data-c-0", "annotations": {"odradek.dev/cluster-id": "other"}});
        assert_eq!(reason(true, Some(&claim(&other, "Bound"))), Some(("NameTaken", true)));
        let restored = fault("c", OWN, true, Some(&claim(&json!({"name": "data-c-0"}), "Bound"))).unwrap();
        assert!(restored.message.contains("annotate it with odradek.dev/cluster-id: own-id"), "{}", restored.message);
    }
}
