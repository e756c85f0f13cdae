// SPDX-License-Identifier: Apache-2.0
//! BrokerHeartbeat: a broker says that it is alive and what it wants.
//! It must not know what a controller does with it.

use odradek_wire_derive::Wire;

use super::ControllerAnswer;

/// The heartbeat.
#[derive(Clone, Debug, PartialEq, Wire)]
#[wire(versions = "0", flexible = "0+")]
pub struct BrokerHeartbeatRequest {
    /// The broker.
    pub broker_id: i32,
    /// Its registration.
    pub broker_epoch: i64,
    /// The offset after the last metadata record that it has applied.
    pub metadata_end: i64,
    /// It does not want to lead or be in sync.
    pub wants_fence: bool,
    /// It wants to stop.
    pub wants_shutdown: bool,
}

/// What the broker is told.
#[derive(Clone, Debug, PartialEq, Wire)]
#[wire(versions = "0", flexible = "0+")]
pub struct BrokerHeartbeatResponse {
    /// Who answers.
    pub controller: ControllerAnswer,
    /// 0, or 1 if the heartbeat is of no present registration: nothing below counts.
    pub refusal: i8,
    /// It has applied its own registration.
    pub caught_up: bool,
    /// It may neither lead nor be in sync.
    pub fenced: bool,
    /// It may end its process.
    pub may_stop: bool,
}
