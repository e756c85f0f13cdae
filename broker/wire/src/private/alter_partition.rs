// SPDX-License-Identifier: Apache-2.0
//! AlterPartition: a leader proposes the ISRs of its partitions (Kafka's message of that name, numbered here).
//! It must not know what a controller does with it.

use odradek_wire_derive::Wire;
use uuid::Uuid;

use super::ControllerAnswer;

/// The proposals of one leader.
#[derive(Clone, Debug, PartialEq, Wire)]
#[wire(versions = "0", flexible = "0+")]
pub struct AlterPartitionRequest {
    /// The leader.
    pub broker_id: i32,
    /// Its registration.
    pub broker_epoch: i64,
    /// The controller for which it is meant.
    pub controller_epoch: i64,
    /// Above that of every earlier request of this registration.
    pub sequence: i64,
    /// The proposals.
    pub partitions: Vec<ProposedPartitionState>,
}

/// The proposal for one partition.
#[derive(Clone, Debug, PartialEq, Wire)]
pub struct ProposedPartitionState {
    /// The topic.
    pub topic_id: Uuid,
    /// The index.
    pub partition: i32,
    /// As the leader knows it.
    pub leader_epoch: i32,
    /// The state on which the proposal is based.
    pub partition_epoch: i32,
    /// The ISR wanted, the leader included.
    pub isr: Vec<ProposedMember>,
    /// Whether the leader is still recovering from an unclean election.
    pub recovering: bool,
}

/// A member of a proposed ISR.
#[derive(Clone, Debug, PartialEq, Wire)]
pub struct ProposedMember {
    /// The replica.
    pub broker_id: i32,
    /// The registration under which it fetched; -1 is not checked.
    #[wire(default = -1)]
    pub broker_epoch: i64,
}

/// What became of the proposals.
#[derive(Clone, Debug, PartialEq, Wire)]
#[wire(versions = "0", flexible = "0+")]
pub struct AlterPartitionResponse {
    /// Who answers.
    pub controller: ControllerAnswer,
    /// 0, or why the whole request was refused: 1 stale broker epoch, 2 too late, 3 too many partitions.
    pub refusal: i8,
    /// Per partition in the order of the request.
    pub partitions: Vec<AlteredPartitionState>,
}

/// What became of one proposal.
#[derive(Clone, Debug, PartialEq, Wire)]
pub struct AlteredPartitionState {
    /// The topic.
    pub topic_id: Uuid,
    /// The index.
    pub partition: i32,
    /// 0, or why it was refused, in the order in which the rules are checked: 1 unknown topic id, 2 unknown partition,
    /// 3 not the controller, 4 fenced leader epoch, 5 not the leader, 6 stale partition epoch, 7 not within the
    /// replicas, 8 without the leader, 9 recovering but not alone, 10 recovering after it had recovered, 11 ineligible
    /// replica, 12 taken, and another leads.
    pub refusal: i8,
    /// The leader; with 11 the ineligible replica.
    #[wire(default = -1)]
    pub leader: i32,
    /// Its epoch; with 4 the present one.
    #[wire(default = -1)]
    pub leader_epoch: i32,
    /// The new state's epoch; with 6 the present one.
    #[wire(default = -1)]
    pub partition_epoch: i32,
    /// The ISR.
    pub isr: Vec<i32>,
    /// Whether the leader is recovering.
    pub recovering: bool,
}
