// SPDX-License-Identifier: Apache-2.0
//! Leaders reached over connections to other brokers: each fetcher has one of its own. It must not know what is asked.
use std::time::Duration;

use odradek_replication::{FetcherId, Lane as FetchLane};
use odradek_wire::messages::{FetchRequest, FetchResponse, ListOffsetsRequest, ListOffsetsResponse};

use super::{ReplicaSource, SourceError, SourceFuture};
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
