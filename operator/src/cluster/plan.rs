// SPDX-License-Identifier: Apache-2.0
//! Whether the broker's pod must be replaced. Pure: decides from what was read.

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::Pod;
use odradek_crds::Cluster;

use super::fetch::Observed;
use super::status::PhaseFailure;

/// What to do about the pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum PodStep {
    /// Nothing: it runs what it shall run, or is on its way.
    #[default]
    Keep,
    /// It runs an older template: delete it, its StatefulSet makes it again.
    Delete {
        /// The pod that is meant.
        uid: String,
        /// Why, for the event.
        why: String,
    },
    /// It runs an older template, but its volume would go with it: it stays.
    Hold {
        /// Why, for the status.
        why: String,
    },
    /// There is no pod, or it is going: wait for the StatefulSet.
    Await,
}

/// Decides about the only broker's pod.
///
/// With one broker nothing else can take over, so there is nothing to wait for: the pod goes as soon
/// as its StatefulSet has a new revision. That also replaces a pod that a wrong spec keeps from
/// ever becoming ready. But a pod is never deleted while its volume is being deleted or is gone: that
/// would complete the loss.
pub fn pod_step(stateful_set: Option<&StatefulSet>, pod: Option<&Pod>, volume_fault: Option<&PhaseFailure>) -> PodStep {
    let (Some(stateful_set), Some(pod)) = (stateful_set, pod) else { return PodStep::Await };
    if pod.metadata.deletion_timestamp.is_some() {
        return PodStep::Await;
    }
    if !is_controlled_by(pod, stateful_set) {
        // Another's pod, or the rest of an earlier StatefulSet: its own controller sees to it.
        return PodStep::Await;
    }
    let Some(target) = super::target_revision(stateful_set) else { return PodStep::Keep };
    match (revision(pod), &pod.metadata.uid) {
        (Some(current), Some(uid)) if current != target => {
            if let Some(fault) = volume_fault {
                return PodStep::Hold { why: fault.message.clone() };
            }
            PodStep::Delete { uid: uid.clone(), why: format!("it runs revision {current}, the newest is {target}") }
        }
        _ => PodStep::Keep,
    }
}

/// The broker's StatefulSet, if it is the Cluster's own and not one of an earlier Cluster or a stranger's.
pub fn own_stateful_set<'a>(cluster: &Cluster, observed: &'a Observed) -> Option<&'a StatefulSet> {
    observed.stateful_set.as_ref().filter(|found| {
        let mut owners = found.metadata.owner_references.iter().flatten();
        owners.any(|owner| owner.controller == Some(true) && Some(&owner.uid) == cluster.metadata.uid.as_ref())
    })
}

/// The broker's pod, if it is of the Cluster's own StatefulSet.
pub fn own_pod<'a>(cluster: &Cluster, observed: &'a Observed) -> Option<&'a Pod> {
    let stateful_set = own_stateful_set(cluster, observed)?;
    observed.pod.as_ref().filter(|pod| is_controlled_by(pod, stateful_set))
}

/// Whether the pod has been given a node: from then on it may have the volume mounted.
pub fn is_on_a_node(pod: &Pod) -> bool {
    pod.spec.iter().any(|spec| spec.node_name.as_deref().is_some_and(|node| !node.is_empty()))
}

/// The StatefulSet's revision that a pod was made from.
pub fn revision(pod: &Pod) -> Option<&str> {
    pod.metadata.labels.as_ref()?.get("controller-revision-hash").map(String::as_str)
}

/// Whether the pod says that it is ready, and is not going.
pub fn is_ready(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_none()
        && pod
            .status
            .iter()
            .flat_map(|status| status.conditions.iter().flatten())
            .any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

fn is_controlled_by(pod: &Pod, stateful_set: &StatefulSet) -> bool {
    pod.metadata
        .owner_references
        .iter()
        .flatten()
        .any(|owner| owner.controller == Some(true) && Some(&owner.uid) == stateful_set.metadata.uid.as_ref())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn stateful_set(observed: i64, revision: &str) -> StatefulSet {
        serde_json::from_value(json!({
            "metadata": {"name": "c-0", "uid": "sts", "generation": 2},
            "status": {"replicas": 1, "observedGeneration": observed, "updateRevision": revision},
        }))
        .unwrap()
    }

    fn pod(owner: &str, revision: &str) -> Pod {
        serde_json::from_value(json!({
            "metadata": {
                "name": "c-0-0", "uid": "pod",
                "labels": {"controller-revision-hash": revision},
                "ownerReferences": [{"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "c-0", "uid": owner, "controller": true}],
            },
        }))
        .unwrap()
    }

    #[test]
    fn a_pod_of_the_newest_revision_is_kept() {
        assert_eq!(pod_step(Some(&stateful_set(2, "new")), Some(&pod("sts", "new")), None), PodStep::Keep);
    }

    #[test]
    fn an_older_pod_goes_once_its_controller_has_seen_the_spec() {
        assert_eq!(pod_step(Some(&stateful_set(1, "new")), Some(&pod("sts", "old")), None), PodStep::Keep);
        let step = pod_step(Some(&stateful_set(2, "new")), Some(&pod("sts", "old")), None);
        assert!(matches!(step, PodStep::Delete { uid, .. } if uid == "pod"));
    }

    #[test]
    fn a_pod_of_another_owner_is_never_deleted() {
        assert_eq!(pod_step(Some(&stateful_set(2, "new")), Some(&pod("stranger", "old")), None), PodStep::Await);
    }

    #[test]
    fn a_pod_that_is_going_is_waited_for() {
        let mut going = pod("sts", "old");
        going.metadata.deletion_timestamp = Some(crate::context::Context::now());
        assert_eq!(pod_step(Some(&stateful_set(2, "new")), Some(&going), None), PodStep::Await);
        assert_eq!(pod_step(Some(&stateful_set(2, "new")), None, None), PodStep::Await);
    }

    #[test]
    fn a_pod_is_never_deleted_while_its_volume_would_go_with_it() {
        for reason in ["VolumeBeingDeleted", "VolumeMissing", "VolumeLost", "NameTaken"] {
            let fault = PhaseFailure { reason, message: reason.into(), stalled: true };
            let step = pod_step(Some(&stateful_set(2, "new")), Some(&pod("sts", "old")), Some(&fault));
            assert_eq!(step, PodStep::Hold { why: reason.into() });
            let step = pod_step(Some(&stateful_set(2, "new")), Some(&pod("sts", "new")), Some(&fault));
            assert_eq!(step, PodStep::Keep);
        }
    }
}
