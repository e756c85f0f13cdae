// SPDX-License-Identifier: Apache-2.0
//! Other replicas reached over connections to their brokers: each fetcher has one of its own; and the controller, wherever
//! it is. It must not know what is asked.
use std::sync::Weak;
use std::time::Duration;

use odradek_metadata::{AlterPartition, AlterPartitionReply};
use odradek_model::{BrokerId, ControllerEpoch};
use odradek_replication::{FetcherId, Lane as FetchLane};
use odradek_wire::messages::{FetchRequest, FetchResponse, ListOffsetsRequest, ListOffsetsResponse};
use odradek_wire::private::{ConfirmLeadershipRequest, ConfirmLeadershipResponse};

use super::{IsrChanges, IsrUnavailable, ReplicaSource, SourceError, SourceFuture};
use crate::broker::Broker;
use crate::peers::{Lane, PeerRequest, Peers};

impl ReplicaSource for Peers {
    fn fetch(
        &self,
        from: FetcherId,
        request: FetchRequest,
        deadline: Duration,
    ) -> SourceFuture<'_, FetchResponse, SourceError> {
        Box::pin(ask(self, from, request, deadline))
    }

    fn list_offsets(
        &self,
        from: FetcherId,
        request: ListOffsetsRequest,
        deadline: Duration,
    ) -> SourceFuture<'_, ListOffsetsResponse, SourceError> {
        Box::pin(ask(self, from, request, deadline))
    }

    fn confirm_leadership(
        &self,
        of: BrokerId,
        request: ConfirmLeadershipRequest,
        deadline: Duration,
    ) -> SourceFuture<'_, ConfirmLeadershipResponse, SourceError> {
        Box::pin(async move {
            let answer = self.call(of, Lane::Leadership, &request, deadline).await;
            answer.map_err(|error| SourceError(error.to_string()))
        })
    }
}

async fn ask<R: PeerRequest>(
    peers: &Peers,
    from: FetcherId,
    request: R,
    deadline: Duration,
) -> Result<R::Response, SourceError> {
    let lane = match from.lane {
        FetchLane::Ordinary(lane) => Lane::Replication(lane),
        // There are at most 64 of either kind.
        FetchLane::Newcomers(lane) => Lane::Replication(lane | 128),
        FetchLane::Reassignment => Lane::Reassignment(0),
    };
    peers.call(from.leader, lane, &request, deadline).await.map_err(|error| SourceError(error.to_string()))
}

/// ISR changes that are not answered by then are sent again. A decision takes milliseconds; a controller that is gone is
/// replaced within a session.
const CONTROLLER_TIME: Duration = Duration::from_secs(10);

/// The controller as a broker reaches it. Weak: the broker holds what holds this.
#[derive(Debug)]
pub(crate) struct ControllerOf(pub(crate) Weak<Broker>);

impl IsrChanges for ControllerOf {
    fn controller_epoch(&self) -> ControllerEpoch {
        self.0.upgrade().map_or(0, |broker| broker.controller.status().borrow().epoch)
    }

    fn alter_partition(&self, command: AlterPartition) -> SourceFuture<'_, AlterPartitionReply, IsrUnavailable> {
        Box::pin(async move {
            let Some(broker) = self.0.upgrade() else {
                return Err(IsrUnavailable("this broker has ended".to_owned()));
            };
            match broker.controller_client.alter_partition(&command, CONTROLLER_TIME).await {
                Ok((_, reply)) => Ok(reply),
                Err(error) => Err(IsrUnavailable(error.to_string())),
            }
        })
    }
}
