// SPDX-License-Identifier: Apache-2.0
//! What Kubernetes gives to the pods of a cluster's brokers: a namespace, a service account with the rights of
//! `docs/rights.md` and no others, and the folder and the environment by which a process finds the API server.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use k8s_openapi::api::authentication::v1::TokenRequest;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::api::{Api, PostParams};
use serde_json::json;

use crate::control_plane::ControlPlane;

/// How long the token is good for: longer than any run. A kubelet would write a new one before its time.
const TOKEN_SECONDS: i64 = 4 * 3600;

/// The identity of all brokers of one cluster.
#[derive(Debug)]
pub struct PodIdentity {
    folder: PathBuf,
    namespace: String,
    environment: Vec<(String, String)>,
}

impl PodIdentity {
    /// Creates the namespace, the account, its rights to the Leases of `cluster` and of so many brokers, and the
    /// controller Lease as the operator does: of epoch 0, with neither holder nor voters. Its files go into `folder`.
    pub async fn create(
        plane: &ControlPlane,
        namespace: &str,
        cluster: &str,
        cluster_id: &str,
        brokers: u8,
        folder: &Path,
    ) -> Result<Self> {
        let client = plane.client().await?;
        let create = PostParams::default();
        let object: Namespace = serde_json::from_value(json!({"metadata": {"name": namespace}}))?;
        Api::all(client.clone()).create(&create, &object).await?;
        let account = format!("{cluster}-broker");
        let object: ServiceAccount = serde_json::from_value(json!({"metadata": {"name": account}}))?;
        let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), namespace);
        accounts.create(&create, &object).await?;
        let leases: Vec<String> = std::iter::once(controller_lease(cluster))
            .chain((0..brokers).map(|broker| format!("{cluster}-broker-{broker}")))
            .collect();
        let role: Role = serde_json::from_value(json!({
            "metadata": {"name": account},
            "rules": [{
                "apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "resourceNames": leases,
                "verbs": ["get", "create", "update", "watch"],
            }],
        }))?;
        Api::namespaced(client.clone(), namespace).create(&create, &role).await?;
        let binding: RoleBinding = serde_json::from_value(json!({
            "metadata": {"name": account},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": account},
            "subjects": [{"kind": "ServiceAccount", "name": account, "namespace": namespace}],
        }))?;
        Api::namespaced(client.clone(), namespace).create(&create, &binding).await?;
        let first: Lease = serde_json::from_value(first_controller_lease(cluster, cluster_id))?;
        Api::namespaced(client.clone(), namespace).create(&create, &first).await?;

        let request: TokenRequest = serde_json::from_value(
            json!({"metadata": {}, "spec": {"audiences": [], "expirationSeconds": TOKEN_SECONDS}}),
        )?;
        let answer = accounts.create_token_request(&account, &create, &request).await?;
        std::fs::create_dir_all(folder)?;
        std::fs::write(folder.join("token"), answer.status.context("no token")?.token)?;
        std::fs::write(folder.join("ca.crt"), plane.authority().certificate())?;
        std::fs::write(folder.join("namespace"), namespace)?;
        let server = plane.server().trim_start_matches("https://");
        let (host, port) = server.rsplit_once(':').context("the API server's URL has no port")?;
        let environment =
            [("KUBERNETES_SERVICE_HOST", host), ("KUBERNETES_SERVICE_PORT", port), ("POD_NAMESPACE", namespace)];
        let environment = environment.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
        Ok(Self { folder: folder.to_owned(), namespace: namespace.to_owned(), environment })
    }

    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// What every pod of it has in its environment.
    pub fn environment(&self) -> &[(String, String)] {
        &self.environment
    }

    /// The folder that a pod has at `/var/run/secrets/kubernetes.io/serviceaccount`.
    pub fn folder(&self) -> &Path {
        &self.folder
    }
}

/// The name of a cluster's controller Lease.
pub fn controller_lease(cluster: &str) -> String {
    format!("{cluster}-controller")
}

fn first_controller_lease(cluster: &str, cluster_id: &str) -> serde_json::Value {
    json!({
        "metadata": {
            "name": controller_lease(cluster),
            "annotations": {
                "odradek.dev/cluster-id": cluster_id,
                "odradek.dev/sequence": "0",
                "odradek.dev/voters": "",
            },
        },
        "spec": {"leaseTransitions": 0},
    })
}
