// SPDX-License-Identifier: Apache-2.0
//! Where the Leases of a broker are, by its configuration: in its data folder, in the process, in a file, or on
//! Kubernetes. It must not know when they are taken.
use std::sync::Arc;
use std::time::Duration;

use odradek_coordination::quorum::{KnownBroker, QuorumSettings};
use odradek_coordination::{ControllerLease, FileLease, Holder, LeaseError, LeaseView};
use odradek_coordination_kubernetes::{
    BrokerLease, BrokerLeaseError, BrokerLeaseOutcome, KubernetesLease, LeaseSettings, LeaseStore,
};
use odradek_disk::Disk;
use odradek_model::{BrokerId, ClusterId};
use odradek_server::clock::Random;
use odradek_server::failure::Failure;
use odradek_server::health::Health;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use crate::config::{Config, Coordination};
use crate::metadata_node::lease::{KubernetesLeaseCalls, LeaseCalls, LocalLeaseCalls, of_cluster};
use crate::storage::{LEASE_FILE, StorageError};

/// With nobody to take it, the Lease is renewed and read this often only: an idle broker leaves its disk alone.
const ALONE_RENEW_MS: u64 = 60_000;
/// And its quorum looks after itself this often.
const ALONE_RETRY_MS: u64 = 1_000;
/// A local Lease has no watch, and reading it costs little.
const LOCAL_POLL_MS: u64 = 1_000;

/// The Lease of local coordination.
#[derive(Debug, Clone)]
pub(crate) enum LocalLease {
    /// In a file, which is formatted with the data folder.
    File(Arc<FileLease>),
    /// Made by whoever starts the brokers of this process.
    InProcess(Arc<dyn ControllerLease>),
}

impl LocalLease {
    /// `None`: it is on Kubernetes.
    pub(crate) fn of(config: &Config, disk: &Arc<dyn Disk>) -> Option<Self> {
        match &config.coordination {
            Coordination::Alone => {
                let path = config.data_folder.join(LEASE_FILE);
                Some(Self::File(Arc::new(FileLease::at(Arc::clone(disk), &path))))
            }
            Coordination::File(path) => Some(Self::File(Arc::new(FileLease::at(Arc::clone(disk), path)))),
            Coordination::InProcess(lease) => Some(Self::InProcess(Arc::clone(lease))),
            Coordination::Kubernetes { .. } => None,
        }
    }

    /// What is formatted with the data folder.
    pub(crate) fn file(&self) -> Option<&Arc<FileLease>> {
        match self {
            Self::File(lease) => Some(lease),
            Self::InProcess(_) => None,
        }
    }

    pub(crate) fn calls(&self, cluster_id: ClusterId, random: Arc<dyn Random>) -> Box<dyn LeaseCalls> {
        let lease: Arc<dyn ControllerLease> = match self {
            Self::File(lease) => Arc::clone(lease) as _,
            Self::InProcess(lease) => Arc::clone(lease),
        };
        Box::new(LocalLeaseCalls { lease, cluster_id, random })
    }
}

/// The controller Lease as it is now, read by nobody in particular; `None` if there is none.
///
/// # Errors
/// [`LeaseError`]
pub(crate) async fn read_lease(
    config: &Config,
    disk: &Arc<dyn Disk>,
    cluster_id: &ClusterId,
) -> Result<Option<LeaseView>, LeaseError> {
    match (LocalLease::of(config, disk), &config.coordination) {
        (Some(local), _) => {
            let found = match local {
                LocalLease::File(lease) => lease.read(),
                LocalLease::InProcess(lease) => lease.read(),
            };
            found?.map(|view| of_cluster(view, cluster_id)).transpose()
        }
        (None, Coordination::Kubernetes { cluster_name }) => {
            let name = format!("{cluster_name}-controller");
            KubernetesLease::new(LeaseStore::in_pod()?, &name, cluster_id.clone(), LeaseSettings::CONTROLLER)
                .read()
                .await
        }
        (None, _) => unreachable!("a Lease is local or on Kubernetes"),
    }
}

/// Times of the quorum.
pub(crate) fn quorum_settings(config: &Config) -> QuorumSettings {
    let settings = QuorumSettings::default();
    match &config.coordination {
        Coordination::Alone => QuorumSettings {
            renew_interval_ms: ALONE_RENEW_MS,
            lease_duration_ms: 3 * ALONE_RENEW_MS,
            lease_poll_ms: ALONE_RENEW_MS,
            retry_ms: ALONE_RETRY_MS,
            ..settings
        },
        Coordination::InProcess(_) | Coordination::File(_) => {
            QuorumSettings { lease_poll_ms: LOCAL_POLL_MS, ..settings }
        }
        Coordination::Kubernetes { .. } => settings,
    }
}

/// The brokers that the configuration knows, this one among them.
pub(crate) fn known_brokers(config: &Config) -> Vec<KnownBroker> {
    let known = |id, rack: &Option<String>| KnownBroker {
        broker_id: BrokerId(id),
        rack: rack.clone(),
        registered_folder: None,
    };
    if config.brokers.is_empty() {
        return vec![known(config.broker_id, &config.rack)];
    }
    config.brokers.iter().map(|broker| known(broker.id, &broker.rack)).collect()
}

/// The Leases on Kubernetes.
#[derive(Debug)]
pub(crate) struct KubernetesLeases {
    /// `<cluster>-controller`.
    pub(crate) controller: Arc<KubernetesLease>,
    /// `<cluster>-broker-<id>`.
    broker: BrokerLease,
}

impl KubernetesLeases {
    /// With the pod's service account.
    ///
    /// # Errors
    /// [`LeaseError`] outside a pod.
    pub(crate) fn of(
        cluster_name: &str,
        cluster_id: &ClusterId,
        holder: Holder,
        pod_uid: &str,
    ) -> Result<Arc<Self>, LeaseError> {
        let store = LeaseStore::in_pod()?;
        let name = format!("{cluster_name}-broker-{}", holder.broker_id);
        let broker = BrokerLease::new(store.clone(), &name, cluster_id.clone(), holder, pod_uid, LeaseSettings::BROKER);
        let name = format!("{cluster_name}-controller");
        let controller = Arc::new(KubernetesLease::new(store, &name, cluster_id.clone(), LeaseSettings::CONTROLLER));
        Ok(Arc::new(Self { controller, broker }))
    }

    pub(crate) fn calls(&self) -> Box<dyn LeaseCalls> {
        Box::new(KubernetesLeaseCalls { lease: Arc::clone(&self.controller), runtime: Handle::current() })
    }

    /// Takes the broker's Lease; waits while another process has it, which ends or expires. With `restarted`, a container
    /// that starts again in its pod, no answer of the API server is needed: the folder's lock is enough then.
    ///
    /// # Errors
    /// [`StorageError::BrokerLease`] if the Lease is not one of ours.
    pub(crate) async fn take_broker_lease(&self, restarted: bool, health: &Health) -> Result<(), StorageError> {
        health.wait_for(Some("the broker's Lease"));
        loop {
            match self.broker.take().await {
                Ok(BrokerLeaseOutcome::Held) => break,
                Ok(BrokerLeaseOutcome::HeldByOther(holder)) => {
                    tracing::warn!(%holder, "another process is this broker; waiting for its end");
                }
                Ok(BrokerLeaseOutcome::Undecided(reason)) => tracing::info!(reason, "taking the broker's Lease again"),
                Err(error @ BrokerLeaseError::Malformed { .. }) => return Err(error.into()),
                Err(error) if restarted => {
                    tracing::warn!(%error, "starting without the broker's Lease, as this pod had it before");
                    break;
                }
                Err(error) => tracing::warn!(%error, "waiting for the broker's Lease"),
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        health.wait_for(None);
        Ok(())
    }

    /// Renews the broker's Lease; another holder ends the broker.
    pub(crate) async fn hold(self: Arc<Self>, failure: Arc<Failure>, stopped: CancellationToken) {
        tokio::select! {
            holder = self.broker.hold() => failure.fail(format!("another process is this broker: {holder}")),
            () = stopped.cancelled() => {}
        }
    }

    /// Gives the broker's Lease back.
    pub(crate) async fn release(&self) {
        if let Err(error) = self.broker.release().await {
            tracing::warn!(%error, "the broker's Lease was not given back; it expires by itself");
        }
    }
}
