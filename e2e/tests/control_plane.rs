// SPDX-License-Identifier: Apache-2.0
//! The control plane that the operator's tests stand on: it serves, outlives an outage of
//! kube-apiserver with its data, collects garbage when asked to, and leaves nothing behind.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{DeleteParams, ObjectMeta, PostParams};
use kube::{Api, Resource};
use odradek_e2e::control_plane::{ControlPlane, ControlPlaneOptions};

fn config_map(name: &str) -> ConfigMap {
    ConfigMap {
        metadata: ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() },
        data: Some(BTreeMap::from([("key".to_owned(), "value".to_owned())])),
        ..ConfigMap::default()
    }
}

#[tokio::test]
async fn data_outlives_an_outage_of_the_api_server_and_nothing_is_left_behind() {
    let started = Instant::now();
    let mut plane = ControlPlane::start().await.unwrap();
    println!("control plane ready in {:?}", started.elapsed());
    let folder = plane.logs().parent().unwrap().to_owned();
    let maps: Api<ConfigMap> = Api::namespaced(plane.client().await.unwrap(), "default");
    maps.create(&PostParams::default(), &config_map("kept")).await.unwrap();

    plane.stop_api_server();
    maps.get("kept").await.expect_err("no server answers");
    plane.start_api_server().await.unwrap();
    let kept = maps.get("kept").await.unwrap();
    assert_eq!(kept.data.unwrap()["key"], "value");

    drop(plane);
    assert!(!folder.exists(), "the folder of the control plane is removed");
}

#[tokio::test]
async fn garbage_collection_follows_owner_references() {
    let options = ControlPlaneOptions::default().with_garbage_collection();
    let plane = ControlPlane::start_with(options).await.unwrap();
    let client = plane.client().await.unwrap();
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), "default");
    let owner = maps.create(&PostParams::default(), &config_map("owner")).await.unwrap();
    let mut owned = config_map("owned");
    owned.metadata.owner_references =
        Some(vec![OwnerReference { controller: Some(true), ..owner.owner_ref(&()).unwrap() }]);
    maps.create(&PostParams::default(), &owned).await.unwrap();

    maps.delete("owner", &DeleteParams::default()).await.unwrap();
    let deadline = Instant::now() + Duration::from_mins(1);
    while maps.get_opt("owned").await.unwrap().is_some() {
        assert!(Instant::now() < deadline, "the owned object is still there");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }

    let namespaces: Api<Namespace> = Api::all(client);
    assert!(namespaces.get_opt("default").await.unwrap().is_some());
}
