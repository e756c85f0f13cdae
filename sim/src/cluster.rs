// SPDX-License-Identifier: Apache-2.0
//! Random histories of whole clusters: the real metadata node, broker's life, replicas with their logs, fetchers and
//! proposals, over simulated time, network, disks and Lease API.
//!
//! A run makes a cluster and its topics, then has a time of faults and a time after healing. Processes are killed,
//! paused and stopped, one by one and rolling; machines lose power; disks are full and crash in the middle of calls;
//! links are cut in one or both directions, messages are lost and late; the Lease API is away, loses answers, lets writes
//! land late, and the Lease is deleted or rolled back; brokers join; topics come and go, partitions are added and moved.
//! Producers with all acks, consumers and an administrator work all the while.
//!
//! # The budget
//! Within it nothing acknowledged by all in sync may be lost, and after healing every partition has its leader and all
//! its replicas: any number of killed, paused and stopped processes, and losses of power of machines as long as each
//! partition has another replica in ISR or ELR, or forces records to the disk. [`Emphasis::Beyond`] loses power without
//! that: then a partition of several replicas has no leader, so that the loss is seen, until a replica that has
//! everything is back; only a sole replica leads again with what it has. Folders are not emptied here, nor bits turned.
//!
//! What is not the product's: `process.rs` and its parts join the machines as the runtime and the server join them,
//! because those hang on tasks and sockets; the data folder; clients. Groups are not part of it yet.

mod faults;
mod folder;
mod message;
mod oracle;
mod process;
mod profile;
mod run;
mod tally;
mod workload;
mod world;

pub use oracle::Violation;
pub use profile::{Emphasis, Planted, Profile};
pub use run::{Outcome, run};
pub use tally::{Happening, Tally};
