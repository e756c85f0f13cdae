// SPDX-License-Identifier: Apache-2.0
//! The Leases on Kubernetes: what a driver of the quorum calls for `Lease/<cluster>-controller`, and the belt
//! `Lease/<cluster>-broker-<id>`.
//!
//! How to drive it:
//! 1. [`LeaseStore::connect`] once per process, from the pod's own configuration.
//! 2. [`KubernetesLease`] answers the quorum's effects. "Read the Lease" is [`KubernetesLease::read`]; "write the
//!    Lease" is [`KubernetesLease::compare_and_set`], or [`KubernetesLease::create`] without a view. The machine has
//!    at most one of each under way; run each as a task and hand its outcome back. An `Err` of a write says that it
//!    was not made; what is not certain is `WriteOutcome::Unknown`.
//! 3. [`KubernetesLease::watch`] in a task of its own: each [`LeaseSeen::View`] is an input. It may be older than what
//!    is known: the machine orders views by (uid, epoch, sequence).
//! 4. [`BrokerLease::take`] before the broker opens its listeners, [`BrokerLease::hold`] until it ends, which says
//!    that another holder was seen and the process must stop, and [`BrokerLease::release`] at a clean stop.
//!
//! Every call ends within [`LeaseSettings::call_deadline`]. No request is repeated behind the caller's back, but one
//! that the API server refused for throttling (429), which it does before it acts. What it asks for in `Retry-After` holds for
//! all calls through one [`LeaseStore`]: one that cannot wait for so long within its deadline is not made and says so at
//! once.
//!
//! Rights needed: get, create, update and watch on these Leases by name. Never list, patch or delete.
//!
//! The crate must not know when to take the controller Lease, and nothing of disks, logs or the wire protocol.

mod broker_lease;
mod controller_lease;
mod controller_object;
mod failure;
mod fields;
mod pause;
mod settings;
mod store;
mod watch;

pub use broker_lease::{BrokerLease, BrokerLeaseError, BrokerLeaseOutcome};
pub use controller_lease::KubernetesLease;
pub use controller_object::first_controller_lease;
pub use fields::{CLUSTER_ID_ANNOTATION, POD_UID_ANNOTATION, SEQUENCE_ANNOTATION, VOTERS_ANNOTATION};
pub use settings::LeaseSettings;
pub use store::LeaseStore;
pub use watch::{LeaseSeen, LeaseWatch};
