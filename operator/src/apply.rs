// SPDX-License-Identifier: Apache-2.0
//! Writing objects: create with POST, take over only what is ours, then server-side apply.
//!
//! A forced apply as the first write would overwrite a stranger's object of the same name, so it
//! comes only after the owner is known. Knows nothing of what the objects are for.

use std::fmt::Debug;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ManagedFieldsEntry, ObjectMeta, OwnerReference};
use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::{Client, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use thiserror::Error;

use crate::calls::{CallError, bounded};
use crate::cluster::validate::bytes;
use crate::{OPERATOR, fingerprint};
use odradek_crds::names;

/// Annotation with the fingerprint of what was applied last: tells a removed field from a kept one.
pub const APPLIED_ANNOTATION: &str = "odradek.dev/applied";

/// How an object is known to be ours.
#[derive(Clone, Debug)]
pub enum Belonging {
    /// By its controller.
    Controlled(OwnerReference),
    /// By the cluster id on it: it outlives the resource.
    ClusterId(String),
}

/// What a write did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The object is new.
    Created,
    /// The object is different now.
    Changed,
    /// Nothing was to do.
    Unchanged,
}

/// Why an object was not written.
#[derive(Debug, Error)]
pub enum ApplyError {
    /// The name belongs to someone else's object.
    #[error("{kind} {name} exists and {reason}; delete or rename it, or choose another name for the Cluster")]
    NameTaken {
        /// The object's kind.
        kind: String,
        /// The object's name.
        name: String,
        /// Whose it is.
        reason: String,
    },
    /// The object of an earlier resource of the same name is being removed.
    #[error("{kind} {name} of an earlier Cluster with this name is still being removed")]
    Leaving {
        /// The object's kind.
        kind: String,
        /// The object's name.
        name: String,
    },
    /// The call failed.
    #[error(transparent)]
    Call(#[from] CallError),
}

/// Whose an existing object is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Ours: go on.
    Ours,
    /// Of an earlier life of the same resource, or being deleted: wait.
    Leaving,
    /// A stranger's, and why.
    Foreign(String),
}

/// Judges an existing object by its controller or cluster id.
pub fn judge(live: &ObjectMeta, belonging: &Belonging) -> Verdict {
    match belonging {
        Belonging::Controlled(owner) => {
            let controller =
                live.owner_references.iter().flatten().find(|reference| reference.controller == Some(true));
            match controller {
                Some(found) if found.uid == owner.uid => {
                    if live.deletion_timestamp.is_some() {
                        Verdict::Leaving
                    } else {
                        Verdict::Ours
                    }
                }
                Some(found) if found.kind == owner.kind && found.name == owner.name => Verdict::Leaving,
                Some(found) => Verdict::Foreign(format!("is controlled by {} {}", found.kind, found.name)),
                None => Verdict::Foreign("has no controller".into()),
            }
        }
        Belonging::ClusterId(id) => {
            match live.annotations.as_ref().and_then(|all| all.get(names::CLUSTER_ID_ANNOTATION)) {
                Some(found) if found == id => {
                    if live.deletion_timestamp.is_some() {
                        Verdict::Leaving
                    } else {
                        Verdict::Ours
                    }
                }
                Some(found) => Verdict::Foreign(format!("holds data of the Kafka cluster {found}")),
                None => Verdict::Foreign(format!("has no annotation {}", names::CLUSTER_ID_ANNOTATION)),
            }
        }
    }
}

/// Whether the live object already says everything that is desired. What others added is no difference, and
/// neither is another spelling of the same quantity: the API server writes `1024Mi` as `1Gi`.
pub fn covers(live: &Value, desired: &Value) -> bool {
    match (live, desired) {
        (Value::Object(live), Value::Object(desired)) => desired.iter().all(|(name, value)| {
            live.get(name).is_some_and(|found| {
                let quantities = matches!(name.as_str(), "requests" | "limits" | "sizeLimit");
                if quantities { same_quantities(found, value) } else { covers(found, value) }
            })
        }),
        (Value::Array(live), Value::Array(desired)) => {
            let in_order =
                || live.len() == desired.len() && live.iter().zip(desired).all(|(found, value)| covers(found, value));
            // Lists that are merged by a key may have entries of others between ours.
            let by_key = || {
                desired.iter().all(|value| {
                    let Some(key) = merge_key(value) else { return false };
                    live.iter().any(|found| merge_key(found) == Some(key) && covers(found, value))
                })
            };
            in_order() || by_key()
        }
        (live, desired) => live == desired,
    }
}

/// What an entry of a list is known by: owners by uid, everything else of ours by its name.
fn merge_key(entry: &Value) -> Option<&str> {
    entry.get("uid").or_else(|| entry.get("name")).and_then(Value::as_str)
}

fn same_quantities(live: &Value, desired: &Value) -> bool {
    match (live, desired) {
        (Value::Object(live), Value::Object(desired)) => {
            desired.iter().all(|(name, value)| live.get(name).is_some_and(|found| same_quantities(found, value)))
        }
        (Value::String(live), Value::String(desired)) => {
            let (found, wanted) = (bytes(live), bytes(desired));
            // Far finer than any unit, far coarser than what a double loses.
            live == desired || (found - wanted).abs() <= wanted.abs() * 1e-12
        }
        (live, desired) => live == desired,
    }
}

/// Brings one object to what is desired.
pub async fn apply<K>(client: &Client, desired: &K, belonging: &Belonging) -> Result<(Outcome, K), ApplyError>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + Serialize + DeserializeOwned,
{
    let name = desired.name_any();
    let kind = K::kind(&()).into_owned();
    let namespace = desired.namespace().expect("every object that is built has a namespace");
    let api: Api<K> = Api::namespaced(client.clone(), &namespace);
    let desired = marked(desired);

    let existing = bounded(format!("get {kind} {name}"), api.get_opt(&name)).await?;
    let (mut outcome, mut live) = if let Some(live) = existing {
        (Outcome::Unchanged, live)
    } else {
        let params = PostParams { field_manager: Some(OPERATOR.into()), ..PostParams::default() };
        let object: K = serde_json::from_value(desired.clone()).expect("built from a value of this type");
        match bounded(format!("create {kind} {name}"), api.create(&params, &object)).await {
            Ok(live) => (Outcome::Created, live),
            // Someone was faster; whose it is decides.
            Err(error) if error.code() == Some(409) => {
                (Outcome::Unchanged, bounded(format!("get {kind} {name}"), api.get(&name)).await?)
            }
            Err(error) => return Err(error.into()),
        }
    };
    match judge(live.meta(), belonging) {
        Verdict::Ours => {}
        Verdict::Leaving => return Err(ApplyError::Leaving { kind, name }),
        Verdict::Foreign(reason) => return Err(ApplyError::NameTaken { kind, name, reason }),
    }
    if let Some(patch) = applied_from_the_start(live.meta()) {
        live = bounded(
            format!("own the fields of {kind} {name}"),
            api.patch(&name, &PatchParams::default(), &Patch::Merge(&patch)),
        )
        .await?;
    }
    let live_json = serde_json::to_value(&live).expect("Kubernetes objects are plain JSON");
    if covers(&live_json, &desired) {
        return Ok((outcome, live));
    }
    let before = live.resource_version();
    let after = bounded(
        format!("apply {kind} {name}"),
        api.patch(&name, &PatchParams::apply(OPERATOR).force(), &Patch::Apply(&desired)),
    )
    .await?;
    if outcome == Outcome::Unchanged && after.resource_version() != before {
        outcome = Outcome::Changed;
    }
    Ok((outcome, after))
}

/// The desired object as JSON with its fingerprint on it.
fn marked<K: Serialize>(desired: &K) -> Value {
    let mut json = serde_json::to_value(desired).expect("Kubernetes objects are plain JSON");
    let fingerprint = fingerprint::of(&json);
    json["metadata"]["annotations"][APPLIED_ANNOTATION] = Value::from(fingerprint);
    json
}

/// The patch that turns the fields written by our POST into applied ones. Without it they would
/// have two owners, and a field that is dropped later would stay for ever.
fn applied_from_the_start(live: &ObjectMeta) -> Option<Value> {
    let entries = live.managed_fields.as_ref()?;
    let by_our_post = |entry: &ManagedFieldsEntry| {
        entry.manager.as_deref() == Some(OPERATOR)
            && entry.operation.as_deref() == Some("Update")
            && entry.subresource.is_none()
    };
    if !entries.iter().any(by_our_post) {
        return None;
    }
    let applied = |entry: &ManagedFieldsEntry| {
        entry.manager.as_deref() == Some(OPERATOR) && entry.operation.as_deref() == Some("Apply")
    };
    // An applied entry exists only if an apply came between; it holds what matters.
    let had_applied = entries.iter().any(applied);
    let entries: Vec<ManagedFieldsEntry> = entries
        .iter()
        .filter(|entry| !(had_applied && by_our_post(entry)))
        .cloned()
        .map(|mut entry| {
            if by_our_post(&entry) {
                entry.operation = Some("Apply".into());
            }
            entry
        })
        .collect();
    // The resource version makes it a compare-and-set.
    Some(json!({"metadata": {"managedFields": entries, "resourceVersion": live.resource_version}}))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner(uid: &str) -> OwnerReference {
        OwnerReference {
            api_version: "odradek.dev/v1alpha1".into(),
            kind: "Cluster".into(),
            name: "events".into(),
            uid: uid.into(),
            controller: Some(true),
            ..OwnerReference::default()
        }
    }

    fn owned_by(owner: OwnerReference) -> ObjectMeta {
        ObjectMeta { owner_references: Some(vec![owner]), ..ObjectMeta::default() }
    }

    #[test]
    fn only_our_controller_makes_an_object_ours() {
        let ours = Belonging::Controlled(owner("new"));
        assert_eq!(judge(&owned_by(owner("new")), &ours), Verdict::Ours);
        assert_eq!(judge(&owned_by(owner("old")), &ours), Verdict::Leaving);
        let stranger = OwnerReference { kind: "Redis".into(), ..owner("other") };
        assert!(matches!(judge(&owned_by(stranger), &ours), Verdict::Foreign(_)));
        assert!(matches!(judge(&ObjectMeta::default(), &ours), Verdict::Foreign(_)));
        let merely_listed = OwnerReference { controller: None, ..owner("new") };
        assert!(matches!(judge(&owned_by(merely_listed), &ours), Verdict::Foreign(_)));
    }

    #[test]
    fn a_volume_is_ours_by_its_cluster_id_alone() {
        let ours = Belonging::ClusterId("abc".into());
        let with = |id: &str| ObjectMeta {
            annotations: Some([(names::CLUSTER_ID_ANNOTATION.to_owned(), id.to_owned())].into()),
            ..ObjectMeta::default()
        };
        assert_eq!(judge(&with("abc"), &ours), Verdict::Ours);
        assert!(matches!(judge(&with("xyz"), &ours), Verdict::Foreign(_)));
        assert!(matches!(judge(&ObjectMeta::default(), &ours), Verdict::Foreign(_)));
    }

    #[test]
    fn defaults_added_by_the_api_server_are_no_difference_and_edits_are() {
        let desired = json!({"spec": {"ports": [{"port": 9092}]}});
        let live = json!({"spec": {"type": "ClusterIP", "ports": [{"port": 9092, "protocol": "TCP"}]}});
        assert!(covers(&live, &desired));
        assert!(!covers(&json!({"spec": {"ports": [{"port": 9093}]}}), &desired));
        assert!(!covers(&json!({"spec": {"ports": [{"port": 9092}, {"port": 1}]}}), &desired));
    }

    #[test]
    fn another_spelling_of_a_quantity_is_no_difference_and_another_amount_is() {
        let with = |memory: &str, cpu: &str| json!({"resources": {"requests": {"memory": memory, "cpu": cpu}}});
        assert!(covers(&with("1Gi", "500m"), &with("1024Mi", "0.5")));
        assert!(covers(&with("1536Mi", "700m"), &with("1.5Gi", "0.7")));
        assert!(!covers(&with("1Gi", "500m"), &with("1G", "500m")));
        // Elsewhere texts are texts.
        assert!(!covers(&json!({"annotations": {"size": "1Gi"}}), &json!({"annotations": {"size": "1024Mi"}})));
    }

    #[test]
    fn entries_of_others_in_a_merged_list_are_no_difference() {
        let env = |names: &[&str]| json!({"env": names.iter().map(|name| json!({"name": name})).collect::<Vec<_>>()});
        assert!(covers(&env(&["injected", "POD_NAME", "POD_UID"]), &env(&["POD_NAME", "POD_UID"])));
        assert!(!covers(&env(&["injected", "POD_UID"]), &env(&["POD_NAME", "POD_UID"])));
        // A list that is replaced as a whole has no keys.
        assert!(!covers(&json!({"args": ["run", "--evil"]}), &json!({"args": ["run"]})));
        let owners = |uids: &[&str]| json!({"ownerReferences": uids.iter().map(|uid| json!({"uid": uid, "name": "same"})).collect::<Vec<_>>()});
        assert!(covers(&owners(&["other", "ours"]), &owners(&["ours"])));
        assert!(!covers(&owners(&["other"]), &owners(&["ours"])));
    }

    #[test]
    fn fields_of_our_post_become_applied_and_others_stay() {
        let entry = |manager: &str, operation: &str| ManagedFieldsEntry {
            manager: Some(manager.into()),
            operation: Some(operation.into()),
            ..ManagedFieldsEntry::default()
        };
        let meta = |entries| ObjectMeta {
            managed_fields: Some(entries),
            resource_version: Some("7".into()),
            ..ObjectMeta::default()
        };
        let patch = applied_from_the_start(&meta(vec![entry(OPERATOR, "Update"), entry("kubectl", "Update")])).unwrap();
        assert_eq!(patch["metadata"]["managedFields"][0]["operation"], "Apply");
        assert_eq!(patch["metadata"]["managedFields"][1]["manager"], "kubectl");
        assert_eq!(patch["metadata"]["resourceVersion"], "7");
        assert!(applied_from_the_start(&meta(vec![entry(OPERATOR, "Apply")])).is_none());
    }
}
