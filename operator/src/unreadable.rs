// SPDX-License-Identifier: Apache-2.0
//! A resource that cannot be read as its type says so in its own status: its definition is of another
//! version, or was edited by hand. Everything else in the status stays as it is.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::api::{Api, ApiResource, DynamicObject, ObjectMeta, Patch, PatchParams};
use kube::{Resource, ResourceExt};
use serde_json::{Value, json};
use tracing::warn;

use crate::calls::{CallError, bounded};
use crate::conditions;
use crate::context::Context;
use crate::{OPERATOR, cluster};

/// Says on the resource itself that it cannot be read.
pub async fn report<K>(metadata: &ObjectMeta, error: &str, context: &Context)
where
    K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>,
{
    let (Some(name), Some(namespace)) = (&metadata.name, &metadata.namespace) else { return };
    warn!(kind = %K::kind(&()), name, namespace, error, "cannot read the resource");
    if let Err(error) = write::<K>(namespace, name, error, context).await {
        warn!(name, namespace, %error, "cannot write the status");
    }
}

async fn write<K>(namespace: &str, name: &str, error: &str, context: &Context) -> Result<(), CallError>
where
    K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>,
{
    let resource = ApiResource::erase::<K>(&());
    let api: Api<DynamicObject> = Api::namespaced_with(context.client.clone(), namespace, &resource);
    let Some(live) = bounded(format!("get {name}"), api.get_opt(name)).await? else { return Ok(()) };
    let before = live.data.get("status").cloned().unwrap_or_else(|| json!({}));
    let status = status(&before, live.metadata.generation, error, &Context::now());
    if status == before {
        return Ok(());
    }
    let patch = json!({
        "apiVersion": resource.api_version,
        "kind": resource.kind,
        "metadata": {"name": name, "uid": live.uid()},
        "status": status,
    });
    let params = PatchParams::apply(OPERATOR).force();
    bounded("write the status", api.patch_status(name, &params, &Patch::Apply(&patch))).await?;
    Ok(())
}

/// The whole status with its conditions changed: an apply without a field that was applied before would
/// remove it, Kafka's cluster id among them.
fn status(before: &Value, generation: Option<i64>, error: &str, now: &Time) -> Value {
    let listed = before.get("conditions").and_then(Value::as_array).cloned().unwrap_or_default();
    let previous: Vec<Condition> =
        listed.iter().filter_map(|condition| serde_json::from_value(condition.clone()).ok()).collect();
    let message = format!("this operator cannot read the resource: {error}; install the definitions of its version");
    let drafts = vec![
        conditions::draft("Ready", false, "Unreadable", message.clone()),
        conditions::draft("Reconciling", false, "Stalled", cluster::status::WAITING_FOR_AN_EDIT),
        conditions::draft("Stalled", true, "Unreadable", message),
    ];
    let ours = conditions::merge(&previous, drafts, generation, now);
    let others = listed
        .into_iter()
        .filter(|old| !ours.iter().any(|new| old.get("type").and_then(Value::as_str) == Some(new.type_.as_str())));
    let all: Vec<Value> =
        ours.iter().map(|condition| serde_json::to_value(condition).expect("plain JSON")).chain(others).collect();
    let mut status = before.clone();
    status["conditions"] = Value::from(all);
    if let Some(generation) = generation {
        status["observedGeneration"] = Value::from(generation);
    }
    status
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::jiff::Timestamp;

    fn at(second: i64) -> Time {
        Time(Timestamp::from_second(second).unwrap())
    }

    #[test]
    fn what_the_status_says_of_other_things_stays() {
        let condition = |type_: &str, status: &str| {
            json!({"type": type_, "status": status, "reason": "Reached", "message": "",
                "lastTransitionTime": "2026-01-01T00:00:00Z", "observedGeneration": 1})
        };
        let before = json!({
            "clusterId": "abc", "version": "0.1.0", "unknownToUs": {"a": [1]},
            "observedGeneration": 1,
            "conditions": [condition("Ready", "True"), condition("Available", "True"), condition("Reconciling", "False")],
        });
        let after = status(&before, Some(2), "missing field `replicas`", &at(10));
        for kept in ["clusterId", "version", "unknownToUs"] {
            assert_eq!(after[kept], before[kept], "{kept}");
        }
        assert_eq!(after["observedGeneration"], 2);
        let said: Vec<String> = after["conditions"]
            .as_array()
            .unwrap()
            .iter()
            .map(|condition| {
                format!("{}={}", condition["type"].as_str().unwrap(), condition["status"].as_str().unwrap())
            })
            .collect();
        assert_eq!(said, ["Ready=False", "Reconciling=False", "Stalled=True", "Available=True"]);

        // Said once, it is not written again.
        assert_eq!(status(&after, Some(2), "missing field `replicas`", &at(99)), after);
    }

    #[test]
    fn a_status_that_is_not_there_is_begun() {
        let after = status(&json!({}), Some(1), "bad", &at(10));
        assert_eq!(after["conditions"].as_array().unwrap().len(), 3);
    }
}
