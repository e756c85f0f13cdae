// SPDX-License-Identifier: Apache-2.0
//! The Lease of brokers that share a process. It lives as long as the process.

use std::sync::{Mutex, PoisonError};

use odradek_model::ClusterId;

use super::{ControllerLease, LeaseChange, LeaseError, LeaseView, WriteOutcome, changed, created};

/// A Lease in memory; share it by reference or `Arc`.
#[derive(Debug)]
pub struct InProcessLease {
    lease: Mutex<LeaseView>,
}

impl InProcessLease {
    /// A new Lease. `uid` is random text, another for each.
    pub fn new(uid: &str, cluster_id: &ClusterId) -> Self {
        Self { lease: Mutex::new(created(uid, cluster_id)) }
    }
}

impl ControllerLease for InProcessLease {
    fn read(&self) -> Result<Option<LeaseView>, LeaseError> {
        Ok(Some(self.lease.lock().unwrap_or_else(PoisonError::into_inner).clone()))
    }

    fn compare_and_set(&self, view: &LeaseView, change: &LeaseChange) -> Result<WriteOutcome, LeaseError> {
        let mut lease = self.lease.lock().unwrap_or_else(PoisonError::into_inner);
        if (&lease.uid, &lease.version) != (&view.uid, &view.version) {
            return Ok(WriteOutcome::Refused);
        }
        *lease = changed(&lease, change);
        Ok(WriteOutcome::Written(lease.clone()))
    }

    /// It is there for as long as the process is.
    fn create(&self, _: &str, _: &ClusterId, _: &LeaseChange) -> Result<WriteOutcome, LeaseError> {
        Ok(WriteOutcome::Refused)
    }
}
