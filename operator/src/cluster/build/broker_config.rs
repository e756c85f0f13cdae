// SPDX-License-Identifier: Apache-2.0
//! The broker's configuration file, in a ConfigMap. Pure.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ConfigMap;
use odradek_crds::names;
use serde::Serialize;

use super::{ONLY_BROKER, owned_metadata};
use crate::cluster::validate::Valid;

/// The file's name in the ConfigMap.
pub(super) const FILE: &str = "broker.yaml";
/// Where the broker keeps its data.
pub(super) const DATA_FOLDER: &str = "/var/lib/odradek";
/// The private listener's name: outside what a user's listener can be called.
const PRIVATE_LISTENER: &str = "PRIVATE";

/// The file as `broker/runtime` reads it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct BrokerConfig<'a> {
    cluster_id: &'a str,
    broker_id: i32,
    data_folder: &'a str,
    listeners: Vec<BrokerListener>,
    http: String,
    log: LogConfig,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    config: &'a BTreeMap<String, String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct BrokerListener {
    name: String,
    bind: String,
    advertised: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct LogConfig {
    format: &'static str,
}

pub(super) fn config_map(valid: &Valid) -> ConfigMap {
    let id = ONLY_BROKER;
    let host = names::advertised_host(&valid.name, &valid.namespace, id);
    let listener = |name: &str, port: i32| BrokerListener {
        name: name.to_owned(),
        bind: format!("0.0.0.0:{port}"),
        advertised: format!("{host}:{port}"),
    };
    let file = BrokerConfig {
        cluster_id: &valid.cluster_id,
        broker_id: id,
        data_folder: DATA_FOLDER,
        listeners: valid
            .listeners
            .iter()
            .map(|client| listener(&client.name, client.port))
            .chain([listener(PRIVATE_LISTENER, names::PRIVATE_PORT)])
            .collect(),
        http: format!("0.0.0.0:{}", names::HTTP_PORT),
        log: LogConfig { format: "json" },
        config: &valid.config,
    };
    let yaml = serde_yaml::to_string(&file).expect("texts and numbers are always valid YAML");
    ConfigMap {
        metadata: owned_metadata(valid, names::broker(&valid.name, id), None),
        data: Some([(FILE.to_owned(), yaml)].into()),
        ..ConfigMap::default()
    }
}
