// SPDX-License-Identifier: Apache-2.0
//! A partition as a whole: at its birth, and at each change of leader, ISR, ELR or replicas.

/// Kind 8. Replaces the earlier state of the partition. A topic's partitions are born in the order of their indexes.
#[derive(Clone, PartialEq, prost::Message)]
pub struct PartitionRecord {
    /// 16 bytes: the topic's id.
    #[prost(bytes = "bytes", tag = "1")]
    pub topic_id: bytes::Bytes,
    /// The index, from 0.
    #[prost(int32, tag = "2")]
    pub partition: i32,
    /// Broker ids, the preferred leader first.
    #[prost(int32, repeated, tag = "3")]
    pub replicas: Vec<i32>,
    /// Broker ids in sync.
    #[prost(int32, repeated, tag = "4")]
    pub isr: Vec<i32>,
    /// Broker id, -1 for none.
    #[prost(int32, tag = "5")]
    pub leader: i32,
    /// Rises with each record that sets the leader; never goes back for a topic id.
    #[prost(int32, tag = "6")]
    pub leader_epoch: i32,
    /// Rises with each record of the partition.
    #[prost(int32, tag = "7")]
    pub partition_epoch: i32,
    /// Broker ids outside the ISR that hold everything committed (eligible leader replicas, KIP-966). Level 2.
    #[prost(int32, repeated, tag = "8")]
    pub elr: Vec<i32>,
    /// Those of the replicas that a reassignment adds. Level 2.
    #[prost(int32, repeated, tag = "9")]
    pub adding: Vec<i32>,
    /// Those of the replicas that a reassignment removes once it is complete. Level 2.
    #[prost(int32, repeated, tag = "10")]
    pub removing: Vec<i32>,
    /// The leader was elected without being known to hold everything committed, and has not yet recovered. Level 2.
    #[prost(bool, tag = "11")]
    pub recovering: bool,
    /// Those of the replicas whose log was lost with its folder, or found damaged, since they were in sync. Level 2.
    #[prost(int32, repeated, tag = "12")]
    pub lost_logs: Vec<i32>,
}
