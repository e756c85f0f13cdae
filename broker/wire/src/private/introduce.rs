// SPDX-License-Identifier: Apache-2.0
//! Challenge and Introduce: how a broker proves to another who it is before anything private is said.
//!
//! The one who connects asks for a challenge, and answers it with a proof; the answer proves the other side too. The
//! secret itself never travels. It must not know how a proof is made, only where it stands.

use bytes::Bytes;
use odradek_wire_derive::Wire;
use uuid::Uuid;

use crate::text::Text;

/// Asks for bytes that were never given before, to be part of the proof.
#[derive(Clone, Debug, PartialEq, Wire)]
#[wire(versions = "0", flexible = "0+")]
pub struct ChallengeRequest {}

/// The bytes, good for one introduction on this connection.
#[derive(Clone, Debug, PartialEq, Wire)]
#[wire(versions = "0", flexible = "0+")]
pub struct ChallengeResponse {
    /// 16 random bytes.
    pub challenge: Uuid,
}

/// "I am this process of this broker of this cluster, and I mean to speak to that broker."
#[derive(Clone, Debug, PartialEq, Wire)]
#[wire(versions = "0", flexible = "0+")]
pub struct IntroduceRequest {
    /// The cluster that the sender is of.
    pub cluster_id: Text,
    /// The sender.
    pub broker_id: i32,
    /// Its process.
    pub incarnation: Text,
    /// Its data folder.
    pub directory_id: Uuid,
    /// The broker that the sender believes to speak to.
    pub intended_broker_id: i32,
    /// 16 random bytes of the sender, for the proof in the answer.
    pub challenge: Uuid,
    /// HMAC-SHA-256 with the cluster secret over all the other fields and the challenge given to the sender.
    pub proof: Bytes,
}

/// Whether the introduction is accepted. After an error the connection is closed.
#[derive(Clone, Debug, PartialEq, Wire)]
#[wire(versions = "0", flexible = "0+")]
pub struct IntroduceResponse {
    /// 0; 104 another cluster; 58 a wrong proof, or no secret here; 42 not the intended broker, or no broker's name.
    pub error_code: i16,
    /// The reason in words, or null.
    #[wire(nullable = "0+", default = None)]
    pub error_message: Option<Text>,
    /// HMAC-SHA-256 with the cluster secret over the introduction and both challenges; empty after an error.
    pub proof: Bytes,
}
