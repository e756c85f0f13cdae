// SPDX-License-Identifier: Apache-2.0
//! The texts by which brokers stand in a Lease: holders and voters.

use std::fmt;
use std::str::FromStr;

use odradek_model::{BrokerId, DirectoryId};
use thiserror::Error;

/// One process of a broker: `<broker id>/<incarnation>`, the Lease's `holderIdentity`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Holder {
    /// The broker.
    pub broker_id: BrokerId,
    /// Random text, new with each start of the process; 1 to 64 characters without `/` and white space.
    pub incarnation: String,
}

/// A member of the metadata log's quorum: `<broker id>:<directory id>`. An emptied folder is another voter.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Voter {
    /// The broker.
    pub broker_id: BrokerId,
    /// Its folder.
    pub directory_id: DirectoryId,
}

/// A text in a Lease that is none of ours.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
#[error("{text:?} is not of the form {form}")]
pub struct HolderError {
    text: String,
    form: &'static str,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.broker_id, self.incarnation)
    }
}

impl FromStr for Holder {
    type Err = HolderError;

    fn from_str(text: &str) -> Result<Self, HolderError> {
        let error = || HolderError { text: text.chars().take(100).collect(), form: "<broker id>/<incarnation>" };
        let (id, incarnation) = text.split_once('/').ok_or_else(error)?;
        let id: i32 = id.parse().map_err(|_| error())?;
        let proper = |c: char| !c.is_whitespace() && !c.is_control() && c != '/';
        if id < 0 || incarnation.is_empty() || incarnation.len() > 64 || !incarnation.chars().all(proper) {
            return Err(error());
        }
        Ok(Self { broker_id: BrokerId(id), incarnation: incarnation.to_owned() })
    }
}

impl fmt::Display for Voter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.broker_id, self.directory_id)
    }
}

impl FromStr for Voter {
    type Err = HolderError;

    fn from_str(text: &str) -> Result<Self, HolderError> {
        let error = || HolderError { text: text.chars().take(100).collect(), form: "<broker id>:<directory id>" };
        let (id, directory) = text.split_once(':').ok_or_else(error)?;
        let id: i32 = id.parse().map_err(|_| error())?;
        let directory_id = directory.parse().map_err(|()| error())?;
        if id < 0 { Err(error()) } else { Ok(Self { broker_id: BrokerId(id), directory_id }) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_read_back_and_others_are_refused() {
        let holder = Holder { broker_id: BrokerId(3), incarnation: "a-b".into() };
        assert_eq!(holder.to_string(), "3/a-b");
        assert_eq!("3/a-b".parse(), Ok(holder));
        for bad in ["", "3", "3/", "-1/a", "x/a", "3/a/b", "3/a b", &format!("3/{}", "x".repeat(65))] {
            assert!(bad.parse::<Holder>().is_err(), "{bad}");
        }
        let voter = Voter { broker_id: BrokerId(3), directory_id: DirectoryId(uuid::Uuid::from_bytes([7; 16])) };
        assert_eq!(voter.to_string().parse(), Ok(voter));
        for bad in ["", "3", "3:x", "-1:BwcHBwcHBwcHBwcHBwcHBw", "BwcHBwcHBwcHBwcHBwcHBw"] {
            assert!(bad.parse::<Voter>().is_err(), "{bad}");
        }
    }
}
