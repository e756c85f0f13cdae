// SPDX-License-Identifier: Apache-2.0
//! What travels between brokers, and between clients and brokers: the contents of the requests, without their bytes.
//! Must not know how it travels.

use std::collections::BTreeMap;

use bytes::Bytes;
use odradek_coordination::quorum;
use odradek_metadata::{Command, Heartbeat, Reply};
use odradek_model::{BrokerEpoch, BrokerId, LeaderEpoch, Offset, TopicName};
use odradek_partition::{Acks, FetchAnswer, FetchPlan, LeaderOffsets, OffsetsPlan};
use odradek_replication::{Ask, ReplicaKey};
use odradek_server::controller::{ControllerUnavailable, Decided, HeartbeatAnswer};

/// The rack of a broker or a client by its number.
pub(super) fn rack_name(rack: u8) -> String {
    format!("rack-{rack}")
}

/// Names a call; never used twice in a run.
pub(super) type CallId = u64;

/// Who sends and receives, by its place in the world.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Endpoint {
    Broker(usize),
    Client(usize),
}

#[derive(Debug)]
pub(super) enum Message {
    Quorum(quorum::Message),
    Call(CallId, Request),
    Return(CallId, Answer),
}

/// A fetch of a broker that follows.
#[derive(Clone, Debug)]
pub(super) struct Replicate {
    pub(super) from: BrokerId,
    pub(super) broker_epoch: BrokerEpoch,
    pub(super) wait_ms: i64,
    pub(super) request_bytes: usize,
    pub(super) asks: Vec<Ask<FetchPlan>>,
}

/// A fetch of a consumer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Consume {
    pub(super) key: ReplicaKey,
    /// Of the leader that it believes in.
    pub(super) leader_epoch: LeaderEpoch,
    pub(super) offset: Offset,
    /// Where the consumer is.
    pub(super) rack: Option<u8>,
}

#[derive(Debug)]
pub(super) enum Request {
    /// Of a broker, for the controller.
    Decide(Command),
    /// Of a broker, for the controller.
    Heartbeat(Heartbeat),
    /// Of a client, for any broker.
    Admin(Command),
    Replicate(Replicate),
    LeaderOffsets(Vec<Ask<OffsetsPlan>>),
    Metadata,
    Produce {
        key: ReplicaKey,
        records: Bytes,
        acks: Acks,
    },
    Consume(Consume),
    /// Of a client, for the coordinator of the group.
    Group(String, odradek_groups::Request),
    /// Of the leader of journals: by which leader epochs does the broker act?
    ConfirmLeadership(Vec<ReplicaKey>),
    LatestOffset {
        key: ReplicaKey,
        leader_epoch: LeaderEpoch,
    },
}

/// What a client learns of a partition.
#[derive(Clone, Debug)]
pub(super) struct PartitionSeen {
    pub(super) key: ReplicaKey,
    pub(super) topic: TopicName,
    pub(super) leader: Option<BrokerId>,
    pub(super) leader_epoch: LeaderEpoch,
    pub(super) replicas: Vec<BrokerId>,
}

/// Why a client was not served.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Refusal {
    /// Ask another broker, or the same again.
    Again,
    /// The log does not have what comes before (OUT_OF_ORDER_SEQUENCE_NUMBER).
    OutOfOrder {
        /// In which epoch the broker believes that it leads: for the checkers, clients are not told.
        leader_epoch: LeaderEpoch,
    },
    /// There is no such offset (OFFSET_OUT_OF_RANGE); the log holds what is between these.
    OutOfRange { start: Offset, end: Offset },
}

/// What a consumer gets.
#[derive(Clone, Debug)]
pub(super) struct Consumed {
    pub(super) records: Bytes,
    /// Who is nearer to the consumer and has what it asks for; then there are no records.
    pub(super) nearer: Option<BrokerId>,
    pub(super) high_watermark: Offset,
    pub(super) leader_epoch: LeaderEpoch,
}

/// A batch that was taken.
#[derive(Clone, Copy, Debug)]
pub(super) struct Produced {
    pub(super) base_offset: Offset,
    pub(super) leader_epoch: LeaderEpoch,
}

#[derive(Debug)]
pub(super) enum Answer {
    Decided(Result<Decided, ControllerUnavailable>),
    Heartbeat(Result<HeartbeatAnswer, ControllerUnavailable>),
    /// `None` if no controller decided, as far as is known.
    Admin(Option<Reply>),
    Replicate(Vec<(Ask<FetchPlan>, Option<FetchAnswer>)>),
    LeaderOffsets(Vec<(Ask<OffsetsPlan>, Option<LeaderOffsets>)>),
    /// `None` from a broker that does not serve clients.
    Metadata(Option<Vec<PartitionSeen>>),
    Produced(Result<Produced, Refusal>),
    Consumed(Result<Consumed, Refusal>),
    LatestOffset(Result<Offset, Refusal>),
    /// Of the replicas that it has.
    Leaderships(BTreeMap<ReplicaKey, LeaderEpoch>),
    Group(Result<odradek_groups::Response, odradek_groups::GroupError>),
}
