// SPDX-License-Identifier: Apache-2.0
//! What the brokers of one process share: the cluster's id, the controller Lease, and the secret by which they know each
//! other. It must not know how many they are.
use std::path::Path;
use std::sync::Arc;

use odradek_coordination::{ControllerLease, DataFolder, FileLease, LeaseError};
use odradek_disk::{Disk, RealDisk};
use odradek_model::ClusterId;
use odradek_server::clock::Random as _;
use odradek_server::peers::ClusterSecret;

use crate::storage::{LEASE_FILE, StorageError};
use crate::system::SystemRandom;

/// See the module. The Lease is beside the brokers' folders, and outlives each of them as one on Kubernetes does: a call
/// that a killed broker has made may still be carried out.
#[derive(Debug, Clone)]
pub struct SharedCluster {
    /// The cluster that all folders belong to.
    pub cluster_id: ClusterId,
    /// The controller Lease.
    pub lease: Arc<dyn ControllerLease>,
    /// Made up anew by each process: nobody else has to know it.
    pub secret: ClusterSecret,
}

impl SharedCluster {
    /// Opens what is kept in `folder`, or makes it. `first_broker` is the data folder of one of its brokers: if it is there
    /// but the Lease is not, the Lease is left to be put back by the quorum, which knows whether that is safe. Blocks.
    ///
    /// # Errors
    /// [`StorageError`]
    pub fn open(folder: &Path, first_broker: &Path) -> Result<Self, StorageError> {
        let (disk, random): (Arc<dyn Disk>, _) = (Arc::new(RealDisk), SystemRandom);
        disk.create_dir_all(folder)?;
        let lease = FileLease::at(Arc::clone(&disk), &folder.join(LEASE_FILE));
        let cluster_id = match (lease.read()?, DataFolder::identity_at(disk.as_ref(), first_broker)?) {
            (Some(view), _) => view.cluster_id,
            (None, Some(identity)) => identity.cluster_id,
            (None, None) => {
                let cluster_id = ClusterId::from_random(random.bytes());
                match lease.format(&random.uuid().to_string(), &cluster_id) {
                    Ok(view) => view.cluster_id,
                    // Another process came between: the ports, or the folders' locks, decide who runs.
                    Err(LeaseError::Exists | LeaseError::Busy) => {
                        let busy = || LeaseError::Unavailable("another process makes the Lease".to_owned());
                        lease.read()?.ok_or_else(busy)?.cluster_id
                    }
                    Err(error) => return Err(error.into()),
                }
            }
        };
        Ok(Self { cluster_id, lease: Arc::new(lease), secret: ClusterSecret::generate(&random) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use odradek_coordination::Identity;
    use odradek_model::{BrokerId, DirectoryId};

    #[test]
    fn the_cluster_stays_the_same_and_a_lost_lease_is_not_made_up() {
        let folder = tempfile::tempdir().unwrap();
        let first = folder.path().join("broker-0");
        let made = SharedCluster::open(folder.path(), &first).unwrap();
        let opened = SharedCluster::open(folder.path(), &first).unwrap();
        assert_eq!(opened.cluster_id, made.cluster_id);
        assert_eq!(opened.lease.read().unwrap(), made.lease.read().unwrap());

        let identity = Identity {
            cluster_id: made.cluster_id.clone(),
            broker_id: BrokerId(0),
            directory_id: DirectoryId(SystemRandom.uuid()),
            last_holder: None,
        };
        let disk: Arc<dyn Disk> = Arc::new(RealDisk);
        DataFolder::format(&disk, &first, &identity, |_, _| Ok(())).unwrap();
        std::fs::remove_file(folder.path().join(LEASE_FILE)).unwrap();
        let without = SharedCluster::open(folder.path(), &first).unwrap();
        assert_eq!(without.cluster_id, made.cluster_id);
        assert_eq!(without.lease.read().unwrap(), None);
    }
}
