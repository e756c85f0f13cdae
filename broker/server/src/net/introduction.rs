// SPDX-License-Identifier: Apache-2.0
//! Who the other end of a connection has proved to be, kept for the life of the connection. It must not know how
//! anything is proved.
use std::sync::{Mutex, OnceLock, PoisonError};

use odradek_coordination::Holder;
use odradek_model::{BrokerId, DirectoryId};
use uuid::Uuid;

/// A broker of this cluster, as it has proved by the cluster secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Introduced {
    /// The broker and its process.
    pub holder: Holder,
    /// Its data folder.
    pub directory_id: DirectoryId,
}

/// The state of a connection's introduction. One challenge at a time, good for one attempt.
#[derive(Debug, Default)]
pub struct Introduction {
    challenge: Mutex<Option<Uuid>>,
    introduced: OnceLock<Introduced>,
}

impl Introduction {
    /// Remembers the challenge that was given out, in place of an earlier one.
    pub fn challenged(&self, challenge: Uuid) {
        *self.challenge.lock().unwrap_or_else(PoisonError::into_inner) = Some(challenge);
    }

    /// The challenge, which is used up by this.
    pub fn take_challenge(&self) -> Option<Uuid> {
        self.challenge.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// The other end has proved to be `introduced`; false if it had proved to be somebody before.
    pub fn accept(&self, introduced: Introduced) -> bool {
        self.introduced.set(introduced).is_ok()
    }

    /// Who it is.
    pub fn introduced(&self) -> Option<&Introduced> {
        self.introduced.get()
    }

    /// Whether a request may speak for this replica: anybody for a consumer (below 0), a broker for itself only.
    pub fn may_act_as(&self, replica_id: i32) -> bool {
        replica_id < 0
            || self.introduced().is_some_and(|introduced| introduced.holder.broker_id == BrokerId(replica_id))
    }
}
