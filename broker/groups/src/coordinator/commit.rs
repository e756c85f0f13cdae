// SPDX-License-Identifier: Apache-2.0
//! OffsetCommit and OffsetFetch (rules 40 and 41; `OffsetMetadataManager` in Kafka).

use std::sync::Arc;

use odradek_model::TopicId;

use super::journalling::{After, Change};
use super::{GroupCoordinator, fetch_error};
use crate::GroupError;
use crate::cell::Cell;
use crate::group::{Group, GroupState};
use crate::messages::{
    FetchedOffset, OffsetCommit, OffsetCommitResponse, OffsetFetch, OffsetFetchResponse, PartitionCommit, RequestToken,
    Response, TopicCommitResult, TopicOffsets,
};
use crate::records::{CommittedOffset, MAX_KEY_TEXT};

/// The answer to a commit that is refused as a whole: the error on every partition.
pub(super) fn refused(request: &OffsetCommit, error: GroupError) -> OffsetCommitResponse {
    let topics = request
        .topics
        .iter()
        .map(|topic| TopicCommitResult {
            topic: Arc::clone(&topic.topic),
            topic_id: topic.topic_id,
            partitions: topic.partitions.iter().map(|p| (p.partition, Some(error))).collect(),
        })
        .collect();
    OffsetCommitResponse { topics }
}

impl GroupCoordinator {
    pub(super) fn commit(&mut self, token: RequestToken, request: &OffsetCommit) {
        if let Err(error) = self.check_commit(request) {
            return self.reply(token, Response::Commit(refused(request, error)));
        }
        let expire_timestamp =
            (request.retention_time_ms != -1).then(|| self.now.saturating_add(request.retention_time_ms));
        let mut changes = Vec::new();
        let mut response = OffsetCommitResponse { topics: Vec::with_capacity(request.topics.len()) };
        for topic in &request.topics {
            let mut partitions = Vec::with_capacity(topic.partitions.len());
            for partition in &topic.partitions {
                let error = self.check_partition(&topic.topic, partition, expire_timestamp.is_some());
                partitions.push((partition.partition, error));
                if error.is_none() {
                    changes.push(Change::Offset {
                        group: Arc::clone(&request.group_id),
                        topic: Arc::clone(&topic.topic),
                        partition: partition.partition,
                        value: Some(CommittedOffset {
                            offset: partition.offset,
                            leader_epoch: partition.leader_epoch.max(-1),
                            metadata: partition.metadata.clone().unwrap_or_else(|| Arc::from("")),
                            commit_timestamp: self.now,
                            expire_timestamp,
                            topic_id: topic.topic_id,
                        }),
                    });
                }
            }
            response.topics.push(TopicCommitResult {
                topic: Arc::clone(&topic.topic),
                topic_id: topic.topic_id,
                partitions,
            });
        }
        if changes.is_empty() {
            return self.reply(token, Response::Commit(response));
        }
        if !self.groups.contains_key(&request.group_id) {
            // A consumer that assigns itself: the group is made by its first offset.
            let group = Group::new(Arc::clone(&request.group_id), self.now);
            self.groups.insert(Arc::clone(&request.group_id), Box::new(group));
        }
        self.append(changes, After::Reply(token, Response::Commit(response)));
    }

    fn check_commit(&mut self, request: &OffsetCommit) -> Result<(), GroupError> {
        if request.group_id.len() > MAX_KEY_TEXT {
            return Err(GroupError::InvalidGroupId);
        }
        let checked = self.with_group(&request.group_id, |this, group| {
            check_member_commit(group, request)?;
            if matches!(group.state, GroupState::Stable | GroupState::PreparingRebalance) {
                // A commit is as good as a heartbeat.
                this.renew_session(group, &request.member_id);
            }
            Ok(())
        });
        checked.unwrap_or(match (request.generation_id < 0, request.knows_group_id_not_found) {
            (true, _) => Ok(()),
            (false, true) => Err(GroupError::GroupIdNotFound),
            (false, false) => Err(GroupError::IllegalGeneration),
        })
    }

    fn check_partition(&self, topic: &str, partition: &PartitionCommit, with_expiry: bool) -> Option<GroupError> {
        let metadata = partition.metadata.as_deref().unwrap_or("");
        if metadata.encode_utf16().count() > self.settings.offset_metadata_max_size {
            return Some(GroupError::OffsetMetadataTooLarge);
        }
        // Texts that the record's int16 lengths cannot hold.
        let too_long = topic.len() > MAX_KEY_TEXT || (with_expiry && metadata.len() > MAX_KEY_TEXT);
        too_long.then_some(GroupError::UnknownServerError)
    }

    pub(super) fn fetch(&mut self, token: RequestToken, request: OffsetFetch) {
        if request.group_id.len() > MAX_KEY_TEXT {
            return self.reply(token, Response::Fetch(fetch_error(GroupError::InvalidGroupId)));
        }
        match self.in_flight.keys().next_back() {
            // What is on its way may be committed before the client looks again: wait for it.
            Some(last) if request.require_stable => self.waiting_fetches.push((*last, token, request)),
            _ => {
                let response = self.fetched(&request);
                self.reply(token, Response::Fetch(response));
            }
        }
    }

    /// The committed offsets that the request asks for.
    pub(super) fn fetched(&self, request: &OffsetFetch) -> OffsetFetchResponse {
        let stored = self.offsets.get(&request.group_id);
        let topics = match &request.topics {
            Some(topics) => topics
                .iter()
                .map(|topic| {
                    let partitions = stored.and_then(|stored| stored.get(&topic.topic));
                    let offset = |partition: &i32| {
                        let committed = partitions.and_then(|p| p.get(partition)?.committed());
                        let committed = committed.filter(|offset| same_topic(offset.topic_id, topic.topic_id));
                        fetched_offset(*partition, committed)
                    };
                    TopicOffsets {
                        topic: Arc::clone(&topic.topic),
                        topic_id: topic.topic_id,
                        partitions: topic.partitions.iter().map(offset).collect(),
                    }
                })
                .collect(),
            None => stored
                .into_iter()
                .flatten()
                .map(|(topic, partitions)| TopicOffsets {
                    topic: Arc::clone(topic),
                    topic_id: TopicId::ZERO,
                    partitions: partitions
                        .iter()
                        .filter_map(|(partition, cell): (_, &Cell<_>)| Some((partition, cell.committed()?)))
                        .map(|(partition, offset)| fetched_offset(*partition, Some(offset)))
                        .collect(),
                })
                .filter(|topic| !topic.partitions.is_empty())
                .collect(),
        };
        OffsetFetchResponse { error: None, topics }
    }
}

/// Whether an offset was committed for this life of the topic; ids may be unknown on either side.
fn same_topic(stored: TopicId, asked: TopicId) -> bool {
    stored.is_zero() || asked.is_zero() || stored == asked
}

fn fetched_offset(partition: i32, committed: Option<&CommittedOffset>) -> FetchedOffset {
    match committed {
        Some(committed) => FetchedOffset {
            partition,
            offset: committed.offset,
            leader_epoch: committed.leader_epoch,
            metadata: Arc::clone(&committed.metadata),
        },
        None => FetchedOffset { partition, offset: -1, leader_epoch: -1, metadata: Arc::from("") },
    }
}

fn check_member_commit(group: &Group, request: &OffsetCommit) -> Result<(), GroupError> {
    if request.generation_id < 0 && group.state == GroupState::Empty {
        // An administrator, or a consumer that assigns itself.
        return Ok(());
    }
    let named = !request.member_id.is_empty() || request.group_instance_id.is_some();
    if request.generation_id < 0 && !named {
        return Err(GroupError::UnknownMemberId);
    }
    group.check_member(&request.member_id, request.group_instance_id.as_deref())?;
    if request.generation_id != group.generation {
        return Err(GroupError::IllegalGeneration);
    }
    if group.state == GroupState::CompletingRebalance {
        return Err(GroupError::RebalanceInProgress);
    }
    Ok(())
}
