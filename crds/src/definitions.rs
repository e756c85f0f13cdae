// SPDX-License-Identifier: Apache-2.0
//! The CustomResourceDefinitions as the API server gets them. Pure.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;
use serde_json::{Value, json};

use crate::{Cluster, Topic};

/// Every definition, in the order in which they are installed.
///
/// What the derive yields is finished here: `nullable` goes (a null is dropped anyway), and
/// `status` gets its default, so that whoever waits for `Ready` sees `Unknown`, not nothing,
/// from the first second on.
pub fn definitions() -> Vec<CustomResourceDefinition> {
    [Cluster::crd(), Topic::crd()]
        .into_iter()
        .map(|derived| {
            let mut json = serde_json::to_value(derived).expect("a CustomResourceDefinition is plain JSON");
            let schema = &mut json["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
            drop_nullable(schema);
            let status = &mut schema["properties"]["status"];
            status["default"] = json!({"conditions": initial_conditions()});
            status["properties"]["conditions"]["default"] = initial_conditions();
            status["description"] = json!("What the operator found and did.");
            schema["properties"]["spec"]["description"] = json!("What is asked for.");
            serde_json::from_value(json).expect("the finished schema keeps the definition's shape")
        })
        .collect()
}

/// The conditions of a resource that the operator has not looked at yet.
fn initial_conditions() -> Value {
    json!([{
        "type": "Ready",
        "status": "Unknown",
        "reason": "NotReconciled",
        "message": "the operator has not looked at this resource yet",
        "lastTransitionTime": "1970-01-01T00:00:00Z",
    }])
}

/// Removes `nullable: true` from schemas, but not from a field that happens to have that name.
fn drop_nullable(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            if fields.get("nullable").is_some_and(Value::is_boolean) {
                fields.remove("nullable");
            }
            fields.values_mut().for_each(drop_nullable);
        }
        Value::Array(items) => items.iter_mut().for_each(drop_nullable),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
