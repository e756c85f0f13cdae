// SPDX-License-Identifier: Apache-2.0
//! The cluster's identity; the second record of every log.

/// Kind 2. Appended once, never changed.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ClusterRecord {
    /// The cluster id.
    #[prost(string, tag = "1")]
    pub cluster_id: String,
}
