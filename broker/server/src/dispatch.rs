// SPDX-License-Identifier: Apache-2.0
//! From a frame to its handler and back: header, version check, decode, one exhaustive match over API keys,
//! encode. It must not know what a handler does.
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use odradek_disk::FileRegion;
use odradek_wire::messages::ApiKey;
use odradek_wire::private::PrivateHeader;
use odradek_wire::{Decoder, Encoder, Request, RequestHeader, ResponseHeader, api_versions, encode};

use crate::api;
use crate::broker::Broker;
use crate::net::budget::Charge;
use crate::net::frame::Frame;
use crate::net::{CloseReason, Finished, Peer, Reply, Segment, Service, Started};
use crate::{forwarding, private};

/// The request as its handler sees it, beside the body.
#[derive(Debug)]
pub struct Call<'a> {
    /// Version of request and answer.
    pub version: i16,
    /// Header of the request.
    pub header: &'a RequestHeader,
    /// The connection.
    pub peer: &'a Peer,
}

impl Call<'_> {
    /// The client's name for itself, empty if it gave none.
    pub fn client_id(&self) -> &str {
        self.header.client_id.as_deref().unwrap_or_default()
    }
}

/// A response, and what its bytes are charged with until they are written.
#[derive(Debug)]
pub struct Answered<T> {
    /// The body.
    pub response: T,
    /// Only answers with records have one.
    pub charge: Option<Charge>,
    /// The parts of files that stand in the response's place for records ([`odradek_wire::Records::Elsewhere`]), in
    /// its order.
    pub files: Vec<FileRegion>,
}

impl<T> From<T> for Answered<T> {
    fn from(response: T) -> Self {
        Self { response, charge: None, files: Vec::new() }
    }
}

/// What a handler gives.
pub enum Answer<T> {
    /// The response is there.
    Now(Answered<T>),
    /// It comes later; the connection goes on with the next request.
    Later(Pin<Box<dyn Future<Output = Answered<T>> + Send>>),
    /// As `Later`, or there is none and the connection is closed.
    LaterIfAny(Pin<Box<dyn Future<Output = Result<Answered<T>, CloseReason>> + Send>>),
    /// No response is sent (acks=0).
    Nothing,
    /// The connection is closed.
    Close(CloseReason),
}

impl<T> Answer<T> {
    /// A response without a charge.
    pub fn now(response: T) -> Self {
        Self::Now(Answered::from(response))
    }

    /// A future response.
    pub fn later(future: impl Future<Output = Answered<T>> + Send + 'static) -> Self {
        Self::Later(Box::pin(future))
    }
}

type Handler<R> = fn(&Arc<Broker>, &Call<'_>, R) -> Answer<<R as Request>::Response>;

/// Serves Kafka's requests for one broker, and on the private listener those of other brokers.
#[derive(Debug, Clone)]
pub struct Dispatcher {
    broker: Arc<Broker>,
}

impl Dispatcher {
    /// Serves `broker`.
    pub fn new(broker: Arc<Broker>) -> Self {
        Self { broker }
    }

    fn run<R: Request>(&self, handler: Handler<R>, inbound: Inbound, peer: &Peer) -> Started {
        let Inbound { header, mut decoder, charge, .. } = inbound;
        let (key, version, correlation_id) = (header.key, header.version, header.correlation_id);
        // Bytes after the message are let pass, as Kafka does: librdkafka 2.12 appends three to a Metadata request for
        // all topics.
        let request = match R::decode(&mut decoder, version) {
            Ok(request) => request,
            Err(error) => {
                tracing::debug!(address = %peer.address, ?key, version, %error, "malformed request");
                return close(CloseReason::Malformed);
            }
        };
        let call = Call { version, header: &header, peer };
        match handler(&self.broker, &call, request) {
            Answer::Now(answered) => Started::Finished(finish(key, version, correlation_id, answered)),
            Answer::Later(future) => Started::Waiting(Box::pin(async move {
                let answered = future.await;
                // The request's bytes were in use until here.
                drop(charge);
                finish(key, version, correlation_id, answered)
            })),
            Answer::LaterIfAny(future) => Started::Waiting(Box::pin(async move {
                let answered = future.await;
                drop(charge);
                answered.map_or_else(Finished::Close, |answered| finish(key, version, correlation_id, answered))
            })),
            Answer::Nothing => Started::Finished(Finished::Nothing),
            Answer::Close(reason) => close(reason),
        }
    }
}

/// A request whose header is read.
#[derive(Debug)]
pub(crate) struct Inbound {
    pub(crate) header: RequestHeader,
    decoder: Decoder,
    /// The whole frame.
    pub(crate) bytes: Bytes,
    charge: Charge,
}

impl Service for Dispatcher {
    fn start(&self, frame: Frame, peer: &Peer) -> Started {
        if PrivateHeader::is_private(&frame.bytes) {
            return private::start(self, frame, peer);
        }
        let inbound = match self.receive(frame, peer) {
            Ok(inbound) => inbound,
            Err(end) => return Started::Finished(end),
        };
        if forwarding::is_for_the_controller(inbound.header.key) && !self.broker.controller_client.leads_here() {
            return forwarding::forward(self, inbound, peer);
        }
        self.execute(inbound, peer)
    }
}

impl Dispatcher {
    /// The broker that is served.
    pub(crate) fn broker(&self) -> &Arc<Broker> {
        &self.broker
    }

    /// Reads the header and checks that the request is served; else how it ends.
    pub(crate) fn receive(&self, frame: Frame, peer: &Peer) -> Result<Inbound, Finished> {
        let Frame { bytes, charge } = frame;
        let mut decoder = Decoder::new(bytes.clone());
        let header = match RequestHeader::decode(&mut decoder) {
            Ok(header) => header,
            Err(error) => {
                tracing::debug!(address = %peer.address, %error, "unknown request");
                return Err(Finished::Close(CloseReason::UnknownRequest));
            }
        };
        self.broker.metrics.request(header.key.code());
        if !api_versions::is_supported(header.key, header.version) {
            // Rule 1: the client learns what it may ask for. Rule 2: anything else is closed.
            if header.key == ApiKey::ApiVersions {
                let response = api_versions::unsupported_version_response();
                return Err(finish(header.key, 0, header.correlation_id, response.into()));
            }
            return Err(Finished::Close(CloseReason::UnknownRequest));
        }
        Ok(Inbound { header, decoder, bytes, charge })
    }

    /// Has this broker answer the request.
    pub(crate) fn execute(&self, inbound: Inbound, peer: &Peer) -> Started {
        match inbound.header.key {
            ApiKey::Produce => self.run(api::produce::handle, inbound, peer),
            ApiKey::Fetch => self.run(api::fetch::handle, inbound, peer),
            ApiKey::ListOffsets => self.run(api::list_offsets::handle, inbound, peer),
            ApiKey::Metadata => self.run(api::metadata::handle, inbound, peer),
            ApiKey::OffsetCommit => self.run(api::offset_commit::handle, inbound, peer),
            ApiKey::OffsetFetch => self.run(api::offset_fetch::handle, inbound, peer),
            ApiKey::FindCoordinator => self.run(api::find_coordinator::handle, inbound, peer),
            ApiKey::JoinGroup => self.run(api::join_group::handle, inbound, peer),
            ApiKey::Heartbeat => self.run(api::heartbeat::handle, inbound, peer),
            ApiKey::LeaveGroup => self.run(api::leave_group::handle, inbound, peer),
            ApiKey::SyncGroup => self.run(api::sync_group::handle, inbound, peer),
            ApiKey::DescribeGroups => self.run(api::describe_groups::handle, inbound, peer),
            ApiKey::ListGroups => self.run(api::list_groups::handle, inbound, peer),
            ApiKey::ApiVersions => self.run(api::api_versions::handle, inbound, peer),
            ApiKey::CreateTopics => self.run(api::create_topics::handle, inbound, peer),
            ApiKey::DeleteTopics => self.run(api::delete_topics::handle, inbound, peer),
            ApiKey::InitProducerId => self.run(api::init_producer_id::handle, inbound, peer),
            ApiKey::OffsetForLeaderEpoch => self.run(api::offset_for_leader_epoch::handle, inbound, peer),
            ApiKey::DescribeConfigs => self.run(api::describe_configs::handle, inbound, peer),
            ApiKey::DescribeLogDirs => self.run(api::describe_log_dirs::handle, inbound, peer),
            ApiKey::CreatePartitions => self.run(api::create_partitions::handle, inbound, peer),
            ApiKey::ElectLeaders => self.run(api::elect_leaders::handle, inbound, peer),
            ApiKey::IncrementalAlterConfigs => self.run(api::incremental_alter_configs::handle, inbound, peer),
            ApiKey::AlterPartitionReassignments => self.run(api::alter_partition_reassignments::handle, inbound, peer),
            ApiKey::ListPartitionReassignments => self.run(api::list_partition_reassignments::handle, inbound, peer),
            ApiKey::DescribeCluster => self.run(api::describe_cluster::handle, inbound, peer),
            ApiKey::UnregisterBroker => self.run(api::unregister_broker::handle, inbound, peer),
            ApiKey::DescribeTopicPartitions => self.run(api::describe_topic_partitions::handle, inbound, peer),
        }
    }
}

fn close(reason: CloseReason) -> Started {
    Started::Finished(Finished::Close(reason))
}

fn finish<T: odradek_wire::Message>(key: ApiKey, version: i16, correlation_id: i32, answered: Answered<T>) -> Finished {
    let mut encoder = Encoder::framed();
    ResponseHeader { correlation_id }.encode(&mut encoder, key, version);
    let segments = answered.response.encode(&mut encoder, version).and_then(|()| encoder.finish_with_gaps());
    match segments {
        Ok(segments) => {
            let segments = fill_gaps(segments, answered.files);
            Finished::Reply(Reply { segments, charge: answered.charge })
        }
        Err(error) => {
            // A handler put something into the answer that this version cannot say: our mistake, one client's loss.
            tracing::error!(?key, version, %error, "cannot encode an answer");
            Finished::Close(CloseReason::Malformed)
        }
    }
}

/// Puts the files' parts into the gaps that were left for them.
fn fill_gaps(segments: Vec<encode::Segment>, files: Vec<FileRegion>) -> Vec<Segment> {
    let mut files = files.into_iter();
    let fill = |segment| match segment {
        encode::Segment::Bytes(bytes) => Segment::Bytes(bytes),
        encode::Segment::Gap(length) => {
            let file = files.next().expect("a handler gives a part of a file for each gap");
            assert_eq!(file.len(), length, "a handler fills its own gaps");
            Segment::File(file)
        }
    };
    segments.into_iter().map(fill).collect()
}
