// SPDX-License-Identifier: Apache-2.0
//! The broker's server: sockets, requests, and the parts of the broker that requests meet.
//!
//! - [`net`]: listeners, connections, frames, byte budgets.
//! - [`http`], [`health`], [`metrics`], [`stop_advice`]: probes, metrics, and whether a broker may stop.
//! - [`peers`], [`private`]: the other brokers, asked and answered.
//! - [`settings`]: the broker's settings by Kafka's names.
//!
//! The crate must not know the composition (configuration file, threads, signals: `odradek-runtime`) nor real files.
mod api;
pub mod broker;
pub mod clock;
pub mod controller;
pub mod coordinators;
pub mod dispatch;
mod error_table;
pub mod failure;
pub mod fetch_sessions;
pub mod folder;
mod forwarding;
pub mod health;
pub mod http;
pub mod metrics;
pub mod net;
pub mod peers;
pub mod private;
pub mod producer_ids;
pub mod replica;
pub mod replicas;
pub mod replication;
mod setting_source;
pub mod settings;
pub mod stop_advice;
