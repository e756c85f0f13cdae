// SPDX-License-Identifier: Apache-2.0
//! InitProducerId (key 22): an id and epoch for an idempotent or transactional producer (KIP-360).
//! Version 6 (two-phase commit, KIP-939) is unstable in Kafka 4.4 and left out.
//! It must not know how a broker answers, only what stands on the wire.

use odradek_wire_derive::Wire;

use crate::text::Text;

/// Asks for a producer id, or for the next epoch of one.
#[derive(Clone, Debug, PartialEq, Wire)]
#[wire(versions = "0-5", flexible = "2+")]
pub struct InitProducerIdRequest {
    /// Id of the transactional producer; null for any other.
    #[wire(nullable = "0+")]
    pub transactional_id: Option<Text>,
    /// Milliseconds after which the coordinator aborts a transaction that is left open.
    pub transaction_timeout_ms: i32,
    /// The id that the producer has, or -1 (KIP-360).
    #[wire(versions = "3+", default = -1)]
    pub producer_id: i64,
    /// The epoch that the producer has, or -1.
    #[wire(versions = "3+", default = -1)]
    pub producer_epoch: i16,
}

/// The producer id and epoch to use.
#[derive(Clone, Debug, PartialEq, Wire)]
#[wire(versions = "0-5", flexible = "2+")]
pub struct InitProducerIdResponse {
    /// Milliseconds for which the client is throttled over a quota.
    pub throttle_time_ms: i32,
    /// 0, or why it failed ([`crate::ErrorCode`]).
    pub error_code: i16,
    /// The id to use, or -1.
    #[wire(default = -1)]
    pub producer_id: i64,
    /// The epoch to use.
    pub producer_epoch: i16,
}
