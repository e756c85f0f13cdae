// SPDX-License-Identifier: Apache-2.0
//! A block of producer ids handed to a broker.

/// Kind 10. Ids below `next_producer_id` are never handed out again.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ProducerIdsRecord {
    /// Who got the block.
    #[prost(int32, tag = "1")]
    pub broker_id: i32,
    /// Its epoch then.
    #[prost(int64, tag = "2")]
    pub broker_epoch: i64,
    /// The first id not yet handed out.
    #[prost(int64, tag = "3")]
    pub next_producer_id: i64,
}
