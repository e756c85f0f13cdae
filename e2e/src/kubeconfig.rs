// SPDX-License-Identifier: Apache-2.0
//! Kubeconfig files for the admin of a test cluster and for its components.

use std::path::Path;

use anyhow::{Context, Result};
use k8s_openapi::ByteString;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde_json::json;

use crate::certificates::Identity;

/// A kubeconfig as JSON (which is YAML) with everything embedded.
pub fn render(server: &str, authority: &str, identity: &Identity) -> String {
    json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "e2e", "cluster": {"server": server, "certificate-authority-data": base64(authority)}}],
        "users": [{"name": "e2e", "user": {
            "client-certificate-data": base64(&identity.certificate),
            "client-key-data": base64(&identity.key),
        }}],
        "contexts": [{"name": "e2e", "context": {"cluster": "e2e", "user": "e2e"}}],
        "current-context": "e2e",
    })
    .to_string()
}

fn base64(pem: &str) -> ByteString {
    ByteString(pem.as_bytes().to_vec())
}

/// A client of the cluster that the file names.
pub async fn client(kubeconfig: &Path) -> Result<Client> {
    install_tls_provider();
    let file = Kubeconfig::read_from(kubeconfig).with_context(|| format!("{} cannot be read", kubeconfig.display()))?;
    let config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await?;
    Ok(Client::try_from(config)?)
}

/// The process's TLS provider. An error means that the test itself has chosen one already.
fn install_tls_provider() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
}
