// SPDX-License-Identifier: Apache-2.0
//! The resources a user writes: `Cluster` and `Topic`, their rules and the names made from them.
//!
//! A field stands here only once the operator acts on it. Nothing in this crate talks to a
//! cluster: types, schema, names and the rendering of the definitions as files, all pure.

// Two printer columns of one type repeat it inside one attribute.
#![allow(clippy::duplicated_attributes)]

pub mod cluster;
mod definitions;
pub mod names;
pub mod render;
mod schema;
pub mod template;
pub mod topic;

pub use cluster::{Cluster, ClusterSpec, ClusterStatus};
pub use definitions::definitions;
pub use topic::{Topic, TopicSpec, TopicStatus};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The API group of every kind.
pub const GROUP: &str = "odradek.dev";

/// The only served version so far.
pub const VERSION: &str = "v1alpha1";

/// What happens to the data when its resource is deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DeletionPolicy {
    /// The data stays and is found again when the resource is created again.
    #[default]
    Retain,
    /// The data is deleted too.
    Delete,
}
