// SPDX-License-Identifier: Apache-2.0
//! What brokers say to each other: who they are, and how their messages stand on the wire.
pub(crate) mod authentication;
pub(crate) mod commands;
pub(crate) mod quorum_messages;
