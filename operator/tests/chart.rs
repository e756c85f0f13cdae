// SPDX-License-Identifier: Apache-2.0
//! The operator's chart: what it renders is what the plain install holds, the namespaced mode asks for
//! no right over the whole cluster, and wrong values are refused.

#![allow(clippy::unwrap_used)]

use std::process::Command;

use odradek_e2e::tools;
use serde_json::Value;

/// The newest Kubernetes that is tested; a Helm built from source does not know any by itself.
const KUBERNETES: &str = "1.34.0";

fn helm(arguments: &[&str]) -> Result<String, String> {
    let output = Command::new(tools::built("helm").unwrap())
        .args(arguments)
        .current_dir(tools::project_root())
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr) + &text(&output.stdout)) }
}

fn rendered(settings: &[&str]) -> Result<Vec<Value>, String> {
    let mut arguments = vec![
        "template",
        "odradek-operator",
        "charts/odradek-operator",
        "-n",
        "odradek-system",
        "--kube-version",
        KUBERNETES,
    ];
    for setting in settings {
        arguments.extend(["--set", setting]);
    }
    helm(&arguments).map(|yaml| documents(&yaml))
}

/// The documents of a YAML stream, in the order of kind and name.
fn documents(yaml: &str) -> Vec<Value> {
    let mut all: Vec<Value> = yaml
        .split("\n---")
        .map(|document| document.trim_start_matches("---"))
        .filter(|document| document.lines().any(|line| !line.trim().is_empty() && !line.starts_with('#')))
        .map(|document| serde_yaml::from_str(document).unwrap())
        .collect();
    all.sort_by_key(|object| {
        (
            object["kind"].to_string(),
            object["metadata"]["namespace"].to_string(),
            object["metadata"]["name"].to_string(),
        )
    });
    all
}

#[test]
fn the_plain_install_holds_what_the_chart_renders() {
    let plain = std::fs::read_to_string(tools::project_root().join("manifests/operator.yaml")).unwrap();
    let mut plain = documents(&plain);
    plain.retain(|object| object["kind"] != "Namespace");
    assert_eq!(plain, rendered(&[]).unwrap(), "manifests/operator.yaml is not what the chart renders");
}

#[test]
fn charts_pass_the_linter() {
    helm(&["lint", "--strict", "charts/odradek-crds", "charts/odradek-operator"]).unwrap();
}

#[test]
fn the_namespaced_mode_needs_no_right_over_the_whole_cluster() {
    let objects = rendered(&["watchNamespaces={team-a,team-b}"]).unwrap();
    assert!(objects.iter().all(|object| !object["kind"].as_str().unwrap().starts_with("ClusterRole")));
    for namespace in ["team-a", "team-b"] {
        for kind in ["Role", "RoleBinding"] {
            assert!(
                objects.iter().any(|object| object["kind"] == kind && object["metadata"]["namespace"] == namespace),
                "no {kind} in {namespace}"
            );
        }
    }
    let deployment = objects.iter().find(|object| object["kind"] == "Deployment").unwrap();
    let env = deployment["spec"]["template"]["spec"]["containers"][0]["env"].as_array().unwrap();
    let watched = env.iter().find(|entry| entry["name"] == "ODRADEK_WATCH_NAMESPACES").unwrap();
    assert_eq!(watched["value"], "team-a,team-b");
}

#[test]
fn an_empty_registry_and_a_tag_make_the_images() {
    let objects = rendered(&["image.registry=", "image.tag=x", "replicaCount=2"]).unwrap();
    let deployment = objects.iter().find(|object| object["kind"] == "Deployment").unwrap();
    assert_eq!(deployment["spec"]["replicas"], 2);
    assert_eq!(deployment["spec"]["template"]["spec"]["containers"][0]["image"], "odradek-operator:x");
}

#[test]
fn each_value_arrives_where_it_acts() {
    let objects = rendered(&[
        "image.registry=registry.example/team",
        "image.repository=my-operator",
        "image.pullPolicy=Always",
        "logFormat=text",
        "resources.limits.memory=64Mi",
    ])
    .unwrap();
    let deployment = objects.iter().find(|object| object["kind"] == "Deployment").unwrap();
    let container = &deployment["spec"]["template"]["spec"]["containers"][0];
    assert_eq!(container["image"], concat!("registry.example/team/my-operator:", env!("CARGO_PKG_VERSION")));
    assert_eq!(container["imagePullPolicy"], "Always");
    assert_eq!(container["resources"]["limits"]["memory"], "64Mi");
    let env = |name: &str| {
        let all = container["env"].as_array().unwrap();
        all.iter().find(|entry| entry["name"] == name).unwrap()["value"].clone()
    };
    assert_eq!(env("ODRADEK_BROKER_IMAGE"), "registry.example/team/odradek-broker");
    assert_eq!(env("ODRADEK_BROKER_IMAGE_PULL_POLICY"), "Always");
    assert_eq!(env("ODRADEK_LOG_FORMAT"), "text");
    assert_eq!(env("ODRADEK_WATCH_NAMESPACES"), "");
}

#[test]
fn no_right_reaches_further_than_the_docs_say() {
    let objects = rendered(&[]).unwrap();
    for rule in objects
        .iter()
        .filter(|object| object["kind"] == "ClusterRole")
        .flat_map(|role| role["rules"].as_array().unwrap().clone())
    {
        let text = rule.to_string();
        assert!(!text.contains('*') && !text.contains("secrets") && !text.contains("deletecollection"), "{text}");
    }
}

#[test]
fn wrong_values_are_refused_by_name() {
    for (setting, word) in [
        ("logFormat=xml", "logFormat"),
        ("replicaCount=two", "replicaCount"),
        ("image.pullPolicy=Sometimes", "pullPolicy"),
        ("watchNamespaces={Team_A}", "watchNamespaces"),
        ("imagee.tag=1", "imagee"),
    ] {
        let error = rendered(&[setting]).unwrap_err();
        assert!(error.contains(word), "{setting}: {error}");
    }
}
