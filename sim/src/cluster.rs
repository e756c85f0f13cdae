// SPDX-License-Identifier: Apache-2.0
//! Random histories of whole clusters: the real metadata node, broker's life, replicas with their logs, fetchers and
//! proposals, over simulated time, network, disks and Lease API.
//!
//! A run makes a cluster and its topics, then has a time of faults and a time after healing. Processes are killed,
//! paused and stopped, one by one and rolling; machines lose power, or their folders; disks are full and crash in the
//! middle of calls, and logs are damaged while their broker is down; links are cut in one or both directions, are slow,
//! messages are lost and late, and fetches are read long after the follower has given them up; the Lease API is away,
//! throttles, loses answers, lets writes land late, and the Lease is deleted, rolled back or stolen; brokers join, and leave
//! for good; topics come and go, partitions are added and moved, leaders are moved to and fro, and retention lets the
//! beginnings of logs go. Producers with all acks, one and none, consumers that read in their rack, groups that commit
//! offsets and an administrator work all the while.
//!
//! # The budget
//! Nothing acknowledged by all in sync may be lost, and after healing every partition has its leader and all its
//! replicas, after any number of killed, paused and stopped processes, and after one machine of a whole cluster has lost
//! power, its folder, or a part of one log, if each partition had another replica in sync and nothing else breaks until the
//! machine is back. Meanwhile whoever may be elected has all that any client was told is committed.
//!
//! Losses beyond that (of power in every profile, of folders and logs in [`Emphasis::Beyond`]) may leave a partition of
//! several replicas without a leader, so that the loss is seen; whoever leads it must have everything all the same. A sole
//! replica that does not force its records leads again with what it has after a loss of power, and never after that of its
//! folder or of its log.
//! A folder is only lost while another voter has the metadata, and the Lease is not one that was rolled back and that
//! nobody has repaired yet: to repair it without a controller takes every voter's word. Bits are turned only where recovery
//! looks: above the recovery point of a log that was not closed. What it takes on trust is found out by who reads it, as in
//! Kafka.
//!
//! What is not the product's: `process.rs` and its parts join the machines as the runtime and the server join them,
//! because those hang on tasks and sockets (what an image asks of replicas, who fetches what, and what the controller's
//! answers mean is `replication`'s, for both); the data folder; clients. Groups have no members, and their journals are not
//! rewritten. Each committed offset is asked for by the client that committed it.

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
