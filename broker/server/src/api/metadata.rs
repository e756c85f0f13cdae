// SPDX-License-Identifier: Apache-2.0
//! Metadata (3): brokers, topics, leaders; creates a topic that is asked for (rules 28, 36).
use std::collections::HashSet;
use std::sync::Arc;

use odradek_metadata::{BrokerImage, Image, TopicImage};
use odradek_model::{TopicId, TopicName};
use odradek_wire::ErrorCode;
use odradek_wire::messages::{
    MetadataRequest, MetadataRequestTopic, MetadataResponse, MetadataResponseBroker, MetadataResponsePartition,
    MetadataResponseTopic,
};

use crate::broker::{Broker, LeadersOf};
use crate::dispatch::{Answer, Answered, Call};

/// Read, Write, Create, Delete, Alter, Describe, DescribeConfigs, AlterConfigs: everybody may do everything as long
/// as there are no ACLs (bits are `AclOperation` codes, KIP-430).
pub(super) const TOPIC_OPERATIONS: i32 = 1 << 3 | 1 << 4 | 1 << 5 | 1 << 6 | 1 << 7 | 1 << 8 | 1 << 10 | 1 << 11;
/// Create, Alter, Describe, ClusterAction, DescribeConfigs, AlterConfigs, IdempotentWrite.
pub(super) const CLUSTER_OPERATIONS: i32 = 1 << 5 | 1 << 7 | 1 << 8 | 1 << 9 | 1 << 10 | 1 << 11 | 1 << 12;

pub(crate) fn handle(broker: &Arc<Broker>, call: &Call<'_>, request: MetadataRequest) -> Answer<MetadataResponse> {
    let (version, listener) = (call.version, Arc::clone(&call.peer.listener));
    let leaders = leaders_of(&request, version);
    let others = broker.other_leaders(&leaders);
    if others.is_empty() {
        return Answer::now(answer(broker, version, &listener, request));
    }
    // The client may ask as it has just lost a leader.
    let (broker, stopping) = (Arc::clone(broker), call.peer.stopping.clone());
    Answer::later(async move {
        tokio::select! {
            () = broker.leaders_known(&leaders, others) => {}
            () = stopping.cancelled() => {}
        }
        Answered::from(answer(&broker, version, &listener, request))
    })
}

fn leaders_of(request: &MetadataRequest, version: i16) -> LeadersOf {
    match &request.topics {
        Some(topics) if version > 0 || !topics.is_empty() => {
            let names = topics.iter().filter_map(|topic| topic.name.as_deref().map(Into::into)).collect();
            let ids = topics.iter().filter(|topic| !topic.topic_id.is_nil()).map(|topic| TopicId(topic.topic_id));
            LeadersOf::Topics { names, ids: ids.collect() }
        }
        _ => LeadersOf::All,
    }
}

fn answer(broker: &Arc<Broker>, version: i16, listener: &str, request: MetadataRequest) -> MetadataResponse {
    let image = broker.image();
    let mut response = MetadataResponse {
        cluster_id: Some(broker.cluster_id.as_str().into()),
        // As in Kafka a live broker that forwards: this one.
        controller_id: broker.id.0,
        ..MetadataResponse::default()
    };
    for member in image.brokers().filter(|member| !member.fenced) {
        let Some((host, port)) = broker.endpoint(member, listener) else {
            continue;
        };
        response.brokers.push(MetadataResponseBroker {
            node_id: member.id.0,
            host: host.into(),
            port: i32::from(port),
            rack: member.rack.as_deref().map(Into::into),
        });
    }
    // No list is all topics; in version 0 so is an empty one (rule 36).
    let wanted = request.topics.as_ref().filter(|topics| version > 0 || !topics.is_empty());
    let view = View { broker, image: &image, version, listener };
    match wanted {
        None => response.topics = image.topics().map(|topic| view.topic(topic)).collect(),
        // Versions 10 and 11 have the fields of 12 but not their meaning: the whole request is refused.
        Some(topics) if version < 12 && topics.iter().any(|topic| topic.name.is_none() || !topic.topic_id.is_nil()) => {
            response.topics = topics.iter().map(refuse).collect();
        }
        // As in Kafka: one id among them, and only ids count.
        Some(topics) if topics.iter().any(|topic| !topic.topic_id.is_nil()) => {
            let mut seen = HashSet::new();
            let ids = topics.iter().map(|topic| topic.topic_id).filter(|id| !id.is_nil() && seen.insert(*id));
            response.topics = ids.map(|id| view.by_id(TopicId(id))).collect();
        }
        Some(topics) => {
            let may_create = broker.settings.auto_create_topics() && (version < 4 || request.allow_auto_topic_creation);
            let mut seen = HashSet::new();
            for topic in topics.iter().filter(|topic| seen.insert(topic.name.as_deref())) {
                response.topics.push(match &topic.name {
                    Some(name) => view.by_name(name, may_create),
                    None => refuse(topic),
                });
            }
        }
    }
    if version < 12 {
        // Null only from version 12 on; without a name there is an id, which needs 12 too.
        for topic in &mut response.topics {
            topic.name.get_or_insert_with(|| "".into());
        }
    }
    if version >= 8 && request.include_topic_authorized_operations {
        for topic in response.topics.iter_mut().filter(|topic| topic.name.is_some()) {
            topic.topic_authorized_operations = TOPIC_OPERATIONS;
        }
    }
    if (8..=10).contains(&version) && request.include_cluster_authorized_operations {
        response.cluster_authorized_operations = CLUSTER_OPERATIONS;
    }
    response
}

fn refuse(topic: &MetadataRequestTopic) -> MetadataResponseTopic {
    MetadataResponseTopic {
        error_code: ErrorCode::InvalidRequest.code(),
        name: topic.name.clone(),
        topic_id: topic.topic_id,
        ..MetadataResponseTopic::default()
    }
}

struct View<'a> {
    broker: &'a Arc<Broker>,
    image: &'a Image,
    version: i16,
    listener: &'a str,
}

impl View<'_> {
    fn topic(&self, topic: &TopicImage) -> MetadataResponseTopic {
        let partitions = topic.partitions.iter().enumerate().map(|(index, partition)| {
            let alive = partition.leader.and_then(|id| self.image.broker(id)).filter(|leader| !leader.fenced);
            let reachable = |leader: &&BrokerImage| self.broker.endpoint(leader, self.listener).is_some();
            let leader = alive.map(|leader| &**leader).filter(reachable);
            let code = match (alive, leader) {
                (_, Some(_)) => ErrorCode::None,
                (Some(_), None) if self.version >= 6 => ErrorCode::ListenerNotFound,
                _ => ErrorCode::LeaderNotAvailable,
            };
            let offline = |id: &&odradek_model::BrokerId| self.image.broker(**id).is_none_or(|b| b.fenced);
            MetadataResponsePartition {
                error_code: code.code(),
                partition_index: index as i32,
                leader_id: leader.map_or(-1, |leader| leader.id.0),
                leader_epoch: partition.leader_epoch,
                replica_nodes: partition.replicas.iter().map(|id| id.0).collect(),
                isr_nodes: partition.isr.iter().map(|id| id.0).collect(),
                offline_replicas: partition.replicas.iter().filter(offline).map(|id| id.0).collect(),
            }
        });
        MetadataResponseTopic {
            name: Some((*topic.name).into()),
            topic_id: topic.id.0,
            is_internal: topic.name.is_internal(),
            partitions: partitions.collect(),
            ..MetadataResponseTopic::default()
        }
    }

    fn by_id(&self, id: TopicId) -> MetadataResponseTopic {
        match self.image.topic_by_id(id) {
            Some(topic) => self.topic(topic),
            None => MetadataResponseTopic {
                error_code: ErrorCode::UnknownTopicId.code(),
                name: None,
                topic_id: id.0,
                ..MetadataResponseTopic::default()
            },
        }
    }

    fn by_name(&self, name: &str, may_create: bool) -> MetadataResponseTopic {
        if let Some(topic) = self.image.topic(name) {
            return self.topic(topic);
        }
        let unknown = MetadataResponseTopic { name: Some(name.into()), ..MetadataResponseTopic::default() };
        let Ok(valid) = TopicName::new(name) else {
            return MetadataResponseTopic { error_code: ErrorCode::InvalidTopicException.code(), ..unknown };
        };
        let is_internal = valid.is_internal();
        // Internal topics are made by those who need them, with settings of their own. Of a name that collides with
        // another topic's the log tells, as in Kafka.
        if may_create && !is_internal {
            self.broker.create_behind(name);
        }
        MetadataResponseTopic { error_code: ErrorCode::UnknownTopicOrPartition.code(), is_internal, ..unknown }
    }
}
