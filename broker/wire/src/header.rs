// SPDX-License-Identifier: Apache-2.0
//! The headers that stand before requests and responses, and which version of them goes with what.
//! It must not know what is in the bodies.

use crate::decode::{DecodeError, Decoder};
use crate::encode::{EncodeError, Encoder};
use crate::messages::ApiKey;
use crate::text::Text;

/// What stands before every request (RequestHeader.json, versions 1 and 2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestHeader {
    /// The API asked for.
    pub key: ApiKey,
    /// Version of the body. It may be one that we do not have: ask [`crate::api_versions::is_supported`].
    pub version: i16,
    /// Chosen by the client, comes back in the response.
    pub correlation_id: i32,
    /// Name that the client gives itself.
    pub client_id: Option<Text>,
}

impl RequestHeader {
    /// Reads a header. An API key that we do not have is an error: what follows cannot be understood, and
    /// the connection is to be closed (rule: ApiKeys, network/Processor).
    pub fn decode(decoder: &mut Decoder) -> Result<Self, DecodeError> {
        let key = decoder.read_i16()?;
        let version = decoder.read_i16()?;
        let correlation_id = decoder.read_i32()?;
        let key = ApiKey::try_from(key)?;
        // The client id has a two-byte length in both versions of the header.
        decoder.set_flexible(false);
        let client_id = match decoder.read_string_length()? {
            Some(length) => Some(decoder.read_text(length)?),
            None => None,
        };
        if key.is_flexible(version) {
            decoder.skip_tagged_fields()?;
        }
        Ok(Self { key, version, correlation_id, client_id })
    }

    /// Writes the header in the version that goes with key and version of the body.
    pub fn encode(&self, encoder: &mut Encoder) -> Result<(), EncodeError> {
        encoder.put_i16(self.key.code());
        encoder.put_i16(self.version);
        encoder.put_i32(self.correlation_id);
        encoder.set_flexible(false);
        encoder.put_string_length(self.client_id.as_ref().map(|text| text.len()))?;
        if let Some(client_id) = &self.client_id {
            encoder.put_slice(client_id.as_bytes());
        }
        if self.key.is_flexible(self.version) {
            encoder.put_unsigned_varint(0);
        }
        Ok(())
    }
}

/// What stands before every response (ResponseHeader.json, versions 0 and 1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResponseHeader {
    /// That of the request.
    pub correlation_id: i32,
}

impl ResponseHeader {
    /// Whether the header has tagged fields. Never for ApiVersions: its client does not know yet what the
    /// broker speaks (KIP-511).
    fn is_flexible(key: ApiKey, version: i16) -> bool {
        key != ApiKey::ApiVersions && key.is_flexible(version)
    }

    /// Reads the header of a response to a request of this key and version.
    pub fn decode(decoder: &mut Decoder, key: ApiKey, version: i16) -> Result<Self, DecodeError> {
        let correlation_id = decoder.read_i32()?;
        if Self::is_flexible(key, version) {
            decoder.skip_tagged_fields()?;
        }
        Ok(Self { correlation_id })
    }

    /// Writes the header of a response to a request of this key and version.
    pub fn encode(&self, encoder: &mut Encoder, key: ApiKey, version: i16) {
        encoder.put_i32(self.correlation_id);
        if Self::is_flexible(key, version) {
            encoder.put_unsigned_varint(0);
        }
    }
}
