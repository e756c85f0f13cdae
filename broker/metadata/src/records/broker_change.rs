// SPDX-License-Identifier: Apache-2.0
//! A change of a registered broker's state.

/// Kind 11. What is not given stays. Level 2.
#[derive(Clone, PartialEq, prost::Message)]
pub struct BrokerChangeRecord {
    /// The broker.
    #[prost(int32, tag = "1")]
    pub broker_id: i32,
    /// Its registration, which must be the present one.
    #[prost(int64, tag = "2")]
    pub broker_epoch: i64,
    /// Whether it may neither lead nor be in sync.
    #[prost(bool, optional, tag = "3")]
    pub fenced: Option<bool>,
    /// It hands its leaderships over and is going to stop. Ends with its next registration, never before.
    #[prost(bool, tag = "4")]
    pub shutting_down: bool,
    /// Whether new replicas are kept off it.
    #[prost(bool, optional, tag = "5")]
    pub cordoned: Option<bool>,
}
