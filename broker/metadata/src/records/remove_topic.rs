// SPDX-License-Identifier: Apache-2.0
//! A topic's end, with its partitions and settings.

/// Kind 7.
#[derive(Clone, PartialEq, prost::Message)]
pub struct RemoveTopicRecord {
    /// 16 bytes: the topic's id.
    #[prost(bytes = "bytes", tag = "1")]
    pub id: bytes::Bytes,
}
