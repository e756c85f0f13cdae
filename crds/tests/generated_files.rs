// SPDX-License-Identifier: Apache-2.0
//! The generated files are what the types say, and small enough to be applied.

use std::path::Path;

use odradek_crds::render;

/// Of the checkout that the test runs for, which need not be the one that it was built in.
fn root() -> std::path::PathBuf {
    Path::new(&std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it")).join("..")
}

#[test]
fn generated_files_match_the_types() {
    let operator =
        std::fs::read_to_string(root().join("manifests/operator.yaml")).expect("manifests/operator.yaml exists");
    let different: Vec<String> = render::files(&operator)
        .into_iter()
        .filter(|file| std::fs::read_to_string(root().join(&file.path)).ok().as_deref() != Some(file.content.as_str()))
        .map(|file| file.path)
        .collect();
    assert!(different.is_empty(), "out of date: {different:?}; run `cargo run -p odradek-crds --example generate`");
}

#[test]
fn each_definition_is_under_100_kb() {
    for definition in odradek_crds::definitions() {
        let size = serde_json::to_vec(&definition).expect("plain JSON").len();
        assert!(size < 100_000, "{:?} has {size} bytes", definition.metadata.name);
    }
}

#[test]
fn every_status_begins_as_not_reconciled() {
    for definition in odradek_crds::definitions() {
        let json = serde_json::to_value(&definition).expect("plain JSON");
        let status = &json["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["status"];
        for conditions in [&status["default"]["conditions"], &status["properties"]["conditions"]["default"]] {
            assert_eq!(conditions[0]["type"], "Ready");
            assert_eq!(conditions[0]["status"], "Unknown");
            assert_eq!(conditions[0]["reason"], "NotReconciled");
        }
    }
}

#[test]
fn every_list_says_how_it_is_merged_and_every_list_and_string_is_bounded() {
    fn walk(path: &str, schema: &serde_json::Value, faults: &mut Vec<String>) {
        let serde_json::Value::Object(object) = schema else { return };
        match object.get("type").and_then(|t| t.as_str()) {
            Some("array") => {
                if !object.contains_key("x-kubernetes-list-type") {
                    faults.push(format!("{path}: no list type"));
                }
                if !object.contains_key("maxItems") {
                    faults.push(format!("{path}: no maxItems"));
                }
                walk(&format!("{path}[]"), &schema["items"], faults);
            }
            Some("string")
                if !object.contains_key("maxLength")
                    && !object.contains_key("enum")
                    && !object.contains_key("format") =>
            {
                faults.push(format!("{path}: no maxLength"));
            }
            Some("object") => {
                if let Some(properties) = object.get("properties").and_then(|p| p.as_object()) {
                    for (name, field) in properties {
                        walk(&format!("{path}.{name}"), field, faults);
                    }
                }
                if let Some(values) = object.get("additionalProperties") {
                    if !object.contains_key("maxProperties") {
                        faults.push(format!("{path}: no maxProperties"));
                    }
                    walk(&format!("{path}{{}}"), values, faults);
                }
            }
            _ => {}
        }
    }
    let mut faults = Vec::new();
    for definition in odradek_crds::definitions() {
        let json = serde_json::to_value(&definition).expect("plain JSON");
        let properties = &json["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"];
        for part in ["spec", "status"] {
            let kind = &definition.spec.names.kind;
            walk(&format!("{kind}.{part}"), &properties[part], &mut faults);
        }
    }
    assert!(faults.is_empty(), "{faults:#?}");
}
