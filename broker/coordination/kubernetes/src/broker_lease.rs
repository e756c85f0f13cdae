// SPDX-License-Identifier: Apache-2.0
//! `Lease/<cluster>-broker-<id>`: a belt against two processes with one broker id. The fence is the broker epoch.
//!
//! It is taken at once if it is missing, released, expired, or held by an earlier incarnation in the same pod. It ends
//! only when another holder is seen: failing to renew stops nothing, and a holder from before this process's own take,
//! which an etcd that was put back to an older state shows, is no other process; nor is an earlier incarnation in the same
//! pod to one that had to start without the Lease. Expiry is by `renewTime` and this machine's wall
//! clock, or by this process having seen no change for the whole duration.

use std::sync::{Mutex, PoisonError};

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::SignedDuration;
use odradek_coordination::{Holder, LeaseError};
use odradek_model::ClusterId;
use thiserror::Error;
use tokio::time::Instant;
use tracing::{info, warn};

use crate::fields::{
    CLUSTER_ID_ANNOTATION, POD_UID_ANNOTATION, annotation, check_cluster, holder, identity, malformed,
};
use crate::settings::LeaseSettings;
use crate::store::{LeaseStore, Put, deadline_in, wall_clock};

/// What one attempt came to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum BrokerLeaseOutcome {
    /// The Lease is this process's.
    Held,
    /// Another process has it.
    HeldByOther(Holder),
    /// Somebody changed it at the same moment, or the answer was unclear: try again.
    Undecided(String),
}

/// Why the broker's Lease could not be used. It names the object, as a process has two Leases and works on without this
/// one. A write that fails with this was not made.
#[derive(Debug, Error)]
pub enum BrokerLeaseError {
    /// The API server could not be reached or failed.
    #[error("Lease/{name} is out of reach: {reason}")]
    Unavailable {
        /// The object's.
        name: String,
        /// What failed.
        reason: String,
    },
    /// The object is not one of ours.
    #[error("Lease/{name} is malformed: {reason}")]
    Malformed {
        /// The object's.
        name: String,
        /// The field, and what is wrong with it.
        reason: String,
    },
}

/// The Lease of one broker id, for one process.
#[derive(Debug)]
pub struct BrokerLease {
    store: LeaseStore,
    name: String,
    cluster_id: ClusterId,
    holder: Holder,
    pod_uid: String,
    settings: LeaseSettings,
    /// The state last seen (uid and version), and since when.
    unchanged: Mutex<Option<(String, String, Instant)>>,
    /// The uid and the transitions that this process wrote last.
    wrote: Mutex<Option<(String, i32)>>,
}

/// Why the Lease may be written, or not.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Judgement {
    Renew,
    Take(&'static str),
    Other(Holder),
}

impl BrokerLease {
    /// The Lease under its name (`<cluster>-broker-<id>`), for this process in this pod.
    pub fn new(
        store: LeaseStore,
        name: &str,
        cluster_id: ClusterId,
        holder: Holder,
        pod_uid: &str,
        settings: LeaseSettings,
    ) -> Self {
        let (name, pod_uid) = (name.to_owned(), pod_uid.to_owned());
        Self {
            store,
            name,
            cluster_id,
            holder,
            pod_uid,
            settings,
            unchanged: Mutex::new(None),
            wrote: Mutex::new(None),
        }
    }

    /// One attempt to take the Lease. Whoever is told of another holder waits a renewal and tries again, or ends; the
    /// holder may be dead, and then the Lease expires.
    ///
    /// # Errors
    /// [`BrokerLeaseError`]
    pub async fn take(&self) -> Result<BrokerLeaseOutcome, BrokerLeaseError> {
        self.attempt(true).await.map_err(|error| self.named(error))
    }

    /// Renews the Lease until another holder is seen, which is returned: the process must stop.
    pub async fn hold(&self) -> Holder {
        let mut wait = self.settings.renew_interval;
        loop {
            tokio::time::sleep(wait).await;
            wait = self.settings.renew_interval;
            match self.attempt(false).await.map_err(|error| self.named(error)) {
                Ok(BrokerLeaseOutcome::Held) => {}
                Ok(BrokerLeaseOutcome::HeldByOther(holder)) => return holder,
                Ok(BrokerLeaseOutcome::Undecided(reason)) => {
                    warn!(
                        lease = self.name, cluster = %self.cluster_id, broker = %self.holder.broker_id, reason,
                        "it is not known whether this broker's own Lease was renewed; nothing stops"
                    );
                    wait = self.settings.renew_interval / 4;
                }
                // It only keeps a second process of this broker from starting: no reason to stop.
                Err(error) => warn!(
                    lease = self.name, cluster = %self.cluster_id, broker = %self.holder.broker_id, %error,
                    "this broker's own Lease was not renewed; nothing stops, and it is tried again"
                ),
            }
        }
    }

    /// Gives the Lease back, if it is this process's, so that the next one need not wait.
    ///
    /// # Errors
    /// [`BrokerLeaseError`]
    pub async fn release(&self) -> Result<(), BrokerLeaseError> {
        self.try_release().await.map_err(|error| self.named(error))
    }

    fn named(&self, error: LeaseError) -> BrokerLeaseError {
        let name = self.name.clone();
        match error {
            LeaseError::Malformed(reason) => BrokerLeaseError::Malformed { name, reason },
            LeaseError::Unavailable(reason) => BrokerLeaseError::Unavailable { name, reason },
            // Of local Leases.
            other @ (LeaseError::Busy | LeaseError::Exists | LeaseError::Disk(_)) => {
                BrokerLeaseError::Unavailable { name, reason: other.to_string() }
            }
        }
    }

    async fn try_release(&self) -> Result<(), LeaseError> {
        let deadline = deadline_in(self.settings.call_deadline);
        let Some(mut lease) = self.store.get(&self.name, deadline).await? else { return Ok(()) };
        check_cluster(&lease, &self.cluster_id)?;
        if holder(&lease)?.as_ref() != Some(&self.holder) {
            return Ok(());
        }
        let spec = lease.spec.get_or_insert_default();
        (spec.holder_identity, spec.acquire_time, spec.renew_time) = (None, None, Some(wall_clock()));
        match self.store.put(&self.name, &lease, deadline).await? {
            Put::Written(_) | Put::Refused => Ok(()),
            Put::Unknown(reason) => Err(LeaseError::Unavailable(reason)),
        }
    }

    async fn attempt(&self, starting: bool) -> Result<BrokerLeaseOutcome, LeaseError> {
        let deadline = deadline_in(self.settings.call_deadline);
        let now = wall_clock();
        let object = match self.store.get(&self.name, deadline).await? {
            None => {
                info!(lease = self.name, "making the broker's Lease");
                let metadata = ObjectMeta { name: Some(self.name.clone()), ..ObjectMeta::default() };
                self.written(Lease { metadata, spec: None }, &now)
            }
            Some(found) => {
                let judgement = self.judge(&found, starting, self.is_unchanged(&found)?, &now)?;
                match judgement {
                    Judgement::Other(holder) => return Ok(BrokerLeaseOutcome::HeldByOther(holder)),
                    Judgement::Take(reason) => info!(lease = self.name, reason, "taking the broker's Lease"),
                    Judgement::Renew => {}
                }
                self.written(found, &now)
            }
        };
        Ok(match self.store.put(&self.name, &object, deadline).await? {
            Put::Written(lease) => {
                *self.wrote.lock().unwrap_or_else(PoisonError::into_inner) = Some(count_of(&lease)?);
                BrokerLeaseOutcome::Held
            }
            Put::Refused => BrokerLeaseOutcome::Undecided("the Lease was changed at the same moment".to_owned()),
            Put::Unknown(reason) => BrokerLeaseOutcome::Undecided(reason),
        })
    }

    /// Whether this process has seen no change for the Lease's duration.
    fn is_unchanged(&self, found: &Lease) -> Result<bool, LeaseError> {
        let (uid, version) = identity(found)?;
        let mut unchanged = self.unchanged.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, _, since)) = unchanged.as_ref().filter(|seen| seen.0 == uid && seen.1 == version) {
            return Ok(since.elapsed() >= self.settings.duration);
        }
        *unchanged = Some((uid.to_owned(), version.to_owned(), Instant::now()));
        Ok(false)
    }

    fn is_before_own_take(&self, found: &Lease) -> Result<bool, LeaseError> {
        let (uid, count) = count_of(found)?;
        let wrote = self.wrote.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(wrote.as_ref().is_some_and(|own| own.0 == uid && count < own.1))
    }

    fn has_never_written(&self) -> bool {
        self.wrote.lock().unwrap_or_else(PoisonError::into_inner).is_none()
    }

    fn judge(&self, found: &Lease, starting: bool, unchanged: bool, now: &MicroTime) -> Result<Judgement, LeaseError> {
        check_cluster(found, &self.cluster_id)?;
        let other = match holder(found)? {
            None => return Ok(Judgement::Take("released")),
            Some(holder) if holder == self.holder => return Ok(Judgement::Renew),
            Some(holder) => holder,
        };
        if other.broker_id != self.holder.broker_id {
            return Err(malformed("spec.holderIdentity", format!("{other} is another broker's")));
        }
        let is_of_this_pod = annotation(found, POD_UID_ANNOTATION).is_ok_and(|uid| uid == self.pod_uid);
        // Also one that runs without ever having had the Lease, as the API server was away when it started. The lock of
        // the folder says that the earlier one is gone.
        if is_of_this_pod && (starting || self.has_never_written()) {
            return Ok(Judgement::Take("an earlier incarnation in this pod"));
        }
        // A process that runs does not take from another: it stops. Each take counts one up, so a lower count of the
        // same object is from before its own.
        if !starting {
            return Ok(if self.is_before_own_take(found)? {
                Judgement::Take("put back")
            } else {
                Judgement::Other(other)
            });
        }
        let spec = found.spec.as_ref();
        let duration = spec.and_then(|spec| spec.lease_duration_seconds).unwrap_or(self.settings.duration_seconds());
        let renewed = spec.and_then(|spec| spec.renew_time.as_ref());
        let expired =
            renewed.is_none_or(|time| now.0.duration_since(time.0) > SignedDuration::from_secs(i64::from(duration)));
        if expired || unchanged { Ok(Judgement::Take("expired")) } else { Ok(Judgement::Other(other)) }
    }

    fn written(&self, mut object: Lease, now: &MicroTime) -> Lease {
        let annotations = object.metadata.annotations.get_or_insert_default();
        annotations.insert(CLUSTER_ID_ANNOTATION.to_owned(), self.cluster_id.as_str().to_owned());
        annotations.insert(POD_UID_ANNOTATION.to_owned(), self.pod_uid.clone());
        let spec = object.spec.get_or_insert_default();
        let identity = Some(self.holder.to_string());
        if spec.holder_identity != identity {
            spec.acquire_time = Some(now.clone());
            spec.lease_transitions = Some(spec.lease_transitions.map_or(0, |count| count.saturating_add(1)));
        }
        spec.holder_identity = identity;
        spec.lease_duration_seconds = Some(self.settings.duration_seconds());
        spec.renew_time = Some(now.clone());
        object
    }
}

/// The object's uid, and how often it was taken after the first time.
fn count_of(lease: &Lease) -> Result<(String, i32), LeaseError> {
    let count = lease.spec.as_ref().and_then(|spec| spec.lease_transitions).unwrap_or(0);
    Ok((identity(lease)?.0.to_owned(), count))
}
