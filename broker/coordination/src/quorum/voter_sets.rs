// SPDX-License-Identifier: Apache-2.0
//! The form in which storage keeps what a broker knows of the voters: JSON, so that an administrator can read it.

use odradek_model::ControllerEpoch;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::storage::{LeaseStamp, StoredVoterSet, VoterSets};

/// Bytes that are no voter sets.
#[derive(Debug, Error)]
#[error("the stored voter sets are unreadable: {0}")]
pub struct VoterSetsError(String);

#[derive(Serialize, Deserialize)]
struct Stored {
    newest: Option<Set>,
    pending: Vec<Set>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Set {
    lease_uid: String,
    epoch: ControllerEpoch,
    sequence: i64,
    voters: Vec<String>,
}

impl VoterSets {
    /// The stored form; empty before the first set.
    pub fn encode(&self) -> Vec<u8> {
        if *self == Self::default() {
            return Vec::new();
        }
        let stored = Stored {
            newest: self.newest.as_ref().map(Set::from),
            pending: self.pending.iter().map(Set::from).collect(),
        };
        serde_json::to_vec(&stored).expect("texts and numbers have a JSON form")
    }

    /// What [`Self::encode`] wrote. The bytes are bounded by whoever stores them.
    ///
    /// # Errors
    /// [`VoterSetsError`]
    pub fn decode(bytes: &[u8]) -> Result<Self, VoterSetsError> {
        if bytes.is_empty() {
            return Ok(Self::default());
        }
        let stored: Stored = serde_json::from_slice(bytes).map_err(|error| VoterSetsError(error.to_string()))?;
        let pending: Result<_, _> = stored.pending.into_iter().map(StoredVoterSet::try_from).collect();
        Ok(Self { newest: stored.newest.map(StoredVoterSet::try_from).transpose()?, pending: pending? })
    }
}

impl From<&StoredVoterSet> for Set {
    fn from(set: &StoredVoterSet) -> Self {
        Self {
            lease_uid: set.stamp.uid.clone(),
            epoch: set.stamp.epoch,
            sequence: set.stamp.sequence,
            voters: set.voters.iter().map(ToString::to_string).collect(),
        }
    }
}

impl TryFrom<Set> for StoredVoterSet {
    type Error = VoterSetsError;

    fn try_from(set: Set) -> Result<Self, VoterSetsError> {
        let voters: Result<_, _> = set.voters.iter().map(|voter| voter.parse()).collect();
        let voters = voters.map_err(|error: crate::HolderError| VoterSetsError(error.to_string()))?;
        let stamp = LeaseStamp { uid: set.lease_uid, epoch: set.epoch, sequence: set.sequence };
        Ok(Self { stamp, voters })
    }
}

#[cfg(test)]
mod tests {
    use odradek_model::{BrokerId, DirectoryId};

    use super::*;
    use crate::Voter;

    #[test]
    fn sets_read_back_and_other_bytes_are_refused() {
        let voter = |id| Voter { broker_id: BrokerId(id), directory_id: DirectoryId(uuid::Uuid::from_u128(7)) };
        let set = |sequence| StoredVoterSet {
            stamp: LeaseStamp { uid: "life".into(), epoch: 3, sequence },
            voters: [voter(1), voter(2)].into(),
        };
        for sets in [
            VoterSets::default(),
            VoterSets { newest: Some(set(4)), pending: vec![] },
            VoterSets { newest: Some(set(4)), pending: vec![set(4)] },
        ] {
            assert_eq!(VoterSets::decode(&sets.encode()).expect("reads"), sets);
        }
        for bad in ["{", "[]", r#"{"newest":{"leaseUid":"u","epoch":1,"sequence":1,"voters":["x"]},"pending":[]}"#] {
            assert!(VoterSets::decode(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
