// SPDX-License-Identifier: Apache-2.0
//! The calls of the controller Lease that a quorum member asks for, on a local Lease or on Kubernetes. Every call has
//! exactly one outcome: an error only if it was certainly not made. It must not know when to take the Lease.
use std::fmt::Debug;
use std::sync::Arc;

use odradek_coordination::quorum::Input;
use odradek_coordination::{ControllerLease, LeaseChange, LeaseError, LeaseView, WriteOutcome};
use odradek_coordination_kubernetes::{KubernetesLease, LeaseSeen};
use odradek_model::ClusterId;
use odradek_server::clock::Random;
use odradek_server::controller::{Ask, ControllerHandle};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

/// Where an outcome goes.
pub(crate) type Outcome<T> = Box<dyn FnOnce(Result<T, String>) + Send>;

/// What a read finds.
pub(crate) type Found = Option<LeaseView>;

/// The Lease, as the node's thread calls it.
pub(crate) trait LeaseCalls: Send + Debug {
    /// Reads the Lease itself.
    fn read(&self, done: Outcome<Found>);

    /// Changes it if it is still that of the view; without a view, makes it if there is none.
    fn write(&self, base: Option<LeaseView>, change: LeaseChange, done: Outcome<WriteOutcome>);
}

/// A Lease in memory or in a file: the calls are made at once, in the thread that asks. They take as long as the disk
/// does, for which that thread waits anyway.
#[derive(Debug)]
pub(crate) struct LocalLeaseCalls {
    pub(crate) lease: Arc<dyn ControllerLease>,
    pub(crate) cluster_id: ClusterId,
    pub(crate) random: Arc<dyn Random>,
}

impl LeaseCalls for LocalLeaseCalls {
    fn read(&self, done: Outcome<Found>) {
        let found =
            self.lease.read().and_then(|found| found.map(|view| of_cluster(view, &self.cluster_id)).transpose());
        done(found.map_err(|error| error.to_string()));
    }

    fn write(&self, base: Option<LeaseView>, change: LeaseChange, done: Outcome<WriteOutcome>) {
        let outcome = match &base {
            Some(view) => self.lease.compare_and_set(view, &change),
            None => self.lease.create(&self.random.uuid().to_string(), &self.cluster_id, &change),
        };
        done(outcome.map_err(|error| error.to_string()));
    }
}

/// The view, if it is of this cluster: a file can be shared by mistake.
///
/// # Errors
/// [`LeaseError::Malformed`], naming the other cluster.
pub(crate) fn of_cluster(view: LeaseView, ours: &ClusterId) -> Result<LeaseView, LeaseError> {
    if view.cluster_id == *ours {
        return Ok(view);
    }
    Err(LeaseError::Malformed(format!("it belongs to cluster {}, not to {ours}", view.cluster_id)))
}

/// The Lease on Kubernetes: each call is a task, and ends within the deadline of the Lease's settings.
#[derive(Debug)]
pub(crate) struct KubernetesLeaseCalls {
    pub(crate) lease: Arc<KubernetesLease>,
    pub(crate) runtime: Handle,
}

impl LeaseCalls for KubernetesLeaseCalls {
    fn read(&self, done: Outcome<Found>) {
        let lease = Arc::clone(&self.lease);
        self.runtime.spawn(async move { done(lease.read().await.map_err(|error| error.to_string())) });
    }

    fn write(&self, base: Option<LeaseView>, change: LeaseChange, done: Outcome<WriteOutcome>) {
        let lease = Arc::clone(&self.lease);
        self.runtime.spawn(async move {
            let outcome = match &base {
                Some(view) => lease.compare_and_set(view, &change).await,
                None => lease.create(&change).await,
            };
            done(outcome.map_err(|error| error.to_string()));
        });
    }
}

/// Tells the node what the watch of the Lease sees, until it stops.
pub(crate) async fn watch(lease: Arc<KubernetesLease>, node: ControllerHandle, stopped: CancellationToken) {
    let mut watch = lease.watch();
    loop {
        let seen = tokio::select! {
            seen = watch.next() => seen,
            () = stopped.cancelled() => return,
        };
        match seen {
            LeaseSeen::View(view) => node.outcome(Ask::Quorum(Box::new(Input::LeaseSeen(view)))),
            // The node reads the Lease itself from time to time; only that tells.
            LeaseSeen::Missing => tracing::warn!("the watch of the controller Lease finds none"),
            LeaseSeen::Malformed(error) => tracing::warn!(%error, "the controller Lease as its watch sees it"),
            LeaseSeen::Unavailable(reason) => tracing::debug!(reason, "the watch of the controller Lease"),
        }
    }
}
