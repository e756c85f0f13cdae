// SPDX-License-Identifier: Apache-2.0
//! Searches for mistakes where tests of single cases cannot reach: every state of a small model, and random histories of
//! the real state machines.
//!
//! - [`model`]: the rules of coordination by Lease as a model, every reachable state of which is visited.
//! - [`cluster`]: whole clusters of brokers, with replicated topics and clients, over simulated time, network, disks and
//!   Lease API.
//! - [`quorum`]: whole clusters of [`odradek_coordination::quorum::QuorumMember`] over a simulated network, Lease and
//!   disk. A seed decides everything; the same seed gives the same history.
//!
//! Checkers stand apart from what they check, and every planted mistake must be found. Must not know the wire protocol,
//! tokio or a real clock.

pub mod cluster;
pub mod model;
pub mod quorum;
mod random;

pub use random::Random;
