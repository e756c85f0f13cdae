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
//! Nothing acknowledged by all in sync may be lost, and after healing every partition has its leader and all its
//! replicas, after any number of killed, paused and stopped processes, and after a loss of power of one machine of a whole
//! cluster, if each partition had another replica in sync and nothing else breaks until the machine is back.
//!
//! Losses of power beyond that (in every profile, most in [`Emphasis::Beyond`]) may leave a partition of several replicas
//! without a leader, so that the loss is seen; whoever leads it must have everything all the same. Only a sole replica
//! that does not force its records leads again with what it has. Folders are not emptied here, nor bits turned.
//!
//! What is not the product's: `process.rs` and its parts join the machines as the runtime and the server join them,
//! because those hang on tasks and sockets (what an image asks of replicas, who fetches what, and what the controller's
//! answers mean is `replication`'s, for both); the data folder; clients. Groups are not part of it yet, and not every
//! planted mistake of replicas and controller is found yet (`make sim-mistakes` names those that are missed).

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
