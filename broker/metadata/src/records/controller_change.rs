// SPDX-License-Identifier: Apache-2.0
//! The epoch record: the first record of every controller (coordination rule 4).

/// Kind 1. A controller acts only once this record of its own epoch is committed.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ControllerChangeRecord {
    /// `leaseTransitions` of the Lease as taken.
    #[prost(int64, tag = "1")]
    pub controller_epoch: i64,
    /// The controller's broker id.
    #[prost(int32, tag = "2")]
    pub broker_id: i32,
    /// The process of that broker: `holderIdentity` is `<broker id>/<incarnation>`.
    #[prost(string, tag = "3")]
    pub incarnation: String,
    /// Voters of the metadata log, as in the Lease, that an administrator declared gone for good and without whom this
    /// epoch began; mostly none. What only they had of the log is lost, so the record also raises all epochs and makes
    /// every replica unclean (`image/recover.rs`).
    #[prost(string, repeated, tag = "4")]
    pub recovered_without: Vec<String>,
}
