// SPDX-License-Identifier: Apache-2.0
//! What all messages have in common. It must not know any particular one.

use bytes::Bytes;

use crate::decode::{DecodeError, Decoder};
use crate::encode::{EncodeError, Encoder};
use crate::field::Field;
use crate::messages::ApiKey;

/// The body of a request or response, without its header.
pub trait Message: Field + Default + Clone + std::fmt::Debug + PartialEq + Send + Sync + 'static {
    /// The struct's name.
    const NAME: &'static str;
    /// Lowest version that we read and write.
    const MIN_VERSION: i16;
    /// Highest version that we read and write.
    const MAX_VERSION: i16;
    /// First version with compact lengths and tagged fields (KIP-482).
    const FLEXIBLE_FROM: Option<i16>;

    /// Whether `version` has compact lengths and tagged fields.
    fn is_flexible(version: i16) -> bool {
        Self::FLEXIBLE_FROM.is_some_and(|from| version >= from)
    }

    /// Whether we have this version.
    fn has_version(version: i16) -> bool {
        (Self::MIN_VERSION..=Self::MAX_VERSION).contains(&version)
    }

    /// Reads the body that begins where the decoder stands. Bytes may be left behind it:
    /// see [`Decoder::finish`].
    fn decode(decoder: &mut Decoder, version: i16) -> Result<Self, DecodeError> {
        if !Self::has_version(version) {
            return Err(DecodeError::UnsupportedVersion { message: Self::NAME, version });
        }
        decoder.set_flexible(Self::is_flexible(version));
        Self::read(decoder, version)
    }

    /// Writes the body at the end of the encoder.
    fn encode(&self, encoder: &mut Encoder, version: i16) -> Result<(), EncodeError> {
        if !Self::has_version(version) {
            return Err(EncodeError::UnsupportedVersion { message: Self::NAME, version });
        }
        encoder.set_flexible(Self::is_flexible(version));
        self.write(encoder, version)
    }

    /// Reads a body that fills `bytes`.
    fn decode_whole(bytes: Bytes, version: i16) -> Result<Self, DecodeError> {
        let mut decoder = Decoder::new(bytes);
        let message = Self::decode(&mut decoder, version)?;
        decoder.finish()?;
        Ok(message)
    }

    /// The body alone, in one piece; for tests and files.
    fn to_bytes(&self, version: i16) -> Result<Bytes, EncodeError> {
        let mut encoder = Encoder::new();
        self.encode(&mut encoder, version)?;
        encoder.finish_contiguous()
    }
}

/// A request, tied to its key and to the type of its response.
pub trait Request: Message {
    /// The API.
    const KEY: ApiKey;
    /// What the broker answers with.
    type Response: Message;
}
