// SPDX-License-Identifier: Apache-2.0
//! The belt against two processes with one broker id. Liveness and fencing are other things: heartbeats and the broker
//! epoch in the metadata log.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use odradek_disk::{Disk, DiskErrorKind, DiskLock};
use odradek_model::BrokerId;

use crate::{Holder, LeaseError};

/// What a broker learns about its lock.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum BrokerLockOutcome {
    /// The lock is its own.
    Held,
    /// Another process has it; the holder if it is known. The broker does not start, or stops.
    HeldByOther(Option<Holder>),
}

/// The lock of a broker's id.
pub trait BrokerLock: Send + Sync + Debug {
    /// Takes the lock, or renews it. A failure to renew ends nothing; only seeing another holder does.
    ///
    /// # Errors
    /// [`LeaseError`]
    fn take(&self, holder: &Holder) -> Result<BrokerLockOutcome, LeaseError>;

    /// Gives the lock back, if it is the holder's.
    ///
    /// # Errors
    /// [`LeaseError`]
    fn release(&self, holder: &Holder) -> Result<(), LeaseError>;
}

/// Locks of the brokers of one process.
#[derive(Debug, Default)]
pub struct InProcessBrokerLock {
    holders: Mutex<BTreeMap<BrokerId, Holder>>,
}

impl BrokerLock for InProcessBrokerLock {
    fn take(&self, holder: &Holder) -> Result<BrokerLockOutcome, LeaseError> {
        let mut holders = self.holders.lock().unwrap_or_else(PoisonError::into_inner);
        let present = holders.entry(holder.broker_id).or_insert_with(|| holder.clone());
        Ok(if present == holder {
            BrokerLockOutcome::Held
        } else {
            BrokerLockOutcome::HeldByOther(Some(present.clone()))
        })
    }

    fn release(&self, holder: &Holder) -> Result<(), LeaseError> {
        let mut holders = self.holders.lock().unwrap_or_else(PoisonError::into_inner);
        if holders.get(&holder.broker_id) == Some(holder) {
            holders.remove(&holder.broker_id);
        }
        Ok(())
    }
}

/// A lock and for whom it was taken.
type HeldLock = (Holder, Box<dyn DiskLock>);

/// Locks of the brokers of one machine: a locked file per broker id in one folder. The kernel frees it with the process.
#[derive(Debug)]
pub struct FileBrokerLock {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    held: Mutex<BTreeMap<BrokerId, HeldLock>>,
}

impl FileBrokerLock {
    /// Locks in the folder, which must exist.
    pub fn new(disk: Arc<dyn Disk>, dir: &Path) -> Self {
        Self { disk, dir: dir.to_owned(), held: Mutex::default() }
    }
}

impl BrokerLock for FileBrokerLock {
    fn take(&self, holder: &Holder) -> Result<BrokerLockOutcome, LeaseError> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((present, _)) = held.get(&holder.broker_id) {
            return Ok(if present == holder {
                BrokerLockOutcome::Held
            } else {
                BrokerLockOutcome::HeldByOther(Some(present.clone()))
            });
        }
        match self.disk.lock(&self.dir.join(format!("broker-{}.lock", holder.broker_id))) {
            Ok(lock) => {
                held.insert(holder.broker_id, (holder.clone(), lock));
                Ok(BrokerLockOutcome::Held)
            }
            Err(error) if error.kind == DiskErrorKind::Locked => Ok(BrokerLockOutcome::HeldByOther(None)),
            Err(error) => Err(error.into()),
        }
    }

    fn release(&self, holder: &Holder) -> Result<(), LeaseError> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if held.get(&holder.broker_id).is_some_and(|(present, _)| present == holder) {
            held.remove(&holder.broker_id);
        }
        Ok(())
    }
}
