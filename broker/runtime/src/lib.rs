// SPDX-License-Identifier: Apache-2.0
//! The composition of a broker: configuration, real clock, randomness and disk, threads, tasks, signals, shutdown.
//! Only the two binaries (and tests) depend on it. It must not know requests: it gives each room what it needs and
//! keeps their handles.
mod broker;
pub mod config;
mod coordination;
mod lifecycle;
pub mod logging;
pub mod memory;
mod metadata_node;
pub mod signals;
mod storage;
mod system;
pub mod threads;

pub use broker::{Broker, RunError, RunningBroker, StartError};
pub use odradek_server::private::PRIVATE_LISTENER;
