// SPDX-License-Identifier: Apache-2.0
//! Topics on a real API server; the brokers are played.

#![allow(clippy::unwrap_used)]

mod support;

use std::sync::Arc;

use kube::ResourceExt;
use kube::api::{DeleteParams, Patch, PatchParams};
use odradek_crds::{Cluster, Topic, names};
use odradek_e2e::control_plane::ControlPlane;
use odradek_operator::controllers::{self, Scope};
use odradek_operator::kafka::TopicView;
use serde_json::json;
use support::{Cell, condition, install_definitions, of_topic, passes, small_cluster, until};

#[tokio::test]
async fn topics() {
    let plane = ControlPlane::start().await.unwrap();
    let client = plane.client().await.unwrap();
    install_definitions(&client).await;
    let cell = Cell::new(&client, "topics").await;
    let controllers =
        tokio::spawn(controllers::run(Scope::Namespace(cell.namespace.clone()), Arc::clone(&cell.context)));

    a_topic_waits_for_its_cluster_and_is_then_created(&cell).await;
    an_existing_topic_of_the_same_shape_is_adopted(&cell).await;
    a_difference_is_named_and_nothing_is_changed(&cell).await;
    the_older_of_two_topics_wins(&cell).await;
    another_namespace_is_refused(&cell).await;
    deletion_follows_the_policy(&cell).await;
    a_topic_made_by_others_under_the_name_is_not_deleted(&cell).await;
    deletion_waits_for_brokers_that_are_away_and_says_so(&cell).await;
    a_topic_never_outlives_its_cluster(&cell).await;
    controllers.abort();
}

fn topic(name: &str, rest: &str) -> String {
    format!(
        "apiVersion: odradek.dev/v1alpha1\nkind: Topic\nmetadata: {{name: {name}}}\nspec:\n  clusterRef: {{name: c}}\n{rest}"
    )
}

async fn wait(cell: &Cell, name: &str, type_: &str, expected: &str) -> Topic {
    let mut last = String::new();
    let found = tokio::time::timeout(support::PATIENCE, async {
        loop {
            let topic = cell.api::<Topic>().get(name).await.unwrap();
            let has = topic.status.as_ref().is_some_and(|status| status.conditions.iter().any(|c| c.type_ == type_));
            last = if has { of_topic(&topic, type_) } else { "absent".into() };
            if last == expected {
                return topic;
            }
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
    })
    .await;
    found.unwrap_or_else(|_| panic!("{name}: {type_} is {last}, expected {expected}"))
}

async fn a_topic_waits_for_its_cluster_and_is_then_created(cell: &Cell) {
    cell.create::<Topic>(&topic("orders", "  partitions: 6\n  config: {retention.ms: 1000}\n")).await;
    let waiting = wait(cell, "orders", "Ready", "False/ClusterNotFound").await;
    assert_eq!(of_topic(&waiting, "Reconciling"), "True/ClusterNotFound");
    assert_eq!(of_topic(&waiting, "Stalled"), "False/Progressing");
    // Nothing turns in circles while it waits.
    let before = passes(cell, "Topic");
    tokio::time::sleep(std::time::Duration::from_secs(5)).await;
    let more = passes(cell, "Topic") - before;
    assert!(more < 0.5, "{more} passes over a Topic without a Cluster in 5 s");

    cell.create::<Cluster>(&small_cluster("c")).await;
    wait(cell, "orders", "Ready", "False/ClusterNotAvailable").await;
    cell.kafka.serve(&cell.namespace, "c");
    until("the StatefulSet is made", async || {
        cell.api::<k8s_openapi::api::apps::v1::StatefulSet>().get_opt("c-0").await.unwrap()
    })
    .await;
    cell.play_pod("c").await;

    let ready = wait(cell, "orders", "Ready", "True/Reached").await;
    let status = ready.status.as_ref().unwrap();
    assert_eq!((status.partitions, status.replicas, status.topic_id.as_deref()), (Some(6), Some(1), Some("id1")));
    assert_eq!(status.observed_generation, ready.metadata.generation);
    let made = cell.kafka.topic_of(&cell.namespace, "c", "orders").unwrap();
    assert_eq!(made.config["retention.ms"], "1000");
    assert!(ready.finalizers().is_empty(), "Retain needs no finalizer");
}

async fn an_existing_topic_of_the_same_shape_is_adopted(cell: &Cell) {
    let view = TopicView { id: "found".into(), partitions: 2, replicas: 1, ..TopicView::default() };
    cell.kafka.put_topic(&cell.namespace, "c", "existing_one", view);
    let creations = cell.kafka.creations();
    cell.create::<Topic>(&topic("existing", "  topicName: existing_one\n  partitions: 2\n")).await;
    let adopted = wait(cell, "existing", "Ready", "True/Reached").await;
    assert_eq!(adopted.status.unwrap().topic_id.as_deref(), Some("found"));
    assert_eq!(cell.kafka.creations(), creations);
}

async fn a_difference_is_named_and_nothing_is_changed(cell: &Cell) {
    let edit = json!({"spec": {"partitions": 12}});
    cell.api::<Topic>().patch("orders", &PatchParams::default(), &Patch::Merge(&edit)).await.unwrap();
    let stalled = wait(cell, "orders", "Stalled", "True/ChangeNotSupported").await;
    let conditions = &stalled.status.as_ref().unwrap().conditions;
    let message = &condition(conditions, "Ready").message;
    assert!(message.contains("spec.partitions: the topic has 6, not 12"), "{message}");
    assert_eq!(cell.kafka.topic_of(&cell.namespace, "c", "orders").unwrap().partitions, 6);

    cell.create::<Topic>(&topic("wrong", "  config: {retention.ms: soon, nothing: 1}\n")).await;
    let stalled = wait(cell, "wrong", "Stalled", "True/InvalidConfig").await;
    let message = &condition(&stalled.status.as_ref().unwrap().conditions, "Stalled").message;
    assert!(
        message.contains("spec.config[\"retention.ms\"]") && message.contains("spec.config[\"nothing\"]"),
        "{message}"
    );
}

async fn the_older_of_two_topics_wins(cell: &Cell) {
    cell.create::<Topic>(&topic("first", "  topicName: shared\n")).await;
    wait(cell, "first", "Ready", "True/Reached").await;
    // Ages are whole seconds.
    tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
    cell.create::<Topic>(&topic("second", "  topicName: shared\n  deletionPolicy: Delete\n")).await;
    let second = wait(cell, "second", "Stalled", "True/TopicTaken").await;
    let message = &condition(&second.status.as_ref().unwrap().conditions, "Stalled").message;
    assert!(message.contains("older Topic first"), "{message}");
    // The younger one must not delete what it does not have.
    cell.api::<Topic>().delete("second", &DeleteParams::default()).await.unwrap();
    until("second is gone", async || cell.api::<Topic>().get_opt("second").await.unwrap().is_none().then_some(()))
        .await;
    assert!(cell.kafka.topic_of(&cell.namespace, "c", "shared").is_some());

    // When the older one goes, the younger has its topic at once.
    cell.create::<Topic>(&topic("third", "  topicName: shared\n")).await;
    wait(cell, "third", "Stalled", "True/TopicTaken").await;
    // Its own status has come back by the watch, as it has when people act.
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    cell.api::<Topic>().delete("first", &DeleteParams::default()).await.unwrap();
    wait(cell, "third", "Ready", "True/Reached").await;
}

async fn another_namespace_is_refused(cell: &Cell) {
    let yaml = topic("abroad", "").replace("{name: c}", "{name: c, namespace: elsewhere}");
    cell.create::<Topic>(&yaml).await;
    let refused = wait(cell, "abroad", "Stalled", "True/NamespaceNotAllowed").await;
    let message = &condition(&refused.status.as_ref().unwrap().conditions, "Stalled").message;
    assert!(message.contains("create the Topic in namespace elsewhere"), "{message}");
}

async fn deletion_follows_the_policy(cell: &Cell) {
    cell.create::<Topic>(&topic("goes", "  deletionPolicy: Delete\n")).await;
    let topic_object = wait(cell, "goes", "Ready", "True/Reached").await;
    assert_eq!(cell.api::<Topic>().get("goes").await.unwrap().finalizers(), [names::FINALIZER]);
    assert_eq!(topic_object.topic_name(), "goes");
    cell.api::<Topic>().delete("goes", &DeleteParams::default()).await.unwrap();
    until("goes is gone", async || cell.api::<Topic>().get_opt("goes").await.unwrap().is_none().then_some(())).await;
    assert!(cell.kafka.topic_of(&cell.namespace, "c", "goes").is_none());

    cell.api::<Topic>().delete("existing", &DeleteParams::default()).await.unwrap();
    assert!(cell.kafka.topic_of(&cell.namespace, "c", "existing_one").is_some(), "Retain keeps the topic");
}

async fn a_topic_made_by_others_under_the_name_is_not_deleted(cell: &Cell) {
    cell.create::<Topic>(&topic("mine", "  deletionPolicy: Delete\n")).await;
    wait(cell, "mine", "Ready", "True/Reached").await;
    // Deleted and created anew with Kafka's own tools, after the last pass: the Topic knows the earlier one.
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    let view = TopicView { id: "others".into(), partitions: 1, replicas: 1, ..TopicView::default() };
    cell.kafka.put_topic(&cell.namespace, "c", "mine", view);
    cell.api::<Topic>().delete("mine", &DeleteParams::default()).await.unwrap();
    until("mine is gone", async || cell.api::<Topic>().get_opt("mine").await.unwrap().is_none().then_some(())).await;
    assert!(cell.kafka.topic_of(&cell.namespace, "c", "mine").is_some());
}

async fn deletion_waits_for_brokers_that_are_away_and_says_so(cell: &Cell) {
    cell.create::<Topic>(&topic("waits", "  deletionPolicy: Delete\n")).await;
    wait(cell, "waits", "Ready", "True/Reached").await;
    cell.kafka.silence(&cell.namespace, "c");
    cell.api::<Topic>().delete("waits", &DeleteParams::default()).await.unwrap();
    let waiting = wait(cell, "waits", "Reconciling", "True/DeletionFailed").await;
    let message = &condition(&waiting.status.as_ref().unwrap().conditions, "Reconciling").message;
    assert!(message.contains("set spec.deletionPolicy to Retain"), "{message}");

    // Known to be away, they are not even asked.
    let away = json!({"apiVersion": "odradek.dev/v1alpha1", "kind": "Cluster", "metadata": {"name": "c"}, "status": {"conditions": [
        {"type": "Available", "status": "False", "reason": "Unreachable", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"},
    ]}});
    let params = PatchParams::apply("test").force();
    cell.api::<Cluster>().patch_status("c", &params, &Patch::Apply(&away)).await.unwrap();
    wait(cell, "waits", "Reconciling", "True/ClusterNotAvailable").await;
    let before = passes(cell, "Topic");
    tokio::time::sleep(std::time::Duration::from_secs(3)).await;
    assert!(passes(cell, "Topic") - before < 1.5, "{} passes while waiting", passes(cell, "Topic") - before);

    cell.kafka.serve(&cell.namespace, "c");
    cell.pass("c").await;
    until("waits is gone", async || cell.api::<Topic>().get_opt("waits").await.unwrap().is_none().then_some(())).await;
    assert!(cell.kafka.topic_of(&cell.namespace, "c", "waits").is_none());
}

async fn a_topic_never_outlives_its_cluster(cell: &Cell) {
    cell.create::<Topic>(&topic("last", "  deletionPolicy: Delete\n")).await;
    wait(cell, "last", "Ready", "True/Reached").await;
    cell.api::<Cluster>().delete("c", &DeleteParams::default()).await.unwrap();
    wait(cell, "last", "Ready", "False/ClusterNotFound").await;
    cell.api::<Topic>().delete("last", &DeleteParams::default()).await.unwrap();
    until("last is gone", async || cell.api::<Topic>().get_opt("last").await.unwrap().is_none().then_some(())).await;
}
