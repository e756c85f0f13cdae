// SPDX-License-Identifier: Apache-2.0
//! MayStop: which partitions would suffer if a broker stopped now? Any broker may ask it of any.
//! It must not know how that is judged.

use odradek_wire_derive::Wire;

use super::ControllerAnswer;
use crate::text::Text;

/// The question.
#[derive(Clone, Debug, PartialEq, Wire)]
#[wire(versions = "0", flexible = "0+")]
pub struct MayStopRequest {
    /// The broker that is to stop.
    pub broker_id: i32,
}

/// How many partitions speak against it, by reason; none is "it may".
#[derive(Clone, Debug, PartialEq, Wire)]
#[wire(versions = "0", flexible = "0+")]
pub struct MayStopResponse {
    /// Who answers.
    pub controller: ControllerAnswer,
    /// 0, or 1 if no such broker is registered: nothing below counts.
    pub refusal: i8,
    /// They have no other replica.
    pub sole_replica: u32,
    /// No other replica of theirs is in sync.
    pub last_in_sync: u32,
    /// They have no leader, and nobody else may lead them without loss.
    pub last_eligible: u32,
    /// They would have fewer in sync than min.insync.replicas.
    pub under_min_in_sync: u32,
    /// The first of them.
    pub blockers: Vec<StopBlockerState>,
}

/// A partition that speaks against the stop.
#[derive(Clone, Debug, PartialEq, Wire)]
pub struct StopBlockerState {
    /// The topic's name.
    pub topic: Text,
    /// The index.
    pub partition: i32,
    /// 1 sole replica, 2 last in sync, 3 last eligible, 4 under min.insync.replicas.
    pub reason: i8,
    /// With 4: how many are in sync without the broker.
    pub in_sync_left: u32,
    /// With 4: how many are needed.
    pub in_sync_needed: u32,
}
