// SPDX-License-Identifier: Apache-2.0
//! What goes by itself: expired offsets, groups without members and offsets, offsets of deleted topics (rule 42).

use std::sync::Arc;

use odradek_model::{Timestamp, TopicId};
use tracing::info;

use super::journalling::{After, Change, MAX_APPEND_BYTES};
use super::{Effect, GroupCoordinator, Phase};
use crate::group::{Group, GroupState};
use crate::records::CommittedOffset;
use crate::timers::Timer;

impl GroupCoordinator {
    /// Removes the committed offsets of deleted topics (by name and id; offsets stored without id go too, and a zero id
    /// matches any).
    pub fn topics_deleted(&mut self, topics: &[(&str, TopicId)], now_ms: Timestamp) -> Vec<Effect> {
        self.now = now_ms;
        if self.phase == Phase::Active {
            let mut changes = Vec::new();
            for (group, stored) in &self.offsets {
                for (name, id) in topics {
                    let Some((topic, partitions)) = stored.get_key_value(*name) else { continue };
                    for (partition, cell) in partitions {
                        let gone = |offset: &CommittedOffset| {
                            offset.topic_id.is_zero() || id.is_zero() || offset.topic_id == *id
                        };
                        if cell.latest().is_some_and(gone) {
                            changes.push(tombstone(group, topic, *partition));
                        }
                    }
                }
            }
            self.append_in_parts(changes);
        }
        self.take_effects()
    }

    pub(super) fn expire_offsets(&mut self) {
        let mut changes = Vec::new();
        let mut gone = Vec::new();
        for group in self.groups.values() {
            if self.expired_of(group, &mut changes) && group.state == GroupState::Empty {
                gone.push(Arc::clone(&group.id));
            }
        }
        for id in gone {
            info!(group = %id, "deleted: no members, no offsets");
            self.remove_group(&id);
            if self.values.get(&id).is_some_and(|cell| cell.latest().is_some()) {
                changes.push(Change::Group { group: id, value: None });
            }
        }
        self.append_in_parts(changes);
        self.correct();
        let next = self.now.saturating_add(self.settings.offsets_retention_check_interval_ms);
        self.timers.schedule(Timer::Expiry, next);
    }

    /// Collects the group's expired offsets; whether no other is left.
    fn expired_of(&self, group: &Group, changes: &mut Vec<Change>) -> bool {
        let mut all = true;
        for (topic, partitions) in self.offsets.get(&group.id).into_iter().flatten() {
            for (partition, cell) in partitions {
                let Some(offset) = cell.latest() else { continue };
                if !group.is_subscribed(topic) && self.is_expired(group, offset) {
                    changes.push(tombstone(&group.id, topic, *partition));
                } else {
                    all = false;
                }
            }
        }
        all
    }

    fn is_expired(&self, group: &Group, offset: &CommittedOffset) -> bool {
        let Some(base) = group.retention_base(offset) else { return false };
        match offset.expire_timestamp {
            Some(expire_timestamp) => self.now >= expire_timestamp,
            None => self.now.saturating_sub(base) >= self.settings.offsets_retention_ms,
        }
    }

    /// Appends many independent changes, each append small enough for one batch.
    fn append_in_parts(&mut self, changes: Vec<Change>) {
        let mut part = Vec::new();
        let mut bytes = 0;
        for change in changes {
            bytes += change.approximate_bytes();
            part.push(change);
            if bytes >= MAX_APPEND_BYTES {
                self.append(std::mem::take(&mut part), After::Nothing);
                bytes = 0;
            }
        }
        if !part.is_empty() {
            self.append(part, After::Nothing);
        }
    }

    /// Number of offsets kept or on their way, for tests and metrics.
    pub fn offset_count(&self) -> usize {
        self.offsets
            .values()
            .flat_map(|topics| topics.values())
            .flat_map(|p| p.values())
            .filter(|cell| cell.latest().is_some())
            .count()
    }
}

fn tombstone(group: &Arc<str>, topic: &Arc<str>, partition: i32) -> Change {
    Change::Offset { group: Arc::clone(group), topic: Arc::clone(topic), partition, value: None }
}
