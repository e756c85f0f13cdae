// SPDX-License-Identifier: Apache-2.0
//! The operator's binary with the rights of the plain install, twice: one works, the other waits and takes
//! over; its memory stays small; one line and an exit code when it cannot start.

#![allow(clippy::unwrap_used)]
#![expect(clippy::print_stdout, reason = "figures for whoever reads the run")]

mod support;

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::api::{Api, DynamicObject, ObjectMeta, Patch, PatchParams, PostParams};
use kube::core::{ApiResource, GroupVersionKind};
use kube::{Client, ResourceExt};
use odradek_crds::{Cluster, Topic};
use odradek_e2e::control_plane::ControlPlane;
use odradek_e2e::{ports, tools};
use support::{small_cluster, until};

/// The goal for the operator at rest, in KiB.
const RESIDENT_KIB_MAX: u64 = 30 * 1024;

struct Process {
    child: Child,
    http: u16,
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Process {
    fn start(kubeconfig: &Path, identity: &str, http: u16) -> Self {
        let child = Command::new(env!("CARGO_BIN_EXE_odradek-operator"))
            .args(["run", "--identity", identity, "--http", &format!("127.0.0.1:{http}")])
            .env("KUBECONFIG", kubeconfig)
            .env("RUST_LOG", "warn")
            .env_remove("POD_NAME")
            .env_remove("POD_NAMESPACE")
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        Self { child, http }
    }

    async fn get(&self, path: &str) -> Option<String> {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", self.http)).await.ok()?;
        stream
            .write_all(format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").as_bytes())
            .await
            .ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.ok()?;
        Some(answer)
    }

    fn resident_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }
}

/// Applies every document of the plain install, as `kubectl apply --server-side -f` does.
async fn install(client: &Client) {
    let yaml = std::fs::read_to_string(tools::project_root().join("manifests/install.yaml")).unwrap();
    let params = PatchParams::apply("kubectl").force();
    for document in yaml.split("\n---\n") {
        if document.lines().all(|line| line.trim().is_empty() || line.starts_with('#')) {
            continue;
        }
        let object: DynamicObject = serde_yaml::from_str(document).unwrap();
        let types = object.types.clone().unwrap();
        let resource = ApiResource::from_gvk(&GroupVersionKind::try_from(&types).unwrap());
        let api: Api<DynamicObject> = match object.namespace() {
            Some(namespace) => Api::namespaced_with(client.clone(), &namespace, &resource),
            None => Api::all_with(client.clone(), &resource),
        };
        api.patch(&object.name_any(), &params, &Patch::Apply(&object))
            .await
            .unwrap_or_else(|error| panic!("{} {}: {error}", types.kind, object.name_any()));
    }
}

async fn the_operators_pod_is_admitted_where_only_restricted_ones_are(client: &Client) {
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let labels = [("pod-security.kubernetes.io/enforce".to_owned(), "restricted".to_owned())].into();
    let restricted = Namespace {
        metadata: ObjectMeta { name: Some("restricted".into()), labels: Some(labels), ..ObjectMeta::default() },
        ..Namespace::default()
    };
    namespaces.create(&PostParams::default(), &restricted).await.unwrap();
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), "odradek-system");
    let template = deployments.get("odradek-operator").await.unwrap().spec.unwrap().template;
    let mut pod = Pod { metadata: template.metadata.unwrap(), spec: template.spec, status: None };
    pod.metadata.name = Some("operator".into());
    // Its account is in another namespace; only what its containers may do is looked at.
    pod.spec.as_mut().unwrap().service_account_name = None;
    let pods: Api<Pod> = Api::namespaced(client.clone(), "restricted");
    pods.create(&PostParams { dry_run: true, ..PostParams::default() }, &pod).await.unwrap();
}

#[tokio::test]
async fn the_binary_works_with_the_rights_of_the_plain_install() {
    let plane = ControlPlane::start().await.unwrap();
    let client = plane.client().await.unwrap();
    install(&client).await;
    the_operators_pod_is_admitted_where_only_restricted_ones_are(&client).await;
    let rights = plane.kubeconfig_for("system:serviceaccount:odradek-system:odradek-operator", None).unwrap();
    let [first_port, second_port] = ports::free().unwrap();
    let mut first = Process::start(&rights, "first", first_port);
    let leases: Api<Lease> = Api::namespaced(client.clone(), "odradek-system");
    let holder = async || {
        let lease = leases.get_opt("odradek-operator").await.unwrap()?;
        lease.spec?.holder_identity
    };
    until("first holds the Lease", async || (holder().await? == "first").then_some(())).await;
    let second = Process::start(&rights, "second", second_port);
    until("second is ready", async || second.get("/readyz").await?.contains("200 OK").then_some(())).await;
    assert!(second.get("/metrics").await.unwrap().contains("odradek_operator_leader 0"));
    assert!(first.get("/metrics").await.unwrap().contains("odradek_operator_leader 1"));

    let namespaces: Api<Namespace> = Api::all(client.clone());
    let shop = Namespace {
        metadata: ObjectMeta { name: Some("shop".into()), ..ObjectMeta::default() },
        ..Namespace::default()
    };
    namespaces.create(&PostParams::default(), &shop).await.unwrap();
    let clusters: Api<Cluster> = Api::namespaced(client.clone(), "shop");
    let topics: Api<Topic> = Api::namespaced(client.clone(), "shop");
    let one: Cluster = serde_yaml::from_str(&small_cluster("one")).unwrap();
    clusters.create(&PostParams::default(), &one).await.unwrap();
    let topic = "{apiVersion: odradek.dev/v1alpha1, kind: Topic, metadata: {name: t}, spec: {clusterRef: {name: one}}}";
    topics.create(&PostParams::default(), &serde_yaml::from_str(topic).unwrap()).await.unwrap();
    let stateful_sets: Api<StatefulSet> = Api::namespaced(client.clone(), "shop");
    until("first makes the Cluster", async || stateful_sets.get_opt("one-0").await.unwrap()).await;
    until("every phase but the broker is reached", async || {
        let cluster = clusters.get("one").await.unwrap();
        let status = cluster.status?;
        status.conditions.iter().find(|c| c.type_ == "ConfigurationApplied" && c.status == "True").map(drop)
    })
    .await;
    until("the Topic says what it waits for", async || {
        let topic = topics.get("t").await.unwrap();
        topic.status?.conditions.iter().find(|c| c.reason == "ClusterNotAvailable").map(drop)
    })
    .await;
    let resident = first.resident_kib();
    println!("the working operator holds {resident} KiB, the waiting one {} KiB", second.resident_kib());
    assert!(resident < RESIDENT_KIB_MAX, "{resident} KiB resident, the goal is {RESIDENT_KIB_MAX}");

    // Gone without a word: the other takes over once the Lease has ended.
    first.child.kill().unwrap();
    let killed = Instant::now();
    until("second holds the Lease", async || (holder().await? == "second").then_some(())).await;
    println!("taken over after {:?}", killed.elapsed());
    let two: Cluster = serde_yaml::from_str(&small_cluster("two")).unwrap();
    clusters.create(&PostParams::default(), &two).await.unwrap();
    until("second makes the next Cluster", async || stateful_sets.get_opt("two-0").await.unwrap()).await;
}

#[test]
fn without_a_cluster_it_says_so_and_fails() {
    let begun = Instant::now();
    let output = Command::new(env!("CARGO_BIN_EXE_odradek-operator"))
        .args(["run", "--http", "127.0.0.1:0"])
        .env("KUBECONFIG", "/nonexistent/kubeconfig")
        .env_remove("KUBERNETES_SERVICE_HOST")
        .output()
        .unwrap();
    assert!(!output.status.success());
    assert!(begun.elapsed() < Duration::from_secs(10));
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("no cluster to work for"), "{text}");
}
