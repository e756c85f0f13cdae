// SPDX-License-Identifier: Apache-2.0
//! Envelope: a client's request that only the controller can answer, on its way there and back (KIP-590's idea).
//! It must not know what is inside.

use bytes::Bytes;
use odradek_wire_derive::Wire;

use super::ControllerAnswer;
use crate::text::Text;

/// The request as it came, and from whom.
#[derive(Clone, Debug, PartialEq, Wire)]
#[wire(versions = "0", flexible = "0+")]
pub struct EnvelopeRequest {
    /// Who asks, as the broker that the client is connected to has authenticated it.
    pub principal: Text,
    /// The listener by which it came.
    pub listener: Text,
    /// Address and port of the client.
    pub client_address: Text,
    /// Header and body, without the size.
    #[wire(nullable = "0+", records)]
    pub request: Option<Bytes>,
}

/// The answer, to be passed on unchanged.
#[derive(Clone, Debug, PartialEq, Wire)]
#[wire(versions = "0", flexible = "0+")]
pub struct EnvelopeResponse {
    /// Who answers.
    pub controller: ControllerAnswer,
    /// Header and body, without the size; null if the controller has none to give, so that the client's connection is
    /// to be closed.
    #[wire(nullable = "0+", records)]
    pub response: Option<Bytes>,
}
