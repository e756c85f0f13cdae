// SPDX-License-Identifier: Apache-2.0
//! ConfirmLeadership: the leader of partitions asks another replica by which leader epochs it acts.
//! It must not know what follows from that.

use odradek_wire_derive::Wire;
use uuid::Uuid;

/// The question.
#[derive(Clone, Debug, PartialEq, Wire)]
#[wire(versions = "0", flexible = "0+")]
pub struct ConfirmLeadershipRequest {
    /// The partitions.
    pub partitions: Vec<LedPartition>,
}

/// A partition that the asking broker leads.
#[derive(Clone, Debug, PartialEq, Wire)]
pub struct LedPartition {
    /// The topic.
    pub topic_id: Uuid,
    /// The index.
    pub partition: i32,
}

/// The answer. Partitions of which the answering broker has no replica, or one that has not heard of any leader since
/// its start, are left out.
#[derive(Clone, Debug, PartialEq, Wire)]
#[wire(versions = "0", flexible = "0+")]
pub struct ConfirmLeadershipResponse {
    /// The others.
    pub partitions: Vec<KnownLeadership>,
}

/// By which epoch a replica acts.
#[derive(Clone, Debug, PartialEq, Wire)]
pub struct KnownLeadership {
    /// The topic.
    pub topic_id: Uuid,
    /// The index.
    pub partition: i32,
    /// The highest leader epoch in which it has led or followed, since its start.
    pub leader_epoch: i32,
}
