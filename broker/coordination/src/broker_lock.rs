// SPDX-License-Identifier: Apache-2.0
//! The belt against two processes with one broker id that share a Lease in a file: what `Lease/<cluster>-broker-<id>` is
//! on Kubernetes. Liveness and fencing are other things: heartbeats and the broker epoch in the metadata log.
//!
//! The controller refuses the id of a broker whose session lives, but has nobody to refuse its own: a second process with
//! the controller's id knows of no other controller than itself, and would wait for ever.

use std::path::{Path, PathBuf};

use odradek_disk::{Disk, DiskError, DiskErrorKind, DiskLock};
use odradek_model::BrokerId;
use thiserror::Error;

/// Why the id was not locked. The process does not start.
#[derive(Debug, Error)]
pub enum BrokerLockError {
    /// Another process has the id.
    #[error("another process is broker {broker_id}: it holds the lock {}", path.display())]
    HeldByOther {
        /// The broker.
        broker_id: BrokerId,
        /// The locked file.
        path: PathBuf,
    },
    /// The disk below the Lease.
    #[error(transparent)]
    Disk(#[from] DiskError),
}

/// A broker's id, which is this process's for as long as this is there. The kernel frees it when the process ends, however
/// that happens.
#[derive(Debug)]
pub struct BrokerLock {
    _file: Box<dyn DiskLock>,
}

impl BrokerLock {
    /// Locks `<lease file>-broker-<id>.lock`. The file is made if it is missing, and stays. The folder must exist.
    ///
    /// # Errors
    /// [`BrokerLockError`], at once.
    pub fn take(disk: &dyn Disk, lease_file: &Path, broker_id: BrokerId) -> Result<Self, BrokerLockError> {
        let mut path = lease_file.as_os_str().to_owned();
        path.push(format!("-broker-{broker_id}.lock"));
        let path = PathBuf::from(path);
        match disk.lock(&path) {
            Ok(file) => Ok(Self { _file: file }),
            Err(error) if error.kind == DiskErrorKind::Locked => Err(BrokerLockError::HeldByOther { broker_id, path }),
            Err(error) => Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use odradek_disk::SimulatedDisk;

    use super::*;

    #[test]
    fn a_broker_id_has_one_process_in_the_cluster_of_its_lease() {
        let disk = SimulatedDisk::new(1);
        disk.create_dir_all(Path::new("/leases")).expect("made");
        let take = |lease: &str, id| BrokerLock::take(&disk, Path::new(lease), BrokerId(id));
        let first = take("/leases/a", 1).expect("free");
        let error = take("/leases/a", 1).expect_err("held");
        assert_eq!(error.to_string(), "another process is broker 1: it holds the lock /leases/a-broker-1.lock");
        let _others = [take("/leases/a", 2).expect("another id"), take("/leases/b", 1).expect("another cluster")];
        drop(first);
        take("/leases/a", 1).expect("free again");
        assert!(matches!(take("/nowhere/a", 1), Err(BrokerLockError::Disk(_))));
    }
}
