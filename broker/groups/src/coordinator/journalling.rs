// SPDX-License-Identifier: Apache-2.0
//! Writing to the journal, reading it back, and undoing what it refused.

use std::sync::Arc;

use bytes::Bytes;
use odradek_model::Timestamp;
use tracing::{debug, info, warn};

use super::{Effect, GroupCoordinator, GroupError, Phase, failed, join_error, parked_answers};
use crate::cell::Cell;
use crate::group::Group;
#[cfg(test)]
use crate::group::GroupState;
use crate::messages::{AppendToken, JournalRecord, Protocol, RequestToken, Response};
use crate::records::{
    CommittedOffset, RecordKey, decode_group_value, decode_offset_value, encode_offset_value, group_key, offset_key,
};
use crate::timers::Timer;
use crate::{AppendError, RecordError};

/// Overhead of a record in a batch: length, attributes, two deltas, two lengths and a header count, at most 5 bytes
/// each in practice far less. Only an estimate hangs on it.
const RECORD_OVERHEAD: u64 = 12;
/// Records of one append end here: half of the default `max.message.bytes`, so that one more large record still fits.
pub(super) const MAX_APPEND_BYTES: usize = 512 << 10;

/// What to do once an append is answered.
#[derive(Debug)]
pub(super) enum After {
    /// Nothing; a refusal is logged.
    Nothing,
    /// Answer the request.
    Reply(RequestToken, Response),
    /// A new group's first record: without it there is no group.
    NewGroup(Arc<str>),
    /// The leader's assignments for a generation.
    Assignment { group: Arc<str>, generation: i32, assignments: Vec<(Arc<str>, Bytes)> },
    /// A static member's new id in a stable group.
    StaticMember(Box<StaticMember>),
    /// The state was written anew.
    Rewrite,
    /// Values that a rewrite had told wrongly were told anew.
    Correction(Vec<RecordKey>),
}

/// A static member that came back under a new id: what to answer, and how to undo it.
#[derive(Debug)]
pub(super) struct StaticMember {
    pub(super) group: Arc<str>,
    pub(super) instance: Arc<str>,
    pub(super) old_id: Arc<str>,
    pub(super) new_id: Arc<str>,
    pub(super) token: RequestToken,
    pub(super) old_protocols: Vec<Protocol>,
    pub(super) old_rebalance_timeout_ms: i32,
    pub(super) old_session_timeout_ms: i32,
    /// The leader before: told to clients that cannot skip the assignment, so that they do not make one.
    pub(super) old_leader: Option<Arc<str>>,
    pub(super) supports_skipping_assignment: bool,
}

/// An append on its way.
#[derive(Debug)]
pub(super) struct InFlight {
    keys: Vec<RecordKey>,
    after: Vec<After>,
}

impl InFlight {
    /// Whether it writes values that are there already, rather than changes.
    fn is_retelling(&self) -> bool {
        self.after.iter().any(|after| matches!(after, After::Rewrite | After::Correction(_)))
    }

    /// The request that waits for it, if one does that is not also parked with a member.
    pub(super) fn reply(self) -> Option<(RequestToken, Response)> {
        self.after.into_iter().find_map(|after| match after {
            After::Reply(token, response) => Some((token, response)),
            _ => None,
        })
    }
}

/// A change of one key.
pub(super) enum Change {
    Offset { group: Arc<str>, topic: Arc<str>, partition: i32, value: Option<CommittedOffset> },
    Group { group: Arc<str>, value: Option<Bytes> },
}

impl Change {
    pub(super) fn approximate_bytes(&self) -> usize {
        match self {
            Self::Offset { group, topic, value, .. } => {
                group.len() + topic.len() + 70 + value.as_ref().map_or(0, |value| value.metadata.len())
            }
            Self::Group { group, value } => group.len() + 40 + value.as_ref().map_or(0, Bytes::len),
        }
    }

    fn record(&self) -> JournalRecord {
        match self {
            Self::Offset { group, topic, partition, value } => JournalRecord {
                key: offset_key(group, topic, *partition),
                value: value.as_ref().map(encode_offset_value),
            },
            Self::Group { group, value } => JournalRecord { key: group_key(group), value: value.clone() },
        }
    }
}

impl GroupCoordinator {
    /// Takes one record of the journal while loading, in the journal's order. Records of an unknown kind are kept as
    /// they are: Kafka leaves them in the topic too, and whoever wrote them may be back after a downgrade.
    ///
    /// # Errors
    /// [`RecordError`]: the partition must not be served (and its log not be rewritten), or records of a newer version
    /// would be lost.
    ///
    /// # Panics
    /// After [`Self::loaded`].
    pub fn replay(&mut self, key: &[u8], value: Option<&[u8]>, now_ms: Timestamp) -> Result<(), RecordError> {
        assert_eq!(self.phase, Phase::Loading, "records are replayed before the coordinator serves");
        self.now = now_ms;
        let key = match RecordKey::decode(key) {
            Err(RecordError::UnknownType(kind)) => {
                debug!(kind, "a record of an unknown kind is kept as it is");
                self.replay_foreign(key, value);
                return Ok(());
            }
            decoded => decoded?,
        };
        match &key {
            RecordKey::Offset { group, topic, partition } => {
                let value = value.map(decode_offset_value).transpose()?;
                let topics = self.offsets.entry(Arc::clone(group)).or_default();
                topics.entry(Arc::clone(topic)).or_default().entry(*partition).or_default().replay(value);
            }
            RecordKey::Group { group } => {
                if let Some(value) = value {
                    decode_group_value(value)?;
                }
                let value = value.map(Bytes::copy_from_slice);
                self.values.entry(Arc::clone(group)).or_default().replay(value);
            }
        }
        self.forget_key(&key);
        Ok(())
    }

    fn replay_foreign(&mut self, key: &[u8], value: Option<&[u8]>) {
        match value {
            Some(value) => {
                self.foreign.insert(Bytes::copy_from_slice(key), Bytes::copy_from_slice(value));
            }
            None => {
                self.foreign.remove(key);
            }
        }
    }

    /// The journal has been read to its end: sessions begin anew, requests are served.
    ///
    /// # Panics
    /// If called twice.
    pub fn loaded(&mut self, now_ms: Timestamp) -> Vec<Effect> {
        assert_eq!(self.phase, Phase::Loading, "loaded once");
        self.now = now_ms;
        self.phase = Phase::Active;
        let ids: Vec<Arc<str>> = self.values.keys().chain(self.offsets.keys()).cloned().collect();
        for id in ids {
            self.revive(&id);
        }
        self.live_bytes = self.count_live_bytes();
        let over: Vec<Arc<str>> = self
            .groups
            .values()
            .filter(|group| group.members.len() > self.settings.max_size)
            .map(|group| Arc::clone(&group.id))
            .collect();
        for id in over {
            // A group larger than a lowered limit: members past it are not let in again.
            self.with_group(&id, Self::prepare_rebalance);
        }
        self.timers.schedule(Timer::Expiry, now_ms.saturating_add(self.settings.offsets_retention_check_interval_ms));
        info!(groups = self.groups.len(), "group coordinator loaded");
        self.take_effects()
    }

    /// Makes the machine of a group that has a record or offsets but no machine.
    fn revive(&mut self, id: &Arc<str>) {
        if self.groups.contains_key(id) {
            return;
        }
        let value = self.values.get(id).and_then(Cell::latest).and_then(|bytes| decode_group_value(bytes).ok());
        let group = match value {
            Some(value) => Group::from_value(Arc::clone(id), &value),
            None => Group::new(Arc::clone(id), self.now),
        };
        for member_id in group.members.keys() {
            self.renew_session(&group, member_id);
        }
        self.groups.insert(Arc::clone(id), Box::new(group));
    }

    /// Emits one append of the changes, which count at once for decisions. Returns its token.
    pub(super) fn append(&mut self, changes: Vec<Change>, after: After) -> AppendToken {
        let records = changes.iter().map(Change::record).collect();
        let token = self.emit(records);
        let mut keys = Vec::with_capacity(changes.len());
        for change in changes {
            keys.push(match change {
                Change::Offset { group, topic, partition, value } => {
                    let topics = self.offsets.entry(Arc::clone(&group)).or_default();
                    let partitions = topics.entry(Arc::clone(&topic)).or_default();
                    partitions.entry(partition).or_default().write(token, value);
                    RecordKey::Offset { group, topic, partition }
                }
                Change::Group { group, value } => {
                    self.values.entry(Arc::clone(&group)).or_default().write(token, value);
                    RecordKey::Group { group }
                }
            });
        }
        self.in_flight.insert(token, InFlight { keys, after: vec![after] });
        token
    }

    fn emit(&mut self, records: Vec<JournalRecord>) -> AppendToken {
        let token = self.next_append;
        self.next_append.0 += 1;
        self.effects.push(Effect::Append { token, records });
        token
    }

    /// Answers the request now, or once the appends made since `first` are committed.
    pub(super) fn reply_after(&mut self, first: AppendToken, token: RequestToken, response: Response) {
        match self.in_flight.range_mut(first..).next_back() {
            Some((_, in_flight)) => in_flight.after.push(After::Reply(token, response)),
            None => self.reply(token, response),
        }
    }

    /// Outcome of an [`Effect::Append`]: committed, or refused. Outcomes come in the order of the appends; a later one
    /// stands for all before it.
    pub fn appended(&mut self, token: AppendToken, outcome: Result<(), AppendError>, now_ms: Timestamp) -> Vec<Effect> {
        self.now = now_ms;
        let Some(InFlight { keys, after }) = self.in_flight.remove(&token) else {
            // Unloaded meanwhile.
            return self.take_effects();
        };
        for key in &keys {
            let before = self.committed_bytes(key);
            match key {
                RecordKey::Offset { group, topic, partition } => {
                    let cell = self.offsets.get_mut(group).and_then(|t| t.get_mut(topic)?.get_mut(partition));
                    if let Some(cell) = cell {
                        if outcome.is_ok() { cell.commit(token) } else { cell.revert(token) }
                    }
                }
                RecordKey::Group { group } => {
                    if let Some(cell) = self.values.get_mut(group) {
                        if outcome.is_ok() { cell.commit(token) } else { cell.revert(token) }
                    }
                }
            }
            self.live_bytes = self.live_bytes + self.committed_bytes(key) - before;
            self.forget_key(key);
        }
        let error = outcome.err().map(|error| {
            warn!(%error, records = keys.len(), "the group journal refused a change");
            GroupError::from(error)
        });
        // A rewrite, or a correction, that is on its way behind a refused change has told its value.
        let told = self.in_flight.range(token..).any(|(_, later)| later.is_retelling());
        if error.is_some() && told {
            self.uncorrected.extend(keys.iter().cloned());
            self.correct();
        } else if error.is_none() {
            self.correct();
        }
        for after in after {
            self.finish(token, after, error);
        }
        for key in &keys {
            let (RecordKey::Offset { group, .. } | RecordKey::Group { group }) = key;
            if error.is_some() && (self.values.contains_key(group) || self.offsets.contains_key(group)) {
                self.revive(group);
            }
            self.forget_if_void(group);
        }
        self.answer_waiting_fetches();
        self.take_effects()
    }

    fn finish(&mut self, token: AppendToken, after: After, error: Option<GroupError>) {
        match after {
            After::Nothing => {}
            After::Reply(request, response) => {
                let response = match error {
                    Some(error) => failed(response, error),
                    None => response,
                };
                self.reply(request, response);
            }
            After::NewGroup(id) => {
                if let Some(error) = error
                    && !self.values.contains_key(&id)
                {
                    self.drop_new_group(&id, error);
                }
            }
            After::Assignment { group, generation, assignments } => {
                self.with_group(&group, |this, group| this.assigned(group, generation, &assignments, error));
            }
            After::StaticMember(change) => {
                let id = Arc::clone(&change.group);
                self.with_group(&id, |this, group| this.static_member_stored(group, *change, error));
            }
            After::Correction(keys) => {
                if error.is_some() {
                    self.uncorrected.extend(keys);
                }
            }
            After::Rewrite => {
                if self.rewriting == Some(token) {
                    self.rewriting = None;
                }
            }
        }
    }

    /// The first record of a new group was refused: whoever waits in it has to begin again.
    fn drop_new_group(&mut self, id: &Arc<str>, error: GroupError) {
        let Some(mut group) = self.groups.remove(id) else { return };
        for member_id in group.members.keys().chain(&group.pending_join) {
            self.timers.cancel(&Timer::Session(Arc::clone(id), Arc::clone(member_id)));
        }
        self.timers.cancel(&Timer::Join(Arc::clone(id)));
        self.timers.cancel(&Timer::Sync(Arc::clone(id)));
        for (token, response) in parked_answers(&mut group, error) {
            self.reply(token, response);
        }
        if self.offsets.contains_key(id) {
            self.revive(id);
        }
    }

    fn static_member_stored(&mut self, group: &mut Group, change: StaticMember, error: Option<GroupError>) {
        let new_id = Arc::clone(&change.new_id);
        let waiting =
            |group: &Group| group.members.get(&new_id).is_some_and(|member| member.awaiting_join == Some(change.token));
        if let Some(error) = error {
            if group.members.contains_key(&new_id) {
                let was_waiting = waiting(group);
                let protocols = &change.old_protocols;
                group.update_member(&new_id, protocols, change.old_rebalance_timeout_ms, change.old_session_timeout_ms);
                let (join, sync) = group.replace_static(&change.instance, &new_id, &change.old_id);
                self.end_session(group, &new_id);
                self.renew_session(group, &change.old_id);
                if let Some(token) = sync {
                    self.reply(token, Response::Sync(super::sync_error(error)));
                }
                if let Some(token) = join.filter(|token| !was_waiting || *token != change.token) {
                    self.reply(token, Response::Join(join_error(error, &Arc::from(""))));
                }
                if was_waiting {
                    self.reply(change.token, Response::Join(join_error(error, &Arc::from(""))));
                }
            }
            return;
        }
        if !waiting(group) {
            // A rebalance has begun meanwhile and will answer, or has.
            return;
        }
        let mut response = group.join_response(&new_id);
        if change.supports_skipping_assignment {
            response.skip_assignment = group.is_leader(&new_id);
        } else {
            response.members = Vec::new();
            response.leader = change.old_leader.unwrap_or_else(|| Arc::from(""));
        }
        if let Some(member) = group.members.get_mut(&new_id) {
            member.awaiting_join = None;
        }
        self.reply(change.token, Response::Join(response));
    }

    /// An append of all live records, after whose commit **and fsync** the log may start at the first of them. It may
    /// be split into several batches. `None` while one is on its way, or if nothing is live.
    pub fn rewrite(&mut self) -> Option<Effect> {
        if self.phase != Phase::Active || self.rewriting.is_some() {
            return None;
        }
        let keys: Vec<RecordKey> = self.keys().collect();
        let foreign = self.foreign.iter().map(|(key, value)| (key.clone(), Some(value.clone())));
        let foreign = foreign.map(|(key, value)| JournalRecord { key, value });
        let own = keys.iter().map(|key| self.latest_record(key)).filter(|record| record.value.is_some());
        let records: Vec<JournalRecord> = foreign.chain(own).collect();
        if records.is_empty() {
            return None;
        }
        let token = self.emit(records);
        self.in_flight.insert(token, InFlight { keys: Vec::new(), after: vec![After::Rewrite] });
        self.rewriting = Some(token);
        self.effects.pop()
    }

    /// A rewrite took in changes that were refused after all: the journal is told the values that count. If it refuses
    /// that too, they are told again after the next append that it takes, and with the next look for expired offsets.
    pub(super) fn correct(&mut self) {
        let keys: Vec<RecordKey> = std::mem::take(&mut self.uncorrected).into_iter().collect();
        if !keys.is_empty() {
            let records = keys.iter().map(|key| self.latest_record(key)).collect();
            let token = self.emit(records);
            self.in_flight.insert(token, InFlight { keys: Vec::new(), after: vec![After::Correction(keys)] });
        }
    }

    fn latest_record(&self, key: &RecordKey) -> JournalRecord {
        match key {
            RecordKey::Offset { group, topic, partition } => {
                let cell = self.offsets.get(group).and_then(|topics| topics.get(topic)?.get(partition));
                JournalRecord {
                    key: offset_key(group, topic, *partition),
                    value: cell.and_then(Cell::latest).map(encode_offset_value),
                }
            }
            RecordKey::Group { group } => {
                JournalRecord { key: group_key(group), value: self.values.get(group).and_then(Cell::latest).cloned() }
            }
        }
    }

    /// All keys: groups before offsets.
    fn keys(&self) -> impl Iterator<Item = RecordKey> {
        let groups = self.values.keys().map(|group| RecordKey::Group { group: Arc::clone(group) });
        let offsets = self.offsets.iter().flat_map(|(group, topics)| {
            topics.iter().flat_map(move |(topic, partitions)| {
                partitions.keys().map(move |partition| RecordKey::Offset {
                    group: Arc::clone(group),
                    topic: Arc::clone(topic),
                    partition: *partition,
                })
            })
        });
        groups.chain(offsets)
    }

    fn committed_bytes(&self, key: &RecordKey) -> u64 {
        let bytes = match key {
            RecordKey::Offset { group, topic, partition } => self
                .offsets
                .get(group)
                .and_then(|topics| topics.get(topic)?.get(partition)?.committed())
                .map(|value| 10 + group.len() + topic.len() + 42 + value.metadata.len()),
            RecordKey::Group { group } => {
                self.values.get(group).and_then(Cell::committed).map(|value| 4 + group.len() + value.len())
            }
        };
        bytes.map_or(0, |bytes| bytes as u64 + RECORD_OVERHEAD)
    }

    fn count_live_bytes(&self) -> u64 {
        let foreign = self.foreign.iter().map(|(key, value)| (key.len() + value.len()) as u64 + RECORD_OVERHEAD);
        self.keys().map(|key| self.committed_bytes(&key)).chain(foreign).sum()
    }

    /// Drops the cell of a key that has neither value nor write.
    fn forget_key(&mut self, key: &RecordKey) {
        match key {
            RecordKey::Offset { group, topic, partition } => {
                let Some(topics) = self.offsets.get_mut(group) else { return };
                let Some(partitions) = topics.get_mut(topic) else { return };
                if partitions.get(partition).is_some_and(Cell::is_absent) {
                    partitions.remove(partition);
                }
                if partitions.is_empty() {
                    topics.remove(topic);
                }
                if topics.is_empty() {
                    self.offsets.remove(group);
                }
            }
            RecordKey::Group { group } => {
                if self.values.get(group).is_some_and(Cell::is_absent) {
                    self.values.remove(group);
                }
            }
        }
    }

    fn answer_waiting_fetches(&mut self) {
        let first_in_flight = self.in_flight.keys().next().copied();
        let ready = |upto: AppendToken| first_in_flight.is_none_or(|first| first > upto);
        let (answer, wait) = std::mem::take(&mut self.waiting_fetches).into_iter().partition(|(upto, ..)| ready(*upto));
        self.waiting_fetches = wait;
        let answer: Vec<_> = answer;
        for (_, token, request) in answer {
            let response = self.fetched(&request);
            self.reply(token, Response::Fetch(response));
        }
    }

    /// The journal's content as this state sees it, committed only: for tests.
    #[cfg(test)]
    pub(super) fn committed_records(&self) -> Vec<JournalRecord> {
        self.keys()
            .map(|key| match &key {
                RecordKey::Offset { group, topic, partition } => JournalRecord {
                    key: offset_key(group, topic, *partition),
                    value: self.offsets[group][topic][partition].committed().map(encode_offset_value),
                },
                RecordKey::Group { group } => {
                    JournalRecord { key: group_key(group), value: self.values[group].committed().cloned() }
                }
            })
            .filter(|record| record.value.is_some())
            .collect()
    }

    /// Whether the journal is still to be told of refused changes, for tests.
    #[cfg(test)]
    pub(super) fn has_corrections(&self) -> bool {
        let correcting = |f: &InFlight| f.after.iter().any(|after| matches!(after, After::Correction(_)));
        !self.uncorrected.is_empty() || self.in_flight.values().any(correcting)
    }

    /// Whether the state is whole, for tests: every group that is not empty has members, every machine a reason.
    #[cfg(test)]
    pub(super) fn check(&self) {
        for group in self.groups.values() {
            match group.state {
                GroupState::Empty => assert!(group.members.is_empty(), "{group:?}"),
                GroupState::Stable | GroupState::CompletingRebalance => {
                    assert!(!group.members.is_empty(), "{group:?}");
                }
                GroupState::PreparingRebalance => {}
            }
            for id in group.static_members.values() {
                assert!(group.members.contains_key(id), "{group:?}");
            }
            if let Some(leader) = &group.leader {
                assert!(group.members.contains_key(leader), "{group:?}");
            }
        }
        assert_eq!(self.live_bytes, self.count_live_bytes());
    }
}
