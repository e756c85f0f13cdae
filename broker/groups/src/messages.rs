// SPDX-License-Identifier: Apache-2.0
//! What goes into a coordinator and what comes out: requests, responses, effects. Must not know the wire protocol;
//! the server turns its messages into these, applying the differences between versions as each field says.

use std::sync::Arc;

use bytes::Bytes;
use odradek_model::{LeaderEpoch, Offset, TopicId};

use crate::GroupError;

/// Names the request that a [`Effect::Reply`] answers. Chosen by the caller, unique among unanswered requests.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct RequestToken(pub u64);

/// Names an [`Effect::Append`]. Rises by one with each append of a coordinator.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct AppendToken(pub u64);

/// One record for the journal, in Kafka's own format for `__consumer_offsets`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct JournalRecord {
    /// The key; never empty.
    pub key: Bytes,
    /// The value; `None` is a tombstone.
    pub value: Option<Bytes>,
}

/// What the caller has to do, in the order of the list.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Effect {
    /// Answer the request.
    Reply {
        /// The request answered. Each token is answered exactly once, if the caller reports every append.
        token: RequestToken,
        /// The answer.
        response: Response,
    },
    /// Append the records to the journal's partition as one batch (acks=all) and report the outcome by
    /// [`GroupCoordinator::appended`](crate::GroupCoordinator::appended) once it is committed. Appends must reach the
    /// journal in the order of the effects.
    Append {
        /// To be given back.
        token: AppendToken,
        /// At least one record. Only those of a rewrite may be split into several batches.
        records: Vec<JournalRecord>,
    },
}

/// A request to the coordinator of its group.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Request {
    /// JoinGroup.
    Join(JoinGroup),
    /// SyncGroup.
    Sync(SyncGroup),
    /// Heartbeat.
    Heartbeat(Heartbeat),
    /// LeaveGroup.
    Leave(LeaveGroup),
    /// OffsetCommit.
    Commit(OffsetCommit),
    /// OffsetFetch of one group; the server splits a batch.
    Fetch(OffsetFetch),
}

impl Request {
    /// Whether serving it may append to the journal.
    pub fn may_append(&self) -> bool {
        match self {
            Self::Join(_) | Self::Sync(_) | Self::Leave(_) | Self::Commit(_) => true,
            Self::Heartbeat(_) | Self::Fetch(_) => false,
        }
    }
}

/// The answer to the [`Request`] of the same kind.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Response {
    /// JoinGroup.
    Join(JoinGroupResponse),
    /// SyncGroup.
    Sync(SyncGroupResponse),
    /// Heartbeat: nothing, or why not.
    Heartbeat(Option<GroupError>),
    /// LeaveGroup.
    Leave(LeaveGroupResponse),
    /// OffsetCommit.
    Commit(OffsetCommitResponse),
    /// OffsetFetch.
    Fetch(OffsetFetchResponse),
}

/// One protocol a member can speak.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Protocol {
    /// Its name, e.g. an assignor's.
    pub name: Arc<str>,
    /// What the member says under it, e.g. its subscription; opaque but for the topics of protocol type `consumer`.
    pub metadata: Bytes,
}

/// Asks to be a member of the next generation. Answered when that begins.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct JoinGroup {
    /// The group.
    pub group_id: Arc<str>,
    /// Empty for a new member.
    pub member_id: Arc<str>,
    /// Of a static member (KIP-345).
    pub group_instance_id: Option<Arc<str>>,
    /// Milliseconds without heartbeat after which the member is gone.
    pub session_timeout_ms: i32,
    /// Milliseconds that the others wait for it in a rebalance. Version 0 has none: give the session timeout.
    pub rebalance_timeout_ms: i32,
    /// `consumer`, `connect`, …
    pub protocol_type: Arc<str>,
    /// In the order of preference.
    pub protocols: Vec<Protocol>,
    /// Of the request header, empty if null.
    pub client_id: Arc<str>,
    /// Address of the client as Kafka writes it, e.g. `/127.0.0.1`.
    pub client_host: Arc<str>,
    /// Version 4 and above: a new dynamic member is first told its id (KIP-394).
    pub requires_known_member_id: bool,
    /// Version 9 and above: a returning static leader may be told to skip the assignment (KIP-814).
    pub supports_skipping_assignment: bool,
    /// Random text, unique for ever, e.g. a UUID: a new member's id is `<client or instance id>-<this>`.
    pub new_member_suffix: Arc<str>,
}

/// A member as the leader learns it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct JoinedMember {
    /// Its id.
    pub member_id: Arc<str>,
    /// If it is static.
    pub group_instance_id: Option<Arc<str>>,
    /// What it said under the chosen protocol.
    pub metadata: Bytes,
}

/// Answer to [`JoinGroup`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct JoinGroupResponse {
    /// `None` is success.
    pub error: Option<GroupError>,
    /// -1 on most errors.
    pub generation_id: i32,
    /// The group's.
    pub protocol_type: Option<Arc<str>>,
    /// The chosen one. Below version 7 null is sent as empty text.
    pub protocol_name: Option<Arc<str>>,
    /// Member id of the leader; empty on errors.
    pub leader: Arc<str>,
    /// See [`JoinGroup::supports_skipping_assignment`].
    pub skip_assignment: bool,
    /// The member's id.
    pub member_id: Arc<str>,
    /// All members, for the leader; else empty.
    pub members: Vec<JoinedMember>,
}

/// Gives (the leader) and asks for (all) the assignment of the generation.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SyncGroup {
    /// The group.
    pub group_id: Arc<str>,
    /// The generation as joined.
    pub generation_id: i32,
    /// The member.
    pub member_id: Arc<str>,
    /// Of a static member.
    pub group_instance_id: Option<Arc<str>>,
    /// Version 5 and above: checked against the group's if given.
    pub protocol_type: Option<Arc<str>>,
    /// Version 5 and above: checked against the group's if given.
    pub protocol_name: Option<Arc<str>>,
    /// Member id and assignment; from the leader only.
    pub assignments: Vec<(Arc<str>, Bytes)>,
}

/// Answer to [`SyncGroup`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SyncGroupResponse {
    /// `None` is success.
    pub error: Option<GroupError>,
    /// The group's.
    pub protocol_type: Option<Arc<str>>,
    /// The group's.
    pub protocol_name: Option<Arc<str>>,
    /// The member's part.
    pub assignment: Bytes,
}

/// Keeps the session and asks whether a rebalance is on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Heartbeat {
    /// The group.
    pub group_id: Arc<str>,
    /// The generation as joined.
    pub generation_id: i32,
    /// The member.
    pub member_id: Arc<str>,
    /// Of a static member.
    pub group_instance_id: Option<Arc<str>>,
}

/// Who leaves.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MemberIdentity {
    /// Empty if only the instance id is known (an administrator removes a static member).
    pub member_id: Arc<str>,
    /// Of a static member.
    pub group_instance_id: Option<Arc<str>>,
}

/// Members leave. Below version 3 the one member of the request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LeaveGroup {
    /// The group.
    pub group_id: Arc<str>,
    /// Who.
    pub members: Vec<MemberIdentity>,
}

/// Answer to [`LeaveGroup`]. Below version 3 the error of the one member is that of the response.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LeaveGroupResponse {
    /// Error of the whole request.
    pub error: Option<GroupError>,
    /// Per member, in the order of the request; empty if the whole failed.
    pub members: Vec<(MemberIdentity, Option<GroupError>)>,
}

/// An offset to commit.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PartitionCommit {
    /// The partition's index.
    pub partition: i32,
    /// Next offset to read.
    pub offset: Offset,
    /// Leader epoch of the last record read, -1 if unknown.
    pub leader_epoch: LeaderEpoch,
    /// The client's own text.
    pub metadata: Option<Arc<str>>,
}

/// Offsets of one topic to commit.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TopicCommit {
    /// The topic's name. The server resolves ids and refuses unknown topics before.
    pub topic: Arc<str>,
    /// The topic's id ([`TopicId::ZERO`] if there is none).
    pub topic_id: TopicId,
    /// The partitions.
    pub partitions: Vec<PartitionCommit>,
}

/// Stores offsets of a member, or of a consumer that assigns itself (empty member id, generation -1).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OffsetCommit {
    /// The group. The empty id is allowed here.
    pub group_id: Arc<str>,
    /// -1 outside a group.
    pub generation_id: i32,
    /// Empty outside a group.
    pub member_id: Arc<str>,
    /// Of a static member.
    pub group_instance_id: Option<Arc<str>>,
    /// Versions 2 to 4: how long to keep; -1 (and all other versions) is the coordinator's retention.
    pub retention_time_ms: i64,
    /// Version 9 and above: an unknown group is `GROUP_ID_NOT_FOUND`, below `ILLEGAL_GENERATION`.
    pub knows_group_id_not_found: bool,
    /// What.
    pub topics: Vec<TopicCommit>,
}

/// Outcome for the partitions of one topic.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TopicCommitResult {
    /// As in the request.
    pub topic: Arc<str>,
    /// As in the request.
    pub topic_id: TopicId,
    /// Partition and outcome, in the order of the request.
    pub partitions: Vec<(i32, Option<GroupError>)>,
}

/// Answer to [`OffsetCommit`]: an error of the whole request is on every partition, as Kafka answers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OffsetCommitResponse {
    /// Per topic, in the order of the request.
    pub topics: Vec<TopicCommitResult>,
}

/// Topic and partitions whose offsets are wanted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TopicFetch {
    /// The topic's name.
    pub topic: Arc<str>,
    /// The topic's present id; [`TopicId::ZERO`] matches any stored one.
    pub topic_id: TopicId,
    /// The partitions.
    pub partitions: Vec<i32>,
}

/// Asks for committed offsets of one group.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OffsetFetch {
    /// The group.
    pub group_id: Arc<str>,
    /// `None` is all.
    pub topics: Option<Vec<TopicFetch>>,
    /// Answer only from what is committed to the journal, waiting for what is on its way (KIP-447).
    pub require_stable: bool,
}

/// A committed offset, or offset -1, leader epoch -1 and empty metadata where there is none.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FetchedOffset {
    /// The partition's index.
    pub partition: i32,
    /// -1 is none.
    pub offset: Offset,
    /// -1 is unknown.
    pub leader_epoch: LeaderEpoch,
    /// The client's own text.
    pub metadata: Arc<str>,
}

/// Offsets of one topic.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TopicOffsets {
    /// As asked, or the stored name when all were asked for.
    pub topic: Arc<str>,
    /// As asked, or zero when all were asked for: the server fills in the present id.
    pub topic_id: TopicId,
    /// The partitions.
    pub partitions: Vec<FetchedOffset>,
}

/// Answer to [`OffsetFetch`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OffsetFetchResponse {
    /// Error of the whole group.
    pub error: Option<GroupError>,
    /// The offsets; empty on an error.
    pub topics: Vec<TopicOffsets>,
}
