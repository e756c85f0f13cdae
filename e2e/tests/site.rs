// SPDX-License-Identifier: Apache-2.0
//! What scenarios of outages stand on: each thing that can be taken away from a site is away then, nothing else is, and
//! it comes back. Needs root; no broker is started.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::time::{Duration, Instant};

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::ResourceExt as _;
use kube::api::{Api, DeleteParams, PostParams};
use odradek_e2e::command::system;
use odradek_e2e::cuts::{Member, cut, cut_both};
use odradek_e2e::lease_history::LeaseHistory;
use odradek_e2e::pod_identity::PodIdentity;
use odradek_e2e::site::Site;
use odradek_e2e::{kubeconfig, network};
use serde_json::json;

const PATIENCE: Duration = Duration::from_secs(30);

/// Whether a node reaches the API server within two seconds.
async fn reaches_api_server(site: &Site, node: u8) -> bool {
    let (host, port) = site.plane.server().trim_start_matches("https://").split_once(':').unwrap();
    let namespace = format!("--net={}", network::node_namespace(node).display());
    let connect = format!("exec 3<>/dev/tcp/{host}/{port}");
    system("nsenter", [&namespace, "timeout", "2", "bash", "-c", &connect]).await.is_ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_taken_away_is_away_and_comes_back() {
    let mut site = Site::start().await.unwrap();
    cuts(&mut site).await;
    rights(&site).await;
    leases_and_etcd(&mut site).await;
    site.remove().unwrap();
}

async fn cuts(site: &mut Site) {
    let (broker, control) = (Site::machine_of(0), Site::control());
    assert!(reaches_api_server(site, 1).await && reaches_api_server(site, 2).await);
    // A connection needs both directions: each of them alone is enough to break it, and only for these two.
    for (from, to) in [(broker, control), (control, broker)] {
        cut(from, to).await.unwrap();
        assert!(!reaches_api_server(site, 1).await, "{from:?} to {to:?}");
        assert!(reaches_api_server(site, 2).await, "{from:?} to {to:?}");
        site.heal().await.unwrap();
        assert!(reaches_api_server(site, 1).await, "{from:?} to {to:?}");
    }
    cut_both(Member::Host, control).await.unwrap();
    let client = site.plane.client().await.unwrap();
    let asked = tokio::time::timeout(Duration::from_secs(2), client.apiserver_version()).await;
    assert!(!matches!(asked, Ok(Ok(_))), "this machine reaches the API server: {asked:?}");
    assert!(reaches_api_server(site, 1).await);
    site.heal().await.unwrap();
    client.apiserver_version().await.unwrap();
}

/// A broker's token is good for its Leases by name and for nothing else.
async fn rights(site: &Site) {
    let folder = site.folder().join("rights");
    let identity = PodIdentity::create(&site.plane, "rights", "c", "one", 2, &folder).await.unwrap();
    let token = std::fs::read_to_string(identity.folder().join("token")).unwrap();
    let file = json!({
        "clusters": [{"name": "e2e", "cluster": {
            "server": site.plane.server(), "certificate-authority": identity.folder().join("ca.crt"),
        }}],
        "users": [{"name": "e2e", "user": {"token": token}}],
        "contexts": [{"name": "e2e", "context": {"cluster": "e2e", "user": "e2e"}}],
        "current-context": "e2e",
    });
    let path = folder.join("kubeconfig");
    std::fs::write(&path, file.to_string()).unwrap();
    let leases: Api<Lease> = Api::namespaced(kubeconfig::client(&path).await.unwrap(), identity.namespace());
    let lease = leases.get("c-controller").await.unwrap();
    leases.replace("c-controller", &PostParams::default(), &lease).await.unwrap();
    assert!(leases.get_opt("c-broker-1").await.unwrap().is_none());
    let refused = |error: kube::Error| matches!(error, kube::Error::Api(status) if status.code == 403);
    assert!(refused(leases.get("c-broker-2").await.unwrap_err()));
    assert!(refused(leases.list(&kube::api::ListParams::default()).await.unwrap_err()));
    assert!(refused(leases.delete("c-controller", &DeleteParams::default()).await.unwrap_err()));
}

/// The Lease's history has every version, also those of the time in which nobody could watch, and tells when etcd went
/// back.
async fn leases_and_etcd(site: &mut Site) {
    let folder = site.folder().join("history");
    PodIdentity::create(&site.plane, "history", "c", "one", 1, &folder).await.unwrap();
    let client = site.plane.client().await.unwrap();
    let file = folder.join("leases.jsonl");
    let history = LeaseHistory::begin(client.clone(), "history", "c", &file).await.unwrap();
    let leases: Api<Lease> = Api::namespaced(client.clone(), "history");
    write(&leases, "0/a", 1).await;
    let kept: Api<ConfigMap> = Api::namespaced(client, "history");
    let map = |name: &str| serde_json::from_value::<ConfigMap>(json!({"metadata": {"name": name}})).unwrap();
    kept.create(&PostParams::default(), &map("before")).await.unwrap();
    let snapshot = site.plane.snapshot_etcd().unwrap();
    kept.create(&PostParams::default(), &map("after")).await.unwrap();
    write(&leases, "1/b", 2).await;
    site.plane.stop_api_server();
    leases.get("c-controller").await.expect_err("no server answers");
    site.plane.start_api_server().await.unwrap();
    write(&leases, "2/c", 3).await;
    history.wait_for("the third holder is seen", PATIENCE, |version| version.epoch == 3).await.unwrap();
    let epochs: Vec<_> = history.versions().iter().map(|version| version.epoch).collect();
    assert_eq!(epochs, [0, 1, 2, 3]);

    let began = Instant::now();
    history.etcd_goes_back();
    site.plane.restore_etcd(&snapshot).await.unwrap();
    println!("etcd restored in {:?}", began.elapsed());
    assert!(kept.get_opt("after").await.unwrap().is_none());
    assert!(kept.get_opt("before").await.unwrap().is_some());
    let wanted = |version: &odradek_e2e::lease_history::LeaseVersion| version.seen > began && version.epoch == 1;
    history.wait_for("the old version is seen again", PATIENCE, wanted).await.unwrap();
    write(&leases, "0/a", 4).await;
    history.wait_for("what follows is seen", PATIENCE, |version| version.epoch == 4).await.unwrap();
    history.check().unwrap();
    // After the repair nothing may leap any more, but for what a stranger wrote.
    write(&leases, "0/a", 6).await;
    history.wait_for("the leap is seen", PATIENCE, |version| version.epoch == 6).await.unwrap();
    assert!(history.check().unwrap_err().to_string().contains("leapt"));
    history.a_stranger_wrote(&leases.get("c-controller").await.unwrap().resource_version().unwrap());
    history.check().unwrap();
}

async fn write(leases: &Api<Lease>, holder: &str, epoch: i32) {
    let mut lease = leases.get("c-controller").await.unwrap();
    let sequence: i64 = lease.annotations()["odradek.dev/sequence"].parse().unwrap();
    lease.annotations_mut().insert("odradek.dev/sequence".to_owned(), (sequence + 1).to_string());
    let spec = lease.spec.get_or_insert_default();
    (spec.holder_identity, spec.lease_transitions) = (Some(holder.to_owned()), Some(epoch));
    leases.replace("c-controller", &PostParams::default(), &lease).await.unwrap();
}
