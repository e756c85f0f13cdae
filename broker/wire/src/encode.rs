// SPDX-License-Identifier: Apache-2.0
//! Writing a message as segments: small values are collected, records are passed on as they are.
//! It must not know any message.

use bytes::{BufMut, Bytes, BytesMut};
use thiserror::Error;

use crate::records::Records;

/// Why a message cannot be written in a version. Our own caller's mistake, never the peer's.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum EncodeError {
    /// A field that the version lacks is not at its default value, and may not be left out silently.
    #[error("{field} is set, but version {version} does not have it")]
    FieldNotInVersion {
        /// Struct and field.
        field: &'static str,
        /// The version asked for.
        version: i16,
    },
    /// A null in a version that has none for this field.
    #[error("{field} is null, but in version {version} it cannot be")]
    NullNotAllowed {
        /// Struct and field.
        field: &'static str,
        /// The version asked for.
        version: i16,
    },
    /// A string, byte sequence or array longer than its length field can say, or a frame over 2 GiB.
    #[error("{length} is too long for its length field")]
    TooLong {
        /// The length.
        length: usize,
    },
    /// Records that are elsewhere, where the message must be whole.
    #[error("{length} bytes of records are not in the message")]
    Gap {
        /// Their length.
        length: usize,
    },
    /// A version of a message that we do not have.
    #[error("{message} has no version {version} here")]
    UnsupportedVersion {
        /// Name of the message.
        message: &'static str,
        /// The version asked for.
        version: i16,
    },
}

/// A part of what was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Segment {
    /// These bytes.
    Bytes(Bytes),
    /// So many bytes that whoever sends the message has ([`Records::Elsewhere`]).
    Gap(usize),
}

#[derive(Debug)]
enum Part {
    Own(BytesMut),
    Shared(Bytes),
    Gap(usize),
}

/// Collects an encoded message.
#[derive(Debug, Default)]
pub struct Encoder {
    /// What stands before `tail`.
    segments: Vec<Part>,
    tail: BytesMut,
    /// Bytes in `segments`.
    segments_length: usize,
    flexible: bool,
    framed: bool,
}

impl Encoder {
    /// An encoder of a bare message.
    pub fn new() -> Self {
        Self::default()
    }

    /// An encoder of a frame: the first four bytes will be the size of the rest.
    pub fn framed() -> Self {
        let mut encoder = Self { framed: true, tail: BytesMut::with_capacity(256), ..Self::default() };
        encoder.tail.put_i32(0);
        encoder
    }

    /// Bytes written so far, including a frame's size.
    pub fn length(&self) -> usize {
        self.segments_length + self.tail.len()
    }

    /// Whether the message being written uses compact lengths and tagged fields (KIP-482).
    pub fn is_flexible(&self) -> bool {
        self.flexible
    }

    /// Switches between the two encodings; done by [`crate::Message::encode`] and the headers.
    pub fn set_flexible(&mut self, flexible: bool) {
        self.flexible = flexible;
    }

    /// What was written, in order, for a vectored write. Records are segments of their own and share the
    /// caller's memory. An error if a frame is longer than its size field can say, or if there are gaps.
    pub fn finish(self) -> Result<Vec<Bytes>, EncodeError> {
        let bytes = |segment| match segment {
            Segment::Bytes(bytes) => Ok(bytes),
            Segment::Gap(length) => Err(EncodeError::Gap { length }),
        };
        self.finish_with_gaps()?.into_iter().map(bytes).collect()
    }

    /// As [`finish`](Self::finish), with gaps where records are elsewhere.
    pub fn finish_with_gaps(mut self) -> Result<Vec<Segment>, EncodeError> {
        let length = self.length();
        if !self.tail.is_empty() {
            self.segments.push(Part::Own(self.tail));
        }
        if self.framed {
            let size = i32::try_from(length - 4).map_err(|_| EncodeError::TooLong { length })?;
            match self.segments.first_mut() {
                Some(Part::Own(first)) => first[..4].copy_from_slice(&size.to_be_bytes()),
                _ => unreachable!("a framed encoder begins with four bytes of its own"),
            }
        }
        Ok(self
            .segments
            .into_iter()
            .map(|segment| match segment {
                Part::Own(bytes) => Segment::Bytes(bytes.freeze()),
                Part::Shared(bytes) => Segment::Bytes(bytes),
                Part::Gap(length) => Segment::Gap(length),
            })
            .collect())
    }

    /// What was written as one sequence of bytes; copies if there are records. For tests and small messages.
    pub fn finish_contiguous(self) -> Result<Bytes, EncodeError> {
        let mut segments = self.finish()?;
        if segments.len() == 1 {
            return Ok(segments.swap_remove(0));
        }
        Ok(Bytes::from(segments.concat()))
    }

    /// One byte, signed.
    pub fn put_i8(&mut self, value: i8) {
        self.tail.put_i8(value);
    }

    /// Two bytes, signed.
    pub fn put_i16(&mut self, value: i16) {
        self.tail.put_i16(value);
    }

    /// Two bytes, unsigned.
    pub fn put_u16(&mut self, value: u16) {
        self.tail.put_u16(value);
    }

    /// Four bytes, signed.
    pub fn put_i32(&mut self, value: i32) {
        self.tail.put_i32(value);
    }

    /// Four bytes, unsigned.
    pub fn put_u32(&mut self, value: u32) {
        self.tail.put_u32(value);
    }

    /// Eight bytes, signed.
    pub fn put_i64(&mut self, value: i64) {
        self.tail.put_i64(value);
    }

    /// Eight bytes, a floating point number.
    pub fn put_f64(&mut self, value: f64) {
        self.tail.put_f64(value);
    }

    /// One byte, 1 for true.
    pub fn put_bool(&mut self, value: bool) {
        self.tail.put_u8(u8::from(value));
    }

    /// Sixteen bytes.
    pub fn put_uuid(&mut self, value: uuid::Uuid) {
        self.tail.put_slice(value.as_bytes());
    }

    /// An unsigned LEB128 integer.
    pub fn put_unsigned_varint(&mut self, mut value: u32) {
        while value >= 0x80 {
            self.tail.put_u8((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        self.tail.put_u8(value as u8);
    }

    /// Length of a string (null if `None`): two bytes, or compact.
    pub fn put_string_length(&mut self, length: Option<usize>) -> Result<(), EncodeError> {
        match length {
            // A string is never longer than two bytes can say, in compact form neither (as in Kafka).
            Some(length) if i16::try_from(length).is_err() => Err(EncodeError::TooLong { length }),
            _ if self.flexible => self.put_compact_length(length),
            Some(length) => {
                self.put_i16(length as i16);
                Ok(())
            }
            None => {
                self.put_i16(-1);
                Ok(())
            }
        }
    }

    /// Length of bytes or records, or number of elements (null if `None`): four bytes, or compact.
    pub fn put_length(&mut self, length: Option<usize>) -> Result<(), EncodeError> {
        if self.flexible {
            return self.put_compact_length(length);
        }
        let value = match length {
            Some(length) => i32::try_from(length).map_err(|_| EncodeError::TooLong { length })?,
            None => -1,
        };
        self.put_i32(value);
        Ok(())
    }

    fn put_compact_length(&mut self, length: Option<usize>) -> Result<(), EncodeError> {
        let value = match length {
            // i32: Kafka's own classes hold lengths in one.
            Some(length) => i32::try_from(length).map_err(|_| EncodeError::TooLong { length })? as u32 + 1,
            None => 0,
        };
        self.put_unsigned_varint(value);
        Ok(())
    }

    /// Copies `bytes` to the end, without a length.
    pub fn put_slice(&mut self, bytes: &[u8]) {
        self.tail.put_slice(bytes);
    }

    /// Records, or any other bytes with a length before them, as a segment that shares their memory or is a gap.
    pub fn put_records<R: Clone + Into<Records>>(&mut self, records: Option<&R>) -> Result<(), EncodeError> {
        let records: Option<Records> = records.cloned().map(Into::into);
        self.put_length(records.as_ref().map(Records::len))?;
        match records.filter(|records| !records.is_empty()) {
            Some(Records::Bytes(bytes)) => self.push_segment(bytes.len(), Part::Shared(bytes)),
            Some(Records::Elsewhere(length)) => self.push_segment(length, Part::Gap(length)),
            None => {}
        }
        Ok(())
    }

    fn push_segment(&mut self, length: usize, segment: Part) {
        if !self.tail.is_empty() {
            let own = self.tail.split();
            self.segments_length += own.len();
            self.segments.push(Part::Own(own));
        }
        self.segments_length += length;
        self.segments.push(segment);
    }

    /// Writes a tagged field: its number, its size, and what `write` writes.
    pub fn put_tagged_field(
        &mut self,
        tag: u32,
        write: impl FnOnce(&mut Self) -> Result<(), EncodeError>,
    ) -> Result<(), EncodeError> {
        let mut value = Self { flexible: self.flexible, ..Self::default() };
        write(&mut value)?;
        let length = value.length();
        self.put_unsigned_varint(tag);
        self.put_unsigned_varint(u32::try_from(length).map_err(|_| EncodeError::TooLong { length })?);
        for segment in value.segments {
            match segment {
                Part::Own(bytes) => self.put_slice(&bytes),
                Part::Shared(bytes) => self.push_segment(bytes.len(), Part::Shared(bytes)),
                Part::Gap(length) => self.push_segment(length, Part::Gap(length)),
            }
        }
        self.put_slice(&value.tail);
        Ok(())
    }
}
