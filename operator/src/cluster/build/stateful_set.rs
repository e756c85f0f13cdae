// SPDX-License-Identifier: Apache-2.0
//! The broker's StatefulSet and its pod. Pure. The pod never mentions other brokers, so that a change
//! of theirs does not roll it.

use k8s_openapi::api::apps::v1::{StatefulSet, StatefulSetSpec, StatefulSetUpdateStrategy};
use k8s_openapi::api::core::v1::{
    Capabilities, ConfigMap, ConfigMapVolumeSource, Container, ContainerPort, EmptyDirVolumeSource, EnvVar,
    EnvVarSource, HTTPGetAction, LocalObjectReference, ObjectFieldSelector, PersistentVolumeClaimVolumeSource,
    PodSecurityContext, PodSpec, PodTemplateSpec, Probe, SeccompProfile, SecurityContext, Toleration, Volume,
    VolumeMount,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use odradek_crds::names;
use odradek_crds::template::PodTemplate;

use super::broker_config::{DATA_FOLDER, FILE};
use super::{ONLY_BROKER, broker_selector, labels, owned_metadata};
use crate::cluster::validate::{IMAGE_SOURCE_ANNOTATION, Storage, Valid};
use crate::fingerprint;

/// Where the configuration is mounted.
const CONFIG_FOLDER: &str = "/etc/odradek";
/// Annotation of the pod: its configuration, so that a new one makes a new revision.
const CONFIG_ANNOTATION: &str = "odradek.dev/config";
/// User and group of the image's non-root account.
const USER: i64 = 65532;
/// Time for a clean stop: in-flight requests finish and every log is flushed.
const TERMINATION_SECONDS: i64 = 120;

pub(super) fn stateful_set(valid: &Valid, config_map: &ConfigMap) -> StatefulSet {
    let id = ONLY_BROKER;
    let selector = broker_selector(valid, id);
    let mut metadata = owned_metadata(valid, names::broker(&valid.name, id), None);
    metadata.labels.get_or_insert_default().extend(selector.clone());
    metadata.annotations.get_or_insert_default().extend([
        (IMAGE_SOURCE_ANNOTATION.to_owned(), valid.image_source.clone()),
        // So that the id is known also when volume and status are lost.
        (names::CLUSTER_ID_ANNOTATION.to_owned(), valid.cluster_id.clone()),
    ]);
    StatefulSet {
        metadata,
        spec: Some(StatefulSetSpec {
            // A broker is not started on a volume that is not what it must be.
            replicas: Some(i32::from(!valid.held_back)),
            service_name: Some(names::brokers_service(&valid.name)),
            // The operator decides when a pod is replaced, and no pod waits for another.
            update_strategy: Some(StatefulSetUpdateStrategy {
                type_: Some("OnDelete".into()),
                ..StatefulSetUpdateStrategy::default()
            }),
            pod_management_policy: Some("Parallel".into()),
            revision_history_limit: Some(3),
            selector: LabelSelector { match_labels: Some(selector), ..LabelSelector::default() },
            template: pod_template(valid, config_map),
            // No volumeClaimTemplates: they cannot change, and the operator makes the volume.
            ..StatefulSetSpec::default()
        }),
        status: None,
    }
}

fn pod_template(valid: &Valid, config_map: &ConfigMap) -> PodTemplateSpec {
    let id = ONLY_BROKER;
    let given = valid.template.pod.clone().unwrap_or_default();
    let additions = given.metadata.clone().unwrap_or_default();
    let mut all_labels = additions.labels;
    all_labels.extend(labels(valid));
    all_labels.extend(broker_selector(valid, id));
    let mut annotations = additions.annotations;
    let config = serde_json::to_value(&config_map.data).expect("texts are plain JSON");
    annotations.insert(CONFIG_ANNOTATION.into(), fingerprint::of(&config));
    PodTemplateSpec {
        metadata: Some(ObjectMeta {
            labels: Some(all_labels),
            annotations: Some(annotations),
            ..ObjectMeta::default()
        }),
        spec: Some(pod_spec(valid, &given)),
    }
}

fn pod_spec(valid: &Valid, given: &PodTemplate) -> PodSpec {
    let id = ONLY_BROKER;
    PodSpec {
        service_account_name: Some(names::service_account(&valid.name)),
        // One broker coordinates with nobody through the API server.
        automount_service_account_token: Some(false),
        enable_service_links: Some(false),
        termination_grace_period_seconds: Some(TERMINATION_SECONDS),
        security_context: Some(PodSecurityContext {
            run_as_non_root: Some(true),
            run_as_user: Some(USER),
            run_as_group: Some(USER),
            fs_group: Some(USER),
            // Large volumes would be walked at every start otherwise.
            fs_group_change_policy: Some("OnRootMismatch".into()),
            seccomp_profile: Some(SeccompProfile { type_: "RuntimeDefault".into(), ..SeccompProfile::default() }),
            ..PodSecurityContext::default()
        }),
        node_selector: (!given.node_selector.is_empty()).then(|| given.node_selector.clone()),
        tolerations: (!given.tolerations.is_empty()).then(|| given.tolerations.iter().map(toleration).collect()),
        priority_class_name: given.priority_class_name.clone(),
        image_pull_secrets: (!given.image_pull_secrets.is_empty()).then(|| {
            given.image_pull_secrets.iter().map(|secret| LocalObjectReference { name: secret.name.clone() }).collect()
        }),
        containers: vec![container(valid)],
        volumes: Some(vec![
            data_volume(valid),
            Volume {
                name: "config".into(),
                config_map: Some(ConfigMapVolumeSource {
                    name: names::broker(&valid.name, id),
                    ..ConfigMapVolumeSource::default()
                }),
                ..Volume::default()
            },
        ]),
        ..PodSpec::default()
    }
}

fn container(valid: &Valid) -> Container {
    let client_ports = valid.listeners.iter().map(|listener| container_port(&listener.name, listener.port));
    Container {
        name: "broker".into(),
        image: Some(valid.image.clone()),
        image_pull_policy: valid.image_pull_policy.clone(),
        args: Some(vec!["run".into(), "--config".into(), format!("{CONFIG_FOLDER}/{FILE}")]),
        env: Some(vec![
            from_field("POD_NAME", "metadata.name"),
            from_field("POD_UID", "metadata.uid"),
            from_field("POD_NAMESPACE", "metadata.namespace"),
            from_field("NODE_NAME", "spec.nodeName"),
        ]),
        ports: Some(
            client_ports
                .chain([
                    container_port("private-9090", names::PRIVATE_PORT),
                    container_port("http-9404", names::HTTP_PORT),
                ])
                .collect(),
        ),
        resources: valid.resources.clone(),
        security_context: Some(SecurityContext {
            allow_privilege_escalation: Some(false),
            read_only_root_filesystem: Some(true),
            capabilities: Some(Capabilities { drop: Some(vec!["ALL".into()]), ..Capabilities::default() }),
            ..SecurityContext::default()
        }),
        volume_mounts: Some(vec![
            VolumeMount { name: "data".into(), mount_path: DATA_FOLDER.into(), ..VolumeMount::default() },
            VolumeMount {
                name: "config".into(),
                mount_path: CONFIG_FOLDER.into(),
                read_only: Some(true),
                ..VolumeMount::default()
            },
        ]),
        // `/startupz` and `/livez` succeed for as long as a recovery makes progress, however long it
        // takes; so this only bounds the time until the HTTP port answers.
        startup_probe: Some(probe("/startupz", 1, 60)),
        readiness_probe: Some(probe("/readyz", 2, 2)),
        liveness_probe: Some(probe("/livez", 10, 3)),
        // The last lines of a broker that refuses to start become the status' message.
        termination_message_policy: Some("FallbackToLogsOnError".into()),
        ..Container::default()
    }
}

fn data_volume(valid: &Valid) -> Volume {
    let volume = Volume { name: "data".into(), ..Volume::default() };
    match &valid.storage {
        Storage::PersistentClaim { .. } => Volume {
            persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource {
                claim_name: names::volume_claim(&valid.name, ONLY_BROKER),
                ..PersistentVolumeClaimVolumeSource::default()
            }),
            ..volume
        },
        Storage::Ephemeral { size } => Volume {
            empty_dir: Some(EmptyDirVolumeSource {
                size_limit: size.clone().map(Quantity),
                ..EmptyDirVolumeSource::default()
            }),
            ..volume
        },
    }
}

fn container_port(name: &str, port: i32) -> ContainerPort {
    ContainerPort {
        name: Some(name.to_owned()),
        container_port: port,
        protocol: Some("TCP".into()),
        ..ContainerPort::default()
    }
}

fn from_field(name: &str, path: &str) -> EnvVar {
    EnvVar {
        name: name.into(),
        value_from: Some(EnvVarSource {
            field_ref: Some(ObjectFieldSelector { field_path: path.into(), ..ObjectFieldSelector::default() }),
            ..EnvVarSource::default()
        }),
        ..EnvVar::default()
    }
}

fn probe(path: &str, period_seconds: i32, failure_threshold: i32) -> Probe {
    Probe {
        http_get: Some(HTTPGetAction {
            path: Some(path.into()),
            port: IntOrString::Int(names::HTTP_PORT),
            ..HTTPGetAction::default()
        }),
        period_seconds: Some(period_seconds),
        failure_threshold: Some(failure_threshold),
        timeout_seconds: Some(5),
        ..Probe::default()
    }
}

fn toleration(given: &odradek_crds::template::Toleration) -> Toleration {
    Toleration {
        key: given.key.clone(),
        operator: given.operator.clone(),
        value: given.value.clone(),
        effect: given.effect.clone(),
        toleration_seconds: given.toleration_seconds,
    }
}
