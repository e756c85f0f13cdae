// SPDX-License-Identifier: Apache-2.0
//! The operator put together: client, HTTP port, Lease, controllers, and its orderly end.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use kube::{Client, Config};
use tokio::signal::unix::{SignalKind, signal};
use tracing::info;

use crate::context::{BrokerImages, Context};
use crate::controllers::{self, Scope};
use crate::election::Election;
use crate::http::{self, Health};
use crate::kafka::wire::WireKafka;
use crate::metrics::Metrics;
use crate::options::Options;

/// How long the API server may take to be found at the start.
const START_DEADLINE: Duration = Duration::from_secs(30);

/// Runs until a signal or the loss of the Lease.
///
/// # Errors
/// When nothing can be watched at all: no configuration, no API server, port in use, Lease lost.
pub async fn run(options: Options) -> anyhow::Result<()> {
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        // Fails only when another thread was faster, with the same provider.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    }
    let metrics = Metrics::default();
    let health = Health::default();
    let listener = http::bind(options.http).await?;
    tokio::spawn(http::serve(listener, health.clone(), metrics.clone()));

    let mut config = Config::infer().await.context("no cluster to work for: neither in a pod nor a kubeconfig")?;
    config.connect_timeout = Some(Duration::from_secs(5));
    let client = Client::try_from(config).context("cannot make a client for the API server")?;
    let version = tokio::time::timeout(START_DEADLINE, client.apiserver_version())
        .await
        .context("the API server did not answer in time")?
        .context("cannot reach the API server")?;
    info!(kubernetes = version.git_version, operator = env!("CARGO_PKG_VERSION"), "starting");
    health.set_ready(true);

    let images = BrokerImages {
        repository: options.broker_image.clone(),
        pull_policy: (!options.broker_image_pull_policy.is_empty()).then(|| options.broker_image_pull_policy.clone()),
    };
    let kafka = Arc::new(WireKafka::through_services());
    let context = Arc::new(Context::new(client.clone(), kafka, images, metrics.clone(), options.identity.clone()));
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
    let mut stop = Box::pin(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    });

    if options.no_leader_election {
        metrics.set_leader(true);
        tokio::select! {
            () = work(&options, context) => {}
            () = &mut stop => {}
        }
        return Ok(());
    }
    let mut election = Election::new(client, &options.namespace, &options.identity);
    tokio::select! {
        () = election.acquire() => {}
        () = &mut stop => return Ok(()),
    }
    metrics.set_leader(true);
    let lost = tokio::select! {
        () = work(&options, context) => None,
        why = election.hold() => Some(why),
        () = &mut stop => None,
    };
    metrics.set_leader(false);
    if let Some(why) = lost {
        // Everything in memory may be out of date by now: begin anew as a new process.
        anyhow::bail!("{why}");
    }
    info!("stopping");
    election.release().await;
    Ok(())
}

async fn work(options: &Options, context: Arc<Context>) {
    let scopes = match options.namespaces() {
        None => vec![Scope::All],
        Some(namespaces) => namespaces.into_iter().map(Scope::Namespace).collect(),
    };
    info!(?scopes, "watching Clusters and Topics");
    futures::future::join_all(scopes.into_iter().map(|scope| controllers::run(scope, Arc::clone(&context)))).await;
}
