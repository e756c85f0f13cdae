// SPDX-License-Identifier: Apache-2.0
//! `Lease/<cluster>-controller`: read, compare-and-set, create, watch.

use std::sync::{Mutex, PoisonError};

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use odradek_coordination::{LeaseChange, LeaseError, LeaseView, WriteOutcome};
use odradek_model::ClusterId;

use crate::controller_object::{change, view};
use crate::settings::LeaseSettings;
use crate::store::{LeaseStore, Put, deadline_in, wall_clock};
use crate::watch::LeaseWatch;

/// The controller Lease of one cluster.
#[derive(Debug)]
pub struct KubernetesLease {
    store: LeaseStore,
    name: String,
    cluster_id: ClusterId,
    settings: LeaseSettings,
    /// The last object read or written: a view does not carry what others keep in it (labels, owners), and an update
    /// must not lose that. One object; a write based on another view reads first.
    last: Mutex<Option<Lease>>,
}

impl KubernetesLease {
    /// The Lease of the cluster, under its name (`<cluster>-controller`).
    pub fn new(store: LeaseStore, name: &str, cluster_id: ClusterId, settings: LeaseSettings) -> Self {
        Self { store, name: name.to_owned(), cluster_id, settings, last: Mutex::new(None) }
    }

    /// The present Lease; `None` if there is none, which is rule 10, never a bootstrap.
    ///
    /// # Errors
    /// [`LeaseError::Unavailable`], or [`LeaseError::Malformed`] with the field that is not ours.
    pub async fn read(&self) -> Result<Option<LeaseView>, LeaseError> {
        let found = self.store.get(&self.name, deadline_in(self.settings.call_deadline)).await?;
        found.map(|lease| self.seen(lease)).transpose()
    }

    /// Makes the change if the Lease is still that of the view.
    ///
    /// # Errors
    /// [`LeaseError`], if the write was certainly not made.
    ///
    /// # Panics
    /// If the change's epoch is below the view's.
    pub async fn compare_and_set(&self, base: &LeaseView, wanted: &LeaseChange) -> Result<WriteOutcome, LeaseError> {
        assert!(wanted.epoch >= base.epoch, "epoch {} after {}", wanted.epoch, base.epoch);
        let deadline = deadline_in(self.settings.call_deadline);
        let object = match self.remembered(base) {
            Some(object) => object,
            None => match self.store.get(&self.name, deadline).await? {
                Some(found) if is_of(&found, base) => found,
                // The Lease has changed since the view, and no resourceVersion comes twice.
                _ => return Ok(WriteOutcome::Refused),
            },
        };
        // What stands there is ours, whoever asks.
        view(&object, &self.cluster_id)?;
        let object = change(object, base.sequence + 1, wanted, &self.cluster_id, &self.settings, &wall_clock())?;
        self.put(&object, deadline).await
    }

    /// Creates the Lease, if there is none (rule 10).
    ///
    /// # Errors
    /// [`LeaseError`], if the write was certainly not made.
    pub async fn create(&self, wanted: &LeaseChange) -> Result<WriteOutcome, LeaseError> {
        let deadline = deadline_in(self.settings.call_deadline);
        let metadata = ObjectMeta { name: Some(self.name.clone()), ..ObjectMeta::default() };
        let empty = Lease { metadata, spec: None };
        let object = change(empty, 0, wanted, &self.cluster_id, &self.settings, &wall_clock())?;
        self.put(&object, deadline).await
    }

    /// What happens to the Lease from now on.
    pub fn watch(&self) -> LeaseWatch {
        LeaseWatch::new(self.store.clone(), self.name.clone(), self.cluster_id.clone(), self.settings)
    }

    async fn put(&self, object: &Lease, deadline: tokio::time::Instant) -> Result<WriteOutcome, LeaseError> {
        Ok(match self.store.put(&self.name, object, deadline).await? {
            Put::Written(lease) => match self.seen(*lease) {
                Ok(view) => WriteOutcome::Written(view),
                Err(error) => WriteOutcome::Unknown(format!("the answer cannot be read: {error}")),
            },
            Put::Refused => WriteOutcome::Refused,
            Put::Unknown(reason) => WriteOutcome::Unknown(reason),
        })
    }

    fn seen(&self, lease: Lease) -> Result<LeaseView, LeaseError> {
        let view = view(&lease, &self.cluster_id)?;
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(lease);
        Ok(view)
    }

    fn remembered(&self, base: &LeaseView) -> Option<Lease> {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.as_ref().filter(|lease| is_of(lease, base)).cloned()
    }
}

fn is_of(lease: &Lease, view: &LeaseView) -> bool {
    let metadata = &lease.metadata;
    metadata.uid.as_ref() == Some(&view.uid) && metadata.resource_version.as_ref() == Some(&view.version)
}
