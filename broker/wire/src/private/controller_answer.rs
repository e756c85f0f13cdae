// SPDX-License-Identifier: Apache-2.0
//! What stands in every answer of a controller to another broker.

use odradek_wire_derive::Wire;

/// Who answered, and up to where its decision reads (rule 11 of the coordination protocol).
#[derive(Clone, Debug, PartialEq, Wire)]
pub struct ControllerAnswer {
    /// 0; 41 not the controller; 89 too much to do, not carried out; 7 not known whether it is carried out; 35 the
    /// cluster's feature level is too low.
    pub error_code: i16,
    /// The epoch of the controller that answered; with 41, of the one that it knows.
    pub controller_epoch: i64,
    /// With 41 the controller that the answerer knows, or -1.
    #[wire(default = -1)]
    pub controller_id: i32,
    /// Everything that the answer depends on stands below this offset of the metadata log.
    pub end_offset: i64,
    /// With 35 the feature level that the command needs.
    pub needed_feature_level: u32,
    /// With 35 the cluster's feature level.
    pub feature_level: u32,
}
