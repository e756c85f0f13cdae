// SPDX-License-Identifier: Apache-2.0
//! The Services of a Cluster: ready brokers, every broker's name, each broker. Pure.

use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use odradek_crds::names;

use super::{ONLY_BROKER, broker_selector, cluster_selector, owned_metadata};
use crate::cluster::validate::Valid;

pub(super) fn services(valid: &Valid) -> Vec<Service> {
    let client_ports = || valid.listeners.iter().map(|listener| port(&listener.name, listener.port));
    let private = || port("private-9090", names::PRIVATE_PORT);
    let http = || port("http-9404", names::HTTP_PORT);
    let brokers_and_operator = || client_ports().chain([private(), http()]).collect::<Vec<_>>();
    let additions = valid.template.service.as_ref().and_then(|service| service.metadata.as_ref());
    let service = |name: String, spec: ServiceSpec| Service {
        metadata: owned_metadata(valid, name, additions),
        spec: Some(spec),
        status: None,
    };
    vec![
        // Ready brokers only: clients begin here, and so does the operator.
        service(
            names::bootstrap_service(&valid.name),
            ServiceSpec {
                type_: Some("ClusterIP".into()),
                ports: Some(client_ports().chain([private()]).collect()),
                selector: Some(cluster_selector(valid)),
                ..ServiceSpec::default()
            },
        ),
        // Names of pods, also before they are ready: brokers find each other here.
        service(
            names::brokers_service(&valid.name),
            ServiceSpec {
                type_: Some("ClusterIP".into()),
                cluster_ip: Some("None".into()),
                publish_not_ready_addresses: Some(true),
                ports: Some(brokers_and_operator()),
                selector: Some(cluster_selector(valid)),
                ..ServiceSpec::default()
            },
        ),
        // The address that the broker advertises.
        service(
            names::broker(&valid.name, ONLY_BROKER),
            ServiceSpec {
                type_: Some("ClusterIP".into()),
                publish_not_ready_addresses: Some(true),
                ports: Some(brokers_and_operator()),
                selector: Some(broker_selector(valid, ONLY_BROKER)),
                ..ServiceSpec::default()
            },
        ),
    ]
}

/// A port with the protocol spelled out: it is part of the key by which ports are merged.
fn port(name: &str, number: i32) -> ServicePort {
    ServicePort {
        name: Some(name.to_owned()),
        port: number,
        protocol: Some("TCP".into()),
        target_port: Some(IntOrString::Int(number)),
        ..ServicePort::default()
    }
}
