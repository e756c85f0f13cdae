// SPDX-License-Identifier: Apache-2.0
//! The composition of a broker: configuration, real clock, randomness and disk, threads, tasks, signals, shutdown.
//! Only the two binaries (and tests) depend on it. It must not know requests: it gives each room what it needs and
//! keeps their handles.
mod broker;
pub mod config;
mod coordination;
mod incarnation;
mod lifecycle;
pub mod logging;
mod machine;
pub mod memory;
mod metadata_node;
mod shared;
pub mod signals;
mod storage;
mod system;
pub mod threads;
mod view;

pub use broker::{Broker, RunError, RunningBroker, StartError};
pub use incarnation::Incarnation;
pub use machine::{Machine, Sockets};
pub use odradek_server::private::PRIVATE_LISTENER;
pub use shared::SharedCluster;
pub use view::View;
