// SPDX-License-Identifier: Apache-2.0
//! What a Fetch request comes to before anything is read: who asks, for which replicas, how much. It must not read.
use std::collections::HashSet;
use std::sync::Arc;

use odradek_model::{BrokerEpoch, BrokerId, LeaderEpoch, Offset, TopicId};
use odradek_partition::{FollowerFetch, Isolation, PartitionView};
use odradek_wire::messages::FetchRequest;
use odradek_wire::{ErrorCode, Text};

use crate::api::{isolation, replica_of};
use crate::broker::Broker;
use crate::dispatch::Call;
use crate::fetch_sessions::{Requested, RequestedTopic, Turn};
use crate::replica::Replica;
use crate::replicas::TopicReplicas;

/// Who asks.
pub(super) enum Asker {
    Consumer {
        isolation: Isolation,
        /// Whether it may read where this broker follows: it knows of followers (KIP-392).
        may_follow: bool,
        /// Empty if it has none.
        rack: Text,
    },
    Follower {
        id: BrokerId,
        epoch: BrokerEpoch,
    },
}

/// A request, resolved to replicas.
pub(super) struct Plan {
    pub(super) asker: Asker,
    pub(super) turn: Turn,
    pub(super) partitions: Vec<PartitionPlan>,
    pub(super) max_bytes: usize,
    pub(super) min_bytes: usize,
    pub(super) version: i16,
    pub(super) listener: Arc<str>,
}

pub(super) struct PartitionPlan {
    pub(super) requested: Requested,
    pub(super) replica: Result<Arc<Replica>, ErrorCode>,
    pub(super) offset: Offset,
    pub(super) max_bytes: usize,
    pub(super) current_epoch: Option<LeaderEpoch>,
    pub(super) last_epoch: Option<LeaderEpoch>,
    /// Whether what a follower gets counts against the leader's rate.
    pub(super) is_slowed: bool,
}

impl Plan {
    /// The plan of a request that names, or whose session names, these partitions.
    pub(super) fn new(
        broker: &Broker,
        call: &Call<'_>,
        request: &FetchRequest,
        replica_id: i32,
        (requested, turn): (Vec<Requested>, Turn),
    ) -> Self {
        let version = call.version;
        let most = broker.settings.number("fetch.max.bytes") as usize;
        let asker = if replica_id >= 0 {
            Asker::Follower { id: BrokerId(replica_id), epoch: request.replica_state.replica_epoch }
        } else {
            let isolation = isolation(request.isolation_level);
            Asker::Consumer { isolation, may_follow: version >= 11, rack: request.rack_id.clone() }
        };
        let max_bytes = usize::try_from(request.max_bytes).unwrap_or(0).min(most);
        let mut plan = Self {
            asker,
            turn,
            partitions: Vec::new(),
            max_bytes,
            // More than may be sent can never be reached (KafkaApis caps it the same way).
            min_bytes: usize::try_from(request.min_bytes).unwrap_or(0).min(max_bytes),
            version,
            listener: Arc::clone(&call.peer.listener),
        };
        plan.add(broker, requested);
        plan
    }

    /// Looks at these too.
    pub(super) fn add(&mut self, broker: &Broker, requested: Vec<Requested>) {
        let by_id = self.version >= 13;
        let mut topic = FoundTopic { broker, by_id, last: None };
        let asker = &self.asker;
        self.partitions.extend(requested.into_iter().map(|mut requested| {
            let replica = match topic.find(&requested) {
                Ok(found) => {
                    if by_id && requested.resolved.is_none() {
                        requested.resolved = Some(found.name.clone());
                    }
                    replica_of(Some(found), requested.partition).cloned()
                }
                Err(code) => Err(code),
            };
            let is_slowed = match (asker, &replica) {
                (Asker::Follower { id, .. }, Ok(replica)) => replica.is_slowed_for(broker.id, *id),
                (Asker::Consumer { .. }, _) | (_, Err(_)) => false,
            };
            let position = requested.position;
            PartitionPlan {
                requested,
                replica,
                offset: position.fetch_offset,
                max_bytes: usize::try_from(position.max_bytes).unwrap_or(0),
                current_epoch: Some(position.leader_epoch).filter(|epoch| *epoch >= 0),
                last_epoch: Some(position.last_fetched_epoch).filter(|epoch| *epoch >= 0),
                is_slowed,
            }
        }));
    }

    /// Looks at those too whose wakers have fired since.
    pub(super) fn add_fired(&mut self, broker: &Broker) {
        let mut fired = self.turn.fired();
        if fired.is_empty() {
            return;
        }
        let there: HashSet<_> =
            self.partitions.iter().map(|at| (&at.requested.topic, at.requested.partition)).collect();
        fired.retain(|at| !there.contains(&(&at.topic, at.partition)));
        self.add(broker, fired);
    }

    /// The end that who asks may see.
    pub(super) fn visible_end(&self, view: &PartitionView) -> Offset {
        match &self.asker {
            Asker::Consumer { isolation, .. } => view.visible_end(*isolation),
            Asker::Follower { .. } => view.log_end_offset(),
        }
    }
}

impl PartitionPlan {
    pub(super) fn of_follower(&self, replica: BrokerId, broker_epoch: BrokerEpoch) -> FollowerFetch {
        FollowerFetch {
            replica,
            broker_epoch,
            leader_epoch: self.current_epoch.unwrap_or(-1),
            fetch_offset: self.offset,
            last_fetched_epoch: self.last_epoch,
            log_start_offset: self.requested.position.log_start_offset,
        }
    }
}

/// Looks topics up; neighbours are mostly of one topic.
struct FoundTopic<'a> {
    broker: &'a Broker,
    by_id: bool,
    last: Option<(RequestedTopic, Result<Arc<TopicReplicas>, ErrorCode>)>,
}

impl FoundTopic<'_> {
    fn find(&mut self, requested: &Requested) -> Result<&TopicReplicas, ErrorCode> {
        if self.last.as_ref().is_none_or(|(topic, found)| *topic != requested.topic || found.is_err()) {
            self.last = Some((requested.topic.clone(), self.look_up(requested)));
        }
        let (_, found) = self.last.as_ref().expect("it was just set");
        found.as_deref().map_err(|code| *code)
    }

    fn look_up(&self, requested: &Requested) -> Result<Arc<TopicReplicas>, ErrorCode> {
        let replicas = &self.broker.replicas;
        if !self.by_id {
            return replicas.topic(&requested.topic.name).ok_or(ErrorCode::UnknownTopicOrPartition);
        }
        replicas.topic_by_id(TopicId(requested.topic.id)).ok_or_else(|| match &requested.resolved {
            // Rule 26. A session remembers of which topic it was.
            Some(name) if replicas.topic(name).is_some() => ErrorCode::InconsistentTopicId,
            Some(_) => ErrorCode::UnknownTopicOrPartition,
            None => ErrorCode::UnknownTopicId,
        })
    }
}
