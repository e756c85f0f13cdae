// SPDX-License-Identifier: Apache-2.0
//! Which kinds and meanings of records the cluster may use.

/// Kind 3. Raised when an upgrade is finalised, never lowered.
#[derive(Clone, PartialEq, prost::Message)]
pub struct FeatureLevelRecord {
    /// The level; a version that does not know it must not read on.
    #[prost(uint32, tag = "1")]
    pub level: u32,
}
