// SPDX-License-Identifier: Apache-2.0
//! Requests that only the controller can answer, when it is another broker: they go there as they came, in an envelope,
//! and the answer comes back as it is. It must not know what they say.
use std::time::Duration;

use bytes::Bytes;
use odradek_wire::ErrorCode;
use odradek_wire::messages::{ApiKey, CreatableTopic, CreatableTopicConfig, CreateTopicsRequest};
use tokio_util::sync::CancellationToken;

use crate::broker::Broker;
use crate::dispatch::{Dispatcher, Inbound};
use crate::net::{CloseReason, Finished, Peer, Reply, Started};
use crate::private::PRIVATE_LISTENER;

/// How long a client's request may be on its way to the controller. Half of what clients wait for a request
/// (`request.timeout.ms`, 30 s): they hear what happened instead of trying elsewhere.
const FORWARDING_TIME: Duration = Duration::from_secs(15);

/// Whether the controller alone can answer.
pub(crate) fn is_for_the_controller(key: ApiKey) -> bool {
    match key {
        ApiKey::CreateTopics
        | ApiKey::DeleteTopics
        | ApiKey::CreatePartitions
        | ApiKey::IncrementalAlterConfigs
        | ApiKey::ElectLeaders
        | ApiKey::AlterPartitionReassignments
        | ApiKey::ListPartitionReassignments
        | ApiKey::UnregisterBroker => true,
        ApiKey::Produce
        | ApiKey::Fetch
        | ApiKey::ListOffsets
        | ApiKey::Metadata
        | ApiKey::OffsetCommit
        | ApiKey::OffsetFetch
        | ApiKey::FindCoordinator
        | ApiKey::JoinGroup
        | ApiKey::Heartbeat
        | ApiKey::LeaveGroup
        | ApiKey::SyncGroup
        | ApiKey::ApiVersions
        | ApiKey::InitProducerId
        | ApiKey::OffsetForLeaderEpoch
        | ApiKey::DescribeConfigs
        | ApiKey::DescribeGroups
        | ApiKey::ListGroups
        | ApiKey::DescribeLogDirs
        | ApiKey::DescribeTopicPartitions
        | ApiKey::DescribeCluster => false,
    }
}

/// Has the controller answer. The request's bytes stay charged meanwhile; those of one connection go one after the
/// other, in the order in which they came.
pub(crate) fn forward(dispatcher: &Dispatcher, inbound: Inbound, peer: &Peer) -> Started {
    let (dispatcher, peer) = (dispatcher.clone(), peer.clone());
    Started::Waiting(Box::pin(async move {
        let broker = dispatcher.broker();
        let turn = peer.forwarding.lock().await;
        let forwarded = broker.controller_client.forward(&peer, inbound.bytes.clone(), FORWARDING_TIME).await;
        drop(turn);
        match forwarded {
            Ok(forwarded) => {
                // What the client was told, it finds here too.
                broker.reach(forwarded.end).await;
                let Some(response) = forwarded.response else {
                    return Finished::Close(CloseReason::Malformed);
                };
                let size = Bytes::copy_from_slice(&(response.len() as u32).to_be_bytes());
                let charge = Some(broker.reads.take_available(response.len(), response.len()));
                Finished::Reply(Reply { segments: vec![size.into(), response.into()], charge })
            }
            Err(error) => {
                tracing::debug!(key = ?inbound.header.key, %error, "the controller did not answer");
                // Each API says in its own form that the controller was not reached; or this broker leads by now.
                match dispatcher.execute(inbound, &peer) {
                    Started::Finished(finished) => finished,
                    Started::Waiting(future) => future.await,
                }
            }
        }
    }))
}

/// Has the controller, another broker, create a topic that this broker found missing; returns once this broker has it.
/// The error is for the log.
pub(crate) async fn create_topic(
    broker: &Broker,
    name: &str,
    partitions: i32,
    replication_factor: i16,
    settings: Vec<(String, Option<String>)>,
) -> Result<(), String> {
    let configs = settings
        .into_iter()
        .map(|(name, value)| CreatableTopicConfig { name: name.into(), value: value.map(Into::into) });
    let topic = CreatableTopic {
        name: name.into(),
        num_partitions: partitions,
        replication_factor,
        configs: configs.collect(),
        ..CreatableTopic::default()
    };
    let request = CreateTopicsRequest {
        topics: vec![topic],
        timeout_ms: FORWARDING_TIME.as_millis() as i32,
        ..CreateTopicsRequest::default()
    };
    // The broker itself asks.
    let nobody = std::net::SocketAddr::from(([0, 0, 0, 0], 0));
    let peer = Peer::new(PRIVATE_LISTENER.into(), nobody, CancellationToken::new());
    let asked = broker.controller_client.request(&peer, &request, FORWARDING_TIME).await;
    let (response, end) = asked.map_err(|error| error.to_string())?;
    broker.reach(end).await;
    match response.topics.first() {
        Some(topic) if topic.error_code == ErrorCode::None.code() => Ok(()),
        Some(topic) => {
            let code = ErrorCode::from_code(topic.error_code).unwrap_or(ErrorCode::UnknownServerError);
            Err(format!("{code}: {}", topic.error_message.as_deref().unwrap_or_default()))
        }
        None => Err("the answer names no topic".to_owned()),
    }
}
