// SPDX-License-Identifier: Apache-2.0
//! Unchanged clients against a running broker: one file per client, one broker per check.

mod admin;
mod console;
mod failover;
mod files;
mod kcat;
mod kill;
mod native;
mod numbered;
mod tools;
