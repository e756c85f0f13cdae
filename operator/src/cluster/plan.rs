// SPDX-License-Identifier: Apache-2.0
//! Whether the broker's pod must be replaced. Pure: decides from what was read.

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::Pod;

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
    /// There is no pod, or it is going: wait for the StatefulSet.
    Await,
}

/// Decides about the only broker's pod.
///
/// With one broker nothing else can take over, so there is nothing to wait for: the pod goes as soon
/// as its StatefulSet has a new revision. That also replaces a pod that a wrong spec keeps from
/// ever becoming ready.
pub fn pod_step(stateful_set: Option<&StatefulSet>, pod: Option<&Pod>) -> PodStep {
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
            PodStep::Delete { uid: uid.clone(), why: format!("it runs revision {current}, the newest is {target}") }
        }
        _ => PodStep::Keep,
    }
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
        assert_eq!(pod_step(Some(&stateful_set(2, "new")), Some(&pod("sts", "new"))), PodStep::Keep);
    }

    #[test]
    fn an_older_pod_goes_once_its_controller_has_seen_the_spec() {
        assert_eq!(pod_step(Some(&stateful_set(1, "new")), Some(&pod("sts", "old"))), PodStep::Keep);
        let step = pod_step(Some(&stateful_set(2, "new")), Some(&pod("sts", "old")));
        assert!(matches!(step, PodStep::Delete { uid, .. } if uid == "pod"));
    }

    #[test]
    fn a_pod_of_another_owner_is_never_deleted() {
        assert_eq!(pod_step(Some(&stateful_set(2, "new")), Some(&pod("stranger", "old"))), PodStep::Await);
    }

    #[test]
    fn a_pod_that_is_going_is_waited_for() {
        let mut going = pod("sts", "old");
        going.metadata.deletion_timestamp = Some(crate::context::Context::now());
        assert_eq!(pod_step(Some(&stateful_set(2, "new")), Some(&going)), PodStep::Await);
        assert_eq!(pod_step(Some(&stateful_set(2, "new")), None), PodStep::Await);
    }
}
