// SPDX-License-Identifier: Apache-2.0
//! The operator as a library, so that tests drive the same code as the binary.
//!
//! Each resource is a folder with the same steps: `fetch` (I/O only) -> `validate` (pure) ->
//! `build`/`plan` (pure) -> `apply` -> `status`. Pure steps see neither the API server nor a clock.

pub mod apply;
pub mod backoff;
pub mod calls;
pub mod cluster;
pub mod conditions;
pub mod context;
pub mod controllers;
pub mod election;
pub mod fingerprint;
pub mod http;
pub mod kafka;
pub mod metrics;
pub mod options;
pub mod run;
pub mod topic;
pub mod triggers;
pub mod unreadable;

/// Name of the operator as a field manager, event reporter and in `app.kubernetes.io/managed-by`.
pub const OPERATOR: &str = "odradek-operator";
