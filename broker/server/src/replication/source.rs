// SPDX-License-Identifier: Apache-2.0
//! Other brokers as replication needs them, as ports: leaders that answer fetches, replicas that know who leads, and the
//! controller that takes ISR changes. Real connections, a test's memory and a simulated network fulfil them alike.
use std::fmt::Debug;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use odradek_metadata::{AlterPartition, AlterPartitionReply};
use odradek_model::{BrokerId, ControllerEpoch};
use odradek_replication::FetcherId;
use odradek_wire::messages::{FetchRequest, FetchResponse, ListOffsetsRequest, ListOffsetsResponse};
use odradek_wire::private::{ConfirmLeadershipRequest, ConfirmLeadershipResponse};

/// An answer that comes later.
pub type SourceFuture<'a, T, E> = Pin<Box<dyn Future<Output = Result<T, E>> + Send + 'a>>;

/// Why a broker did not answer: no connection, no answer in time, or bytes that are none. All are treated alike.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SourceError(pub String);

/// The brokers with the other replicas. A request is of the newest version of its kind, on the connection of the fetcher
/// or one for its kind, and ends by its deadline. A request whose future was dropped may have been sent.
pub trait ReplicaSource: Send + Sync + Debug {
    /// Asks a leader for records.
    fn fetch(
        &self,
        from: FetcherId,
        request: FetchRequest,
        deadline: Duration,
    ) -> SourceFuture<'_, FetchResponse, SourceError>;

    /// Asks a leader for offsets.
    fn list_offsets(
        &self,
        from: FetcherId,
        request: ListOffsetsRequest,
        deadline: Duration,
    ) -> SourceFuture<'_, ListOffsetsResponse, SourceError>;

    /// Asks a replica by which leader epochs it acts.
    fn confirm_leadership(
        &self,
        of: BrokerId,
        request: ConfirmLeadershipRequest,
        deadline: Duration,
    ) -> SourceFuture<'_, ConfirmLeadershipResponse, SourceError>;
}

/// Why it is not known what became of ISR changes: no controller, no answer in time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct IsrUnavailable(pub String);

/// The controller, wherever it is. Commands reach a controller in the order in which they were given, and an answer
/// comes within a bounded time.
pub trait IsrChanges: Send + Sync + Debug {
    /// The epoch of the newest controller that is known.
    fn controller_epoch(&self) -> ControllerEpoch;

    /// Sends ISR changes.
    fn alter_partition(&self, command: AlterPartition) -> SourceFuture<'_, AlterPartitionReply, IsrUnavailable>;
}
