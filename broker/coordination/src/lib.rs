// SPDX-License-Identifier: Apache-2.0
//! Who leads and who owns a data folder: ports for the Leases, their local implementations, the folder's identity.
//!
//! - [`ControllerLease`]: the one outside state of a cluster, changed by compare-and-set only. [`InProcessLease`] and
//!   [`FileLease`] are the local implementations; Kubernetes comes as another.
//! - [`BrokerLock`]: the belt against two processes with one broker id, beside a Lease in a file.
//! - [`DataFolder`]: whose folder it is (`odradek-meta.json`), locked while in use, formatted in an explicit step.
//! - [`quorum`]: who is controller and what is committed in the metadata log of several brokers, as a state machine.
//!
//! The crate must not know the metadata's content, the wire protocol, tokio or clocks. Calls block; those of an
//! implementation that leaves the process return within its own deadline.

mod broker_lock;
mod data_folder;
mod holder;
mod lease;
pub mod quorum;

pub use broker_lock::{BrokerLock, BrokerLockError};
pub use data_folder::{DataFolder, DataFolderError, FORMAT_VERSION, IDENTITY_FILE, Identity};
pub use holder::{Holder, HolderError, Voter};
pub use lease::{
    ControllerLease, FileLease, InProcessLease, LeaseChange, LeaseError, LeaseView, ViewOrder, WriteOutcome,
};
