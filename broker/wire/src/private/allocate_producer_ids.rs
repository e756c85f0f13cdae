// SPDX-License-Identifier: Apache-2.0
//! AllocateProducerIds: a broker asks for a block of producer ids.
//! It must not know what a controller does with it.

use odradek_wire_derive::Wire;

use super::ControllerAnswer;

/// The request.
#[derive(Clone, Debug, PartialEq, Wire)]
#[wire(versions = "0", flexible = "0+")]
pub struct AllocateProducerIdsRequest {
    /// The broker.
    pub broker_id: i32,
    /// Its registration.
    pub broker_epoch: i64,
}

/// The block.
#[derive(Clone, Debug, PartialEq, Wire)]
#[wire(versions = "0", flexible = "0+")]
pub struct AllocateProducerIdsResponse {
    /// Who answers.
    pub controller: ControllerAnswer,
    /// 0, or why there is none: 1 the broker is not registered, 2 stale broker epoch, 3 all ids are used.
    pub refusal: i8,
    /// The first id; with 2 the present broker epoch.
    #[wire(default = -1)]
    pub first: i64,
    /// How many.
    pub len: i64,
}
