// SPDX-License-Identifier: Apache-2.0
//! What must hold in every history. Knows nothing of how members come to their decisions.

use std::collections::BTreeMap;

use odradek_coordination::Holder;
use odradek_model::{ControllerEpoch, Offset};

/// Something that must never happen.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Violation(pub String);

/// The committed records, from what members say is committed.
#[derive(Debug, Default)]
pub struct Oracle {
    committed: Vec<u64>,
    leaders: BTreeMap<ControllerEpoch, Holder>,
}

impl Oracle {
    /// How many records were ever committed.
    pub fn committed(&self) -> Offset {
        self.committed.len() as Offset
    }

    /// The broker says that these records, from the offset on, are committed, and holds them.
    pub fn commit(&mut self, who: &Holder, from: Offset, records: &[u64]) -> Result<(), Violation> {
        for (i, record) in records.iter().enumerate() {
            let offset = from as usize + i;
            match self.committed.get(offset) {
                Some(other) if other != record => {
                    let reason = format!("{who} committed {record:x} at {offset}, where {other:x} was committed");
                    return Err(Violation(reason));
                }
                Some(_) => {}
                None if offset == self.committed.len() => self.committed.push(*record),
                None => return Err(Violation(format!("{who} left a gap before {offset}"))),
            }
        }
        Ok(())
    }

    /// The broker begins to decide. A stale one may learn late that its epoch record was committed, so it need not have
    /// all that is committed by now.
    pub fn lead(&mut self, who: &Holder, epoch: ControllerEpoch) -> Result<(), Violation> {
        match self.leaders.insert(epoch, who.clone()) {
            Some(other) => Err(Violation(format!("{other} and {who} both lead epoch {epoch}"))),
            None => Ok(()),
        }
    }
}
