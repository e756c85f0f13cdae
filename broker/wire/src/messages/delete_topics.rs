// SPDX-License-Identifier: Apache-2.0
//! DeleteTopics (key 20): by name, from v6 also by id.
//! It must not know how a broker answers, only what stands on the wire.

use odradek_wire_derive::Wire;
use uuid::Uuid;

use crate::text::Text;

/// Topics to delete: `topic_names` up to v5, `topics` from v6.
#[derive(Clone, Debug, PartialEq, Wire)]
#[wire(versions = "1-6", flexible = "4+")]
pub struct DeleteTopicsRequest {
    /// The topics, from v6.
    #[wire(versions = "6+")]
    pub topics: Vec<DeleteTopicState>,
    /// The topics, up to v5.
    #[wire(versions = "0-5", ignorable)]
    pub topic_names: Vec<Text>,
    /// Milliseconds that the broker may take.
    pub timeout_ms: i32,
}

/// A topic by name or by id, not both.
#[derive(Clone, Debug, PartialEq, Wire)]
pub struct DeleteTopicState {
    /// Name of the topic, or null.
    #[wire(versions = "6+", nullable = "0+", default = None)]
    pub name: Option<Text>,
    /// Id of the topic; nil if the version or the sender has none.
    #[wire(versions = "6+")]
    pub topic_id: Uuid,
}

/// What became of each topic.
#[derive(Clone, Debug, PartialEq, Wire)]
#[wire(versions = "1-6", flexible = "4+")]
pub struct DeleteTopicsResponse {
    /// Milliseconds for which the client is throttled over a quota.
    pub throttle_time_ms: i32,
    /// The answers by topic.
    pub responses: Vec<DeletableTopicResult>,
}

/// What became of one topic.
#[derive(Clone, Debug, PartialEq, Wire)]
pub struct DeletableTopicResult {
    /// Name of the topic; null if an id was given that nobody knows, or that the client may not see.
    #[wire(nullable = "6+")]
    pub name: Option<Text>,
    /// Id of the topic; nil if the version or the sender has none.
    #[wire(versions = "6+", ignorable)]
    pub topic_id: Uuid,
    /// 0, or why it failed ([`crate::ErrorCode`]).
    pub error_code: i16,
    /// The reason in words, or null.
    #[wire(versions = "5+", nullable = "0+", default = None, ignorable)]
    pub error_message: Option<Text>,
}
