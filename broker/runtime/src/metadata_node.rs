// SPDX-License-Identifier: Apache-2.0
//! The metadata node of a broker: its part in the quorum of the metadata log and, while it leads, the controller.
//!
//! - [`node`]: both as one state machine, with the image of what is committed.
//! - [`storage`]: the metadata log as the quorum's storage.
//! - [`thread`]: drives the node; it alone touches the log.
//! - [`lease`]: the calls of the controller Lease.
//!
//! It must not know requests, replicas or client listeners.
pub(crate) mod lease;
mod node;
mod storage;
mod thread;

#[cfg(test)]
mod tests;

pub use node::{Effect, Input, MetadataNode, Moment, NodeIdentity, NodeSettings};
pub use storage::{QuorumLog, QuorumLogError};
pub(crate) use thread::{NodeParts, spawn};
