// SPDX-License-Identifier: Apache-2.0
//! The messages, one file per API key, and the list of the keys.
//!
//! Struct and field names are those of Kafka 4.4's message definitions. `Default` gives Kafka's defaults:
//! a nullable field is *not* null by default unless Kafka says so. `Option` is null; a field that a version
//! lacks is left at its default by decoding, and must be at its default when encoding unless it is
//! ignorable.
//!
//! **Invariant**: what a message carries is known here, what a broker does with it is not.

mod endpoints;

use crate::decode::{DecodeError, Decoder};
use crate::encode::{EncodeError, Encoder};
use crate::message::{Message, Request};

pub use endpoints::{LeaderIdAndEpoch, NodeEndpoint};

/// From the list of keys: the modules, `ApiKey`, the ties between requests and responses, `AnyRequest` and
/// `AnyResponse`.
macro_rules! apis {
    ($($name:ident = $key:literal, $module:ident, $request:ident, $response:ident;)*) => {
        $(
            pub mod $module;
            pub use $module::*;
        )*

        /// The APIs that we have; the number is Kafka's.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(i16)]
        pub enum ApiKey {
            $(
                #[doc = concat!("API key ", $key, ".")]
                $name = $key,
            )*
        }

        impl ApiKey {
            /// All of them, by number.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// Kafka's name.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$name => stringify!($name),)*
                }
            }

            /// Lowest version that we read and write.
            pub const fn min_version(self) -> i16 {
                match self {
                    $(Self::$name => <$request as Message>::MIN_VERSION,)*
                }
            }

            /// Highest version that we read and write.
            pub const fn max_version(self) -> i16 {
                match self {
                    $(Self::$name => <$request as Message>::MAX_VERSION,)*
                }
            }

            /// First version with compact lengths and tagged fields, of request and response.
            pub const fn flexible_from(self) -> Option<i16> {
                match self {
                    $(Self::$name => <$request as Message>::FLEXIBLE_FROM,)*
                }
            }
        }

        impl TryFrom<i16> for ApiKey {
            type Error = DecodeError;

            fn try_from(key: i16) -> Result<Self, DecodeError> {
                match key {
                    $($key => Ok(Self::$name),)*
                    key => Err(DecodeError::UnknownApiKey { key }),
                }
            }
        }

        $(
            impl Request for $request {
                const KEY: ApiKey = ApiKey::$name;
                type Response = $response;
            }

            const _: () = assert!(
                <$request as Message>::MIN_VERSION == <$response as Message>::MIN_VERSION
                    && <$request as Message>::MAX_VERSION == <$response as Message>::MAX_VERSION,
                "a request and its response have the same versions"
            );

            impl From<$request> for AnyRequest {
                fn from(request: $request) -> Self {
                    Self::$name(request)
                }
            }

            impl From<$response> for AnyResponse {
                fn from(response: $response) -> Self {
                    Self::$name(response)
                }
            }
        )*

        /// The body of any request; matching on it is a dispatch that the compiler checks to be whole.
        #[derive(Clone, Debug, PartialEq)]
        #[allow(missing_docs, clippy::large_enum_variant)]
        pub enum AnyRequest {
            $($name($request),)*
        }

        impl AnyRequest {
            /// Reads the body that begins where the decoder stands.
            pub fn decode(decoder: &mut Decoder, key: ApiKey, version: i16) -> Result<Self, DecodeError> {
                match key {
                    $(ApiKey::$name => <$request as Message>::decode(decoder, version).map(Self::$name),)*
                }
            }

            /// Writes the body.
            pub fn encode(&self, encoder: &mut Encoder, version: i16) -> Result<(), EncodeError> {
                match self {
                    $(Self::$name(request) => request.encode(encoder, version),)*
                }
            }

            /// The API that it is a request of.
            pub const fn key(&self) -> ApiKey {
                match self {
                    $(Self::$name(_) => ApiKey::$name,)*
                }
            }

            /// The request of this key with nothing set.
            pub fn default_of(key: ApiKey) -> Self {
                match key {
                    $(ApiKey::$name => Self::$name($request::default()),)*
                }
            }

            /// A random request of this key that the version can carry.
            #[cfg(feature = "generate")]
            pub fn generate(source: &mut crate::generate::Source, key: ApiKey, version: i16) -> Self {
                match key {
                    $(ApiKey::$name => Self::$name(crate::generate::Generate::generate(source, version)),)*
                }
            }

            /// What `toString` of Kafka's generated class gives for it.
            #[cfg(feature = "generate")]
            pub fn print_like_kafka(&self) -> String {
                let mut out = String::new();
                match self {
                    $(Self::$name(request) => crate::generate::Generate::print_like_kafka(request, &mut out),)*
                }
                out
            }
        }

        /// The body of any response.
        #[derive(Clone, Debug, PartialEq)]
        #[allow(missing_docs, clippy::large_enum_variant)]
        pub enum AnyResponse {
            $($name($response),)*
        }

        impl AnyResponse {
            /// Reads the body that begins where the decoder stands.
            pub fn decode(decoder: &mut Decoder, key: ApiKey, version: i16) -> Result<Self, DecodeError> {
                match key {
                    $(ApiKey::$name => <$response as Message>::decode(decoder, version).map(Self::$name),)*
                }
            }

            /// Writes the body.
            pub fn encode(&self, encoder: &mut Encoder, version: i16) -> Result<(), EncodeError> {
                match self {
                    $(Self::$name(response) => response.encode(encoder, version),)*
                }
            }

            /// The API that it is a response of.
            pub const fn key(&self) -> ApiKey {
                match self {
                    $(Self::$name(_) => ApiKey::$name,)*
                }
            }

            /// The response of this key with nothing set.
            pub fn default_of(key: ApiKey) -> Self {
                match key {
                    $(ApiKey::$name => Self::$name($response::default()),)*
                }
            }

            /// A random response of this key that the version can carry.
            #[cfg(feature = "generate")]
            pub fn generate(source: &mut crate::generate::Source, key: ApiKey, version: i16) -> Self {
                match key {
                    $(ApiKey::$name => Self::$name(crate::generate::Generate::generate(source, version)),)*
                }
            }

            /// What `toString` of Kafka's generated class gives for it.
            #[cfg(feature = "generate")]
            pub fn print_like_kafka(&self) -> String {
                let mut out = String::new();
                match self {
                    $(Self::$name(response) => crate::generate::Generate::print_like_kafka(response, &mut out),)*
                }
                out
            }
        }
    };
}

apis! {
    Produce = 0, produce, ProduceRequest, ProduceResponse;
    Fetch = 1, fetch, FetchRequest, FetchResponse;
    ListOffsets = 2, list_offsets, ListOffsetsRequest, ListOffsetsResponse;
    Metadata = 3, metadata, MetadataRequest, MetadataResponse;
    OffsetCommit = 8, offset_commit, OffsetCommitRequest, OffsetCommitResponse;
    OffsetFetch = 9, offset_fetch, OffsetFetchRequest, OffsetFetchResponse;
    FindCoordinator = 10, find_coordinator, FindCoordinatorRequest, FindCoordinatorResponse;
    JoinGroup = 11, join_group, JoinGroupRequest, JoinGroupResponse;
    Heartbeat = 12, heartbeat, HeartbeatRequest, HeartbeatResponse;
    LeaveGroup = 13, leave_group, LeaveGroupRequest, LeaveGroupResponse;
    SyncGroup = 14, sync_group, SyncGroupRequest, SyncGroupResponse;
    DescribeGroups = 15, describe_groups, DescribeGroupsRequest, DescribeGroupsResponse;
    ListGroups = 16, list_groups, ListGroupsRequest, ListGroupsResponse;
    ApiVersions = 18, api_versions, ApiVersionsRequest, ApiVersionsResponse;
    CreateTopics = 19, create_topics, CreateTopicsRequest, CreateTopicsResponse;
    DeleteTopics = 20, delete_topics, DeleteTopicsRequest, DeleteTopicsResponse;
    InitProducerId = 22, init_producer_id, InitProducerIdRequest, InitProducerIdResponse;
    OffsetForLeaderEpoch = 23, offset_for_leader_epoch, OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse;
    DescribeConfigs = 32, describe_configs, DescribeConfigsRequest, DescribeConfigsResponse;
    DescribeLogDirs = 35, describe_log_dirs, DescribeLogDirsRequest, DescribeLogDirsResponse;
    CreatePartitions = 37, create_partitions, CreatePartitionsRequest, CreatePartitionsResponse;
    ElectLeaders = 43, elect_leaders, ElectLeadersRequest, ElectLeadersResponse;
    IncrementalAlterConfigs = 44, incremental_alter_configs, IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse;
    AlterPartitionReassignments = 45, alter_partition_reassignments, AlterPartitionReassignmentsRequest, AlterPartitionReassignmentsResponse;
    ListPartitionReassignments = 46, list_partition_reassignments, ListPartitionReassignmentsRequest, ListPartitionReassignmentsResponse;
    DescribeCluster = 60, describe_cluster, DescribeClusterRequest, DescribeClusterResponse;
    UnregisterBroker = 64, unregister_broker, UnregisterBrokerRequest, UnregisterBrokerResponse;
    DescribeTopicPartitions = 75, describe_topic_partitions, DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse;
}

impl ApiKey {
    /// Kafka's number.
    pub const fn code(self) -> i16 {
        self as i16
    }

    /// Whether request and response of this version have compact lengths and tagged fields. Asked also for
    /// versions that we do not have, as the header before them must be read all the same.
    pub fn is_flexible(self, version: i16) -> bool {
        self.flexible_from().is_some_and(|from| version >= from)
    }

    /// Whether we read and write this version.
    pub fn has_version(self, version: i16) -> bool {
        (self.min_version()..=self.max_version()).contains(&version)
    }
}
