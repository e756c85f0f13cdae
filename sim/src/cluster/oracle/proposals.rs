// SPDX-License-Identifier: Apache-2.0
//! ISR changes: while it is not known that one was refused, no other is proposed for the same state of a partition.

use std::collections::BTreeMap;

use odradek_partition::IsrChange;
use odradek_replication::ReplicaKey;

use super::{Violation, at};

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Proposals {
    /// By process: the last one that was not refused.
    open: BTreeMap<(usize, u64, ReplicaKey), IsrChange>,
}

impl Proposals {
    pub(super) fn proposed(
        &mut self,
        broker: usize,
        boot: u64,
        key: ReplicaKey,
        change: &IsrChange,
    ) -> Result<(), Violation> {
        let state = |change: &IsrChange| (change.leader_epoch, change.partition_epoch);
        let members = |change: &IsrChange| change.in_sync.iter().map(|member| member.broker).collect::<Vec<_>>();
        let before = self.open.insert((broker, boot, key), change.clone());
        match before.filter(|before| state(before) == state(change)) {
            Some(before) if members(&before) != members(change) => {
                let reason = format!("{}: broker {broker} proposes {change:?} while {before:?} is open", at(key));
                Err(Violation(reason))
            }
            Some(before) if before.attempt >= change.attempt => {
                let reason = format!("{}: broker {broker} proposes {change:?} after {before:?}", at(key));
                Err(Violation(reason))
            }
            _ => Ok(()),
        }
    }

    pub(super) fn refused(&mut self, broker: usize, boot: u64, key: ReplicaKey, change: &IsrChange) {
        let place = (broker, boot, key);
        if self.open.get(&place).is_some_and(|open| open.attempt <= change.attempt) {
            self.open.remove(&place);
        }
    }
}
