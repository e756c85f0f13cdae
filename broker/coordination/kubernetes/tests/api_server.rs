// SPDX-License-Identifier: Apache-2.0
//! The Leases on a real kube-apiserver and etcd, with no other rights than a broker's: get, create, update and watch
//! by name, with a service account's token from a file.

#![allow(clippy::unwrap_used)]

use std::path::PathBuf;
use std::time::{Duration, Instant};

use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use kube::config::{AuthInfo, KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use odradek_coordination::{Holder, LeaseChange, LeaseError, LeaseView, WriteOutcome};
use odradek_coordination_kubernetes::{
    BrokerLease, BrokerLeaseOutcome, KubernetesLease, LeaseSeen, LeaseSettings, LeaseStore, LeaseWatch,
    SEQUENCE_ANNOTATION, first_controller_lease,
};
use odradek_e2e::control_plane::ControlPlane;
use odradek_model::ClusterId;
use serde_json::json;

/// How long anything of these tests may take on a busy machine.
const PATIENCE: Duration = Duration::from_mins(1);
const NAME: &str = "c-controller";
const BROKER: &str = "c-broker-1";
const SETTINGS: LeaseSettings = LeaseSettings { call_deadline: Duration::from_secs(10), ..LeaseSettings::CONTROLLER };

fn cluster_id() -> ClusterId {
    ClusterId::new("one").unwrap()
}

fn holder(text: &str) -> Holder {
    text.parse().unwrap()
}

fn take(view: &LeaseView, by: &str) -> LeaseChange {
    LeaseChange { epoch: view.epoch + 1, holder: Some(holder(by)), voters: view.voters.clone() }
}

fn renew(view: &LeaseView) -> LeaseChange {
    LeaseChange { epoch: view.epoch, holder: view.holder.clone(), voters: view.voters.clone() }
}

fn written(outcome: Result<WriteOutcome, LeaseError>) -> LeaseView {
    match outcome {
        Ok(WriteOutcome::Written(view)) => view,
        other => panic!("{other:?}"),
    }
}

/// A namespace with the rights of `docs/rights.md` and the service account's token in a file.
struct Cell {
    namespace: String,
    admin: Client,
    token: PathBuf,
    config: Config,
    _folder: tempfile::TempDir,
}

impl Cell {
    async fn new(plane: &ControlPlane, namespace: &str) -> Self {
        let admin = plane.client().await.unwrap();
        let create = PostParams::default();
        let object: Namespace = serde_json::from_value(json!({"metadata": {"name": namespace}})).unwrap();
        Api::all(admin.clone()).create(&create, &object).await.unwrap();
        let account: ServiceAccount = serde_json::from_value(json!({"metadata": {"name": "c-broker"}})).unwrap();
        let accounts: Api<ServiceAccount> = Api::namespaced(admin.clone(), namespace);
        accounts.create(&create, &account).await.unwrap();
        let role: Role = serde_json::from_value(json!({
            "metadata": {"name": "c-broker"},
            "rules": [{
                "apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "resourceNames": [NAME, BROKER],
                "verbs": ["get", "create", "update", "watch"],
            }],
        }))
        .unwrap();
        Api::namespaced(admin.clone(), namespace).create(&create, &role).await.unwrap();
        let binding: RoleBinding = serde_json::from_value(json!({
            "metadata": {"name": "c-broker"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "c-broker"},
            "subjects": [{"kind": "ServiceAccount", "name": "c-broker", "namespace": namespace}],
        }))
        .unwrap();
        Api::namespaced(admin.clone(), namespace).create(&create, &binding).await.unwrap();
        let request = TokenRequest {
            spec: TokenRequestSpec { expiration_seconds: Some(3600), ..TokenRequestSpec::default() },
            ..TokenRequest::default()
        };
        let answer = accounts.create_token_request("c-broker", &create, &request).await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let token = folder.path().join("token");
        std::fs::write(&token, answer.status.unwrap().token).unwrap();
        let kubeconfig = Kubeconfig::read_from(plane.kubeconfig()).unwrap();
        let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
        Self { namespace: namespace.to_owned(), admin, token, config, _folder: folder }
    }

    fn store(&self) -> LeaseStore {
        let mut config = self.config.clone();
        config.auth_info = AuthInfo { token_file: Some(self.token.display().to_string()), ..AuthInfo::default() };
        LeaseStore::connect(config, &self.namespace).unwrap()
    }

    fn lease(&self) -> KubernetesLease {
        KubernetesLease::new(self.store(), NAME, cluster_id(), SETTINGS)
    }

    fn leases(&self) -> Api<Lease> {
        Api::namespaced(self.admin.clone(), &self.namespace)
    }

    async fn create_first(&self) {
        self.leases().create(&PostParams::default(), &first_controller_lease(NAME, &cluster_id())).await.unwrap();
    }

    fn broker(&self, incarnation: &str, pod: &str, settings: LeaseSettings) -> BrokerLease {
        let holder = holder(&format!("1/{incarnation}"));
        BrokerLease::new(self.store(), BROKER, cluster_id(), holder, pod, settings)
    }
}

async fn seen(watch: &mut LeaseWatch, what: &str, wanted: impl Fn(&LeaseSeen) -> bool) -> LeaseSeen {
    let begun = Instant::now();
    loop {
        let left = PATIENCE.saturating_sub(begun.elapsed());
        let seen = tokio::time::timeout(left, watch.next()).await.unwrap_or_else(|_| panic!("{what}: not seen"));
        if wanted(&seen) {
            return seen;
        }
    }
}

fn is_view(seen: &LeaseSeen, wanted: &LeaseView) -> bool {
    matches!(seen, LeaseSeen::View(view) if view == wanted)
}

#[tokio::test(flavor = "multi_thread")]
async fn writes_are_compare_and_set_and_lose_when_the_lease_has_changed() {
    let plane = ControlPlane::start().await.unwrap();
    let cell = Cell::new(&plane, "compete").await;
    let (one, two) = (cell.lease(), cell.lease());
    assert_eq!(one.read().await.unwrap(), None);
    cell.create_first().await;
    let first = one.read().await.unwrap().unwrap();
    assert_eq!((first.epoch, first.sequence, &first.holder), (0, 0, &None));
    assert_eq!(two.read().await.unwrap().unwrap(), first);

    // Both take at once: exactly one wins.
    let (a, b) = (take(&first, "1/a"), take(&first, "2/b"));
    let outcomes = tokio::join!(one.compare_and_set(&first, &a), two.compare_and_set(&first, &b));
    let outcomes = [outcomes.0.unwrap(), outcomes.1.unwrap()];
    assert!(outcomes.contains(&WriteOutcome::Refused), "{outcomes:?}");
    let won = outcomes.into_iter().find_map(|outcome| match outcome {
        WriteOutcome::Written(view) => Some(view),
        _ => None,
    });
    let won = won.unwrap();
    assert_eq!((won.epoch, won.sequence, won.uid.as_str()), (1, 1, first.uid.as_str()));
    // Also without the object at hand.
    assert_eq!(cell.lease().compare_and_set(&first, &b).await.unwrap(), WriteOutcome::Refused);
    let renewed = written(cell.lease().compare_and_set(&won, &renew(&won)).await);
    assert_eq!((renewed.epoch, renewed.sequence), (1, 2));

    // Creating meets a Lease; a write over a deleted one makes none; created again it is another.
    let again = LeaseChange { epoch: 2, holder: Some(holder("1/a")), voters: Vec::new() };
    assert_eq!(one.create(&again).await.unwrap(), WriteOutcome::Refused);
    cell.leases().delete(NAME, &DeleteParams::default()).await.unwrap();
    let remembers = cell.lease();
    assert_eq!(one.compare_and_set(&won, &renew(&won)).await.unwrap(), WriteOutcome::Refused);
    assert_eq!(remembers.read().await.unwrap(), None);
    let other = written(one.create(&again).await);
    assert_ne!(other.uid, renewed.uid);
    assert_eq!(remembers.compare_and_set(&renewed, &renew(&renewed)).await.unwrap(), WriteOutcome::Refused);

    // A foreign object is named, and nothing is written over it.
    let spoil = json!({"metadata": {"annotations": {SEQUENCE_ANNOTATION: "many"}}});
    let spoiled = cell.leases().patch(NAME, &PatchParams::default(), &Patch::Merge(&spoil)).await.unwrap();
    let error = one.read().await.unwrap_err();
    assert!(matches!(&error, LeaseError::Malformed(text) if text.contains(SEQUENCE_ANNOTATION)), "{error}");
    let base = LeaseView { version: spoiled.metadata.resource_version.clone().unwrap(), ..other };
    let error = one.compare_and_set(&base, &renew(&base)).await.unwrap_err();
    assert!(matches!(&error, LeaseError::Malformed(text) if text.contains(SEQUENCE_ANNOTATION)), "{error}");
    assert_eq!(cell.leases().get(NAME).await.unwrap(), spoiled);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_outlives_deletion_and_the_api_server() {
    let mut plane = ControlPlane::start().await.unwrap();
    let cell = Cell::new(&plane, "watch").await;
    cell.create_first().await;
    let lease = cell.lease();
    let mut watch = cell.lease().watch();
    let first = lease.read().await.unwrap().unwrap();
    seen(&mut watch, "the first view", |seen| is_view(seen, &first)).await;
    let taken = written(lease.compare_and_set(&first, &take(&first, "1/a")).await);
    seen(&mut watch, "the take", |seen| is_view(seen, &taken)).await;

    cell.leases().delete(NAME, &DeleteParams::default()).await.unwrap();
    seen(&mut watch, "the deletion", |seen| matches!(seen, LeaseSeen::Missing)).await;
    let again = LeaseChange { epoch: 2, holder: Some(holder("1/a")), voters: Vec::new() };
    let other = written(lease.create(&again).await);
    seen(&mut watch, "the new Lease", |seen| is_view(seen, &other)).await;

    plane.stop_api_server();
    seen(&mut watch, "the outage", |seen| matches!(seen, LeaseSeen::Unavailable(_))).await;
    // Never a refusal: nobody said that it was not made.
    let outcome = lease.compare_and_set(&other, &renew(&other)).await.unwrap();
    assert!(matches!(outcome, WriteOutcome::Unknown(_)), "{outcome:?}");
    assert!(matches!(lease.read().await, Err(LeaseError::Unavailable(_))));
    plane.start_api_server().await.unwrap();
    let renewed = written(lease.compare_and_set(&other, &renew(&other)).await);
    seen(&mut watch, "a change after the outage", |seen| is_view(seen, &renewed)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_has_its_lease_until_it_sees_another_holder() {
    let plane = ControlPlane::start().await.unwrap();
    let cell = Cell::new(&plane, "broker").await;
    let quick = LeaseSettings { renew_interval: Duration::from_millis(200), ..LeaseSettings::BROKER };
    let first = cell.broker("a", "pod-1", quick);
    assert_eq!(first.take().await.unwrap(), BrokerLeaseOutcome::Held);
    // Another pod waits; another incarnation in the same pod does not, and the first one stops.
    let elsewhere = cell.broker("x", "pod-2", quick);
    assert_eq!(elsewhere.take().await.unwrap(), BrokerLeaseOutcome::HeldByOther(holder("1/a")));
    let second = cell.broker("b", "pod-1", quick);
    assert_eq!(second.take().await.unwrap(), BrokerLeaseOutcome::Held);
    let stopped = tokio::time::timeout(PATIENCE, first.hold()).await.unwrap();
    assert_eq!(stopped, holder("1/b"));
    first.release().await.unwrap();
    assert_eq!(elsewhere.take().await.unwrap(), BrokerLeaseOutcome::HeldByOther(holder("1/b")));
    // Released, and expired.
    second.release().await.unwrap();
    assert_eq!(elsewhere.take().await.unwrap(), BrokerLeaseOutcome::Held);
    let old = json!({"spec": {"renewTime": "2020-01-01T00:00:00.000000Z"}});
    cell.leases().patch(BROKER, &PatchParams::default(), &Patch::Merge(&old)).await.unwrap();
    assert_eq!(second.take().await.unwrap(), BrokerLeaseOutcome::Held);
}

/// What an etcd shows that was put back to a time before the holder's own start: its holder is gone for good, and the
/// process that runs goes on.
#[tokio::test(flavor = "multi_thread")]
async fn a_holder_from_before_the_own_take_ends_nobody() {
    let plane = ControlPlane::start().await.unwrap();
    let cell = Cell::new(&plane, "put-back").await;
    let quick = LeaseSettings { renew_interval: Duration::from_millis(200), ..LeaseSettings::BROKER };
    let before = cell.broker("a", "pod-1", quick);
    assert_eq!(before.take().await.unwrap(), BrokerLeaseOutcome::Held);
    let old = cell.leases().get(BROKER).await.unwrap();
    let now = cell.broker("b", "pod-1", quick);
    assert_eq!(now.take().await.unwrap(), BrokerLeaseOutcome::Held);

    let mut put_back = cell.leases().get(BROKER).await.unwrap();
    put_back.spec = old.spec;
    cell.leases().replace(BROKER, &PostParams::default(), &put_back).await.unwrap();
    let held = tokio::time::timeout(Duration::from_secs(3), now.hold()).await;
    assert!(held.is_err(), "it stopped for {held:?}");
    let holder_now = cell.leases().get(BROKER).await.unwrap().spec.unwrap().holder_identity;
    assert_eq!(holder_now.as_deref(), Some("1/b"));
    // The one from before, should it still run, stops.
    let stopped = tokio::time::timeout(PATIENCE, before.hold()).await.unwrap();
    assert_eq!(stopped, holder("1/b"));
}

/// A container that starts again in its pod does not wait for an API server that is away. What it finds when that is back
/// is held by its earlier incarnation, which is gone.
#[tokio::test(flavor = "multi_thread")]
async fn who_had_to_start_without_the_lease_takes_it_from_its_earlier_incarnation_and_from_nobody_else() {
    let plane = ControlPlane::start().await.unwrap();
    let cell = Cell::new(&plane, "without").await;
    let quick = LeaseSettings { renew_interval: Duration::from_millis(200), ..LeaseSettings::BROKER };
    let before = cell.broker("a", "pod-1", quick);
    assert_eq!(before.take().await.unwrap(), BrokerLeaseOutcome::Held);
    let elsewhere = cell.broker("x", "pod-2", quick);
    let stopped = tokio::time::timeout(PATIENCE, elsewhere.hold()).await.unwrap();
    assert_eq!(stopped, holder("1/a"));

    let now = cell.broker("b", "pod-1", quick);
    let held = tokio::time::timeout(Duration::from_secs(3), now.hold()).await;
    assert!(held.is_err(), "it stopped for {held:?}");
    let holder_now = cell.leases().get(BROKER).await.unwrap().spec.unwrap().holder_identity;
    assert_eq!(holder_now.as_deref(), Some("1/b"));
    // From then on it is as any other: who takes it next in the same pod ends it.
    let next = cell.broker("c", "pod-1", quick);
    assert_eq!(next.take().await.unwrap(), BrokerLeaseOutcome::Held);
    assert_eq!(tokio::time::timeout(PATIENCE, now.hold()).await.unwrap(), holder("1/c"));
}
