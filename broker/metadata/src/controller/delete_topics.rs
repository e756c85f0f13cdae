// SPDX-License-Identifier: Apache-2.0
//! Topics are deleted by name or by id (`ControllerApis.deleteTopics` in Kafka).

use std::collections::BTreeSet;

use bytes::Bytes;
use odradek_model::{TopicId, TopicName};
use thiserror::Error;

use super::Decision;
use crate::Image;
use crate::records::RemoveTopicRecord;

/// A topic as the client names it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum TopicReference {
    /// By name.
    Name(String),
    /// By id.
    Id(TopicId),
}

/// Topics to delete.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DeleteTopics {
    /// Which. A request that names both or neither of name and id is refused by the server.
    pub topics: Vec<TopicReference>,
}

/// A deleted topic.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DeletedTopic {
    /// Its name.
    pub name: TopicName,
    /// Its id.
    pub id: TopicId,
}

/// Why a topic was not deleted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum DeleteTopicError {
    /// No topic has the name (`UNKNOWN_TOPIC_OR_PARTITION`).
    #[error("no topic has this name")]
    UnknownName,
    /// No topic has the id (`UNKNOWN_TOPIC_ID`).
    #[error("no topic has this id")]
    UnknownId,
    /// The zero id (`INVALID_REQUEST`).
    #[error("neither topic name nor id were specified")]
    NoReference,
    /// Named twice in the request, by whichever way (`INVALID_REQUEST`).
    #[error("the topic is named twice in the request")]
    Duplicate,
}

pub(super) fn decide(
    image: &Image,
    command: &DeleteTopics,
) -> Decision<Vec<(TopicReference, Result<DeletedTopic, DeleteTopicError>)>> {
    let resolve = |reference: &TopicReference| match reference {
        TopicReference::Name(name) => image.topic(name).ok_or(DeleteTopicError::UnknownName),
        TopicReference::Id(id) if id.is_zero() => Err(DeleteTopicError::NoReference),
        TopicReference::Id(id) => image.topic_by_id(*id).ok_or(DeleteTopicError::UnknownId),
    };
    let mut references = BTreeSet::new();
    let mut ids = BTreeSet::new();
    let mut duplicate_references = BTreeSet::new();
    let mut duplicate_ids = BTreeSet::new();
    for reference in &command.topics {
        if !references.insert(reference) {
            duplicate_references.insert(reference);
        } else if let Ok(topic) = resolve(reference)
            && !ids.insert(topic.id)
        {
            duplicate_ids.insert(topic.id);
        }
    }
    let mut records = Vec::new();
    let reply = references_in_order(&command.topics)
        .map(|reference| {
            let result = resolve(reference).and_then(|topic| {
                if duplicate_references.contains(reference) || duplicate_ids.contains(&topic.id) {
                    return Err(DeleteTopicError::Duplicate);
                }
                records.push(RemoveTopicRecord { id: Bytes::copy_from_slice(topic.id.0.as_bytes()) }.into());
                Ok(DeletedTopic { name: topic.name.clone(), id: topic.id })
            });
            let twice = duplicate_references.contains(reference);
            (reference.clone(), if twice { Err(DeleteTopicError::Duplicate) } else { result })
        })
        .collect();
    Decision { records, reply }
}

/// Each reference once, where it first stands.
fn references_in_order(topics: &[TopicReference]) -> impl Iterator<Item = &TopicReference> {
    let mut seen = BTreeSet::new();
    topics.iter().filter(move |reference| seen.insert(*reference))
}
