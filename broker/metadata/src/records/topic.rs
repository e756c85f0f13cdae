// SPDX-License-Identifier: Apache-2.0
//! A topic's birth. Its settings and partitions follow in the same batch.

/// Kind 6.
#[derive(Clone, PartialEq, prost::Message)]
pub struct TopicRecord {
    /// 16 bytes: the topic's id.
    #[prost(bytes = "bytes", tag = "1")]
    pub id: bytes::Bytes,
    /// The topic's name.
    #[prost(string, tag = "2")]
    pub name: String,
    /// Every record of it is forced to the disk before it counts (`flush.messages=1`), and has been since the topic's birth:
    /// so a loss of power costs a replica nothing that it has acknowledged.
    #[prost(bool, tag = "3")]
    pub always_flushed: bool,
}
