// SPDX-License-Identifier: Apache-2.0
//! The definitions on a real API server: accepted, and each bad sample is refused with the words that
//! help its author. Samples: `bad/*.yaml`, each with its expected words in the first line; a sample
//! of two documents is created with the first and then changed to the second.

#![allow(clippy::unwrap_used)]

mod support;

use kube::Client;
use kube::api::{Api, DynamicObject, PostParams};
use kube::core::ApiResource;
use odradek_crds::{Cluster, Topic};
use odradek_e2e::control_plane::ControlPlane;
use support::{Cell, install_definitions, of_cluster, of_topic, small_cluster};

#[tokio::test]
async fn definitions_are_accepted_and_bad_samples_refused() {
    let plane = ControlPlane::start().await.unwrap();
    let client = plane.client().await.unwrap();
    install_definitions(&client).await;
    let cell = Cell::new(&client, "definitions").await;

    every_status_is_unknown_from_the_first_moment(&cell).await;
    the_samples_of_the_manifests_are_accepted(&cell).await;
    every_bad_sample_is_refused_with_its_words(&cell).await;
}

async fn every_status_is_unknown_from_the_first_moment(cell: &Cell) {
    let cluster: Cluster = cell.create(&small_cluster("early")).await;
    assert_eq!(of_cluster(&cluster, "Ready"), "Unknown/NotReconciled");
    assert_eq!(of_cluster(&cell.cluster("early").await, "Ready"), "Unknown/NotReconciled");
    let topic: Topic = cell
        .create("{apiVersion: odradek.dev/v1alpha1, kind: Topic, metadata: {name: early}, spec: {clusterRef: {name: early}}}")
        .await;
    assert_eq!(of_topic(&topic, "Ready"), "Unknown/NotReconciled");
}

async fn the_samples_of_the_manifests_are_accepted(cell: &Cell) {
    let samples = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../manifests/samples");
    for sample in std::fs::read_dir(samples).unwrap() {
        let path = sample.unwrap().path();
        let yaml = std::fs::read_to_string(&path).unwrap();
        if let Err(error) = create(&cell.client, &cell.namespace, &yaml).await {
            panic!("{}: {error}", path.display());
        }
    }
}

async fn every_bad_sample_is_refused_with_its_words(cell: &Cell) {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/bad");
    let mut samples: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    samples.sort();
    assert!(samples.len() >= 20, "only {} bad samples were found", samples.len());
    let mut faults = Vec::new();
    for path in samples {
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        let text = std::fs::read_to_string(&path).unwrap();
        let expected = text.lines().next().unwrap().trim_start_matches("# ").to_owned();
        let documents: Vec<&str> = text.split("\n---\n").collect();
        let refused = match documents.as_slice() {
            [only] => create(&cell.client, &cell.namespace, only).await.err(),
            [before, after] => {
                if let Err(error) = create(&cell.client, &cell.namespace, before).await {
                    faults.push(format!("{name}: the first document was refused: {error}"));
                    continue;
                }
                replace(&cell.client, &cell.namespace, after).await.err()
            }
            _ => panic!("{name}: one or two documents"),
        };
        match refused {
            None => faults.push(format!("{name}: accepted, expected {expected:?}")),
            Some(error) if !error.contains(&expected) => {
                faults.push(format!("{name}: expected {expected:?}, got {error}"));
            }
            Some(_) => {}
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

fn parse(client: &Client, namespace: &str, yaml: &str) -> (Api<DynamicObject>, DynamicObject) {
    let object: DynamicObject = serde_yaml::from_str(yaml).unwrap();
    let resource = match object.types.as_ref().unwrap().kind.as_str() {
        "Cluster" => ApiResource::erase::<Cluster>(&()),
        "Topic" => ApiResource::erase::<Topic>(&()),
        other => panic!("no kind of ours: {other}"),
    };
    (Api::namespaced_with(client.clone(), namespace, &resource), object)
}

async fn create(client: &Client, namespace: &str, yaml: &str) -> Result<(), String> {
    let (api, object) = parse(client, namespace, yaml);
    api.create(&PostParams::default(), &object).await.map(drop).map_err(|error| error.to_string())
}

async fn replace(client: &Client, namespace: &str, yaml: &str) -> Result<(), String> {
    let (api, mut object) = parse(client, namespace, yaml);
    let live = api.get(object.metadata.name.as_ref().unwrap()).await.unwrap();
    object.metadata.resource_version = live.metadata.resource_version;
    let name = object.metadata.name.clone().unwrap();
    api.replace(&name, &PostParams::default(), &object).await.map(drop).map_err(|error| error.to_string())
}
