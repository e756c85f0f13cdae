// SPDX-License-Identifier: Apache-2.0
//! Records as they stand in an answer. It must not know what records are, nor where they come from.

use bytes::Bytes;

use crate::decode::{DecodeError, Decoder};
use crate::encode::{EncodeError, Encoder};
use crate::field::{Field, Nullable};

/// Records of an answer. What is decoded always has its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Records {
    /// The bytes, never copied.
    Bytes(Bytes),
    /// So many bytes that the message does not have. The encoder leaves a gap ([`crate::encode::Segment::Gap`]), which
    /// whoever sends the answer fills.
    Elsewhere(usize),
}

impl Records {
    /// Length in bytes.
    pub fn len(&self) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.len(),
            Self::Elsewhere(length) => *length,
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes; `None` if they are elsewhere.
    pub fn into_bytes(self) -> Option<Bytes> {
        match self {
            Self::Bytes(bytes) => Some(bytes),
            Self::Elsewhere(_) => None,
        }
    }
}

impl From<Bytes> for Records {
    fn from(bytes: Bytes) -> Self {
        Self::Bytes(bytes)
    }
}

impl Field for Records {
    fn read(decoder: &mut Decoder, version: i16) -> Result<Self, DecodeError> {
        Bytes::read(decoder, version).map(Self::Bytes)
    }

    fn write(&self, encoder: &mut Encoder, version: i16) -> Result<(), EncodeError> {
        Self::write_nullable(Some(self), encoder, version)
    }

    fn min_size(version: i16, flexible: bool) -> usize {
        Bytes::min_size(version, flexible)
    }
}

impl Nullable for Records {
    fn read_nullable(decoder: &mut Decoder, version: i16) -> Result<Option<Self>, DecodeError> {
        Ok(Bytes::read_nullable(decoder, version)?.map(Self::Bytes))
    }

    fn write_nullable(value: Option<&Self>, encoder: &mut Encoder, _version: i16) -> Result<(), EncodeError> {
        encoder.put_records(value)
    }
}
