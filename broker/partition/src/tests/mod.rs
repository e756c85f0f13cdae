// SPDX-License-Identifier: Apache-2.0
//! The rules of replication against every order of events in a small cluster: real replicas on logs in memory, a
//! controller as pure code, and a network that delays, loses and reorders.

mod agreement;
mod bounds;
mod cluster;
mod controller;
mod properties;
mod search;
mod small_log;
