// SPDX-License-Identifier: Apache-2.0
//! Clusters on a real API server with garbage collection. No node runs: the tests play pods.

#![allow(clippy::unwrap_used)]

mod support;

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, Pod, Service, ServiceAccount};
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use kube::{Resource, ResourceExt};
use odradek_crds::{Cluster, names};
use odradek_e2e::control_plane::{ControlPlane, ControlPlaneOptions};
use odradek_operator::controllers::{self, Scope};
use serde_json::json;
use support::{Cell, Requests, install_definitions, of_cluster, passes, small_cluster, until};

#[tokio::test]
async fn clusters() {
    let plane = ControlPlane::start_with(ControlPlaneOptions::default().with_garbage_collection()).await.unwrap();
    let client = plane.client().await.unwrap();
    install_definitions(&client).await;
    Box::pin(a_cluster_is_reached_and_then_left_alone(Cell::new(&client, "reached").await)).await;
    a_foreign_object_is_not_taken_over(Cell::new(&client, "foreign").await).await;
    Box::pin(deleting_keeps_the_volume_and_creating_again_adopts_it(Cell::new(&client, "adopted").await)).await;
    volumes_of_a_larger_cluster_stop_everything(Cell::new(&client, "larger").await).await;
    a_new_configuration_replaces_the_pod_and_a_dropped_one_is_dropped(Cell::new(&client, "rolled").await).await;
    the_delete_policy_takes_the_volume_only_once_no_pod_mounts_it(Cell::new(&client, "deleted").await).await;
    Box::pin(a_lost_volume_is_not_replaced_by_an_empty_one(Cell::new(&client, "lost").await)).await;
    what_cannot_be_read_keeps_its_status(Cell::new(&client, "unreadable").await).await;
    what_cannot_be_built_says_so_and_touches_nothing(Cell::new(&client, "refused").await).await;
    a_paused_cluster_is_left_alone(Cell::new(&client, "paused").await).await;
    the_watches_lead_from_creation_to_ready(Cell::new(&client, "watched").await).await;
}

/// Resource versions of everything in the namespace that the operator may write.
async fn versions(cell: &Cell) -> BTreeMap<String, String> {
    async fn of<K>(cell: &Cell, all: &mut BTreeMap<String, String>)
    where
        K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
            + Clone
            + std::fmt::Debug
            + serde::de::DeserializeOwned,
    {
        for object in cell.api::<K>().list(&ListParams::default()).await.unwrap() {
            all.insert(format!("{} {}", K::kind(&()), object.name_any()), object.resource_version().unwrap());
        }
    }
    let mut all = BTreeMap::new();
    of::<Cluster>(cell, &mut all).await;
    of::<StatefulSet>(cell, &mut all).await;
    of::<Service>(cell, &mut all).await;
    of::<ConfigMap>(cell, &mut all).await;
    of::<ServiceAccount>(cell, &mut all).await;
    of::<PersistentVolumeClaim>(cell, &mut all).await;
    of::<PodDisruptionBudget>(cell, &mut all).await;
    of::<Pod>(cell, &mut all).await;
    of::<Event>(cell, &mut all).await;
    all
}

async fn a_cluster_is_reached_and_then_left_alone(cell: Cell) {
    // Quantities as people write them, not as the API server does.
    let yaml = small_cluster("c").replace("size: 1Gi", "size: 1024Mi").replace(
        "  replicas: 1",
        "  resources: {requests: {cpu: '0.5', memory: 1024Mi}, limits: {memory: 1.5Gi}}\n  replicas: 1",
    );
    cell.create::<Cluster>(&yaml).await;
    cell.pass("c").await;
    let cluster = cell.cluster("c").await;
    assert_eq!(of_cluster(&cluster, "Ready"), "False/Pending");
    assert_eq!(of_cluster(&cluster, "Reconciling"), "True/Pending");
    assert_eq!(of_cluster(&cluster, "Stalled"), "False/Progressing");
    for service in ["c-bootstrap", "c-brokers", "c-0"] {
        cell.api::<Service>().get(service).await.unwrap();
    }
    let claim = cell.api::<PersistentVolumeClaim>().get("data-c-0").await.unwrap();
    assert!(claim.owner_references().is_empty(), "a volume is never owned");
    let stateful_set = cell.api::<StatefulSet>().get("c-0").await.unwrap();
    assert!(
        stateful_set.owner_references().iter().any(|owner| owner.kind == "Cluster" && owner.controller == Some(true))
    );

    cell.play_pod("c").await;
    cell.pass("c").await;
    // The pod is ready, but nobody answers: that is not Ready.
    let cluster = cell.cluster("c").await;
    assert_eq!(of_cluster(&cluster, "Ready"), "False/Unreachable");
    assert_eq!(of_cluster(&cluster, "BrokersReady"), "True/Ready");

    cell.kafka.serve(&cell.namespace, "c");
    cell.pass("c").await;
    let cluster = cell.cluster("c").await;
    assert_eq!(of_cluster(&cluster, "Ready"), "True/Reached");
    assert_eq!(of_cluster(&cluster, "Available"), "True/Reached");
    assert_eq!(of_cluster(&cluster, "Reconciling"), "False/Reached");
    let status = cluster.status.as_ref().unwrap();
    assert_eq!(status.observed_generation, cluster.metadata.generation);
    assert!(status.conditions.iter().all(|condition| condition.observed_generation == cluster.metadata.generation));
    assert_eq!(status.listeners[0].bootstrap_servers, "c-bootstrap.reached.svc:9092");
    assert_eq!(status.ready_replicas, Some(1));

    // Applying twice changes nothing: no object, no status, no event, no counted write.
    let before = versions(&cell).await;
    let writes = cell.context.metrics.writes("Cluster");
    let requests = Requests::so_far(&cell.client).await;
    cell.pass("c").await;
    cell.pass("c").await;
    let requests_after = Requests::so_far(&cell.client).await;
    assert_eq!(versions(&cell).await, before);
    assert_eq!(cell.context.metrics.writes("Cluster"), writes);
    assert_eq!(requests_after.writes, requests.writes, "not even a write that changes nothing is sent");
    let reads = requests_after.reads - requests.reads;
    assert!(reads <= 2 * 15, "{reads} reads in two passes");

    // What others add stays, what others change is put back.
    let services = cell.api::<Service>();
    let stray = json!({"metadata": {"annotations": {"someone/else": "yes"}}, "spec": {"ports": [{"port": 9092, "protocol": "TCP", "name": "renamed", "targetPort": 1}]}});
    services.patch("c-bootstrap", &PatchParams::default(), &Patch::Merge(&stray)).await.unwrap();
    cell.pass("c").await;
    let service = services.get("c-bootstrap").await.unwrap();
    assert_eq!(service.annotations()["someone/else"], "yes");
    let ports = service.spec.unwrap().ports.unwrap();
    assert!(ports.iter().any(|port| port.name.as_deref() == Some("plain") && port.port == 9092), "{ports:?}");
    assert!(ports.iter().any(|port| port.port == 9090), "{ports:?}");
}

async fn a_foreign_object_is_not_taken_over(cell: Cell) {
    let stranger: Service = cell
        .create("{apiVersion: v1, kind: Service, metadata: {name: c-bootstrap}, spec: {selector: {a: b}, ports: [{port: 80}]}}")
        .await;
    let volume: PersistentVolumeClaim = cell
        .create("{apiVersion: v1, kind: PersistentVolumeClaim, metadata: {name: data-c-0}, spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 5Gi}}}}")
        .await;
    cell.create::<Cluster>(&small_cluster("c")).await;
    cell.pass("c").await;
    cell.pass("c").await;
    let cluster = cell.cluster("c").await;
    assert_eq!(of_cluster(&cluster, "Stalled"), "True/NameTaken");
    assert_eq!(of_cluster(&cluster, "StorageReady"), "False/NameTaken");
    assert_eq!(of_cluster(&cluster, "ConfigurationApplied"), "False/NameTaken");
    let message = &support::condition(&cluster.status.as_ref().unwrap().conditions, "ConfigurationApplied").message;
    assert!(message.contains("Service c-bootstrap exists and has no controller"), "{message}");
    let after = cell.api::<Service>().get("c-bootstrap").await.unwrap();
    assert_eq!(after.resource_version(), stranger.resource_version());
    let after = cell.api::<PersistentVolumeClaim>().get("data-c-0").await.unwrap();
    assert_eq!(after.resource_version(), volume.resource_version());

    assert!(cell.api::<StatefulSet>().get_opt("c-0").await.unwrap().is_none(), "nothing runs on a stranger's volume");

    // Once the strangers are gone, the way is free.
    cell.api::<Service>().delete("c-bootstrap", &DeleteParams::default()).await.unwrap();
    let params = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    cell.api::<PersistentVolumeClaim>().patch("data-c-0", &PatchParams::default(), &params).await.unwrap();
    cell.api::<PersistentVolumeClaim>().delete("data-c-0", &DeleteParams::default()).await.unwrap();
    gone::<PersistentVolumeClaim>(&cell, "data-c-0").await;
    cell.pass("c").await;
    let cluster = cell.cluster("c").await;
    assert_eq!(of_cluster(&cluster, "ConfigurationApplied"), "True/Applied");
    assert_eq!(of_cluster(&cluster, "Stalled"), "False/Progressing");
}

async fn gone<K>(cell: &Cell, name: &str)
where
    K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
        + Clone
        + std::fmt::Debug
        + serde::de::DeserializeOwned,
{
    until(&format!("{} {name} is gone", K::kind(&())), async || {
        cell.api::<K>().get_opt(name).await.unwrap().is_none().then_some(())
    })
    .await;
}

async fn deleting_keeps_the_volume_and_creating_again_adopts_it(cell: Cell) {
    cell.create::<Cluster>(&small_cluster("c")).await;
    cell.kafka.serve(&cell.namespace, "c");
    cell.pass("c").await;
    cell.play_pod("c").await;
    cell.pass("c").await;
    let first = cell.cluster("c").await;
    let cluster_id = first.status.as_ref().unwrap().cluster_id.clone().unwrap();
    let claim = cell.api::<PersistentVolumeClaim>().get("data-c-0").await.unwrap();
    assert!(first.finalizers().is_empty(), "Retain needs no finalizer");

    cell.api::<Cluster>().delete("c", &DeleteParams::default()).await.unwrap();
    // The next Cluster may come while the first one's objects still go.
    let again: Cluster = cell.create(&small_cluster("c")).await;
    assert_ne!(again.uid(), first.uid());
    until("the earlier objects have gone and were made again", async || {
        cell.pass("c").await;
        let cluster = cell.cluster("c").await;
        (of_cluster(&cluster, "ConfigurationApplied") == "True/Applied").then_some(())
    })
    .await;
    let cluster = cell.cluster("c").await;
    assert_eq!(cluster.status.as_ref().unwrap().cluster_id.as_deref(), Some(cluster_id.as_str()));
    let kept = cell.api::<PersistentVolumeClaim>().get("data-c-0").await.unwrap();
    assert_eq!(kept.uid(), claim.uid());
    assert_eq!(kept.annotations()[names::CLUSTER_ID_ANNOTATION], cluster_id);
    let config = cell.api::<ConfigMap>().get("c-0").await.unwrap();
    assert!(config.data.unwrap()["broker.yaml"].contains(&cluster_id));
}

async fn volumes_of_a_larger_cluster_stop_everything(cell: Cell) {
    for id in 0..3 {
        cell.create::<PersistentVolumeClaim>(&format!(
            "apiVersion: v1
kind: PersistentVolumeClaim
metadata:
  name: data-c-{id}
  labels: {{odradek.dev/cluster: c}}
  annotations: {{odradek.dev/cluster-id: earlier, odradek.dev/broker-id: '{id}', odradek.dev/broker-state: active}}
spec: {{accessModes: [ReadWriteOnce], resources: {{requests: {{storage: 1Gi}}}}}}"
        ))
        .await;
    }
    cell.create::<Cluster>(&small_cluster("c")).await;
    cell.pass("c").await;
    let cluster = cell.cluster("c").await;
    assert_eq!(of_cluster(&cluster, "Stalled"), "True/VolumesFound");
    let message = &support::condition(&cluster.status.as_ref().unwrap().conditions, "Stalled").message;
    assert!(message.contains("set spec.replicas to 3"), "{message}");
    assert!(cell.api::<StatefulSet>().get_opt("c-0").await.unwrap().is_none(), "nothing was started");
}

async fn a_new_configuration_replaces_the_pod_and_a_dropped_one_is_dropped(cell: Cell) {
    cell.create::<Cluster>(&small_cluster("c")).await;
    cell.kafka.serve(&cell.namespace, "c");
    cell.pass("c").await;
    cell.play_pod("c").await;
    cell.pass("c").await;
    assert_eq!(of_cluster(&cell.cluster("c").await, "Ready"), "True/Reached");
    let first = cell.api::<Pod>().get("c-0-0").await.unwrap();

    let clusters = cell.api::<Cluster>();
    let edit = json!({"spec": {"config": {"num.partitions": 3}, "template": {"pod": {"metadata": {"annotations": {"team": "a"}}}}}});
    clusters.patch("c", &PatchParams::default(), &Patch::Merge(&edit)).await.unwrap();
    cell.pass("c").await;
    assert!(cell.api::<ConfigMap>().get("c-0").await.unwrap().data.unwrap()["broker.yaml"].contains("num.partitions"));
    // Its controller has not seen the new template yet: the pod stays.
    assert_eq!(cell.api::<Pod>().get("c-0-0").await.unwrap().uid(), first.uid());
    assert_eq!(of_cluster(&cell.cluster("c").await, "Ready"), "False/Rolling");

    cell.play_stateful_set_controller("c").await;
    cell.pass("c").await;
    gone::<Pod>(&cell, "c-0-0").await;
    cell.pass("c").await;
    assert_eq!(cell.cluster("c").await.status.unwrap().rollout.unwrap().reason, "Creating");
    cell.play_pod("c").await;
    cell.pass("c").await;
    let cluster = cell.cluster("c").await;
    assert_eq!(of_cluster(&cluster, "Ready"), "True/Reached");
    assert_eq!(cluster.status.unwrap().rollout.unwrap().updated, 1);

    // Dropped from the spec, dropped from the object.
    let edit = json!({"spec": {"template": null}});
    clusters.patch("c", &PatchParams::default(), &Patch::Merge(&edit)).await.unwrap();
    cell.pass("c").await;
    let stateful_set = cell.api::<StatefulSet>().get("c-0").await.unwrap();
    let annotations = stateful_set.spec.unwrap().template.metadata.unwrap().annotations.unwrap();
    assert!(!annotations.contains_key("team"), "{annotations:?}");
}

async fn the_delete_policy_takes_the_volume_only_once_no_pod_mounts_it(cell: Cell) {
    let yaml = small_cluster("c").replace("  replicas: 1", "  deletionPolicy: Delete\n  replicas: 1");
    cell.create::<Cluster>(&yaml).await;
    cell.pass("c").await;
    cell.pass("c").await;
    assert_eq!(cell.cluster("c").await.finalizers(), [names::FINALIZER]);
    cell.create::<Pod>(
        "{apiVersion: v1, kind: Pod, metadata: {name: backup}, spec: {securityContext: {runAsNonRoot: true, seccompProfile: {type: RuntimeDefault}}, containers: [{name: a, image: b, securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}}], volumes: [{name: v, persistentVolumeClaim: {claimName: data-c-0}}]}}",
    )
    .await;
    cell.api::<Cluster>().delete("c", &DeleteParams::default()).await.unwrap();
    cell.pass("c").await;
    gone::<StatefulSet>(&cell, "c-0").await;
    cell.pass("c").await;
    let claim = cell.api::<PersistentVolumeClaim>().get("data-c-0").await.unwrap();
    assert!(claim.metadata.deletion_timestamp.is_none(), "a mounted volume is not deleted");
    let cluster = cell.cluster("c").await;
    assert_eq!(of_cluster(&cluster, "Reconciling"), "True/VolumeMounted");
    assert_eq!(of_cluster(&cluster, "Ready"), "False/Deleting");
    let message = &support::condition(&cluster.status.as_ref().unwrap().conditions, "Reconciling").message;
    assert!(message.contains("pod backup mounts PersistentVolumeClaim data-c-0"), "{message}");
    let events = cell.api::<Event>().list(&ListParams::default()).await.unwrap();
    assert!(events.iter().any(|event| event.reason.as_deref() == Some("VolumeMounted")), "{events:?}");
    let before = versions(&cell).await;
    cell.pass("c").await;
    assert_eq!(versions(&cell).await, before, "said once");
    cell.api::<Pod>().delete("backup", &DeleteParams::default().grace_period(0)).await.unwrap();
    gone::<Pod>(&cell, "backup").await;
    cell.pass("c").await;
    let claim = cell.api::<PersistentVolumeClaim>().get_opt("data-c-0").await.unwrap();
    assert!(claim.is_none_or(|claim| claim.metadata.deletion_timestamp.is_some()));
    gone::<Cluster>(&cell, "c").await;
}

async fn a_lost_volume_is_not_replaced_by_an_empty_one(cell: Cell) {
    cell.create::<Cluster>(&small_cluster("c")).await;
    cell.kafka.serve(&cell.namespace, "c");
    cell.pass("c").await;
    cell.play_pod_on("c", Some("node")).await;
    cell.pass("c").await;
    let cluster = cell.cluster("c").await;
    assert_eq!(of_cluster(&cluster, "Ready"), "True/Reached");
    let cluster_id = cluster.status.unwrap().cluster_id.unwrap();
    let claims = cell.api::<PersistentVolumeClaim>();
    let pods = cell.api::<Pod>();
    let pod = pods.get("c-0-0").await.unwrap();

    // Deleted while the pod has it, it stays until the pod goes. A new configuration must not be what ends it.
    claims.delete("data-c-0", &DeleteParams::default()).await.unwrap();
    assert!(claims.get("data-c-0").await.unwrap().metadata.deletion_timestamp.is_some(), "it is protected");
    let edit = Patch::Merge(json!({"spec": {"config": {"num.partitions": 3}}}));
    cell.api::<Cluster>().patch("c", &PatchParams::default(), &edit).await.unwrap();
    cell.pass("c").await;
    cell.play_stateful_set_controller("c").await;
    cell.pass("c").await;
    cell.pass("c").await;
    let kept = pods.get("c-0-0").await.unwrap();
    assert_eq!((kept.uid(), kept.metadata.deletion_timestamp), (pod.uid(), None));
    let cluster = cell.cluster("c").await;
    assert_eq!(of_cluster(&cluster, "StorageReady"), "False/VolumeBeingDeleted");
    assert_eq!(of_cluster(&cluster, "Stalled"), "True/VolumeBeingDeleted");
    assert_eq!(of_cluster(&cluster, "Reconciling"), "False/Stalled");
    assert_eq!(of_cluster(&cluster, "Available"), "True/Reached", "the broker still serves");
    assert_eq!(cluster.status.unwrap().rollout.unwrap().reason, "Blocked");
    assert_eq!(cell.api::<StatefulSet>().get("c-0").await.unwrap().spec.unwrap().replicas, Some(1));

    // Gone all the same: no empty volume takes its place, and no broker is started without one.
    let unprotect = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    claims.patch("data-c-0", &PatchParams::default(), &unprotect).await.unwrap();
    gone::<PersistentVolumeClaim>(&cell, "data-c-0").await;
    cell.pass("c").await;
    assert_eq!(pods.get("c-0-0").await.unwrap().uid(), pod.uid(), "what still runs is left running");
    pods.delete("c-0-0", &DeleteParams::default().grace_period(0)).await.unwrap();
    gone::<Pod>(&cell, "c-0-0").await;
    cell.pass("c").await;
    let cluster = cell.cluster("c").await;
    assert_eq!(of_cluster(&cluster, "Stalled"), "True/VolumeMissing");
    assert_eq!(cluster.status.as_ref().unwrap().cluster_id.as_ref(), Some(&cluster_id));
    let message = &support::condition(&cluster.status.as_ref().unwrap().conditions, "Stalled").message;
    assert!(message.contains(&format!("odradek.dev/cluster-id: {cluster_id}")), "{message}");
    assert!(claims.get_opt("data-c-0").await.unwrap().is_none());
    assert_eq!(cell.api::<StatefulSet>().get("c-0").await.unwrap().spec.unwrap().replicas, Some(0));
    let events = cell.api::<Event>().list(&ListParams::default()).await.unwrap();
    assert!(events.iter().any(|event| event.reason.as_deref() == Some("VolumeMissing")), "{events:?}");
    let before = versions(&cell).await;
    cell.pass("c").await;
    assert_eq!(versions(&cell).await, before, "said once");

    // The StatefulSet is gone too, as after "kubectl delete sts,pvc --all": the status still knows.
    cell.api::<StatefulSet>().delete("c-0", &DeleteParams::default()).await.unwrap();
    gone::<StatefulSet>(&cell, "c-0").await;
    cell.pass("c").await;
    assert_eq!(of_cluster(&cell.cluster("c").await, "Stalled"), "True/VolumeMissing");
    assert!(claims.get_opt("data-c-0").await.unwrap().is_none());
    assert!(cell.api::<StatefulSet>().get_opt("c-0").await.unwrap().is_none());

    // Restored from a copy: first without the annotation, then with it.
    cell.create::<PersistentVolumeClaim>(
        "{apiVersion: v1, kind: PersistentVolumeClaim, metadata: {name: data-c-0}, spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}}",
    )
    .await;
    cell.pass("c").await;
    let cluster = cell.cluster("c").await;
    assert_eq!(of_cluster(&cluster, "Stalled"), "True/NameTaken");
    let message = &support::condition(&cluster.status.as_ref().unwrap().conditions, "Stalled").message;
    assert!(message.contains("if it is the restored volume, annotate it"), "{message}");
    assert!(cell.api::<StatefulSet>().get_opt("c-0").await.unwrap().is_none());
    let annotate = Patch::Merge(json!({"metadata": {"annotations": {names::CLUSTER_ID_ANNOTATION: cluster_id}}}));
    claims.patch("data-c-0", &PatchParams::default(), &annotate).await.unwrap();
    cell.pass("c").await;
    cell.play_pod("c").await;
    cell.pass("c").await;
    let cluster = cell.cluster("c").await;
    assert_eq!(of_cluster(&cluster, "Ready"), "True/Reached");
    assert_eq!(cluster.status.unwrap().cluster_id, Some(cluster_id));
}

async fn what_cannot_be_read_keeps_its_status(cell: Cell) {
    cell.create::<Cluster>(&small_cluster("c")).await;
    cell.pass("c").await;
    let before = cell.cluster("c").await;
    odradek_operator::unreadable::report::<Cluster>(&before.metadata, "missing field `x`", &cell.context).await;
    let after = cell.cluster("c").await;
    assert_eq!(of_cluster(&after, "Stalled"), "True/Unreadable");
    assert_eq!(of_cluster(&after, "Reconciling"), "False/Stalled");
    assert_eq!(of_cluster(&after, "StorageReady"), of_cluster(&before, "StorageReady"));
    let (before, after) = (before.status.unwrap(), after.status.unwrap());
    assert!(before.cluster_id.is_some());
    assert_eq!((after.cluster_id, after.brokers), (before.cluster_id, before.brokers));
    assert_eq!(after.rollout, before.rollout);
}

async fn what_cannot_be_built_says_so_and_touches_nothing(cell: Cell) {
    let yaml = small_cluster("c")
        .replace("replicas: 1", "replicas: 3\n  config: {listeners: x, 'no.such.setting': 1}")
        .replace(env!("CARGO_PKG_VERSION"), "9.9.9");
    cell.create::<Cluster>(&yaml).await;
    cell.pass("c").await;
    let cluster = cell.cluster("c").await;
    assert_eq!(of_cluster(&cluster, "Ready"), "False/ReplicasUnsupported");
    assert_eq!(of_cluster(&cluster, "Stalled"), "True/ReplicasUnsupported");
    assert_eq!(of_cluster(&cluster, "Reconciling"), "False/Stalled");
    let message = &support::condition(&cluster.status.as_ref().unwrap().conditions, "Stalled").message;
    for expected in
        ["spec.replicas: 3", "spec.version: \"9.9.9\" is unknown", "decided by spec.listeners", "no.such.setting"]
    {
        assert!(message.contains(expected), "{expected:?} is not in {message}");
    }
    assert!(cell.api::<StatefulSet>().list(&ListParams::default()).await.unwrap().items.is_empty());
    assert!(cell.api::<PersistentVolumeClaim>().list(&ListParams::default()).await.unwrap().items.is_empty());
    let events = cell.api::<Event>().list(&ListParams::default()).await.unwrap();
    assert!(events.iter().any(|event| event.reason.as_deref() == Some("ReplicasUnsupported")), "{events:?}");
}

async fn a_paused_cluster_is_left_alone(cell: Cell) {
    cell.create::<Cluster>(&small_cluster("c").replace("  replicas: 1", "  paused: true\n  replicas: 1")).await;
    let controllers =
        tokio::spawn(controllers::run(Scope::Namespace(cell.namespace.clone()), Arc::clone(&cell.context)));
    until("it is said to be paused", async || {
        let cluster = cell.cluster("c").await;
        (of_cluster(&cluster, "Ready") == "Unknown/Paused").then_some(())
    })
    .await;
    assert!(cell.api::<StatefulSet>().get_opt("c-0").await.unwrap().is_none());
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    let before = passes(&cell, "Cluster");
    tokio::time::sleep(std::time::Duration::from_secs(5)).await;
    let more = passes(&cell, "Cluster") - before;
    assert!(more < 0.5, "{more} passes over a paused Cluster in 5 s");
    controllers.abort();
}

async fn the_watches_lead_from_creation_to_ready(cell: Cell) {
    let controllers =
        tokio::spawn(controllers::run(Scope::Namespace(cell.namespace.clone()), Arc::clone(&cell.context)));
    cell.kafka.serve(&cell.namespace, "c");
    cell.create::<Cluster>(&small_cluster("c")).await;
    until("the StatefulSet is made", async || cell.api::<StatefulSet>().get_opt("c-0").await.unwrap()).await;
    cell.play_pod("c").await;
    until("the Cluster is Ready", async || {
        let cluster = cell.cluster("c").await;
        (of_cluster(&cluster, "Ready") == "True/Reached").then_some(())
    })
    .await;
    // Nothing turns in circles: after the last change there are no further passes.
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    let before = passes(&cell, "Cluster");
    tokio::time::sleep(std::time::Duration::from_secs(3)).await;
    let more = passes(&cell, "Cluster") - before;
    assert!(more < 1.5, "{more} passes over a converged Cluster in 3 s");
    controllers.abort();
}
