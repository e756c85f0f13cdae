// SPDX-License-Identifier: Apache-2.0
//! The composition of a broker: configuration, real clock, randomness and disk, threads, tasks, signals, shutdown.
//! Only the two binaries, the simulation and tests depend on it. It must not know requests: it gives each room what it needs and
//! keeps their handles.
//!
//! [`metadata_node`] and [`lifecycle`] are state machines and public for the simulation, which drives them as the threads
//! and tasks here do.
mod broker;
pub mod config;
mod coordination;
mod incarnation;
pub mod lifecycle;
pub mod logging;
mod machine;
pub mod memory;
pub mod metadata_node;
mod recovery_order;
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
pub use recovery_order::{RecoveryOrderError, RecoveryPlan};
pub use shared::SharedCluster;
pub use view::View;
