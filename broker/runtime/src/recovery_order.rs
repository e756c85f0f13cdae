// SPDX-License-Identifier: Apache-2.0
//! The order to recover the metadata without voters that are gone for good (coordination rule 10): judged and written
//! by a command beside the broker, found by the broker at its next start, removed once a controller is heard. It must
//! not know how the metadata are recovered.
//!
//! The file has one voter a line, as the Lease names them. The command only reads what the broker keeps, so the broker
//! may run meanwhile and wait.
use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use odradek_coordination::quorum::{VoterSet, VoterSets};
use odradek_coordination::{DataFolder, DataFolderError, Identity, LeaseError, LeaseView, Voter};
use odradek_disk::{Disk, DiskError, RealDisk, read_small_file, write_file_durably};
use odradek_metadata::{MetadataLogError, read_promise};
use odradek_model::{BrokerId, ControllerEpoch};

use crate::config::Config;
use crate::coordination;
use crate::storage::METADATA_FOLDER;

/// The file in the data folder. No topic's partition has a name without `-<number>`.
const ORDER_FILE: &str = "recover-without";
/// Longest file: five voters and five more of a pending change have 500 bytes.
const LARGEST_ORDER: usize = 4096;

/// Why there is no order, in one line.
#[derive(Debug, thiserror::Error)]
pub enum RecoveryOrderError {
    /// Whose folder it is.
    #[error(transparent)]
    Folder(#[from] DataFolderError),
    /// The disk.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// What the broker keeps of the metadata log.
    #[error(transparent)]
    Metadata(#[from] MetadataLogError),
    /// The Lease cannot be read, or is not ours: what is needed is not known.
    #[error("the controller Lease cannot be judged: {0}")]
    Lease(#[from] LeaseError),
    /// It says what no version writes.
    #[error("{what}: {problem}")]
    Unreadable {
        /// The file, or the argument.
        what: String,
        /// What is wrong.
        problem: String,
    },
    /// Nothing was ever kept here.
    #[error("the data folder {} is empty: its broker knows of no voters", .0.display())]
    Empty(PathBuf),
    /// Nothing has to be recovered.
    #[error(
        "nothing is to be recovered: the controller Lease is whole (epoch {epoch}, voters {voters}). If so many of \
         these voters are gone for good that no controller is elected, delete the Lease while no broker is \
         controller, and order this again"
    )]
    NotNeeded {
        /// The Lease's epoch.
        epoch: ControllerEpoch,
        /// Its voters.
        voters: Names,
    },
    /// Somebody must be left.
    #[error("{0} is this broker itself, which is not gone")]
    Itself(Voter),
}

/// Voters in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Names(pub BTreeSet<Voter>);

impl fmt::Display for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(if names.is_empty() { "none" } else { "" })?;
        f.write_str(&names.join(", "))
    }
}

/// An order that a broker found.
#[derive(Debug)]
pub(crate) struct RecoveryOrder {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    pub(crate) voters: BTreeSet<Voter>,
}

impl RecoveryOrder {
    /// The order in a data folder, if there is one.
    pub(crate) fn find(disk: &Arc<dyn Disk>, folder: &Path) -> Result<Option<Self>, RecoveryOrderError> {
        let path = folder.join(ORDER_FILE);
        let Some(bytes) = read_small_file(disk.as_ref(), &path, LARGEST_ORDER)? else { return Ok(None) };
        let what = path.display().to_string();
        let text = String::from_utf8(bytes).map_err(|error| unreadable(&what, &error))?;
        let voters = text.lines().map(|line| parse(&what, line)).collect::<Result<_, _>>()?;
        Ok(Some(Self { disk: Arc::clone(disk), path, voters }))
    }

    /// It is carried out, or was not needed. If it stays, the next start finds it; where it meets a Lease without its
    /// voters it is carried out once more, which costs elections and no records.
    pub(crate) fn remove(&self) {
        let removed = self.disk.remove_file(&self.path).and_then(|()| match self.path.parent() {
            Some(folder) => self.disk.sync_dir(folder),
            None => Ok(()),
        });
        match removed {
            Ok(()) => tracing::info!("a controller is heard: the order to recover without voters is removed"),
            Err(error) => tracing::error!(%error, "remove the order to recover without voters by hand"),
        }
    }
}

fn parse(what: &str, text: &str) -> Result<Voter, RecoveryOrderError> {
    text.parse().map_err(|error: odradek_coordination::HolderError| unreadable(what, &error))
}

fn unreadable(what: &str, problem: &dyn fmt::Display) -> RecoveryOrderError {
    RecoveryOrderError::Unreadable { what: what.to_owned(), problem: problem.to_string() }
}

/// An order that was judged and is needed, to be read by who gives it.
#[derive(Debug)]
pub struct RecoveryPlan {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    identity: Identity,
    known: Known,
    without: BTreeSet<Voter>,
    lease: Option<LeaseView>,
}

/// What the broker keeps of the voters.
#[derive(Debug)]
struct Known {
    epoch: ControllerEpoch,
    sets: VoterSets,
    voters: VoterSet,
}

impl RecoveryPlan {
    /// Judges an order for the broker of a configuration, by what it keeps and by the Lease. Nothing is written.
    /// `without` are voters as `<broker id>:<directory id>`.
    ///
    /// # Errors
    /// [`RecoveryOrderError`]
    pub async fn judge(config: &Config, without: &[String]) -> Result<Self, RecoveryOrderError> {
        let disk: Arc<dyn Disk> = Arc::new(RealDisk);
        let without = without.iter().map(|text| parse("--without", text)).collect::<Result<BTreeSet<_>, _>>()?;
        let folder = &config.data_folder;
        let identity =
            DataFolder::identity_at(disk.as_ref(), folder)?.ok_or_else(|| RecoveryOrderError::Empty(folder.clone()))?;
        if identity.broker_id != BrokerId(config.broker_id) {
            let (path, found, expected) = (folder.clone(), identity.broker_id, BrokerId(config.broker_id));
            return Err(DataFolderError::OtherBroker { path, found, expected }.into());
        }
        let known = Known::read(disk.as_ref(), folder)?;
        let lease = coordination::read_lease(config, &disk, &identity.cluster_id).await?;
        known.refuse(&identity, &without, lease.as_ref())?;
        Ok(Self { disk, path: folder.join(ORDER_FILE), identity, known, without, lease })
    }

    /// Writes the order, durably.
    ///
    /// # Errors
    /// [`RecoveryOrderError::Disk`]
    pub fn write(&self) -> Result<(), RecoveryOrderError> {
        let lines: Vec<_> = self.without.iter().map(|voter| format!("{voter}\n")).collect();
        Ok(write_file_durably(self.disk.as_ref(), &self.path, lines.concat().as_bytes())?)
    }
}

impl Known {
    fn read(disk: &dyn Disk, folder: &Path) -> Result<Self, RecoveryOrderError> {
        let promise = read_promise(disk, &folder.join(METADATA_FOLDER))?;
        let sets = VoterSets::decode(&promise.voters).map_err(|error| unreadable("the promise file", &error))?;
        let voters = sets.newest.iter().chain(&sets.pending).flat_map(|set| set.voters.iter().copied()).collect();
        Ok(Self { epoch: promise.epoch, sets, voters })
    }

    fn refuse(
        &self,
        identity: &Identity,
        without: &BTreeSet<Voter>,
        lease: Option<&LeaseView>,
    ) -> Result<(), RecoveryOrderError> {
        let own = Voter { broker_id: identity.broker_id, directory_id: identity.directory_id };
        if without.contains(&own) {
            return Err(RecoveryOrderError::Itself(own));
        }
        let newest = self.sets.newest.as_ref().map(|set| set.stamp.order()).unwrap_or_default();
        match lease {
            // A Lease of another life is whole only if a controller made it, with a higher epoch.
            Some(lease) if (lease.epoch, lease.sequence) >= newest && lease.epoch >= self.epoch => {
                let voters = Names(lease.voters.iter().copied().collect());
                Err(RecoveryOrderError::NotNeeded { epoch: lease.epoch, voters })
            }
            _ => Ok(()),
        }
    }
}

impl fmt::Display for RecoveryPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { identity, known, without, lease, .. } = self;
        let found = match lease {
            None => "is missing".to_owned(),
            Some(lease) => format!("has epoch {}, older than what this broker has promised", lease.epoch),
        };
        let left = Names(known.voters.difference(without).copied().collect());
        let (id, cluster, epoch, all) =
            (identity.broker_id, &identity.cluster_id, known.epoch, Names(known.voters.clone()));
        let gone = Names(without.clone());
        let unknown = Names(without.difference(&known.voters).copied().collect());
        let note = if unknown.0.is_empty() {
            String::new()
        } else {
            format!("\nNot among these: {unknown}. Others may know more: compare with whom the brokers' logs name.\n")
        };
        write!(
            f,
            "Broker {id} of cluster {cluster} knows the metadata up to epoch {epoch} and these voters: {all}.\n\
             The controller Lease {found}. A new controller would wait for the answers of all of them.\n{note}\
             \n\
             Without {gone}:\n\
             - What only they had of the metadata is lost: topics, settings, brokers and elections.\n\
             - Every partition loses its leader, and no replica counts as complete. A sole replica with an intact\n\
             \x20 log leads again by itself. All others wait for an unclean election (kafka-leader-election.sh\n\
             \x20 --election-type unclean --all-topic-partitions): acknowledged records are lost that the elected\n\
             \x20 replica does not have.\n\
             - Leader epochs, broker epochs and producer ids jump above all that may have been given.\n\
             - If one of them is alive, only cut off, two controllers may go on, and what one of them commits is\n\
             \x20 lost. Make sure that none of them ever starts again with the folder named here.\n\
             \n\
             Order the same on every broker that is left, then restart these.\n\
             Voters left, as far as this one knows: {left}.\n"
        )
    }
}

#[cfg(test)]
mod tests {
    use odradek_coordination::quorum::{LeaseStamp, StoredVoterSet};
    use odradek_model::{ClusterId, DirectoryId};
    use uuid::Uuid;

    use super::*;

    fn voter(id: i32) -> Voter {
        Voter { broker_id: BrokerId(id), directory_id: DirectoryId(Uuid::from_u128(id as u128)) }
    }

    fn known() -> Known {
        let stamp = LeaseStamp { uid: "life".into(), epoch: 3, sequence: 7 };
        let voters: VoterSet = [1, 2, 3].map(voter).into();
        let newest = Some(StoredVoterSet { stamp, voters: voters.clone() });
        Known { epoch: 3, sets: VoterSets { newest, pending: Vec::new() }, voters }
    }

    fn lease(epoch: i64, sequence: i64) -> LeaseView {
        LeaseView {
            uid: "life".into(),
            version: "1".into(),
            epoch,
            sequence,
            holder: None,
            voters: vec![voter(1), voter(2)],
            cluster_id: ClusterId::new("c").unwrap(),
        }
    }

    #[test]
    fn an_order_that_is_not_needed_or_names_others_is_refused() {
        let identity = |id| Identity {
            cluster_id: ClusterId::new("c").unwrap(),
            broker_id: BrokerId(id),
            directory_id: voter(id).directory_id,
            last_holder: None,
        };
        let refuse = |id, without: &[i32], lease: Option<&LeaseView>| {
            let without = without.iter().map(|id| voter(*id)).collect();
            known().refuse(&identity(id), &without, lease).map_err(|error| error.to_string())
        };
        assert_eq!(refuse(1, &[2, 3], None), Ok(()));
        assert_eq!(refuse(1, &[3], Some(&lease(2, 9))), Ok(()), "an older one");
        assert_eq!(refuse(1, &[3], Some(&lease(3, 6))), Ok(()), "an older one");
        for whole in [lease(3, 7), lease(4, 0)] {
            let refused = refuse(1, &[3], Some(&whole)).unwrap_err();
            assert!(refused.starts_with("nothing is to be recovered"), "{refused}");
        }
        let refused = refuse(1, &[1], None).unwrap_err();
        assert!(refused.ends_with("is this broker itself, which is not gone"), "{refused}");
        assert_eq!(refuse(1, &[4], None), Ok(()), "another broker may know more");
        assert_eq!(refuse(4, &[3], None), Ok(()), "its own sets may be older than its part among the voters");
    }
}
