// SPDX-License-Identifier: Apache-2.0
//! The header before private messages: Kafka's flexible one, with our keys. It must not know what is in the bodies.

use bytes::Bytes;

use super::PrivateApiKey;
use crate::decode::{DecodeError, Decoder};
use crate::encode::{EncodeError, Encoder};
use crate::message::Message;

/// What stands before a private request or one-way message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PrivateHeader {
    /// Which message.
    pub key: PrivateApiKey,
    /// Version of the body. It may be one that we do not have.
    pub version: i16,
    /// Comes back in the response; says nothing in a one-way message.
    pub correlation_id: i32,
}

impl PrivateHeader {
    /// Whether the frame (without its size) begins with a private key.
    pub fn is_private(frame: &[u8]) -> bool {
        matches!(frame, [high, low, ..] if i16::from_be_bytes([*high, *low]) >= super::FIRST_PRIVATE_KEY)
    }

    /// Reads a header. A key that we do not have is an error.
    pub fn decode(decoder: &mut Decoder) -> Result<Self, DecodeError> {
        let key = decoder.read_i16()?;
        let version = decoder.read_i16()?;
        let correlation_id = decoder.read_i32()?;
        let key = PrivateApiKey::try_from(key)?;
        // The client id, which brokers leave null, has a two-byte length in all versions of Kafka's header.
        decoder.set_flexible(false);
        if let Some(length) = decoder.read_string_length()? {
            decoder.read_slice(length)?;
        }
        decoder.skip_tagged_fields()?;
        Ok(Self { key, version, correlation_id })
    }

    /// Writes the header.
    pub fn encode(&self, encoder: &mut Encoder) -> Result<(), EncodeError> {
        encoder.put_i16(self.key.code());
        encoder.put_i16(self.version);
        encoder.put_i32(self.correlation_id);
        encoder.set_flexible(false);
        encoder.put_string_length(None)?;
        encoder.put_unsigned_varint(0);
        Ok(())
    }

    /// A whole frame with its size, as segments for a vectored write.
    pub fn encode_frame<M: Message>(&self, body: &M) -> Result<Vec<Bytes>, EncodeError> {
        let mut encoder = Encoder::framed();
        self.encode(&mut encoder)?;
        body.encode(&mut encoder, self.version)?;
        encoder.finish()
    }

    /// The frame that answers a request with this header.
    pub fn encode_response<M: Message>(&self, body: &M) -> Result<Vec<Bytes>, EncodeError> {
        let mut encoder = Encoder::framed();
        encoder.put_i32(self.correlation_id);
        encoder.put_unsigned_varint(0);
        body.encode(&mut encoder, self.version)?;
        encoder.finish()
    }

    /// Correlation id and body of a response that fills `frame` (without its size).
    pub fn decode_response<M: Message>(frame: Bytes, version: i16) -> Result<(i32, M), DecodeError> {
        let mut decoder = Decoder::new(frame);
        let correlation_id = decoder.read_i32()?;
        decoder.skip_tagged_fields()?;
        let body = M::decode(&mut decoder, version)?;
        decoder.finish()?;
        Ok((correlation_id, body))
    }
}
