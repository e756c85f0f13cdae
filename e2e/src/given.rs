// SPDX-License-Identifier: Apache-2.0
//! A cluster that `E2E_KUBECONFIG` names: somebody else's, whose nodes and network are elsewhere. What the scenarios
//! make there carries a label and goes at the end, or before the next run; what is there already is never touched.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tokio::process::Command;

use crate::command::output;
use crate::product::{OPERATOR_NAMESPACE, TEST_LABEL};
use crate::tools;

/// Namespaces go in seconds; their pods are given a grace period of up to two minutes.
const PATIENCE: Duration = Duration::from_mins(4);
const DEFINITIONS: [&str; 2] = ["clusters.odradek.dev", "topics.odradek.dev"];

/// A given cluster.
#[derive(Debug)]
pub struct GivenCluster {
    kubeconfig: PathBuf,
}

impl GivenCluster {
    /// Removes what a killed run left there. An error if Odradek is installed that no test has installed.
    pub async fn prepare(kubeconfig: &Path) -> Result<Self> {
        ensure!(
            kubeconfig.is_absolute(),
            "E2E_KUBECONFIG has to be an absolute path, not {}: tests run in a folder of their own",
            kubeconfig.display()
        );
        let given = Self { kubeconfig: kubeconfig.to_owned() };
        let namespace = given.get(&["namespace", OPERATOR_NAMESPACE]).await?;
        let definitions =
            given.get(&["customresourcedefinitions", "--field-selector", "metadata.name=clusters.odradek.dev"]).await?;
        let installed = !namespace.is_null() || definitions["items"].as_array().is_some_and(|list| !list.is_empty());
        ensure!(
            !installed || is_ours(&namespace),
            "the cluster of E2E_KUBECONFIG has Odradek installed, and the scenarios would change it: use one without"
        );
        if installed {
            given.clean().await?;
        }
        Ok(given)
    }

    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// Removes all that scenarios and [`crate::product::install`] made.
    pub async fn clean(&self) -> Result<()> {
        let ours = format!("{TEST_LABEL},kubernetes.io/metadata.name!={OPERATOR_NAMESPACE}");
        // The operator still runs: objects that wait for it to let go of them are let go.
        self.kubectl(&["delete", "namespaces", "--selector", &ours, "--timeout=180s"]).await?;
        for release in ["odradek-operator", "odradek-crds"] {
            let mut command = Command::new(tools::built("helm")?);
            command.env("KUBECONFIG", &self.kubeconfig);
            command.args(["uninstall", release, "--namespace", OPERATOR_NAMESPACE, "--ignore-not-found", "--wait"]);
            output(command, PATIENCE).await?;
        }
        // Helm keeps them, so that nobody loses data to an uninstall. The namespace goes last: it is what says that
        // all of this is ours.
        self.kubectl(
            &[&["delete", "customresourcedefinitions", "--ignore-not-found", "--timeout=60s"], &DEFINITIONS[..]]
                .concat(),
        )
        .await?;
        self.kubectl(&["delete", "namespace", OPERATOR_NAMESPACE, "--ignore-not-found", "--timeout=180s"]).await?;
        Ok(())
    }

    /// What `kubectl get` finds; null when there is nothing.
    async fn get(&self, what: &[&str]) -> Result<Value> {
        let text = self.kubectl(&[&["get", "--ignore-not-found", "--output", "json"], what].concat()).await?;
        if text.trim().is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_str(&text).context("kubectl printed no JSON")
    }

    async fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        let mut command = Command::new(tools::kubernetes("kubectl")?);
        command.env("KUBECONFIG", &self.kubeconfig).args(arguments);
        output(command, PATIENCE).await
    }
}

fn is_ours(namespace: &Value) -> bool {
    !namespace["metadata"]["labels"][TEST_LABEL].is_null()
}
