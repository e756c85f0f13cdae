// SPDX-License-Identifier: Apache-2.0
//! Frames: every request and response stands behind its size in four bytes, and a whole request or
//! response is made into one here. It must not know sockets or budgets; a server reads the size with
//! [`check_size`] and decides itself how much of the rest it takes in at a time.

use bytes::Bytes;
use thiserror::Error;

use crate::decode::{DecodeError, Decoder};
use crate::encode::{EncodeError, Encoder};
use crate::header::{RequestHeader, ResponseHeader};
use crate::message::Message;
use crate::messages::ApiKey;

/// Bytes of a frame's size.
pub const SIZE_LENGTH: usize = 4;

/// Largest request taken in unless configured otherwise: 100 MiB, Kafka's `socket.request.max.bytes`.
pub const MAX_REQUEST_SIZE: usize = 100 << 20;

/// A size that no frame can have here; the connection is to be closed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum FrameError {
    /// Below zero: garbage, or not Kafka.
    #[error("a frame of {0} bytes cannot be")]
    Negative(i32),
    /// Above what is taken in.
    #[error("a frame of {size} bytes, at most {max} are taken")]
    TooLarge {
        /// Size that the peer announced.
        size: usize,
        /// Largest size taken.
        max: usize,
    },
}

/// Checks the four bytes before a frame: the bytes that follow, at most `max`. Nothing is to be allocated
/// on the word of the result alone: it is what a peer claims, not what it has sent.
pub fn check_size(prefix: [u8; SIZE_LENGTH], max: usize) -> Result<usize, FrameError> {
    let size = i32::from_be_bytes(prefix);
    let size = usize::try_from(size).map_err(|_| FrameError::Negative(size))?;
    if size > max { Err(FrameError::TooLarge { size, max }) } else { Ok(size) }
}

/// A framed request, as segments for a vectored write.
pub fn encode_request<M: Message>(header: &RequestHeader, body: &M) -> Result<Vec<Bytes>, EncodeError> {
    let mut encoder = Encoder::framed();
    header.encode(&mut encoder)?;
    body.encode(&mut encoder, header.version)?;
    encoder.finish()
}

/// A framed response to a request of this key and version, as segments for a vectored write.
///
/// The answer to an ApiVersions request of an unknown version is encoded with `version` 0.
pub fn encode_response<M: Message>(
    correlation_id: i32,
    key: ApiKey,
    version: i16,
    body: &M,
) -> Result<Vec<Bytes>, EncodeError> {
    let mut encoder = Encoder::framed();
    ResponseHeader { correlation_id }.encode(&mut encoder, key, version);
    body.encode(&mut encoder, version)?;
    encoder.finish()
}

/// Header and body of a response that fills `frame` (without its size).
pub fn decode_response<M: Message>(
    frame: Bytes,
    key: ApiKey,
    version: i16,
) -> Result<(ResponseHeader, M), DecodeError> {
    let mut decoder = Decoder::new(frame);
    let header = ResponseHeader::decode(&mut decoder, key, version)?;
    let body = M::decode(&mut decoder, version)?;
    decoder.finish()?;
    Ok((header, body))
}
