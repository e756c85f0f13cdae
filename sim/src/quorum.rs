// SPDX-License-Identifier: Apache-2.0
//! Random histories of a quorum: real members, everything around them simulated.
//!
//! A run has a time of faults and a time after healing. During faults members are killed, paused, cut off, stopped
//! cleanly and emptied; messages are lost, late, repeated and out of order; the Lease API is away, throttles, loses
//! answers, lets writes land late, and the Lease is deleted, rolled back, taken by a stranger or given a holder that cannot
//! be read. What [`Oracle`] demands holds throughout: no two brokers ever hold different committed records at one offset,
//! nothing committed is lost, an epoch has one leader. After healing a controller leads and commits.
//!
//! The budget of faults that the protocol must survive: at most one emptied folder among the voters at a time, with
//! another voter that has what it had; the Lease is rolled back or deleted only while all brokers have seen its present
//! voters. It may come back with an earlier epoch and earlier voters, but never without voters.
//!
//! [`Tally`] counts what really happened, and the tests demand that every kind of fault did.

mod lease_api;
mod memory_storage;
mod oracle;
mod profile;
mod run;
mod store;
mod tally;
mod world;

pub use lease_api::{ForeignHand, LeaseApi, Mending};
pub use memory_storage::{MemoryDisk, MemoryStorage};
pub use oracle::{Oracle, Violation};
pub use profile::{Planted, Profile};
pub use run::{Outcome, run};
pub use tally::{Happening, Tally};
