// SPDX-License-Identifier: Apache-2.0
//! Checks that unchanged Kafka clients work: the harness. The checks themselves are in `tests/`.
//!
//! Every check starts a broker of its own, talks to it through programs that others wrote (the Java tools of Apache
//! Kafka 4.3.1, kcat, librdkafka), and compares what comes back. The same checks run against Apache Kafka itself, so
//! that a check that asks too much is found out:
//!
//! * `ODRADEK_CHECK_AGAINST=kafka` runs against Apache Kafka instead of `odradek dev`;
//! * `ODRADEK_CHECK_RECORDS=10000` is the size of each round trip (1,000 if unset);
//! * `ODRADEK_CHECK_SEED` repeats the schedule of kills of an earlier run;
//! * `ODRADEK_CHECK_LOG_LEVEL=info` is the detail of the log of several brokers (warn if unset);
//! * `ODRADEK_CHECK_KEEP=1` leaves the folder of several brokers, their data and log in it, and prints where it is;
//! * `ODRADEK_CHECK_LOGS=1` prints the end of every broker's log;
//! * `ODRADEK_BIN` names the `odradek` binary; unset, cargo builds it in the profile of the running check;
//! * `ODRADEK_BROKER_BIN` the same for `odradek-broker`, of which a cluster of processes consists.
//!
//! Must not know: any crate of the brokers. Everything goes through processes, sockets and files.

mod apache_kafka;
mod binary;
mod broker;
mod by_hand;
mod cluster;
pub mod history;
mod jars;
mod java;
pub mod kcat;
pub mod keyed;
pub mod native;
mod nodes;
mod ports;
mod process;
mod replica_verification;
pub mod tools;
pub mod transcript;
mod workload;

pub use binary::program;
pub use broker::{Broker, Flavor, StartOptions};
pub use cluster::{BrokerStatus, DevCluster};
pub use jars::{apache_kafka_classpath, newest_clients_jar};
pub use java::{JavaTools, ToolRun};
pub use nodes::{Nodes, NodesPlan};
pub use process::{ProcessUsage, wait_with_deadline};
pub use replica_verification::replica_verification;
pub use workload::{Plan, Random, Tally};

/// The codecs of a produced batch, by the names all clients share.
pub const CODECS: [&str; 5] = ["none", "gzip", "snappy", "lz4", "zstd"];

/// How many records a round trip has: `ODRADEK_CHECK_RECORDS`, or the quick form's 1,000.
///
/// # Panics
/// When the variable is set and is no number.
pub fn round_trip_records() -> u32 {
    std::env::var("ODRADEK_CHECK_RECORDS")
        .map_or(1_000, |text| text.parse().expect("ODRADEK_CHECK_RECORDS has to be a number"))
}
