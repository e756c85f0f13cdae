// SPDX-License-Identifier: Apache-2.0
//! DeleteRecords: the leader's log start rises, followers take it over with their next fetch, and the deletion is done
//! when all live replicas have (rule 34). Must not know which topics allow it.

use odradek_model::{LeaderEpoch, Offset};

use super::{Effect, Partition, Role};
use crate::error::DeleteRecordsError;
use crate::waits::{WaitError, WaitToken, Waiting};

/// What a deletion asked for came to so far.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DeleteRequested {
    /// The offset that was meant: everything below is to go.
    pub offset: Offset,
    /// The lowest log start of all live replicas; the deletion is done once it is at `offset`. -1 if one of them has
    /// not fetched in this reign.
    pub low_watermark: Offset,
}

/// How a deletion that waited ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DeleteOutcome {
    /// Done on all live replicas.
    Deleted {
        /// Their lowest log start.
        low_watermark: Offset,
    },
    /// NOT_LEADER_OR_FOLLOWER 6: leadership or the partition is gone; this replica's records are too.
    NotLeader,
}

impl Partition {
    /// Makes `offset` the log's first, the high watermark if `None` (-1 on the wire). Then [`Self::wait_deletion`].
    pub fn delete_records(
        &mut self,
        offset: Option<Offset>,
        requested_epoch: Option<LeaderEpoch>,
    ) -> Result<(DeleteRequested, Vec<Effect>), DeleteRecordsError> {
        self.leader(requested_epoch)?;
        let high_watermark = self.high_watermark;
        let offset = offset.unwrap_or(high_watermark);
        if !(0..=high_watermark).contains(&offset) {
            return Err(DeleteRecordsError::OffsetOutOfRange { offset, high_watermark });
        }
        self.advance_log_start(offset)?;
        let mut effects = Vec::new();
        self.wake_deletions(&mut effects);
        Ok((DeleteRequested { offset, low_watermark: self.low_watermark() }, effects))
    }

    /// Waits until all live replicas have deleted everything below `offset`.
    pub fn wait_deletion(&mut self, token: WaitToken, offset: Offset) -> Result<Waiting, WaitError> {
        if self.reign().is_none() || self.low_watermark() >= offset {
            return Ok(Waiting::Ready);
        }
        self.waits.wait_deleted(token, offset)?;
        Ok(Waiting::Registered)
    }

    /// The lowest log start of this replica and all live ones; -1 if one of them has not fetched in this reign.
    pub fn low_watermark(&self) -> Offset {
        let own = self.log.log_start_offset();
        let Role::Leader(leader) = &self.role else { return own };
        let is_live = |broker| self.local.brokers.status(broker).is_some_and(|status| !status.fenced);
        let live = leader.followers.iter().filter(|(broker, _)| is_live(**broker));
        live.map(|(_, progress)| progress.log_start.unwrap_or(-1)).fold(own, Offset::min)
    }

    pub(super) fn wake_deletions(&mut self, effects: &mut Vec<Effect>) {
        if !self.waits.has_deletions() {
            return;
        }
        let low_watermark = self.low_watermark();
        let mut woken = Vec::new();
        self.waits.deleted_to(low_watermark, &mut woken);
        let outcome = DeleteOutcome::Deleted { low_watermark };
        effects.extend(woken.into_iter().map(|token| Effect::WakeDeletion { token, outcome }));
    }
}
