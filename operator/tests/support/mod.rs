// SPDX-License-Identifier: Apache-2.0
//! What the tests against a real API server share: definitions installed, a namespace each, a played
//! Kafka, and hands that do what StatefulSet controller, kubelet and provisioner would do.

#![allow(dead_code, unreachable_pub, clippy::unwrap_used, clippy::missing_panics_doc)]

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{Namespace, PersistentVolumeClaim, Pod};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, OwnerReference};
use kube::api::{Api, ObjectMeta, Patch, PatchParams, PostParams};
use kube::{Client, ResourceExt};
use odradek_crds::{Cluster, Topic, names};
use odradek_operator::cluster;
use odradek_operator::context::{BrokerImages, Context};
use odradek_operator::fingerprint;
use odradek_operator::kafka::{Answer, ClusterKey, ClusterView, Kafka, KafkaError, NewTopic, TopicView};
use odradek_operator::metrics::Metrics;
use serde_json::json;

/// How long anything of these tests may take on a busy machine. The garbage collector looks for kinds that are new to
/// it every 30 s, and only then removes what their objects owned; twice that, and a busy machine's delay.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// Installs the definitions as a user does, and waits until they are served.
pub async fn install_definitions(client: &Client) {
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    for definition in odradek_crds::definitions() {
        let name = definition.name_any();
        api.patch(&name, &PatchParams::apply("test").force(), &Patch::Apply(&definition)).await.unwrap();
        let begun = Instant::now();
        loop {
            let live = api.get(&name).await.unwrap();
            let conditions = live.status.and_then(|status| status.conditions).unwrap_or_default();
            if conditions.iter().any(|condition| condition.type_ == "Established" && condition.status == "True") {
                break;
            }
            assert!(begun.elapsed() < PATIENCE, "{name} is not established: {conditions:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    // Established comes a moment before the first request is served everywhere.
    let clusters: Api<Cluster> = Api::all(client.clone());
    let topics: Api<Topic> = Api::all(client.clone());
    let begun = Instant::now();
    while clusters.list(&kube::api::ListParams::default()).await.is_err()
        || topics.list(&kube::api::ListParams::default()).await.is_err()
    {
        assert!(begun.elapsed() < PATIENCE, "the resources are not served");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Brokers that are played: reachable once they are said to serve.
#[derive(Default)]
pub struct PlayedKafka {
    state: Mutex<Played>,
}

#[derive(Default)]
struct Played {
    serving: HashMap<ClusterKey, ClusterView>,
    topics: HashMap<(ClusterKey, String), TopicView>,
    creations: u32,
    deletions: u32,
}

impl PlayedKafka {
    pub fn serve(&self, namespace: &str, name: &str) {
        let view = ClusterView { cluster_id: "played".into(), brokers: vec![0], offline_partitions: vec![] };
        self.state.lock().unwrap().serving.insert(key(namespace, name), view);
    }

    /// The brokers cannot be reached any more.
    pub fn silence(&self, namespace: &str, name: &str) {
        self.state.lock().unwrap().serving.remove(&key(namespace, name));
    }

    pub fn put_topic(&self, namespace: &str, cluster: &str, name: &str, view: TopicView) {
        self.state.lock().unwrap().topics.insert((key(namespace, cluster), name.into()), view);
    }

    pub fn topic_of(&self, namespace: &str, cluster: &str, name: &str) -> Option<TopicView> {
        self.state.lock().unwrap().topics.get(&(key(namespace, cluster), name.into())).cloned()
    }

    pub fn creations(&self) -> u32 {
        self.state.lock().unwrap().creations
    }

    fn reached<T>(&self, cluster: &ClusterKey, f: impl FnOnce(&mut Played) -> T) -> Result<T, KafkaError> {
        let mut state = self.state.lock().unwrap();
        if !state.serving.contains_key(cluster) {
            return Err(KafkaError::Unreachable { address: "played:9090".into(), reason: "connection refused".into() });
        }
        Ok(f(&mut state))
    }
}

pub fn key(namespace: &str, name: &str) -> ClusterKey {
    ClusterKey { namespace: namespace.into(), name: name.into() }
}

impl Kafka for PlayedKafka {
    fn view<'a>(&'a self, cluster: &'a ClusterKey) -> Answer<'a, ClusterView> {
        Box::pin(async move { self.reached(cluster, |state| state.serving[cluster].clone()) })
    }

    fn topic<'a>(&'a self, cluster: &'a ClusterKey, name: &'a str) -> Answer<'a, Option<TopicView>> {
        Box::pin(async move {
            self.reached(cluster, |state| state.topics.get(&(cluster.clone(), name.to_owned())).cloned())
        })
    }

    fn create_topic<'a>(&'a self, cluster: &'a ClusterKey, topic: &'a NewTopic) -> Answer<'a, ()> {
        Box::pin(async move {
            self.reached(cluster, |state| {
                state.creations += 1;
                let view = TopicView {
                    id: format!("id{}", state.creations),
                    partitions: topic.partitions.unwrap_or(1),
                    replicas: topic.replicas.unwrap_or(1),
                    config: topic.config.clone(),
                };
                state.topics.insert((cluster.clone(), topic.name.clone()), view);
            })
        })
    }

    fn delete_topic<'a>(&'a self, cluster: &'a ClusterKey, id: &'a str) -> Answer<'a, bool> {
        Box::pin(async move {
            self.reached(cluster, |state| {
                state.deletions += 1;
                let before = state.topics.len();
                state.topics.retain(|(of, _), topic| of != cluster || topic.id != id);
                state.topics.len() < before
            })
        })
    }

    fn forget(&self, _: &ClusterKey) {}
}

/// A namespace of a test's own, with the operator's context.
pub struct Cell {
    pub client: Client,
    pub namespace: String,
    pub kafka: Arc<PlayedKafka>,
    pub context: Arc<Context>,
}

impl Cell {
    pub async fn new(client: &Client, namespace: &str) -> Self {
        let namespaces: Api<Namespace> = Api::all(client.clone());
        // What the operator makes is admitted also where only restricted pods are.
        let labels = [("pod-security.kubernetes.io/enforce".to_owned(), "restricted".to_owned())].into();
        let object = Namespace {
            metadata: ObjectMeta { name: Some(namespace.into()), labels: Some(labels), ..ObjectMeta::default() },
            ..Namespace::default()
        };
        namespaces.create(&PostParams::default(), &object).await.unwrap();
        let kafka = Arc::new(PlayedKafka::default());
        let images = BrokerImages { repository: "localhost/odradek-broker".into(), pull_policy: None };
        let port: Arc<dyn Kafka> = Arc::<PlayedKafka>::clone(&kafka);
        let context = Arc::new(Context::new(client.clone(), port, images, Metrics::default(), "test"));
        Self { client: client.clone(), namespace: namespace.into(), kafka, context }
    }

    pub fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Creates what a YAML text says.
    pub async fn create<K>(&self, yaml: &str) -> K
    where
        K: kube::Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
            + Clone
            + std::fmt::Debug
            + serde::Serialize
            + serde::de::DeserializeOwned,
    {
        let object: K = serde_yaml::from_str(yaml).unwrap();
        self.api::<K>().create(&PostParams::default(), &object).await.unwrap()
    }

    /// One pass over the Cluster as it is now.
    pub async fn pass(&self, name: &str) {
        let cluster = self.api::<Cluster>().get(name).await.unwrap();
        Box::pin(cluster::reconcile(Arc::new(cluster), Arc::clone(&self.context))).await.unwrap();
    }

    pub async fn cluster(&self, name: &str) -> Cluster {
        self.api::<Cluster>().get(name).await.unwrap()
    }

    /// Does what provisioner, StatefulSet controller and kubelet would do, up to a ready pod. It has no node, so
    /// that it goes at once when it is deleted.
    pub async fn play_pod(&self, cluster: &str) {
        self.play_pod_on(cluster, None).await;
    }

    /// As [`Self::play_pod`], on a node of this name: such a pod goes only without a grace period.
    pub async fn play_pod_on(&self, cluster: &str, node: Option<&str>) {
        let claims = self.api::<PersistentVolumeClaim>();
        if let Some(claim) = claims.get_opt(&names::volume_claim(cluster, 0)).await.unwrap() {
            let requests = claim.spec.unwrap().resources.unwrap().requests.unwrap();
            let patch = json!({"status": {"phase": "Bound", "capacity": {"storage": requests["storage"]}}});
            let name = names::volume_claim(cluster, 0);
            claims.patch_status(&name, &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
        }
        let stateful_set = self.play_stateful_set_controller(cluster).await;
        let pod = json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": names::pod(cluster, 0)},
        });
        let mut pod: Pod = serde_json::from_value(pod).unwrap();
        let template = stateful_set.spec.as_ref().unwrap().template.clone();
        let mut metadata = template.metadata.unwrap();
        let revision = stateful_set.status.as_ref().unwrap().update_revision.clone().unwrap();
        metadata.labels.as_mut().unwrap().insert("controller-revision-hash".into(), revision);
        metadata.name = Some(names::pod(cluster, 0));
        metadata.owner_references = Some(vec![OwnerReference {
            api_version: "apps/v1".into(),
            kind: "StatefulSet".into(),
            name: stateful_set.name_any(),
            uid: stateful_set.uid().unwrap(),
            controller: Some(true),
            block_owner_deletion: Some(true),
        }]);
        pod.metadata = metadata;
        pod.spec = template.spec;
        pod.spec.as_mut().unwrap().node_name = node.map(str::to_owned);
        let pods = self.api::<Pod>();
        pods.create(&PostParams::default(), &pod).await.unwrap();
        let ready = json!({"status": {
            "phase": "Running",
            "conditions": [{"type": "Ready", "status": "True"}],
            "containerStatuses": [{"name": "broker", "ready": true, "restartCount": 0, "image": "i", "imageID": "i", "state": {"running": {}}}],
        }});
        pods.patch_status(&names::pod(cluster, 0), &PatchParams::default(), &Patch::Merge(&ready)).await.unwrap();
    }

    /// Says in the StatefulSet's status which revision its template is.
    pub async fn play_stateful_set_controller(&self, cluster: &str) -> StatefulSet {
        let stateful_sets = self.api::<StatefulSet>();
        let name = names::broker(cluster, 0);
        let live = stateful_sets.get(&name).await.unwrap();
        let template = serde_json::to_value(&live.spec.as_ref().unwrap().template).unwrap();
        let patch = json!({"status": {
            "replicas": 1,
            "observedGeneration": live.metadata.generation,
            "updateRevision": format!("{name}-{}", fingerprint::of(&template)),
        }});
        stateful_sets.patch_status(&name, &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap()
    }
}

/// Requests that the API server has answered for what the operator reads and writes, by its own count.
pub struct Requests {
    pub reads: u64,
    pub writes: u64,
}

impl Requests {
    pub async fn so_far(client: &Client) -> Self {
        let request = kube::core::Request::new("/metrics").list(&kube::api::ListParams::default()).unwrap();
        let metrics = client.request_text(request).await.unwrap();
        let mut sum = Self { reads: 0, writes: 0 };
        let resources = [
            "clusters",
            "topics",
            "statefulsets",
            "services",
            "configmaps",
            "serviceaccounts",
            "persistentvolumeclaims",
            "pods",
            "poddisruptionbudgets",
            "events",
        ];
        for line in metrics.lines().filter(|line| line.starts_with("apiserver_request_total{")) {
            let label = |name: &str| {
                let from = line.find(&format!("{name}=\""))? + name.len() + 2;
                line[from..].split('"').next()
            };
            if !resources.contains(&label("resource").unwrap_or_default()) {
                continue;
            }
            let count = line.rsplit(' ').next().unwrap().parse::<f64>().unwrap() as u64;
            match label("verb").unwrap() {
                "GET" | "LIST" => sum.reads += count,
                "WATCH" => {}
                _ => sum.writes += count,
            }
        }
        sum
    }
}

/// Passes over resources of a kind so far.
pub fn passes(cell: &Cell, kind: &str) -> f64 {
    let text = cell.context.metrics.render();
    let series = format!("odradek_operator_reconciles_total{{kind=\"{kind}\"}}");
    text.lines().find_map(|line| line.strip_prefix(&series)).map_or(0.0, |count| count.trim().parse::<f64>().unwrap())
}

/// The condition of a type.
pub fn condition<'a>(conditions: &'a [Condition], type_: &str) -> &'a Condition {
    conditions
        .iter()
        .find(|condition| condition.type_ == type_)
        .unwrap_or_else(|| panic!("no condition {type_} in {conditions:#?}"))
}

/// `status/reason` of a Cluster's condition.
pub fn of_cluster(cluster: &Cluster, type_: &str) -> String {
    let condition = condition(&cluster.status.as_ref().unwrap().conditions, type_);
    format!("{}/{}", condition.status, condition.reason)
}

/// `status/reason` of a Topic's condition.
pub fn of_topic(topic: &Topic, type_: &str) -> String {
    let condition = condition(&topic.status.as_ref().unwrap().conditions, type_);
    format!("{}/{}", condition.status, condition.reason)
}

/// Waits until `look` gives something.
pub async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(begun.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// A Cluster of the smallest form.
pub fn small_cluster(name: &str) -> String {
    format!(
        "apiVersion: odradek.dev/v1alpha1
kind: Cluster
metadata: {{name: {name}}}
spec:
  version: {}
  replicas: 1
  listeners: [{{name: plain, port: 9092, type: internal}}]
  storage: {{type: persistent-claim, volumes: [{{id: 0, size: 1Gi}}]}}
",
        env!("CARGO_PKG_VERSION")
    )
}
