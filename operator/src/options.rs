// SPDX-License-Identifier: Apache-2.0
//! What the operator is told at its start: command line and environment. Parses, does nothing.

use std::net::SocketAddr;

use clap::{Parser, Subcommand, ValueEnum};

/// The command line.
#[derive(Parser, Debug)]
#[command(name = "odradek-operator", version, about = "Runs Kafka clusters on Kubernetes: Cluster and Topic.")]
pub struct CommandLine {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Watch Clusters and Topics and bring them to what they ask for.
    #[command(after_help = RUN_EXAMPLES)]
    Run(Box<Options>),
    /// Print the CustomResourceDefinitions as YAML.
    #[command(after_help = "Example:\n  odradek-operator crds | kubectl apply --server-side -f -")]
    Crds,
}

const RUN_EXAMPLES: &str = "Examples:
  odradek-operator run
      in a pod: all namespaces, its own ServiceAccount
  odradek-operator run --watch-namespaces team-a,team-b
      only these namespaces, with a Role in each
  KUBECONFIG=~/.kube/config odradek-operator run --no-leader-election --http 127.0.0.1:8080
      on a developer's machine against any cluster";

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// The options of `run`.
#[derive(Parser, Clone, Debug)]
pub struct Options {
    /// Namespaces to watch, separated by commas; all when empty.
    #[arg(long, env = "ODRADEK_WATCH_NAMESPACES", value_delimiter = ',', hide_env_values = true)]
    pub watch_namespaces: Vec<String>,

    /// The image of the brokers without its tag; the tag is the Cluster's version.
    #[arg(long, env = "ODRADEK_BROKER_IMAGE", default_value = "localhost/odradek-broker")]
    pub broker_image: String,

    /// When nodes pull the brokers' image: Always, IfNotPresent or Never; Kubernetes' default when empty.
    #[arg(long, env = "ODRADEK_BROKER_IMAGE_PULL_POLICY", value_parser = ["", "Always", "IfNotPresent", "Never"], default_value = "")]
    pub broker_image_pull_policy: String,

    /// Where probes and metrics are served.
    #[arg(long, env = "ODRADEK_HTTP", default_value = "0.0.0.0:8080")]
    pub http: SocketAddr,

    /// The namespace of the operator's own Lease.
    #[arg(long, env = "POD_NAMESPACE", default_value = "odradek-system")]
    pub namespace: String,

    /// This process in the Lease; the pod's name.
    #[arg(long, env = "POD_NAME", default_value = "odradek-operator")]
    pub identity: String,

    /// Work without a Lease: only when no other operator runs.
    #[arg(long, env = "ODRADEK_NO_LEADER_ELECTION")]
    pub no_leader_election: bool,

    /// How log lines look.
    #[arg(long, env = "ODRADEK_LOG_FORMAT", value_enum, default_value = "text")]
    pub log_format: LogFormat,
}

impl Options {
    /// The namespaces to watch without empty names; `None` means all.
    pub fn namespaces(&self) -> Option<Vec<String>> {
        let mut namespaces: Vec<String> =
            self.watch_namespaces.iter().map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()).collect();
        namespaces.sort();
        namespaces.dedup();
        (!namespaces.is_empty()).then_some(namespaces)
    }
}
