// SPDX-License-Identifier: Apache-2.0
//! The coordinator of all groups whose journal is one partition of `__consumer_offsets`.

use odradek_model::{Timestamp, TopicId};

use crate::{AppendError, AppendToken, Effect, GroupSettings, RecordError, Request, RequestToken};

/// State of the groups of one journal partition. See the crate for the order of calls.
#[derive(Debug)]
pub struct GroupCoordinator {
    settings: GroupSettings,
}

impl GroupCoordinator {
    /// An empty coordinator that is loading: requests are answered with "loading" until [`Self::loaded`].
    pub fn new(settings: GroupSettings) -> Self {
        Self { settings }
    }

    /// Takes one record of the journal while loading, in the journal's order.
    pub fn replay(&mut self, _key: &[u8], _value: Option<&[u8]>, _now_ms: Timestamp) -> Result<(), RecordError> {
        todo!()
    }

    /// The journal has been read to its end: sessions begin anew, requests are served.
    pub fn loaded(&mut self, _now_ms: Timestamp) -> Vec<Effect> {
        todo!()
    }

    /// The partition moved away or the broker stops: every waiting request is answered, nothing is served any more.
    pub fn unload(&mut self) -> Vec<Effect> {
        todo!()
    }

    /// Serves a request; its reply may come from a later call.
    pub fn handle(&mut self, _token: RequestToken, _request: Request, _now_ms: Timestamp) -> Vec<Effect> {
        todo!()
    }

    /// Outcome of an [`Effect::Append`]: committed, or refused.
    pub fn appended(&mut self, _: AppendToken, _: Result<(), AppendError>, _now_ms: Timestamp) -> Vec<Effect> {
        todo!()
    }

    /// When [`Self::tick`] is wanted next, in milliseconds since the epoch.
    pub fn next_deadline(&self) -> Option<Timestamp> {
        todo!()
    }

    /// Does all that is due: sessions, rebalances, expiry of offsets.
    pub fn tick(&mut self, _now_ms: Timestamp) -> Vec<Effect> {
        todo!()
    }

    /// Removes the committed offsets of deleted topics (by name and id; offsets stored without id go too).
    pub fn topics_deleted(&mut self, _topics: &[(&str, TopicId)], _now_ms: Timestamp) -> Vec<Effect> {
        todo!()
    }

    /// An append of all live records, after whose commit (and fsync) the log may start at the first of them.
    pub fn rewrite(&mut self) -> Option<Effect> {
        todo!()
    }

    /// Bytes that [`Self::rewrite`] would write, roughly.
    pub fn live_bytes(&self) -> u64 {
        todo!()
    }
}
