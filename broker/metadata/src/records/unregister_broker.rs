// SPDX-License-Identifier: Apache-2.0
//! A broker's end: its id may register again, as a new broker.

/// Kind 5. Level 2.
#[derive(Clone, PartialEq, prost::Message)]
pub struct UnregisterBrokerRecord {
    /// The broker.
    #[prost(int32, tag = "1")]
    pub broker_id: i32,
    /// Its registration.
    #[prost(int64, tag = "2")]
    pub broker_epoch: i64,
}
