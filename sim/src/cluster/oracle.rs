// SPDX-License-Identifier: Apache-2.0
//! What must hold in every history of a cluster. It knows what clients saw, what the metadata said, and what is on the
//! disks at the end; it must not know how brokers come to any of it.
//!
//! - `records`: what was acknowledged or read stays, at its offset, once and in order; nothing is read that nobody wrote;
//!   whoever may be elected by what is committed in the metadata has all of it.
//! - `metadata`: an epoch of the metadata has one controller, an epoch of a partition one leader; who is in sync is
//!   alive; all brokers hear the same, and nothing goes back.
//! - `groups`: committed offsets do not fall.
//! - `proposals`: one ISR change of a partition at a time.

mod groups;
mod metadata;
mod proposals;
mod records;

use odradek_replication::ReplicaKey;

use self::groups::Groups;
use self::metadata::Metadata;
use self::proposals::Proposals;
pub(super) use self::records::{Entry, Records, entries_on_disk};
use super::process::Shown;
use super::workload::Noted;
pub use crate::quorum::Violation;

/// All checkers.
#[derive(Debug, Default)]
pub(super) struct Oracle {
    pub(super) records: Records,
    pub(super) groups: Groups,
    metadata: Metadata,
    proposals: Proposals,
}

impl Oracle {
    pub(super) fn shown(&mut self, broker: usize, boot: u64, shown: &Shown) -> Result<(), Violation> {
        match shown {
            Shown::Image(image) => self.metadata.image(broker, boot, image),
            Shown::Proposed(key, change) => self.proposals.proposed(broker, boot, *key, change),
            Shown::Refused(key, change) => {
                self.proposals.refused(broker, boot, *key, change);
                Ok(())
            }
            Shown::Leads | Shown::LogStartRaised { .. } | Shown::Recovered { .. } | Shown::DamageTold(_) => Ok(()),
        }
    }

    pub(super) fn noted(&mut self, client: usize, noted: &Noted) -> Result<(), Violation> {
        match noted {
            Noted::CommitTried { offset, .. } => self.groups.tried(client, *offset),
            Noted::Committed { offset, .. } => self.groups.committed(client, *offset),
            Noted::OffsetFetched { key, offset } if !self.records.is_excused(*key) => {
                self.groups.fetched(client, *key, *offset)?;
            }
            Noted::OffsetFetched { .. } => {}
            of_records => self.records.noted(client, of_records)?,
        }
        Ok(())
    }
}

fn at(key: ReplicaKey) -> String {
    format!("partition {} of topic {}", key.partition, key.topic.0.simple())
}
